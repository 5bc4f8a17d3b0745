//! What the configuration says about mail and webhooks. What is wrong is refused here, with the key that says it.

use axum::http::Uri;
use control_api::Severity;
use control_api::registration::valid_host_name;
use lettre::message::Mailbox;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Webhooks.
const MAX_WEBHOOKS: usize = 16;
/// Addresses that mail goes to.
const MAX_RECIPIENTS: usize = 50;
/// Characters of a URL.
const MAX_URL: usize = 2000;
/// The name of the channel that is mail.
pub(crate) const MAIL: &str = "mail";

/// Delivery by e-mail.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// Name or address and port of the mail server.
    pub server: MailServer,
    /// How the connection is protected.
    #[serde(default)]
    pub encryption: Encryption,
    /// Whether mail may go unprotected to another machine.
    #[serde(default)]
    pub allow_unencrypted: bool,
    /// Whom it comes from.
    pub from: Address,
    /// Whom it goes to.
    pub to: Vec<Address>,
    /// User at the mail server.
    pub user: Option<String>,
    /// File that holds the password.
    pub password_file: Option<PathBuf>,
    /// File of the authority that the mail server's certificate is checked with.
    pub ca_file: Option<PathBuf>,
    /// Events of this severity and the worse ones.
    #[serde(default = "warning")]
    pub at_least: Severity,
}

/// How a connection to a mail server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encryption {
    /// TLS after the command STARTTLS; without it nothing is sent.
    #[default]
    Starttls,
    /// TLS from the start.
    Tls,
    /// Not at all.
    None,
}

/// Delivery to a program, by HTTPS.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// What it is called.
    pub name: String,
    /// Where the messages are posted to.
    pub url: Url,
    /// Whether they may go unprotected to another machine.
    #[serde(default)]
    pub allow_unencrypted: bool,
    /// File that holds the secret which they are signed with.
    pub secret_file: Option<PathBuf>,
    /// File of the authority that the server's certificate is checked with.
    pub ca_file: Option<PathBuf>,
    /// Events of this severity and the worse ones.
    #[serde(default = "warning")]
    pub at_least: Severity,
}

fn warning() -> Severity {
    Severity::Warning
}

/// Name or address and port of a mail server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailServer {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for MailServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl<'de> Deserialize<'de> for MailServer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MailServer, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = text.rsplit_once(':').and_then(|(host, port)| {
            let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            let good = valid_host_name(host) || host.parse::<IpAddr>().is_ok();
            let port = port.parse().ok().filter(|port| *port != 0)?;
            good.then(|| MailServer { host: host.to_owned(), port })
        });
        parsed.ok_or_else(|| {
            serde::de::Error::custom("server must be name or address and port, such as \"mail.example:587\"")
        })
    }
}

/// A mail address, with or without a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(pub(crate) Mailbox);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || {
            serde::de::Error::custom(format!(
                "{text:?} is no mail address; write \"ops@example.com\" or \"Operations <ops@example.com>\""
            ))
        };
        if text.chars().any(char::is_control) || text.len() > 320 {
            return Err(wrong());
        }
        let mailbox: Mailbox = text.parse().map_err(|_| wrong())?;
        let address: &str = mailbox.email.as_ref();
        match address.is_ascii() {
            true => Ok(Address(mailbox)),
            false => Err(wrong()),
        }
    }
}

/// Where a webhook, or the portal, is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(pub(crate) Uri);

impl Url {
    fn is_protected(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// The server; paths hold secrets at some services.
    pub(crate) fn server(&self) -> String {
        let authority = self.0.authority().map(|authority| authority.as_str()).unwrap_or_default();
        format!("{}://{authority}", self.0.scheme_str().unwrap_or_default())
    }

    fn host(&self) -> &str {
        self.0.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }
}

impl<'de> Deserialize<'de> for Url {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
        let wrong = |why: &str| {
            let text = format!("{why}; write a URL such as \"https://hooks.example/master-target\"");
            serde::de::Error::custom(text)
        };
        let text = String::deserialize(deserializer)?;
        if text.len() > MAX_URL {
            return Err(wrong("the URL is too long"));
        }
        let uri: Uri = text.parse().map_err(|_| wrong("this is no URL"))?;
        match (uri.scheme_str(), uri.authority()) {
            (Some("https" | "http"), Some(authority)) if authority.as_str().contains('@') => Err(wrong(
                "a password does not belong into the URL: messages are signed with the secret in secret_file",
            )),
            (Some("https" | "http"), Some(_)) => Ok(Url(uri)),
            _ => Err(wrong("a URL begins with https://")),
        }
    }
}

/// Whether a name or address can only be this machine.
fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Mail {
    fn check(&self) -> Result<(), String> {
        let here = is_this_machine(&self.server.host);
        if self.to.is_empty() || self.to.len() > MAX_RECIPIENTS {
            return Err(format!("to must hold 1 to {MAX_RECIPIENTS} addresses"));
        }
        if self.encryption == Encryption::None && !here && !self.allow_unencrypted {
            return Err(
                "encryption = \"none\" would let everybody in between read the mail; use \"starttls\" or \
                        \"tls\", or say allow_unencrypted = true"
                    .to_owned(),
            );
        }
        if self.user.is_some() != self.password_file.is_some() {
            return Err("user and password_file go together; give both or none".to_owned());
        }
        if self.user.is_some() && self.encryption == Encryption::None && !here {
            return Err(
                "a password is not sent unencrypted to another machine; use encryption = \"starttls\" or \
                        \"tls\", or leave out user and password_file"
                    .to_owned(),
            );
        }
        if self.user.as_ref().is_some_and(|user| user.is_empty() || user.chars().any(char::is_control)) {
            return Err("user must be a name".to_owned());
        }
        absolute("password_file", self.password_file.as_deref())?;
        absolute("ca_file", self.ca_file.as_deref())
    }
}

impl Webhook {
    fn check(&self) -> Result<(), String> {
        if !self.url.is_protected() && !is_this_machine(self.url.host()) && !self.allow_unencrypted {
            return Err(
                "url with http:// would let everybody in between read the messages; use https://, or say \
                        allow_unencrypted = true"
                    .to_owned(),
            );
        }
        absolute("secret_file", self.secret_file.as_deref())?;
        absolute("ca_file", self.ca_file.as_deref())
    }
}

fn absolute(key: &str, path: Option<&Path>) -> Result<(), String> {
    match path.is_none_or(Path::is_absolute) {
        true => Ok(()),
        false => Err(format!("{key} must be an absolute path")),
    }
}

/// Checks what one value alone does not show. The error begins with the table that it is about.
pub(crate) fn check(mail: Option<&Mail>, webhooks: &[Webhook], portal: Option<&Url>) -> Result<(), String> {
    if let Some(portal) = portal
        && (portal.0.query().is_some() || !portal.is_protected())
    {
        return Err("portal_url must begin with https:// and have nothing behind a ?".to_owned());
    }
    mail.map_or(Ok(()), Mail::check).map_err(|why| format!("[mail]: {why}"))?;
    if webhooks.len() > MAX_WEBHOOKS {
        return Err(format!("[[webhook]]: there may be at most {MAX_WEBHOOKS}"));
    }
    let mut names = BTreeSet::from([MAIL]);
    for Webhook { name, .. } in webhooks {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > 32 || !name.bytes().all(good) || !names.insert(name) {
            return Err(format!(
                "[[webhook]]: name {name:?} must consist of a-z, 0-9 and -, at most 32 of them, and be neither \"mail\" \
                 nor that of another webhook"
            ));
        }
    }
    let wrong = |hook: &Webhook| hook.check().map_err(|why| format!("[[webhook]] {}: {why}", hook.name));
    webhooks.iter().try_for_each(wrong)
}
