//! `/api/v1/policies`.

use super::super::changes::Topic;
use super::call::{Answer, Call, Note, Reply, conflict, missing};
use super::fields::Fields;
use crate::store::events::Event;
use crate::store::policies::{self, MAX_POLICIES, Policy, Refused, Wanted};
use control_api::time::{SECOND, Time, format_duration};
use control_api::{ApiError, Severity};

const KIND: &str = "policy";
/// Seconds that a window may have: a minute to a year, as in the configuration of a master target.
const WINDOW: (u64, u64) = (60, 31_536_000);
/// Seconds that a threshold may have: up to a week.
const THRESHOLD: (u64, u64) = (1, 604_800);
/// Seconds between application-consistent points: a minute to a week.
const EVERY: (u64, u64) = (60, 604_800);

pub(super) async fn list(mut call: Call) -> Answer {
    let mut query = call.query()?;
    let page = query.page()?;
    query.finish()?;
    let all = call.read(|connection| Ok(policies::list(connection)?)).await?;
    Reply::list(all.len() as u64, page.of(all))
}

pub(super) async fn show(mut call: Call) -> Answer {
    call.no_query()?;
    let id = call.number(KIND)?;
    let found = call.read(move |connection| Ok(policies::by_id(connection, id)?)).await?;
    Reply::of(&found.ok_or_else(|| missing(KIND, &call.id()))?)
}

pub(super) async fn add(mut call: Call) -> Answer {
    call.no_query()?;
    let wanted = wanted(call.body()?)?;
    let now = call.now();
    let made = call.change(Topic::Settings, move |transaction| {
        let made = policies::add(transaction, &wanted)?.map_err(|why| refusal(why, 0, &wanted.name));
        Ok(made.map(|policy| {
            let note = note("policy added", &policy, now, "a policy was added");
            (policy, note)
        }))
    });
    let made = made.await?;
    Reply::made(format!("/api/v1/policies/{}", made.id), &made)
}

pub(super) async fn change(mut call: Call) -> Answer {
    call.no_query()?;
    let id = call.number(KIND)?;
    let wanted = wanted(call.body()?)?;
    let now = call.now();
    let changed = call.change(Topic::Settings, move |transaction| {
        let changed =
            policies::change(transaction, id, &wanted)?.map_err(|why| refusal(why, id, &wanted.name));
        Ok(changed.map(|policy| {
            let note = note("policy changed", &policy, now, "a policy was changed");
            (policy, note)
        }))
    });
    Reply::of(&changed.await?)
}

pub(super) async fn remove(mut call: Call) -> Answer {
    call.no_query()?;
    let id = call.number(KIND)?;
    let now = call.now();
    let removed = call.change(Topic::Settings, move |transaction| {
        let removed = policies::remove(transaction, id)?.map_err(|why| refusal(why, id, &id.to_string()));
        Ok(removed.map(|policy| ((), note("policy removed", &policy, now, "a policy was removed"))))
    });
    removed.await?;
    Reply::nothing()
}

/// What a body says that a policy is to be.
fn wanted(mut fields: Fields) -> Result<Wanted, ApiError> {
    let name = fields.take("name")?.name()?;
    let window = "a whole number of seconds from 60 to 31536000 (a year)";
    let threshold = "a whole number of seconds from 1 to 604800 (a week)";
    let every = "a whole number of seconds from 60 to 604800 (a week), or null for never";
    let wanted = Wanted {
        name,
        window_seconds: fields.take("window_seconds")?.whole(WINDOW.0..=WINDOW.1, window)?,
        rpo_threshold_seconds: fields
            .take("rpo_threshold_seconds")?
            .whole(THRESHOLD.0..=THRESHOLD.1, threshold)?,
        application_consistent_every_seconds: fields
            .take("application_consistent_every_seconds")?
            .unless_null()
            .map(|field| field.whole(EVERY.0..=EVERY.1, every))
            .transpose()?,
    };
    fields.finish()?;
    Ok(wanted)
}

fn refusal(why: Refused, id: i64, object: &str) -> ApiError {
    let object = format!("{KIND} {object}");
    match why {
        Refused::Unknown => missing(KIND, &id.to_string()),
        Refused::NameTaken => {
            conflict(object, "it cannot have this name", "another policy has it", "choose another name")
        }
        Refused::TooMany => conflict(
            object,
            "it cannot be added",
            format!("there are {MAX_POLICIES} policies already"),
            "remove one that no item has",
        ),
        Refused::IsDefault => conflict(
            object,
            "it cannot be removed",
            "it is what items have for which no other policy was chosen",
            "change it instead",
        ),
        Refused::InUse(items) => conflict(
            object,
            "it cannot be removed",
            format!("{items} items have it"),
            "give them another policy first",
        ),
    }
}

fn note(outcome: &'static str, policy: &Policy, now: Time, what: &str) -> Note {
    let every = policy.application_consistent_every_seconds;
    let described = format!(
        "{}: window {}, RPO threshold {}, application-consistent {}",
        policy.name,
        format_duration(policy.window_seconds * SECOND),
        format_duration(policy.rpo_threshold_seconds * SECOND),
        every.map_or("never".to_owned(), |every| format!("every {}", format_duration(every * SECOND))),
    );
    let event = Event {
        id: 0,
        time: now,
        severity: Severity::Info,
        kind: "policy".into(),
        object: policy.name.clone(),
        what: what.into(),
        cause: described.clone(),
        next: String::new(),
        host: None,
        item: None,
    };
    Note { event: Some(event), ..Note::new(outcome, described) }
}
