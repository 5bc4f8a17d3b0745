//! Mends what the checks found, and takes it back.
//!
//! Each change is written into a ledger, `fixes.json` in the state folder, before it is made, with all that is needed
//! to take it back; the ledger is durable when the change begins. So after a crash at any point `--undo` knows each
//! change that was made or may have been made. Making and taking back are both idempotent: to take back a change that
//! was never made does nothing. Changes are taken back in reverse order, and each leaves the ledger after it is undone.
//!
//! Two programs cannot mend at once: a lock on the state folder sees to that.

pub(super) mod block;
mod change;
mod ledger;

pub(super) use change::Change;

use super::{Check, Machine, Verdict};
use ledger::{Entry, Ledger, Stage};

/// Why something was not mended, or not taken back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FixError {
    /// The ledger could not be read or written.
    #[error("cannot {doing} the ledger of changes {path}: {cause}; nothing was changed")]
    Ledger {
        /// read, write, lock.
        doing: &'static str,
        /// The ledger.
        path: String,
        /// The system's word.
        cause: std::io::Error,
    },
    /// Another program is at it.
    #[error("another mtctl check --fix or --undo is under way; wait for it")]
    Busy,
    /// A file could not be changed.
    #[error("cannot change {path}: {cause}; it is as it was")]
    File {
        /// The file or folder.
        path: String,
        /// The system's word.
        cause: std::io::Error,
    },
    /// A program failed.
    #[error(transparent)]
    Program(#[from] block_device::Error),
    /// What is to be changed has been changed by hand.
    #[error("{path} was not changed: {problem}")]
    Refused {
        /// The file.
        path: String,
        /// Why.
        problem: &'static str,
    },
}

/// One change that can be made, or taken back.
#[derive(Clone, Debug)]
pub struct Step {
    /// Id of the check that it is for.
    pub check: String,
    /// What will be done, as a person would do it.
    pub shown: String,
    change: Change,
}

/// Makes changes and takes them back.
pub struct Fixer<'a> {
    machine: &'a Machine,
    ledger: Ledger,
}

impl<'a> Fixer<'a> {
    /// Opens the ledger, and makes the state folder for it when it is missing.
    pub fn open(machine: &'a Machine) -> Result<Fixer<'a>, FixError> {
        Ok(Fixer { machine, ledger: Ledger::open(machine)? })
    }

    /// Whether anything was changed that is not taken back yet.
    pub fn has_ledger(machine: &Machine) -> bool {
        machine.state_path().join(ledger::FILE).exists()
    }

    /// What would mend the machine, by the checks named or by all; and, in words, what cannot be mended by itself.
    pub fn plan(machine: &Machine, only: &[&'static Check]) -> (Vec<Step>, Vec<String>) {
        let mut steps = Vec::new();
        let mut refused = Vec::new();
        for row in super::run(machine, only).rows {
            let Some(mend) =
                row.check.mend.filter(|_| matches!(row.verdict, Verdict::Failed | Verdict::Warning))
            else {
                continue;
            };
            match mend(machine) {
                Ok(changes) => {
                    steps.extend(changes.into_iter().map(|change| Step::new(row.check.id, change)))
                }
                Err(unknown) => refused.push(format!("{}: {unknown}", row.check.id)),
            }
        }
        // The state folder first: later entries of the ledger lie in it.
        steps.sort_by_key(|step| !matches!(step.change, Change::MakeFolder { .. }));
        (steps, refused)
    }

    /// Makes a change.
    pub fn make(&mut self, step: &Step) -> Result<(), FixError> {
        step.change.check(self.machine.system())?;
        if self.ledger.has_made(&step.change) {
            return Ok(());
        }
        let entry = Entry {
            check: step.check.clone(),
            time: self.machine.options.now,
            stage: Stage::Begun,
            change: step.change.clone(),
        };
        self.ledger.push(entry)?;
        step.change.make(self.machine.system())?;
        self.ledger.done()
    }

    /// What was changed, the last first.
    pub fn made(&self) -> Vec<Step> {
        let entries = self.ledger.entries().iter().rev();
        entries
            .map(|entry| Step {
                shown: entry.change.undo_shown(),
                ..Step::new(&entry.check, entry.change.clone())
            })
            .collect()
    }

    /// Takes back the last change that is in the ledger.
    pub fn undo_last(&mut self) -> Result<(), FixError> {
        let Some(entry) = self.ledger.entries().last() else { return Ok(()) };
        let change = entry.change.clone();
        let failed = matches!((entry.stage, &change), (Stage::Begun, Change::Run { .. }));
        match change.undo(self.machine.system()) {
            // A command that failed left nothing, when taking it back fails as well.
            Err(FixError::Program(_)) if failed => {}
            outcome => outcome?,
        }
        self.ledger.pop()?;
        // The state folder goes only once the ledger in it has gone.
        match change {
            Change::MakeFolder { .. } => change.undo(self.machine.system()),
            _ => Ok(()),
        }
    }
}

impl Step {
    fn new(check: &str, change: Change) -> Step {
        Step { check: check.to_owned(), shown: change.shown(), change }
    }
}

#[cfg(test)]
mod tests;
