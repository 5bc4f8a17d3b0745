//! From an empty disk, or a volume that was mounted by hand, to a prepared one; and from every place where the power can
//! fail on the way. Needs root.

mod fake;

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
