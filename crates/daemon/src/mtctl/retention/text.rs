//! A preparation as people get to see it.

use super::super::disks::text::printable;
use disk::Bytes;
use retention_volume::Space;
use retention_volume::prepare::{Plan, Step};
use std::fmt::Write;
use std::time::Duration;

/// The disk, the steps, what changes in fstab, and what one should know.
pub(super) fn plan(plan: &Plan, notes: &[String]) -> String {
    let disk = &plan.disk;
    let mut text = format!("{}\n", printable(&disk.name));
    let file_system = match plan.erases() {
        Some(_) => "ext4, to be made".to_owned(),
        None => format!("ext4, kept, UUID {}", plan.file_system),
    };
    let facts = [
        ("model", disk.model.clone()),
        ("size", disk.size.to_string()),
        ("SCSI id", disk.scsi_id.to_string()),
        ("mount point", plan.mount_point.display().to_string()),
        ("file system", file_system),
    ];
    for (key, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "  {key:<14}{}", printable(value));
    }
    text.push('\n');
    for (number, step) in (1..).zip(&plan.steps) {
        let _ = writeln!(text, "{number:>3}. {}", printable(&step.to_string()));
    }
    if plan.steps.is_empty() {
        let _ = writeln!(text, "nothing to do: it is the retention volume at {}", plan.mount_point.display());
    }
    let difference = plan.fstab_difference();
    if !difference.is_empty() {
        text.push('\n');
        for line in difference.lines() {
            let _ = writeln!(text, "{}", printable_line(line));
        }
    }
    if !notes.is_empty() || !plan.notes.is_empty() {
        text.push('\n');
    }
    for note in notes.iter().chain(&plan.notes) {
        let _ = writeln!(text, "NOTE {}", printable(note));
    }
    text
}

/// Tabs of fstab are no harm.
fn printable_line(line: &str) -> String {
    line.split('\t').map(printable).collect::<Vec<_>>().join("\t")
}

/// What to ask before; it names what will be gone.
pub(super) fn question(plan: &Plan) -> String {
    let disk = format!("{} ({}, {})", plan.disk.name, plan.disk.size, plan.disk.scsi_id);
    let place = plan.mount_point.display();
    match plan.erases() {
        Some(Some(erased)) => {
            format!("ERASE {erased} on {disk}, and make it the retention volume at {place}?")
        }
        Some(None) => format!(
            "Make the disk {disk}, which is empty as far as can be seen, the retention volume at {place}?"
        ),
        None => format!("Make {disk} the retention volume at {place}? What is on it stays."),
    }
}

/// The beginning of a line that [`ended`] ends.
pub(super) fn begun(number: usize, all: usize, step: &Step) -> String {
    format!("{number:>3}/{all} {} …", printable(&step.to_string()))
}

pub(super) fn ended(took: Duration, told: Option<&str>) -> String {
    let told = told.map(|told| format!(" ({})", printable(told))).unwrap_or_default();
    format!(" ok, {:.1} s{told}\n", took.as_secs_f64())
}

/// What there is now.
pub(super) fn done(plan: &Plan, space: Option<Space>) -> String {
    let available = space.map_or(Bytes::ZERO, |space| space.available);
    format!(
        "\n{} is the retention volume: {} at {}, {available} available\n",
        printable(&plan.disk.name),
        plan.disk.device(),
        plan.mount_point.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use block_device::System;
    use retention_volume::prepare::{Request, plan as look};
    use std::fs;
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    const ID: &str = "36000c29f0000000000000000000000a1";
    const SIZE: u64 = 64 << 20;

    /// A machine in a folder, with an empty disk.
    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let sectors = (SIZE / 512).to_string();
        let attributes = [
            ("dev", "8:16"),
            ("size", sectors.as_str()),
            ("ro", "0"),
            ("removable", "0"),
            ("device/vendor", "VMware"),
            ("device/model", "Virtual disk"),
        ];
        attributes.iter().for_each(|(name, value)| write(&format!("sys/block/sdb/{name}"), value));
        write("run/udev/data/b8:16", &format!("E:ID_BUS=scsi\nE:ID_SERIAL={ID}\n"));
        write("proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n");
        write("proc/swaps", "Filename Type Size Used Priority\n");
        write("etc/fstab", "# the system\n/dev/sda1\t/\text4\tdefaults\t0 1\n");
        fs::create_dir(root.path().join("sbin")).unwrap();
        testkit::program(&root.path().join("sbin/blkid"), "#!/bin/sh\nexit 2\n");
        fs::create_dir(root.path().join("dev")).unwrap();
        fs::File::create(root.path().join("dev/sdb")).unwrap().set_len(SIZE).unwrap();
        root
    }

    fn planned(root: &Path) -> Plan {
        let request = Request {
            disk: "sdb".into(),
            mount_point: "/mnt/retention".into(),
            reformat: None,
            state_folder: "/var/lib/master-target".into(),
            targets: Vec::new(),
        };
        look(&System::at(root), &request).unwrap()
    }

    #[test]
    fn a_dry_run_shows_all_steps_and_the_change_of_fstab() {
        let root = machine();
        let planned = planned(root.path());
        let notes = ["there is no /etc/master-target/mtd.toml".to_owned()];
        let expected = "\
sdb
  model         VMware Virtual disk
  size          64 MiB
  SCSI id       36000c29f0000000000000000000000a1
  mount point   /mnt/retention
  file system   ext4, to be made

  1. map the disk by its SCSI id: /dev/mapper/36000c29f0000000000000000000000a1
  2. make an ext4 on the empty disk
  3. make the folder /mnt/retention
  4. add the entry to /etc/fstab, after a backup
  5. have systemd read it: systemctl daemon-reload
  6. mount /mnt/retention, by that entry
  7. mark it: /mnt/retention/retention-volume
  8. read back: device, UUID, marker, and a file past the cache

--- /etc/fstab
+++ /etc/fstab
@@ -1,2 +1,3 @@
 # the system
 /dev/sda1\t/\text4\tdefaults\t0 1
+/dev/mapper/36000c29f0000000000000000000000a1 /mnt/retention ext4 \
rw,nofail,errors=remount-ro,x-systemd.requires=multipathd.service,x-systemd.device-timeout=60s 0 2

NOTE there is no /etc/master-target/mtd.toml
NOTE 64 MiB is less than the 1 TB that is recommended: the retention window will be shorter
";
        assert_eq!(plan(&planned, &notes), expected);
        assert_eq!(
            question(&planned),
            format!(
                "Make the disk sdb (64 MiB, {ID}), which is empty as far as can be seen, the retention volume at /mnt/retention?"
            )
        );
    }

    #[test]
    fn what_is_of_no_known_form_is_named_in_step_question_and_note() {
        let root = machine();
        let disk = fs::File::options().write(true).open(root.path().join("dev/sdb")).unwrap();
        disk.write_all_at(b"somebody's", SIZE - 4096).unwrap();
        let planned = planned(root.path());
        let text = plan(&planned, &[]);
        assert!(text.contains("  2. ERASE data of no known form, and make an ext4\n"), "{text}");
        assert!(text.contains("NOTE the disk holds data of no known form, and not only zeros"), "{text}");
        assert!(!text.contains("empty"), "{text}");
        assert!(
            question(&planned).starts_with("ERASE data of no known form on sdb ("),
            "{}",
            question(&planned)
        );
    }

    #[test]
    fn a_step_is_one_line_that_ends_when_it_is_done() {
        let step = Step::Unmap { map: "mpath\ta".into() };
        let line = begun(2, 8, &step) + &ended(Duration::from_millis(1250), Some("kept as /etc/x"));
        assert_eq!(line, "  2/8 remove the multipath map mpath?a … ok, 1.2 s (kept as /etc/x)\n");
        assert_eq!(printable_line("+/dev/sda1\t/\u{1b}[2J"), "+/dev/sda1\t/?[2J");
    }
}
