//! What a server answers that this machine is to talk to.
//!
//! The configuration server is asked for its version, as anybody may: connect, TLS, one request, one bounded answer.
//! Each step that fails is told apart, since each has another cause: a name without an address, a port that refuses
//! or does not answer, a proxy that speaks plain HTTP, something that is no TLS, a server that is another. The answer
//! also tells the server's clock, to one second, and its certificate how long that is valid.

pub(super) mod certificate;
pub(super) mod http;
mod unverified;

use crate::config::{Server, valid_address};
use certificate::Validity;
use control_api::{PRODUCT, Release, ServerVersion, VERSION_PATH};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time for the name, for each address, and for the talk with the server.
const PATIENCE: Duration = Duration::from_secs(5);

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 3;

/// What a server may answer.
const MAX_ANSWER: u64 = 16 << 10;

/// Why a server could not be talked to, or is not the one wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the name {name} has no address ({why})")]
    Unresolved { name: String, why: String },
    #[error("{address} refuses connections: nothing listens there, or a firewall rejects them")]
    Refused { address: String },
    #[error(
        "{address} does not answer within 5 s: a firewall drops what is sent there, or the server is down"
    )]
    Filtered { address: String },
    #[error("there is no way to {address} ({why})")]
    Unreachable { address: String, why: String },
    #[error("{address} answers in plain HTTP, not TLS: a proxy stands in between, or the port is another")]
    PlainHttp { address: String },
    #[error("{address} answers, but not in TLS: another service listens there")]
    NotTls { address: String },
    #[error(
        "{address} closes the connection during the TLS handshake: something in between does not let it through"
    )]
    ClosedInHandshake { address: String },
    #[error("{address} refuses the TLS handshake: {why}")]
    HandshakeRefused { address: String, why: String },
    #[error("{address} speaks TLS but does not answer as HTTP: {why}")]
    NotHttp { address: String, why: String },
    #[error("{address} is a web server, but no configuration server: it answers {status} to {VERSION_PATH}")]
    AnotherServer { address: String, status: u16 },
}

impl Failure {
    /// Whether it looks like a proxy or another device in between: what the old product called (35).
    pub(crate) fn in_between(&self) -> bool {
        matches!(
            self,
            Failure::PlainHttp { .. }
                | Failure::NotTls { .. }
                | Failure::ClosedInHandshake { .. }
                | Failure::HandshakeRefused { .. }
        )
    }
}

/// What is known of a configuration server after it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its version, or why there is none.
    pub(crate) version: Result<ServerVersion, Failure>,
    /// Its clock, in seconds since the epoch, and ours when the answer came.
    pub(crate) clock: Option<(u64, u64)>,
    /// When its certificate is valid.
    pub(crate) certificate: Option<Validity>,
}

/// An address as one types it: a name or IP address, with or without a port.
pub(crate) fn parse_address(text: &str, port: u16) -> Option<Server> {
    let server =
        |address: &str, port| valid_address(address).then(|| Server { address: address.into(), port });
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        let port = rest.strip_prefix(':').map_or(Some(port), |port| port.parse().ok())?;
        return server(address, port);
    }
    match text.rsplit_once(':') {
        Some((address, port)) if !address.contains(':') => server(address, port.parse().ok()?),
        _ => server(text, port),
    }
}

/// The server as messages call it.
pub(crate) fn shown(server: &Server) -> String {
    let Server { address, port } = server;
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// Opens a TCP connection and closes it again.
pub(crate) fn reach(server: &Server) -> Result<(), Failure> {
    connect(server).map(drop)
}

/// Asks a configuration server for its version.
pub(crate) fn ask(server: &Server) -> Answer {
    let mut answer =
        Answer { version: Err(Failure::NotTls { address: shown(server) }), clock: None, certificate: None };
    answer.version = connect(server).and_then(|stream| talk(server, stream, &mut answer));
    answer
}

/// The system's resolver has no time limit, so it works on a thread of its own, which is left alone when it is late.
fn resolve(server: &Server) -> Result<Vec<SocketAddr>, Failure> {
    let (sender, receiver) = mpsc::channel();
    let wanted = (server.address.clone(), server.port);
    std::thread::spawn(move || {
        sender.send(wanted.to_socket_addrs().map(|found| found.take(MAX_ADDRESSES).collect()))
    });
    let why = match receiver.recv_timeout(PATIENCE) {
        Ok(Ok(addresses)) => {
            let addresses: Vec<SocketAddr> = addresses;
            if !addresses.is_empty() {
                return Ok(addresses);
            }
            "the resolver knows none".to_owned()
        }
        Ok(Err(cause)) => io::Error::to_string(&cause),
        Err(_) => "the resolver did not answer within 5 s".to_owned(),
    };
    Err(Failure::Unresolved { name: server.address.clone(), why })
}

fn connect(server: &Server) -> Result<TcpStream, Failure> {
    let address = shown(server);
    let mut outcome = Err(Failure::Filtered { address: address.clone() });
    for candidate in resolve(server)? {
        outcome = TcpStream::connect_timeout(&candidate, PATIENCE).map_err(|cause| match cause.kind() {
            io::ErrorKind::ConnectionRefused => Failure::Refused { address: address.clone() },
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                Failure::Filtered { address: address.clone() }
            }
            _ => Failure::Unreachable { address: address.clone(), why: cause.to_string() },
        });
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// TLS, one request, one answer.
fn talk(server: &Server, stream: TcpStream, answer: &mut Answer) -> Result<ServerVersion, Failure> {
    let address = shown(server);
    let unusable = |why: String| Failure::HandshakeRefused { address: address.clone(), why };
    let mut tls = unverified::client(&server.address).map_err(unusable)?;
    let mut stream = Watched { stream, first: Vec::new(), end: Instant::now() + 2 * PATIENCE };
    while tls.is_handshaking() {
        tls.complete_io(&mut stream).map_err(|cause| in_handshake(&address, &cause, &stream.first))?;
    }
    answer.certificate = tls.peer_certificates().and_then(|chain| certificate::validity(chain.first()?));
    let not_http = |why: String| Failure::NotHttp { address: address.clone(), why };
    let mut connection = rustls::Stream::new(&mut tls, &mut stream);
    let host = shown(server);
    let request = format!(
        "GET {VERSION_PATH} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).map_err(|cause| not_http(cause.to_string()))?;
    let mut bytes = Vec::new();
    // A server that closes without a farewell has answered all the same.
    if let Err(cause) = connection.take(MAX_ANSWER + 1).read_to_end(&mut bytes)
        && bytes.is_empty()
    {
        return Err(not_http(cause.to_string()));
    }
    if bytes.len() as u64 > MAX_ANSWER {
        return Err(not_http("its answer is longer than 16 KiB".to_owned()));
    }
    let reply = http::parse(&bytes).ok_or_else(|| not_http("what it sends has no status line".to_owned()))?;
    answer.clock = reply.date.map(|theirs| (theirs, seconds_now()));
    let version: Option<ServerVersion> = serde_json::from_slice(&reply.body).ok();
    match version
        .filter(|v| reply.status == 200 && v.product == PRODUCT && Release::parse(&v.version).is_some())
    {
        Some(version) => Ok(version),
        None => Err(Failure::AnotherServer { address, status: reply.status }),
    }
}

fn in_handshake(address: &str, cause: &io::Error, first: &[u8]) -> Failure {
    let address = address.to_owned();
    if first.starts_with(b"HTTP/") || first.starts_with(b"<") {
        return Failure::PlainHttp { address };
    }
    let tls = cause.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match (tls, cause.kind()) {
        (Some(rustls::Error::InvalidMessage(_)), _) => Failure::NotTls { address },
        (Some(error), _) => Failure::HandshakeRefused { address, why: error.to_string() },
        (None, io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
            Failure::HandshakeRefused { address, why: "it does not go on within 5 s".to_owned() }
        }
        (None, _) if first.is_empty() => Failure::ClosedInHandshake { address },
        // An alert, or a record of TLS: it was TLS up to the end.
        (None, _) if matches!(first.first(), Some(0x15 | 0x16)) => Failure::ClosedInHandshake { address },
        (None, _) => Failure::NotTls { address },
    }
}

/// Seconds since the epoch, by this machine's clock.
pub(crate) fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A connection that remembers how the other side began, and that ends in time however slowly it drips.
struct Watched {
    stream: TcpStream,
    first: Vec<u8>,
    end: Instant,
}

/// Bytes that tell what the other side speaks.
const FIRST: usize = 16;

impl Watched {
    fn limit(&self) -> io::Result<()> {
        let left = self.end.saturating_duration_since(Instant::now()).min(PATIENCE);
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.set_write_timeout(Some(left))
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.limit()?;
        let count = self.stream.read(buffer)?;
        let wanted = FIRST.saturating_sub(self.first.len()).min(count);
        self.first.extend_from_slice(&buffer[..wanted]);
        Ok(count)
    }
}

impl Write for Watched {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.limit()?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests;
