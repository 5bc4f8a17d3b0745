//! Addresses, host names, and which adapters come up at boot.

use super::texts::settings;
use std::net::{IpAddr, Ipv4Addr};

/// An address of an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) adapter: String,
    pub(crate) address: Ipv4Addr,
}

/// The IPv4 addresses in what `ip -o addr` prints, without loopback and link-local ones.
pub(crate) fn addresses(text: &str) -> Vec<Address> {
    let address = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, adapter, "inet", address, ..] = &words[..] else { return None };
        let address: Ipv4Addr = address.split('/').next()?.parse().ok()?;
        let usable = !address.is_loopback() && !address.is_link_local() && !address.is_unspecified();
        let adapter = adapter.split('@').next()?.to_owned();
        usable.then_some(Address { adapter, address })
    };
    text.lines().filter_map(address).collect()
}

/// The addresses that /etc/hosts gives a name.
pub(crate) fn addresses_of(hosts: &str, name: &str) -> Vec<IpAddr> {
    let line = |line: &str| {
        let line = line.split('#').next()?;
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    hosts.lines().filter_map(line).collect()
}

/// Whether ifupdown's files bring an adapter up at boot, or when it appears.
pub(crate) fn ifupdown_starts(text: &str, adapter: &str) -> bool {
    let lines = || text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let starts = |words: &[&str]| match words {
        ["auto" | "allow-auto" | "allow-hotplug", names @ ..] => names.contains(&adapter),
        _ => false,
    };
    let defined = |words: &[&str]| matches!(words, ["iface", name, ..] if *name == adapter);
    lines().any(|words| starts(&words)) && lines().any(|words| defined(&words))
}

/// Whether a .network file of systemd-networkd is for an adapter.
pub(crate) fn networkd_matches(text: &str, adapter: &str, mac: Option<&str>) -> bool {
    let names = settings(text, "Match", "Name");
    let macs = settings(text, "Match", "MACAddress");
    if names.is_empty() && macs.is_empty() {
        return settings(text, "Match", "Type").contains(&"ether");
    }
    let named = names.iter().flat_map(|names| names.split_whitespace()).any(|glob| globs(glob, adapter));
    let has_mac = |listed: &&str| {
        mac.is_some_and(|mac| listed.split_whitespace().any(|one| one.eq_ignore_ascii_case(mac)))
    };
    (names.is_empty() || named) && (macs.is_empty() || macs.iter().any(has_mac))
}

/// Whether a connection file of NetworkManager brings an adapter up.
pub(crate) fn network_manager_starts(text: &str, adapter: &str) -> bool {
    let section = "connection";
    let manual = settings(text, section, "autoconnect").contains(&"false");
    let names = settings(text, section, "interface-name");
    !manual && !settings(text, section, "type").is_empty() && (names.is_empty() || names.contains(&adapter))
}

/// Whether a file of netplan has a key for an adapter.
pub(crate) fn netplan_names(text: &str, adapter: &str) -> bool {
    text.lines().any(|line| {
        let key = line.trim().strip_suffix(':').map(|key| key.trim_matches(['"', '\'']));
        line.starts_with([' ', '\t']) && key == Some(adapter)
    })
}

/// Whether `text` is matched by a pattern with `*` and `?`.
fn globs(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // What each beginning of the pattern matches, one character of it after the other.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for wanted in pattern {
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            next[at] = match wanted {
                '*' => reached[..=at].contains(&true),
                '?' => at > 0 && reached[at - 1],
                exact => at > 0 && reached[at - 1] && text[at - 1] == exact,
            };
        }
        reached = next;
    }
    reached[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_others_can_reach_are_listed() {
        let text = "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever\n\
                    2: ens160    inet 10.0.0.5/24 brd 10.0.0.255 scope global ens160\\  valid_lft forever\n\
                    2: ens160    inet6 fe80::1/64 scope link\n3: ens192    inet 169.254.3.4/16 scope link ens192\n";
        let found = addresses(text);
        assert_eq!(found, [Address { adapter: "ens160".into(), address: Ipv4Addr::new(10, 0, 0, 5) }]);
    }

    #[test]
    fn a_host_has_the_addresses_of_all_its_lines() {
        let hosts = "127.0.0.1 localhost\n10.0.0.5 mt.example MT # 10.0.0.9 mt\nx mt\n10.0.0.6\tmt\n";
        let found: Vec<String> = addresses_of(hosts, "mt").iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.5", "10.0.0.6"]);
    }

    #[test]
    fn each_way_to_bring_an_adapter_up_is_known() {
        assert!(ifupdown_starts("auto lo ens160\niface ens160 inet dhcp\n", "ens160"));
        assert!(!ifupdown_starts("#auto ens160\niface ens160 inet dhcp\n", "ens160"));
        assert!(!ifupdown_starts("auto ens160\n", "ens160"));
        assert!(networkd_matches("[Match]\nName=en* eth?\n[Network]\nDHCP=yes\n", "ens160", None));
        assert!(!networkd_matches("[Match]\nName=host0\n", "ens160", None));
        assert!(networkd_matches("[Match]\nMACAddress=00:50:56:AA:00:01\n", "x", Some("00:50:56:aa:00:01")));
        assert!(network_manager_starts("[connection]\ntype=ethernet\ninterface-name=ens160\n", "ens160"));
        assert!(!network_manager_starts("[connection]\ntype=ethernet\nautoconnect=false\n", "ens160"));
        assert!(netplan_names("network:\n  ethernets:\n    ens160:\n      dhcp4: true\n", "ens160"));
        assert!(!netplan_names("ens160:\n", "ens160"));
    }

    #[test]
    fn globs_match_whole_names() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("e*0", "ens160", true),
            ("e*1", "ens160", false),
            ("e?h", "eth", true),
            ("", "a", false),
        ] {
            assert_eq!(globs(pattern, text), expected, "{pattern} {text}");
        }
    }
}
