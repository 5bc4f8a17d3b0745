//! How to register a host, with the commands as they have to be typed.

use crate::server::Shared;
use askama::Template;
use askama::filters::HtmlSafe;
use control_api::registration::HostKind;

/// What to do to register a host.
#[derive(Template)]
#[template(path = "first_host.html")]
pub(super) struct FirstHost {
    intro: &'static str,
    machine: &'static str,
    command: String,
}

impl HtmlSafe for FirstHost {}

/// The port that hosts try by themselves.
const USUAL_PORT: u16 = 443;

impl FirstHost {
    pub(super) fn target(shared: &Shared) -> FirstHost {
        FirstHost {
            intro: "No master target is registered yet. A master target is the Linux server that receives the changes \
                    of protected machines and keeps their recovery points.",
            machine: "master target",
            command: command(shared, HostKind::MasterTarget),
        }
    }

    pub(super) fn source(shared: &Shared) -> FirstHost {
        FirstHost {
            intro: "No source machine is registered yet. The source agent runs on each protected machine and sends its \
                    changes to a master target.",
            machine: "source machine",
            command: command(shared, HostKind::SourceAgent),
        }
    }

    pub(super) fn relay(shared: &Shared) -> FirstHost {
        FirstHost {
            intro: "No process server is registered. Process servers are optional: where source machines cannot reach their \
                    master targets, they connect to one, and it hands on what they send, within a limit of bandwidth if \
                    wanted. It relays without being registered, and shows up here when it is.",
            machine: "process server",
            command: command(shared, HostKind::ProcessServer),
        }
    }
}

fn command(shared: &Shared, kind: HostKind) -> String {
    let program = match kind {
        HostKind::SourceAgent => "mt-source",
        HostKind::ProcessServer => "mt-process-server",
        _ => "mtctl",
    };
    let name = server_name(shared);
    let port = shared.config.listen.port();
    let port = if port == USUAL_PORT || port == 0 { String::new() } else { format!(" --port {port}") };
    format!("{program} register -i {name}{port} -P passphrase.txt")
}

/// A name or address under which hosts find this server.
pub(super) fn server_name(shared: &Shared) -> String {
    let named = shared.config.names.first().cloned();
    named
        .or_else(|| {
            (!shared.config.listen.ip().is_unspecified()).then(|| shared.config.listen.ip().to_string())
        })
        .or_else(|| {
            std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned())
        })
        .unwrap_or("ADDRESS-OF-THIS-SERVER".into())
}
