//! Volumes that are mounted, missing, back again and mixed up.

use disk::{Class, Folder};
use retention_volume::{Error, FileSystemUuid, Place, RetentionVolume, VolumeId};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

fn at(path: &Path, trial: bool) -> Place {
    Place { folder: path.to_owned(), trial }
}

fn uuid(name: &str) -> FileSystemUuid {
    let text = if name == "one" {
        "01234567-89ab-cdef-0123-456789abcdef"
    } else {
        "11234567-89ab-cdef-0123-456789abcdef"
    };
    FileSystemUuid::parse(text).unwrap()
}

fn trial(path: &Path) -> RetentionVolume {
    RetentionVolume::open(&at(path, true), None).unwrap()
}

#[test]
fn a_plain_folder_is_refused_unless_it_is_allowed() {
    let place = tempfile::tempdir().unwrap();
    let error = RetentionVolume::open(&at(place.path(), false), None).unwrap_err();
    assert!(matches!(error, Error::NotMounted { .. }), "{error}");
    assert_eq!(error.class(), Class::Retry);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing was written");
    let volume = trial(place.path());
    assert!(volume.space().unwrap().available.0 > 0);
}

#[test]
fn an_item_keeps_its_folder() {
    let place = tempfile::tempdir().unwrap();
    let volume = trial(place.path());
    volume.item_folder("web01").unwrap().create("segment").unwrap();
    let again = RetentionVolume::open(&at(place.path(), true), Some(volume.id())).unwrap();
    assert_eq!(again.item_folder("web01").unwrap().list().unwrap(), ["segment"]);
    assert!(place.path().join("items/web01/segment").exists());
    for name in ["", "..", ".hidden", "a/b", "a b", "-x", &"n".repeat(65)] {
        assert!(matches!(volume.item_folder(name).unwrap_err(), Error::BadItemName { .. }), "{name}");
    }
}

#[test]
fn the_folder_of_an_item_goes_with_all_that_is_in_it_and_no_other_does() {
    let place = tempfile::tempdir().unwrap();
    let volume = trial(place.path());
    volume.remove_item_folder("web01").unwrap();
    for item in ["web01", "web02"] {
        volume.item_folder(item).unwrap().create("segment").unwrap();
    }
    volume.remove_item_folder("web01").unwrap();
    volume.remove_item_folder("web01").unwrap();
    assert!(!place.path().join("items/web01").exists());
    assert!(place.path().join("items/web02/segment").exists());
    assert!(matches!(volume.remove_item_folder("../items").unwrap_err(), Error::BadItemName { .. }));
}

#[test]
fn the_marker_is_made_once_and_another_volume_is_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(one.path().join("retention-volume.new"), "torn").unwrap();
    let id = trial(one.path()).id().clone();
    assert_eq!(*trial(one.path()).id(), id);
    trial(two.path());
    let error = RetentionVolume::open(&at(two.path(), true), Some(&id)).unwrap_err();
    assert!(matches!(&error, Error::OtherVolume { expected, .. } if *expected == id), "{error}");
    assert_eq!(error.class(), Class::Operator);
}

#[test]
fn a_damaged_marker_is_reported_and_kept() {
    let place = tempfile::tempdir().unwrap();
    trial(place.path());
    let marker = place.path().join("retention-volume");
    let format = "master-target retention volume, format 1\n";
    for damaged in ["", "something else\nid = 1\n", &format!("{format}id = ../..\n"), &"x".repeat(5000)] {
        fs::write(&marker, damaged).unwrap();
        let error = RetentionVolume::open(&at(place.path(), true), None).unwrap_err();
        assert!(matches!(error, Error::BadMarker { .. }), "{damaged:?}: {error}");
        assert_eq!(fs::read_to_string(&marker).unwrap(), damaged);
    }
    assert!(VolumeId::parse("").is_none() && VolumeId::parse("a\nb").is_none());
}

/// Invariant 6: the same volume is back by its marker; nothing is written into the bare mount-point folder.
#[test]
fn invariant_6_a_volume_that_goes_away_is_missed_and_known_again() {
    let Some(volumes) = Volumes::new() else { return };
    let place = at(&volumes.mount_point(), false);
    volumes.mount("one");
    let error = RetentionVolume::open(&place, None).unwrap_err();
    assert!(matches!(error, Error::NotPrepared { .. }), "{error}");
    assert_eq!(error.class(), Class::Retry);
    RetentionVolume::mark(&place, uuid("one")).unwrap();
    let volume = RetentionVolume::open(&place, None).unwrap();
    assert_eq!(volume.file_system(), Some(uuid("one")));
    volume.item_folder("web01").unwrap();
    volumes.unmount();
    assert!(matches!(volume.item_folder("web01").unwrap_err(), Error::NotMounted { .. }));
    assert!(matches!(volume.verify().unwrap_err(), Error::NotMounted { .. }));
    assert_eq!(fs::read_dir(volumes.mount_point()).unwrap().count(), 0, "nothing was written");
    volumes.mount("two");
    let error = volume.item_folder("web01").unwrap_err();
    assert!(matches!(error, Error::NoMarker { .. }), "{error}");
    assert!(RetentionVolume::open(&place, Some(volume.id())).is_err());
    RetentionVolume::mark(&place, uuid("two")).unwrap();
    assert!(matches!(volume.verify().unwrap_err(), Error::OtherVolume { .. }));
    volumes.unmount();
    volumes.mount("one");
    volume.verify().unwrap();
    volume.item_folder("web01").unwrap();
    assert_eq!(RetentionVolume::mark(&place, uuid("one")).unwrap().id(), volume.id());
    volumes.unmount();
}

#[test]
fn files_that_were_copied_from_another_volume_are_not_taken_for_it() {
    let Some(volumes) = Volumes::new() else { return };
    let place = at(&volumes.mount_point(), false);
    volumes.mount("one");
    let error = RetentionVolume::mark(&place, uuid("two")).unwrap_err();
    assert!(matches!(error, Error::OtherFileSystem { .. }), "{error}");
    let volume = RetentionVolume::mark(&place, uuid("one")).unwrap();
    let marker = fs::read(place.folder.join("retention-volume")).unwrap();
    volumes.unmount();
    volumes.mount("two");
    fs::write(place.folder.join("retention-volume"), marker).unwrap();
    for error in [volume.verify(), RetentionVolume::open(&place, Some(volume.id())).map(drop)] {
        let error = error.unwrap_err();
        assert!(matches!(error, Error::OtherFileSystem { .. }), "{error}");
        assert_eq!(error.class(), Class::Operator);
    }
    volumes.unmount();
}

/// Two ext4 images and a place to mount them.
struct Volumes {
    folder: tempfile::TempDir,
}

impl Volumes {
    /// `None`, loudly, where mounting is not allowed; an error where runs must be complete.
    fn new() -> Option<Volumes> {
        let folder = tempfile::tempdir().unwrap();
        // A new file belongs to the user that this process acts as.
        if std::os::unix::fs::MetadataExt::uid(&fs::metadata(folder.path()).unwrap()) != 0 {
            assert!(std::env::var_os("MASTER_TARGET_NO_SKIPS").is_none(), "mounting needs root");
            // Written past the test harness, which keeps back what passing tests print.
            let _ = std::io::stderr().write_all(b"SKIPPED: a test of mounted volumes, which needs root\n");
            return None;
        }
        fs::create_dir(folder.path().join("mount")).unwrap();
        for name in ["one", "two"] {
            let image = folder.path().join(name);
            fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
            run("mkfs.ext4", &["-q", "-F", "-U", &uuid(name).to_string(), image.to_str().unwrap()]);
        }
        Some(Volumes { folder })
    }

    fn mount_point(&self) -> std::path::PathBuf {
        self.folder.path().join("mount")
    }

    fn mount(&self, name: &str) {
        let image = self.folder.path().join(name);
        run("mount", &["-o", "loop", image.to_str().unwrap(), self.mount_point().to_str().unwrap()]);
    }

    fn unmount(&self) {
        run("umount", &[self.mount_point().to_str().unwrap()]);
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        // After a failure in between; fails silently when nothing is mounted.
        let _ = Command::new("umount").arg(self.mount_point()).stderr(std::process::Stdio::null()).status();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}
