//! What a master target tells of itself: heartbeats as real ones are, of the same size and as much in motion.

use crate::now;
use control_api::agent::{Datastore, Health, Heartbeat, HostDisk, ItemReport};
use control_api::registration::Host;
use control_api::time::{SECOND, Time};
use control_api::{
    Alert, AlertKind, Bookmark, DiskStatus, ItemState, ItemStatus, Point, Progress, RetentionState,
    RetentionStatus, StartReport, Work,
};
use testkit::Rng;

const GIB: u64 = 1 << 30;
const HOUR: Time = 3600 * SECOND;
/// Bookmarks of an item: one each half hour.
const POINTS: u64 = 48;
const POINT_EVERY: Time = HOUR / 2;

/// A master target with its items, as time goes on.
pub struct Body {
    host: Host,
    started: Time,
    items: Vec<Item>,
    rng: Rng,
}

struct Item {
    name: String,
    /// Bytes a second.
    rate: u64,
    received: u64,
    /// Moves the moment of its bookmarks.
    offset: Time,
    /// The newest bookmark that the server has been told.
    told: Option<u64>,
    resync: Option<u64>,
    alert: Option<Alert>,
}

impl Body {
    /// A master target with so many items. A few of them are being compared, a few have something that needs attention.
    pub fn new(host: &Host, items: u32, mut rng: Rng) -> Body {
        let short = host.name.split('.').next().unwrap_or_default();
        let items = (0..items)
            .map(|number| Item {
                name: format!("{short}-web{number:02}"),
                rate: rng.below(8 << 20),
                received: rng.below(500 * GIB),
                offset: rng.below(POINT_EVERY),
                told: None,
                resync: rng.one_in(40).then(|| rng.below(100 * GIB)),
                alert: rng.one_in(25).then(|| alert(now())),
            })
            .collect();
        Body { host: host.clone(), started: now() - rng.below(30) * 24 * HOUR, items, rng }
    }

    /// Gives the first item an alert, or takes it away.
    pub fn set_alert(&mut self, raised: bool) {
        if let Some(item) = self.items.first_mut().filter(|item| item.alert.is_some() != raised) {
            item.alert = raised.then(|| alert(now()));
        }
    }

    /// Next time the points of all items are told.
    pub fn tell_points(&mut self) {
        self.items.iter_mut().for_each(|item| item.told = None);
    }

    /// The next heartbeat. It counts as arrived; when it did not, [`Body::tell_points`] makes up for it.
    pub fn heartbeat(&mut self) -> Heartbeat {
        let (now, rng) = (now(), &mut self.rng);
        let rate = self.items.iter().map(|item| item.rate / 3).sum();
        let items: Vec<ItemReport> = self.items.iter_mut().map(|item| item.report(now, rng)).collect();
        Heartbeat {
            host: self.host.clone(),
            time: now,
            health: health(self.started, now, rng),
            disks: disks(&self.items),
            datastores: vec![Datastore {
                folder: "/datastore1".into(),
                file_system: "xfs".into(),
                capacity_bytes: Some(8192 * GIB),
                available_bytes: Some(2048 * GIB + rng.below(GIB)),
            }],
            retention: Some(retention(rate, rng)),
            items,
            data_port: None,
            protection: None,
        }
    }
}

fn alert(since: Time) -> Alert {
    Alert {
        kind: AlertKind::RpoExceeded,
        since,
        message: "the newest durable recovery point is 17 min old, and 15 min is the threshold; look at the line to \
                  the source and at the rate of change there"
            .into(),
    }
}

fn health(started: Time, now: Time, rng: &mut Rng) -> Health {
    Health {
        started,
        uptime_seconds: (now - started) / SECOND + 60,
        processors: 4,
        busy_percent: rng.below(1000) as f64 / 10.0,
        load: [rng.below(400) as f64 / 100.0, 1.5, 1.25],
        memory_bytes: 16 * GIB,
        memory_used_bytes: 2 * GIB + rng.below(GIB),
    }
}

fn disks(items: &[Item]) -> Vec<HostDisk> {
    let id = |number: usize| format!("36000c29{number:025x}");
    let own = [("sda", "system"), ("sdb", "retention volume")].into_iter().enumerate();
    let own = own.map(|(number, (name, used_for))| HostDisk {
        name: name.into(),
        id: Some(id(number)),
        size: 100 * GIB,
        paths: 1,
        used_for: used_for.into(),
    });
    let targets = items.iter().enumerate().map(|(number, item)| HostDisk {
        name: format!("dm-{number}"),
        id: Some(id(number + 2)),
        size: 100 * GIB,
        paths: 2,
        used_for: format!("target of {}", item.name),
    });
    own.chain(targets).collect()
}

fn retention(rate: u64, rng: &mut Rng) -> RetentionStatus {
    RetentionStatus {
        folder: "/mnt/retention".into(),
        state: RetentionState::Ready,
        detail: None,
        file_system: Some("0a1b2c3d-1111-2222-3333-444455556666".into()),
        capacity_bytes: Some(2048 * GIB),
        available_bytes: Some(700 * GIB + rng.below(GIB)),
        journal_bytes_per_second: rate,
        full_in_seconds: Some(700 * GIB / rate.max(1)),
        needed_bytes: Some(rate * 86_400),
        needed_for_24_h_bytes: Some(rate * 86_400),
        alerts: Vec::new(),
    }
}

impl Item {
    fn report(&mut self, now: Time, rng: &mut Rng) -> ItemReport {
        self.received += self.rate * 30;
        let newest = (now + self.offset) / POINT_EVERY;
        let points = (self.told != Some(newest)).then(|| {
            (0..POINTS).map(|back| self.bookmark(newest - back, back % 2 == 0)).collect::<Vec<Point>>()
        });
        self.told = Some(newest);
        ItemReport { status: self.status(now, rng), points }
    }

    fn point(&self, number: u64, time: Time) -> Point {
        let receive_time = time + SECOND / 4;
        Point {
            number,
            source_time: time,
            receive_time,
            bookmark: None,
            tested: None,
            journal_bytes: self.rate * 5,
        }
    }

    fn bookmark(&self, number: u64, application_consistent: bool) -> Point {
        let time = number * POINT_EVERY - self.offset;
        let bookmark = Bookmark { name: format!("auto-{number}"), application_consistent, group: None };
        Point { bookmark: Some(bookmark), ..self.point(time / SECOND, time) }
    }

    fn status(&mut self, now: Time, rng: &mut Rng) -> ItemStatus {
        let resync = self.resync.map(|done| (done + self.rate * 30) % (100 * GIB));
        self.resync = resync;
        // One with an alert about its age is that old.
        let age = if self.alert.is_some() { 17 * 60 * SECOND } else { rng.below(20 * SECOND) };
        ItemStatus {
            name: self.name.clone(),
            state: if resync.is_some() { ItemState::Resync } else { ItemState::Protected },
            detail: None,
            peer: Some("198.51.100.7:40112".into()),
            progress: resync.map(|done| Progress { work: Work::Resync, done, total: Some(100 * GIB) }),
            seconds_left: resync.map(|done| (100 * GIB - done) / self.rate.max(1)),
            protected_until: Some(now - age),
            newest_point: Some(self.point(now / SECOND, now - age)),
            oldest_point: Some(self.point(now / SECOND - 86_400, now - 24 * HOUR)),
            journal_bytes: 40 * GIB,
            journal_bytes_per_second: self.rate / 3,
            min_journal_bytes: 20 * GIB,
            max_journal_bytes: None,
            holds_point: None,
            policy: None,
            taken: false,
            window_wanted: 24 * HOUR,
            window_projected: Some(24 * HOUR),
            received_bytes: self.received,
            bytes_per_second: self.rate,
            disks: (0..2).map(|number| self.disk(number)).collect(),
            alerts: self.alert.iter().cloned().collect(),
            start: Some(StartReport {
                time: now - 24 * HOUR,
                recovered: false,
                summary: "closed cleanly; nothing to recover".into(),
            }),
        }
    }

    fn disk(&self, number: u32) -> DiskStatus {
        DiskStatus {
            id: format!("disk{number}"),
            target: format!("/dev/mapper/36000c29{number:025x}"),
            size: 100 * GIB,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hosts::host;

    #[test]
    fn a_heartbeat_is_as_large_as_a_real_one_and_tells_points_once() {
        let mut body = Body::new(&host(1), 10, Rng::new(1));
        let size = |heartbeat: &Heartbeat| serde_json::to_vec(heartbeat).unwrap().len();
        let (first, second) = (body.heartbeat(), body.heartbeat());
        assert!(first.items.iter().all(|item| item.points.as_ref().is_some_and(|points| points.len() == 48)));
        assert!(second.items.iter().filter(|item| item.points.is_some()).count() <= 1);
        assert!((50_000..200_000).contains(&size(&first)), "{}", size(&first));
        assert!((8_000..30_000).contains(&size(&second)), "{}", size(&second));
        body.tell_points();
        assert!(body.heartbeat().items.iter().all(|item| item.points.is_some()));
    }
}
