//! The one file by which multipath is told which disks to claim: /etc/multipath/conf.d/master-target.conf.
//!
//! Every disk is blacklisted by its WWID, and those that are wanted are excepted, so multipath never claims a disk that
//! nobody asked for, least of all the one that this machine runs from. Both versions read it so (0.5.0 of Ubuntu
//! 16.04, 0.8 and 0.9): files of conf.d come after /etc/multipath.conf, in the order of their names; a WWID is an
//! extended regular expression, so each is written with both anchors, and a dot as `[.]`, a plus sign as `[+]`.
//!
//! The file is ours from its first byte to its last. It is read by making the text again from the ids that were found
//! in it: when the two differ, someone has changed it, and it is neither believed nor overwritten.

use crate::durable_file;
use crate::error::{Error, Result};
use crate::scsi_id::ScsiId;
use crate::system::System;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Where multipath looks for files beside /etc/multipath.conf.
pub(super) const FOLDER: &str = "/etc/multipath/conf.d";

/// Name of our file there.
pub(super) const NAME: &str = "master-target.conf";

/// Most disks that can be wanted; the published limit of a master target is 60.
const MAX_WANTED: usize = 256;

const HEAD: &str = "\
# Written by mtctl disks --map. Do not change it: what is changed by hand is not read.
# Undo: mtctl disks --unmap DISK for each disk below; the last one removes this file.
defaults {
\tuser_friendly_names no
\tfind_multipaths no
}
blacklist {
\twwid \".*\"
}
blacklist_exceptions {
";

pub(super) fn path() -> PathBuf {
    Path::new(FOLDER).join(NAME)
}

/// The whole file for some disks, each once, in order.
pub(super) fn render(wanted: &[ScsiId]) -> String {
    let mut ids: Vec<&ScsiId> = wanted.iter().collect();
    ids.sort();
    ids.dedup();
    let lines: String = ids.iter().map(|id| format!("\twwid \"{}\"\n", pattern(id))).collect();
    format!("{HEAD}{lines}}}\n")
}

/// The extended regular expression that matches this id and no other.
fn pattern(id: &ScsiId) -> String {
    format!("^{}$", id.as_str().replace('.', "[.]").replace('+', "[+]"))
}

/// The disks in a file that was rendered; `None` for a file that was not.
pub(super) fn parse(text: &str) -> Option<Vec<ScsiId>> {
    let lines = text.strip_prefix(HEAD)?.strip_suffix("}\n")?;
    let id = |line: &str| {
        let pattern = line.strip_prefix("\twwid \"^")?.strip_suffix("$\"")?;
        ScsiId::parse(&pattern.replace("[.]", ".").replace("[+]", "+"))
    };
    let ids: Vec<ScsiId> = lines.lines().map(id).collect::<Option<_>>()?;
    (ids.len() <= MAX_WANTED && render(&ids) == text).then_some(ids)
}

/// The disks that multipath is told to claim.
pub(super) fn read(system: &System) -> Result<Vec<ScsiId>> {
    match system.text_if_exists(path())? {
        None => Ok(Vec::new()),
        Some(text) => parse(&text).ok_or_else(|| Error::ChangedByHand { path: path() }),
    }
}

/// Held while the file is read and written again: two commands at once would lose one of their disks.
pub(super) struct Lock {
    _folder: File,
}

/// Takes the lock; the folder is made when it is missing.
pub(super) fn lock(system: &System) -> Result<Lock> {
    let place = system.path(FOLDER);
    let failed = |cause| Error::file("lock", FOLDER, cause);
    fs::create_dir_all(&place).map_err(|cause| Error::file("make", FOLDER, cause))?;
    let folder = File::open(&place).map_err(failed)?;
    let taken = crate::device_mapper::wait(
        crate::device_mapper::WAIT,
        || match folder.try_lock() {
            Ok(()) => Some(Ok(())),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Error(cause)) => Some(Err(failed(cause))),
        },
        || format!("the end of another command that changes {}", path().display()),
        "let it finish, then try again",
    )?;
    taken.map(|()| Lock { _folder: folder })
}

/// Makes the file say these disks; without any, and when it need not stay, it is removed. The file is whole at every
/// moment, also when the power fails, and as it was when there is no room.
pub(super) fn write(system: &System, _held: &Lock, wanted: &[ScsiId], keep_empty: bool) -> Result<()> {
    // What someone changed by hand is theirs.
    let now = read(system)?;
    let target = system.path(path());
    if wanted.is_empty() && !keep_empty {
        return durable_file::remove(&target).map_err(|cause| Error::file("remove", path(), cause));
    }
    if wanted.len() > MAX_WANTED {
        let cause = io::Error::other(format!("{MAX_WANTED} disks at most can be wanted"));
        return Err(Error::file("write", path(), cause));
    }
    let text = render(wanted);
    if target.exists() && render(&now) == text {
        return Ok(());
    }
    // The temporary file does not end in `.conf`, so multipath does not read it.
    durable_file::replace(&target, text.as_bytes(), 0o644)
        .map_err(|cause| Error::file("write", path(), cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(texts: &[&str]) -> Vec<ScsiId> {
        texts.iter().map(|text| ScsiId::parse(text).unwrap()).collect()
    }

    #[test]
    fn the_file_is_this_text() {
        let text = render(&ids(&["36000c29b", "1a.b:c_d-e+#", "36000c29b"]));
        let expected = format!("{HEAD}\twwid \"^1a[.]b:c_d-e[+]#$\"\n\twwid \"^36000c29b$\"\n}}\n");
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| line.len() < 1024), "multipath reads lines of 1023 bytes");
        assert_eq!(parse(&text).unwrap(), ids(&["1a.b:c_d-e+#", "36000c29b"]));
        assert_eq!(parse(&render(&[])).unwrap(), []);
    }

    #[test]
    fn a_file_that_was_changed_is_not_believed() {
        let text = render(&ids(&["36000c29a", "36000c29b"]));
        let changed = [
            text.replace("find_multipaths no", "find_multipaths yes"),
            text.replace("^36000c29a$", "36000c29a"),
            text.replace("\twwid \"^36000c29a$\"\n", "\twwid \"^36000c29b$\"\n"),
            format!("{text}\n"),
            text.replace('\n', "\r\n"),
            String::new(),
        ];
        for changed in changed {
            assert_eq!(parse(&changed), None, "{changed}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_rendered_is_parsed(texts in prop::collection::vec("[0-9a-f][a-zA-Z0-9#+=@_.:-]{1,40}", 0..20)) {
            let mut wanted: Vec<ScsiId> = texts.iter().map(|text| ScsiId::parse(text).unwrap()).collect();
            let text = render(&wanted);
            wanted.sort();
            wanted.dedup();
            prop_assert_eq!(parse(&text), Some(wanted));
        }

        #[test]
        fn anything_is_parsed_or_refused(text in any::<String>()) {
            let _ = parse(&format!("{HEAD}{text}}}\n"));
        }
    }
}
