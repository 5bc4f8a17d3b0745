//! Whether a disk that exists can be a target.

use super::Scene;
use crate::config::{Disk, Format};
use crate::item::{Target, open_target};
use block_device::is_device;
use control_api::Failure;
use disk::{Bytes, Class};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The longest list of snapshots that is read, in bytes.
const MAX_SNAPSHOT_LIST: u64 = 1 << 20;

/// The disk can be opened for writing by nobody else at the same time, has no snapshots, and is as large as its source.
pub(super) fn check(scene: &Scene, disk: &Disk, size: u64) -> Result<(), Failure> {
    let refuse = |why: String, next: &str| {
        let what = format!("it cannot be the target of {}", disk.id);
        Failure::new(disk.target.display().to_string(), what, why, next)
    };
    let retention = scene.place.volume_place().folder;
    if !is_device(&disk.target) {
        check_file(&disk.target).map_err(|(why, next)| refuse(why, next))?;
        for (folder, owner) in
            [(&retention, "the retention volume"), (&scene.state_folder, "the state folder")]
        {
            if lies_in(&disk.target, folder) {
                return Err(refuse(format!("it lies in {owner}"), "choose a disk that is kept elsewhere"));
            }
        }
        if disk.format != Format::Raw
            && let Some(list) = snapshot_list(&disk.target)
        {
            let why = format!("{list} has snapshots of it, and any write would break them");
            return Err(refuse(why, "delete or consolidate the snapshots first"));
        }
    }
    let target = open_target(disk, &retention).map_err(|problem| refuse(problem.why, next(problem.class)))?;
    let found = close(target).map_err(|error| refuse(error.to_string(), "look at the disk: dmesg"))?;
    if found != Bytes(size) {
        let why = format!("it has {} bytes, and the source disk has {size}", found.0);
        return Err(refuse(why, "choose the disk that belongs to it, or have a new one made"));
    }
    Ok(())
}

fn close(target: Target) -> disk::Result<Bytes> {
    let size = target.disk.size();
    match target.image {
        Some(image) => image.close().map(|()| size),
        None => Ok(size),
    }
}

fn next(class: Class) -> &'static str {
    match class {
        Class::Retry => "see that it is attached and free, and order it again",
        Class::Corrupt => "have the disk that is damaged repaired, or have a new one made",
        _ => "put that right, or choose another target",
    }
}

fn check_file(path: &Path) -> Result<(), (String, &'static str)> {
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err(("it is no file".to_owned(), "give the path of a VMDK or of an image")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let next = "give the path as this machine sees it, and mount the datastore that it is on";
            Err(("there is no such file".to_owned(), next))
        }
        Err(error) => Err((format!("it cannot be looked at: {error}"), "choose another target")),
    }
}

fn lies_in(path: &Path, folder: &Path) -> bool {
    let real = path.canonicalize().ok().zip(folder.canonicalize().ok());
    real.is_some_and(|(path, folder)| path.starts_with(folder))
}

/// Whether two paths lead to one file or device.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let of =
        |path: &Path| path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino(), metadata.rdev()));
    match (of(one), of(other)) {
        (Some(one), Some(other)) => (one.0, one.1) == (other.0, other.1) || (one.2 != 0 && one.2 == other.2),
        _ => false,
    }
}

/// The list of a virtual machine's snapshots that has one of this disk.
fn snapshot_list(image: &Path) -> Option<String> {
    let (folder, name) = (image.parent()?, image.file_name()?.to_str()?);
    let is_list = |path: &Path| path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("vmsd"));
    let lists =
        std::fs::read_dir(folder).ok()?.flatten().map(|file| file.path()).filter(|path| is_list(path));
    lists.into_iter().find(|list| has_snapshot_of(list, name)).map(|list| list.display().to_string())
}

/// `snapshot0.disk0.fileName = "web01.vmdk"`, in a list that has any.
fn has_snapshot_of(list: &Path, image: &str) -> bool {
    if list.metadata().is_ok_and(|metadata| metadata.len() > MAX_SNAPSHOT_LIST) {
        return false;
    }
    let text = std::fs::read(list).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let value = |value: &str| value.trim().trim_matches('"').to_owned();
    pairs.into_iter().any(|(key, found)| {
        let key = key.trim().to_ascii_lowercase();
        let found = value(found);
        let name = found.rsplit('/').next().unwrap_or_default();
        key.starts_with("snapshot") && key.ends_with(".filename") && key.contains(".disk") && name == image
    })
}
