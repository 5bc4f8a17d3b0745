//! Servers and hosts to test with.

use configuration_server::{Config, Environment, PASSPHRASE_FILE, serve};
use control_api::registration::{Host, HostKind, Passphrase};
use registration::server::Server;
use registration::{Error, Order, Registered};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A configuration server in this process.
pub(crate) struct ConfigurationServer {
    pub(crate) server: Server,
    pub(crate) state: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ConfigurationServer {
    pub(crate) fn start(state: &Path) -> ConfigurationServer {
        ConfigurationServer::with(state, 0, Environment::host())
    }

    pub(crate) fn with(state: &Path, port: u16, environment: Environment) -> ConfigurationServer {
        ConfigurationServer::configured(state, port, environment, "")
    }

    /// With these lines in its configuration.
    pub(crate) fn configured(
        state: &Path,
        port: u16,
        environment: Environment,
        lines: &str,
    ) -> ConfigurationServer {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", port))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = Config::parse(&format!("state_folder = {state:?}\n{lines}")).unwrap();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let stopped = async move { drop(stopped.await) };
            runtime.block_on(serve(config, environment, listener, stopped)).unwrap();
        });
        let server = Server { address: "127.0.0.1".into(), port };
        let running =
            ConfigurationServer { server, state: state.to_owned(), stop: Some(stop), thread: Some(thread) };
        wait_for("the configuration server", || {
            registration::server::ask(&running.server).version.is_ok().then_some(())
        });
        running
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}:{}", self.server.address, self.server.port)
    }

    pub(crate) fn passphrase(&self) -> Passphrase {
        registration::passphrase(&self.state.join(PASSPHRASE_FILE)).unwrap().0
    }

    pub(crate) fn register(&self, host: &Host, state: &Path) -> Result<Registered, Error> {
        register(&self.server, &self.passphrase(), host, state)
    }

    pub(crate) fn hosts(&self) -> Vec<Value> {
        hosts(&self.state)
    }

    /// What came of each attempt, the newest first.
    pub(crate) fn outcomes(&self) -> Vec<String> {
        let audit = typed(&self.state, &["audit", "--json"]);
        let entries = audit["entries"].as_array().unwrap().clone();
        entries.iter().map(|entry| entry["outcome"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn revoke(&self, host: &str) {
        let output = command(&self.state, &["revoke", host, "--yes"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for ConfigurationServer {
    fn drop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the configuration server failed");
    }
}

pub(crate) fn register(
    server: &Server,
    passphrase: &Passphrase,
    host: &Host,
    state: &Path,
) -> Result<Registered, Error> {
    let order = Order { server, passphrase, host: host.clone(), state, replace: false };
    registration::register(&order, &mut |_| {})
}

/// `mt-configserver` with a command, on the state of a server.
pub(crate) fn command(state: &Path, words: &[&str]) -> Command {
    let config = state.join("configserver.toml");
    std::fs::write(&config, format!("state_folder = {state:?}\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mt-configserver"));
    command.args(words).arg("--config").arg(config);
    command
}

fn typed(state: &Path, words: &[&str]) -> Value {
    let output = command(state, words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

pub(crate) fn hosts(state: &Path) -> Vec<Value> {
    typed(state, &["hosts", "--json"])["hosts"].as_array().unwrap().clone()
}

/// A master target with the hardware and the installation of these numbers.
pub(crate) fn host(hardware: u32, installation: u32) -> Host {
    Host {
        kind: HostKind::MasterTarget,
        name: format!("mt{hardware:02}.example"),
        dmi_uuid: Some(format!("564d5cf0-11aa-22bb-33cc-{hardware:012x}")),
        machine_id: format!("{installation:032x}"),
        version: env!("CARGO_PKG_VERSION").into(),
        addresses: vec!["10.0.0.5".parse().unwrap()],
    }
}

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

pub(crate) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = std::time::Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed().as_secs() < 60, "waited in vain for {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn now() -> control_api::time::Time {
    (Environment::host().clock)()
}

/// A program that uses the REST API.
pub(crate) struct Portal {
    agent: ureq::Agent,
    base: String,
}

impl Portal {
    pub(crate) fn new(server: &Server) -> Portal {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let tls = ureq::tls::TlsConfig::builder()
            .disable_verification(true)
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let config = ureq::Agent::config_builder().http_status_as_error(false).tls_config(tls).build();
        Portal { agent: config.into(), base: format!("https://{}:{}", server.address, server.port) }
    }

    pub(crate) fn log_in(&self, user: &str, password: &str) -> (u16, Value) {
        let body = serde_json::json!({ "user": user, "password": password });
        answered(self.agent.post(format!("{}/api/v1/session", self.base)).send_json(body).unwrap())
    }

    /// What is under a path, to the session with this token.
    pub(crate) fn get(&self, path: &str, token: &str) -> (u16, Value) {
        let request = self.agent.get(format!("{}{path}", self.base));
        answered(request.header("authorization", format!("Bearer {token}")).call().unwrap())
    }

    /// Sends this to a path, in the session with this token.
    pub(crate) fn post(&self, path: &str, token: &str, body: &Value) -> Result<(u16, Value), ureq::Error> {
        let request = self.agent.post(format!("{}{path}", self.base));
        Ok(answered(request.header("authorization", format!("Bearer {token}")).send_json(body)?))
    }

    /// The same, to change what is there.
    pub(crate) fn patch(&self, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let request = self.agent.patch(format!("{}{path}", self.base));
        answered(request.header("authorization", format!("Bearer {token}")).send_json(body).unwrap())
    }

    pub(crate) fn who(&self, token: &str) -> (u16, Value) {
        self.get("/api/v1/session", token)
    }
}

fn answered(mut response: ureq::http::Response<ureq::Body>) -> (u16, Value) {
    (response.status().as_u16(), response.body_mut().read_json().unwrap())
}
