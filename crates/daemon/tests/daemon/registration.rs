//! `mtctl register` as people type it, and a daemon that takes over what comes of it.

use crate::source::{SOON, free_port};
use configuration_server::{Environment, PASSPHRASE_FILE};
use control_api::registration::{Host, HostKind};
use daemon::config::Config;
use registration::{IDENTITY, Identity, Order};
use rig::wait_for;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use transport::tls::{ClientTls, TlsFiles};

/// A configuration server in this process; it ends with the runtime of the test.
pub(crate) struct Cs {
    folder: TempDir,
    port: u16,
}

impl Cs {
    pub(crate) async fn start() -> Cs {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let text = format!("state_folder = {:?}\n", folder.path());
        let config = configuration_server::Config::parse(&text).unwrap();
        let never = std::future::pending();
        tokio::spawn(configuration_server::serve(config, Environment::host(), listener, never));
        let cs = Cs { folder, port };
        wait_for("the configuration server", SOON, || Ok(cs.passphrase().exists().then_some(()))).unwrap();
        cs
    }

    pub(crate) fn passphrase(&self) -> PathBuf {
        self.folder.path().join(PASSPHRASE_FILE)
    }
}

/// A master target's folder with its configuration.
pub(crate) struct Machine {
    pub(crate) folder: TempDir,
    port: u16,
}

impl Machine {
    pub(crate) fn new() -> Machine {
        let machine = Machine { folder: tempfile::tempdir().unwrap(), port: free_port() };
        fs::create_dir(machine.folder.path().join("retention")).unwrap();
        fs::write(machine.config(), machine.configuration()).unwrap();
        machine
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("mtd.toml")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn configuration(&self) -> String {
        let (folder, port) = (self.folder.path().display(), self.port);
        format!(
            "listen = \"127.0.0.1:{port}\"\nsocket = \"{folder}/mtd.sock\"\nstate_folder = \"{folder}/state\"\n\
             [retention]\nfolder = \"{folder}/retention\"\ntrial_folder = true\n"
        )
    }

    /// `mtctl` with these words, on a machine with this /etc/hosts; `None` without root, which a view of one's own of
    /// the file system takes.
    fn mtctl(&self, hosts: &str, words: &[&str]) -> Option<Output> {
        let path = self.folder.path().join("hosts");
        fs::write(&path, hosts).unwrap();
        let child = Command::new("unshare")
            .args(["-m", "sh", "-c", "mount --bind \"$0\" /etc/hosts || exit 77; exec \"$@\""])
            .arg(&path)
            .arg(env!("CARGO_BIN_EXE_mtctl"))
            .args(words)
            .arg("--config")
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let output = child.and_then(std::process::Child::wait_with_output).ok();
        let output = output.filter(|output| output.status.code().is_some_and(|code| code != 77));
        if output
            .as_ref()
            .is_none_or(|output| String::from_utf8_lossy(&output.stderr).contains("unshare failed"))
        {
            assert!(std::env::var_os("MASTER_TARGET_NO_SKIPS").is_none(), "this test needs root");
            let _ =
                std::io::stderr().write_all(b"SKIPPED: a test with another /etc/hosts, which needs root\n");
            return None;
        }
        output
    }
}

/// The lines that map this machine's name to its addresses.
fn own_hosts() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let output = Command::new("ip").args(["-o", "-4", "addr"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let addresses = text.lines().filter_map(|line| line.split_whitespace().nth(3)?.split('/').next());
    addresses.map(|address| format!("{address} {}\n", name.trim())).collect()
}

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn people_see_each_step_and_what_to_do_when_one_fails() {
    let (cs, machine) = (Cs::start().await, Machine::new());
    let (port, file) = (cs.port.to_string(), cs.passphrase().display().to_string());
    let register = ["register", "-i", "127.0.0.1", "--port", port.as_str(), "-P", file.as_str()];
    let Some(unmapped) = machine.mtctl("127.0.0.1 localhost\n", &register) else { return };
    let text = shown(&unmapped);
    assert!(text.contains("is not mapped to") && text.contains("add to /etc/hosts:"), "{text}");
    assert!(unmapped.status.code() == Some(1) && !machine.state().exists());

    let wrong = machine.folder.path().join("wrong.txt");
    fs::write(&wrong, "not-the-passphrase\r\n").unwrap();
    let wrong = wrong.display().to_string();
    let words = ["register", "-i", "127.0.0.1", "--port", &port, "-P", &wrong];
    let refused = shown(&machine.mtctl(&own_hosts(), &words).unwrap());
    assert!(refused.contains("Both know the passphrase") && refused.contains("failed"), "{refused}");
    assert!(refused.contains("do not have the same passphrase"), "{refused}");
    assert!(refused.contains("other users can read the passphrase"), "{refused}");

    let done = machine.mtctl(&own_hosts(), &register).unwrap();
    let text = shown(&done);
    assert!(done.status.success(), "{text}");
    for step in ["IPv4 address", "Host name in /etc/hosts", "Connection", "TLS", "Version", "Certificate"] {
        assert!(text.contains(step), "{step} is not in {text}");
    }
    assert!(Identity::open(&machine.state()).unwrap().is_some());
    let secret = fs::read_to_string(cs.passphrase()).unwrap();
    assert!(!text.contains(secret.trim()) && !refused.contains("not-the-passphrase"));

    let asked = machine.mtctl(&own_hosts(), &["unregister"]).unwrap();
    assert_eq!(asked.status.code(), Some(2), "{}", shown(&asked));
    let gone = machine.mtctl(&own_hosts(), &["unregister", "--yes", "--json"]).unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&gone.stdout).unwrap();
    assert!(answer["not_told"].is_null() && !answer["unregistered"].is_null(), "{answer}");
    let again = machine.mtctl(&own_hosts(), &["unregister", "--yes"]).unwrap();
    assert!(again.status.success() && shown(&again).contains("is not registered"), "{}", shown(&again));
}

pub(crate) fn host(kind: HostKind, name: &str, number: u32) -> Host {
    Host {
        kind,
        name: name.into(),
        dmi_uuid: Some(format!("564d5cf0-11aa-22bb-33cc-{number:012x}")),
        machine_id: format!("{number:032x}"),
        version: env!("CARGO_PKG_VERSION").into(),
        addresses: Vec::new(),
    }
}

pub(crate) fn register(cs: &Cs, host: Host, state: &Path) {
    let (passphrase, _) = registration::passphrase(&cs.passphrase()).unwrap();
    let server = registration::server::Server { address: "127.0.0.1".into(), port: cs.port };
    let order = Order { server: &server, passphrase: &passphrase, host, state, replace: false };
    registration::register(&order, &mut |_| {}).unwrap();
}

fn files(state: &Path) -> TlsFiles {
    let identity = state.join(IDENTITY);
    TlsFiles {
        certificate: identity.join("certificate.pem"),
        key: identity.join("key.pem"),
        ca: identity.join("ca.pem"),
    }
}

/// The certificate that the daemon shows to a source agent; `None` when it lets nobody in.
async fn certificate_seen(port: u16, source: &Path) -> Option<Vec<u8>> {
    let tls = ClientTls::load(&files(source)).unwrap();
    let socket = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let limit = std::time::Duration::from_secs(1);
    let stream = tokio::time::timeout(limit, tls.connect(socket, "mt01.example")).await.ok()?.ok()?;
    Some(stream.get_ref().1.peer_certificates()?.first()?.to_vec())
}

async fn wait_for_certificate(port: u16, source: &Path, other_than: Option<&[u8]>) -> Vec<u8> {
    let start = std::time::Instant::now();
    loop {
        let seen = certificate_seen(port, source).await;
        if let Some(seen) = seen.filter(|seen| Some(seen.as_slice()) != other_than) {
            return seen;
        }
        assert!(start.elapsed() < SOON, "the daemon did not take over the identity");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_waits_for_its_registration_follows_each_newer_one_and_its_end() {
    let (cs, machine, source) = (Cs::start().await, Machine::new(), tempfile::tempdir().unwrap());
    register(&cs, host(HostKind::SourceAgent, "web01.example", 1), source.path());
    let config = Config::load(&machine.config()).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let daemon = tokio::spawn(daemon::run_until(config, async move { drop(stopped.await) }));
    wait_for("the daemon", SOON, || Ok(machine.folder.path().join("mtd.sock").exists().then_some(())))
        .unwrap();
    assert_eq!(certificate_seen(machine.port, source.path()).await, None);
    let target = || host(HostKind::MasterTarget, "mt01.example", 2);
    register(&cs, target(), &machine.state());
    let first = wait_for_certificate(machine.port, source.path(), None).await;
    registration::renew(&machine.state(), target()).unwrap();
    wait_for_certificate(machine.port, source.path(), Some(&first)).await;
    registration::unregister(&machine.state(), target()).unwrap();
    wait_for("nobody to be let in", SOON, || {
        let seen = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(certificate_seen(machine.port, source.path()))
        });
        Ok(seen.is_none().then_some(()))
    })
    .unwrap();
    stop.send(()).unwrap();
    daemon.await.unwrap().unwrap();
}
