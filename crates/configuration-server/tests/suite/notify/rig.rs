//! A configuration server as a process, and real receivers for what it sends: aiosmtpd and Python's web server.

use crate::support::{folder, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use registration::server::Server;
use rusqlite::{Connection, TransactionBehavior, params};
use serde_json::{Value, json};
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// The Python that Debian's packages are installed for.
const PYTHON: &str = "/usr/bin/python3";

/// A process that is killed at the end.
pub(super) struct Process(pub(super) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder with a certificate for 127.0.0.1, its key, and secrets.
pub(super) struct Files {
    pub(super) folder: TempDir,
}

impl Files {
    pub(super) fn new() -> Files {
        let folder = folder();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().self_signed(&key).unwrap();
        fs::write(folder.path().join("certificate.pem"), certificate.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
        Files { folder }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn secret(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }
}

/// A receiver, and what it received.
pub(super) struct Receiver {
    pub(super) port: u16,
    folder: PathBuf,
    _process: Process,
}

impl Receiver {
    fn start(script: &str, mut options: Value, folder: &Path) -> Receiver {
        fs::create_dir_all(folder).unwrap();
        options["folder"] = json!(folder);
        let mut child = Command::new(PYTHON)
            .args(["-c", script, &options.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let process = Process(child);
        let port = line
            .trim()
            .parse()
            .expect("the receiver did not start; cargo xtask setup installs what it needs");
        Receiver { port, folder: folder.to_owned(), _process: process }
    }

    /// A mail server whose user is mt with this password.
    pub(super) fn mail(files: &Files, encryption: &str, password: Option<&str>) -> Receiver {
        let options = json!({
            "encryption": encryption,
            "certificate": files.path("certificate.pem"),
            "key": files.path("key.pem"),
            "user": password.map(|_| "mt"),
            "password": password,
            "port": 0,
        });
        Receiver::start(include_str!("smtp_server.py"), options, &files.path("mails"))
    }

    /// A web server with TLS.
    pub(super) fn web(files: &Files, port: u16) -> Receiver {
        let options = json!({ "certificate": files.path("certificate.pem"), "key": files.path("key.pem"), "port": port });
        Receiver::start(include_str!("receiver.py"), options, &files.path("hooks"))
    }

    /// Everything that arrived, in this order.
    pub(super) fn received(&self) -> Vec<Value> {
        received(&self.folder)
    }

    /// Waits until as many messages arrived.
    pub(super) fn wait_for(&self, count: usize) -> Vec<Value> {
        wait_for("messages", || Some(self.received()).filter(|received| received.len() >= count))
    }
}

/// Everything that arrived in a folder, in this order.
pub(super) fn received(folder: &Path) -> Vec<Value> {
    let mut names: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|name| name.extension().is_some_and(|extension| extension == "json"));
    names.sort();
    names.iter().map(|name| serde_json::from_slice(&fs::read(name).unwrap()).unwrap()).collect()
}

/// A port that nobody listens at.
pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A configuration server as a process.
pub(super) struct Cs {
    pub(super) state: TempDir,
    pub(super) server: Server,
    process: Option<Process>,
}

impl Cs {
    /// Starts it with these lines in the configuration.
    pub(super) fn start(channels: &str) -> Cs {
        let mut cs = Cs::prepare(channels);
        cs.run();
        cs
    }

    /// Writes the configuration.
    pub(super) fn prepare(channels: &str) -> Cs {
        let state = folder();
        let server = Server { address: "127.0.0.1".into(), port: free_port() };
        let text = format!(
            "state_folder = {:?}\nlisten = \"127.0.0.1:{}\"\nlog = \"trace\"\n{channels}",
            state.path(),
            server.port
        );
        fs::write(state.path().join("configserver.toml"), text).unwrap();
        Cs { state, server, process: None }
    }

    pub(super) fn run(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let child = self.command(&[]).stderr(log).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        self.process = Some(Process(child));
        let version = || registration::server::ask(&self.server).version.is_ok().then_some(());
        wait_for("mt-configserver", version);
    }

    pub(super) fn sigkill(&mut self) {
        self.process = None;
    }

    /// Ends it, and returns all that it logged.
    pub(super) fn stop(mut self) -> String {
        let mut process = self.process.take().unwrap();
        kill(Pid::from_raw(process.0.id() as i32), Signal::SIGTERM).unwrap();
        assert!(process.0.wait().unwrap().success());
        fs::read_to_string(self.log_path()).unwrap()
    }

    fn log_path(&self) -> PathBuf {
        self.state.path().join("log")
    }

    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mt-configserver"));
        command.args(words).arg("--config").arg(self.state.path().join("configserver.toml"));
        command
    }

    /// `notify test`, with all that it printed.
    pub(super) fn notify_test(&self, words: &[&str]) -> (bool, String) {
        let Output { status, stdout, stderr } =
            self.command(&[&["notify", "test"], words].concat()).output().unwrap();
        (status.success(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
    }

    pub(super) fn store(&self) -> Connection {
        let store = Connection::open(self.state.path().join("store.sqlite")).unwrap();
        store.busy_timeout(Duration::from_secs(30)).unwrap();
        store
    }

    /// Lets something happen, as another program would that writes into the store; the number of the event.
    pub(super) fn happens(&self, severity: &str, what: &str) -> i64 {
        self.happen(severity, std::iter::once(what.to_owned()))
    }

    /// Lets all this happen at once; the number of the last event.
    pub(super) fn happen(&self, severity: &str, all: impl Iterator<Item = String>) -> i64 {
        let mut store = self.store();
        let transaction = store.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        for what in all {
            let now = (configuration_server::Environment::host().clock)();
            transaction
                .execute(
                    "INSERT INTO event (time, severity, kind, object, what, cause, next) \
                     VALUES (?, ?, 'test-kind', 'mt01', ?, 'a cause', 'a remedy')",
                    params![now, severity, what],
                )
                .unwrap();
        }
        let last = transaction.last_insert_rowid();
        transaction.commit().unwrap();
        last
    }
}

/// The bodies of what a web server received.
pub(super) fn bodies(received: &[Value]) -> Vec<Value> {
    received.iter().map(|message| serde_json::from_str(message["body"].as_str().unwrap()).unwrap()).collect()
}

/// The numbers of the events in bodies.
pub(super) fn numbers(bodies: &[Value]) -> Vec<i64> {
    let events = bodies.iter().flat_map(|body| body["events"].as_array().unwrap());
    events.map(|event| event["number"].as_i64().unwrap()).collect()
}
