//! `/api/v1/items`.

use super::super::actions::items::{self as actions, KIND, Wanted};
use super::super::actions::missing;
use super::super::changes::Topic;
use super::call::{Answer, Call, Reply};
use super::fields::refused;
use crate::store::items::{self, Item};
use crate::store::samples::{self, SLOT};
use control_api::time::Time;
use control_api::{ItemState, Progress, Severity};
use serde::Serialize;

/// The severities, by name.
pub(super) const SEVERITIES: [(&str, Severity); 3] =
    [("info", Severity::Info), ("warning", Severity::Warning), ("critical", Severity::Critical)];

/// An item in a list.
#[derive(Serialize)]
pub(crate) struct Entry {
    id: i64,
    host: String,
    host_name: String,
    name: String,
    state: ItemState,
    health: Severity,
    /// Why it stands there, where that needs saying.
    detail: Option<String>,
    rpo_seconds: Option<u64>,
    protected_until: Option<Time>,
    progress: Option<Progress>,
    seconds_left: Option<u64>,
    bytes_per_second: u64,
    reported: Time,
    gone: Option<Time>,
    policy: i64,
    follows_policy: bool,
    group: Option<i64>,
}

impl From<Item> for Entry {
    fn from(item: Item) -> Entry {
        Entry {
            id: item.id,
            host: item.host,
            host_name: item.host_name,
            name: item.name,
            state: item.state,
            health: item.health,
            detail: item.status.detail,
            rpo_seconds: item.rpo_seconds,
            protected_until: item.status.protected_until,
            progress: item.status.progress,
            seconds_left: item.status.seconds_left,
            bytes_per_second: item.status.bytes_per_second,
            reported: item.reported,
            gone: item.gone,
            policy: item.policy,
            follows_policy: item.follows_policy,
            group: item.group,
        }
    }
}

/// Five minutes of an item.
#[derive(Serialize)]
struct Sample {
    /// When they began.
    time: Time,
    /// The worst of them.
    rpo_seconds: Option<u64>,
    /// The highest of them.
    bytes_per_second: u64,
}

/// Those that their master targets tell of, unless those that are gone are asked for.
pub(super) async fn list(mut call: Call) -> Answer {
    let mut query = call.query()?;
    let states = ItemState::ALL.map(|state| (state.id(), state));
    let host = query.host_or_job("host", "host")?;
    let state = query.choice("state", &states)?;
    let health = query.choice("health", &SEVERITIES)?;
    let (text, group) = (query.text("text")?, query.id("group")?);
    let gone = Some(query.flag("gone")?.unwrap_or(false));
    let page = query.page()?;
    query.finish()?;
    let bounded = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let (limit, offset) = (bounded(page.limit), bounded(page.offset));
    let order = items::Query::default();
    let wanted = items::Query { host, state, health, text, group, gone, limit, offset, ..order };
    let (found, total) = call.read(move |connection| Ok(items::list(connection, &wanted)?)).await?;
    Reply::list(total, found.into_iter().map(Entry::from).collect())
}

pub(super) async fn show(mut call: Call) -> Answer {
    call.no_query()?;
    let id = call.number(KIND)?;
    let found = call.read(move |connection| Ok(items::by_id(connection, id)?)).await?;
    Reply::of(&found.ok_or_else(|| missing(KIND, &call.id()))?)
}

/// Gives an item another policy or group.
pub(super) async fn change(mut call: Call) -> Answer {
    call.no_query()?;
    let id = call.number(KIND)?;
    let mut fields = call.body()?;
    let policy = fields.find("policy").map(|field| field.id()).transpose()?;
    let group = match fields.find("group") {
        None => None,
        Some(field) => Some(field.unless_null().map(|field| field.id()).transpose()?),
    };
    fields.finish()?;
    if policy.is_none() && group.is_none() {
        return Err(refused("the body", "with a policy, a group, or both", "without either"));
    }
    let wanted = Wanted { policy, group };
    let topics = [Topic::Items, Topic::Settings];
    Reply::of(&call.change(&topics, move |store| actions::assign(store, id, &wanted)).await?)
}

/// The newest bookmarks of an item.
pub(super) async fn points(mut call: Call) -> Answer {
    let mut query = call.query()?;
    let page = query.page()?;
    query.finish()?;
    let id = call.number(KIND)?;
    let found = call.read(move |connection| {
        let known = items::by_id(connection, id)?.is_some();
        Ok(if known { Some(items::points(connection, id)?) } else { None })
    });
    let found = found.await?.ok_or_else(|| missing(KIND, &call.id()))?;
    Reply::list(found.len() as u64, page.of(found))
}

/// How the recovery point objective of an item went.
pub(super) async fn rpo(mut call: Call) -> Answer {
    let mut query = call.query()?;
    let since = query.whole("since", 0..=i64::MAX as u64)?.unwrap_or(0);
    query.finish()?;
    let id = call.number(KIND)?;
    let found = call.read(move |connection| {
        let known = items::by_id(connection, id)?.is_some();
        Ok(if known { Some(samples::of(connection, id, since)?) } else { None })
    });
    let found = found.await?.ok_or_else(|| missing(KIND, &call.id()))?;
    let samples = found.into_iter().map(|sample| Sample {
        time: sample.slot * SLOT,
        rpo_seconds: sample.rpo_seconds,
        bytes_per_second: sample.bytes_per_second,
    });
    let samples: Vec<Sample> = samples.collect();
    Reply::list(samples.len() as u64, samples)
}
