//! Parsers of what the kernel and the machine's programs print.
//!
//! Each takes any text: a line that cannot be understood is left out, and nothing that a line says is used as a
//! length. Mount points and device names come unescaped. Sources: proc(5) for swaps, fstab(5),
//! `dmsetup table`, `dmsetup info -c`, and udev's database, whose records of block devices are
//! `/run/udev/data/b<major>:<minor>` with lines `E:KEY=VALUE`. What multipathd prints, `multipath::output` reads.

use std::collections::BTreeMap;

/// Longest word that is believed to be one: a name or a state.
const LONGEST_WORD: usize = 256;

/// The devices in `/proc/swaps`; swap files are left out, since their file system is mounted.
pub fn swaps(text: &str) -> Vec<String> {
    let device = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next().filter(|name| name.starts_with('/'))?;
        (words.next()? == "partition").then(|| unescape(name))
    };
    text.lines().filter_map(device).collect()
}

/// Device and mount point of the lines of `/etc/fstab`.
pub fn fstab(text: &str) -> Vec<(String, String)> {
    let entry = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let device = words.next().filter(|word| !word.starts_with('#'))?;
        Some((unescape(device), unescape(words.next()?)))
    };
    text.lines().filter_map(entry).collect()
}

/// First sector of each map that is one piece of another device, of lines `name: 0 8192 linear 253:0 2048`.
pub fn linear_starts(text: &str) -> BTreeMap<String, u64> {
    let start = |line: &str| {
        let (name, table) = line.split_once(": ")?;
        let words: Vec<&str> = table.split_ascii_whitespace().collect();
        let ["0", _, "linear", _, start] = words[..] else { return None };
        is_word(name).then_some((name.to_owned(), start.parse().ok()?))
    };
    text.lines().filter_map(start).collect()
}

/// How often each map is open, of lines `name|1`.
pub fn open_counts(text: &str) -> BTreeMap<String, u32> {
    let count = |line: &str| {
        let (name, count) = line.trim().rsplit_once('|')?;
        is_word(name).then_some((name.to_owned(), count.trim().parse().ok()?))
    };
    text.lines().filter_map(count).collect()
}

/// The properties in a record of udev's database.
pub fn udev_properties(text: &str) -> BTreeMap<String, String> {
    let property = |line: &str| {
        let (key, value) = line.strip_prefix("E:")?.split_once('=')?;
        is_word(key).then(|| (key.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(property).collect()
}

fn is_word(text: &str) -> bool {
    (1..=LONGEST_WORD).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Blanks, tabs, newlines and backslashes stand as `\040` and the like.
pub fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
            u8::from_str_radix(digits, 8).ok()
        });
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn swaps_are_devices_not_files() {
        let text = "Filename\t\t\tType\t\tSize\tUsed\tPriority\n\
                    /dev/sda2                               partition\t2097148\t0\t-2\n\
                    /swap\\040file                          file\t\t1024\t0\t-3\n\
                    /dev/odd\\040name partition 1 1 1\n";
        assert_eq!(swaps(text), ["/dev/sda2", "/dev/odd name"]);
    }

    #[test]
    fn programs_are_understood_and_their_rubbish_is_left_out() {
        let starts = linear_starts(
            "m-part1: 0 8192 linear 253:0 2048\nlv: 0 8 linear 8:1 0\nlv: 8 8 linear 8:2 0\nNo devices found\n",
        );
        assert_eq!(starts.get("m-part1"), Some(&2048));
        assert_eq!(
            open_counts("a|0\nb|2\nNo devices found\nc|x\n").into_iter().collect::<Vec<_>>(),
            [("a".into(), 0), ("b".into(), 2)]
        );
        let properties = udev_properties("S:disk/by-id/x\nE:ID_SERIAL=36000c29=\nE:=x\nW:1\n");
        assert_eq!(properties.get("ID_SERIAL").map(String::as_str), Some("36000c29="));
        assert_eq!(
            fstab("# x\nUUID=1 /mnt/a\\040b ext4 rw 0 2\n\nhalf\n"),
            [("UUID=1".into(), "/mnt/a b".into())]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "[ -~\\n\\\\|:é0-9]{0,300}") {
            let _ = (swaps(&text), fstab(&text), unescape(&text));
            let _ = (linear_starts(&text), open_counts(&text), udev_properties(&text));
        }
    }
}
