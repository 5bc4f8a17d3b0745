//! Whether this machine is ready to be a master target, and how to make it so.
//!
//! The published procedure asks for two pages of things, and where one was missing the old product found out days
//! later, by an error that named something else. Here each of them is a [`Check`]: a rule, what was found, and the
//! command that mends it. Looking changes nothing. Nobody needs a running daemon or a registration for it.
//!
//! The parts: `machine` is what the checks may ask, and remembers what was read. `facts` reads files and what
//! programs print. `checks` holds the rules, a file for each part of the machine. The crate `registration` talks to the
//! configuration server. `attestation` keeps what only people can answer, and `fix` mends, undoes, and keeps a ledger so that a
//! crash in between is no problem.
//!
//! A check never guesses. What cannot be read, or is rubbish, or hangs, gives [`Verdict::CannotTell`] with the reason;
//! that is no failure, but it is shown.

mod attestation;
mod checks;
mod facts;
mod fix;
mod machine;
#[cfg(test)]
mod page;
mod report;
#[cfg(test)]
mod testing;

pub use attestation::{Attestation, attest};
pub use fix::{FixError, Fixer, Step};
pub use machine::{Machine, MachineOptions};
pub use report::{Report, Row, Verdict};

use fix::Change;
use registration::server;
use std::fmt;

/// Part of the machine that a check looks at; reports are grouped by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Operating system and hardware.
    Machine,
    /// Its disks.
    Disks,
    /// multipath, LVM and mdadm.
    Multipath,
    /// The retention volume.
    Retention,
    /// Addresses and adapters.
    Network,
    /// Configuration server, process server, clock.
    Servers,
    /// This product's own installation.
    Installation,
    /// What only people can answer.
    People,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Group::Machine => "Machine and operating system",
            Group::Disks => "Disks",
            Group::Multipath => "multipath, LVM, RAID",
            Group::Retention => "Retention volume",
            Group::Network => "Network",
            Group::Servers => "Servers and clock",
            Group::Installation => "Installation",
            Group::People => "What only people can answer",
        })
    }
}

/// What a broken rule means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Replication or failback will not work.
    Failure,
    /// It may work, with a risk that is told.
    Warning,
}

/// A rule that the machine should keep.
#[derive(Debug)]
pub struct Check {
    /// Its name; it never changes.
    pub id: &'static str,
    /// Where it is shown.
    pub group: Group,
    /// What it means when the rule is broken.
    pub severity: Severity,
    /// What it is about.
    pub title: &'static str,
    /// The rule.
    pub needed: &'static str,
    /// Why there is this rule, and what happened in the old product without it.
    pub why: &'static str,
    look: fn(&Machine) -> Look,
    mend: Option<Mend>,
}

impl Check {
    /// Whether [`Fixer`] can mend it.
    pub fn fixable(&self) -> bool {
        self.mend.is_some()
    }

    /// Looks whether the machine keeps the rule.
    pub fn look(&'static self, machine: &Machine) -> Row {
        Row::new(self, (self.look)(machine))
    }
}

/// What changes mend it.
type Mend = fn(&Machine) -> Result<Vec<Change>, Unknown>;

/// What a look brings.
type Look = Result<Finding, Unknown>;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Finding {
    /// The rule is kept.
    Good(String),
    /// The rule is broken: what was found, and what mends it.
    Broken(String, String),
    /// The rule is kept in the main, but what was found should be changed.
    Weak(String, String),
}

impl Finding {
    fn good(found: impl Into<String>) -> Look {
        Ok(Finding::Good(found.into()))
    }

    fn broken(found: impl Into<String>, remedy: impl Into<String>) -> Look {
        Ok(Finding::Broken(found.into(), remedy.into()))
    }

    fn weak(found: impl Into<String>, remedy: impl Into<String>) -> Look {
        Ok(Finding::Weak(found.into(), remedy.into()))
    }
}

/// Why it cannot be told whether a rule is kept, and what makes it possible to tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
struct Unknown {
    why: String,
    remedy: Option<String>,
}

impl Unknown {
    fn because(why: impl Into<String>) -> Unknown {
        Unknown { why: why.into(), remedy: None }
    }

    fn until(why: impl Into<String>, remedy: impl Into<String>) -> Unknown {
        Unknown { why: why.into(), remedy: Some(remedy.into()) }
    }
}

impl From<block_device::Error> for Unknown {
    fn from(error: block_device::Error) -> Unknown {
        Unknown::because(error.to_string())
    }
}

/// All checks, in the order in which they are shown.
pub fn all() -> impl Iterator<Item = &'static Check> {
    checks::ALL.iter().copied().flatten()
}

/// The check with an id; the error says which one may have been meant.
pub fn find(id: &str) -> Result<&'static Check, String> {
    all().find(|check| check.id == id).ok_or_else(|| {
        let ids: Vec<&str> = all().map(|check| check.id).collect();
        match crate::config::nearest(id, &ids) {
            Some(nearest) => format!("there is no check {id:?}: did you mean {nearest}?"),
            None => format!("there is no check {id:?}: mtctl check lists those there are"),
        }
    })
}

/// The addresses that others reach this machine by; none where they cannot be read.
pub(crate) fn addresses(machine: &Machine) -> Vec<std::net::IpAddr> {
    checks::addresses(machine).unwrap_or_default()
}

/// The configuration server that an address stands for: a name or IP address, with or without a port.
pub fn server_address(text: &str) -> Option<crate::config::Server> {
    server::parse_address(text, crate::config::CONTROL_PORT)
}

/// Looks at the machine, at all of it or only by the checks named.
pub fn run(machine: &Machine, only: &[&'static Check]) -> Report {
    let wanted = |check: &&Check| only.is_empty() || only.iter().any(|one| one.id == check.id);
    Report { rows: all().filter(wanted).map(|check| check.look(machine)).collect() }
}
