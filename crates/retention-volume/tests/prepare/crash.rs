//! The power fails at every run of a program, before and after its work, and between steps: the next run ends where an
//! undisturbed one would have.

use crate::fake::{Machine, PLACE};
use crate::{OTHER_UUID, mounted_by_hand, with_alias};
use retention_volume::prepare::{Progress, Request};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// A way to begin, and what is asked for then.
struct Scenario {
    name: &'static str,
    set_up: fn(&Machine),
    reformat: bool,
    /// Whether there is a file that must outlive everything.
    precious: bool,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario { name: "empty", set_up: |_| {}, reformat: false, precious: false },
    Scenario {
        name: "reformat",
        set_up: |machine| {
            machine.make_ext4("sdb", OTHER_UUID, "data");
            machine.append("etc/fstab", &format!("UUID={OTHER_UUID} {PLACE} ext4 rw,nofail 0 0"));
        },
        reformat: true,
        precious: false,
    },
    Scenario {
        name: "adopt",
        set_up: |machine| mounted_by_hand(machine, "/dev/sdb"),
        reformat: false,
        precious: true,
    },
    Scenario {
        name: "alias",
        set_up: |machine| {
            with_alias(machine);
            mounted_by_hand(machine, "/dev/mapper/mpatha");
        },
        reformat: false,
        precious: true,
    },
];

impl Scenario {
    fn named(name: &str) -> &'static Scenario {
        SCENARIOS.iter().find(|one| one.name == name).unwrap()
    }

    fn request(&self, machine: &Machine) -> Request {
        Request { reformat: self.reformat.then(|| OTHER_UUID.to_owned()), ..machine.request() }
    }
}

/// Where the power fails.
#[derive(Clone, Copy, Debug)]
enum Crash {
    /// When the nth program is to run.
    Before(u32),
    /// When it has done its work, and not said so.
    After(u32),
    /// When the nth step begins or has been told to be done.
    Told(u32),
    /// In the middle of mkfs.ext4.
    InMkfs,
}

fn crash_everywhere(name: &str) {
    let scenario = Scenario::named(name);
    let Some(machine) = Machine::new() else { return };
    (scenario.set_up)(&machine);
    let mut told = 0;
    machine.prepare_and(&scenario.request(&machine), &mut |_| told += 1).unwrap();
    let runs: u32 = machine.read("number").trim().parse().unwrap();
    let before = (1..=runs).flat_map(|n| [Crash::Before(n), Crash::After(n)]);
    let mkfs = (machine.made_file_systems() > 0).then_some(Crash::InMkfs);
    for crash in before.chain((1..=told).map(Crash::Told)).chain(mkfs) {
        crash_and_go_on(scenario, crash);
    }
}

#[test]
fn a_crash_with_an_empty_disk_is_mended_by_the_next_run() {
    crash_everywhere("empty");
}

#[test]
fn a_crash_while_a_disk_is_erased_is_mended_by_the_next_run() {
    crash_everywhere("reformat");
}

#[test]
fn a_crash_while_a_volume_is_adopted_is_mended_by_the_next_run() {
    crash_everywhere("adopt");
}

#[test]
fn a_crash_while_a_volume_loses_its_alias_is_mended_by_the_next_run() {
    crash_everywhere("alias");
}

fn crash_and_go_on(scenario: &Scenario, crash: Crash) {
    let context = format!("{}, {crash:?}", scenario.name);
    let Some(machine) = Machine::new() else { return };
    (scenario.set_up)(&machine);
    let fstab = machine.read("etc/fstab");
    match crash {
        Crash::Before(n) => machine.write("off-before", n.to_string()),
        Crash::After(n) => machine.write("off-after", n.to_string()),
        Crash::Told(_) => {}
        Crash::InMkfs => machine.write("cut-off", ""),
    }
    let told = if let Crash::Told(n) = crash { n } else { u32::MAX };
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::a_process_that_prepares"])
        .env("PREPARE_ON", machine.path(""))
        .env("PREPARE_SCENARIO", scenario.name)
        .env("PREPARE_UNTIL", told.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(!status.success(), "{context}: the power did not fail");
    for file in ["off-before", "off-after", "cut-off"] {
        let _ = fs::remove_file(machine.path(file));
    }
    // Whatever happened, the machine would start: its own lines are whole, and ours says nofail.
    let left = machine.read("etc/fstab");
    assert!(
        left == fstab || left.lines().last().is_some_and(|line| line.contains("nofail")),
        "{context}: {left}"
    );
    assert!(left.starts_with("# the system\n/dev/sda1\t/\text4\tdefaults\t0 1\n"), "{context}: {left}");
    let request = scenario.request(&machine);
    machine.prepare(&request).unwrap_or_else(|error| panic!("{context}: {error}"));
    machine.assert_prepared(&request);
    if scenario.precious {
        assert_eq!(
            (machine.read("mnt/retention/precious").as_str(), machine.made_file_systems()),
            ("kept", 0),
            "{context}"
        );
    }
}

/// Is run by itself, with the machine of another test; it does not outlive what it is there for.
#[test]
fn a_process_that_prepares() {
    let Some(root) = std::env::var_os("PREPARE_ON") else { return };
    let variable = |name: &str| std::env::var(name).unwrap();
    let machine = Machine::of(Path::new(&root));
    machine.write("process", std::process::id().to_string());
    let scenario = Scenario::named(&variable("PREPARE_SCENARIO"));
    let mut left: u32 = variable("PREPARE_UNTIL").parse().unwrap();
    let mut progress = |_: Progress<'_>| {
        left -= 1;
        if left == 0 {
            std::process::abort();
        }
    };
    machine.prepare_and(&scenario.request(&machine), &mut progress).unwrap();
}
