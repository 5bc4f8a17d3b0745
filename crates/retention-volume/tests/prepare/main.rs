//! From an empty disk, or a volume that was mounted by hand, to a prepared one; and from every place where the power can
//! fail on the way. Needs root.

mod crash;
mod fake;
mod unfit;

use fake::{ID, Machine, PLACE};
use retention_volume::Error;
use retention_volume::prepare::{Progress, Refusal, Request, Step};
use std::fs;
use std::process::Command;

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

/// The map would get the alias again, so the volume is not even unmounted.
#[test]
fn an_alias_in_the_configuration_is_noticed_before_anything_is_done() {
    let Some(machine) = Machine::new() else { return };
    with_alias(&machine);
    mounted_by_hand(&machine, "/dev/mapper/mpatha");
    let alias = format!("multipaths {{\n multipath {{\n  wwid {ID}\n  alias mpatha\n }}\n}}\n");
    machine.write("etc/multipath/conf.d/site.conf", alias);
    let before = machine.log();
    let error = machine.prepare(&machine.request()).unwrap_err();
    assert!(matches!(&error, Error::Refused(Refusal::Alias { name, .. }) if name == "mpatha"), "{error}");
    assert!(error.to_string().contains("site.conf line 4: remove the alias"), "{error}");
    assert_eq!(machine.log(), before);
    assert_eq!(machine.read("mnt/retention/precious"), "kept");
}

/// Neither this program nor blkid knows what is there, but it is not nothing.
#[test]
fn a_disk_with_data_of_no_known_form_is_not_called_empty() {
    for offset in [40 << 10, fake::SIZE - 512] {
        let Some(machine) = Machine::new() else { return };
        machine.put("sdb", offset, b"somebody's");
        let request = machine.request();
        let plan = machine.plan(&request).unwrap();
        assert_eq!(plan.erases(), Some(Some("data of no known form")));
        assert!(plan.notes.iter().any(|note| note.contains("not only zeros")), "{:?}", plan.notes);
        machine.prepare(&request).unwrap();
        machine.assert_prepared(&request);
    }
}

/// Without a second opinion nothing is erased.
#[test]
fn a_disk_on_which_blkid_cannot_say_anything_is_left_alone() {
    for script in ["echo 'error: /dev/sdb: Input/output error' >&2; exit 2", "exit 4"] {
        let Some(machine) = Machine::new() else { return };
        machine.program("sbin/blkid", &format!("#!/bin/sh\n{script}\n"));
        assert!(machine.refusal(&machine.request()).to_string().contains("blkid -p"));
        fs::remove_file(machine.path("sbin/blkid")).unwrap();
        assert!(machine.refusal(&machine.request()).to_string().contains("blkid"));
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
