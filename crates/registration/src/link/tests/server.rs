//! A configuration server of a few lines, over real TLS.

use crate::identity::{Draft, Registration, fingerprint};
use crate::register::now;
use control_api::agent::{
    HEARTBEAT_PATH, Heartbeat, HeartbeatReply, JOBS_PATH, JobKind, JobOrder, JobReport, JobsRequest,
    MEET_PATH, MeetReply, MeetRequest, REPORT_PATH, ReportReply, ReportRequest,
};
use control_api::registration::{Hex, HostKind, SERVER_NAME};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Everything happens within this, or a test has failed.
pub(super) const SOON: Duration = Duration::from_secs(60);

/// What a server holds and has heard.
#[derive(Default)]
pub(super) struct Known {
    pub(super) heartbeats: Vec<(Instant, Heartbeat)>,
    /// What is to be answered to jobs, until a report comes.
    pub(super) orders: Vec<Value>,
    pub(super) cancel: Vec<String>,
    pub(super) reports: Vec<JobReport>,
    /// How many reports are refused from now on.
    pub(super) refuse_reports: usize,
    /// What was said to meetings.
    pub(super) met: Vec<MeetRequest>,
    /// Questions for jobs.
    pub(super) asked: usize,
    /// No answer is given from now on, and every connection is closed.
    pub(super) deaf: bool,
    streams: Vec<TcpStream>,
}

impl Known {
    /// The last report of a job, if it has ended.
    pub(super) fn end_of(&self, id: &str) -> Option<JobReport> {
        let ended = |report: &&JobReport| report.id == id && report.state.has_ended();
        self.reports.iter().rev().find(ended).cloned()
    }
}

/// A server that listens until it is dropped.
pub(super) struct Server {
    pub(super) port: u16,
    pub(super) authority: Arc<Authority>,
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    known: Mutex<Known>,
    changed: Condvar,
}

/// Who signs.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca: Vec<u8>,
}

impl Authority {
    pub(super) fn make() -> Arc<Authority> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().der().to_vec();
        Arc::new(Authority { issuer: Issuer::new(params, key), ca })
    }

    /// Makes an identity of a host in a state folder, as registering does.
    pub(super) fn register(&self, state: &Path, port: u16, name: &str) {
        let draft = Draft::make(state).unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&draft.key, &self.issuer).unwrap();
        let registration = Registration {
            server: "127.0.0.1".into(),
            port,
            authority: fingerprint(&self.ca),
            host_id: "host".into(),
            name: name.into(),
            kind: HostKind::MasterTarget,
            issued: now(),
            valid_until: now() * 2,
        };
        draft.complete(certificate.der(), &self.ca, &registration).unwrap();
    }

    fn config(&self) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.ca.clone())).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            );
        Arc::new(config.unwrap())
    }
}

impl Server {
    pub(super) fn start() -> Server {
        Server::start_with(Authority::make(), 0)
    }

    pub(super) fn start_with(authority: Arc<Authority>, port: u16) -> Server {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { known: Mutex::default(), changed: Condvar::new() });
        let (config, all) = (authority.config(), shared.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut known = all.known.lock().unwrap();
                if known.deaf {
                    return;
                }
                known.streams.push(stream.try_clone().unwrap());
                drop(known);
                let (config, shared) = (config.clone(), all.clone());
                std::thread::spawn(move || serve(stream, config, &shared));
            }
        });
        Server { port, authority, shared }
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        let outcome = change(&mut self.shared.known.lock().unwrap());
        self.shared.changed.notify_all();
        outcome
    }

    pub(super) fn wait<T>(&self, what: &str, mut found: impl FnMut(&mut Known) -> Option<T>) -> T {
        let end = Instant::now() + SOON;
        let mut known = self.shared.known.lock().unwrap();
        loop {
            if let Some(found) = found(&mut known) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what} did not come; reports: {:#?}", known.reports);
            known = self.shared.changed.wait_timeout(known, left).unwrap().0;
        }
    }

    /// Gives an order, and repeats it until a report of it comes.
    pub(super) fn order(&self, number: u64, job: JobKind) -> String {
        let order = JobOrder { id: format!("{number:032x}"), job, ordered: number };
        self.with(|known| known.orders.push(json!(order)));
        order.id
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.with(|known| {
            known.deaf = true;
            for stream in known.streams.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        // Has the listener look, and close.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, shared: &Shared) {
    let connection = ServerConnection::new(config).unwrap();
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    while let Some((path, body)) = request(&mut stream) {
        let (status, answer) = shared.answer(&path, &body);
        let Some(answer) = answer else { return };
        let text = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
        if stream.get_mut().write_all(text.as_bytes()).and_then(|()| stream.get_mut().flush()).is_err() {
            return;
        }
        // Servers may close a connection that is kept, at any moment.
        if path == MEET_PATH {
            let _ = stream.get_ref().sock.shutdown(Shutdown::Both);
            return;
        }
    }
}

fn request(stream: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let (mut path, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        match line.split_once(": ") {
            Some(("Content-Length", value)) => length = value.parse().ok()?,
            _ if path.is_none() => path = line.split(' ').nth(1).map(str::to_owned),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((path?, body))
}

impl Shared {
    fn answer(&self, path: &str, body: &[u8]) -> (u16, Option<String>) {
        let mut known = self.known.lock().unwrap();
        let mut status = 200;
        let answer = match path {
            HEARTBEAT_PATH => {
                let heartbeat = serde_json::from_slice(body).unwrap();
                known.heartbeats.push((Instant::now(), heartbeat));
                let revoked = vec![Hex(vec![7; 32])];
                json!(HeartbeatReply {
                    time: now(),
                    interval_seconds: 3,
                    want_points: false,
                    revoked,
                    policies: Vec::new(),
                    application_consistent_every_seconds: None
                })
            }
            JOBS_PATH => {
                let request: JobsRequest = serde_json::from_slice(body).unwrap();
                known.asked += 1;
                self.changed.notify_all();
                let end = Instant::now() + Duration::from_secs(request.wait_seconds.min(5));
                while known.orders.is_empty() && known.cancel.is_empty() && !known.deaf {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    known = self.changed.wait_timeout(known, left).unwrap().0;
                }
                json!({ "orders": known.orders.clone(), "cancel": std::mem::take(&mut known.cancel) })
            }
            REPORT_PATH if known.refuse_reports > 0 => {
                known.refuse_reports -= 1;
                status = 503;
                json!({ "code": "busy", "object": "o", "what": "w", "why": "y", "next": "n" })
            }
            REPORT_PATH => {
                let request: ReportRequest = serde_json::from_slice(body).unwrap();
                let id = request.report.id.clone();
                known.orders.retain(|order| order["id"] != json!(id));
                known.reports.push(request.report);
                json!(ReportReply { cancel: false })
            }
            MEET_PATH => {
                known.met.push(serde_json::from_slice(body).unwrap());
                json!(MeetReply::Met)
            }
            other => panic!("nothing is under {other}"),
        };
        self.changed.notify_all();
        (status, (!known.deaf).then(|| answer.to_string()))
    }
}
