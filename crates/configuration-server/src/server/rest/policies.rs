//! `/api/v1/policies`.

use super::super::actions::missing;
use super::super::actions::policies::{self as actions, KIND};
use super::super::changes::Topic;
use super::call::{Answer, Call, Reply};
use super::fields::Fields;
use crate::store::policies::{self, Wanted};
use control_api::ApiError;

/// Seconds that a window may have: a minute to a year, as in the configuration of a master target.
pub(crate) const WINDOW: (u64, u64) = (60, 31_536_000);
/// Seconds that a threshold may have: up to a week.
pub(crate) const THRESHOLD: (u64, u64) = (1, 604_800);
/// Seconds between application-consistent points: a minute to a week.
pub(crate) const EVERY: (u64, u64) = (60, 604_800);

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
    let (wanted, now) = (wanted(call.body()?)?, call.now());
    let made = call.change(&[Topic::Settings], move |store| actions::add(store, &wanted, now)).await?;
    Reply::made(format!("/api/v1/policies/{}", made.id), &made)
}

pub(super) async fn change(mut call: Call) -> Answer {
    call.no_query()?;
    let (id, wanted, now) = (call.number(KIND)?, wanted(call.body()?)?, call.now());
    Reply::of(&call.change(&[Topic::Settings], move |store| actions::change(store, id, &wanted, now)).await?)
}

pub(super) async fn remove(mut call: Call) -> Answer {
    call.no_query()?;
    let (id, now) = (call.number(KIND)?, call.now());
    call.change(&[Topic::Settings], move |store| actions::remove(store, id, now)).await?;
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
