//! Takes a heartbeat into the store.

use super::alarms::{self, Alarm, host_prefix, is_ours, item_prefix};
use crate::store::events::{self, Event};
use crate::store::hosts::{self, Known};
use crate::store::items::{self, Before};
use crate::store::{policies, reports, workflows};
use control_api::agent::{Heartbeat, ItemReport};
use control_api::time::Time;
use control_api::{ItemState, Severity};
use rusqlite::{Connection, Result};
use std::collections::{HashMap, HashSet};

/// A heartbeat that came.
pub(crate) struct Incoming {
    /// What it tells, without its items.
    heartbeat: Heartbeat,
    items: Vec<ItemReport>,
    /// When it came, by the clock of this server.
    now: Time,
    /// Version of this server.
    version: String,
}

/// How it is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Durably: it may tell something new.
    Durable,
    /// Only when it tells nothing that must not be lost.
    Quick,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is written down.
    Written {
        /// Whether events were written with it.
        news: bool,
        /// Whether points are not known of some item.
        want_points: bool,
    },
    /// It tells something that must not be lost, so nothing is written; it has to be taken again, durably.
    MustBeDurable,
}

/// What has changed since the heartbeat before.
#[derive(Default)]
struct News {
    connected: bool,
    version: bool,
    raised: Vec<Alarm>,
    cleared: Vec<String>,
    events: Vec<Event>,
    /// Numbers of the items that are told of no more.
    gone: Vec<i64>,
    /// Items that were never told of.
    new: bool,
}

impl News {
    fn is_none(&self) -> bool {
        let News { connected, version, raised, cleared, events, gone, new } = self;
        !connected
            && !version
            && !new
            && raised.is_empty()
            && cleared.is_empty()
            && events.is_empty()
            && gone.is_empty()
    }
}

impl Incoming {
    pub(crate) fn new(mut heartbeat: Heartbeat, version: &str, now: Time) -> Incoming {
        let items = std::mem::take(&mut heartbeat.items);
        Incoming { heartbeat, items, now, version: version.to_owned() }
    }

    /// The item that a source agent says it protects.
    pub(crate) fn protected_item(&self) -> Option<&str> {
        let protection = self.heartbeat.protection.as_ref()?;
        Some(protection.item.as_str()).filter(|item| !item.is_empty())
    }

    /// Writes it down as that of this host; inside a transaction.
    pub(crate) fn take(&self, connection: &Connection, host: &Known, manner: Manner) -> Result<Taken> {
        let before: HashMap<String, Before> =
            items::of_host(connection, host.row)?.into_iter().map(|item| (item.name.clone(), item)).collect();
        let mut news = self.news(connection, host, &before)?;
        if manner == Manner::Quick && !news.is_none() {
            return Ok(Taken::MustBeDurable);
        }
        reports::put(connection, host.row, &self.heartbeat, self.now)?;
        for told in &self.items {
            let id = items::put(connection, host.row, told, self.heartbeat.time, self.now)?;
            let known = before.get(&told.status.name);
            if told.status.taken && known.is_none_or(|known| known.gone) {
                policies::adopt(connection, id, told.status.policy)?;
            }
            if known.is_none() {
                news.raised.extend(alarms::of_item(host, id, &told.status, self.now));
                let what = format!("it is replicated to {}", host.name);
                news.events.push(self.changed(host, id, told, (Severity::Info, what)));
            }
        }
        self.write(connection, host, &news)?;
        let want_points = items::lack_points(connection, host.row)?;
        Ok(Taken::Written { news: !news.is_none(), want_points })
    }

    fn write(&self, connection: &Connection, host: &Known, news: &News) -> Result<()> {
        if news.version {
            hosts::set_version(connection, host.row, &self.heartbeat.host.version)?;
        }
        for id in &news.gone {
            items::left(connection, *id, self.now)?;
            events::forget(connection, &item_prefix(*id), self.now)?;
        }
        if !news.gone.is_empty() {
            items::forget(connection, host.row, self.now)?;
        }
        for event in &news.events {
            events::add(connection, event)?;
        }
        for key in &news.cleared {
            events::clear(connection, key, self.now)?;
        }
        for alarm in &news.raised {
            events::raise(connection, &alarm.key, &alarm.event)?;
        }
        Ok(())
    }

    /// Compares it with what is known. Items that are new here have no number yet; they are looked at when they have.
    fn news(&self, connection: &Connection, host: &Known, before: &HashMap<String, Before>) -> Result<News> {
        let mut news = News {
            connected: reports::connected(connection, host.row)? != Some(true),
            version: host.version != self.heartbeat.host.version,
            ..News::default()
        };
        let mut raised = events::raised_below(connection, &host_prefix(host))?;
        let mut wanted = alarms::of_host(host, &self.heartbeat, &raised, &self.version, self.now);
        let mut left: HashSet<&str> = before.keys().map(String::as_str).collect();
        for told in &self.items {
            let status = &told.status;
            let Some(known) = before.get(&status.name) else {
                news.new = true;
                continue;
            };
            left.remove(status.name.as_str());
            raised.extend(events::raised_below(connection, &item_prefix(known.id))?);
            wanted.extend(alarms::of_item(host, known.id, status, self.now));
            if known.gone {
                let again = if known.was_told { " again" } else { "" };
                let what = format!("it is replicated to {}{again}", host.name);
                news.events.push(self.changed(host, known.id, told, (Severity::Info, what)));
            } else if let Some(change) = alarms::change(known.state, status) {
                news.events.push(self.changed(host, known.id, told, change));
            }
        }
        for known in left.into_iter().map(|name| &before[name]).filter(|known| !known.gone) {
            news.gone.push(known.id);
            let is_over = known.state == ItemState::Committed || workflows::is_let_go(connection, known.id)?;
            let severity = if is_over { Severity::Info } else { Severity::Warning };
            let what = (severity, format!("{} tells of it no more", host.name));
            let cause = Some("it was committed or released, or taken out of the configuration there");
            news.events.push(alarms::of_change(host, known.id, &known.name, what, cause, self.now));
        }
        news.cleared = raised
            .iter()
            .filter(|key| is_ours(key) && !wanted.iter().any(|alarm| alarm.key == **key))
            .cloned()
            .collect();
        wanted.retain(|alarm| !raised.contains(&alarm.key));
        news.raised = wanted;
        Ok(news)
    }

    fn changed(&self, host: &Known, id: i64, told: &ItemReport, change: (Severity, String)) -> Event {
        let status = &told.status;
        alarms::of_change(host, id, &status.name, change, status.detail.as_deref(), self.now)
    }
}

#[cfg(test)]
mod tests;
