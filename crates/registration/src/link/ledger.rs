//! The jobs that this machine was given, on the disk.
//!
//! ```text
//! STATE/jobs/0123456789abcdef0123456789abcdef.json
//! ```
//!
//! One file for each job, written durably before the job begins, each time it begins again, when it notes something, and
//! when it has ended. Ended jobs whose end the configuration server has confirmed are kept for a while all the same: a
//! server that was restored from a backup may give an old order again.

use crate::register::now;
use block_device::durable_file;
use control_api::Failure;
use control_api::agent::{JobOrder, JobReport, JobState, is_job_id};
use control_api::registration::Hex;
use control_api::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The folder in a state folder.
const FOLDER: &str = "jobs";
/// Ended jobs that are kept.
const KEPT: usize = 256;
/// Ended jobs that are kept although nobody has confirmed their end.
const KEPT_UNCONFIRMED: usize = 1024;
/// Jobs that have not ended; more are not taken.
const MOST_OPEN: usize = 64;
/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 256 << 10;

/// What is known of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The authority of the configuration server that ordered it.
    pub(super) authority: Hex,
    pub(super) order: JobOrder,
    /// When it was taken.
    pub(super) taken: Time,
    /// How often it was begun.
    pub(super) attempts: u32,
    /// What it noted for the case that it is stopped.
    #[serde(default)]
    pub(super) note: Option<String>,
    /// What came of it, once it has ended.
    #[serde(default)]
    pub(super) report: Option<JobReport>,
    /// Whether the configuration server has that.
    #[serde(default)]
    pub(super) confirmed: bool,
}

/// What becomes of an order.
#[derive(Debug, PartialEq)]
pub(super) enum Taken {
    /// It is new, and written down: it can begin.
    New,
    /// It is known, and is under way or waits.
    Open,
    /// It is known and has ended; the report is to be told again.
    Ended,
    /// There are too many that have not ended; it is not taken, and will be repeated.
    Full,
}

/// All jobs.
pub(super) struct Ledger {
    folder: PathBuf,
    entries: BTreeMap<String, Entry>,
}

impl Ledger {
    /// Reads what is on the disk, and names the jobs that have not ended, the oldest first.
    pub(super) fn open(state: &Path) -> (Ledger, Vec<String>) {
        let mut ledger = Ledger { folder: state.join(FOLDER), entries: BTreeMap::new() };
        for file in fs::read_dir(&ledger.folder).into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let Some(id) = name.strip_suffix(".json").filter(|id| is_job_id(id)) else { continue };
            match read(&file.path()) {
                Ok(entry) if entry.order.id == id => drop(ledger.entries.insert(id.to_owned(), entry)),
                Ok(_) => tracing::error!("{}: the record of another job", file.path().display()),
                Err(error) => tracing::error!("{}: the job is given up: {error}", file.path().display()),
            }
        }
        let mut open: Vec<&Entry> = ledger.entries.values().filter(|entry| entry.report.is_none()).collect();
        open.sort_by_key(|entry| (entry.order.ordered, entry.taken));
        let open = open.into_iter().map(|entry| entry.order.id.clone()).collect();
        (ledger, open)
    }

    pub(super) fn get(&self, id: &str) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// Takes an order of the configuration server with this authority; a new one is durable when this returns.
    pub(super) fn take(&mut self, authority: &Hex, order: &JobOrder) -> io::Result<Taken> {
        if let Some(entry) = self.entries.get_mut(&order.id) {
            let ended = entry.report.is_some();
            // Whoever gives an order again has not got the report.
            entry.confirmed &= !ended;
            return Ok(if ended { Taken::Ended } else { Taken::Open });
        }
        let open = self.entries.values().filter(|entry| entry.report.is_none()).count();
        if open >= MOST_OPEN {
            return Ok(Taken::Full);
        }
        let damaged = self.path(&order.id).exists();
        let mut entry = Entry {
            authority: authority.clone(),
            order: order.clone(),
            taken: now(),
            attempts: 0,
            note: None,
            report: None,
            confirmed: false,
        };
        if damaged {
            entry.report = Some(lost(&order.id));
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        self.write(&entry)?;
        self.entries.insert(order.id.clone(), entry);
        self.prune();
        Ok(if damaged { Taken::Ended } else { Taken::New })
    }

    /// Changes what is known of a job; durable when this returns. What cannot be written is not forgotten either.
    pub(super) fn change(&mut self, id: &str, change: impl FnOnce(&mut Entry)) -> io::Result<()> {
        let Some(entry) = self.entries.get_mut(id) else { return Err(io::ErrorKind::NotFound.into()) };
        change(entry);
        let entry = entry.clone();
        self.write(&entry)
    }

    /// The configuration server has the last report of a job.
    pub(super) fn confirm(&mut self, id: &str) {
        // Where this cannot be written, the report is told once more after a restart.
        if let Err(error) = self.change(id, |entry| entry.confirmed = true) {
            tracing::debug!("{id}: that the end was told is not written down: {error}");
        }
        self.prune();
    }

    /// Ended jobs of a configuration server that has not confirmed their end.
    pub(super) fn unconfirmed(&self, authority: &Hex) -> Vec<JobReport> {
        let unconfirmed = |entry: &&Entry| !entry.confirmed && entry.authority == *authority;
        self.entries.values().filter(unconfirmed).filter_map(|entry| entry.report.clone()).collect()
    }

    /// Removes the oldest ended jobs beyond what is kept.
    fn prune(&mut self) {
        let mut ended: Vec<(Time, bool, String)> = self
            .entries
            .values()
            .filter(|entry| entry.report.is_some())
            .map(|entry| (entry.taken, entry.confirmed, entry.order.id.clone()))
            .collect();
        ended.sort_unstable_by(|one, other| other.cmp(one));
        let (mut confirmed, mut unconfirmed) = (0, 0);
        for (_, is_confirmed, id) in ended {
            let (count, kept) =
                if is_confirmed { (&mut confirmed, KEPT) } else { (&mut unconfirmed, KEPT_UNCONFIRMED) };
            *count += 1;
            // One that stays behind is pruned next time.
            if *count > kept && durable_file::remove(&self.path(&id)).is_ok() {
                self.entries.remove(&id);
            }
        }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    fn write(&self, entry: &Entry) -> io::Result<()> {
        let text = serde_json::to_vec(entry).map_err(io::Error::other)?;
        durable_file::replace(&self.path(&entry.order.id), &text, 0o600)
    }
}

fn read(path: &Path) -> io::Result<Entry> {
    if fs::metadata(path)?.len() > MAX_FILE {
        return Err(io::Error::other("the file is too long"));
    }
    serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)
}

/// What is told of a job whose record cannot be read: whether it was carried out is not known, so it is not carried out
/// again.
fn lost(id: &str) -> JobReport {
    let failure = Failure::new(
        format!("job {id}"),
        "it is not known what came of it",
        "its record on this host is damaged",
        "look whether it was carried out, and order it again if it was not",
    );
    failed(id, failure)
}

/// The report of a job that was not begun.
pub(super) fn failed(id: &str, failure: Failure) -> JobReport {
    JobReport {
        id: id.to_owned(),
        state: JobState::Failed,
        started: now(),
        ended: Some(now()),
        steps: Vec::new(),
        progress: None,
        seconds_left: None,
        can_cancel: false,
        outcome: None,
        failure: Some(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control_api::agent::JobKind;

    fn order(number: u32) -> JobOrder {
        JobOrder { id: format!("{number:032x}"), job: JobKind::Check, ordered: number.into() }
    }

    fn ended(number: u32) -> JobReport {
        let report = lost(&order(number).id);
        JobReport { state: JobState::Succeeded, failure: None, started: 1, ended: Some(2), ..report }
    }

    fn authority() -> Hex {
        Hex(vec![1; 32])
    }

    #[test]
    fn an_order_is_taken_once_whatever_happens_in_between() {
        let state = tempfile::tempdir().unwrap();
        let (mut ledger, open) = Ledger::open(state.path());
        assert!(open.is_empty());
        assert_eq!(ledger.take(&authority(), &order(1)).unwrap(), Taken::New);
        assert_eq!(ledger.take(&authority(), &order(1)).unwrap(), Taken::Open);
        ledger.change(&order(1).id, |entry| entry.note = Some("half".into())).unwrap();
        let (mut ledger, open) = Ledger::open(state.path());
        assert_eq!(open, [order(1).id]);
        assert_eq!(ledger.get(&open[0]).unwrap().note.as_deref(), Some("half"));
        ledger.change(&open[0], |entry| entry.report = Some(ended(1))).unwrap();
        ledger.confirm(&open[0]);
        let (mut ledger, open) = Ledger::open(state.path());
        assert!(open.is_empty() && ledger.unconfirmed(&authority()).is_empty());
        assert_eq!(ledger.take(&authority(), &order(1)).unwrap(), Taken::Ended);
        assert_eq!(ledger.unconfirmed(&authority()), [ended(1)]);
        assert!(ledger.unconfirmed(&Hex(vec![2; 32])).is_empty());
    }

    #[test]
    fn a_record_that_is_damaged_is_not_run_again() {
        let state = tempfile::tempdir().unwrap();
        let (mut ledger, _) = Ledger::open(state.path());
        ledger.take(&authority(), &order(7)).unwrap();
        fs::write(ledger.path(&order(7).id), "rubbish").unwrap();
        let (mut ledger, open) = Ledger::open(state.path());
        assert!(open.is_empty());
        assert_eq!(ledger.take(&authority(), &order(7)).unwrap(), Taken::Ended);
        assert_eq!(ledger.unconfirmed(&authority())[0].state, JobState::Failed);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let state = tempfile::tempdir().unwrap();
        let (mut ledger, _) = Ledger::open(state.path());
        for number in 0..KEPT as u32 + 20 {
            ledger.take(&authority(), &order(number)).unwrap();
            ledger.change(&order(number).id, |entry| entry.report = Some(ended(number))).unwrap();
            ledger.confirm(&order(number).id);
        }
        assert_eq!(fs::read_dir(state.path().join(FOLDER)).unwrap().count(), KEPT);
        assert!(ledger.get(&order(19).id).is_none() && ledger.get(&order(20).id).is_some());
        for number in 1000..1000 + MOST_OPEN as u32 {
            assert_eq!(ledger.take(&authority(), &order(number)).unwrap(), Taken::New);
        }
        assert_eq!(ledger.take(&authority(), &order(9999)).unwrap(), Taken::Full);
    }
}
