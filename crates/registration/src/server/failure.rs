//! Why a server could not be talked to, and what to do about it.

use crate::explain::Explanation;
use control_api::VERSION_PATH;
use std::fmt;

/// Why a server could not be talked to, or is not the one wanted. `address` is how the server is called, `why` what the
/// system or the library says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the two fields are told above, and each message tells its variant")]
pub enum Failure {
    Unresolved { name: String, why: String },
    Refused { address: String },
    Filtered { address: String },
    Unreachable { address: String, why: String },
    PlainHttp { address: String },
    NotTls { address: String },
    ClosedInHandshake { address: String },
    HandshakeRefused { address: String, why: String },
    NotTrusted { address: String, why: String },
    NotHttp { address: String, why: String },
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

    /// What went wrong, why, and what to do.
    pub fn explain(&self) -> Explanation {
        let (code, what, why) = self.parts();
        let why = match self.in_between() {
            true => format!("{why}; the old product's word for it was (35) SSL connect error"),
            false => why,
        };
        Explanation::new(code, what, why, self.next())
    }

    /// Code, what and why.
    fn parts(&self) -> (&'static str, String, String) {
        match self {
            Failure::Unresolved { name, why } => {
                ("unresolved", format!("the name {name} has no address"), format!("the resolver says: {why}"))
            }
            Failure::Refused { address } => (
                "refused",
                format!("{address} refuses connections"),
                "nothing listens there, or a firewall rejects them".into(),
            ),
            Failure::Filtered { address } => (
                "filtered",
                format!("{address} does not answer within 5 s"),
                "a firewall drops what is sent there, or the server is down".into(),
            ),
            Failure::Unreachable { address, why } => {
                ("unreachable", format!("there is no way to {address}"), format!("the system says: {why}"))
            }
            Failure::PlainHttp { address } => (
                "plain-http",
                format!("{address} answers in plain HTTP, not TLS"),
                "a proxy stands in between, or the port is another".into(),
            ),
            Failure::NotTls { address } => (
                "not-tls",
                format!("{address} answers, but not in TLS"),
                "another service listens there, or something in between answers for it".into(),
            ),
            Failure::ClosedInHandshake { address } => (
                "closed-in-handshake",
                format!("{address} closes the connection during the TLS handshake"),
                "something in between does not let it through".into(),
            ),
            Failure::HandshakeRefused { address, why } => (
                "handshake-refused",
                format!("{address} refuses the TLS handshake"),
                format!(
                    "it says: {why}. Something in between speaks an older TLS, or does not let it through"
                ),
            ),
            Failure::NotTrusted { address, why } => (
                "not-trusted",
                format!(
                    "{address} shows a certificate that is not of the configuration server that this machine is \
                     registered with"
                ),
                why.clone(),
            ),
            Failure::NotHttp { address, why } => {
                ("not-http", format!("{address} speaks TLS but does not answer as HTTP"), why.clone())
            }
            Failure::AnotherServer { address, status } => (
                "another-server",
                format!("{address} is a web server, but no configuration server"),
                format!("it answers {status} to {VERSION_PATH}, and not with the version of one"),
            ),
        }
    }

    fn next(&self) -> Vec<String> {
        let steps: &[&str] = match self {
            Failure::Unresolved { name, .. } => {
                return vec![
                    "compare it with the configuration server's own name: `hostname -f` there".into(),
                    format!("if it is right, add it to DNS, or a line `ADDRESS {name}` to /etc/hosts here"),
                    "or give the configuration server by its address: `-i ADDRESS`".into(),
                ];
            }
            Failure::Filtered { address } => {
                return vec![
                    "look whether the configuration server is up, and has this address: `ip address` there"
                        .into(),
                    format!(
                        "open TCP from this machine to {address} in every firewall on the way: of both sites, of the \
                         VPN, of the server itself"
                    ),
                    format!(
                        "`mtctl check --only configuration-server --cs {address}` tells when a master target gets through"
                    ),
                ];
            }
            Failure::PlainHttp { address } | Failure::NotTls { address } => {
                return vec![
                    "look whether address and port are those of the configuration server: `listen` in \
                     /etc/master-target/configserver.toml on it tells the port"
                        .into(),
                    except(address),
                ];
            }
            Failure::ClosedInHandshake { address } => {
                return vec![
                    "look whether the connection gets to the configuration server: `ss -tn` there shows it, when it does"
                        .into(),
                    except(address),
                ];
            }
            Failure::HandshakeRefused { address, .. } => return direct(address),
            Failure::Refused { .. } => &[
                "on the configuration server, look whether it runs, and start it: `systemctl status \
                 master-target-configserver`, `systemctl start master-target-configserver`",
                "look which port it listens at (`listen` in /etc/master-target/configserver.toml there), and give that \
                 with `--port` when it is not 443",
                "if both are right, let the firewall on the way accept the connection",
            ],
            Failure::Unreachable { .. } => &[
                "look at the route and the VPN to the configuration server: `ip route get ADDRESS`",
                "if the address is wrong, give the right one with `-i`",
            ],
            Failure::NotTrusted { .. } => &[
                "look whether the address leads to the right server",
                "if that one was made anew, register with it again",
            ],
            Failure::NotHttp { .. } | Failure::AnotherServer { .. } => &[
                "give address and port of the configuration server: `listen` in /etc/master-target/configserver.toml on \
                 it tells the port",
                "if these are right, another program has its port there: `ss -ltnp` on it shows which",
            ],
        };
        steps.iter().map(|step| (*step).to_owned()).collect()
    }
}

/// What to do about somebody who shows a certificate of his own.
pub(crate) fn direct(address: &str) -> Vec<String> {
    vec![
        format!(
            "see who answers: `openssl s_client -connect {address} </dev/null` shows whose certificate it is; the \
             configuration server's is of \"Master target configuration server authority\""
        ),
        except(address),
        "if it is another service, give address and port of the configuration server".to_owned(),
    ]
}

fn except(address: &str) -> String {
    format!(
        "if it is a proxy, or a device that looks into TLS: have this machine excepted from it for {address}. \
         `mtctl check --only proxy` lists the proxies that are set on a master target"
    )
}

/// In a sentence, without what to do.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, what, why) = self.parts();
        write!(f, "{what}: {why}")
    }
}

impl std::error::Error for Failure {}
