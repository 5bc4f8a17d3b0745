//! Messages by e-mail: plain text, one mail for all events of a message.

use super::failure::Failure;
use super::settings::{Encryption, Mail};
use super::{Message, files, smtp, text};
use control_api::registration::valid_host_name;
use lettre::message::SinglePart;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::extension::ClientId;
use std::time::Duration;
use tokio::time::timeout;

/// Time for a mail, from the name of the server to its last word.
const LIMIT: Duration = Duration::from_secs(60);

/// Sends a message; the recipients that were refused, when others were not.
pub(super) async fn deliver(mail: &Mail, message: &Message) -> Result<Option<Failure>, Failure> {
    let written = write(mail, message)?;
    let credentials = match (&mail.user, &mail.password_file) {
        (Some(user), Some(file)) => {
            Some(Credentials::new(user.clone(), files::secret("password_file", file)?))
        }
        _ => None,
    };
    let tls = match mail.encryption {
        Encryption::None => None,
        Encryption::Starttls | Encryption::Tls => {
            Some(files::tls(files::authorities(mail.ca_file.as_deref())?)?)
        }
    };
    let order = smtp::Order {
        server: &mail.server,
        encryption: mail.encryption,
        tls,
        credentials,
        hello: hello(),
        from: &mail.from.0,
        to: mail.to.iter().map(|to| &to.0).collect(),
        message: written,
    };
    let sent = timeout(LIMIT, smtp::send(&order)).await;
    let refused = sent.map_err(|_| Failure::slow(&mail.server, LIMIT))??;
    Ok(match refused.is_empty() {
        true => None,
        false => Some(Failure::new(
            format!("{} refuses some recipients: {}", mail.server, refused.join(", ")),
            "correct to in [mail]; the others get the mails",
        )),
    })
}

/// What this machine calls itself to a mail server.
fn hello() -> ClientId {
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let own = own.trim();
    match valid_host_name(own) {
        true => ClientId::Domain(own.to_owned()),
        false => ClientId::default(),
    }
}

/// The mail as it is sent. One that is repeated has the same Message-ID, by which mail programs know it again.
fn write(mail: &Mail, message: &Message) -> Result<Vec<u8>, Failure> {
    let from = &mail.from.0;
    let mut builder = lettre::Message::builder()
        .from(from.clone())
        .subject(message.subject())
        .message_id(Some(format!("<{}@{}>", message.id, from.email.domain())))
        .header(AutoSubmitted);
    for to in &mail.to {
        builder = builder.to(to.0.clone());
    }
    let text = text::body(&message.due, message.events_page().as_deref());
    let text = format!("{text}\n-- \nmt-configserver {}, message {}\n", message.server, message.id);
    let written = builder.singlepart(SinglePart::plain(text));
    let written = written
        .map_err(|cause| Failure::new(format!("the mail cannot be written: {cause}"), "report this"))?;
    Ok(written.formatted())
}

/// Tells programs not to answer (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<AutoSubmitted, Box<dyn std::error::Error + Send + Sync>> {
        Ok(AutoSubmitted)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(AutoSubmitted::name(), "auto-generated".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::text::tests::due;
    use control_api::Severity;

    fn mail() -> Mail {
        toml::from_str(
            "server = \"localhost:25\"\nencryption = \"none\"\nfrom = \"MT <mt@example.com>\"\nto = [\"ops@example.com\"]\n",
        )
        .unwrap()
    }

    #[test]
    fn no_text_of_an_event_becomes_a_header() {
        let hostile = "it\r\nBcc: everybody@example.com\r\n\r\n\0.\r\nQUIT \u{2028}ünï \u{202e}";
        let mut event = due(1, Severity::Critical, hostile);
        event.event.object = hostile.into();
        event.event.cause = format!("{hostile}\n.\n");
        event.event.kind = hostile.into();
        let message =
            Message { id: "a-1-1-2".into(), server: "a".into(), portal: None, test: false, due: vec![event] };
        let written = String::from_utf8(write(&mail(), &message).unwrap()).unwrap();
        assert!(written.is_ascii());
        let (head, _) = written.split_once("\r\n\r\n").unwrap();
        let names: Vec<&str> = head
            .split("\r\n")
            .filter(|line| !line.starts_with(' '))
            .map(|line| line.split(':').next().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "From",
                "Subject",
                "Message-ID",
                "Auto-Submitted",
                "To",
                "MIME-Version",
                "Date",
                "Content-Type",
                "Content-Transfer-Encoding"
            ]
        );
    }
}
