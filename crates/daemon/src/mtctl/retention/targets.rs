//! Which disks items write to. A target that is still empty can be told from a free disk by this only, so what cannot be
//! read is a doubt, never an empty list.

use crate::config::{self, Config, DEFAULT_RETENTION, DEFAULT_STATE};
use retention_volume::eligibility::Question;
use std::path::{Path, PathBuf};

/// What the configuration, and the files of items that were taken, tell of a machine.
#[derive(Debug)]
pub(super) struct Known {
    /// The configuration, if it is there and free of errors.
    pub(super) config: Option<Config>,
    /// What is told of those that are there.
    pub(super) notes: Vec<String>,
    targets: Vec<String>,
    doubt: Option<String>,
}

impl Known {
    /// Reads the configuration; where there is none, what the state folder holds by default.
    pub(super) fn read(file: &Path) -> Known {
        Known::read_at(file, Path::new(DEFAULT_STATE))
    }

    pub(super) fn read_at(file: &Path, default_state: &Path) -> Known {
        let mut known = Known { config: None, notes: Vec::new(), targets: Vec::new(), doubt: None };
        let mut doubts = Vec::new();
        // A link that leads nowhere is there.
        if file.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            let note = format!(
                "there is no {}, so no disk is known to be the target of an item in it",
                file.display()
            );
            known.notes.push(note);
        } else {
            match Config::load(file) {
                Ok(config) => known.config = Some(config),
                Err(error) => doubts.push(error.to_string()),
            }
        }
        let state = known.config.as_ref().map_or(default_state, |config| config.state_folder.as_path());
        let taken = config::taken::targets(state).unwrap_or_else(|doubt| {
            doubts.push(doubt);
            Vec::new()
        });
        let written = known.config.iter().flat_map(|config| &config.items).flat_map(|item| &item.disks);
        let all = written.map(|disk| disk.target.clone()).chain(taken);
        let mut targets: Vec<String> = all.map(|target| target.to_string_lossy().into_owned()).collect();
        targets.sort_unstable();
        targets.dedup();
        known.targets = targets;
        known.doubt = (!doubts.is_empty())
            .then(|| format!("it is not known which disks items write to: {}", doubts.join("; ")));
        known
    }

    /// The targets, if all are known.
    pub(super) fn targets(&self) -> Result<&[String], String> {
        match &self.doubt {
            Some(doubt) => Err(doubt.clone()),
            None => Ok(&self.targets),
        }
    }

    /// Why there may be more targets than are known.
    pub(super) fn doubt(&self) -> Option<&str> {
        self.doubt.as_deref()
    }

    /// Where the retention volume is mounted by the configuration, or else by default.
    pub(super) fn mount_point(&self) -> PathBuf {
        self.config
            .as_ref()
            .map_or_else(|| DEFAULT_RETENTION.into(), |config| config.retention.folder.clone())
    }

    pub(super) fn state_folder(&self) -> PathBuf {
        self.config.as_ref().map_or_else(|| DEFAULT_STATE.into(), |config| config.state_folder.clone())
    }

    /// What is asked of all disks, for a volume at this folder.
    pub(super) fn question<'a>(&'a self, mount_point: &'a Path, state_folder: &'a Path) -> Question<'a> {
        Question { mount_point, state_folder, targets: &self.targets, doubt: self.doubt() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEM: &str = "[[item]]\nname = \"a\"\nsource = \"a\"\ndisks = [{ id = \"d\", target = \"/dev/mapper/36000c29a\" }]\n";

    #[test]
    fn items_that_were_taken_count_with_and_without_a_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let (file, items) = (folder.path().join("mtd.toml"), folder.path().join("items"));
        let read = || Known::read_at(&file, folder.path());
        let none = read();
        assert_eq!((none.targets(), none.notes.len()), (Ok(&[][..]), 1));
        std::fs::create_dir(&items).unwrap();
        std::fs::write(items.join("b.toml"), ITEM.replace("29a", "29b").replace("\"a\"", "\"b\"")).unwrap();
        assert_eq!(read().targets().unwrap(), ["/dev/mapper/36000c29b"]);
        let text = format!("state_folder = {:?}\n{ITEM}", folder.path());
        std::fs::write(&file, &text).unwrap();
        let both = read();
        assert_eq!(both.targets().unwrap(), ["/dev/mapper/36000c29a", "/dev/mapper/36000c29b"]);
        assert!(both.notes.is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_a_doubt() {
        let folder = tempfile::tempdir().unwrap();
        let (file, items) = (folder.path().join("mtd.toml"), folder.path().join("items"));
        let read = || Known::read_at(&file, folder.path());
        std::fs::create_dir(&items).unwrap();
        std::fs::write(items.join("torn.toml"), "[[item]]\nname = \"to").unwrap();
        let without = read();
        assert!(without.targets().unwrap_err().contains("the item torn"), "{without:?}");
        std::fs::write(&file, format!("state_folder = {:?}\n{ITEM}", folder.path())).unwrap();
        let with = read();
        assert!(with.doubt().is_some_and(|doubt| doubt.contains("the item torn")), "{with:?}");
        assert_eq!(with.targets, ["/dev/mapper/36000c29a"]);
        std::fs::remove_file(items.join("torn.toml")).unwrap();
        assert!(read().doubt().is_none());
        std::fs::write(&file, "[retentoin]\n").unwrap();
        let bad = read();
        assert!(bad.doubt().is_some_and(|doubt| doubt.contains("which disks items write to")), "{bad:?}");
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/nowhere", &file).unwrap();
        assert!(read().doubt().is_some());
    }
}
