//! The file that tells multipath which disks to claim, on a volume without room. Needs root.

use block_device::{ScsiId, System, multipath};
use disk::Class;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// A mounted file system, unmounted when dropped.
struct Mount<'a>(&'a Path);

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg(self.0).status().unwrap();
    }
}

fn as_root() -> bool {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("MASTER_TARGET_NO_SKIPS").is_none(), "mounts need root");
        let _ = std::io::stderr().write_all(b"SKIPPED: a test of a full volume, which needs root\n");
        return false;
    }
    true
}

#[test]
fn a_full_volume_leaves_the_old_file_whole_and_nothing_beside_it() {
    if !as_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("etc/multipath/conf.d");
    fs::create_dir_all(&folder).unwrap();
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&folder).status().unwrap();
    assert!(mounted.success());
    let _mount = Mount(&folder);
    let system = System::at(root.path());
    let ids = ["36000c29a", "36000c29b"].map(|text| ScsiId::parse(text).unwrap());
    multipath::set_wanted(&system, &ids[..1]).unwrap();
    let before = fs::read(folder.join("master-target.conf")).unwrap();
    let mut filler = File::create(folder.join("filler")).unwrap();
    while filler.write_all(&[1; 4096]).is_ok() {}
    let error = multipath::set_wanted(&system, &ids).unwrap_err();
    assert_eq!(error.class(), Class::Full, "{error}");
    assert_eq!(fs::read(folder.join("master-target.conf")).unwrap(), before);
    assert_eq!(system.names("/etc/multipath/conf.d"), ["filler", "master-target.conf"]);
    fs::remove_file(folder.join("filler")).unwrap();
    drop(filler);
    multipath::set_wanted(&system, &ids).unwrap();
    assert_eq!(multipath::wanted(&system).unwrap(), ids);
    multipath::set_wanted(&system, &[]).unwrap();
    assert_eq!(system.names("/etc/multipath/conf.d"), Vec::<String>::new());
}
