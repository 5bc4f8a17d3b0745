//! From an empty disk, or a volume that was mounted by hand, to a prepared one; and from every place where the power can
//! fail on the way. Needs root.

mod fake;

use block_device::{Caching, FileDisk};
use fake::{ID, Machine, PLACE};
use retention_volume::Error;
use retention_volume::prepare::{Progress, Refusal, Request, Step};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const OTHER_UUID: &str = "11111111-2222-3333-4444-555555555555";

#[test]
fn an_empty_disk_becomes_a_volume_and_a_second_run_changes_nothing() {
    let Some(machine) = Machine::new() else { return };
    let request = machine.request();
    let plan = machine.plan(&request).unwrap();
    let names: Vec<String> = plan.steps.iter().map(name).collect();
    assert_eq!(
        names,
        ["map", "make-file-system", "make-folder", "edit-fstab", "reload", "mount", "mark", "read-back"]
    );
    assert_eq!(plan.erases(), Some(None));
    assert!(plan.notes.iter().any(|note| note.contains("1 TB")), "{:?}", plan.notes);
    assert_eq!(machine.log(), [""; 0], "a plan only looks");
    let volume = machine.prepare(&request).unwrap();
    machine.assert_prepared(&request);
    assert!(machine.read("etc/fstab").ends_with("x-systemd.device-timeout=60s 0 2\n"));
    assert_eq!(machine.read("etc/fstab"), machine.read("read-by-systemd"));
    assert!(machine.read("etc/fstab.before-master-target").ends_with("0 1\n"));
    volume.item_folder("web01").unwrap();
    let (files, runs) = (machine.read("etc/fstab"), machine.log());
    assert_eq!(machine.prepare(&request).unwrap().id(), volume.id());
    assert_eq!((machine.read("etc/fstab"), machine.log()), (files, runs));
    assert_eq!(machine.made_file_systems(), 1);
    let mkfs = machine.log().into_iter().find(|line| line.starts_with("mkfs")).unwrap();
    assert!(mkfs.ends_with(&format!(" /dev/mapper/{ID}")) && mkfs.matches("-F").count() == 1, "{mkfs}");
}

/// The word by which programs know a step.
fn name(step: &Step) -> String {
    serde_json::to_value(step).unwrap()["step"].as_str().unwrap().to_owned()
}

/// An ext4 that an administrator mounted from the bare disk, with a file on it.
fn mounted_by_hand(machine: &Machine, device: &str) {
    machine.make_ext4("sdb", OTHER_UUID, "data");
    machine.append("etc/fstab", &format!("{device} {PLACE} ext4 rw 0 0 # by hand"));
    machine.mount();
    fs::write(machine.path("mnt/retention/precious"), "kept").unwrap();
}

/// multipath with user_friendly_names, before it was this program's.
fn with_alias(machine: &Machine) {
    let run = Command::new(machine.path("programs/multipath")).args(["-v1", "/dev/sdb"]).status();
    assert!(run.unwrap().success());
    machine.write("sys/block/dm-10/dm/name", "mpatha");
    fs::rename(machine.path("dev/mapper").join(ID), machine.path("dev/mapper/mpatha")).unwrap();
}

#[test]
fn a_volume_that_was_mounted_by_hand_is_adopted_and_moved_to_its_id() {
    for (device, alias) in [("/dev/sdb", false), ("/dev/mapper/mpatha", true)] {
        let Some(machine) = Machine::new() else { return };
        if alias {
            with_alias(&machine);
        }
        mounted_by_hand(&machine, device);
        let request = machine.request();
        let names: Vec<String> = machine.plan(&request).unwrap().steps.iter().map(name).collect();
        let mut expected = vec!["unmount", "map", "edit-fstab", "reload", "mount", "mark", "read-back"];
        if alias {
            expected.insert(1, "unmap");
        }
        assert_eq!(names, expected);
        let volume = machine.prepare(&request).unwrap();
        machine.assert_prepared(&request);
        assert_eq!(volume.file_system().unwrap().to_string(), OTHER_UUID);
        assert_eq!(machine.read("mnt/retention/precious"), "kept");
        assert!(machine.read("etc/fstab").ends_with("0 0 # by hand\n"), "{}", machine.read("etc/fstab"));
        assert_eq!(machine.made_file_systems(), 0);
    }
}

#[test]
fn a_volume_that_is_busy_stays_mounted_and_names_the_daemon() {
    let Some(machine) = Machine::new() else { return };
    mounted_by_hand(&machine, "/dev/sdb");
    machine.write("busy", "");
    let request = machine.request();
    let error = machine.prepare(&request).unwrap_err();
    assert!(matches!(error, Error::Refused(Refusal::Busy { .. })), "{error}");
    assert!(error.to_string().contains("systemctl stop master-target"), "{error}");
    fs::remove_file(machine.path("busy")).unwrap();
    machine.prepare(&request).unwrap();
    machine.assert_prepared(&request);
}

#[test]
fn a_volume_is_known_again_after_the_system_was_installed_anew() {
    let Some(machine) = Machine::new() else { return };
    let request = machine.request();
    let volume = machine.prepare(&request).unwrap();
    volume.item_folder("web01").unwrap();
    forget(&machine);
    let again = machine.prepare(&request).unwrap();
    machine.assert_prepared(&request);
    assert_eq!((again.id(), machine.made_file_systems()), (volume.id(), 1));
    assert!(machine.path("mnt/retention/items/web01").exists());
    // With our label alone it is not believed.
    fs::remove_file(machine.path("mnt/retention/retention-volume")).unwrap();
    forget(&machine);
    let error = machine.refusal(&request);
    assert!(matches!(error, Error::Refused(Refusal::Unmarked { .. })), "{error}");
    // Nor are files that were copied from another volume.
    let mounted = machine.path("elsewhere");
    fs::create_dir(&mounted).unwrap();
    run("mount", &["-o", "loop", machine.path("dev/sdb").to_str().unwrap(), mounted.to_str().unwrap()]);
    let marker = format!("master-target retention volume, format 1\nid = 12\nfile-system = {OTHER_UUID}\n");
    fs::write(mounted.join("retention-volume"), marker).unwrap();
    run("umount", &[mounted.to_str().unwrap()]);
    let error = machine.refusal(&request);
    assert!(matches!(error, Error::OtherFileSystem { .. }), "{error}");
    assert_eq!(machine.made_file_systems(), 1);
}

/// A new system: neither fstab nor multipath know the volume.
fn forget(machine: &Machine) {
    machine.unmount();
    let id = block_device::ScsiId::parse(ID).unwrap();
    block_device::multipath::flush(&machine.system(), &id).unwrap();
    machine.write("etc/fstab", "/dev/sda1 / ext4 defaults 0 1\n");
    for backup in ["etc/fstab.before-master-target", "etc/fstab.before-master-target.2"] {
        let _ = fs::remove_file(machine.path(backup));
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

#[test]
fn a_file_system_is_erased_only_by_its_uuid() {
    let Some(machine) = Machine::new() else { return };
    machine.make_ext4("sdb", OTHER_UUID, "data");
    let error = machine.refusal(&machine.request()).to_string();
    assert!(
        error.contains(&format!("--reformat {OTHER_UUID}")) && error.contains("mount it at /mnt/retention"),
        "{error}"
    );
    let other = Request { reformat: Some(OTHER_UUID.replace('1', "2")), ..machine.request() };
    assert!(machine.refusal(&other).to_string().contains("--reformat"));
    let request = Request { reformat: Some(OTHER_UUID.to_uppercase()), ..machine.request() };
    let plan = machine.plan(&request).unwrap();
    assert!(plan.erases().flatten().unwrap().contains(OTHER_UUID), "{plan:?}");
    machine.prepare(&request).unwrap();
    machine.assert_prepared(&request);
    assert_eq!(machine.made_file_systems(), 1);
    let own = Some(machine.plan(&request).unwrap().file_system.to_string());
    let error = machine.refusal(&Request { reformat: own, ..request });
    assert!(matches!(error, Error::Refused(Refusal::ReformatMounted { .. })), "{error}");
}

#[test]
fn a_machine_that_changed_after_the_plan_was_shown_is_left_alone() {
    let Some(machine) = Machine::new() else { return };
    let request = machine.request();
    let plan = machine.plan(&request).unwrap();
    machine.make_ext4("sdb", OTHER_UUID, "mt-retention");
    let outcome = retention_volume::prepare::carry_out(&machine.system(), &request, &plan, &mut |_| {});
    assert!(outcome.is_err());
    machine.put("sdb", 0, &vec![0; 4096]);
    machine.append("etc/fstab", "# new");
    let outcome = retention_volume::prepare::carry_out(&machine.system(), &request, &plan, &mut |_| {});
    assert!(matches!(outcome, Err(Error::Refused(Refusal::Changed))), "{outcome:?}");
    assert_eq!(machine.log(), [""; 0]);
}

#[test]
fn two_at_once_are_one_too_many() {
    let Some(machine) = Machine::new() else { return };
    let request = machine.request();
    let mut inner = None;
    let mut progress = |progress: Progress<'_>| {
        if matches!(progress, Progress::Begun(1, _)) {
            inner = Some(machine.prepare(&request).unwrap_err());
        }
    };
    machine.prepare_and(&request, &mut progress).unwrap();
    assert!(matches!(inner, Some(Error::Refused(Refusal::Running))), "{inner:?}");
    machine.assert_prepared(&request);
}

#[test]
fn a_mkfs_that_only_says_that_it_did_it_is_noticed() {
    let Some(machine) = Machine::new() else { return };
    machine.write("lies", "");
    let request = machine.request();
    let error = machine.prepare(&request).unwrap_err();
    assert!(matches!(error, Error::Refused(Refusal::NotMade { .. })), "{error}");
    fs::remove_file(machine.path("lies")).unwrap();
    machine.prepare(&request).unwrap();
    machine.assert_prepared(&request);
}

/// What the last run began is ours only until somebody else puts something there.
#[test]
fn a_disk_that_got_other_contents_after_a_crash_is_refused() {
    let Some(machine) = Machine::new() else { return };
    machine.write("lies", "");
    let request = machine.request();
    machine.prepare(&request).unwrap_err();
    machine.make_ext4("sdb", OTHER_UUID, "data");
    let error = machine.refusal(&request);
    assert!(matches!(error, Error::Refused(Refusal::Ineligible { .. })), "{error}");
    // The same UUID, but it was in use since: it is kept.
    let begun: serde_json::Value =
        serde_json::from_str(&machine.read("var/lib/master-target/retention-prepare.json")).unwrap();
    machine.make_ext4("sdb", begun["file_system"].as_str().unwrap(), "mt-retention");
    let never_mounted = machine.plan(&request).unwrap();
    assert!(never_mounted.erases().is_some(), "{never_mounted:?}");
    machine.append("etc/fstab", &format!("/dev/sdb {PLACE} ext4 rw 0 0"));
    fs::remove_file(machine.path("lies")).unwrap();
    machine.mount();
    fs::write(machine.path("mnt/retention/precious"), "kept").unwrap();
    machine.unmount();
    assert_eq!(machine.plan(&request).unwrap().erases(), None);
    machine.prepare(&request).unwrap();
    machine.assert_prepared(&request);
    assert_eq!(machine.read("mnt/retention/precious"), "kept");
}

/// A sector with the boot code of FAT: 512 bytes a sector, 1 sector a cluster, 1 reserved, 2 tables.
fn fat() -> Vec<u8> {
    let mut sector = vec![0; 512];
    sector[..3].copy_from_slice(&[0xeb, 0x58, 0x90]);
    sector[11..17].copy_from_slice(&[0, 2, 1, 1, 0, 2]);
    sector[21] = 0xf8;
    sector[82..90].copy_from_slice(b"FAT32   ");
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// A table with one Linux partition.
fn mbr() -> Vec<u8> {
    let mut sector = vec![0; 512];
    sector[446..462].copy_from_slice(&[0, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 16, 0, 0]);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

type SetUp = fn(&Machine, &mut Request);

/// Each makes the disk, or the mount point, unfit in one way; and a word of the message.
const UNFIT: [(&str, SetUp); 30] = [
    ("this machine runs from it", |_, request| request.disk = "sda".into()),
    ("is not a disk", |_, request| request.disk = "sda1".into()),
    ("there is no disk", |_, request| request.disk = "sdz".into()),
    ("target disk of a replicated item", |_, request| request.targets = vec![format!("/dev/mapper/{ID}")]),
    ("swapoff", |machine, _| machine.append("proc/swaps", "/dev/sdb partition 1 0 -2")),
    ("swap space", |machine, _| machine.put("sdb", 4086, b"SWAPSPACE2")),
    ("LVM uses it", |machine, _| {
        machine.put("sdb", 512, &[b"LABELONE".as_slice(), &[0; 16], b"LVM2 001"].concat())
    }),
    ("software RAID", |machine, _| {
        let mut superblock = vec![0; 256];
        superblock[..8].copy_from_slice(&[0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0]);
        superblock[144] = 8;
        machine.put("sdb", 4096, &superblock);
    }),
    ("encrypted", |machine, _| machine.put("sdb", 0, b"LUKS\xba\xbe")),
    ("mounted at /data", |machine, _| {
        machine.append("proc/self/mountinfo", "41 22 8:16 / /data rw - ext4 /dev/sdb rw");
    }),
    ("installed on it", |machine, _| {
        machine.append("proc/self/mountinfo", "41 22 8:16 / /var/lib/master-target rw - ext4 /dev/sdb rw");
    }),
    ("is no outsiders' business", |machine, _| {
        // A volume of device-mapper that nobody knows lies on it.
        machine.write("sys/block/sdb/holders/dm-7", "");
        machine.write("sys/block/dm-7/dev", "253:7");
        machine.write("sys/block/dm-7/dm/name", "is no outsiders' business");
    }),
    ("FAT file system", |machine, _| machine.put("sdb", 0, &fat())),
    ("(xfs)", |machine, _| machine.put("sdb", 0, b"XFSB")),
    ("ext4 \"data\"", |machine, _| machine.make_ext4("sdb", OTHER_UUID, "data")),
    ("no marker", |machine, _| machine.make_ext4("sdb", OTHER_UUID, "mt-retention")),
    ("partition table", |machine, _| machine.put("sdb", 0, &mbr())),
    ("cannot be read", |machine, _| fs::remove_file(machine.path("dev/sdb")).unwrap()),
    ("can only be read", |machine, _| machine.write("sys/block/sdb/ro", "1")),
    ("taken out", |machine, _| machine.write("sys/block/sdb/removable", "1")),
    ("capacity is zero", |machine, _| machine.write("sys/block/sdb/size", "0")),
    ("SCSI id", |machine, _| fs::remove_file(machine.path("run/udev/data/b8:16")).unwrap()),
    ("different disks with one SCSI id", |machine, _| {
        machine.disk("sdc", 32, ID);
        machine.write("sys/block/sdc/size", "4096");
    }),
    ("which is not this disk", |machine, _| {
        machine.append("proc/self/mountinfo", "41 22 8:48 / /mnt/retention rw - ext4 /dev/sdd rw");
    }),
    ("line 3 of /etc/fstab", |machine, _| machine.append("etc/fstab", "/dev/sdd /mnt/retention ext4 rw 0 0")),
    ("plain path", |_, request| request.mount_point = "mnt/retention".into()),
    ("the system needs", |_, request| request.mount_point = "/usr/retention".into()),
    ("no folder", |machine, _| machine.write("mnt/retention", "")),
    ("files in it (a)", |machine, _| machine.write("mnt/retention/a", "")),
    ("symbolic link to /srv", |machine, _| {
        std::os::unix::fs::symlink("/srv", machine.path("mnt/retention")).unwrap();
    }),
];

#[test]
fn nothing_is_done_to_a_disk_that_is_unfit() {
    for (word, set_up) in UNFIT {
        let Some(machine) = Machine::new() else { return };
        let mut request = machine.request();
        set_up(&machine, &mut request);
        let fstab = machine.read("etc/fstab");
        let error = machine.refusal(&request).to_string();
        assert!(error.contains(word), "{word}: {error}");
        assert!(machine.prepare(&request).is_err());
        assert_eq!((machine.log(), machine.read("etc/fstab")), (Vec::new(), fstab), "{word}");
        assert!(!machine.path("var/lib/master-target").exists(), "{word}");
    }
}

#[test]
fn a_disk_that_a_program_has_locked_is_refused() {
    let Some(machine) = Machine::new() else { return };
    let held = FileDisk::open(machine.path("dev/sdb"), disk::Access::Write, Caching::PageCache).unwrap();
    assert!(machine.refusal(&machine.request()).to_string().contains("it is locked"));
    drop(held);
    assert!(machine.plan(&machine.request()).is_ok());
}

/// The rules are looked at again when everything else is ready.
#[test]
fn a_disk_that_becomes_unfit_while_it_is_prepared_is_not_erased() {
    let Some(machine) = Machine::new() else { return };
    let request = machine.request();
    let mut held = None;
    for locks in [false, true] {
        let mut spoil = |progress: Progress<'_>| {
            if !matches!(progress, Progress::Begun(_, Step::MakeFileSystem { .. })) {
            } else if locks {
                let path = machine.path("dev/sdb");
                held = Some(FileDisk::open(path, disk::Access::Write, Caching::PageCache).unwrap());
            } else {
                machine.put("sdb", 0, b"XFSB");
            }
        };
        let error = machine.prepare_and(&request, &mut spoil).unwrap_err();
        assert!(matches!(error, Error::Refused(Refusal::Ineligible { .. })), "{error}");
        machine.put("sdb", 0, &[0; 4]);
    }
    assert_eq!(machine.made_file_systems(), 0);
    drop(held);
    machine.prepare(&request).unwrap();
    machine.assert_prepared(&request);
}

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
        .args(["--exact", "a_process_that_prepares"])
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
