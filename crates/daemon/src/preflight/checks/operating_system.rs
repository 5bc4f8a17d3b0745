//! Operating system, kernel and packages.

use crate::preflight::facts::kernels::{self, Kernel};
use crate::preflight::facts::texts::{apt_setting, os_release};
use crate::preflight::fix::Change;
use crate::preflight::{Check, Finding, Group, Look, Machine, Severity, Unknown};

pub(super) static CHECKS: [Check; 5] = [
    Check {
        id: "operating-system",
        group: Group::Machine,
        severity: Severity::Warning,
        title: "Operating system",
        needed: "Ubuntu 16.04 LTS, 64 bit",
        why: "The master target was published for Ubuntu 16.04 LTS server, 64 bit, and is tested on it. On another \
              system kernel, udev rules and multipath defaults differ: the old product did not install there, or \
              misbehaved once it ran.",
        look: operating_system,
        mend: None,
    },
    Check {
        id: "kernel",
        group: Group::Machine,
        severity: Severity::Failure,
        title: "Kernel",
        needed: "4.4.0 up to -81, 4.8.0 up to -56 or 4.10.0 up to -24, each generic",
        why: "Only these kernels were published for a master target. With a newer one the old product misbehaved or \
              would not install, most often after an upgrade that nobody had asked for.",
        look: kernel,
        mend: None,
    },
    Check {
        id: "kernel-pinned",
        group: Group::Machine,
        severity: Severity::Failure,
        title: "Kernel upgrades",
        needed: "the kernel's packages, and the meta packages that bring newer ones, are on hold",
        why: "A supported kernel stays so only while nothing replaces it. apt, and unattended-upgrades with it, leave \
              packages alone that are on hold. Without that the old product worked until the next restart, and then \
              its kernel was another.",
        look: kernel_pinned,
        mend: Some(pin_kernel),
    },
    Check {
        id: "automatic-updates",
        group: Group::Machine,
        severity: Severity::Warning,
        title: "Automatic updates",
        needed: "APT::Periodic::Unattended-Upgrade is off",
        why: "The published procedure wants no automatic updates: one that restarts a service or multipathd in the \
              middle of a failback costs hours. Kernels are kept back by the holds (see kernel-pinned); this is about \
              everything else.",
        look: automatic_updates,
        mend: Some(stop_automatic_updates),
    },
    Check {
        id: "packages",
        group: Group::Machine,
        severity: Severity::Failure,
        title: "Packages",
        needed: "multipath-tools, kpartx, lvm2, lsscsi, e2fsprogs and open-vm-tools are installed",
        why: "Disks are mapped with multipath-tools, their partitions with kpartx, the retention volume is made with \
              e2fsprogs; lvm2 has the filter that keeps LVM off the replicas, lsscsi shows what is attached, and \
              without open-vm-tools vCenter lists no datastore. python-pyasn1, which the published list also has, was \
              for the old product's registration and is not needed here.",
        look: packages,
        mend: Some(install_packages),
    },
];

const NEEDED_PACKAGES: [&str; 6] =
    ["multipath-tools", "kpartx", "lvm2", "lsscsi", "e2fsprogs", "open-vm-tools"];

fn operating_system(machine: &Machine) -> Look {
    let text = machine.system().text("/etc/os-release")?;
    let name = os_release(&text, "PRETTY_NAME").unwrap_or("a system without a name");
    let architecture = machine.packages()?.architecture().unwrap_or("unknown").to_owned();
    let found = format!("{name}, {architecture}");
    let ubuntu =
        os_release(&text, "ID") == Some("ubuntu") && os_release(&text, "VERSION_ID") == Some("16.04");
    match ubuntu && architecture == "amd64" {
        true => Finding::good(found),
        false => Finding::broken(
            format!("{found}: not a supported master target"),
            "install Ubuntu 16.04.2 LTS server, 64 bit, in another virtual machine",
        ),
    }
}

fn kernel(machine: &Machine) -> Look {
    let release = machine.kernel_release()?;
    let supported = kernels::supported();
    let kernel = Kernel::parse(&release);
    if kernel.is_some_and(|kernel| supported.iter().any(|line| line.allows(&kernel))) {
        return Finding::good(release);
    }
    let newest: Vec<String> = supported
        .iter()
        .map(|line| format!("linux-image-{}-{}-{}", line.version, line.newest, line.flavour))
        .collect();
    Finding::broken(
        format!("{release} is not a supported kernel"),
        format!(
            "apt-get install one of {}; start it from GRUB's menu; then mtctl check --fix holds it",
            newest.join(", ")
        ),
    )
}

/// Packages that should be on hold and are not, and all that should be.
fn unpinned(machine: &Machine) -> Result<(Vec<String>, usize), Unknown> {
    let packages = machine.packages()?.kernel_packages(&machine.kernel_release()?);
    let count = packages.len();
    Ok((packages.into_iter().filter(|(_, held)| !held).map(|(name, _)| name).collect(), count))
}

fn kernel_pinned(machine: &Machine) -> Look {
    let (unpinned, count) = unpinned(machine)?;
    if count == 0 {
        return Finding::good("no package is installed that would bring another kernel");
    }
    match unpinned.is_empty() {
        true => Finding::good(format!("{count} packages are on hold; unattended-upgrades leaves them alone")),
        false => Finding::broken(
            format!("not on hold: {}", unpinned.join(", ")),
            format!("apt-mark hold {}", unpinned.join(" ")),
        ),
    }
}

fn pin_kernel(machine: &Machine) -> Result<Vec<Change>, Unknown> {
    let (unpinned, _) = unpinned(machine)?;
    Ok(vec![Change::run(&["apt-mark", "hold"], Some(&["apt-mark", "unhold"]), &unpinned)])
}

const UNATTENDED: &str = "APT::Periodic::Unattended-Upgrade";

fn automatic_updates(machine: &Machine) -> Look {
    match apt_setting(machine.apt_settings()?, UNATTENDED) {
        None | Some("" | "0") => Finding::good("unattended upgrades are off"),
        Some(days) => Finding::broken(
            format!("{UNATTENDED} is {days:?}: packages are upgraded unattended"),
            format!("write {UNATTENDED} \"0\"; into {APT_FILE}"),
        ),
    }
}

/// Read after Ubuntu's own files, so that it has the last word.
const APT_FILE: &str = "/etc/apt/apt.conf.d/99master-target";

fn stop_automatic_updates(_machine: &Machine) -> Result<Vec<Change>, Unknown> {
    Ok(vec![Change::block(APT_FILE, "//", vec![format!("{UNATTENDED} \"0\";")])])
}

fn missing(machine: &Machine) -> Result<Vec<String>, Unknown> {
    let packages = machine.packages()?;
    Ok(NEEDED_PACKAGES.iter().filter(|name| !packages.has(name)).map(|name| (*name).to_owned()).collect())
}

fn packages(machine: &Machine) -> Look {
    let missing = missing(machine)?;
    match missing.is_empty() {
        true => Finding::good("all are installed (python-pyasn1 is not needed)"),
        false => Finding::broken(
            format!("not installed: {} (python-pyasn1 is not needed)", missing.join(", ")),
            format!("apt-get install -y --no-install-recommends {}", missing.join(" ")),
        ),
    }
}

fn install_packages(machine: &Machine) -> Result<Vec<Change>, Unknown> {
    let install = ["apt-get", "install", "-y", "--no-install-recommends"];
    Ok(vec![Change::run(&install, None, &missing(machine)?)])
}
