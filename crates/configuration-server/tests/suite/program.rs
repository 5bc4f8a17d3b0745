//! A program that uses the REST API, or a registered host that tells of itself.

use crate::support::{ConfigurationServer, command};
use registration::{CERTIFICATE_FILE, IDENTITY, KEY_FILE};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};

/// The password of each user in these tests.
const PASSWORD: &str = "correct horse battery";

/// The file with the certificate of a server's authority.
pub(crate) const AUTHORITY: &str = "ca.pem";

/// Somebody who sends requests and verifies the server's certificate.
pub(crate) struct Program {
    agent: ureq::Agent,
    base: String,
    token: Option<String>,
}

impl Program {
    fn new(cs: &ConfigurationServer, certificate: Option<ClientCert>) -> Program {
        let authority = fs::read(cs.state.join(AUTHORITY)).unwrap();
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::new_with_certs(&[Certificate::from_pem(&authority).unwrap()]))
            .client_cert(certificate)
            .build();
        let agent = ureq::Agent::config_builder().http_status_as_error(false).tls_config(tls).build();
        Program { agent: agent.new_agent(), base: cs.url(), token: None }
    }

    /// One that has logged in.
    pub(crate) fn of_user(cs: &ConfigurationServer, user: &str) -> Program {
        let mut program = Program::new(cs, None);
        let body = json!({"user": user, "password": PASSWORD});
        let (status, session) = program.send("POST", "/api/v1/session", Some(&body));
        assert_eq!(status, 200, "{session}");
        program.token = Some(session["token"].as_str().unwrap().to_owned());
        program
    }

    /// The host whose state this is.
    pub(crate) fn of_host(cs: &ConfigurationServer, state: &Path) -> Program {
        let file = |name| fs::read(state.join(IDENTITY).join(name)).unwrap();
        let certificate = Certificate::from_pem(&file(CERTIFICATE_FILE)).unwrap();
        let key = PrivateKey::from_pem(&file(KEY_FILE)).unwrap();
        Program::new(cs, Some(ClientCert::new_with_certs(&[certificate], key)))
    }

    /// What it shows as `Authorization: Bearer`.
    pub(crate) fn token(&self) -> &str {
        self.token.as_deref().unwrap()
    }

    /// Status and body of the answer.
    pub(crate) fn send(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let sent = match body {
            Some(body) => {
                let request = request.header("content-type", "application/json");
                self.agent.run(request.body(body.to_string()).unwrap())
            }
            None => self.agent.run(request.body(()).unwrap()),
        };
        let mut answer = sent.unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// What is answered with 200 or 201.
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.send(method, path, body);
        assert!([200, 201].contains(&status), "{method} {path}: {status} {answer}");
        answer
    }
}

/// Adds a user by the command that people type.
pub(crate) fn add_user(cs: &ConfigurationServer, name: &str, role: &str) {
    let mut command = command(&cs.state, &["user", "add", name, "--role", role]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{PASSWORD}").unwrap();
    assert!(child.wait().unwrap().success());
}
