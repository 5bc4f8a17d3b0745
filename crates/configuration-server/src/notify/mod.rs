//! Delivery of events to people by e-mail, and to programs by webhook.
//!
//! Each is a channel with a task of its own, which reads the events in their order, puts those that are due into one
//! message, and sends it; a burst of events is one message and not many. What a channel has is in the store, and is
//! written down after the message arrived: a server that is killed in between sends the message again, as it was and
//! under the same id, so nothing is lost and whoever gets it twice can tell. While a channel fails, its messages wait and are
//! tried again, ever more slowly; after a quarter of an hour an alert says so in the portal, and what is older than a
//! day is given up, with an event that says how much.
//!
//! Nothing waits for a channel: it reads on the store's reading thread, its conversations have limits of time and bytes,
//! and a webhook blocks only a thread of its own.

mod channel;
pub(crate) mod failure;
mod files;
mod mail;
pub mod settings;
mod smtp;
mod text;
mod webhook;

use crate::config::Config;
use crate::server::Shared;
use crate::store::deliveries::{self, Due, Wanted};
use crate::store::events::Event;
use anyhow::Result;
use channel::attend;
use control_api::Severity;
use control_api::registration::Hex;
use control_api::time::Time;
use failure::Failure;
use settings::{MAIL, Mail, Webhook};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// A way to somebody.
#[derive(Clone, Debug)]
pub(crate) enum Channel {
    Mail(Mail),
    Webhook(Webhook),
}

impl Channel {
    /// All that are configured.
    pub(crate) fn all(config: &Config) -> Vec<Channel> {
        let mail = config.mail.iter().cloned().map(Channel::Mail);
        mail.chain(config.webhook.iter().cloned().map(Channel::Webhook)).collect()
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Channel::Mail(_) => MAIL,
            Channel::Webhook(hook) => &hook.name,
        }
    }

    /// Where it leads, for people.
    pub(crate) fn destination(&self) -> String {
        match self {
            Channel::Mail(mail) => {
                let to: Vec<&str> = mail.to.iter().map(|to| to.0.email.as_ref()).collect();
                format!("{} through {}", to.join(", "), mail.server)
            }
            Channel::Webhook(hook) => hook.url.server(),
        }
    }

    /// Reads the files that are named, as each message does.
    pub(crate) fn check_files(&self) -> Result<(), Failure> {
        let (key, secret, ca_file) = match self {
            Channel::Mail(mail) => ("password_file", &mail.password_file, &mail.ca_file),
            Channel::Webhook(hook) => ("secret_file", &hook.secret_file, &hook.ca_file),
        };
        secret.iter().try_for_each(|path| files::secret(key, path).map(drop))?;
        ca_file.iter().try_for_each(|path| files::authorities(Some(path)).map(drop))
    }

    fn wanted(&self) -> Wanted {
        let at_least = match self {
            Channel::Mail(mail) => mail.at_least,
            Channel::Webhook(hook) => hook.at_least,
        };
        Wanted { channel: self.name().to_owned(), at_least }
    }

    /// Events in one message at most.
    fn most(&self) -> u32 {
        match self {
            Channel::Mail(_) => 1000,
            Channel::Webhook(_) => 100,
        }
    }

    /// How long it is waited for more events before a message is sent.
    fn gathers(&self) -> Duration {
        match self {
            Channel::Mail(_) => Duration::from_secs(2),
            Channel::Webhook(_) => Duration::from_millis(200),
        }
    }

    /// Sends a message, within a time that is limited. It arrived when this is `Ok`; then it tells which part of those
    /// who should have had it refused it.
    pub(crate) async fn deliver(&self, message: &Message, now: Time) -> Result<Option<Failure>, Failure> {
        match self {
            Channel::Mail(mail) => mail::deliver(mail, message).await,
            Channel::Webhook(hook) => webhook::deliver(hook, message, now).await.map(|()| None),
        }
    }
}

/// Events on their way to somebody.
pub(crate) struct Message {
    /// The same when it is repeated, and never that of another.
    id: String,
    /// Which configuration server it comes from.
    server: String,
    /// Where its portal is.
    portal: Option<String>,
    test: bool,
    due: Vec<Due>,
}

impl Message {
    /// A message with these events, of which there is at least one. Its id holds a time, because a server that was
    /// restored from a backup gives the numbers of its events again.
    fn new(sender: &Sender, due: Vec<Due>) -> Message {
        let (first, last) = (due.first().map(|due| due.event.id), due.last().map(|due| &due.event));
        let (last, time) = last.map_or((0, 0), |event| (event.id, event.time));
        let id = format!("{}-{}-{last}-{time}", sender.server, first.unwrap_or_default());
        Message { id, server: sender.server.clone(), portal: sender.portal.clone(), test: false, due }
    }

    /// A message that somebody asked for, to see whether it arrives.
    pub(crate) fn test(sender: &Sender, now: Time) -> Message {
        let event = Event {
            id: 0,
            time: now,
            severity: Severity::Info,
            kind: "test".into(),
            object: "configuration server".into(),
            what: "this is a test".into(),
            cause: "somebody typed mt-configserver notify test".into(),
            next: "nothing: events arrive like this message".into(),
            host: None,
            item: None,
        };
        let mut message = Message::new(sender, vec![Due { event, ends: None }]);
        message.test = true;
        message
    }

    fn subject(&self) -> String {
        text::subject(&self.due)
    }

    fn events_page(&self) -> Option<String> {
        self.portal.as_ref().map(|portal| format!("{portal}/events"))
    }

    /// What no other event has, and each repetition of this one.
    fn id_of(&self, event: &Event) -> String {
        format!("{}-{}-{}", self.server, event.id, event.time)
    }
}

/// Who messages come from.
#[derive(Clone)]
pub(crate) struct Sender {
    server: String,
    portal: Option<String>,
}

impl Sender {
    /// `authority` is the fingerprint of the server's authority.
    pub(crate) fn new(config: &Config, authority: &[u8]) -> Sender {
        let server = Hex::from(authority).to_string().chars().take(16).collect();
        let portal = config.portal_url.as_ref().map(|url| url.0.to_string().trim_end_matches('/').to_owned());
        Sender { server, portal }
    }
}

/// Begins to deliver, by a task for each channel.
pub(crate) async fn start(shared: &Arc<Shared>, tasks: &mut JoinSet<()>) -> Result<()> {
    let channels = Channel::all(&shared.config);
    let names: Vec<String> = channels.iter().map(|channel| channel.name().to_owned()).collect();
    let now = shared.now();
    shared
        .store
        .with(move |connection| {
            let transaction = connection.transaction()?;
            deliveries::set_up(&transaction, &names, now)?;
            Ok(transaction.commit()?)
        })
        .await?;
    let sender = Sender::new(&shared.config, shared.authority.fingerprint().as_ref());
    for channel in channels {
        tracing::info!(channel = channel.name(), "events are delivered to {}", channel.destination());
        tasks.spawn(attend(shared.clone(), sender.clone(), channel));
    }
    Ok(())
}
