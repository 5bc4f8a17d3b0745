//! Messages to programs: JSON, posted by HTTPS and signed. `docs/formats/webhook.md` describes it for who receives it.

use super::failure::{Failure, said};
use super::settings::Webhook;
use super::{Message, files, text};
use control_api::Severity;
use control_api::registration::Hex;
use control_api::time::{self, SECOND, Time};
use ring::hmac;
use serde::Serialize;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

/// Time for a message, from the name of the server to the end of its answer.
const LIMIT: Duration = Duration::from_secs(30);
/// Time until the thread that posts is no longer waited for.
const LAST_LIMIT: Duration = Duration::from_secs(45);
/// Bytes of an answer that are read.
const MAX_ANSWER: u64 = 4096;
/// Bytes of the head of an answer.
const MAX_HEAD: usize = 16 << 10;
/// A secret of fewer bytes could be guessed.
const MIN_SECRET: usize = 16;

/// The body of a message.
#[derive(Serialize)]
struct Body<'a> {
    version: u32,
    id: &'a str,
    server: &'a str,
    test: bool,
    text: String,
    portal: Option<&'a str>,
    events: Vec<Told>,
}

/// An event in it.
#[derive(Serialize)]
struct Told {
    id: String,
    number: i64,
    time: String,
    severity: Severity,
    kind: String,
    object: String,
    what: String,
    cause: String,
    next: String,
    ends: Option<i64>,
}

fn body(message: &Message) -> Result<Vec<u8>, Failure> {
    let told = |due: &crate::store::deliveries::Due| {
        let event = text::tame(&due.event);
        Told {
            id: message.id_of(&due.event),
            number: event.id,
            time: time::format(event.time),
            severity: event.severity,
            kind: event.kind,
            object: event.object,
            what: event.what,
            cause: event.cause,
            next: event.next,
            ends: due.ends,
        }
    };
    let body = Body {
        version: 1,
        id: &message.id,
        server: &message.server,
        test: message.test,
        text: message.subject(),
        portal: message.portal.as_deref(),
        events: message.due.iter().map(told).collect(),
    };
    serde_json::to_vec(&body).map_err(|cause| Failure::new(cause.to_string(), "report this"))
}

/// `v1=` and the HMAC-SHA256 of time, dot and body.
fn signature(secret: &str, seconds: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(seconds.as_bytes());
    context.update(b".");
    context.update(body);
    format!("v1={}", Hex::from(context.sign().as_ref()))
}

/// Posts a message, on a thread of its own: whatever the other end does, only that thread waits.
pub(super) async fn deliver(hook: &Webhook, message: &Message, now: Time) -> Result<(), Failure> {
    let body = body(message)?;
    let secret = hook.secret_file.as_deref().map(|file| files::secret("secret_file", file)).transpose()?;
    if secret.as_ref().is_some_and(|secret| secret.len() < MIN_SECRET) {
        return Err(Failure::new(
            format!("the secret in secret_file has fewer than {MIN_SECRET} characters"),
            "make a longer one, for example with openssl rand -hex 32, and give it to the receiver too",
        ));
    }
    let seconds = (now / SECOND).to_string();
    let signature = secret.map(|secret| signature(&secret, &seconds, &body));
    let post = Post { hook: hook.clone(), id: message.id.clone(), seconds, signature, body };
    let (sender, outcome) = oneshot::channel();
    std::thread::Builder::new()
        .name("webhook".into())
        .spawn(move || drop(sender.send(post.send())))
        .map_err(|cause| Failure::new(format!("no thread can be started: {cause}"), "it is tried again"))?;
    match timeout(LAST_LIMIT, outcome).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(Failure::new("the thread that posts has ended", "report this")),
        Err(_) => Err(Failure::slow(hook.url.server(), LAST_LIMIT)),
    }
}

struct Post {
    hook: Webhook,
    id: String,
    seconds: String,
    signature: Option<String>,
    body: Vec<u8>,
}

impl Post {
    fn send(self) -> Result<(), Failure> {
        let agent = self.agent()?;
        let mut request = agent
            .post(self.hook.url.0.clone())
            .header("content-type", "application/json")
            .header("x-master-target-delivery", &self.id)
            .header("x-master-target-timestamp", &self.seconds);
        if let Some(signature) = &self.signature {
            request = request.header("x-master-target-signature", signature);
        }
        let at = self.hook.url.server();
        let response = request.send(&self.body[..]).map_err(|cause| failure(&at, cause))?;
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(());
        }
        let mut answer = Vec::new();
        // What can be read of it is only shown.
        let _ = response.into_body().into_reader().take(MAX_ANSWER).read_to_end(&mut answer);
        Err(refused(&at, status, &said(String::from_utf8_lossy(&answer).trim())))
    }

    fn agent(&self) -> Result<ureq::Agent, Failure> {
        let mut config = ureq::Agent::config_builder()
            .timeout_global(Some(LIMIT))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .max_response_header_size(MAX_HEAD)
            .proxy(None)
            .user_agent(concat!("mt-configserver/", env!("CARGO_PKG_VERSION")));
        if self.hook.url.0.scheme_str() == Some("https") {
            let authorities = files::authorities(self.hook.ca_file.as_deref())?;
            let roots = authorities.iter().map(|der| Certificate::from_der(der).to_owned());
            let tls = TlsConfig::builder()
                .provider(TlsProvider::Rustls)
                .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .root_certs(RootCerts::from(roots))
                .build();
            config = config.https_only(true).tls_config(tls);
        }
        Ok(config.build().new_agent())
    }
}

fn refused(at: &str, status: u16, answer: &str) -> Failure {
    let next = match status {
        300..=399 => {
            "redirects are not followed, because messages would go where nobody sent them; give the right url"
        }
        401 | 403 => "look whether the receiver has the secret of secret_file, and what else it wants",
        404 | 410 => "correct url",
        413 => "have the receiver accept larger bodies",
        429 => "it is tried again, ever more slowly",
        500.. => "look into the log of the receiver; it is tried again",
        _ => "look at what the receiver wants; docs/formats/webhook.md tells what it gets",
    };
    let answer = if answer.is_empty() { String::new() } else { format!(": {answer}") };
    Failure::new(format!("{at} answers {status}{answer}"), next)
}

fn failure(at: &str, cause: ureq::Error) -> Failure {
    match cause {
        ureq::Error::Io(cause) => Failure::network(at, &cause),
        ureq::Error::Rustls(cause) => Failure::tls(at, &cause),
        ureq::Error::Timeout(_) => Failure::slow(at, LIMIT),
        ureq::Error::HostNotFound => Failure::new(
            format!("the name in {at} has no address"),
            "correct url, or add the name to DNS or to /etc/hosts",
        ),
        other => Failure::new(
            format!("{at}: {}", said(&other.to_string())),
            "look whether a web server answers there, and whether url is right",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::text::tests::due;

    fn message() -> Message {
        let mut due =
            vec![due(17, Severity::Critical, "it is not connected"), due(18, Severity::Info, "over")];
        due[1].event.cause = "a\"b\u{202e}\r\nc\\é🔥".into();
        due[1].ends = Some(17);
        Message {
            id: "9f86d081884c7d65-17-18-1764123456789000000".into(),
            server: "9f86d081884c7d65".into(),
            portal: Some("https://cs.example".into()),
            test: false,
            due,
        }
    }

    /// Who receives messages relies on these bytes; docs/formats/webhook.md shows them.
    #[test]
    fn the_golden_message() {
        let body = String::from_utf8(body(&message()).unwrap()).unwrap();
        let document = include_str!("../../../../docs/formats/webhook.md");
        let golden = document.split("```json\n").nth(1).unwrap().split("\n```").next().unwrap();
        let written: serde_json::Value = serde_json::from_str(golden).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap(), written);
        let seconds = "1764123457";
        let signature = signature("0123456789abcdef", seconds, body.as_bytes());
        assert!(document.contains(&signature), "{body}\n{signature}");
        assert!(document.contains(&format!("\n{body}\n")), "{body}");
    }

    /// Computed by `printf '1764123457.{}' | openssl dgst -sha256 -hmac 0123456789abcdef`.
    #[test]
    fn the_signature_is_what_others_compute() {
        assert_eq!(
            signature("0123456789abcdef", "1764123457", b"{}"),
            "v1=370bd5194908c4f0fe2a56971130a7cb130402dc80230d750444284f64ac1259"
        );
    }
}
