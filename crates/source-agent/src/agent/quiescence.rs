//! Disks at rest: where a quiesce stands, on the disk and in the gate.
//!
//! ```text
//! STATE/quiescence.json      gate     a start that finds it
//! (none)                     open     –
//! beginning                  open     thaws what hooks may have frozen, and forgets it
//! draining                   closed   goes on with it: the disks are as they were when it was written
//! quiesced                   closed   leaves it so
//! given-up                   open     thaws, unless that was done
//! ```
//!
//! What is written down comes first where the gate is to be opened, and last where it is closed. So whenever the agent is
//! killed, nothing was written to the disks since a `draining` or `quiesced` that the next start finds. A file that cannot
//! be read counts as `quiesced`: to refuse writes that were allowed can be mended, to take some that come too late cannot.

use crate::Gate;
use anyhow::{Context, Result};
use block_device::durable_file;
use change_stream::Time;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

const FILE: &str = "quiescence.json";

/// Where a quiesce stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Quiescence {
    /// The master target is brought level, and applications to rest; writes go on.
    Beginning {
        /// The bookmark that is to be set.
        bookmark: String,
    },
    /// Nothing is written any more; the master target gets what it lacks.
    Draining {
        /// The bookmark.
        bookmark: String,
        /// Hooks have brought the applications to rest.
        application_consistent: bool,
    },
    /// The master target has everything, with the bookmark at its end.
    Quiesced {
        /// The bookmark.
        bookmark: String,
        /// Since when.
        since: Time,
    },
    /// It did not come to that; writes go on.
    GivenUp {
        /// The bookmark that was to be set.
        bookmark: String,
        /// Why.
        why: String,
        /// Somebody wished it.
        cancelled: bool,
        /// The post hook has run.
        thawed: bool,
    },
}

impl Quiescence {
    /// The bookmark.
    pub fn bookmark(&self) -> &str {
        match self {
            Quiescence::Beginning { bookmark }
            | Quiescence::Draining { bookmark, .. }
            | Quiescence::Quiesced { bookmark, .. }
            | Quiescence::GivenUp { bookmark, .. } => bookmark,
        }
    }

    /// Whether it is under way.
    pub fn is_under_way(&self) -> bool {
        matches!(self, Quiescence::Beginning { .. } | Quiescence::Draining { .. })
    }

    /// Whether it has come to its end, and everything is refused that would change the disks.
    pub fn is_quiesced(&self) -> bool {
        matches!(self, Quiescence::Quiesced { .. })
    }

    /// Whether changes are refused.
    pub(crate) fn refuses(&self) -> bool {
        matches!(self, Quiescence::Draining { .. } | Quiescence::Quiesced { .. })
    }
}

/// The file, the gate, and the thread that goes from one to the next.
pub(crate) struct Rest {
    file: PathBuf,
    gate: Arc<Gate>,
    state: Mutex<Option<Quiescence>>,
    cancelled: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Rest {
    /// Opens what was written down, and sets the gate by it.
    pub(crate) fn open(folder: &Path, gate: Arc<Gate>) -> Result<Rest> {
        let file = folder.join(FILE);
        let state = read(&file)?;
        if state.as_ref().is_some_and(Quiescence::refuses) {
            gate.refuse();
        }
        let (cancelled, thread) = (AtomicBool::new(false), Mutex::default());
        Ok(Rest { file, gate, state: Mutex::new(state), cancelled, thread })
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(crate) fn state(&self) -> Option<Quiescence> {
        self.locked().clone()
    }

    /// It begins.
    pub(crate) fn begin(&self, bookmark: &str) -> Result<()> {
        self.cancelled.store(false, Ordering::Relaxed);
        self.record(Some(Quiescence::Beginning { bookmark: bookmark.to_owned() }))
    }

    /// Nothing is being written any more, since changes are held, and what was written is durable.
    pub(crate) fn drain(&self, bookmark: &str, application_consistent: bool) -> Result<()> {
        self.record(Some(Quiescence::Draining { bookmark: bookmark.to_owned(), application_consistent }))
    }

    /// The master target has everything; the gate is closed already.
    pub(crate) fn rest(&self, bookmark: &str, since: Time) -> Result<()> {
        self.record(Some(Quiescence::Quiesced { bookmark: bookmark.to_owned(), since }))
    }

    /// It is given up; writes go on.
    pub(crate) fn give_up(&self, bookmark: &str, why: &str, cancelled: bool, thawed: bool) -> Result<()> {
        let (bookmark, why) = (bookmark.to_owned(), why.to_owned());
        self.record(Some(Quiescence::GivenUp { bookmark, why, cancelled, thawed }))?;
        self.gate.open();
        Ok(())
    }

    /// Forgets it all; writes go on.
    pub(crate) fn release(&self) -> Result<()> {
        self.record(None)?;
        self.gate.open();
        Ok(())
    }

    /// Somebody wants it to be given up, if that is still possible.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Keeps the thread that works on it.
    pub(crate) fn works(&self, thread: JoinHandle<()>) {
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    }

    /// Waits for the thread, which has been told to end.
    pub(crate) fn wait(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a defect: the thread that quiesces ended with a panic");
        }
    }

    fn record(&self, next: Option<Quiescence>) -> Result<()> {
        let mut state = self.locked();
        let written = match &next {
            Some(next) => durable_file::replace(&self.file, &serde_json::to_vec_pretty(next)?, 0o600),
            None => durable_file::remove(&self.file),
        };
        written.with_context(|| format!("cannot write {}", self.file.display()))?;
        *state = next;
        Ok(())
    }

    fn locked(&self) -> MutexGuard<'_, Option<Quiescence>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(file: &Path) -> Result<Option<Quiescence>> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    Ok(Some(serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::error!(
            "{} is damaged ({error}): writes are refused; if the disks are not failed over, run mt-source unquiesce",
            file.display()
        );
        Quiescence::Quiesced { bookmark: "unknown".to_owned(), since: 0 }
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> (Rest, bool) {
        let gate = Arc::new(Gate::default());
        let rest = Rest::open(folder, gate.clone()).unwrap();
        let is_open = gate.enter().is_some();
        (rest, is_open)
    }

    /// Whatever is the last that was written before a kill, the next start has the gate as it was, or closed.
    #[test]
    fn a_kill_after_each_write_is_found_with_the_gate_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert!(open(folder).1);
        type Step = fn(&Rest) -> Result<()>;
        let steps: [(Step, bool); 6] = [
            (|rest| rest.begin("move"), true),
            (|rest| rest.drain("move", true), false),
            (|rest| rest.rest("move", 7), false),
            (|rest| rest.release(), true),
            (|rest| rest.drain("again", false), false),
            (|rest| rest.give_up("again", "the target is away", false, false), true),
        ];
        for (number, (step, is_open)) in steps.into_iter().enumerate() {
            let (before, was_open) = open(folder);
            // What a kill leaves of a file that was not renamed counts for nothing.
            let left = folder.join(".quiescence.json.new");
            std::fs::write(&left, "{\"state\":\"qui").unwrap();
            let found = open(folder);
            assert_eq!((found.0.state(), found.1), (before.state(), was_open), "{number}");
            step(&before).unwrap();
            let (after, opened) = open(folder);
            assert_eq!((after.state(), opened), (before.state(), is_open), "{number}");
        }
    }

    #[test]
    fn what_cannot_be_written_opens_no_gate() {
        let folder = tempfile::tempdir().unwrap();
        let (rest, _) = open(folder.path());
        rest.gate().refuse();
        rest.drain("move", false).unwrap();
        std::fs::remove_dir_all(folder.path()).unwrap();
        assert!(rest.release().is_err() && rest.give_up("move", "", true, true).is_err());
        assert!(rest.gate().enter().is_none());
        assert!(rest.state().unwrap().is_under_way());
    }

    #[test]
    fn a_damaged_file_refuses_writes_until_it_is_released() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "{\"state\":\"free\"}").unwrap();
        let (rest, is_open) = open(folder.path());
        assert!(!is_open && rest.state().unwrap().is_quiesced());
        rest.release().unwrap();
        assert!(rest.gate().enter().is_some() && open(folder.path()).1);
    }
}
