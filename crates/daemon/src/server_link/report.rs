//! Items and the retention volume, in the words of a heartbeat.

use crate::item::ItemHandle;
use crate::master_target::MasterTarget;
use control_api::agent::ItemReport;
use control_api::{Answer, Call, ItemStatus, Point, RetentionStatus};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long the items are asked; then what they told last is told again.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of points that go into one heartbeat, about; the next one takes further items.
const POINTS_ROOM: usize = 400 << 10;
/// Bytes that a point takes in JSON beside its name and group, about.
const POINT: usize = 250;

/// What was told, and what the other side has.
#[derive(Default)]
pub(super) struct Reports {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<(RetentionStatus, Vec<ItemStatus>)>,
    /// The bookmarks of each item, as the configuration server has them.
    answered: HashMap<String, Vec<Point>>,
    /// What they were, when the newest point of the item was this one.
    known: HashMap<String, (Option<u64>, Vec<Point>)>,
    /// Points found no room in the last heartbeat.
    more: bool,
}

impl Reports {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the retention volume and the items are, with those points that are new to the other side.
    pub(super) fn collect(
        &self,
        target: &Arc<MasterTarget>,
        runtime: &Handle,
    ) -> (Option<RetentionStatus>, Vec<ItemReport>) {
        let asked = runtime.block_on(async { timeout(PATIENCE, status(target)).await });
        if let Ok(Some(found)) = asked {
            self.state().last = Some(found);
        }
        let Some((retention, items)) = self.state().last.clone() else { return (None, Vec::new()) };
        self.look_for_bookmarks(target, runtime, &items);
        (Some(retention), self.state().with_points(items))
    }

    /// Reads the bookmarks of those items that have another newest point than when they were read last.
    fn look_for_bookmarks(&self, target: &Arc<MasterTarget>, runtime: &Handle, items: &[ItemStatus]) {
        for item in items {
            let newest = item.newest_point.as_ref().map(|point| point.number);
            let known = self.state().known.get(&item.name).map(|(newest, _)| *newest);
            if known == Some(newest) || item.newest_point.is_none() {
                continue;
            }
            let found = runtime.block_on(async { timeout(PATIENCE, bookmarks(target, &item.name)).await });
            if let Ok(Some(points)) = found {
                self.state().known.insert(item.name.clone(), (newest, points));
            }
        }
    }

    /// A heartbeat with these items was answered. True when there are points left to be told.
    pub(super) fn answered(&self, items: &[ItemReport], want_points: bool) -> bool {
        let mut state = self.state();
        for item in items {
            if let Some(points) = &item.points {
                state.answered.insert(item.status.name.clone(), points.clone());
            }
        }
        if want_points {
            state.answered.clear();
        }
        state.more || want_points
    }
}

impl State {
    fn with_points(&mut self, items: Vec<ItemStatus>) -> Vec<ItemReport> {
        let mut room = POINTS_ROOM;
        self.more = false;
        let mut reports = Vec::new();
        for status in items {
            // Of an item that was closed all the time nothing is known, which is not the same as none.
            let known = self.known.get(&status.name).map(|(_, points)| points);
            let new = known.filter(|known| self.answered.get(&status.name) != Some(*known));
            let takes = new.into_iter().flatten().map(size).sum::<usize>();
            let fits = new.filter(|_| takes <= room);
            self.more |= new.is_some() && fits.is_none();
            room -= if fits.is_some() { takes } else { 0 };
            reports.push(ItemReport { points: fits.cloned(), status });
        }
        reports
    }
}

fn size(point: &Point) -> usize {
    let texts = |bookmark: &control_api::Bookmark| {
        bookmark.name.len() + bookmark.group.as_ref().map_or(0, String::len)
    };
    POINT + point.bookmark.as_ref().map_or(0, texts)
}

async fn status(target: &Arc<MasterTarget>) -> Option<(RetentionStatus, Vec<ItemStatus>)> {
    let (nobody, _) = mpsc::channel(1);
    match target.answer(Call::Status, nobody).await {
        Ok(Answer::Status(status)) => Some((status.retention, status.items)),
        _ => None,
    }
}

async fn bookmarks(target: &Arc<MasterTarget>, item: &str) -> Option<Vec<Point>> {
    let (nobody, _) = mpsc::channel(1);
    let limit = u32::try_from(ItemReport::MAX_POINTS).unwrap_or(u32::MAX);
    let call = Call::Points { item: item.to_owned(), from: None, to: None, bookmarks: true, limit };
    match target.answer(call, nobody).await {
        Ok(Answer::Points(points)) => Some(points),
        _ => None,
    }
}

/// What is told at once when it changes.
pub(super) fn gist(target: &MasterTarget) -> Vec<String> {
    let item = |item: &Arc<ItemHandle>| {
        let (snapshot, report) = (item.snapshot(), item.report().unwrap_or_default());
        let alerts: Vec<&str> =
            snapshot.alerts.iter().chain(&report.alerts).map(|alert| alert.kind.id()).collect();
        format!("{} {} {}", item.name(), snapshot.state(), alerts.join(" "))
    };
    let volume = target.volume.now();
    let ended = target.test_failovers.all().into_iter().map(|test| format!("test failover {}", test.id));
    target.items.all().iter().map(item).chain(ended).chain([volume.state.to_string()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use control_api::{Bookmark, ItemState};

    fn point(number: u64) -> Point {
        let bookmark = Bookmark { name: format!("b{number}"), application_consistent: false, group: None };
        Point {
            number,
            source_time: 1,
            receive_time: 1,
            bookmark: Some(bookmark),
            tested: None,
            journal_bytes: 0,
        }
    }

    fn item(name: &str) -> ItemStatus {
        ItemStatus::new(name, ItemState::Protected)
    }

    #[test]
    fn points_are_told_until_they_are_answered_and_when_they_change() {
        let reports = Reports::default();
        let tell = || reports.state().with_points(vec![item("web01")]).remove(0).points;
        assert_eq!(tell(), None, "nothing is known yet");
        reports.state().known.insert("web01".into(), (Some(5), Vec::new()));
        assert_eq!(tell(), Some(Vec::new()));
        assert_eq!(tell(), Some(Vec::new()), "nobody answered");
        let answer = |want| {
            let sent = reports.state().with_points(vec![item("web01")]);
            reports.answered(&sent, want)
        };
        assert!(!answer(false));
        assert_eq!(tell(), None);
        reports.state().known.insert("web01".into(), (Some(7), vec![point(7)]));
        assert_eq!(tell(), Some(vec![point(7)]));
        assert!(!answer(false));
        assert_eq!(tell(), None);
        assert!(answer(true), "they are wanted, so the next heartbeat comes soon");
        assert_eq!(tell(), Some(vec![point(7)]));
    }

    #[test]
    fn a_heartbeat_has_room_for_so_many_points() {
        let reports = Reports::default();
        let names: Vec<String> = (0..100).map(|number| format!("item{number}")).collect();
        for name in &names {
            let points = (0..ItemReport::MAX_POINTS as u64).map(point).collect();
            reports.state().known.insert(name.clone(), (Some(7), points));
        }
        let mut heartbeats = 0;
        let mut told = 0;
        loop {
            heartbeats += 1;
            let sent = reports.state().with_points(names.iter().map(|name| item(name)).collect());
            let length = serde_json::to_vec(&sent).unwrap().len();
            assert!(length < control_api::agent::MAX_HEARTBEAT * 3 / 4, "{length} bytes");
            told += sent.iter().filter(|item| item.points.is_some()).count();
            if !reports.answered(&sent, false) {
                break;
            }
        }
        assert_eq!(told, 100);
        assert!((2..=10).contains(&heartbeats), "{heartbeats}");
    }
}
