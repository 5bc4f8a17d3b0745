//! The maps of device-mapper: seen through sysfs, made and removed by the machine's own `dmsetup`.
//!
//! `dmsetup` rather than calls of our own, because it fits the udev rules and cookies that are installed with it
//! (docs/decisions/0015). What it says is not believed: a map is made when sysfs shows it with the size, the uuid and
//! the device below that were asked for and udev has made its node, and removed when sysfs no longer shows it.
//!
//! Names and uuids are bytes that udev can take: letters, digits and `#+-.:=@_`. libdevmapper writes any other as
//! `\x20`, and so do we, so that what sysfs shows and what `dmsetup` is given are the same text. A name has up to 127
//! bytes, a uuid up to 128 (DM_NAME_LEN and DM_UUID_LEN, without the closing zero).

use crate::error::{Error, Result};
use crate::inventory::DeviceNumber;
use crate::system::{PROGRAM_TIMEOUT, System};
use disk::{ByteRange, Bytes, SECTOR_SIZE, Sectors};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Longest name of a map in bytes.
pub const MAX_NAME: usize = 127;

/// Longest uuid of a map in bytes.
pub const MAX_UUID: usize = 128;

/// How long sysfs and udev have to show what a program did.
pub(crate) const WAIT: Duration =
    if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(10) };

/// How often they are looked at.
const POLL: Duration = Duration::from_millis(20);

/// A map as sysfs shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// Its name, under /dev/mapper.
    pub name: String,
    /// Its kernel name: `dm-3`.
    pub kernel_name: String,
    /// Its device number.
    pub number: DeviceNumber,
    /// Its uuid, where it has one: `mpath-…`, `LVM-…`, `part1-…`.
    pub uuid: Option<String>,
    /// True when reads and writes wait.
    pub suspended: bool,
    /// True when it can only be read.
    pub read_only: bool,
    /// Size in bytes; zero when it was made and has no table yet.
    pub size: Bytes,
    /// Kernel names of the devices that it lies on.
    pub slaves: Vec<String>,
    /// Kernel names of the devices that lie on it.
    pub holders: Vec<String>,
}

/// A map over one stretch of one device.
#[derive(Clone, Debug)]
pub struct Linear<'a> {
    /// Name of the map.
    pub name: &'a str,
    /// Its uuid.
    pub uuid: &'a str,
    /// The device below.
    pub below: DeviceNumber,
    /// The stretch, in bytes, a whole number of 512-byte sectors.
    pub range: ByteRange,
    /// Whether it can only be read.
    pub read_only: bool,
}

/// All maps, in the order of their kernel names. A map that goes while it is looked at is left out.
pub fn maps(system: &System) -> Vec<Map> {
    let names = system.names("/sys/block");
    names.iter().filter(|name| name.starts_with("dm-")).filter_map(|name| read(system, name)).collect()
}

/// The map of a name; `None` when there is none.
pub fn find(system: &System, name: &str) -> Option<Map> {
    maps(system).into_iter().find(|map| map.name == name)
}

fn read(system: &System, kernel_name: &str) -> Option<Map> {
    let folder = format!("/sys/block/{kernel_name}");
    let attribute = |name: &str| system.attribute(format!("{folder}/{name}"));
    let is_set = |name: &str| attribute(name).as_deref() == Some("1");
    let sectors: u64 = attribute("size").and_then(|text| text.parse().ok()).unwrap_or(0);
    Some(Map {
        name: attribute("dm/name")?,
        kernel_name: kernel_name.to_owned(),
        number: DeviceNumber::parse(&attribute("dev")?)?,
        uuid: attribute("dm/uuid"),
        suspended: is_set("dm/suspended"),
        read_only: is_set("ro"),
        size: Sectors(sectors).to_bytes()?,
        slaves: system.names(format!("{folder}/slaves")),
        holders: system.names(format!("{folder}/holders")),
    })
}

/// A text as libdevmapper has it in a name or uuid: every byte that udev cannot take as `\x20`. What is so written
/// already stays. `None` when it is empty, begins with `-` (which would be an option) or is longer than `longest`.
pub fn mangled(text: &str, longest: usize) -> Option<String> {
    let mut result = String::new();
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let begins_escape = *byte == b'\\'
            && bytes.get(at + 1) == Some(&b'x')
            && bytes.get(at + 2..at + 4).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        if byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(byte) || begins_escape {
            result.push(char::from(*byte));
        } else {
            result.push_str(&format!("\\x{byte:02x}"));
        }
    }
    (!result.is_empty() && !result.starts_with('-') && result.len() <= longest).then_some(result)
}

/// A name or uuid that may be given to dmsetup as it is.
fn checked(text: &str, longest: usize) -> Result<()> {
    if mangled(text, longest).as_deref() == Some(text) {
        return Ok(());
    }
    Err(Error::BadName {
        name: text.to_owned(),
        problem: format!("device-mapper takes 1 to {longest} letters, digits and #+-.:=@_"),
    })
}

/// Makes a map and waits until sysfs shows it and udev has made its node.
///
/// # Errors
/// [`Error::NameTaken`] when a map of this name is there; nothing is left behind by any error but a program that
/// hangs, whose map is removed when it can be.
pub fn create_linear(system: &System, wanted: &Linear<'_>) -> Result<Map> {
    checked(wanted.name, MAX_NAME)?;
    checked(wanted.uuid, MAX_UUID)?;
    let (start, length) = (wanted.range.start().0, wanted.range.length().0);
    if length == 0 || start % SECTOR_SIZE != 0 || length % SECTOR_SIZE != 0 {
        return Err(Error::BadName {
            name: wanted.name.to_owned(),
            problem: format!("{} is not a whole number of sectors", wanted.range),
        });
    }
    if find(system, wanted.name).is_some() {
        return Err(Error::NameTaken { name: wanted.name.to_owned() });
    }
    let table = format!("0 {} linear {} {}", length / SECTOR_SIZE, wanted.below, start / SECTOR_SIZE);
    let mut arguments = vec!["create", wanted.name, "-u", wanted.uuid];
    if wanted.read_only {
        arguments.push("--readonly");
    }
    arguments.extend(["--table", &table]);
    let made = system.run_well("dmsetup", &arguments, PROGRAM_TIMEOUT).and_then(|_| wait_for(system, wanted));
    if made.is_err() && find(system, wanted.name).is_some_and(|map| map.uuid.as_deref() == Some(wanted.uuid))
    {
        // The first error is the one to tell; what stays is found by its uuid.
        let _ = remove(system, wanted.name);
    }
    made
}

fn wait_for(system: &System, wanted: &Linear<'_>) -> Result<Map> {
    let node = Path::new("/dev/mapper").join(wanted.name);
    wait(
        WAIT,
        || {
            let map = find(system, wanted.name).filter(|map| {
                map.uuid.as_deref() == Some(wanted.uuid)
                    && map.size == wanted.range.length()
                    && (map.read_only || !wanted.read_only)
                    && !map.suspended
            })?;
            system.path(&node).exists().then_some(map)
        },
        || format!("the map {} with its node {}", wanted.name, node.display()),
        "udev may not run, or a rule of it may have failed: see journalctl -u systemd-udevd, then try again",
    )
}

/// Removes a map and waits until it is gone; without an error when there was none.
///
/// # Errors
/// [`Error::ProgramRefused`] when it is open, and what dmsetup said of it.
pub fn remove(system: &System, name: &str) -> Result<()> {
    checked(name, MAX_NAME)?;
    let end = Instant::now() + WAIT;
    while find(system, name).is_some() {
        if Instant::now() >= end {
            let what = format!("the removal of the map {name}");
            let advice = "something may still use it: see dmsetup info";
            return Err(Error::Waited { what, seconds: WAIT.as_secs(), advice });
        }
        // A udev rule may have it open for a moment after a change: dmsetup tries for some seconds. And the kpartx of that
        // rule may make a partition map once more that was removed under it.
        let outcome = system.run_well("dmsetup", &["remove", "--retry", name], PROGRAM_TIMEOUT);
        if outcome.is_err() && find(system, name).is_some() {
            return outcome.map(|_| ());
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// What a map is made of when it is one linear stretch: the device below and the first byte in it. `None` for a map
/// of another kind.
pub fn linear_below(system: &System, name: &str) -> Result<Option<(DeviceNumber, Bytes)>> {
    checked(name, MAX_NAME)?;
    let text = system.run_well("dmsetup", &["table", name], PROGRAM_TIMEOUT)?;
    Ok(parse_linear(&text))
}

/// `0 2048 linear 8:16 63`, on one line.
fn parse_linear(text: &str) -> Option<(DeviceNumber, Bytes)> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let words: Vec<&str> = lines.next()?.split_whitespace().collect();
    match (words.as_slice(), lines.next()) {
        (["0", _, "linear", below, start], None) => {
            Some((DeviceNumber::parse(below)?, Sectors(start.parse().ok()?).to_bytes()?))
        }
        _ => None,
    }
}

/// Looks until something is there, for as long as `longest`.
pub(crate) fn wait<T>(
    longest: Duration,
    mut look: impl FnMut() -> Option<T>,
    what: impl FnOnce() -> String,
    advice: &'static str,
) -> Result<T> {
    let end = Instant::now() + longest;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() >= end {
            return Err(Error::Waited { what: what(), seconds: longest.as_secs(), advice });
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_machine::FakeMachine;

    fn linear<'a>(name: &'a str, uuid: &'a str, read_only: bool) -> Linear<'a> {
        let range = ByteRange::between(Bytes(1 << 20), Bytes(2 << 20));
        Linear { name, uuid, below: DeviceNumber { major: 8, minor: 16 }, range, read_only }
    }

    #[test]
    fn a_map_is_made_seen_and_removed() {
        let machine = FakeMachine::new();
        machine.disk("sdb", "8:16", 4 << 20);
        let system = machine.system();
        let map = create_linear(&system, &linear("x-part1", "part1-mt-x", true)).unwrap();
        assert_eq!(
            (map.size, map.read_only, map.slaves.as_slice()),
            (Bytes(1 << 20), true, &["sdb".to_owned()][..])
        );
        assert_eq!(
            machine.log(),
            ["create x-part1 -u part1-mt-x --readonly --table 0 2048 linear 8:16 2048"]
        );
        assert_eq!(maps(&system), [map]);
        assert_eq!(linear_below(&system, "x-part1").unwrap().unwrap().1, Bytes(1 << 20));
        let taken = create_linear(&system, &linear("x-part1", "other", false)).unwrap_err();
        assert!(matches!(taken, Error::NameTaken { .. }), "{taken}");
        remove(&system, "x-part1").unwrap();
        remove(&system, "x-part1").unwrap();
        assert_eq!(maps(&system), []);
    }

    #[test]
    fn a_map_whose_node_does_not_come_is_removed_again() {
        let machine = FakeMachine::new();
        machine.disk("sdb", "8:16", 4 << 20);
        machine.mode("no-node");
        let error = create_linear(&machine.system(), &linear("x-part1", "part1-mt-x", false)).unwrap_err();
        assert!(error.to_string().contains("udev"), "{error}");
        assert_eq!(maps(&machine.system()), []);
    }

    #[test]
    fn a_map_that_comes_back_is_removed_once_more() {
        let machine = FakeMachine::new();
        machine.disk("sdb", "8:16", 4 << 20);
        let system = machine.system();
        create_linear(&system, &linear("x-part1", "part1-mt-x", false)).unwrap();
        machine.forget_log();
        machine.mode("back-once");
        remove(&system, "x-part1").unwrap();
        assert_eq!(maps(&system), []);
        assert_eq!(machine.log(), ["remove --retry x-part1"; 2]);

        create_linear(&system, &linear("x-part1", "part1-mt-x", false)).unwrap();
        machine.mode("back-always");
        let error = remove(&system, "x-part1").unwrap_err();
        assert!(matches!(error, Error::Waited { .. }), "{error}");
    }

    #[test]
    fn a_refusal_tells_what_dmsetup_said() {
        let machine = FakeMachine::new();
        machine.disk("sdb", "8:16", 4 << 20);
        machine.mode("refuse");
        let error = create_linear(&machine.system(), &linear("x-part1", "u", false)).unwrap_err();
        assert!(error.to_string().contains("Device or resource busy"), "{error}");
    }

    #[test]
    fn names_are_written_as_libdevmapper_writes_them() {
        assert_eq!(mangled("36000c29-part1", MAX_NAME).unwrap(), "36000c29-part1");
        assert_eq!(mangled("my disk/ü", MAX_NAME).unwrap(), "my\\x20disk\\x2f\\xc3\\xbc");
        assert_eq!(mangled("my\\x20disk", MAX_NAME).unwrap(), "my\\x20disk");
        assert_eq!(mangled("a\\b", MAX_NAME).unwrap(), "a\\x5cb");
        for bad in ["", "-f", &"x".repeat(128), &" ".repeat(32)] {
            assert_eq!(mangled(bad, MAX_NAME), None, "{bad:?}");
        }
        assert!(remove(&FakeMachine::new().system(), "--force").is_err());
    }

    #[test]
    fn only_a_single_linear_stretch_is_one() {
        let number = DeviceNumber { major: 8, minor: 0 };
        assert_eq!(parse_linear("0 10 linear 8:0 4\n"), Some((number, Bytes(2048))));
        for other in
            ["", "0 1 linear 8:0 4\n1 1 linear 8:0 9\n", "0 1 striped 1 8 8:0 0", "0 1 linear sda x", "\0"]
        {
            assert_eq!(parse_linear(other), None, "{other:?}");
        }
    }
}
