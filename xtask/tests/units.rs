//! The units of the packages, judged against what systemd 229 of Ubuntu 16.04 understands.
//!
//! That version ignores a directive which it does not know, with a warning that nobody reads, and the service runs without
//! what the directive was to take from it. So units hold only what 229 knows, `systemd-229.txt` says what that is, and what
//! newer versions add is in `systemd/newer/UNIT.conf`, which is installed as a drop-in only where it is understood.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const UNITS: [&str; 4] = [
    "master-target-configserver.service",
    "master-target.service",
    "mt-process-server.service",
    "mt-source.service",
];

/// Directives of systemd.exec(5) that give a service a mount namespace of its own.
const OWN_MOUNTS: [&str; 22] = [
    "BindPaths",
    "BindReadOnlyPaths",
    "InaccessibleDirectories",
    "InaccessiblePaths",
    "MountFlags",
    "PrivateDevices",
    "PrivateMounts",
    "PrivateTmp",
    "ProcSubset",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "ReadOnlyDirectories",
    "ReadOnlyPaths",
    "ReadWriteDirectories",
    "ReadWritePaths",
    "RootDirectory",
    "TemporaryFileSystem",
];

#[derive(Debug, PartialEq)]
struct Directive {
    section: String,
    name: String,
    value: String,
}

/// Sections and directives of a unit, in their order.
fn directives(text: &str) -> Vec<Directive> {
    let mut section = String::new();
    let mut all = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with(['#', ';'])) {
            all.push(Directive { section: section.clone(), name: name.to_owned(), value: value.to_owned() });
        } else {
            assert!(line.is_empty() || line.starts_with(['#', ';']), "{line:?} is no line of a unit");
        }
    }
    all
}

/// What 229 knows, as `Section.Name`.
fn known() -> BTreeSet<String> {
    let mut section = "";
    let mut known = BTreeSet::new();
    for line in include_str!("systemd-229.txt").lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(name) => section = name,
            None => known.extend(line.split_whitespace().map(|name| format!("{section}.{name}"))),
        }
    }
    known
}

/// What of this text 229 would ignore.
fn ignored(text: &str) -> Vec<String> {
    let known = known();
    let named =
        directives(text).into_iter().map(|directive| format!("{}.{}", directive.section, directive.name));
    named.filter(|name| !known.contains(name)).collect()
}

/// What a drop-in says although the unit has said it. A list has to be emptied first, since lists add up; one value takes the
/// place of another.
fn said_twice(unit: &str, drop_in: &str) -> Vec<String> {
    let unit = directives(unit);
    let mut replaced = BTreeSet::from(["ProtectSystem".to_owned()]);
    let mut twice = Vec::new();
    for directive in directives(drop_in) {
        if directive.value.is_empty() {
            replaced.insert(directive.name);
        } else if unit.iter().any(|said| said.name == directive.name) && !replaced.contains(&directive.name) {
            twice.push(directive.name);
        }
    }
    twice
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn unit(name: &str) -> String {
    read(&folder().join(name))
}

fn drop_in(name: &str) -> String {
    read(&folder().join("newer").join(format!("{name}.conf")))
}

fn files(folder: &Path, ending: &str) -> BTreeSet<String> {
    let names =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(ending)).collect()
}

#[test]
fn each_unit_has_a_drop_in_and_there_are_no_others() {
    assert_eq!(files(&folder(), ".service"), UNITS.map(str::to_owned).into());
    assert_eq!(files(&folder().join("newer"), ""), UNITS.map(|unit| format!("{unit}.conf")).into());
}

#[test]
fn systemd_229_ignores_nothing_in_the_units() {
    for name in UNITS {
        assert_eq!(ignored(&unit(name)), Vec::<String>::new(), "{name}");
    }
    for newer in ["ProtectSystem=full\nMemoryMax=1G", "ProtectSystem=full\nStateDirectory=x"] {
        assert_eq!(ignored(&format!("[Service]\n{newer}")).len(), 1, "{newer}");
    }
    assert_eq!(ignored("[Unit]\nStartLimitIntervalSec=0"), ["Unit.StartLimitIntervalSec"]);
}

/// 229 knows some names with other values than newer versions.
#[test]
fn nothing_in_the_units_has_a_value_that_229_does_not_know() {
    for name in UNITS {
        for Directive { name: directive, value, .. } in directives(&unit(name)) {
            let newer = match directive.as_str() {
                "SystemCallFilter" => value.contains('@'),
                "ProtectSystem" => !["yes", "no", "full"].contains(&value.as_str()),
                "ProtectHome" => !["yes", "no", "read-only"].contains(&value.as_str()),
                _ if directive.starts_with("Exec") => !value.starts_with(['/', '-']),
                _ => false,
            };
            assert!(!newer, "{name}: {directive}={value}");
        }
    }
}

#[test]
fn drop_ins_add_what_229_lacks_and_repeat_nothing() {
    for name in UNITS {
        let (unit, newer) = (unit(name), drop_in(name));
        assert_eq!(said_twice(&unit, &newer), Vec::<String>::new(), "{name}");
        let known = known();
        for directive in directives(&newer) {
            let old = known.contains(&format!("{}.{}", directive.section, directive.name));
            let better = ["ProtectSystem", "SystemCallFilter"].contains(&directive.name.as_str());
            assert!(!old || better, "{name}: 229 knows {}: it belongs into the unit", directive.name);
        }
    }
    let twice =
        said_twice("[Service]\nSystemCallFilter=~ptrace", "[Service]\nSystemCallFilter=@system-service");
    assert_eq!(twice, ["SystemCallFilter"]);
}

/// The master target mounts the retention volume for the whole machine; so may a hook of the source agent.
#[test]
fn who_mounts_has_no_mounts_of_its_own() {
    for name in ["master-target.service", "mt-source.service"] {
        for text in [unit(name), drop_in(name)] {
            for directive in directives(&text) {
                assert!(!OWN_MOUNTS.contains(&directive.name.as_str()), "{name}: {}", directive.name);
                assert_ne!(directive.name, "ProtectClock", "{name}: it forbids devices that are not named");
            }
        }
    }
}

/// What holds for each: it says when it is ready and that it lives, is started again for ever but not without a pause, and
/// needs no volume that it waits for by itself.
#[test]
fn services_are_watched_and_never_given_up() {
    for name in UNITS {
        let all = directives(&unit(name));
        let value = |wanted: &str| {
            let found: Vec<&str> =
                all.iter().filter(|one| one.name == wanted).map(|one| one.value.as_str()).collect();
            assert_eq!(found.len(), 1, "{name}: {wanted}");
            found[0]
        };
        assert_eq!(value("Type"), "notify", "{name}");
        assert_eq!(value("Restart"), "always", "{name}");
        assert_eq!(value("StartLimitInterval"), "0", "{name}");
        for seconds in ["WatchdogSec", "RestartSec", "TimeoutStopSec"] {
            assert!(value(seconds).parse::<u32>().unwrap() > 0, "{name}: {seconds}");
        }
        let needed = value("RequiresMountsFor");
        assert!(needed.starts_with("/var/lib/") && !needed.contains("/mnt"), "{name}: {needed}");
        for need in ["Requires", "BindsTo", "Requisite"] {
            assert!(all.iter().all(|one| one.name != need), "{name}: {need}");
        }
    }
}
