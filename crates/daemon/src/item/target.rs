//! Opens the disks that hold a replica, and makes those that are missing.

use super::open::Problem;
use crate::config::{self, Format};
use crate::random;
use block_device::inventory::Look;
use block_device::{Caching, FileDisk, HostFolder, System, TargetDisk, is_device};
use disk::{Access, Bytes, Class, Disk, Folder};
use std::path::Path;
use std::sync::Arc;
use vmdk::{CreateOptions, DiskUuid, Image};

/// An open target disk.
pub(crate) struct Target {
    pub(crate) disk: Arc<dyn Disk>,
    /// The same as an image, where it is one: images are closed, not only dropped.
    pub(crate) image: Option<Arc<Image>>,
    /// What tells it from all other disks: its SCSI id, or the UUID of the VMDK.
    pub(super) identity: Option<String>,
    /// True when it was made just now, so that it is known to be all zero.
    pub(super) blank: bool,
}

/// Opens the target of a disk exclusively; makes it first when it is missing and the configuration says how.
pub(crate) fn open(config: &config::Disk, retention: &Path) -> Result<Target, Problem> {
    let target = match config.format {
        Format::Raw if is_device(&config.target) => open_attached(config, retention)?,
        Format::Raw => open_raw(config)?,
        Format::Vmdk(format) => open_vmdk(config, format)?,
    };
    match config.size {
        Some(size) if target.disk.size() != Bytes(size) => Err(Problem::new(
            Class::Operator,
            format!(
                "disk {}: {} has {} bytes, but the configuration says {size}; correct the size or remove it",
                config.id,
                config.target.display(),
                target.disk.size().0
            ),
        )),
        _ => Ok(target),
    }
}

fn open_raw(config: &config::Disk) -> Result<Target, Problem> {
    let blank = is_to_be_made(config);
    if let (true, Some(size)) = (blank, config.size) {
        let (folder, name) = folder_of(&config.target)?;
        let file = folder.create(name)?;
        file.set_size(Bytes(size))?;
        file.sync()?;
        folder.sync()?;
    }
    let disk = FileDisk::open(&config.target, Access::Write, Caching::Direct)?;
    Ok(Target { disk: Arc::new(disk), image: None, identity: None, blank })
}

/// A disk of this machine. It is never made.
fn open_attached(config: &config::Disk, retention: &Path) -> Result<Target, Problem> {
    let look = Look { retention: retention.to_owned(), ..Look::default() };
    let disk = TargetDisk::open(&System::host(), &look, &config.target, Caching::Direct)?;
    let identity = disk.scsi_id().map(ToString::to_string);
    Ok(Target { disk: Arc::new(disk), image: None, identity, blank: false })
}

fn open_vmdk(config: &config::Disk, format: Option<vmdk::Format>) -> Result<Target, Problem> {
    let blank = is_to_be_made(config);
    let (folder, name) = folder_of(&config.target)?;
    let folder: Arc<dyn Folder> = Arc::new(folder);
    let cid = u32::from_le_bytes(random::bytes()?);
    let image = match (blank, format, config.size) {
        (true, Some(format), Some(size)) => {
            let uuid = Some(config.uuid.map_or_else(new_uuid, Ok)?);
            let options = CreateOptions { format, capacity: Bytes(size), adapter: config.adapter, uuid, cid };
            Image::create(&folder, name, &options)?
        }
        _ => Image::open(&folder, name, Access::Write, cid)?,
    };
    let image = Arc::new(image);
    let identity = image.uuid().map(|uuid| uuid.to_string());
    Ok(Target { disk: image.clone(), image: Some(image), identity, blank })
}

fn is_to_be_made(config: &config::Disk) -> bool {
    // A link that leads nowhere is there: what it means is for a person to say.
    config.size.is_some()
        && config.target.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}

fn folder_of(path: &Path) -> Result<(HostFolder, &str), Problem> {
    let name = path.file_name().and_then(|name| name.to_str());
    let (Some(folder), Some(name)) = (path.parent(), name) else {
        return Err(Problem::new(Class::Operator, format!("{} names no file in a folder", path.display())));
    };
    Ok((HostFolder::open(folder, Caching::Direct)?, name))
}

/// An identity as VMware gives it: its own prefix, then random.
fn new_uuid() -> Result<DiskUuid, Problem> {
    let mut bytes: [u8; 16] = random::bytes()?;
    let fourth = 0x90 | bytes[3] & 0x0f;
    bytes[..4].copy_from_slice(&[0x60, 0x00, 0xc2, fourth]);
    Ok(DiskUuid(bytes))
}
