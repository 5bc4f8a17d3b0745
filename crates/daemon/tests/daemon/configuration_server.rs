//! A configuration server in this process, and its REST API. The tests of the source agent use it too.

use block_device::System;
use configuration_server::{Config, Environment, PASSPHRASE_FILE, serve};
use control_api::registration::HostKind;
use registration::Order;
use registration::server::Server;
use rig::{Identity, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Everything here happens within this, or a test has failed.
const SOON: Duration = Duration::from_secs(60);

/// A configuration server that can be away, and come back at the same address.
pub(crate) struct ConfigurationServer {
    folder: TempDir,
    port: u16,
    running: Option<(oneshot::Sender<()>, JoinHandle<anyhow::Result<()>>)>,
    agent: ureq::Agent,
    token: String,
}

impl ConfigurationServer {
    pub(crate) async fn start() -> ConfigurationServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let tls = ureq::tls::TlsConfig::builder()
            .disable_verification(true)
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let agent = ureq::Agent::config_builder().http_status_as_error(false).tls_config(tls).build();
        let folder = tempfile::tempdir().unwrap();
        let (running, token) = (None, String::new());
        let mut cs = ConfigurationServer { folder, port, running, agent: agent.into(), token };
        cs.serve(listener);
        let password = cs.folder.path().join("administrator.password");
        wait_for("the configuration server", SOON, || Ok(password.exists().then_some(()))).unwrap();
        let password = fs::read_to_string(password).unwrap();
        let who = json!({ "user": "admin", "password": password.trim() });
        let (status, session) = cs.send("POST", "/api/v1/session", Some(who));
        assert!(status < 300, "{status} {session}");
        cs.token = session["token"].as_str().unwrap().to_owned();
        cs
    }

    fn serve(&mut self, listener: TcpListener) {
        let text = format!("state_folder = {:?}\nheartbeat_seconds = 2\n", self.folder.path());
        let config = Config::parse(&text).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = serve(config, Environment::host(), listener, async move { drop(stopped.await) });
        self.running = Some((stop, tokio::spawn(serving)));
    }

    pub(crate) async fn stop(&mut self) {
        let (stop, serving) = self.running.take().unwrap();
        stop.send(()).unwrap();
        serving.await.unwrap().unwrap();
    }

    pub(crate) async fn start_again(&mut self) {
        self.serve(TcpListener::bind(("127.0.0.1", self.port)).await.unwrap());
    }

    /// Registers this machine under a name.
    pub(crate) fn register(&self, kind: HostKind, name: &str, state: &Path) -> Identity {
        let (passphrase, _) = registration::passphrase(&self.folder.path().join(PASSPHRASE_FILE)).unwrap();
        let host =
            registration::host(&System::host(), kind, Some(name), env!("CARGO_PKG_VERSION"), Vec::new());
        let server = Server { address: "127.0.0.1".into(), port: self.port };
        let host = host.unwrap();
        let order = Order { server: &server, passphrase: &passphrase, host, state, replace: false };
        registration::register(&order, &mut |_| {}).unwrap();
        let folder = state.join(registration::IDENTITY);
        Identity {
            name: name.to_owned(),
            certificate: folder.join(registration::CERTIFICATE_FILE),
            key: folder.join(registration::KEY_FILE),
            ca: folder.join(registration::CA_FILE),
        }
    }

    pub(crate) fn send(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("https://127.0.0.1:{}{path}", self.port);
        let builder = ureq::http::Request::builder()
            .method(method)
            .uri(url)
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json");
        let text = body.map_or_else(String::new, |body| body.to_string());
        let answer = tokio::task::block_in_place(|| self.agent.run(builder.body(text).unwrap()));
        let mut answer = answer.unwrap();
        let status = answer.status().as_u16();
        let text = answer.body_mut().read_to_string().unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, answer) = self.send("GET", path, None);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// The first entry of a list that is as wanted, as soon as there is one.
    pub(crate) fn wait(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let what = format!("what is wanted of {path}");
        let found = wait_for(&what, SOON, || {
            let answer = self.get(path);
            let found = answer["entries"].as_array().into_iter().flatten().find(|entry| wanted(entry));
            Ok(found.cloned())
        });
        found.unwrap_or_else(|error| panic!("{error}: {:#}", self.get(path)))
    }

    pub(crate) fn host(&self, name: &str) -> Value {
        self.wait("/api/v1/hosts", |host| host["name"] == name)
    }

    /// Orders a job of a host; its id.
    pub(crate) fn order(&self, host: &str, job: Value) -> String {
        let host = self.host(host)["id"].clone();
        let (status, answer) = self.send("POST", "/api/v1/jobs", Some(json!({ "host": host, "job": job })));
        assert_eq!(status, 201, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn job(&self, id: &str) -> Value {
        self.get(&format!("/api/v1/jobs/{id}"))
    }

    /// The job, as soon as it has ended.
    pub(crate) fn end_of(&self, id: &str) -> Value {
        let ended = wait_for("the end of a job", SOON, || {
            Ok(Some(self.job(id)).filter(|job| !job["ended"].is_null()))
        });
        ended.unwrap_or_else(|error| panic!("{error}: {:#}", self.job(id)))
    }
}
