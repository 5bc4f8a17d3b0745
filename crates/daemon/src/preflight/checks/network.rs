//! Addresses, host name, adapters, proxies.

use crate::preflight::facts::network::{self, Address};
use crate::preflight::facts::proxy::Settings;
use crate::preflight::facts::texts::apt_setting;
use crate::preflight::fix::Change;
use crate::preflight::{Check, Finding, Group, Look, Machine, Severity, Unknown};
use block_device::PROGRAM_TIMEOUT;
use std::net::IpAddr;

pub(super) static CHECKS: [Check; 4] = [
    Check {
        id: "ipv4-address",
        group: Group::Network,
        severity: Severity::Failure,
        title: "IPv4 address",
        needed: "a network adapter has an IPv4 address that others can reach",
        why: "Source agents and the configuration server connect to this machine by its address. Without one the old \
              product said \"No valid IP address found\".",
        look: ipv4_address,
        mend: None,
    },
    Check {
        id: "hosts-file",
        group: Group::Network,
        severity: Severity::Failure,
        title: "Host name in /etc/hosts",
        needed: "/etc/hosts maps the host name to the address of every network adapter",
        why: "The published procedure asks for it, so that the machine knows its own addresses even while no name \
              server answers. Where it was missing, the old product said \"No valid IP address found\".",
        look: hosts_file,
        mend: Some(add_to_hosts),
    },
    Check {
        id: "adapters-at-boot",
        group: Group::Network,
        severity: Severity::Failure,
        title: "Adapters come up at boot",
        needed: "each network adapter is configured to come up at boot",
        why: "An adapter that somebody brought up by hand is gone after the next restart. Such settings were a known \
              cause of an agent that never starts, and of \"No valid IP address found\".",
        look: adapters_at_boot,
        mend: None,
    },
    Check {
        id: "proxy",
        group: Group::Network,
        severity: Severity::Failure,
        title: "No proxy",
        needed: "no proxy is set for root and the system's services, or not for the configuration server",
        why: "The configuration server is talked to directly, with certificates on both ends. A proxy that wants a \
              password, or looks into TLS, breaks that: the old product said \"(35) SSL connect error\" at \
              registration.",
        look: proxy,
        mend: None,
    },
];

/// Adapters that are hardware, or VMware's.
fn adapters(machine: &Machine) -> Result<Vec<String>, Unknown> {
    let system = machine.system();
    let physical = |name: &String| system.path(format!("/sys/class/net/{name}/device")).exists();
    let adapters: Vec<String> = system.names("/sys/class/net").into_iter().filter(physical).collect();
    match adapters.is_empty() {
        true => Err(Unknown::because("/sys/class/net lists no network adapter")),
        false => Ok(adapters),
    }
}

/// The bond or bridge that an adapter is part of, which has the address then.
fn master(machine: &Machine, adapter: &str) -> Option<String> {
    let link = machine.system().path(format!("/sys/class/net/{adapter}/master"));
    Some(std::fs::read_link(link).ok()?.file_name()?.to_string_lossy().into_owned())
}

/// Addresses of the adapters, or of what they are part of.
pub(super) fn addresses(machine: &Machine) -> Result<Vec<Address>, Unknown> {
    let adapters = adapters(machine)?;
    let masters: Vec<String> = adapters.iter().filter_map(|adapter| master(machine, adapter)).collect();
    let text = machine.system().run_well("ip", &["-o", "addr"], PROGRAM_TIMEOUT)?;
    let ours = |one: &Address| adapters.contains(&one.adapter) || masters.contains(&one.adapter);
    Ok(network::addresses(&text).into_iter().filter(ours).collect())
}

fn ipv4_address(machine: &Machine) -> Look {
    let addresses = addresses(machine)?;
    let shown: Vec<String> = addresses.iter().map(|one| format!("{} {}", one.adapter, one.address)).collect();
    match shown.is_empty() {
        true => Finding::broken(
            format!("no address on {}: No valid IP address found", adapters(machine)?.join(", ")),
            "connect the adapter in vCenter, and give it an address: /etc/network/interfaces, then ifup NAME",
        ),
        false => Finding::good(shown.join(", ")),
    }
}

/// The host name, and the addresses that /etc/hosts does not give it.
fn unmapped(machine: &Machine) -> Result<(String, Vec<Address>), Unknown> {
    let name = machine.system().text("/proc/sys/kernel/hostname")?.trim().to_owned();
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if name.is_empty() || !name.bytes().all(safe) {
        return Err(Unknown::because(format!("the host name {name:?} cannot stand in /etc/hosts")));
    }
    let hosts = machine.system().text_if_exists("/etc/hosts")?.unwrap_or_default();
    let mapped = network::addresses_of(&hosts, &name);
    let addresses = addresses(machine)?;
    Ok((name, addresses.into_iter().filter(|one| !mapped.contains(&IpAddr::V4(one.address))).collect()))
}

fn host_lines(name: &str, addresses: &[Address]) -> Vec<String> {
    addresses.iter().map(|one| format!("{} {name}", one.address)).collect()
}

fn hosts_file(machine: &Machine) -> Look {
    let (name, unmapped) = unmapped(machine)?;
    match unmapped.is_empty() {
        true => Finding::good(format!("{name} is mapped to every address")),
        false => {
            let addresses: Vec<String> = unmapped.iter().map(|one| one.address.to_string()).collect();
            Finding::broken(
                format!("{name} is not mapped to {}", addresses.join(", ")),
                format!("add to /etc/hosts: {}", host_lines(&name, &unmapped).join("; ")),
            )
        }
    }
}

fn add_to_hosts(machine: &Machine) -> Result<Vec<Change>, Unknown> {
    let (name, unmapped) = unmapped(machine)?;
    Ok(vec![Change::block("/etc/hosts", "#", host_lines(&name, &unmapped))])
}

/// The texts of the files in a folder whose names end so.
fn texts(machine: &Machine, folder: &str, suffix: &str) -> Vec<String> {
    let names = machine.system().names(folder).into_iter().filter(|name| name.ends_with(suffix));
    names.filter_map(|name| machine.system().attribute(format!("{folder}/{name}"))).collect()
}

/// Which of the machine's ways to configure an adapter are in use.
fn manages(machine: &Machine, unit: &str) -> bool {
    machine.enabled(&[unit]).unwrap_or(false)
}

fn comes_up(machine: &Machine, adapter: &str) -> bool {
    let mut interfaces = machine.system().attribute("/etc/network/interfaces").unwrap_or_default();
    for text in texts(machine, "/etc/network/interfaces.d", "") {
        interfaces.push('\n');
        interfaces.push_str(&text);
    }
    if network::ifupdown_starts(&interfaces, adapter) {
        return true;
    }
    let netplan = ["/etc/netplan", "/run/netplan", "/lib/netplan"];
    if netplan.iter().any(|folder| {
        texts(machine, folder, ".yaml").iter().any(|text| network::netplan_names(text, adapter))
    }) {
        return true;
    }
    let mac = machine.system().attribute(format!("/sys/class/net/{adapter}/address"));
    let networkd = ["/etc/systemd/network", "/run/systemd/network", "/lib/systemd/network"];
    let mut files = networkd.iter().flat_map(|folder| texts(machine, folder, ".network"));
    if files.any(|text| network::networkd_matches(&text, adapter, mac.as_deref()))
        && manages(machine, "systemd-networkd")
    {
        return true;
    }
    let connections = texts(machine, "/etc/NetworkManager/system-connections", "");
    connections.iter().any(|text| network::network_manager_starts(text, adapter))
        && manages(machine, "NetworkManager")
}

fn adapters_at_boot(machine: &Machine) -> Look {
    let adapters = adapters(machine)?;
    let down: Vec<&str> =
        adapters.iter().map(String::as_str).filter(|name| !comes_up(machine, name)).collect();
    let remedy = |name: &&str| format!("auto {name}; iface {name} inet dhcp (or static, with its address)");
    match down.is_empty() {
        true => Finding::good(adapters.join(", ")),
        false => Finding::broken(
            format!("not configured to come up: {}", down.join(", ")),
            format!(
                "in /etc/network/interfaces: {}; or remove the adapter from this machine",
                down.iter().map(remedy).collect::<Vec<_>>().join("; ")
            ),
        ),
    }
}

/// Files in which people set proxies for everything.
const PROFILES: [&str; 5] =
    ["/etc/environment", "/etc/profile", "/root/.profile", "/root/.bashrc", "/root/.bash_profile"];

fn proxy(machine: &Machine) -> Look {
    let mut set = Vec::new();
    let mut exceptions = Vec::new();
    let mut note = |place: &str, settings: Settings| {
        set.extend(
            settings.proxies.iter().map(|proxy| format!("{} = {} ({place})", proxy.name, proxy.shown)),
        );
        exceptions.extend(settings.exceptions);
    };
    let mut own = Settings::default();
    machine.options.environment.iter().for_each(|(name, value)| own.add(name, value));
    note("environment", own);
    for place in PROFILES {
        let mut settings = Settings::default();
        settings.add_assignments(&machine.system().attribute(place).unwrap_or_default());
        note(place, settings);
    }
    let mut profiles = Settings::default();
    texts(machine, "/etc/profile.d", ".sh").iter().for_each(|text| profiles.add_assignments(text));
    note("/etc/profile.d", profiles);
    let apt = machine.apt_settings().ok().and_then(|dump| apt_setting(dump, "Acquire::http::Proxy"));
    let apt = if apt.is_some_and(|proxy| !proxy.is_empty()) {
        "; apt has one of its own, which does no harm"
    } else {
        ""
    };
    let host = machine.configuration_server().map(|server| server.address).ok();
    let excepted = Settings { proxies: Vec::new(), exceptions };
    match (set.is_empty(), host.filter(|host| excepted.excepts(host))) {
        (true, _) => Finding::good(format!("none{apt}")),
        (false, Some(host)) => Finding::good(format!("{}; not for {host} (no_proxy)", set.join(", "))),
        (false, None) => Finding::broken(
            set.join(", "),
            "remove the proxy from there, or name the configuration server in no_proxy, and log in again",
        ),
    }
}
