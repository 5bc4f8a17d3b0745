//! What a check found.

use crate::{Error, Problem, Result};
use disk::Bytes;
use std::fmt;

/// Findings that a report lists; of more it tells the number.
const MAX_FINDINGS: usize = 1000;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is wrong, but it is worth knowing.
    Note,
    /// The data is whole, but something should be done.
    Warning,
    /// Data is damaged, or may be.
    Error,
}

/// One thing that a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file.
    pub object: String,
    /// Where in the file.
    pub offset: Bytes,
    /// What it is.
    pub problem: Problem,
    /// Whether a repair may mend it.
    pub repairable: bool,
}

/// All that a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order in which they were found.
    pub findings: Vec<Finding>,
    /// Findings that are not listed, because there were too many.
    pub more: u64,
}

impl Report {
    /// True when no data is damaged: there are at most notes and warnings.
    pub fn is_sound(&self) -> bool {
        self.more == 0 && self.findings.iter().all(|finding| finding.severity < Severity::Error)
    }

    pub(crate) fn add(
        &mut self,
        severity: Severity,
        object: &str,
        offset: Bytes,
        problem: Problem,
        repairable: bool,
    ) {
        if self.findings.len() == MAX_FINDINGS {
            self.more += 1;
            return;
        }
        self.findings.push(Finding { severity, object: object.to_owned(), offset, problem, repairable });
    }

    /// Takes damage over as a finding; other errors stay errors.
    pub(crate) fn take(&mut self, outcome: Result<()>) -> Result<()> {
        match outcome {
            Err(Error::Damaged { object, offset, problem }) => {
                self.add(Severity::Error, &object, offset, problem, false);
                Ok(())
            }
            other => other,
        }
    }

    /// The report, with damage that ended the check as its last finding.
    pub(crate) fn with_damage(mut self, error: Error) -> Result<Report> {
        self.take(Err(error))?;
        Ok(self)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

impl Finding {
    fn advice(&self) -> &'static str {
        match (&self.problem, self.severity) {
            (_, Severity::Error) if self.repairable => "repair the image; if it stays, restore a copy",
            (Problem::Unclean | Problem::TablesDiffer { .. }, _) => {
                "repair the image, or open it for writing"
            }
            (Problem::Leaked { .. }, _) => "convert the image to win the space back",
            (Problem::ChangeTracking { .. }, _) => "reset change tracking before the next incremental backup",
            (Problem::TooShort { .. }, _) => "copy the file again from where it came from",
            _ => "restore a copy",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { severity, object, offset, problem, .. } = self;
        write!(f, "{severity}: {object}, byte {}: {problem}; {}", offset.0, self.advice())
    }
}
