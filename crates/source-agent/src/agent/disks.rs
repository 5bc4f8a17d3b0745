//! The disks that a configuration names.

use super::config::{DiskConfig, DiskFormat};
use super::host;
use anyhow::{Context, Result};
use block_device::{Caching, FileDisk, HostFolder};
use change_stream::DiskDescription;
use disk::{Access, Disk, Folder};
use std::path::Path;
use std::sync::Arc;
use vmdk::Image;

/// The open disks, locked against everyone else.
pub(crate) struct OpenDisks {
    pub(crate) disks: Vec<Arc<dyn Disk>>,
    images: Vec<Arc<Image>>,
}

impl OpenDisks {
    pub(crate) fn open(configs: &[DiskConfig], access: Access) -> Result<OpenDisks> {
        let mut open = OpenDisks { disks: Vec::new(), images: Vec::new() };
        for config in configs {
            open.add(config, access)
                .with_context(|| format!("cannot use disk {:?} at {}", config.id, config.path.display()))?;
        }
        Ok(open)
    }

    fn add(&mut self, config: &DiskConfig, access: Access) -> Result<()> {
        match config.format() {
            DiskFormat::Raw => {
                let disk = FileDisk::open(&config.path, access, Caching::Direct)?;
                self.disks.push(Arc::new(disk));
            }
            DiskFormat::Vmdk => {
                let (folder, name) = folder_and_name(&config.path)?;
                let image = Arc::new(Image::open(&folder, &name, access, host::random_u32()?)?);
                self.images.push(image.clone());
                self.disks.push(image);
            }
        }
        Ok(())
    }

    pub(crate) fn descriptions(&self, configs: &[DiskConfig]) -> Vec<DiskDescription> {
        let pairs = configs.iter().zip(&self.disks);
        pairs.map(|(config, disk)| DiskDescription { id: config.id.clone(), size: disk.size().0 }).collect()
    }

    /// Leaves images as a clean shutdown does.
    pub(crate) fn close(&self) -> Result<()> {
        for image in &self.images {
            image.close().context("cannot close a VMDK cleanly")?;
        }
        Ok(())
    }
}

fn folder_and_name(path: &Path) -> Result<(Arc<dyn Folder>, String)> {
    let name = path.file_name().and_then(|name| name.to_str()).context("the path does not end in a name")?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((Arc::new(HostFolder::open(folder, Caching::Direct)?), name.to_owned()))
}
