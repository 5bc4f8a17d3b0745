//! The servers that this machine talks to, and its clock, which their certificates depend on.

use crate::config::Config;
use crate::preflight::fix::Change;
use crate::preflight::server::{self, Answer, Failure};
use crate::preflight::{Check, Finding, Group, Look, Machine, Severity, Unknown};
use block_device::PROGRAM_TIMEOUT;
use control_api::time::{self, SECOND};
use control_api::{Release, ServerVersion};

pub(super) static CHECKS: [Check; 6] = [
    Check {
        id: "configuration-server",
        group: Group::Servers,
        severity: Severity::Failure,
        title: "Configuration server",
        needed: "it is reached (port 443), speaks TLS, and answers as a configuration server",
        why: "This machine registers with the configuration server and gets its work from it. The old product gave \
              numbers: (7) could not connect, when port 443 was blocked; (35) SSL connect error, when a proxy stood in \
              between; 95226, when there was no route or VPN. Here the step that fails is named. Nothing secret is \
              sent, and the server's certificate is not verified before registration.",
        look: configuration_server,
        mend: None,
    },
    Check {
        id: "cs-certificate",
        group: Group::Servers,
        severity: Severity::Failure,
        title: "Certificate of the configuration server",
        needed: "it is valid now, by this machine's clock",
        why: "A certificate that has expired, or that is not valid yet because a clock is wrong, ends each \
              connection. The old product said \"(60) peer certificate cannot be authenticated\".",
        look: certificate,
        mend: None,
    },
    Check {
        id: "version",
        group: Group::Servers,
        severity: Severity::Failure,
        title: "Version",
        needed: "this master target is not newer than its configuration server, compared by major.minor",
        why: "With a configuration server 9.4 go master targets 9.4 and 9.3, not 9.5. The old product did not look: \
              reprotect succeeded, and replication failed afterwards.",
        look: version,
        mend: None,
    },
    Check {
        id: "process-server",
        group: Group::Servers,
        severity: Severity::Failure,
        title: "Process server",
        needed: "it is reached (port 9443), where the configuration names one",
        why: "Where changes come through a process server, nothing arrives while it cannot be reached. In the old \
              product it showed a heartbeat all the same.",
        look: process_server,
        mend: None,
    },
    Check {
        id: "clock-synchronised",
        group: Group::Servers,
        severity: Severity::Warning,
        title: "Clock is kept right",
        needed: "the clock is synchronised, by NTP or by VMware's tools",
        why: "Certificates are valid from one time to another, and recovery points carry times that people choose by. \
              A clock that drifts ends in \"(60) peer certificate cannot be authenticated\", or in a failback to the \
              wrong hour.",
        look: synchronised,
        mend: Some(synchronise),
    },
    Check {
        id: "clock-skew",
        group: Group::Servers,
        severity: Severity::Failure,
        title: "Clock agrees with the configuration server",
        needed: "less than 5 minutes apart",
        why: "Certificates that the configuration server makes are valid from its own time on. For a machine whose \
              clock is behind they are not valid yet, and registration fails (60).",
        look: skew,
        mend: None,
    },
];

fn configuration_server(machine: &Machine) -> Look {
    let try_one = "before registering, try its address: mtctl check --cs ADDRESS[:PORT]";
    let (server, answer) = machine.asked().map_err(|unknown| Unknown::until(unknown.why, try_one))?;
    let shown = server::shown(&server);
    match &answer.version {
        Ok(version) => Finding::good(format!("{shown}, version {}", version.version)),
        Err(failure) if failure.in_between() => Finding::broken(
            format!("{failure} (the old product's \"(35) SSL connect error\")"),
            "let this machine connect directly: no proxy, and no device that looks into TLS; see the check proxy",
        ),
        Err(failure @ (Failure::Refused { .. } | Failure::Filtered { .. } | Failure::Unreachable { .. })) => {
            Finding::broken(
                failure.to_string(),
                format!(
                    "start the server; open TCP port {} to it in every firewall; look at route and VPN",
                    server.port
                ),
            )
        }
        Err(failure) => Finding::broken(
            failure.to_string(),
            "give the address of the configuration server: --cs ADDRESS[:PORT]",
        ),
    }
}

/// What was learned from an answer; nothing when the server did not get so far.
fn learned<'a, T>(server: &str, answer: &'a Answer, part: Option<&'a T>) -> Result<&'a T, Unknown> {
    part.ok_or_else(|| match &answer.version {
        Err(failure) => Unknown::because(format!("the configuration server tells nothing: {failure}")),
        Ok(_) => Unknown::because(format!("{server} does not tell")),
    })
}

fn certificate(machine: &Machine) -> Look {
    let (server, answer) = machine.asked()?;
    let shown = server::shown(&server);
    let validity = learned(&shown, answer, answer.certificate.as_ref())?;
    let now = machine.options.now;
    let date = |seconds: u64| time::format(seconds.saturating_mul(SECOND));
    let renew =
        "look at the clocks of both; if they are right, renew the certificate of the configuration server";
    if now < validity.from {
        return Finding::broken(
            format!("not valid before {}; here it is {}", date(validity.from), date(now)),
            renew,
        );
    }
    match now > validity.until {
        true => {
            Finding::broken(format!("expired on {}; here it is {}", date(validity.until), date(now)), renew)
        }
        false => Finding::good(format!("valid until {}", date(validity.until))),
    }
}

fn version(machine: &Machine) -> Look {
    let (server, answer) = machine.asked()?;
    let shown = server::shown(&server);
    let ServerVersion { version: theirs, .. } = learned(&shown, answer, answer.version.as_ref().ok())?;
    let ours = &machine.options.version;
    let (Some(our_release), Some(their_release)) = (Release::parse(ours), Release::parse(theirs)) else {
        return Err(Unknown::because(format!("{ours} and {theirs} cannot be compared")));
    };
    match our_release <= their_release {
        true => Finding::good(format!("{ours}, configuration server {theirs}")),
        false => Finding::broken(
            format!("{ours} is newer than the configuration server, {theirs}"),
            format!(
                "upgrade the configuration server to {our_release}, or install master target {their_release}"
            ),
        ),
    }
}

fn process_server(machine: &Machine) -> Look {
    if let Err(unknown) = &machine.config {
        return Err(unknown.clone());
    }
    let Some(server) = machine.config().and_then(|config: &Config| config.process_server.clone()) else {
        return Finding::good("none is configured");
    };
    match machine.process_server.get_or_init(|| server::reach(&server)) {
        Ok(()) => Finding::good(server::shown(&server)),
        Err(failure) => Finding::broken(
            failure.to_string(),
            format!(
                "start the server; open TCP port {} to it in every firewall; look at route and VPN",
                server.port
            ),
        ),
    }
}

fn synchronised(machine: &Machine) -> Look {
    let status = machine.system().run("timedatectl", &["status"], PROGRAM_TIMEOUT);
    let says = |text: &str, answer: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines
            .any(|(key, value)| key.trim().to_lowercase().ends_with("synchronized") && value.trim() == answer)
    };
    let status = status.map(|output| output.stdout);
    if status.as_ref().is_ok_and(|text| says(text, "yes")) {
        return Finding::good("by NTP");
    }
    if machine.system().path("/run/systemd/timesync/synchronized").exists() {
        return Finding::good("by systemd-timesyncd");
    }
    let tools = machine.system().run("vmware-toolbox-cmd", &["timesync", "status"], PROGRAM_TIMEOUT);
    if tools.is_ok_and(|output| output.stdout.trim() == "Enabled") {
        return Finding::good("by VMware's tools");
    }
    match status {
        Ok(text) if says(&text, "no") => Finding::broken(
            "neither NTP nor VMware's tools keep the clock right",
            "timedatectl set-ntp true; or install ntp or chrony, with servers that can be reached",
        ),
        Ok(_) => Err(Unknown::because("timedatectl does not say whether the clock is synchronised")),
        Err(error) => Err(error.into()),
    }
}

fn synchronise(_machine: &Machine) -> Result<Vec<Change>, Unknown> {
    let set = ["timedatectl", "set-ntp"];
    Ok(vec![Change::commands(&[set[0], set[1], "true"], Some(&[set[0], set[1], "false"]))])
}

fn skew(machine: &Machine) -> Look {
    /// Five minutes, in seconds.
    const MOST: u64 = 300;
    let (server, answer) = machine.asked()?;
    let shown = server::shown(&server);
    let (theirs, ours) = learned(&shown, answer, answer.clock.as_ref())?;
    let apart = theirs.abs_diff(*ours);
    let found = format!("{apart} s apart");
    let direction = if ours < theirs { "behind" } else { "ahead" };
    match apart < MOST {
        true => Finding::good(found),
        false => Finding::broken(
            format!("this machine's clock is {direction}: {found}"),
            "set both clocks right, by NTP: timedatectl set-ntp true",
        ),
    }
}
