//! Where an agent replicates to, and what of it stands in the state folder.
//!
//! ```text
//! STATE/assignment.json   where it was told to replicate to; what mt-source.toml says goes before it
//! STATE/replicated.json   whose the stream is that the tracker keeps
//! ```
//!
//! The second file is what makes a move safe. A master target that the agent comes back to may hold an old state of the
//! very stream that the tracker keeps, and would be taken for level by its sequence number alone, though what was written
//! meanwhile went elsewhere. So before the agent replicates to another place than this file names, it begins a new
//! stream, in which everything counts as changed; and only then it writes the file. Killed in between, it does so again.

use anyhow::{Context, Result, ensure};
use block_device::durable_file;
use control_api::agent::is_target;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::PathBuf;

/// The longest name of an item or certificate, in bytes.
const MAX_NAME: usize = 255;
/// The longest record that is read, in bytes.
const MAX_FILE: u64 = 16 << 10;

/// An item at a master target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// The item, as the master target knows it.
    pub item: String,
    /// Host and port of the master target.
    pub target: String,
    /// Name that its certificate is for; the host of `target` when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

impl Assignment {
    /// Refuses what cannot be a name or an address.
    pub fn check(&self) -> Result<()> {
        for (key, name) in [("item", Some(&self.item)), ("server_name", self.server_name.as_ref())] {
            let Some(name) = name else { continue };
            let good = (1..=MAX_NAME).contains(&name.len()) && !name.contains(char::is_control);
            ensure!(good, "{key} is {name:?}; a name has 1 to {MAX_NAME} bytes and no control characters");
        }
        ensure!(
            is_target(&self.target),
            "target is {:?}; give host and port, such as \"mt.example.com:9443\"",
            self.target
        );
        Ok(())
    }

    /// Name that the master target's certificate must be for.
    pub fn server_name(&self) -> &str {
        let host = self.target.rsplit_once(':').map_or(self.target.as_str(), |(host, _)| host);
        self.server_name.as_deref().unwrap_or(host.trim_matches(['[', ']']))
    }

    /// Whether it is the same item of the same master target. That is known by the name in its certificate where one is
    /// given, so its address may change; otherwise by its address.
    pub(crate) fn is_same_place(&self, other: &Assignment) -> bool {
        let same_target = match (&self.server_name, &other.server_name) {
            (Some(one), Some(other)) => one == other,
            (None, None) => self.target == other.target,
            _ => false,
        };
        self.item == other.item && same_target
    }
}

/// Which record.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Record {
    /// Where the agent was told to replicate to.
    Assigned,
    /// Where the tracker's stream goes.
    Replicated,
}

impl Record {
    fn file(self) -> &'static str {
        match self {
            Record::Assigned => "assignment.json",
            Record::Replicated => "replicated.json",
        }
    }
}

/// The records in a state folder.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    pub(crate) folder: PathBuf,
}

impl Records {
    /// What was recorded. A damaged record counts as none: the agent has to be assigned again, and compares everything.
    pub(crate) fn read(&self, record: Record) -> Result<Option<Assignment>> {
        let path = self.folder.join(record.file());
        match std::fs::metadata(&path) {
            Ok(found) if found.len() > MAX_FILE => {
                tracing::error!("{} is longer than any record, and not believed", path.display());
                return Ok(None);
            }
            _ => {}
        }
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let read = serde_json::from_slice::<Assignment>(&text).map_err(anyhow::Error::from);
        match read.and_then(|found| found.check().map(|()| found)) {
            Ok(found) => Ok(Some(found)),
            Err(error) => {
                tracing::error!("{} is damaged, and not believed: {error:#}", path.display());
                Ok(None)
            }
        }
    }

    /// Replaces a record, or removes it; durable when this returns.
    pub(crate) fn write(&self, record: Record, assignment: Option<&Assignment>) -> Result<()> {
        let path = self.folder.join(record.file());
        let written = match assignment {
            Some(assignment) => {
                let text = serde_json::to_vec_pretty(assignment)?;
                durable_file::replace(&path, &text, 0o600)
            }
            None => durable_file::remove(&path),
        };
        written.with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(item: &str, target: &str, server_name: Option<&str>) -> Assignment {
        Assignment { item: item.into(), target: target.into(), server_name: server_name.map(str::to_owned) }
    }

    #[test]
    fn a_place_is_known_by_its_name_where_it_has_one() {
        let here = at("web01", "10.0.0.5:9443", Some("mt01"));
        assert!(here.is_same_place(&at("web01", "10.0.0.6:9443", Some("mt01"))));
        assert!(!here.is_same_place(&at("web02", "10.0.0.5:9443", Some("mt01"))));
        assert!(!here.is_same_place(&at("web01", "10.0.0.5:9443", Some("mt02"))));
        assert!(!here.is_same_place(&at("web01", "10.0.0.5:9443", None)));
        assert!(!at("web01", "mt:1", None).is_same_place(&at("web01", "mt:2", None)));
        assert_eq!(at("a", "[fe80::1]:1", None).server_name(), "fe80::1");
    }

    #[test]
    fn a_crash_at_any_byte_of_a_record_leaves_the_old_one_or_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records { folder: folder.path().to_owned() };
        assert_eq!(records.read(Record::Assigned).unwrap(), None);
        let (old, new) = (at("web01", "mt:1", None), at("web02", "mt:2", Some("mt02")));
        records.write(Record::Assigned, Some(&old)).unwrap();
        let text = serde_json::to_vec_pretty(&new).unwrap();
        for length in 0..=text.len() {
            // What the crash leaves of the file that was to be renamed.
            std::fs::write(folder.path().join(".assignment.json.new"), &text[..length]).unwrap();
            assert_eq!(records.read(Record::Assigned).unwrap().as_ref(), Some(&old));
        }
        records.write(Record::Assigned, Some(&new)).unwrap();
        assert_eq!(records.read(Record::Assigned).unwrap().as_ref(), Some(&new));
        records.write(Record::Assigned, None).unwrap();
        assert_eq!(records.read(Record::Assigned).unwrap(), None);
    }

    #[test]
    fn what_is_damaged_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records { folder: folder.path().to_owned() };
        let good = serde_json::to_vec(&at("web01", "mt:1", None)).unwrap();
        let bad = [&b"{}"[..], &good[..good.len() - 1], br#"{"item":"","target":"mt:1"}"#, &[b' '; 20_000]];
        for text in bad {
            std::fs::write(folder.path().join("replicated.json"), text).unwrap();
            assert_eq!(records.read(Record::Replicated).unwrap(), None);
        }
    }
}
