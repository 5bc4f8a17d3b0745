//! The kernel, unpacked on this machine: emulated, it takes as long to unpack itself as to boot.
//!
//! QEMU enters an unpacked kernel directly when it was built with CONFIG_PVH, as Debian's are.

use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::ops::Range;
use std::path::Path;
use std::process::Command;

/// Writes the kernel that is packed in `packed`.
pub(super) fn unpack(packed: &Path, unpacked: &Path) -> Result<()> {
    let image = fs::read(packed).with_context(|| format!("cannot read {}", packed.display()))?;
    let payload = payload(&image).with_context(|| format!("{} is no Linux kernel", packed.display()))?;
    let stream = unpacked.with_extension("xz");
    fs::write(&stream, &image[payload]).with_context(|| format!("cannot write {}", stream.display()))?;
    let file = File::create(unpacked).with_context(|| format!("cannot create {}", unpacked.display()))?;
    // The stream is followed by the size of what is in it.
    let mut xz = Command::new("xz");
    xz.args(["--decompress", "--stdout", "--single-stream"]).arg(&stream).stdout(file);
    let status = xz.status().context("cannot start xz")?;
    ensure!(status.success(), "cannot unpack the kernel: xz failed ({status})");
    fs::remove_file(&stream).with_context(|| format!("cannot remove {}", stream.display()))
}

/// Where the packed kernel lies in a bzImage, by the boot protocol's setup header.
fn payload(image: &[u8]) -> Option<Range<usize>> {
    const SECTOR: usize = 512;
    let number = |place: usize| {
        let bytes: [u8; 4] = image.get(place..place + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    (image.get(0x202..0x206)? == b"HdrS").then_some(())?;
    let setup_sectors = usize::from(*image.get(0x1f1)?);
    let start = (setup_sectors + 1) * SECTOR + number(0x248)?;
    let end = start.checked_add(number(0x24c)?)?;
    (end <= image.len()).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setup_header_tells_where_the_kernel_is() {
        let mut image = vec![0; 4096];
        assert_eq!(payload(&image), None);
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x1f1] = 1;
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&100_u32.to_le_bytes());
        assert_eq!(payload(&image), Some(1040..1140));
        image[0x24c..0x250].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(payload(&image), None);
        assert_eq!(payload(&image[..0x24e]), None);
    }
}
