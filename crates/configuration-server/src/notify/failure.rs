//! Why a message was not delivered, and what to do about it.

use super::text::clean;
use std::fmt;
use std::io;
use std::time::Duration;

/// Characters of what another program said that are shown.
const SAID: usize = 200;

/// Why a message was not delivered. It never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) why: String,
    pub(crate) next: String,
}

impl Failure {
    pub(crate) fn new(why: impl Into<String>, next: impl Into<String>) -> Failure {
        Failure { why: why.into(), next: next.into() }
    }

    /// The other end `at` did not keep to its time.
    pub(crate) fn slow(at: impl fmt::Display, limit: Duration) -> Failure {
        Failure::new(
            format!("{at} did not finish within {} s", limit.as_secs()),
            "look whether it works and whether a firewall is in between",
        )
    }

    /// The connection to `at` failed.
    pub(crate) fn network(at: impl fmt::Display, cause: &io::Error) -> Failure {
        if let Some(tls) = cause.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Failure::tls(at, tls);
        }
        let next = match cause.kind() {
            io::ErrorKind::ConnectionRefused => "start it, or correct its address and port",
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                "look whether it works and whether a firewall is in between"
            }
            io::ErrorKind::InvalidData => "look whether another service has this port",
            _ => "look at its address and at the network; it is tried again",
        };
        Failure::new(format!("{at}: {}", said(&cause.to_string())), next)
    }

    /// TLS with `at` failed.
    pub(crate) fn tls(at: impl fmt::Display, cause: &rustls::Error) -> Failure {
        match cause {
            rustls::Error::InvalidCertificate(why) => Failure::new(
                format!("the certificate of {at} is not to be trusted: {}", said(&format!("{why:?}"))),
                "name the file of its authority with ca_file, or correct its address or certificate; it may also be \
                 somebody else who answers there",
            ),
            other => Failure::new(
                format!("no TLS with {at}: {}", said(&other.to_string())),
                "look whether this port speaks TLS from the start",
            ),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.why, self.next)
    }
}

/// What another program said, fit to be shown in one line.
pub(crate) fn said(text: &str) -> String {
    clean(text, SAID)
}
