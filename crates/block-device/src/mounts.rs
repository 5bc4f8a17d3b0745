//! What is mounted, as the kernel tells it in mountinfo (proc(5)).

use crate::error::Result;
use crate::inventory::DeviceNumber;
use crate::inventory::text::unescape;
use crate::system::System;
use std::path::Path;

/// A line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Number of the file system's device; major 0 when it has no device of its own.
    pub number: DeviceNumber,
    /// Where it is mounted.
    pub place: String,
    /// Options of this mount alone, such as `rw,noatime`.
    pub mount_options: String,
    /// ext4, overlay, …
    pub kind: String,
    /// What the file system's driver was told to mount.
    pub source: String,
    /// Options of the file system, wherever it is mounted.
    pub options: String,
}

impl Mount {
    /// Whether it was mounted, or mounted again, so that it can only be read. The kernel does not do this by itself.
    pub fn was_made_read_only(&self) -> bool {
        has_option(&self.mount_options, "ro")
    }

    /// Whether nothing can be written: by someone's order, or because the kernel stopped the file system after an
    /// error (kernels since 6.12 say `emergency_ro` then).
    pub fn is_read_only(&self) -> bool {
        self.was_made_read_only()
            || has_option(&self.options, "ro")
            || has_option(&self.options, "emergency_ro")
    }
}

fn has_option(options: &str, wanted: &str) -> bool {
    options.split(',').any(|option| option == wanted)
}

/// What this process sees mounted, in the order in which it was.
pub fn read(system: &System) -> Result<Vec<Mount>> {
    Ok(parse(&system.text("/proc/self/mountinfo")?))
}

/// What is seen at a folder: the last that was mounted there.
pub fn at<'a>(mounts: &'a [Mount], place: &Path) -> Option<&'a Mount> {
    mounts.iter().rev().find(|mount| Path::new(&mount.place) == place)
}

/// The lines of `/proc/self/mountinfo`; what cannot be understood is left out.
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(mount).collect()
}

/// `36 35 98:0 /root /place rw,noatime shared:1 - ext3 /dev/root rw,errors=continue`: any number of fields, then a
/// dash, lie between the options of the mount and the kind of file system.
fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(2);
    let number = DeviceNumber::parse(before.next()?)?;
    let place = unescape(before.nth(1)?);
    let mount_options = before.next().unwrap_or_default().to_owned();
    let mut after = after.split(' ');
    let kind = after.next()?.to_owned();
    let source = unescape(after.next()?);
    let options = unescape(after.next().unwrap_or_default());
    Some(Mount { number, place, mount_options, kind, source, options })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn number(major: u64, minor: u64) -> DeviceNumber {
        DeviceNumber { major, minor }
    }

    #[test]
    fn mountinfo_tells_device_place_and_source() {
        let text = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
                    20 1 0:26 /@ / rw - btrfs /dev/sda2 rw,subvol=/@\n\
                    37 35 8:1 / /odd shared:1 - xfs none\n\
                    rubbish\n1 2 x:y / / rw - a b c\n1 2 3\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 3);
        assert_eq!((mounts[0].number, mounts[0].place.as_str()), (number(98, 0), "/mnt 2"));
        assert_eq!(mounts[0].mount_options, "rw,noatime");
        assert_eq!((mounts[1].kind.as_str(), mounts[1].source.as_str()), ("btrfs", "/dev/sda2"));
        assert_eq!(mounts[2].options, "");
    }

    #[test]
    fn the_last_mount_at_a_place_is_the_one_seen_and_tells_why_it_is_read_only() {
        let text = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n\
                    30 22 8:16 / /mnt/a\\040b rw - ext4 /dev/sdb rw\n\
                    31 22 252:0 / /mnt/a\\040b rw - ext4 /dev/mapper/3 ro\n\
                    32 22 252:0 / /mnt/c ro - ext4 /dev/mapper/3 rw\n\
                    33 22 252:0 / /mnt/d rw - ext4 /dev/mapper/3 rw,emergency_ro\n";
        let mounts = parse(text);
        let seen = |place: &str| at(&mounts, Path::new(place)).unwrap();
        assert_eq!(seen("/mnt/a b/").number, number(252, 0));
        let told = |place| (seen(place).is_read_only(), seen(place).was_made_read_only());
        assert_eq!(told("/"), (false, false));
        assert_eq!(told("/mnt/a b"), (true, false));
        assert_eq!(told("/mnt/c"), (true, true));
        assert_eq!(told("/mnt/d"), (true, false));
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "[ -~\\n\\\\|:é0-9]{0,300}") {
            let _ = parse(&text);
        }
    }
}
