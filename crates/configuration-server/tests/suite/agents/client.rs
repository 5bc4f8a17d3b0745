//! A registered host, and a person who orders jobs.

use crate::support::{Portal, host, register};
use control_api::agent::{
    HEARTBEAT_PATH, Health, Heartbeat, HeartbeatReply, ItemReport, JOBS_PATH, JobReport, JobState, JobsReply,
    JobsRequest, REPORT_PATH, ReportReply, ReportRequest,
};
use control_api::registration::{Host, HostKind, Passphrase};
use control_api::time::{SECOND, Time};
use control_api::{ApiError, ErrorCode, ItemState, ItemStatus};
use registration::server::Server;
use registration::{CA_FILE, CERTIFICATE_FILE, IDENTITY, KEY_FILE};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

/// A host that has registered, with connections of its own.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) host: Host,
    /// Its id at the server.
    pub(crate) id: String,
    machine: PathBuf,
    base: String,
    agent: ureq::Agent,
}

/// An answer, or the refusal; an error when there was neither.
pub(crate) type Answered<T> = Result<Result<T, ApiError>, ureq::Error>;

impl Agent {
    /// Registers the machine of this number.
    pub(crate) fn new(
        server: &Server,
        passphrase: &Passphrase,
        kind: HostKind,
        number: u32,
        machine: &Path,
    ) -> Agent {
        let host = Host { kind, ..host(number, number) };
        let registered = register(server, passphrase, &host, machine).unwrap();
        let base = format!("https://{}:{}", server.address, server.port);
        let agent = connected(machine);
        Agent { host, id: registered.registration.host_id, machine: machine.to_owned(), base, agent }
    }

    /// The same host, with a connection that nobody has used.
    pub(crate) fn anew(&self) -> Agent {
        Agent { agent: connected(&self.machine), ..self.clone() }
    }

    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Answered<T> {
        let mut response = self.agent.post(format!("{}{path}", self.base)).send_json(body)?;
        match response.status().as_u16() {
            200 => Ok(Ok(response.body_mut().read_json()?)),
            _ => Ok(Err(response.body_mut().read_json()?)),
        }
    }

    pub(crate) fn beat(&self, items: &[(&str, ItemState)]) -> HeartbeatReply {
        self.post(HEARTBEAT_PATH, &self.heartbeat(items)).unwrap().unwrap()
    }

    pub(crate) fn heartbeat(&self, items: &[(&str, ItemState)]) -> Heartbeat {
        Heartbeat {
            host: self.host.clone(),
            time: now(),
            health: Health {
                started: now() - 60 * SECOND,
                uptime_seconds: 3600,
                processors: 2,
                busy_percent: 12.5,
                load: [0.5, 0.25, 0.125],
                memory_bytes: 4 << 30,
                memory_used_bytes: 1 << 30,
            },
            disks: Vec::new(),
            datastores: Vec::new(),
            retention: None,
            items: items.iter().map(|(name, state)| item(name, *state)).collect(),
            data_port: None,
            protection: None,
        }
    }

    /// Asks for jobs.
    pub(crate) fn jobs(&self, running: &[&str], wait_seconds: u64) -> Answered<JobsReply> {
        let running = running.iter().map(|id| (*id).to_owned()).collect();
        self.post(JOBS_PATH, &JobsRequest { host: self.host.clone(), running, wait_seconds })
    }

    pub(crate) fn report(&self, id: &str, state: JobState) -> Answered<ReportReply> {
        self.post(REPORT_PATH, &ReportRequest { host: self.host.clone(), report: reported(id, state) })
    }
}

/// Connections that show the machine's certificate.
fn connected(machine: &Path) -> ureq::Agent {
    let read = |name| fs::read(machine.join(IDENTITY).join(name)).unwrap();
    let certificate = Certificate::from_pem(&read(CERTIFICATE_FILE)).unwrap();
    let key = PrivateKey::from_pem(&read(KEY_FILE)).unwrap();
    let authority = Certificate::from_pem(&read(CA_FILE)).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .client_cert(Some(ClientCert::new_with_certs(&[certificate], key)))
        .root_certs(RootCerts::new_with_certs(&[authority]))
        // The name that hosts look for is no address, and ureq cannot be told another one.
        .disable_verification(true)
        .unversioned_rustls_crypto_provider(provider)
        .build();
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .tls_config(tls)
        .build();
    config.into()
}

pub(crate) fn now() -> Time {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

fn item(name: &str, state: ItemState) -> ItemReport {
    let status = ItemStatus {
        protected_until: Some(now() - 5 * SECOND),
        window_wanted: 86_400 * SECOND,
        bytes_per_second: 100,
        ..ItemStatus::new(name, state)
    };
    ItemReport { status, points: Some(Vec::new()) }
}

pub(crate) fn reported(id: &str, state: JobState) -> JobReport {
    JobReport {
        id: id.into(),
        state,
        started: now(),
        ended: state.has_ended().then(now),
        steps: Vec::new(),
        progress: None,
        seconds_left: None,
        can_cancel: true,
        outcome: None,
        failure: None,
    }
}

pub(crate) fn code<T: std::fmt::Debug>(answered: Answered<T>) -> ErrorCode {
    answered.unwrap().unwrap_err().code
}

/// The first administrator.
pub(crate) struct Person {
    portal: Portal,
    token: String,
}

impl Person {
    /// Logs in with this password.
    pub(crate) fn new(server: &Server, password: &str) -> Person {
        let portal = Portal::new(server);
        let (status, session) = portal.log_in("admin", password);
        assert_eq!(status, 200, "{session}");
        Person { portal, token: session["token"].as_str().unwrap().to_owned() }
    }

    /// Logs in with the password that the first start of the server left in its state folder.
    pub(crate) fn first(server: &Server, state: &Path) -> Person {
        Person::new(server, fs::read_to_string(state.join("administrator.password")).unwrap().trim())
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, answer) = self.portal.get(path, &self.token);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Orders a check; its id.
    pub(crate) fn order_check(&self, host: &str) -> String {
        self.try_order_check(host).unwrap().unwrap()
    }

    /// The same while the server may end.
    pub(crate) fn try_order_check(&self, host: &str) -> Result<Result<String, Value>, ureq::Error> {
        let body = serde_json::json!({ "host": host, "job": { "kind": "check" } });
        self.try_order("/api/v1/jobs", &body)
    }

    pub(crate) fn cancel(&self, job: &str) -> (u16, Value) {
        let path = format!("/api/v1/jobs/{job}/cancel");
        self.portal.post(&path, &self.token, &serde_json::json!({})).unwrap()
    }

    /// Orders something at a path; its id, or the refusal.
    pub(crate) fn try_order(&self, path: &str, body: &Value) -> Result<Result<String, Value>, ureq::Error> {
        let (status, answer) = self.portal.post(path, &self.token, body)?;
        Ok(match status {
            201 => Ok(answer["id"].as_str().unwrap().to_owned()),
            _ => Err(answer),
        })
    }

    /// Makes something; what it is.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.portal.post(path, &self.token, body).unwrap();
        assert_eq!(status, 201, "{path}: {answer}");
        answer
    }

    /// Changes something.
    pub(crate) fn patch(&self, path: &str, body: &Value) {
        let (status, answer) = self.portal.patch(path, &self.token, body);
        assert_eq!(status, 200, "{path}: {answer}");
    }

    /// State of a job.
    pub(crate) fn state(&self, job: &str) -> String {
        self.get(&format!("/api/v1/jobs/{job}"))["state"].as_str().unwrap().to_owned()
    }

    /// Keys of the alerts that are raised.
    pub(crate) fn alerts(&self) -> Vec<String> {
        let alerts = self.get("/api/v1/alerts");
        let list = alerts["entries"].as_array().unwrap();
        list.iter().map(|alert| alert["key"].as_str().unwrap().to_owned()).collect()
    }

    /// What happened, the newest first: kind and object.
    pub(crate) fn events(&self) -> Vec<(String, String)> {
        let text = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
        let (mut all, mut before) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("/api/v1/events?limit=100{before}"));
            let entries = page["entries"].as_array().unwrap();
            all.extend(entries.iter().map(|event| (text(event, "kind"), text(event, "object"))));
            match page["next"].as_i64() {
                Some(next) => before = format!("&before={next}"),
                None => return all,
            }
        }
    }

    /// Kinds of what happened, the newest first.
    pub(crate) fn kinds(&self) -> Vec<String> {
        self.events().into_iter().map(|(kind, _)| kind).collect()
    }
}
