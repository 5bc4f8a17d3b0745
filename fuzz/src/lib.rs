//! A configuration server in this process, with everything that it has around its routes: TLS, HTTP, the guard, a store.
//!
//! One host is registered with it, and the first administrator has logged in, so that what is sent gets as far as it can.
//! The state is in memory and begins anew with each run. Whatever is sent, the server answers, and never with "internal":
//! that is a finding, and so is a panic in any of its threads.

use configuration_server::{Config, Environment, PASSPHRASE_FILE, serve};
use control_api::registration::{Host, HostKind, SERVER_NAME};
use registration::server::Server as Address;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(15);
/// Headers that say where a request ends are ours.
const OURS: [&str; 6] = ["content-length", "transfer-encoding", "connection", "expect", "upgrade", "te"];

/// The server, started when it is first asked for.
pub static SERVER: LazyLock<Server> = LazyLock::new(Server::start);

/// Who sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The host, with its certificate.
    Host,
    /// Somebody without one.
    Person,
}

/// A running configuration server.
pub struct Server {
    /// What shows that the administrator has logged in.
    pub token: String,
    /// What he sends with the cookie.
    pub csrf: String,
    /// Id of the host.
    pub host_id: String,
    address: SocketAddr,
    configs: [Arc<ClientConfig>; 2],
    kept: [Mutex<Option<Tls>>; 2],
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// An answer.
pub struct Answer {
    /// Status of HTTP.
    pub status: u16,
    /// What was read of the body.
    pub body: Vec<u8>,
}

/// The host that is registered.
pub fn host() -> Host {
    Host {
        kind: HostKind::MasterTarget,
        name: "mt01.example".into(),
        dmi_uuid: Some("564d5cf0-11aa-22bb-33cc-0123456789ab".into()),
        machine_id: "0123456789abcdef0123456789abcdef".into(),
        version: "0.1.0".into(),
        addresses: vec!["10.0.0.5".parse().expect("an address")],
    }
}

impl Server {
    fn start() -> Server {
        let folder = folder();
        let state = folder.join("state");
        let config = Config::parse(&format!("state_folder = {state:?}\n")).expect("a configuration");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let served = serve(config, Environment::host(), listener, std::future::pending());
        runtime.spawn(async move { served.await.expect("the server goes on") });
        // It runs for as long as this process does.
        std::mem::forget(runtime);
        let identity = register(address, &folder);
        let configs = [client(&identity, true), client(&identity, false)];
        let mut server = Server {
            token: String::new(),
            csrf: String::new(),
            host_id: String::new(),
            address,
            configs,
            kept: [Mutex::new(None), Mutex::new(None)],
        };
        server.log_in(&state);
        server
    }

    fn log_in(&mut self, state: &Path) {
        let password = std::fs::read_to_string(state.join("administrator.password")).expect("a password");
        let body = json!({"user": "admin", "password": password.trim()}).to_string();
        let answer = self.send(Sender::Person, "POST", "/api/v1/session", &[], body.as_bytes());
        let session: Value = serde_json::from_slice(&answer.body).expect("a session");
        let text = |key: &str| session[key].as_str().expect("a text").to_owned();
        (self.token, self.csrf) = (text("token"), text("csrf"));
        let bearer = format!("Bearer {}", self.token);
        let hosts = self.send(Sender::Person, "GET", "/api/v1/hosts", &[("authorization", bearer.as_bytes())], &[]);
        let hosts: Value = serde_json::from_slice(&hosts.body).expect("hosts");
        self.host_id = hosts["entries"][0]["id"].as_str().expect("a host").to_owned();
    }

    /// Sends a request and takes its answer. Headers that decide where a request ends, or that have not the form of one,
    /// are left out.
    pub fn send(
        &self,
        sender: Sender,
        method: &str,
        target: &str,
        headers: &[(&str, &[u8])],
        body: &[u8],
    ) -> Answer {
        let mut request = format!("{method} {target} HTTP/1.1\r\ncontent-length: {}\r\n", body.len()).into_bytes();
        let has = |name: &str| headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
        if !has("host") {
            request.extend_from_slice(format!("host: {SERVER_NAME}\r\n").as_bytes());
        }
        for (name, value) in headers.iter().filter(|(name, value)| is_header(name, value)) {
            request.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        let at = sender as usize;
        let mut kept = self.kept[at].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut connection) = kept.take()
            && let Ok((answer, goes_on)) = exchange(&mut connection, &request, method == "HEAD")
        {
            *kept = goes_on.then_some(connection);
            return answer;
        }
        let mut connection = self.connect(at).expect("a connection");
        let (answer, goes_on) = exchange(&mut connection, &request, method == "HEAD").expect("an answer");
        *kept = goes_on.then_some(connection);
        answer
    }

    fn connect(&self, at: usize) -> io::Result<Tls> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(SERVER_NAME).expect("a name");
        let tls = ClientConnection::new(self.configs[at].clone(), name).map_err(io::Error::other)?;
        Ok(StreamOwned::new(tls, stream))
    }
}

/// Refuses an answer that tells of a failure of the server itself.
pub fn check(answer: &Answer, request: &str) {
    let body = String::from_utf8_lossy(&answer.body);
    assert!(answer.status != 500 && answer.status < 504, "{request}: {} {body}", answer.status);
}

fn is_header(name: &str, value: &[u8]) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty()
        && name.bytes().all(token)
        && !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours))
        && value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f))
}

/// Sends the bytes and reads an answer, which has only a head when that was asked for; whether the connection goes on.
fn exchange(connection: &mut Tls, request: &[u8], only_head: bool) -> io::Result<(Answer, bool)> {
    connection.write_all(request)?;
    connection.flush()?;
    let (mut bytes, mut part) = (Vec::new(), [0; 16 << 10]);
    loop {
        if let Some((answer, goes_on)) = parse(&bytes, only_head) {
            return Ok((answer, goes_on));
        }
        match connection.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&part[..count]),
        }
    }
}

/// A whole answer; one that has no length is not waited for, and ends the connection.
fn parse(bytes: &[u8], only_head: bool) -> Option<(Answer, bool)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let length = header("content-length").and_then(|length| length.trim().parse::<usize>().ok());
    let length = length.or((status == 204).then_some(0));
    let length = if only_head { Some(0) } else { length };
    let body = &bytes[end..];
    let goes_on = header("connection") != Some("close");
    match length {
        Some(length) if body.len() < length => None,
        Some(length) => Some((Answer { status, body: body[..length].to_vec() }, goes_on)),
        None => Some((Answer { status, body: body.to_vec() }, false)),
    }
}

/// A folder in memory. Those of runs that are over are removed: a run is ended from outside and removes nothing.
fn folder() -> PathBuf {
    let place = [Path::new("/dev/shm"), &std::env::temp_dir()].into_iter().find(|place| place.is_dir()).map(Path::to_owned);
    let place = place.expect("a place for temporary files");
    const PREFIX: &str = "master-target-fuzz-";
    for entry in std::fs::read_dir(&place).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX);
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let folder = place.join(format!("{PREFIX}{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn register(address: SocketAddr, folder: &Path) -> PathBuf {
    let server = Address { address: address.ip().to_string(), port: address.port() };
    let passphrase = folder.join("state").join(PASSPHRASE_FILE);
    for _ in 0..500 {
        if registration::server::ask(&server).version.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let (passphrase, _) = registration::passphrase(&passphrase).expect("a passphrase");
    let state = folder.join("host");
    let order =
        registration::Order { server: &server, passphrase: &passphrase, host: host(), state: &state, replace: false };
    registration::register(&order, &mut |_| {}).expect("the host is registered");
    state.join(registration::IDENTITY)
}

fn client(identity: &Path, presents: bool) -> Arc<ClientConfig> {
    let certificate = |name: &str| CertificateDer::from_pem_file(identity.join(name)).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(certificate(registration::CA_FILE)).expect("an authority");
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots);
    Arc::new(match presents {
        true => {
            let key = PrivateKeyDer::from_pem_file(identity.join(registration::KEY_FILE)).expect("a key");
            let chain = vec![certificate(registration::CERTIFICATE_FILE)];
            builder.with_client_auth_cert(chain, key).expect("a client")
        }
        false => builder.with_no_client_auth(),
    })
}
