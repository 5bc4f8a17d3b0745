//! What can go wrong between two machines.

use crate::tls::{CredentialProblem, HandshakeProblem};
use disk::Class;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A connection, a handshake or a credential that failed: which, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A certificate or key file cannot be used.
    #[error("cannot use {} as {role}: {problem}", path.display())]
    Credential {
        /// What the file is for: "the certificate", "the private key", "the CA".
        role: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: CredentialProblem,
    },
    /// A host name has no address.
    #[error(
        "cannot connect to {address}: the name cannot be resolved ({cause}); check its spelling and the DNS"
    )]
    Unresolvable {
        /// Host and port as configured.
        address: String,
        /// The resolver's word.
        cause: io::Error,
    },
    /// Nobody answered in time.
    #[error(
        "cannot connect to {address}: no answer within {} s; check that the machine is up and that no firewall \
         drops connections to this port",
        after.as_secs()
    )]
    ConnectTimeout {
        /// Host and port as configured.
        address: String,
        /// How long was waited.
        after: Duration,
    },
    /// The connection was not accepted.
    #[error("cannot connect to {address}: {}", advice(cause))]
    Connect {
        /// Host and port as configured.
        address: String,
        /// The operating system's word.
        cause: io::Error,
    },
    /// A port or socket cannot be listened at.
    #[error("cannot listen at {address}: {cause}; choose a free address, or stop the program that has it")]
    Listen {
        /// Address or path as configured.
        address: String,
        /// The operating system's word.
        cause: io::Error,
    },
    /// Two ends did not come to trust each other.
    #[error("TLS with {peer} failed: {problem}")]
    Handshake {
        /// The other end.
        peer: String,
        /// Why.
        problem: HandshakeProblem,
    },
    /// The other end sent nothing for too long where it had to.
    #[error("{peer} did not finish {what} within {} s; the connection is given up", after.as_secs())]
    Silent {
        /// The other end.
        peer: String,
        /// What was waited for.
        what: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// An established connection broke.
    #[error("the connection to {peer} broke while {doing}: {cause}")]
    Broken {
        /// The other end.
        peer: String,
        /// "receiving" or "sending".
        doing: &'static str,
        /// The operating system's word.
        cause: io::Error,
    },
    /// The other end went away in the middle of a frame.
    #[error("{peer} closed the connection in the middle of a frame ({arrived} bytes of it arrived)")]
    CutShort {
        /// The other end.
        peer: String,
        /// Bytes of the unfinished frame that did arrive.
        arrived: usize,
    },
    /// What arrived is not a change stream.
    #[error("what {peer} sent is not a valid change stream: {cause}")]
    Received {
        /// The other end.
        peer: String,
        /// What is wrong, and where in the stream.
        cause: change_stream::DecodeError,
    },
    /// A frame that may not be sent.
    #[error("a frame for {peer} cannot be sent: {cause}")]
    Unsendable {
        /// The other end.
        peer: String,
        /// Which limit it breaks.
        cause: change_stream::Error,
    },
    /// An NBD client broke the protocol.
    #[error("the NBD client {peer} was cut off: {cause}")]
    Nbd {
        /// The client.
        peer: String,
        /// What it did.
        cause: nbd::Error,
    },
}

impl Error {
    /// What a caller should do about it.
    pub fn class(&self) -> Class {
        match self {
            Error::Credential { .. } | Error::Listen { .. } | Error::Unsendable { .. } => Class::Operator,
            Error::Handshake { problem, .. } => problem.class(),
            Error::Unresolvable { .. }
            | Error::ConnectTimeout { .. }
            | Error::Connect { .. }
            | Error::Silent { .. }
            | Error::Broken { .. }
            | Error::CutShort { .. } => Class::Retry,
            Error::Received { .. } => Class::Peer,
            Error::Nbd { cause, .. } => cause.class(),
        }
    }

    /// The error of a read or write on an established connection. In TLS 1.3 a server judges the client's
    /// certificate after the client has finished its handshake, so a refusal arrives as an error of the first read.
    pub(crate) fn broken(peer: &str, doing: &'static str, cause: io::Error) -> Error {
        match HandshakeProblem::of_late_alert(&cause) {
            Some(problem) => Error::Handshake { peer: peer.to_owned(), problem },
            None => Error::Broken { peer: peer.to_owned(), doing, cause },
        }
    }
}

fn advice(cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::ConnectionRefused => {
            "connection refused: the machine is up, but nothing listens at this port; check that the service runs \
             there and the port is right"
                .to_owned()
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            format!("{cause}: there is no route to it; check the network, or whether a proxy or VPN is needed")
        }
        io::ErrorKind::PermissionDenied => {
            format!("{cause}: a local firewall or security policy forbids it")
        }
        _ => cause.to_string(),
    }
}
