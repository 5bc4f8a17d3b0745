//! What multipath and multipathd print.
//!
//! Only sysfs is believed about maps. What a path's state is, multipathd alone knows, and of two forms of telling it:
//!
//! - `multipathd show paths format "%d|%w|%t|%o|%T"`, in all versions: a line of headings, then one line for each path
//!   with its device, WWID, device-mapper's state, the device's state and the checker's state, padded with blanks.
//! - `multipath -ll`, when the daemon does not answer: for each map a line `[action: ]NAME[ (WWID)] dm-N VENDOR,…`, then
//!   a line of properties, and for each path `H:C:T:L sdX major:minor active ready running` behind a drawn tree.
//!
//! Both may have warnings between their lines. A line that is none of these is passed over.

use crate::scsi_id::ScsiId;
use serde::Serialize;

/// Most paths and maps that are listed.
const MAX_LINES: usize = 4096;

/// What [`paths`] reads, for `multipathd show paths format`. Without a blank: 0.5.0 splits its command at blanks.
pub(crate) const FORMAT: &str = "%d|%w|%t|%o|%T";

/// The state of a path, in the words of multipathd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathState {
    /// Kernel name of the path: `sdb`.
    pub device: String,
    /// WWID of its disk, where multipath knows it.
    pub wwid: Option<ScsiId>,
    /// What device-mapper thinks of the path: active, failed, or undef for a path of no map.
    pub dm_state: String,
    /// What the kernel thinks of the device: running, offline, …
    pub device_state: String,
    /// What multipath's checker found: ready, faulty, ghost, shaky, …
    pub checker_state: String,
}

/// A map in the output of `multipath -ll`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedMap {
    /// Its name.
    pub name: String,
    /// Its WWID: what stands in brackets, else the name.
    pub wwid: String,
    /// Its kernel name: `dm-0`.
    pub kernel_name: String,
    /// Its paths.
    pub paths: Vec<PathState>,
}

/// The paths in the answer to `show paths format "%d|%w|%t|%o|%T"`. Lines that are none are passed over.
pub fn paths(text: &str) -> Vec<PathState> {
    text.lines().filter_map(path_line).take(MAX_LINES).collect()
}

fn path_line(line: &str) -> Option<PathState> {
    let fields: Vec<&str> = line.split('|').map(str::trim).collect();
    let [device, wwid, dm_state, device_state, checker_state] = fields.as_slice() else { return None };
    // The line of headings.
    if *device == "dev" && *dm_state == "dm_st" {
        return None;
    }
    state(device, ScsiId::parse(wwid), [dm_state, device_state, checker_state])
}

fn state(device: &str, wwid: Option<ScsiId>, states: [&str; 3]) -> Option<PathState> {
    if !is_word(device) || !states.iter().all(|state| is_word(state)) {
        return None;
    }
    let [dm_state, device_state, checker_state] = states.map(str::to_owned);
    Some(PathState { device: device.to_owned(), wwid, dm_state, device_state, checker_state })
}

/// A name or state: short, and safe to show and to use as a file name.
fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-!".contains(&byte))
}

/// The maps in the output of `multipath -ll`. Lines that are none are passed over; a path before any map too.
pub fn topology(text: &str) -> Vec<ListedMap> {
    let mut maps: Vec<ListedMap> = Vec::new();
    for line in text.lines().take(MAX_LINES) {
        if let Some(map) = map_line(line) {
            maps.push(map);
        } else if let (Some(map), Some(path)) = (maps.last_mut(), tree_line(line)) {
            map.paths.push(PathState { wwid: ScsiId::parse(&map.wwid), ..path });
        }
    }
    maps
}

/// `36000… dm-0 VMware,Virtual disk`, `data (36000…) dm-0 …`, `reload: data (36000…) dm-0 …`.
fn map_line(line: &str) -> Option<ListedMap> {
    if line.starts_with([' ', '|', '`', '\\']) {
        return None;
    }
    let mut words = line.split_whitespace().peekable();
    words.next_if(|word| word.ends_with(':'));
    let name = words.next()?;
    let brackets = |word: &str| Some(word.strip_prefix('(')?.strip_suffix(')')?.to_owned());
    let wwid = words.peek().and_then(|word| brackets(word));
    if wwid.is_some() {
        words.next();
    }
    let kernel_name = words.next()?;
    kernel_name.strip_prefix("dm-")?.parse::<u32>().ok()?;
    // Vendor and product follow, with a comma even when both are empty.
    words.next().filter(|word| word.contains(',')).or_else(|| words.find(|word| word.contains(',')))?;
    Some(ListedMap {
        name: name.to_owned(),
        wwid: wwid.unwrap_or_else(|| name.to_owned()),
        kernel_name: kernel_name.to_owned(),
        paths: Vec::new(),
    })
}

/// `| |- 3:0:0:1 sdb 8:16 active ready running`, and `| |- #:#:#:# - #:# failed undef running` for a path that went.
fn tree_line(line: &str) -> Option<PathState> {
    let path = line.trim_start_matches([' ', '|', '`', '-', '+', '\\', '_']);
    let words: Vec<&str> = path.split_whitespace().collect();
    let [address, device, number, dm_state, checker_state, device_state] = words.as_slice() else {
        return None;
    };
    let is_path = address.split(':').count() == 4
        && crate::inventory::DeviceNumber::parse(number).is_some()
        && address.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
    if is_path { state(device, None, [dm_state, device_state, checker_state]) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "36000c29a0123456789abcdef01234567";

    fn shown(paths: &[PathState]) -> Vec<String> {
        let row = |path: &PathState| {
            let wwid = path.wwid.as_ref().map_or("-", ScsiId::as_str);
            format!("{} {wwid} {} {} {}", path.device, path.dm_state, path.device_state, path.checker_state)
        };
        paths.iter().map(row).collect()
    }

    #[test]
    fn paths_are_read_with_headings_padding_and_warnings() {
        let text = format!(
            "Oct 12 10:01:02 | /etc/multipath.conf line 3, invalid keyword: foo\n\
             dev|uuid                             |dm_st |dev_st |chk_st \n\
             sda|{ID}|active|running|ready  \n\
             sdc|{ID}|failed|offline|faulty \n\
             sdb|                                 |undef |running|undef  \n\
             ux_socket_connect: Connection refused\na|b|c|d\n../x|y|active|running|ready\n"
        );
        assert_eq!(
            shown(&paths(&text)),
            [
                format!("sda {ID} active running ready"),
                format!("sdc {ID} failed offline faulty"),
                "sdb - undef running undef".into()
            ]
        );
    }

    /// As 0.5.0 prints it: names by WWID, two groups, a blank too many after `ready`.
    #[test]
    fn a_listing_of_0_5_is_read() {
        let text = format!(
            "Nov 02 09:12:44 | multipath.conf +7, invalid keyword: unknown\n\
             {ID} dm-0 VMware,Virtual disk    \n\
             size=40G features='0' hwhandler='0' wp=rw\n\
             |-+- policy='round-robin 0' prio=1 status=active\n\
             | `- 3:0:1:0 sdb 8:16 active ready  running\n\
             `-+- policy='round-robin 0' prio=1 status=enabled\n  \
             `- 4:0:1:0 sdd 8:48 failed faulty offline\n"
        );
        let maps = topology(&text);
        assert_eq!((maps.len(), maps[0].name.as_str(), maps[0].kernel_name.as_str()), (1, ID, "dm-0"));
        assert_eq!(
            shown(&maps[0].paths),
            [format!("sdb {ID} active running ready"), format!("sdd {ID} failed offline faulty")]
        );
    }

    /// As 0.8 and 0.9 print it: an alias, an action, columns, and a path that has gone.
    #[test]
    fn a_listing_of_0_8_and_0_9_is_read() {
        let text = format!(
            "3212.704 | sdc: using deprecated getuid callout\n\
             reload: data ({ID}) dm-12 QEMU,QEMU HARDDISK\n\
             size=64M features='1 queue_if_no_path' hwhandler='1 alua' wp=rw\n\
             `-+- policy='service-time 0' prio=50 status=active\n  \
             |- 2:0:0:0  sda     8:0   active ready running\n  \
             |- #:#:#:#  -       #:#   failed undef running\n  \
             `- 10:0:3:1 sdab    65:176 active ghost running\n\
             36000c29b dm-3 ##,##\nsize=1.0G features='0' hwhandler='0' wp=ro\n"
        );
        let maps = topology(&text);
        let heads: Vec<(&str, &str, &str)> =
            maps.iter().map(|map| (map.name.as_str(), map.wwid.as_str(), map.kernel_name.as_str())).collect();
        assert_eq!(heads, [("data", ID, "dm-12"), ("36000c29b", "36000c29b", "dm-3")]);
        assert_eq!(
            shown(&maps[0].paths),
            [format!("sda {ID} active running ready"), format!("sdab {ID} active running ghost")]
        );
        assert!(maps[1].paths.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn rubbish_is_passed_over(text in "([a-z0-9:|`#(), \\n-]|dm-1|sda|active|\\PC){0,300}") {
            let lines = text.lines().count();
            prop_assert!(paths(&text).len() <= lines);
            prop_assert!(topology(&text).iter().map(|map| 1 + map.paths.len()).sum::<usize>() <= lines);
        }
    }
}
