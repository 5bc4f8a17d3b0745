//! Why two ends did not come to trust each other, in words that say what to do.

use super::TlsFiles;
use disk::Class;
use rustls::{AlertDescription, CertificateError};
use std::io;

/// Why a TLS handshake failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeProblem {
    /// The name to connect to cannot stand in a certificate.
    #[error("this is neither a host name nor an IP address; correct the configured address")]
    BadServerName,
    /// The peer's certificate comes from elsewhere.
    #[error(
        "its certificate is not signed by the CA in {ca}; give both ends certificates of the same CA, or configure \
         the CA that issued the peer's"
    )]
    UnknownIssuer {
        /// Our CA file.
        ca: String,
    },
    /// The peer's certificate is no longer, or not yet, valid.
    #[error("its certificate {what}; renew it, or correct the clock of the machine that is wrong")]
    OutOfDate {
        /// "has expired" or "is not valid yet".
        what: &'static str,
    },
    /// The server's certificate is for another name.
    #[error(
        "its certificate is for another name ({cause}); connect by a name in the certificate, or issue a new one"
    )]
    OtherName {
        /// Which names were expected and found.
        cause: rustls::Error,
    },
    /// The peer's certificate is wrong in another way.
    #[error("its certificate is not acceptable: {cause}")]
    BadCertificate {
        /// What is wrong with it.
        cause: rustls::Error,
    },
    /// The client showed no certificate.
    #[error("it presented no certificate; configure a certificate and key for it")]
    NoCertificate,
    /// The peer does not want our certificate.
    #[error("it refused our certificate ({alert:?}); {}", alert_advice(*alert))]
    Refused {
        /// The peer's word.
        alert: AlertDescription,
    },
    /// Whoever answers there knows nobody by the name that was asked for, as a process server does.
    #[error(
        "nobody of this name is known there; where a process server answers, server_name has to be a name that its \
         [[master_targets]] gives"
    )]
    UnknownName,
    /// What came back is not TLS.
    #[error("what answers there does not speak TLS; check the port, and whether a proxy stands in the way")]
    NotTls,
    /// The peer speaks only older versions.
    #[error("it does not offer TLS 1.3 with a cipher that we accept ({cause}); update it")]
    Incompatible {
        /// What is missing.
        cause: rustls::Error,
    },
    /// The connection ended in the middle.
    #[error("the connection was closed during the handshake; the log of the other end says why")]
    Closed,
    /// Anything else.
    #[error("{0}")]
    Other(io::Error),
}

impl HandshakeProblem {
    /// What a caller should do about it.
    pub fn class(&self) -> Class {
        match self {
            HandshakeProblem::Closed | HandshakeProblem::Other(_) => Class::Retry,
            HandshakeProblem::NotTls => Class::Peer,
            _ => Class::Operator,
        }
    }

    pub(super) fn of(cause: &io::Error, files: &TlsFiles) -> HandshakeProblem {
        match rustls_error(cause) {
            Some(error) => HandshakeProblem::of_rustls(error, files),
            None if closed(cause) => HandshakeProblem::Closed,
            None => HandshakeProblem::Other(io::Error::new(cause.kind(), cause.to_string())),
        }
    }

    fn of_rustls(error: &rustls::Error, files: &TlsFiles) -> HandshakeProblem {
        use CertificateError as Bad;
        match error {
            rustls::Error::InvalidCertificate(bad) => match bad {
                Bad::UnknownIssuer | Bad::BadSignature => {
                    HandshakeProblem::UnknownIssuer { ca: files.ca.display().to_string() }
                }
                Bad::Expired | Bad::ExpiredContext { .. } => {
                    HandshakeProblem::OutOfDate { what: "has expired" }
                }
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                    HandshakeProblem::OutOfDate { what: "is not valid yet" }
                }
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                    HandshakeProblem::OtherName { cause: error.clone() }
                }
                _ => HandshakeProblem::BadCertificate { cause: error.clone() },
            },
            rustls::Error::NoCertificatesPresented => HandshakeProblem::NoCertificate,
            rustls::Error::AlertReceived(alert) if of_certificate(*alert) => {
                HandshakeProblem::Refused { alert: *alert }
            }
            rustls::Error::AlertReceived(AlertDescription::UnrecognisedName) => HandshakeProblem::UnknownName,
            rustls::Error::InvalidMessage(_) => HandshakeProblem::NotTls,
            rustls::Error::PeerIncompatible(_) | rustls::Error::AlertReceived(_) => {
                HandshakeProblem::Incompatible { cause: error.clone() }
            }
            _ => HandshakeProblem::Other(io::Error::other(error.clone())),
        }
    }

    /// The refusal of our certificate, when that is what an error of an established connection says.
    pub(crate) fn of_late_alert(cause: &io::Error) -> Option<HandshakeProblem> {
        match rustls_error(cause)? {
            rustls::Error::AlertReceived(alert) if of_certificate(*alert) => {
                Some(HandshakeProblem::Refused { alert: *alert })
            }
            _ => None,
        }
    }
}

fn rustls_error(cause: &io::Error) -> Option<&rustls::Error> {
    cause.get_ref()?.downcast_ref()
}

fn closed(cause: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(cause.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

fn of_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::CertificateRequired
            | Alert::UnsupportedCertificate
            | Alert::AccessDenied
            | Alert::DecryptError
    )
}

fn alert_advice(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CertificateExpired => "renew it, or correct the clock of the machine that is wrong",
        AlertDescription::CertificateRequired => "it wants one: configure a certificate and key",
        _ => "it must be signed by a CA that the other end is configured with; its log says more",
    }
}
