//! Replaces whole files so that a reader, a crash or a full disk never leaves half of one.
//!
//! The new content goes into a hidden file in the same folder, which is synced and then renamed over the old one;
//! then the folder is synced. Until the rename the old file stands untouched.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

/// Makes `content` the whole file at `path`; durable when this returns.
///
/// A file that exists keeps its mode and owner, and one that is a symbolic link is replaced where it points to. A
/// new one gets `mode`.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = folder.join(format!(".{}.new", name.to_string_lossy()));
    let outcome = write(&path, &temporary, content, mode).and_then(|()| fs::rename(&temporary, &path));
    if let Err(cause) = outcome {
        let _ = fs::remove_file(&temporary);
        return Err(cause);
    }
    sync_folder(folder)
}

/// Removes a file; durable when this returns. One that is not there is as good.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    sync_folder(path.parent().unwrap_or(Path::new("/")))
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn write(path: &Path, temporary: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let old = fs::metadata(path).ok();
    let mode = old.as_ref().map_or(mode, |old| old.mode() & 0o7777);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode & 0o700).open(temporary)?;
    if let Some(old) = old {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
            chown(temporary, Some(old.uid()), Some(old.gid()))?;
        }
    }
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        replace(&path, b"one", 0o640).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        fs::set_permissions(&path, Permissions::from_mode(0o604)).unwrap();
        replace(&path, b"two", 0o640).unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().mode() & 0o777),
            (b"two".to_vec(), 0o604)
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&real, "one").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        replace(&link, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&real).unwrap(), b"two");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    /// Needs root, for a volume that is soon full.
    #[test]
    fn a_full_disk_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"])
            .arg(folder.path())
            .stderr(std::process::Stdio::null())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            assert!(
                std::env::var_os("MASTER_TARGET_NO_SKIPS").is_none(),
                "mounting a small volume needs root"
            );
            let _ = io::stderr().write_all(b"SKIPPED: a test of a full volume, which needs root\n");
            return;
        }
        let path = folder.path().join("hosts");
        let outcome = replace(&path, b"old", 0o644).and_then(|()| replace(&path, &[b'x'; 65_536], 0o644));
        let (left, count) = (fs::read(&path), fs::read_dir(folder.path()).map(Iterator::count));
        let unmounted = Command::new("umount").arg(folder.path()).status();
        assert!(outcome.is_err_and(|cause| cause.kind() == io::ErrorKind::StorageFull));
        assert_eq!((left.unwrap(), count.unwrap()), (b"old".to_vec(), 1));
        assert!(unmounted.unwrap().success());
    }
}
