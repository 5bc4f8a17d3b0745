//! What only people can answer, and who answered it.
//!
//! A virtual machine cannot see its own snapshots, nor that its disks were moved. Whoever can see it in vCenter says
//! so with `mtctl check --attest ID --by NAME`; name and time are kept. An answer holds for [`VALID_DAYS`] days: long
//! enough for a failback that was planned, short enough that nobody relies on last year's word.

use super::{Check, Group};
use block_device::durable_file;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;

/// How long an answer holds.
pub(super) const VALID_DAYS: u64 = 30;

const DAY: u64 = 86_400;
const FORMAT: u32 = 1;
const FILE: &str = "attestations.json";
const LONGEST_NAME: usize = 100;

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attestation {
    /// Id of the check.
    pub check: String,
    /// Who answered.
    pub by: String,
    /// When, in seconds since the epoch.
    pub time: u64,
}

impl Attestation {
    /// Days that the answer still holds at `now`; `None` when it no longer does, or is from the future.
    pub(super) fn days_left(&self, now: u64) -> Option<u64> {
        let age = now.checked_sub(self.time)? / DAY;
        VALID_DAYS.checked_sub(age).filter(|left| *left > 0)
    }
}

/// All answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attestations {
    format: u32,
    attestations: Vec<Attestation>,
}

impl Attestations {
    /// The answers kept in the state folder; the error says what is wrong with the file.
    pub(super) fn load(state: &Path) -> Result<Attestations, String> {
        let path = state.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Attestations::default()),
            Err(cause) => return Err(format!("cannot read {}: {cause}", path.display())),
        };
        match serde_json::from_slice::<Attestations>(&bytes) {
            Ok(read) if read.format == FORMAT => Ok(read),
            Ok(read) => Err(format!("{} has the unknown format {}", path.display(), read.format)),
            Err(cause) => Err(format!("cannot read {}: {cause}; remove it and attest again", path.display())),
        }
    }

    /// The newest answer for a check.
    pub(super) fn of(&self, check: &str) -> Option<&Attestation> {
        self.attestations.iter().rev().find(|one| one.check == check)
    }

    fn save(&self, state: &Path) -> io::Result<()> {
        durable_file::replace(&state.join(FILE), &serde_json::to_vec_pretty(self)?, 0o600)
    }
}

/// Keeps an answer; durable when this returns. The error says why it was not kept.
pub fn attest(state: &Path, check: &Check, by: &str, now: u64) -> Result<Attestation, String> {
    if check.group != Group::People {
        return Err(format!("{} is seen by the machine itself and needs nobody's word", check.id));
    }
    let by = by.trim();
    if by.is_empty() || by.chars().count() > LONGEST_NAME || by.chars().any(char::is_control) {
        return Err(format!("give a name of 1 to {LONGEST_NAME} characters"));
    }
    let mut kept = Attestations::load(state)?;
    let attestation = Attestation { check: check.id.to_owned(), by: by.to_owned(), time: now };
    kept.format = FORMAT;
    kept.attestations.retain(|one| one.check != check.id);
    kept.attestations.push(attestation.clone());
    kept.save(state).map_err(|cause| format!("cannot write {FILE} in {}: {cause}", state.display()))?;
    Ok(attestation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let check = super::super::find("snapshots").unwrap();
        let now = 1_700_000_000;
        attest(folder.path(), check, " eve ", now).unwrap();
        let answer = Attestations::load(folder.path()).unwrap().of("snapshots").unwrap().clone();
        assert_eq!((answer.by.as_str(), answer.days_left(now)), ("eve", Some(30)));
        assert_eq!(answer.days_left(now + 29 * DAY), Some(1));
        assert_eq!(answer.days_left(now + 30 * DAY), None);
        assert_eq!(answer.days_left(now - 1), None);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let find = |id| super::super::find(id).unwrap();
        assert!(attest(folder.path(), find("kernel"), "eve", 1).unwrap_err().contains("kernel"));
        assert!(attest(folder.path(), find("snapshots"), " ", 1).is_err());
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(attest(folder.path(), find("snapshots"), "eve", 1).unwrap_err().contains(FILE));
    }
}
