//! Which recovery points somebody has tested, and when.
//!
//! A mark is kept with the moment at which the point was received: a journal that is made anew counts from the beginning, and
//! its points were not tested. Marks of points that are gone are pushed out by newer ones.

use block_device::durable_file;
use control_api::Point;
use control_api::time::Time;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The file in the folder of test failovers.
const FILE: &str = "tested.json";
/// Marks that are kept.
const MOST: usize = 1000;
/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The marks, the newest last.
pub(crate) struct Tested {
    path: PathBuf,
    marks: Mutex<Vec<Mark>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Mark {
    item: String,
    number: u64,
    receive_time: Time,
    tested: Time,
}

impl Mark {
    fn is_of(&self, item: &str, point: &Point) -> bool {
        self.item == item && self.number == point.number && self.receive_time == point.receive_time
    }
}

impl Tested {
    /// Those that were kept in this folder.
    pub(crate) fn load(folder: &Path) -> Tested {
        let path = folder.join(FILE);
        let marks = read(&path).unwrap_or_else(|error| {
            tracing::warn!("{}: which points were tested cannot be read: {error}", path.display());
            Vec::new()
        });
        Tested { path, marks: Mutex::new(marks) }
    }

    fn marks(&self) -> MutexGuard<'_, Vec<Mark>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A point is tested now. A mark that cannot be kept is lost at the next restart, which is no reason not to test.
    pub(crate) fn note(&self, item: &str, point: &Point, now: Time) {
        let mut marks = self.marks();
        marks.retain(|mark| !mark.is_of(item, point));
        let (number, receive_time) = (point.number, point.receive_time);
        marks.push(Mark { item: item.to_owned(), number, receive_time, tested: now });
        let surplus = marks.len().saturating_sub(MOST);
        marks.drain(..surplus);
        let written = serde_json::to_vec(&*marks).map_err(std::io::Error::other);
        if let Err(error) = written.and_then(|text| durable_file::replace(&self.path, &text, 0o600)) {
            tracing::warn!("{}: that a point was tested cannot be written: {error}", self.path.display());
        }
    }

    /// Tells of these points of an item when they were tested last.
    pub(crate) fn tell(&self, item: &str, points: &mut [Point]) {
        let marks = self.marks();
        for point in points {
            point.tested = marks.iter().find(|mark| mark.is_of(item, point)).map(|mark| mark.tested);
        }
    }
}

fn read(path: &Path) -> std::io::Result<Vec<Mark>> {
    let found = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    if found.len() > MAX_FILE {
        return Err(std::io::Error::other("it is too long"));
    }
    serde_json::from_slice(&std::fs::read(path)?).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(number: u64, receive_time: Time) -> Point {
        Point { number, source_time: 1, receive_time, bookmark: None, tested: None, journal_bytes: 0 }
    }

    fn told(tested: &Tested, item: &str, point: Point) -> Option<Time> {
        let mut points = [point];
        tested.tell(item, &mut points);
        points[0].tested
    }

    #[test]
    fn a_mark_outlives_a_restart_and_belongs_to_one_point() {
        let folder = tempfile::tempdir().unwrap();
        let tested = Tested::load(folder.path());
        tested.note("web01", &point(7, 70), 100);
        tested.note("web01", &point(7, 70), 200);
        let after = Tested::load(folder.path());
        assert_eq!(told(&after, "web01", point(7, 70)), Some(200));
        assert_eq!(told(&after, "web01", point(7, 71)), None, "of a journal that was made anew");
        assert_eq!((told(&after, "db01", point(7, 70)), told(&after, "web01", point(8, 70))), (None, None));
        for number in 0..MOST as u64 + 5 {
            after.marks().push(Mark { item: "x".into(), number, receive_time: 1, tested: 1 });
        }
        after.note("web02", &point(1, 1), 300);
        let last = Tested::load(folder.path());
        assert_eq!(told(&last, "web02", point(1, 1)), Some(300));
        assert_eq!(last.marks().len(), MOST);
        assert!(std::fs::metadata(folder.path().join(FILE)).unwrap().len() < MAX_FILE);
    }

    #[test]
    fn a_damaged_file_or_a_full_disk_hinders_nobody() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "[{").unwrap();
        assert!(Tested::load(folder.path()).marks().is_empty());
        let tested = Tested::load(&folder.path().join("gone"));
        tested.note("web01", &point(7, 70), 100);
        assert_eq!(told(&tested, "web01", point(7, 70)), Some(100));
    }
}
