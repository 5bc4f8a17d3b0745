//! One connection to a server: name, TCP, TLS, then one HTTP request after the other.

use super::certificate::{self, Validity};
use super::http::{self, Reply};
use super::{Failure, PATIENCE, Server, shown};
use control_api::registration::{EXPORTER_LABEL, EXPORTER_LENGTH};
use rustls::ClientConnection;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 3;

/// What a server may answer, in bytes.
const MAX_ANSWER: usize = 128 << 10;

/// Time for each pause of a server that does what it is asked.
pub(crate) const WORK_PATIENCE: Duration = Duration::from_secs(20);

/// How long an answer may take, and be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed {
    /// Time for each pause; the whole may take twice as long.
    pub(crate) pause: Duration,
    /// Bytes.
    pub(crate) answer: usize,
}

/// Opens a TCP connection.
pub(crate) fn connect(server: &Server) -> Result<TcpStream, Failure> {
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

/// A TLS connection.
pub(crate) struct Connection {
    address: String,
    tls: ClientConnection,
    stream: Watched,
}

impl Connection {
    /// Performs the TLS handshake.
    pub(crate) fn open(
        server: &Server,
        stream: TcpStream,
        client: Result<ClientConnection, String>,
    ) -> Result<Connection, Failure> {
        let address = shown(server);
        let refused = |why: String| Failure::HandshakeRefused { address: address.clone(), why };
        let mut tls = client.map_err(refused)?;
        let mut stream =
            Watched { stream, first: Vec::new(), pause: PATIENCE, end: Instant::now() + 2 * PATIENCE };
        while tls.is_handshaking() {
            tls.complete_io(&mut stream).map_err(|cause| in_handshake(&address, &cause, &stream.first))?;
        }
        Ok(Connection { address, tls, stream })
    }

    /// When the server's certificate is valid.
    pub(crate) fn validity(&self) -> Option<Validity> {
        certificate::validity(self.chain().first()?)
    }

    /// The certificates that the server presented, in DER, its own first.
    pub(crate) fn chain(&self) -> &[rustls::pki_types::CertificateDer<'static>] {
        self.tls.peer_certificates().unwrap_or_default()
    }

    /// Another handle on the socket: shutting it down ends whatever waits for the other side.
    pub(crate) fn socket(&self) -> io::Result<TcpStream> {
        self.stream.stream.try_clone()
    }

    /// What binds a registration to this connection; `None` where TLS is older than 1.3.
    pub(crate) fn exporter(&self) -> Option<[u8; EXPORTER_LENGTH]> {
        if self.tls.protocol_version() != Some(rustls::ProtocolVersion::TLSv1_3) {
            return None;
        }
        self.tls.export_keying_material([0; EXPORTER_LENGTH], EXPORTER_LABEL, None).ok()
    }

    /// Sends a request and waits for its answer. Without a body it is a GET, else a POST; `last` ends the connection.
    pub(crate) fn exchange(&mut self, path: &str, body: Option<&[u8]>, last: bool) -> Result<Reply, Failure> {
        // What is asked for with a body has to be written down durably there.
        let pause = if body.is_some() { WORK_PATIENCE } else { PATIENCE };
        self.exchange_within(path, body, last, Allowed { pause, answer: MAX_ANSWER })
    }

    /// The same, and the caller says what the answer may take.
    pub(crate) fn exchange_within(
        &mut self,
        path: &str,
        body: Option<&[u8]>,
        last: bool,
        allowed: Allowed,
    ) -> Result<Reply, Failure> {
        let not_http = |why: String| Failure::NotHttp { address: self.address.clone(), why };
        (self.stream.pause, self.stream.end) = (allowed.pause, Instant::now() + 2 * allowed.pause);
        let request = head(&self.address, path, body, last);
        let mut connection = rustls::Stream::new(&mut self.tls, &mut self.stream);
        connection
            .write_all(&[request.as_bytes(), body.unwrap_or_default()].concat())
            .and_then(|()| connection.flush())
            .map_err(|cause| not_http(cause.to_string()))?;
        let mut bytes = Vec::new();
        let mut part = [0; 4096];
        while !http::is_complete(&bytes) {
            match connection.read(&mut part) {
                Ok(0) => break,
                Ok(count) => bytes.extend_from_slice(&part[..count]),
                // A server that closes without a farewell has answered all the same.
                Err(_) if !bytes.is_empty() => break,
                Err(cause) => return Err(not_http(cause.to_string())),
            }
            if bytes.len() > allowed.answer {
                return Err(not_http(format!("its answer is longer than {} KiB", allowed.answer >> 10)));
            }
        }
        http::parse(&bytes).ok_or_else(|| not_http("what it sends has no status line".to_owned()))
    }
}

fn head(host: &str, path: &str, body: Option<&[u8]>, last: bool) -> String {
    let (method, length) = match body {
        None => ("GET", String::new()),
        Some(body) => {
            ("POST", format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()))
        }
    };
    let close = if last { "Connection: close\r\n" } else { "" };
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n{length}{close}\r\n")
}

fn in_handshake(address: &str, cause: &io::Error, first: &[u8]) -> Failure {
    let address = address.to_owned();
    if first.starts_with(b"HTTP/") || first.starts_with(b"<") {
        return Failure::PlainHttp { address };
    }
    let tls = cause.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match (tls, cause.kind()) {
        (Some(rustls::Error::InvalidMessage(_)), _) => Failure::NotTls { address },
        (Some(rustls::Error::InvalidCertificate(why)), _) => {
            Failure::NotTrusted { address, why: why.to_string() }
        }
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

/// A connection that remembers how the other side began, and that ends in time however slowly it drips.
struct Watched {
    stream: TcpStream,
    first: Vec<u8>,
    pause: Duration,
    end: Instant,
}

/// Bytes that tell what the other side speaks.
const FIRST: usize = 16;

impl Watched {
    fn limit(&self) -> io::Result<()> {
        let left = self.end.saturating_duration_since(Instant::now()).min(self.pause);
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
