//! File systems that are mounted for a test.

use anyhow::{Result, bail};
use rig::tools::run;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A mounted file system; unmounted when dropped.
pub struct Mount {
    /// Where it is mounted.
    pub at: PathBuf,
}

impl Mount {
    /// A new ext4 of so many bytes in the file `image`, mounted at `at`, which is made.
    pub fn ext4(image: &Path, size: u64, at: &Path) -> Result<Mount> {
        std::fs::File::create(image)?.set_len(size)?;
        let (image, place) = (image.to_string_lossy(), at.to_string_lossy());
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &image])?;
        std::fs::create_dir_all(at)?;
        run("mount", &["-o", "loop", &image, &place])?;
        Ok(Mount { at: at.to_owned() })
    }

    /// The ext4 that is on a block device, mounted at `at`, which is made.
    pub fn device(device: &str, at: &Path) -> Result<Mount> {
        std::fs::create_dir_all(at)?;
        run("mount", &["-t", "ext4", device, &at.to_string_lossy()])?;
        Ok(Mount { at: at.to_owned() })
    }

    /// Bytes that can still be written to it.
    pub fn available(&self) -> Result<u64> {
        let stat = nix::sys::statvfs::statvfs(&self.at)?;
        Ok(stat.blocks_available() * stat.fragment_size())
    }

    /// Takes all but `left` bytes of the room by a file, and gives its path.
    pub fn fill(&self, left: u64) -> Result<PathBuf> {
        let file = self.at.join("filler");
        let length = self.available()?.saturating_sub(left);
        if length == 0 {
            bail!("{} is full already", self.at.display());
        }
        run("fallocate", &["-l", &length.to_string(), &file.to_string_lossy()])?;
        Ok(file)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A child that is being started has, for a moment, a copy of every descriptor, and so keeps it busy.
        let unmounted = rig::wait_for("the file system to be free", Duration::from_secs(10), || {
            Ok(run("umount", &[&self.at.to_string_lossy()]).ok())
        });
        if let Err(error) = unmounted {
            eprintln!("{} stays mounted: {error}", self.at.display());
        }
    }
}
