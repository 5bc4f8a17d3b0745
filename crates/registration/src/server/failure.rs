//! Why a server could not be talked to, and what to do about it.

use control_api::VERSION_PATH;

/// Why a server could not be talked to, or is not the one wanted. `address` is how the server is called, `why` what the
/// system or the library says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the two fields are told above, and each message tells its variant")]
pub enum Failure {
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
    #[error(
        "{address} shows a certificate that is not of the configuration server that this machine is registered with: \
         {why}"
    )]
    NotTrusted { address: String, why: String },
    #[error("{address} speaks TLS but does not answer as HTTP: {why}")]
    NotHttp { address: String, why: String },
    #[error("{address} is a web server, but no configuration server: it answers {status} to {VERSION_PATH}")]
    AnotherServer { address: String, status: u16 },
}

impl Failure {
    /// Whether it looks like a proxy or another device in between: what the old product called (35).
    pub fn in_between(&self) -> bool {
        matches!(
            self,
            Failure::PlainHttp { .. }
                | Failure::NotTls { .. }
                | Failure::ClosedInHandshake { .. }
                | Failure::HandshakeRefused { .. }
        )
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Failure::Unresolved { .. } => {
                "give the configuration server by an address or by a name that this machine resolves: add it to DNS or \
                 to /etc/hosts"
            }
            Failure::Refused { .. } => {
                "start the configuration server (systemctl start master-target-configserver), or give the port that it \
                 listens at with --port"
            }
            Failure::Filtered { .. } => {
                "open the port to the configuration server in every firewall (443 by default), and look whether the \
                 server is up"
            }
            Failure::Unreachable { .. } => {
                "look at the route and the VPN to the configuration server: ip route get"
            }
            Failure::NotTrusted { .. } => {
                "look whether the address leads to the right server; if that one was made anew, register with it again"
            }
            Failure::NotHttp { .. } | Failure::AnotherServer { .. } => {
                "give address and port of the configuration server; on it, mtctl check --cs shows what answers there"
            }
            Failure::PlainHttp { .. }
            | Failure::NotTls { .. }
            | Failure::ClosedInHandshake { .. }
            | Failure::HandshakeRefused { .. } => {
                "this is the old product's \"(35) SSL connect error\": let this machine connect directly, without a \
                 proxy or a device that looks into TLS (mtctl check --only proxy)"
            }
        }
    }
}
