//! The steward: a task that looks at the volume and at every journal once a second, and acts on what it sees.
//!
//! Its orders are limits, not amounts, so an order that is late or given twice does no harm: what an item may take is
//! reckoned anew at each look from what is really there. An item that does not follow its limit (its points are all
//! needed, or it waits for its turn) is left out for a while, and others give instead.

use super::forecast::{Forecast, forecast};
use super::rate::GrowthRate;
use super::shares::{Allowance, Share, allowances, headroom};
use super::words::{Level, Scene};
use crate::alerts::Alerts;
use crate::clock::nanos;
use crate::config::{self, Amount, ApplicationConsistent};
use crate::item::{Condition, ItemHandle, Snapshot};
use crate::master_target::MasterTarget;
use control_api::time::{self, SECOND, Time};
use control_api::{Alert, AlertKind};
use journal::{BatchSummary, PointQuery};
use replication_receiver::{Stage, Storage};
use retention_volume::{Place, Space};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How often the steward looks.
const EVERY: Duration = Duration::from_secs(1);
/// A volume that does not answer for so long is said to be unknown.
const PATIENCE: Duration = Duration::from_secs(10);
/// An item whose journal is above its limit and has given nothing for so long cannot…
const OBEYED_WITHIN: Time = 5 * SECOND;
/// …and is asked again after this.
const LEFT_OUT_FOR: Time = 30 * SECOND;
/// How often application-consistent points are looked for: where there are none, all bookmarks are read.
const CONSISTENT_EVERY: Time = 30 * SECOND;
/// So long after points of the window were last asked for, windows are said to shrink.
const SHRINKING_FOR: Time = 60 * SECOND;

/// The volume at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// Room on it; `None` while it cannot be asked.
    pub(crate) space: Option<Space>,
    /// Bytes a second that all journals grow by.
    pub(crate) bytes_per_second: u64,
    /// Seconds until its room is used up, if points were given up for their age only.
    pub(crate) full_in_seconds: Option<u64>,
    /// Bytes of a volume on which all windows fit.
    pub(crate) needed_bytes: Option<u64>,
    /// The same for windows of 24 hours.
    pub(crate) needed_for_24_h_bytes: Option<u64>,
    /// What needs attention.
    pub(crate) alerts: Vec<Alert>,
}

/// An item's part of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ItemReport {
    /// Bytes of its journal, open or not.
    pub(crate) bytes: u64,
    /// Bytes a second that it grows by.
    pub(crate) bytes_per_second: u64,
    /// Bytes that it keeps when the volume is short of room.
    pub(crate) min_bytes: u64,
    /// Bytes that it takes at most.
    pub(crate) max_bytes: Option<u64>,
    /// Nanoseconds that its points will reach back.
    pub(crate) window_projected: Option<u64>,
    /// What needs attention.
    pub(crate) alerts: Vec<Alert>,
}

/// Runs until it is aborted.
pub(crate) async fn run(target: Arc<MasterTarget>) {
    let mut steward = Steward::default();
    loop {
        // One that is gone might not answer, and the bare folder is another volume.
        if target.volume.now().is_usable() {
            steward.tend(&target).await;
        } else {
            // Rates and alerts of before say nothing of it now.
            target.retention.send_replace(Report::default());
        }
        sleep(EVERY).await;
    }
}

/// What is to be looked at of one item.
struct Request {
    name: String,
    storage: Option<Arc<Storage>>,
    /// True to look for the newest application-consistent point as well.
    consistent: bool,
}

/// What was seen of the volume.
struct Sight {
    space: retention_volume::Result<Space>,
    items: Vec<ItemSight>,
}

/// What was seen of all items, in one order.
struct Seen<'a> {
    items: &'a [Arc<ItemHandle>],
    sights: &'a [ItemSight],
    shares: &'a [Share],
}

/// What was seen of one item.
#[derive(Clone, Debug, Default)]
struct ItemSight {
    bytes: u64,
    /// Bytes of its largest segment.
    grain: u64,
    appended: Option<u64>,
    oldest: Option<BatchSummary>,
    newest: Option<BatchSummary>,
    consistent: Option<BatchSummary>,
}

fn look(place: &Place, requests: Vec<Request>) -> Sight {
    let items = requests.into_iter().map(|request| match &request.storage {
        Some(storage) => look_at(storage.journal(), &request),
        None => ItemSight { bytes: journal_on_disk(&place.folder, &request.name), ..ItemSight::default() },
    });
    // The room is read last: what was written meanwhile is counted as other files, and not missed.
    let items = items.collect();
    Sight { space: place.space(), items }
}

/// A journal that cannot be read says so where it is used; here it has no points to give up.
fn look_at(journal: &journal::Journal, request: &Request) -> ItemSight {
    let usage = journal.usage();
    let consistent = request.consistent.then(|| {
        let newest = PointQuery { limit: 1, newest_first: true, ..PointQuery::default() };
        let query = PointQuery { only_application_consistent: true, ..newest };
        journal.points(&query).ok()?.pop()
    });
    ItemSight {
        bytes: usage.bytes,
        grain: usage.largest,
        appended: Some(journal.appended().0),
        oldest: journal.oldest_point().ok().flatten(),
        newest: journal.newest_point().ok().flatten(),
        consistent: consistent.flatten(),
    }
}

/// Bytes of a journal that nobody need have open.
pub(crate) fn journal_on_disk(folder: &Path, item: &str) -> u64 {
    let Ok(files) = std::fs::read_dir(folder.join("items").join(item)) else { return 0 };
    files.filter_map(|file| file.ok()?.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// What the steward remembers from one look to the next.
#[derive(Default)]
struct Steward {
    /// One for each item that it looks at, in the same order.
    holdings: Vec<Holding>,
    alerts: Alerts,
    level: Level,
    /// Of the volume, when it was last there.
    capacity: Option<u64>,
    asked_at: Option<Time>,
    next_consistent: Time,
}

/// What it remembers of one item.
#[derive(Default)]
struct Holding {
    item: Weak<ItemHandle>,
    growth: GrowthRate,
    /// What was seen at the last look.
    last: ItemSight,
    /// Since when it is above its limit and has given nothing up.
    above_since: Option<Time>,
    left_out_until: Time,
    /// Receive time of the newest application-consistent point there ever was.
    consistent: Option<Time>,
    alerts: Alerts,
}

impl Steward {
    /// Remembers of each item what it remembered, and nothing of items that are gone.
    fn follow(&mut self, items: &[Arc<ItemHandle>]) {
        let mut before = std::mem::take(&mut self.holdings);
        let holding = |item: &Arc<ItemHandle>| {
            let known = before.iter().position(|holding| holding.item.as_ptr() == Arc::as_ptr(item));
            match known {
                Some(at) => before.swap_remove(at),
                None => Holding { item: Arc::downgrade(item), ..Holding::default() },
            }
        };
        self.holdings = items.iter().map(holding).collect();
    }

    /// Looks once, and acts on what it sees.
    async fn tend(&mut self, target: &MasterTarget) {
        let items = target.items.all();
        self.follow(&items);
        let requests = self.requests(&items, target.clock.now());
        let retention = &target.config.retention;
        let place = Place { folder: retention.folder.clone(), trial: retention.trial_folder };
        let mut looking = tokio::task::spawn_blocking(move || look(&place, requests));
        let seen = match timeout(PATIENCE, &mut looking).await {
            Ok(seen) => seen,
            Err(_) => {
                tracing::warn!("the retention volume has not answered for {} s", PATIENCE.as_secs());
                target.retention.send_modify(|report| report.space = None);
                looking.await
            }
        };
        match seen {
            Ok(sight) => self.act(target, &items, &sight),
            Err(error) => tracing::error!("a defect in looking at the retention volume: {error}"),
        }
    }

    fn requests(&mut self, items: &[Arc<ItemHandle>], now: Time) -> Vec<Request> {
        let consistent = now >= self.next_consistent;
        if consistent {
            self.next_consistent = now + CONSISTENT_EVERY;
        }
        let request = |item: &Arc<ItemHandle>| Request {
            name: item.name().to_owned(),
            storage: item.snapshot().storage,
            consistent,
        };
        items.iter().map(request).collect()
    }

    fn act(&mut self, target: &MasterTarget, items: &[Arc<ItemHandle>], sight: &Sight) {
        let now = target.clock.now();
        if let Ok(space) = &sight.space {
            self.capacity = Some(space.capacity.0);
        }
        let capacity = self.capacity;
        let mut shares = Vec::with_capacity(self.holdings.len());
        for ((item, holding), seen) in items.iter().zip(&mut self.holdings).zip(&sight.items) {
            let (snapshot, config) = (item.snapshot(), item.config());
            holding.note(now, seen);
            holding.check_consistent(now, seen, &snapshot, &config.policy);
            shares.push(holding.share(now, seen, &snapshot, &config.policy, capacity));
        }
        let found = match &sight.space {
            Ok(space) => {
                self.manage(target, now, *space, Seen { items, sights: &sight.items, shares: &shares })
            }
            Err(error) => {
                tracing::debug!("no room is known: {error}");
                self.alerts.clear(AlertKind::RetentionFilling);
                Forecast::default()
            }
        };
        self.publish(target, items, sight, &shares, found);
    }

    /// Shares the room out, and tells when it gets scarce.
    fn manage(
        &mut self,
        target: &MasterTarget,
        now: Time,
        space: Space,
        Seen { items, sights, shares }: Seen<'_>,
    ) -> Forecast {
        let rate = shares.iter().map(|share| share.rate).sum();
        let (capacity, available) = (space.capacity.0, space.available.0);
        let headroom = headroom(capacity, rate);
        let allowed = allowances(shares, headroom.saturating_sub(available));
        for (n, (item, holding)) in items.iter().zip(&mut self.holdings).enumerate() {
            holding.watch_obedience(now, &sights[n], &shares[n], allowed[n]);
            item.allow(allowed[n]);
        }
        if allowed.iter().any(|allowed| matches!(allowed, Allowance::Shortage(_))) {
            self.asked_at = Some(now);
        }
        let journals: u64 = shares.iter().map(|share| share.bytes).sum();
        let found = forecast(shares, journals.saturating_add(available).saturating_sub(headroom));
        let names: Vec<String> = items.iter().map(|item| item.name().to_owned()).collect();
        let scene = Scene {
            folder: &target.config.retention.folder.display().to_string(),
            capacity,
            used: capacity.saturating_sub(available),
            names: &names,
            shares,
            forecast: &found,
            shrinking: self.asked_at.is_some_and(|asked| now <= asked + SHRINKING_FOR),
        };
        self.tell(now, &scene);
        found
    }

    fn tell(&mut self, now: Time, scene: &Scene<'_>) {
        let level = self.level.at(scene.percent());
        let message = scene.message(level);
        if level == Level::Roomy {
            self.alerts.clear(AlertKind::RetentionFilling);
        } else {
            // The log has a line for each level; a first alert logs itself.
            if level > self.level && self.level > Level::Roomy {
                tracing::warn!("{message}");
            }
            self.alerts.raise(AlertKind::RetentionFilling, now, message);
        }
        self.level = level;
    }

    fn publish(
        &self,
        target: &MasterTarget,
        items: &[Arc<ItemHandle>],
        sight: &Sight,
        shares: &[Share],
        found: Forecast,
    ) {
        for (n, item) in items.iter().enumerate() {
            item.tell(ItemReport {
                bytes: shares[n].bytes,
                bytes_per_second: shares[n].rate,
                min_bytes: shares[n].min,
                max_bytes: shares[n].max,
                window_projected: found.windows.get(n).copied().flatten(),
                alerts: self.holdings[n].alerts.list(),
            });
        }
        target.retention.send_replace(Report {
            space: sight.space.as_ref().ok().copied(),
            bytes_per_second: shares.iter().map(|share| share.rate).sum(),
            full_in_seconds: found.full_in.filter(|_| shares.iter().any(|share| share.rate > 0)),
            needed_bytes: found.needed,
            needed_for_24_h_bytes: found.needed_for_a_day,
            alerts: self.alerts.list(),
        });
    }
}

impl Holding {
    fn note(&mut self, now: Time, seen: &ItemSight) {
        self.growth.note(now, seen.appended);
    }

    fn share(
        &self,
        now: Time,
        seen: &ItemSight,
        snapshot: &Snapshot,
        policy: &config::Policy,
        capacity: Option<u64>,
    ) -> Share {
        let received = |point: &Option<BatchSummary>| point.as_ref().map(|point| point.header.receive_time);
        // The window of a source that fell silent reaches back from what came last; one that is connected and has
        // nothing to say stands where it is.
        let until = if is_connected(snapshot) { Some(now) } else { received(&seen.newest) };
        let reach =
            received(&seen.oldest).zip(until).map_or(0, |(oldest, until)| until.saturating_sub(oldest));
        let receiving = snapshot.stage().is_some_and(|stage| {
            !matches!(stage, Stage::FailingOver { .. } | Stage::FailedOver { .. } | Stage::Committed)
        });
        let of_volume = |amount: Option<Amount>| Some(amount?.of(capacity?));
        let (min, max) = (of_volume(policy.min_journal).unwrap_or(0), of_volume(policy.max_journal));
        Share {
            bytes: seen.bytes,
            reach,
            min: min.min(max.unwrap_or(u64::MAX)),
            max,
            grain: seen.grain,
            rate: self.growth.per_second(),
            window: nanos(policy.window),
            held: !receiving || now < self.left_out_until,
        }
    }

    /// Finds out when the item gives nothing up though it was asked to.
    fn watch_obedience(&mut self, now: Time, seen: &ItemSight, share: &Share, allowed: Allowance) {
        // What came meanwhile hides what went.
        let came = seen.appended.unwrap_or(0).saturating_sub(self.last.appended.unwrap_or(0));
        let gave = seen.bytes < self.last.bytes + came;
        self.last = seen.clone();
        if share.held || gave || allowed.bytes().is_none_or(|limit| share.bytes <= limit) {
            self.above_since = None;
            return;
        }
        if now > *self.above_since.get_or_insert(now) + OBEYED_WITHIN {
            self.above_since = None;
            self.left_out_until = now + LEFT_OUT_FOR;
        }
    }

    /// Tells when the newest application-consistent point is older than the policy wants.
    fn check_consistent(
        &mut self,
        now: Time,
        seen: &ItemSight,
        snapshot: &Snapshot,
        policy: &config::Policy,
    ) {
        let received = seen.consistent.as_ref().map(|point| point.header.receive_time);
        self.consistent = self.consistent.max(received);
        let every = match policy.application_consistent {
            ApplicationConsistent::Usual(every) => self.consistent.map(|_| every),
            ApplicationConsistent::Every(every) => Some(every),
            ApplicationConsistent::Never => None,
        };
        let since = self.consistent.or(seen.oldest.as_ref().map(|point| point.header.receive_time));
        let protected = snapshot.stage() == Some(&Stage::Protected) && is_connected(snapshot);
        let overdue = every.zip(since).filter(|_| protected).and_then(|(every, since)| {
            let age = now.saturating_sub(since);
            (age > nanos(every + every / 4)).then_some((every, age))
        });
        let Some((every, age)) = overdue else {
            return self.alerts.clear(AlertKind::ApplicationConsistentOverdue);
        };
        let what = match self.consistent {
            Some(_) => "the newest application-consistent recovery point is",
            None => "there is no application-consistent recovery point, and the oldest point is",
        };
        let message = format!(
            "{what} {} old, though there should be one every {}; see whether the source still sets such bookmarks \
             (mt-source bookmark, its hooks), or ask for them otherwise: mtctl policy \
             --application-consistent, or application_consistent_every in mtd.toml",
            time::format_duration(age),
            time::format_duration(nanos(every))
        );
        self.alerts.raise(AlertKind::ApplicationConsistentOverdue, now, message);
    }
}

fn is_connected(snapshot: &Snapshot) -> bool {
    matches!(&snapshot.condition, Condition::Open(status) if status.session.is_some())
}

#[cfg(test)]
mod tests;
