//! What is mounted, and what fstab says is to be.

/// One line of /proc/self/mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Major and minor number of the device.
    pub(crate) number: (u64, u64),
    pub(crate) place: String,
    /// ext4, btrfs, …
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) read_only: bool,
}

/// Reads /proc/self/mountinfo.
pub(crate) fn mountinfo(text: &str) -> Vec<Mount> {
    text.lines().filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    let (major, minor) = left.get(2)?.split_once(':')?;
    let read_only = |options: &str| options.split(',').any(|option| option == "ro");
    Some(Mount {
        number: (major.parse().ok()?, minor.parse().ok()?),
        place: unescaped(left.get(4)?),
        kind: right.first()?.to_string(),
        source: unescaped(right.get(1)?),
        read_only: read_only(left.get(5)?) || right.get(2).is_some_and(|options| read_only(options)),
    })
}

/// What is seen at a place: the last that was mounted there.
pub(crate) fn mounted_at<'a>(mounts: &'a [Mount], place: &str) -> Option<&'a Mount> {
    mounts.iter().rev().find(|mount| mount.place == place)
}

/// One entry of fstab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) device: String,
    pub(crate) place: String,
    pub(crate) kind: String,
    pub(crate) options: Vec<String>,
}

/// Reads /etc/fstab.
pub(crate) fn fstab(text: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [device, place, kind, rest @ ..] = &words[..] else { return None };
        let options = rest.first().unwrap_or(&"defaults").split(',').map(str::to_owned).collect();
        let place = unescaped(place);
        let place = if place.len() > 1 { place.trim_end_matches('/').to_owned() } else { place };
        Some(Entry { device: unescaped(device), place, kind: kind.to_string(), options })
    };
    text.lines().map(str::trim).filter(|line| !line.starts_with('#')).filter_map(entry).collect()
}

/// `\040` and its like, as bytes.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\').and_then(octal);
        match code {
            Some(code) => {
                bytes.push(code);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mount_at_a_place_is_the_one_seen() {
        let text = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n\
                    30 22 8:16 / /mnt/a\\040b rw - ext4 /dev/sdb rw\nrubbish - x\n\
                    31 22 252:0 / /mnt/a\\040b rw - ext4 /dev/mapper/3 ro\n";
        let mounts = mountinfo(text);
        assert_eq!(mounts.len(), 3);
        let seen = mounted_at(&mounts, "/mnt/a b").unwrap();
        assert_eq!((seen.number, seen.read_only, seen.source.as_str()), ((252, 0), true, "/dev/mapper/3"));
    }

    #[test]
    fn fstab_is_read() {
        let entries =
            fstab("# c\n/dev/sda1 / ext4\n\n/dev/mapper/3a /mnt/retention/ ext4 rw,nofail 0 2\nx\n");
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[1].place.as_str(), entries[1].options.len()), ("/mnt/retention", 2));
        assert_eq!(entries[0].options, ["defaults"]);
    }

    #[test]
    fn a_backslash_without_octal_digits_stays() {
        for text in ["\\", "a\\04", "\\999", "\\é"] {
            assert_eq!(unescaped(text), text);
        }
    }
}
