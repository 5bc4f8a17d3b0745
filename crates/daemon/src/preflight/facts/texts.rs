//! Small texts: os-release, meminfo, lists of CPUs, what `apt-config dump` prints.

/// The value of a key in os-release, without its quotes.
pub(crate) fn os_release<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let value = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim().trim_matches(|quote| quote == '"' || quote == '\''))
}

/// Bytes of memory that the kernel has, in /proc/meminfo.
pub(crate) fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// How many CPUs a list such as `0-3,5` names.
pub(crate) fn cpus_in_list(text: &str) -> Option<u32> {
    text.trim().split(',').try_fold(0_u32, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

/// The value of a setting in the output of `apt-config dump`: the last one holds.
pub(crate) fn apt_setting<'a>(dump: &'a str, key: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(key)?.trim().strip_prefix('"')?.strip_suffix("\";");
    dump.lines().rev().find_map(value)
}

/// A setting of a file in the style of systemd or NetworkManager: the values of `key` in the sections called
/// `section`.
pub(crate) fn settings<'a>(text: &'a str, section: &str, key: &str) -> Vec<&'a str> {
    let mut within = false;
    let mut values = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            within = name.strip_suffix(']') == Some(section);
        } else if within
            && let Some((name, value)) = line.split_once('=')
            && name.trim() == key
        {
            values.push(value.trim());
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found() {
        let text = "NAME=\"Ubuntu\"\nVERSION_ID=\"16.04\"\nID=ubuntu\nID_LIKE=debian\n";
        assert_eq!((os_release(text, "ID"), os_release(text, "VERSION_ID")), (Some("ubuntu"), Some("16.04")));
        assert_eq!(total_memory("MemTotal:        6110284 kB\nMemFree: 1 kB\n"), Some(6_110_284 * 1024));
        assert_eq!(total_memory("MemTotal: 99999999999999999999 kB"), None);
        let dump = "APT::Periodic::Unattended-Upgrade \"1\";\nAPT::Periodic::Unattended-Upgrade \"0\";\n";
        assert_eq!(apt_setting(dump, "APT::Periodic::Unattended-Upgrade"), Some("0"));
        let keyfile = "[connection]\nid=a\n[ethernet]\nid=b\n";
        assert_eq!(settings(keyfile, "ethernet", "id"), ["b"]);
    }

    #[test]
    fn cpus_are_counted() {
        let cases = [("0-3\n", Some(4)), ("0", Some(1)), ("0-1,4-5,7", Some(5)), ("", None), ("3-1", None)];
        for (text, expected) in cases {
            assert_eq!(cpus_in_list(text), expected, "{text:?}");
        }
    }
}
