//! The texts of a machine that was seen elsewhere, as a whole.

#[path = "../../../../block-device/tests/captured/mod.rs"]
mod captured;

use super::*;
use captured::{Machine, array, id, vmware};

/// A system disk, a free one on two paths of which one failed, and one that nothing tells an id of.
fn machine() -> Machine {
    let machine = Machine::new();
    machine.disk(&vmware("sda", 0, 0).vmdk(1));
    machine.partition("sda", 1, 2048, 2 << 21);
    machine.put("sda", 446, &[0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0, 1, 0]);
    machine.put("sda", 510, &[0x55, 0xaa]);
    machine.put("sda1", 1080, &[0x53, 0xef]);
    machine.mount("8:1", "/");
    machine.disk(&array("sdb", 0, 1).vmdk(2).gigabytes(40));
    let mut second = array("sdc", 1, 1).vmdk(2).gigabytes(40);
    second.controller = ("0x1000", "0x0054");
    machine.disk(&second);
    machine.map(0, &id(2), &format!("mpath-{}", id(2)), &["sdb", "sdc"], 40 << 21);
    machine.program("multipathd", "printf 'sdb|x|active|running|ready\\nsdc|x|failed|running|faulty\\n'");
    let mut bare = vmware("sdd", 0, 2);
    bare.model = "Virtual\x1b[31mdisk";
    machine.disk(&bare);
    machine
}

fn shown(machine: &Machine, name: Option<&str>, json: bool) -> Result<String, String> {
    let mut inventory = machine.inventory();
    inventory.mark_targets(&machine.system(), &[format!("/dev/mapper/{}", id(2))]);
    show(&machine.system(), &inventory, name, json)
}

fn cells(line: &str) -> Vec<&str> {
    line.split(['│', '┆']).map(str::trim).skip(1).take(9).collect()
}

#[test]
fn the_overview_shows_what_matters() {
    let text = shown(&machine(), None, false).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().filter(|line| line.starts_with('│')).map(cells).collect();
    let (one, two) = (id(1), id(2));
    let expected: Vec<[&str; 9]> = vec![
        ["disk", "SCSI id", "size", "model", "controller", "paths", "contents", "used by", "role"],
        [
            "sda",
            &one,
            "10 GiB",
            "VMware Virtual disk",
            "paravirtual SCSI",
            "1",
            "partition table (mbr)",
            "/",
            "system",
        ],
        ["", "", "", "", "", "", "1: 2 GiB, ext2", "", ""],
        [
            "sdb, sdc",
            &two,
            "40 GiB",
            "EXAMPLE Array",
            "paravirtual SCSI",
            "2, 1 failed",
            "nothing known",
            "",
            "target",
        ],
        ["map dm-0", "", "", "", "", "", "", "", ""],
        [
            "sdd",
            "none",
            "10 GiB",
            "VMware Virtual?[31mdisk",
            "paravirtual SCSI",
            "1",
            "nothing known",
            "",
            "free",
        ],
    ];
    assert_eq!(rows, expected, "\n{text}");
    let warnings: Vec<&str> = text.lines().filter(|line| line.starts_with("WARNING")).collect();
    let failed = format!(
        "WARNING the path sdc of {two} is failed, one path is left: see dmesg, and look whether the disk is still attached"
    );
    assert_eq!(warnings, [failed]);
    assert!(text.lines().all(|line| line.chars().count() < 200), "{text}");
}

#[test]
fn a_machine_without_ids_is_told_what_to_do() {
    let machine = Machine::new();
    machine.disk(&vmware("sda", 0, 0));
    machine.disk(&vmware("sdb", 0, 1));
    let text = shown(&machine, None, false).unwrap();
    let expected = "WARNING no SCSI id: sda, sdb; disk.EnableUUID is not set: shut this machine down, set \
                    disk.EnableUUID = TRUE in its configuration parameters, and start it\n";
    assert!(text.ends_with(expected), "{text}");
    assert_eq!(shown(&Machine::new(), None, false).unwrap(), "this machine shows no disk\n");
}

#[test]
fn a_disk_is_shown_whole() {
    let text = shown(&machine(), Some("sda1"), false).unwrap_err();
    assert_eq!(text, "sda1 is not a disk: it is partition 1 of sda; mtctl disks lists the disks");
    let text = shown(&machine(), Some("sdc"), false).unwrap();
    let expected = format!(
        "/dev/mapper/{id}\n\
         \x20 SCSI id         {id}\n\
         \x20 VMDK ddb.uuid   60 00 c2 9a 01 23 45 67-89 ab cd ef 00 00 00 02\n\
         \x20 multipath map   {id} (dm-0, 253:0)\n\
         \x20 size            40 GiB (42949672960 bytes)\n\
         \x20 sectors         512 bytes, physically 512\n\
         \x20 model           EXAMPLE Array\n\
         \x20 access          can be written\n\
         \x20 contents        nothing known\n\
         \x20 role            target\n",
        id = id(2)
    );
    assert!(text.starts_with(&expected), "{text}");
    let rows: Vec<Vec<&str>> = text.lines().filter(|line| line.starts_with("│ sd")).map(cells).collect();
    assert_eq!(rows[0][..6], ["sdb", "8:16", "0:0:1:0", "paravirtual SCSI", "running", "active"]);
    assert_eq!(rows[1][..6], ["sdc", "8:32", "1:0:1:0", "LSI SAS", "running", "failed"]);
    assert!(text.contains("nothing uses it\nWARNING the path sdc"), "{text}");
    let text = shown(&machine(), Some("/dev/sda"), false).unwrap();
    assert!(text.contains("in use: / of this machine lies on it\n"), "{text}");
    assert!(
        text.lines().any(|line| line.contains("sda1") && line.contains("1 MiB") && line.contains("ext2"))
    );
    assert!(!text.contains("WARNING"), "warnings of other disks: {text}");
}

#[test]
fn programs_get_disks_and_warnings() {
    let text = shown(&machine(), None, true).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["disks"].as_array().unwrap().len(), 3);
    assert_eq!(value["warnings"].as_array().unwrap().len(), 1);
    let disk = &value["disks"][1];
    assert_eq!((disk["scsi_id"].as_str(), disk["role"].as_str()), (Some(&*id(2)), Some("target")));
    assert_eq!(
        (disk["bytes"].as_u64(), disk["paths"][1]["path_state"].as_str()),
        (Some(40 << 30), Some("failed"))
    );
    let one = shown(&machine(), Some("sda"), true).unwrap();
    let value: serde_json::Value = serde_json::from_str(&one).unwrap();
    assert_eq!(value["disks"][0]["uses"][0], json!({ "kind": "system", "place": "/" }));
    assert_eq!(
        (value["disks"].as_array().unwrap().len(), value["warnings"].as_array().unwrap().len()),
        (1, 0)
    );
}

#[test]
fn copies_and_disagreements_are_warned_of() {
    let machine = Machine::new();
    machine.disk(&vmware("sda", 0, 0).vmdk(1));
    machine.disk(&vmware("sdb", 0, 1).vmdk(1));
    machine.write("run/udev/data/b8:16", format!("E:ID_BUS=scsi\nE:ID_SERIAL={}\n", id(7)));
    let text = shown(&machine, None, false).unwrap();
    assert!(text.contains("WARNING sda, sdb are different disks with one SCSI id"), "{text}");
    assert!(text.contains(&format!("another path knows it as {}", id(7))), "{text}");
    assert!(
        shown(&machine, Some(&id(1)), false)
            .unwrap_err()
            .contains("sda, sdb are different disks with one SCSI id")
    );
}
