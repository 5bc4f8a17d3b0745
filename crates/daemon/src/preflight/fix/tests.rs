//! Mending, undoing, and a crash anywhere in between.

use super::*;
use crate::preflight::testing::TestMachine;
use std::fs;

fn plan(test: &TestMachine) -> Vec<Step> {
    let (steps, refused) = Fixer::plan(&test.machine(), &[]);
    assert!(refused.is_empty(), "{refused:?}");
    steps
}

fn make_all(test: &TestMachine) {
    let machine = test.machine();
    let steps = plan(test);
    let mut fixer = Fixer::open(&machine).unwrap();
    steps.iter().for_each(|step| fixer.make(step).unwrap());
}

fn undo_all(test: &TestMachine) {
    let machine = test.machine();
    let mut fixer = Fixer::open(&machine).unwrap();
    while !fixer.made().is_empty() {
        fixer.undo_last().unwrap();
    }
}

const LEDGER: &str = "/var/lib/master-target/fixes.json";

#[test]
fn a_good_machine_needs_nothing() {
    assert!(plan(&TestMachine::good()).is_empty());
}

/// A machine on which each check that can be mended fails.
fn bad() -> TestMachine {
    let mut test = TestMachine::good();
    test.edit("/dpkg", "hold ok installed amd64 linux-generic", "install ok installed amd64 linux-generic");
    test.edit("/dpkg", "install ok installed amd64 kpartx\n", "");
    test.edit("/etc/hosts", "10.0.0.5 mt.example mt\n", "");
    ["/etc/apt/apt.conf.d", "/etc/mdadm"].iter().for_each(|path| test.folder(path, 0o755));
    test.program("apt-config", "echo 'APT::Periodic::Unattended-Upgrade \"1\";'");
    test.program("lvmconfig", "echo 'node not found' >&2; exit 5");
    test.program(
        "timedatectl",
        &format!(
            "[ $1 = status ] && echo 'NTP synchronized: no' || echo timedatectl \"$@\" >> {}",
            test.path("/calls").display()
        ),
    );
    test.program("systemctl", &format!("case \"$*\" in 'is-active master'*) echo inactive;; 'is-enabled master'*) echo disabled;; is-*) echo active;; *) echo systemctl \"$@\" >> {};; esac", test.path("/calls").display()));
    ["apt-mark", "apt-get", "mtctl", "mdadm", "update-initramfs"]
        .iter()
        .for_each(|program| test.recorded(program));
    test.disk("sdc").map = None;
    test.folder("/var/lib/master-target", 0o755);
    test
}

const COMMANDS: [&str; 8] = [
    "apt-mark hold linux-generic",
    "apt-get install -y --no-install-recommends kpartx",
    "mtctl disks 36000c29ccccccccccccccccccccccccc --map --yes",
    "update-initramfs -u",
    "update-initramfs -u",
    "timedatectl set-ntp true",
    "systemctl enable master-target.service",
    "systemctl start master-target.service",
];

const UNDONE: [&str; 7] = [
    "systemctl stop master-target.service",
    "systemctl disable master-target.service",
    "timedatectl set-ntp false",
    "update-initramfs -u",
    "update-initramfs -u",
    "mtctl disks 36000c29ccccccccccccccccccccccccc --unmap --yes",
    "apt-mark unhold linux-generic",
];

#[test]
fn every_fixable_check_is_mended_and_taken_back_in_reverse_order() {
    let test = bad();
    let files = ["/etc/hosts", "/etc/lvm/lvm.conf"];
    let before = files.map(|path| test.read(path));
    let mut mended: Vec<String> = plan(&test).into_iter().map(|step| step.check).collect();
    mended.dedup();
    let mut fixable: Vec<&str> =
        super::super::all().filter(|check| check.fixable()).map(|check| check.id).collect();
    mended.sort();
    fixable.sort_unstable();
    assert_eq!(mended, fixable);

    make_all(&test);
    assert_eq!(test.calls(), COMMANDS);
    assert!(test.read("/etc/hosts").contains("\n10.0.0.5 mt\n"));
    assert!(test.read("/etc/lvm/lvm.conf").contains("\ndevices/global_filter = [ \"r|.*|\" ]\n"));
    assert!(
        test.read("/etc/apt/apt.conf.d/99master-target")
            .contains("\nAPT::Periodic::Unattended-Upgrade \"0\";\n")
    );
    assert_eq!(mode(&test), 0o750);

    undo_all(&test);
    assert_eq!(test.calls()[COMMANDS.len()..], UNDONE);
    assert_eq!(files.map(|path| test.read(path)), before);
    assert!(!test.path("/etc/apt/apt.conf.d/99master-target").exists() && !test.path(LEDGER).exists());
    assert_eq!(mode(&test), 0o755);
}

fn mode(test: &TestMachine) -> u32 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(test.path("/var/lib/master-target")).unwrap().mode() & 0o777
}

#[test]
fn what_was_mended_passes_then() {
    let test = TestMachine::good();
    test.edit("/etc/hosts", "10.0.0.5 mt.example mt\n", "");
    make_all(&test);
    assert!(plan(&test).is_empty());
}

/// The state folder is missing: it is made for the ledger, and goes with it.
#[test]
fn a_missing_state_folder_comes_and_goes() {
    let test = TestMachine::good();
    test.remove("/var/lib/master-target");
    make_all(&test);
    assert_eq!(mode(&test), 0o700);
    assert!(test.read(LEDGER).contains("\"make-folder\""));
    undo_all(&test);
    assert!(!test.path("/var/lib/master-target").exists());
}

/// The power goes after the ledger was written and before, in the middle of, or after each change.
#[test]
fn undo_works_after_a_crash_at_any_point() {
    for crash_after in 0..plan(&bad()).len() {
        for made in [false, true] {
            let test = bad();
            let (hosts, lvm) = (test.read("/etc/hosts"), test.read("/etc/lvm/lvm.conf"));
            let machine = test.machine();
            let steps = plan(&test);
            let mut fixer = Fixer::open(&machine).unwrap();
            steps[..crash_after].iter().for_each(|step| fixer.make(step).unwrap());
            let step = &steps[crash_after];
            let entry = Entry {
                check: step.check.clone(),
                time: 1,
                stage: Stage::Begun,
                change: step.change.clone(),
            };
            fixer.ledger.push(entry).unwrap();
            if made {
                step.change.make(machine.system()).unwrap();
            }
            drop(fixer);
            undo_all(&test);
            assert_eq!((test.read("/etc/hosts"), test.read("/etc/lvm/lvm.conf")), (hosts, lvm));
            assert!(!test.path(LEDGER).exists());
            assert_eq!(mode(&test), 0o755);
        }
    }
}

#[test]
fn an_undo_that_was_cut_short_goes_on() {
    let test = bad();
    make_all(&test);
    let machine = test.machine();
    let mut fixer = Fixer::open(&machine).unwrap();
    // Taken back, but the ledger does not know yet.
    let last = fixer.ledger.entries().last().unwrap().change.clone();
    last.undo(machine.system()).unwrap();
    drop(fixer);
    fixer = Fixer::open(&machine).unwrap();
    fixer.undo_last().unwrap();
    drop(fixer);
    undo_all(&test);
    assert!(!test.path(LEDGER).exists());
}

#[test]
fn a_program_that_fails_is_told_and_can_be_taken_back() {
    let test = TestMachine::good();
    test.uninstall("kpartx");
    test.program("apt-get", "echo 'Unable to locate package' >&2; exit 100");
    let machine = test.machine();
    let steps = plan(&test);
    let mut fixer = Fixer::open(&machine).unwrap();
    let error = fixer.make(&steps[0]).unwrap_err().to_string();
    assert!(error.contains("apt-get install") && error.contains("Unable to locate"), "{error}");
    assert_eq!(fixer.made().len(), 1);
    assert!(test.read(LEDGER).contains("\"begun\""));
}

#[test]
fn nothing_is_changed_when_the_ledger_cannot_be_written() {
    let test = TestMachine::good();
    test.edit("/etc/hosts", "10.0.0.5 mt.example mt\n", "");
    let before = test.read("/etc/hosts");
    let machine = test.machine();
    let steps = plan(&test);
    let mut fixer = Fixer::open(&machine).unwrap();
    // A folder where the new ledger would be written.
    test.folder("/var/lib/master-target/.fixes.json.new", 0o700);
    assert!(matches!(fixer.make(&steps[0]), Err(FixError::Ledger { .. })));
    assert_eq!(test.read("/etc/hosts"), before);
}

#[test]
fn a_damaged_ledger_is_not_overwritten() {
    let test = TestMachine::good();
    for text in ["{", "{\"format\":9,\"fixes\":[]}"] {
        test.write(LEDGER, text);
        assert!(matches!(Fixer::open(&test.machine()), Err(FixError::Ledger { doing: "read", .. })));
        assert_eq!(test.read(LEDGER), text);
    }
}

#[test]
fn only_one_mends_at_a_time() {
    let test = TestMachine::good();
    let (one, other) = (test.machine(), test.machine());
    let _held = Fixer::open(&one).unwrap();
    assert!(matches!(Fixer::open(&other), Err(FixError::Busy)));
}

#[test]
fn a_filter_set_by_hand_is_left_to_its_owner() {
    let test = TestMachine::good();
    test.program("lvmconfig", "echo 'global_filter=[\"a|.*|\"]'");
    let (steps, refused) = Fixer::plan(&test.machine(), &[]);
    assert!(steps.is_empty());
    assert!(refused[0].starts_with("lvm-filter: a filter is set by hand"), "{refused:?}");
}

#[test]
fn a_block_cut_by_hand_is_refused() {
    let test = bad();
    make_all(&test);
    test.edit("/etc/hosts", "# END master-target\n", "");
    let machine = test.machine();
    let mut fixer = Fixer::open(&machine).unwrap();
    let count = fixer.made().len();
    let mut outcome = Ok(());
    for _ in 0..count {
        outcome = fixer.undo_last();
        if outcome.is_err() {
            break;
        }
    }
    assert!(matches!(outcome, Err(FixError::Refused { .. })), "{outcome:?}");
}

#[test]
fn a_disk_that_was_wanted_before_stays_wanted() {
    let mut test = TestMachine::good();
    let id = crate::preflight::testing::TARGET_ID;
    test.want(id);
    test.disk("sdc").map = None;
    test.recorded("mtctl");
    make_all(&test);
    undo_all(&test);
    assert_eq!(test.calls(), [format!("mtctl disks {id} --map --yes")]);
}

#[test]
fn the_copy_in_the_initramfs_follows_mdadms_configuration() {
    let test = TestMachine::good();
    test.recorded("mdadm");
    test.recorded("update-initramfs");
    test.write("/etc/mdadm/mdadm.conf", "MAILADDR root\n");
    make_all(&test);
    assert!(test.read("/etc/mdadm/mdadm.conf").contains("\nAUTO -all\n"));
    assert!(test.report().rows.iter().all(|row| row.verdict == Verdict::Passed));
    undo_all(&test);
    assert_eq!(test.read("/etc/mdadm/mdadm.conf"), "MAILADDR root\n");
    assert_eq!(test.calls(), ["update-initramfs -u", "update-initramfs -u"]);
}

#[test]
fn a_command_that_fails_both_ways_leaves_the_ledger() {
    let test = TestMachine::good();
    test.program("timedatectl", "[ $1 = status ] && echo 'NTP synchronized: no' && exit; exit 1");
    let steps = plan(&test);
    let machine = test.machine();
    let mut fixer = Fixer::open(&machine).unwrap();
    assert!(fixer.make(&steps[0]).is_err());
    assert_eq!(fixer.made().len(), 1);
    fixer.undo_last().unwrap();
    assert!(fixer.made().is_empty());
}
