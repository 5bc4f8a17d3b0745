//! A conversation with a mail server: RFC 5321, with STARTTLS (RFC 3207) and AUTH.
//!
//! Commands and replies are lettre's. The conversation itself is not, for its limits: a reply has few bytes, whatever
//! the server sends, and nothing that it sent before TLS counts afterwards. How long it may take as a whole is up to
//! who waits for it.

use super::failure::{Failure, said};
use super::settings::{Encryption, MailServer};
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::commands::{Auth, Data, Ehlo, Mail, Quit, Rcpt, Starttls};
use lettre::transport::smtp::extension::{ClientId, Extension, ServerInfo};
use lettre::transport::smtp::response::{Response, Severity};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Time for a connection to one address.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Addresses that are tried.
const MAX_ADDRESSES: usize = 4;
/// Bytes of a reply.
const MAX_REPLY: usize = 16 << 10;
/// Rounds of an authentication.
const MAX_CHALLENGES: usize = 4;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What is to be sent, and how.
pub(crate) struct Order<'a> {
    pub(crate) server: &'a MailServer,
    pub(crate) encryption: Encryption,
    /// Needed unless the encryption is none.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) credentials: Option<Credentials>,
    /// What this machine calls itself.
    pub(crate) hello: ClientId,
    pub(crate) from: &'a Mailbox,
    pub(crate) to: Vec<&'a Mailbox>,
    /// The message, with CR LF at the end of each line.
    pub(crate) message: Vec<u8>,
}

/// Sends a message. It arrived for all that are not among the refused ones that are returned.
pub(crate) async fn send(order: &Order<'_>) -> Result<Vec<String>, Failure> {
    let server = order.server;
    let socket = connect(server).await?;
    let mut conversation = Conversation { server, stream: Box::new(socket), received: Vec::new() };
    if order.encryption == Encryption::Tls {
        conversation = conversation.encrypted(order.tls.as_ref()).await?;
    }
    conversation.reply("the connection").await?;
    let mut info = conversation.hello(&order.hello).await?;
    if order.encryption == Encryption::Starttls {
        if !info.supports_feature(Extension::StartTls) {
            return Err(Failure::new(
                format!("{server} does not offer STARTTLS, so nothing was sent"),
                "use encryption = \"tls\" with its port for that (465), or switch STARTTLS on there; if it offered it \
                 before, somebody in between may have taken it away",
            ));
        }
        conversation.command("STARTTLS", Starttls).await?;
        conversation = conversation.encrypted(order.tls.as_ref()).await?;
        info = conversation.hello(&order.hello).await?;
    }
    if let Some(credentials) = &order.credentials {
        conversation.authenticate(&info, credentials).await?;
    }
    let refused = conversation.envelope(order).await?;
    conversation.command("DATA", Data).await?;
    conversation.write(&dotted(&order.message)).await?;
    conversation.command_as_is("the message", ".\r\n").await?;
    // It has the message; how it takes the farewell does not matter.
    let _ = conversation.command("QUIT", Quit).await;
    Ok(refused)
}

async fn connect(server: &MailServer) -> Result<TcpStream, Failure> {
    let addresses = tokio::net::lookup_host((server.host.as_str(), server.port)).await.map_err(|cause| {
        Failure::new(
            format!("the name {} has no address: {}", server.host, said(&cause.to_string())),
            "correct server in [mail], or add the name to DNS or to /etc/hosts",
        )
    })?;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses.take(MAX_ADDRESSES) {
        match timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "it does not answer"),
        }
    }
    Err(Failure::network(server, &last))
}

struct Conversation<'a> {
    server: &'a MailServer,
    stream: Box<dyn Stream>,
    /// What has come and is not read yet.
    received: Vec<u8>,
}

impl<'a> Conversation<'a> {
    async fn encrypted(self, tls: Option<&Arc<ClientConfig>>) -> Result<Conversation<'a>, Failure> {
        let Conversation { server, stream, received } = self;
        let unusable = |why: &str| Failure::new(format!("{server}: {why}"), "correct server in [mail]");
        if !received.is_empty() {
            return Err(unusable("it spoke before TLS had begun, or somebody in between did"));
        }
        let config = tls.ok_or_else(|| unusable("no TLS was made ready"))?.clone();
        let name = ServerName::try_from(server.host.clone()).map_err(|_| unusable("no name for TLS"))?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        let stream = stream.map_err(|cause| Failure::network(server, &cause))?;
        Ok(Conversation { server, stream: Box::new(stream), received })
    }

    async fn hello(&mut self, name: &ClientId) -> Result<ServerInfo, Failure> {
        let reply = self.command("EHLO", Ehlo::new(name.clone())).await?;
        ServerInfo::from_response(&reply).map_err(|cause| self.misunderstood(&cause.to_string()))
    }

    async fn authenticate(&mut self, info: &ServerInfo, credentials: &Credentials) -> Result<(), Failure> {
        let server = self.server;
        let Some(mechanism) = info.get_auth_mechanism(DEFAULT_MECHANISMS) else {
            return Err(Failure::new(
                format!("{server} does not offer a log-in with user and password"),
                "leave out user and password_file if it needs none, or use the port for submission (587 or 465)",
            ));
        };
        let bad = |_| {
            Failure::new(format!("{server}: the log-in cannot be made"), "look at user and password_file")
        };
        let mut command = Auth::new(mechanism, credentials.clone(), None).map_err(bad)?;
        for _ in 0..MAX_CHALLENGES {
            self.write(command.to_string().as_bytes()).await?;
            // What it says now may hold what it was sent, so only its number is shown.
            let reply = self.read_reply().await?;
            if reply.has_code(334) {
                command = Auth::new_from_response(mechanism, credentials.clone(), &reply).map_err(bad)?;
                continue;
            }
            return match reply.is_positive() {
                true => Ok(()),
                false => Err(Failure::new(
                    format!("{server} refuses user or password (it answers {})", reply.code()),
                    "correct user in [mail] and what is in password_file",
                )),
            };
        }
        Err(self.misunderstood("it asks again and again during the log-in"))
    }

    /// From whom and to whom; the recipients that are refused for good, while others are not.
    async fn envelope(&mut self, order: &Order<'_>) -> Result<Vec<String>, Failure> {
        self.command("the sender", Mail::new(Some(order.from.email.clone()), Vec::new())).await?;
        let mut refused = Vec::new();
        for to in &order.to {
            self.write(Rcpt::new(to.email.clone(), Vec::new()).to_string().as_bytes()).await?;
            let reply = self.read_reply().await?;
            if reply.is_positive() {
                continue;
            }
            refused.push(format!("{}: {}", to.email, shown(&reply)));
            // It may accept this one later. Then all get the message, so that nobody gets it twice.
            if reply.code().severity != Severity::PermanentNegativeCompletion
                || refused.len() == order.to.len()
            {
                return Err(Failure::new(
                    format!("{} refuses the recipient {}", self.server, refused.join(", ")),
                    "correct to in [mail], or have the mail server accept it",
                ));
            }
        }
        Ok(refused)
    }

    /// `what` is what is refused, when it is.
    async fn command(&mut self, what: &str, command: impl Display) -> Result<Response, Failure> {
        self.command_as_is(what, &command.to_string()).await
    }

    async fn command_as_is(&mut self, what: &str, command: &str) -> Result<Response, Failure> {
        self.write(command.as_bytes()).await?;
        self.reply(what).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|cause| Failure::network(self.server, &cause))
    }

    async fn reply(&mut self, what: &str) -> Result<Response, Failure> {
        let reply = self.read_reply().await?;
        match reply.is_positive() {
            true => Ok(reply),
            false => Err(Failure::new(
                format!("{} refuses {what}: {}", self.server, shown(&reply)),
                "look into the log of the mail server, and at [mail]",
            )),
        }
    }

    async fn read_reply(&mut self) -> Result<Response, Failure> {
        loop {
            if let Some(end) = reply_end(&self.received) {
                let reply: Vec<u8> = self.received.drain(..end).collect();
                let text = String::from_utf8_lossy(&reply);
                return text.parse().map_err(|_| self.misunderstood(&text));
            }
            if self.received.len() > MAX_REPLY {
                return Err(self.misunderstood("its reply has no end"));
            }
            let mut part = [0; 4096];
            let length =
                self.stream.read(&mut part).await.map_err(|cause| Failure::network(self.server, &cause))?;
            if length == 0 {
                return Err(Failure::new(
                    format!("{} closes the connection", self.server),
                    "look into its log; a port for TLS needs encryption = \"tls\", another one \"starttls\"",
                ));
            }
            self.received.extend_from_slice(&part[..length]);
        }
    }

    fn misunderstood(&self, said_there: &str) -> Failure {
        Failure::new(
            format!("{} answers what no mail server answers: {}", self.server, said(said_there)),
            "correct address and port in [mail]; a port for TLS needs encryption = \"tls\"",
        )
    }
}

fn shown(reply: &Response) -> String {
    said(&format!("{} {}", reply.code(), reply.message().collect::<Vec<_>>().join(" ")))
}

/// Where the first reply ends: after the first line that has no dash behind its number.
fn reply_end(received: &[u8]) -> Option<usize> {
    let mut end = 0;
    for line in received.split_inclusive(|byte| *byte == b'\n') {
        end += line.len();
        if line.ends_with(b"\n") && line.get(3) != Some(&b'-') {
            return Some(end);
        }
    }
    None
}

/// The message with another dot before each one that begins a line, and a line end at its end.
fn dotted(message: &[u8]) -> Vec<u8> {
    let mut dotted = Vec::with_capacity(message.len() + 16);
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            dotted.push(b'.');
        }
        dotted.extend_from_slice(line);
    }
    if !dotted.ends_with(b"\r\n") {
        dotted.extend_from_slice(b"\r\n");
    }
    dotted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_ends_with_the_first_line_without_a_dash() {
        assert_eq!(reply_end(b"250-a\r\n250-b\r\n250 c\r\n220"), Some(21));
        assert_eq!(reply_end(b"220 x\r\n"), Some(7));
        assert_eq!(reply_end(b"\n"), Some(1));
        for unfinished in [&b"250-a\r\n250-b\r\n"[..], b"250 c", b""] {
            assert_eq!(reply_end(unfinished), None);
        }
    }

    #[test]
    fn a_message_cannot_end_before_its_end() {
        assert_eq!(dotted(b"a\r\n.\r\nQUIT\r\n..b"), b"a\r\n..\r\nQUIT\r\n...b\r\n");
        assert_eq!(dotted(b""), b"\r\n");
    }
}
