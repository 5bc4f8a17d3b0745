//! What a server answers that this machine is to talk to.
//!
//! A configuration server is asked for its version, as anybody may: connect, TLS, one request, one bounded answer.
//! Each step that fails is told apart, since each has another cause: a name without an address, a port that refuses
//! or does not answer, a proxy that speaks plain HTTP, something that is no TLS, a server that is another. The answer
//! also tells the server's clock, to one second, and its certificate how long that is valid.

pub mod certificate;
pub(crate) mod connection;
mod failure;
pub mod http;
pub(crate) mod trust;

pub use failure::Failure;
pub(crate) use failure::direct;

use certificate::Validity;
use connection::{Connection, connect};
use control_api::{PRODUCT, Release, ServerVersion, VERSION_PATH};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time for the name, for each address, and for each pause of the server.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A server that this machine connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name or address.
    pub address: String,
    /// Its port.
    pub port: u16,
}

/// Whether a text can be the DNS name or IP address of a server.
pub fn valid_address(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    text.parse::<std::net::IpAddr>().is_ok() || (text.len() <= 253 && text.split('.').all(label))
}

/// What is known of a configuration server after it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its version, or why there is none.
    pub version: Result<ServerVersion, Failure>,
    /// Its clock, in seconds since the epoch, and ours when the answer came.
    pub clock: Option<(u64, u64)>,
    /// When its certificate is valid.
    pub certificate: Option<Validity>,
}

/// An address as one types it: a name or IP address, with or without a port.
pub fn parse_address(text: &str, port: u16) -> Option<Server> {
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
pub fn shown(server: &Server) -> String {
    let Server { address, port } = server;
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// Opens a TCP connection and closes it again.
pub fn reach(server: &Server) -> Result<(), Failure> {
    connect(server).map(drop)
}

/// Asks a configuration server for its version.
pub fn ask(server: &Server) -> Answer {
    let mut answer =
        Answer { version: Err(Failure::NotTls { address: shown(server) }), clock: None, certificate: None };
    answer.version = connect(server)
        .and_then(|stream| Connection::open(server, stream, trust::anyone(&server.address)))
        .and_then(|mut connection| {
            answer.certificate = connection.validity();
            version(server, &mut connection, true, &mut answer.clock)
        });
    answer
}

/// The version of the server at the other end of a connection; `last` ends that. The clocks are noted as soon as they
/// are known.
pub(crate) fn version(
    server: &Server,
    connection: &mut Connection,
    last: bool,
    clock: &mut Option<(u64, u64)>,
) -> Result<ServerVersion, Failure> {
    let reply = connection.exchange(VERSION_PATH, None, last)?;
    *clock = reply.date.map(|theirs| (theirs, seconds_now()));
    let version: Option<ServerVersion> = serde_json::from_slice(&reply.body).ok();
    let good = |version: &ServerVersion| {
        reply.status == 200 && version.product == PRODUCT && Release::parse(&version.version).is_some()
    };
    version
        .filter(good)
        .ok_or_else(|| Failure::AnotherServer { address: shown(server), status: reply.status })
}

/// Seconds since the epoch, by this machine's clock.
pub fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
