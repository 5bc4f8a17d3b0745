//! What people change, in the portal, by their programs or by commands: the same rules, the same words, the same entries.
//!
//! An action works in a transaction that its [`Actor`] begins, or a command ([`carry_out`]). It makes the change, or says why
//! not, and with what it made goes a [`Note`]: the audit's entry and, where people care, the event. All of it is written
//! together or not at all; then who waits for changes is told.

pub(crate) mod group_workflows;
pub(crate) mod groups;
pub(super) mod hosts;
pub(crate) mod items;
pub(crate) mod jobs;
pub(crate) mod policies;
pub(crate) mod reprotect;
pub(super) mod users;
pub(crate) mod words;
pub(crate) mod workflows;

use super::changes::Topic;
use super::{Shared, internal};
use crate::access::Caller;
use crate::store::audit;
use crate::store::events::{self, Event};
use control_api::time::Time;
use control_api::{ApiError, ErrorCode, Severity};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::sync::Arc;

/// What a change makes, or why it is refused.
pub(crate) type Changed<T> = anyhow::Result<Result<(T, Note), ApiError>>;

/// What is written down of a change.
pub(crate) struct Note {
    /// The host that it is about, by name; else nothing.
    host: String,
    /// What was done, in one or two words.
    outcome: &'static str,
    /// To what.
    detail: String,
    /// What people are told.
    event: Option<Event>,
}

impl Note {
    fn new(outcome: &'static str, detail: impl Into<String>) -> Note {
        Note { host: String::new(), outcome, detail: detail.into(), event: None }
    }

    /// The same, about a host.
    fn about(self, host: &str) -> Note {
        Note { host: host.to_owned(), ..self }
    }

    /// The same, and people are told.
    fn told(self, kind: &str, object: &str, what: &str, cause: String, now: Time) -> Note {
        let event = Event {
            id: 0,
            time: now,
            severity: Severity::Info,
            kind: kind.into(),
            object: object.into(),
            what: what.into(),
            cause,
            next: String::new(),
            host: None,
            item: None,
        };
        Note { event: Some(event), ..self }
    }
}

/// Who changes something, and from where.
pub(super) struct Actor<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) caller: &'a Caller,
    pub(super) address: &'a str,
}

impl Actor<'_> {
    /// Changes the store, and writes down who did it, in one transaction; nothing is changed where it is refused.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        topics: &[Topic],
        work: impl FnOnce(&Transaction<'_>) -> Changed<T> + Send + 'static,
    ) -> Result<T, ApiError> {
        let (now, address, user) = (self.shared.now(), self.address.to_owned(), self.caller.name.clone());
        let changed = self.shared.store.with(move |connection| {
            carry_out(connection, &Signature { now, address: &address, user: &user }, work)
        });
        let (made, told) = changed.await.map_err(|error| internal(&error))??;
        topics.iter().for_each(|topic| self.shared.changes.tell(*topic));
        if told {
            self.shared.changes.tell(Topic::Events);
        }
        Ok(made)
    }
}

/// Who changes something, from where and when, as it is written down.
pub(crate) struct Signature<'a> {
    pub(crate) now: Time,
    pub(crate) address: &'a str,
    pub(crate) user: &'a str,
}

/// Changes the store, and writes down who did it, in one transaction; nothing is changed where it is refused. Gives what was
/// made, and whether people are told of it.
pub(crate) fn carry_out<T>(
    connection: &mut Connection,
    by: &Signature<'_>,
    work: impl FnOnce(&Transaction<'_>) -> Changed<T>,
) -> anyhow::Result<Result<(T, bool), ApiError>> {
    let Signature { now, address, user } = *by;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (made, note) = match work(&transaction)? {
        Ok(done) => done,
        Err(refused) => return Ok(Err(refused)),
    };
    let told = note.event.is_some();
    if let Some(event) = &note.event {
        events::add(&transaction, event)?;
    }
    let detail = format!("by {user}: {}", note.detail);
    tracing::info!(address, host = note.host, outcome = note.outcome, "{detail}");
    let (address, outcome) = (address.to_owned(), note.outcome.to_owned());
    audit::add(&transaction, &audit::Entry { time: now, address, host: note.host, outcome, detail })?;
    transaction.commit()?;
    Ok(Ok((made, told)))
}

/// The refusal of an id that there is not.
pub(super) fn missing(kind: &str, id: &str) -> ApiError {
    let id: String = id.chars().take(60).collect();
    ApiError::new(
        ErrorCode::NotFound,
        format!("{kind} {id}"),
        "there is none of this id",
        "it was removed, or has never been there",
        "list those that there are",
    )
}

/// The refusal of what does not go with what is there.
pub(super) fn conflict(
    object: impl Into<String>,
    what: &str,
    why: impl std::fmt::Display,
    next: &str,
) -> ApiError {
    ApiError::new(ErrorCode::Conflict, object, what, why, next)
}
