//! What is seen of the volume, and what follows from it.

use control_api::RetentionState;
use disk::Class;
use retention_volume::{Access, Error, FileSystemUuid, Mounted, Sight, Wanted};
use std::path::{Path, PathBuf};

/// What earlier looks leave behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Past {
    /// Nothing was mounted since the disk came, or since the daemon started.
    #[default]
    Absent,
    /// It was mounted, and its disk was there.
    Mounted,
    /// Its disk was away while it was mounted.
    Missed,
    /// Someone unmounted it.
    PutAway,
}

/// What a look means.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) state: RetentionState,
    pub(super) detail: Option<String>,
    pub(super) file_system: Option<FileSystemUuid>,
    pub(super) past: Past,
    /// The device to be mounted now, after whatever is mounted was unmounted.
    pub(super) bring_back: Option<PathBuf>,
}

/// Decides. With `known` the volume was used before, so that it can be told from others and be mounted by the daemon.
pub(super) fn decide(sight: &Sight, folder: &Path, known: bool, past: Past) -> Decision {
    match &sight.mounted {
        None => not_mounted(sight.wanted.as_ref(), folder, known, past),
        Some(mounted) if !mounted.has_path || (past == Past::Missed && may_be_the_same(mounted, sight)) => {
            missed(mounted, sight.wanted.as_ref(), folder, known)
        }
        Some(mounted) => match (mounted.access, &sight.volume) {
            (Access::MadeReadOnly, _) => waits(
                RetentionState::ReadOnly,
                format!("it was mounted for reading only: mount -o remount,rw {}", folder.display()),
            ),
            (Access::Stopped, _) | (Access::Writable, None) => waits(
                RetentionState::Lost,
                format!(
                    "the kernel stopped its file system after an error, though its disk {} is there; dmesg tells \
                     more: {}",
                    mounted.source,
                    commands(folder, &mounted.source, sight.wanted.is_some())
                ),
            ),
            (Access::Writable, Some(Err(error))) => waits(state_of(error), error.to_string()),
            (Access::Writable, Some(Ok(volume))) => Decision {
                state: RetentionState::Ready,
                detail: None,
                file_system: volume.file_system(),
                past: Past::Mounted,
                bring_back: None,
            },
        },
    }
}

/// Whether what is mounted may be what was mounted while its disk was away. What a person has mounted instead is not.
fn may_be_the_same(mounted: &Mounted, sight: &Sight) -> bool {
    mounted.is_wanted || sight.wanted.is_none()
}

/// Mounted, and someone has to do something.
fn waits(state: RetentionState, detail: String) -> Decision {
    Decision { state, detail: Some(detail), file_system: None, past: Past::Mounted, bring_back: None }
}

fn state_of(error: &Error) -> RetentionState {
    match error {
        Error::NotMounted { .. } => RetentionState::NotMounted,
        Error::Storage(error) if error.class() != Class::Corrupt => RetentionState::Lost,
        _ => RetentionState::NotOurs,
    }
}

/// Its disk is away, or was while it was mounted.
fn missed(mounted: &Mounted, wanted: Option<&Wanted>, folder: &Path, known: bool) -> Decision {
    let automatic = wanted.filter(|wanted| wanted.automatic && known);
    let back = automatic.filter(|wanted| wanted.has_path);
    let next = match automatic {
        Some(_) => "it is then checked and mounted again by itself".to_owned(),
        // Seen unmounted, it is known to be another mount from then on.
        None => format!(
            "then umount {}, and once mtctl status says that it is not mounted: {}",
            folder.display(),
            check_and_mount(folder, &mounted.source, wanted.is_some())
        ),
    };
    let detail = match (back, mounted.has_path) {
        (Some(_), _) => "its disk was away and is back: it is being checked and mounted again".to_owned(),
        (None, true) => format!("its disk {} was away and is back; {next}", mounted.source),
        (None, false) => format!("its disk {} is gone: bring it back; {next}", mounted.source),
    };
    Decision {
        state: RetentionState::Lost,
        detail: Some(detail),
        file_system: None,
        past: Past::Missed,
        bring_back: back.map(|wanted| wanted.device.clone()),
    }
}

fn not_mounted(wanted: Option<&Wanted>, folder: &Path, known: bool, past: Past) -> Decision {
    let there = wanted.is_some_and(|wanted| wanted.has_path);
    let past = match past {
        Past::Mounted | Past::PutAway if there => Past::PutAway,
        // Whatever the kernel kept of it is gone with the mount.
        _ => Past::Absent,
    };
    let place = folder.display();
    let (detail, device) = match wanted {
        None => (
            format!(
                "/etc/fstab names no disk for it: mount it, or run mtctl retention prepare DISK --mount-point {place}"
            ),
            None,
        ),
        Some(wanted) if !wanted.has_path => {
            (format!("waiting for its disk {}", wanted.device.display()), None)
        }
        Some(_) if past == Past::PutAway => (format!("someone unmounted it: mount {place}"), None),
        Some(wanted) if !wanted.automatic || !known => (format!("its disk is there: mount {place}"), None),
        Some(wanted) => {
            ("its disk is there: it is being checked and mounted".to_owned(), Some(wanted.device.clone()))
        }
    };
    Decision {
        state: RetentionState::NotMounted,
        detail: Some(detail),
        file_system: None,
        past,
        bring_back: device,
    }
}

/// What a person types to have it repaired.
fn commands(folder: &Path, device: &str, in_fstab: bool) -> String {
    let mount = check_and_mount(folder, device, in_fstab);
    format!(
        "systemctl stop master-target; umount {}; {mount}; systemctl start master-target",
        folder.display()
    )
}

fn check_and_mount(folder: &Path, device: &str, in_fstab: bool) -> String {
    let folder = folder.display();
    match in_fstab {
        true => format!("e2fsck -f {device}; mount {folder}"),
        false => format!("e2fsck -f {device}; mount {device} {folder}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RetentionState::{Lost, NotMounted, NotOurs, ReadOnly, Ready};
    use retention_volume::{Place, RetentionVolume};

    const FOLDER: &str = "/mnt/retention";
    const DEVICE: &str = "/dev/mapper/36000c29a";

    fn mounted(has_path: bool, access: Access) -> Option<Mounted> {
        Some(Mounted { source: DEVICE.into(), has_path, is_wanted: true, access })
    }

    fn wanted(automatic: bool, has_path: bool) -> Option<Wanted> {
        Some(Wanted { device: DEVICE.into(), automatic, has_path })
    }

    fn volume() -> RetentionVolume {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { folder: folder.path().to_owned(), trial: true };
        RetentionVolume::open(&place, None).unwrap()
    }

    /// State, what is said, what is remembered, and whether it is mounted again.
    fn told(sight: Sight, known: bool, past: Past) -> (RetentionState, String, Past, bool) {
        let decision = decide(&sight, Path::new(FOLDER), known, past);
        let device = decision.bring_back.map(|device| device.display().to_string());
        assert!(device.is_none() || device.as_deref() == Some(DEVICE));
        (decision.state, decision.detail.unwrap_or_default(), decision.past, device.is_some())
    }

    fn check(
        (mounted, wanted, known, past): (Option<Mounted>, Option<Wanted>, bool, Past),
        expected: (RetentionState, &str, Past, bool),
    ) {
        let answers = mounted.as_ref().is_some_and(|m| m.has_path && m.access == Access::Writable);
        let shown = format!("{mounted:?}, {wanted:?}, known {known}, {past:?}");
        let (state, detail, past, back) =
            told(Sight { mounted, wanted, volume: answers.then(|| Ok(volume())) }, known, past);
        assert_eq!((state, past, back), (expected.0, expected.2, expected.3), "{shown}: {detail}");
        assert!(detail.contains(expected.1), "{shown}: {detail:?} says nothing of {:?}", expected.1);
        assert_eq!(detail.is_empty(), state == Ready, "{shown}");
    }

    #[test]
    fn what_is_mounted_is_used_while_its_disk_is_there_and_it_can_be_written() {
        use Access::{MadeReadOnly, Stopped, Writable};
        let there = || wanted(true, true);
        for past in [Past::Absent, Past::Mounted, Past::PutAway] {
            check((mounted(true, Writable), there(), true, past), (Ready, "", Past::Mounted, false));
            check((mounted(true, Writable), None, false, past), (Ready, "", Past::Mounted, false));
            let remount = "mount -o remount,rw /mnt/retention";
            check(
                (mounted(true, MadeReadOnly), there(), true, past),
                (ReadOnly, remount, Past::Mounted, false),
            );
            let repair = "umount /mnt/retention; e2fsck -f /dev/mapper/36000c29a; mount /mnt/retention;";
            check((mounted(true, Stopped), there(), true, past), (Lost, repair, Past::Mounted, false));
            let by_device = "mount /dev/mapper/36000c29a /mnt/retention;";
            check((mounted(true, Stopped), None, true, past), (Lost, by_device, Past::Mounted, false));
        }
    }

    /// Invariant 6: what was on a disk that went away is used only after it was mounted anew.
    #[test]
    fn invariant_6_a_disk_that_was_away_is_missed_until_it_is_mounted_again() {
        use Access::{MadeReadOnly, Stopped, Writable};
        for access in [Writable, MadeReadOnly, Stopped] {
            for past in [Past::Absent, Past::Mounted, Past::Missed] {
                let gone = (Lost, "is gone: bring it back; it is then checked", Past::Missed, false);
                check((mounted(false, access), wanted(true, false), true, past), gone);
                let by_hand = (Lost, "bring it back; then umount", Past::Missed, false);
                check((mounted(false, access), None, true, past), by_hand);
                check((mounted(false, access), wanted(false, false), true, past), by_hand);
                // A disk without a map comes back under another name.
                let back = (Lost, "is being checked", Past::Missed, true);
                check((mounted(false, access), wanted(true, true), true, past), back);
            }
            // The same map has a path again, and everything looks well.
            let back = (Lost, "is being checked", Past::Missed, true);
            check((mounted(true, access), wanted(true, true), true, Past::Missed), back);
            let by_hand = (Lost, "is back; then umount", Past::Missed, false);
            check((mounted(true, access), wanted(false, true), true, Past::Missed), by_hand);
            check((mounted(true, access), None, true, Past::Missed), by_hand);
            // Nobody knows which volume it ought to be.
            check((mounted(true, access), wanted(true, true), false, Past::Missed), by_hand);
        }
    }

    #[test]
    fn what_a_person_mounted_in_its_place_is_looked_at_and_left_alone() {
        let other =
            Mounted { source: "none".into(), has_path: true, is_wanted: false, access: Access::Writable };
        let error = || Error::NotPrepared { path: FOLDER.into() };
        for past in [Past::Absent, Past::Mounted, Past::Missed] {
            let sight = Sight {
                mounted: Some(other.clone()),
                wanted: wanted(true, true),
                volume: Some(Err(error())),
            };
            let (state, detail, past, back) = told(sight, true, past);
            assert_eq!((state, past, back), (NotOurs, Past::Mounted, false), "{detail}");
        }
    }

    #[test]
    fn what_is_not_mounted_is_mounted_only_when_fstab_says_so_and_nobody_put_it_away() {
        use Past::{Absent, Missed, PutAway};
        for past in [Absent, Missed] {
            let mount = (NotMounted, "is being checked and mounted", Absent, true);
            check((None, wanted(true, true), true, past), mount);
            check((None, wanted(true, false), true, past), (NotMounted, "waiting for", Absent, false));
            check((None, wanted(true, true), false, past), (NotMounted, "mount /mnt", Absent, false));
            check((None, wanted(false, true), true, past), (NotMounted, "mount /mnt", Absent, false));
            check((None, None, true, past), (NotMounted, "mtctl retention prepare", Absent, false));
        }
        for past in [Past::Mounted, PutAway] {
            let left = (NotMounted, "someone unmounted it: mount /mnt/retention", PutAway, false);
            check((None, wanted(true, true), true, past), left);
            // Its disk went away since: what comes is mounted.
            check((None, wanted(true, false), true, past), (NotMounted, "waiting for", Absent, false));
        }
    }

    #[test]
    fn a_volume_that_is_not_the_one_is_never_used() {
        let path = || PathBuf::from(FOLDER);
        let file_system = FileSystemUuid::parse("01234567-89ab-cdef-0123-456789abcdef").unwrap();
        let storage = |error| disk::Error::from_io(disk::Operation::Read, FOLDER, None, error);
        let cases = [
            (Error::NotPrepared { path: path() }, NotOurs, "mtctl retention prepare"),
            (Error::OtherFileSystem { path: path(), expected: file_system }, NotOurs, "01234567"),
            (Error::BadMarker { path: path(), what: "it is too long" }, NotOurs, "it is too long"),
            (Error::NotMounted { path: path() }, NotMounted, "nothing is mounted"),
            (Error::Storage(storage(std::io::Error::from_raw_os_error(5))), Lost, "os error 5"),
        ];
        for (error, expected, says) in cases {
            let sight = Sight {
                mounted: mounted(true, Access::Writable),
                wanted: wanted(true, true),
                volume: Some(Err(error)),
            };
            let (state, detail, past, back) = told(sight, true, Past::Absent);
            assert_eq!((state, past, back), (expected, Past::Mounted, false), "{detail}");
            assert!(detail.contains(says), "{detail}");
        }
    }
}
