//! This product's own installation.

use crate::preflight::fix::Change;
use crate::preflight::{Check, Finding, Group, Look, Machine, Severity, Unknown};
use nix::unistd::{AccessFlags, access};
use std::os::unix::fs::MetadataExt;

pub(super) static CHECKS: [Check; 4] = [
    Check {
        id: "installation",
        group: Group::Installation,
        severity: Severity::Failure,
        title: "Where it is installed",
        needed: "the programs run from their package's folder, not from where an archive was unpacked",
        why: "Unpacked under /usr/local the old product's installer failed. A program that runs from a home folder or \
              from /tmp is gone after somebody tidies up, and the service does not run that one but another.",
        look: installation,
        mend: None,
    },
    Check {
        id: "configuration",
        group: Group::Installation,
        severity: Severity::Failure,
        title: "Configuration file",
        needed: "/etc/master-target/mtd.toml is there and free of errors",
        why: "The daemon does not start with a configuration that it does not understand. It is better to know that \
              before the next restart than after it.",
        look: configuration,
        mend: None,
    },
    Check {
        id: "state-folders",
        group: Group::Installation,
        severity: Severity::Failure,
        title: "State folders",
        needed: "/etc/master-target and /var/lib/master-target are there and writable, the latter for root only",
        why: "Identity, private key and the state of each item are kept in /var/lib/master-target. Whoever can read \
              the key can stand in for this machine; where it cannot be written, no item starts.",
        look: folders,
        mend: Some(make_folders),
    },
    Check {
        id: "service",
        group: Group::Installation,
        severity: Severity::Warning,
        title: "Service",
        needed: "master-target.service runs and starts at boot",
        why: "Nothing is received while the daemon does not run. In the old product that showed as 95226 or as \"agent \
              is not installed\", with up to 15 minutes until it was noticed.",
        look: service,
        mend: Some(enable_service),
    },
];

/// Folders of which people unpack archives, and tidy up.
const PASSING_PLACES: [&str; 6] = ["/tmp/", "/var/tmp/", "/home/", "/root/", "/usr/local/", "/dev/shm/"];

/// The folder of an installation that followed the published procedure.
const COMPATIBLE: &str = "/usr/local/ASR/";

fn installation(machine: &Machine) -> Look {
    let program = machine.options.program.as_ref();
    let program =
        program.ok_or_else(|| Unknown::because("the system does not tell where this program lies"))?;
    let shown = program.display().to_string();
    let passing =
        PASSING_PLACES.iter().any(|place| shown.starts_with(place)) && !shown.starts_with(COMPATIBLE);
    match passing {
        false => Finding::good(shown),
        true => Finding::broken(
            format!("{shown} is in a folder for passing things"),
            "install the package (dpkg -i master-target_….deb), and run mtctl from /usr/bin",
        ),
    }
}

fn configuration(machine: &Machine) -> Look {
    let path = machine.options.config.display();
    match &machine.config {
        Ok(Some(config)) => Finding::good(format!("{path}: {} items", config.items.len())),
        Ok(None) => {
            Finding::broken(format!("{path} does not exist"), "install the package, which brings it, again")
        }
        Err(unknown) => {
            Finding::broken(unknown.why.clone(), "mtd --check says what is wrong, one thing at a time")
        }
    }
}

/// A folder that is needed: with the mode it is made with, and whether others may look into it.
struct Needed {
    path: String,
    mode: u32,
    secret: bool,
}

fn needed(machine: &Machine) -> [Needed; 2] {
    let state = machine.state_folder().display().to_string();
    let configuration = "/etc/master-target".to_owned();
    [
        Needed { path: state, mode: 0o700, secret: true },
        Needed { path: configuration, mode: 0o755, secret: false },
    ]
}

/// What is wrong with a folder.
enum Wrong {
    Missing,
    NoFolder,
    NotWritable,
    OpenToOthers(u32),
}

fn wrong_with(machine: &Machine, folder: &Needed) -> Option<Wrong> {
    const OTHERS: u32 = 0o007;
    let path = machine.system().path(&folder.path);
    let Ok(metadata) = std::fs::metadata(&path) else { return Some(Wrong::Missing) };
    if !metadata.is_dir() {
        return Some(Wrong::NoFolder);
    }
    let mode = metadata.mode() & 0o7777;
    if folder.secret && mode & OTHERS != 0 {
        return Some(Wrong::OpenToOthers(mode));
    }
    access(&path, AccessFlags::W_OK).is_err().then_some(Wrong::NotWritable)
}

fn folders(machine: &Machine) -> Look {
    let mut found = Vec::new();
    let mut remedy = Vec::new();
    for folder in needed(machine) {
        let Needed { path, mode, .. } = &folder;
        let (problem, step) = match wrong_with(machine, &folder) {
            None => continue,
            Some(Wrong::Missing) => ("does not exist".to_owned(), format!("mkdir -p -m {mode:o} {path}")),
            Some(Wrong::NoFolder) => ("is no folder".to_owned(), format!("move {path} away")),
            Some(Wrong::NotWritable) => (
                "cannot be written".to_owned(),
                "run this as root; if it is, see dmesg: is the disk read-only?".into(),
            ),
            Some(Wrong::OpenToOthers(mode)) => {
                (format!("can be read by everybody (mode {mode:o})"), format!("chmod o= {path}"))
            }
        };
        found.push(format!("{path} {problem}"));
        remedy.push(step);
    }
    match found.is_empty() {
        true => Finding::good("both are there"),
        false => Finding::broken(found.join("; "), remedy.join("; ")),
    }
}

fn make_folders(machine: &Machine) -> Result<Vec<Change>, Unknown> {
    let change = |folder: Needed| match wrong_with(machine, &folder)? {
        Wrong::Missing => Some(Change::MakeFolder { path: folder.path, mode: folder.mode }),
        Wrong::OpenToOthers(before) => {
            Some(Change::SetMode { path: folder.path, before, after: before & !0o007 })
        }
        Wrong::NoFolder | Wrong::NotWritable => None,
    };
    Ok(needed(machine).into_iter().filter_map(change).collect())
}

const UNIT: &str = "master-target.service";

fn service(machine: &Machine) -> Look {
    let (enabled, active) = (machine.enabled(&[UNIT])?, machine.active(&[UNIT])?);
    let remedy =
        format!("systemctl enable {UNIT}; systemctl start {UNIT}; journalctl -u {UNIT} says why it stops");
    match (enabled, active) {
        (true, true) => Finding::good("runs, and starts at boot"),
        (false, true) => Finding::broken("runs, but does not start at boot", remedy),
        (true, false) => Finding::broken("starts at boot, but does not run now", remedy),
        (false, false) => Finding::broken("neither runs nor starts at boot", remedy),
    }
}

fn enable_service(machine: &Machine) -> Result<Vec<Change>, Unknown> {
    let mut changes = Vec::new();
    if !machine.enabled(&[UNIT])? {
        changes.push(Change::commands(&["systemctl", "enable", UNIT], Some(&["systemctl", "disable", UNIT])));
    }
    if !machine.active(&[UNIT])? {
        changes.push(Change::commands(&["systemctl", "start", UNIT], Some(&["systemctl", "stop", UNIT])));
    }
    Ok(changes)
}
