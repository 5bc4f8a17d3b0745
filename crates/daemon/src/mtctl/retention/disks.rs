//! Which of the machine's disks can serve as the retention volume, and which rule keeps the others from it.

use super::super::disks::text::printable;
use super::super::table::table;
use block_device::inventory::{AttachedDisk, Look};
use block_device::{Inventory, System};
use retention_volume::eligibility::{Ineligible, Question, Standing, survey};
use serde_json::{Value, json};
use std::fmt::Write;

/// Every disk of the machine, and how it stands to the retention volume.
pub(super) struct Disks {
    inventory: Inventory,
    standings: Vec<Standing>,
}

impl Disks {
    /// Looks at the machine.
    pub(super) fn look(system: &System, question: &Question<'_>) -> Disks {
        let look = Look { retention: question.mount_point.to_owned(), ..Look::default() };
        let mut inventory = Inventory::read_with(system, &look);
        inventory.mark_targets(system, question.targets);
        let standings =
            survey(system, &inventory, question).into_iter().map(|(_, standing)| standing).collect();
        Disks { inventory, standings }
    }

    #[cfg(test)]
    pub(super) fn none() -> Disks {
        Disks { inventory: Inventory::default(), standings: Vec::new() }
    }

    fn each(&self) -> impl Iterator<Item = (&AttachedDisk, &Standing)> {
        self.inventory.disks.iter().zip(&self.standings)
    }

    /// A table, and a line below it for each rule that is broken.
    pub(super) fn as_text(&self) -> String {
        let mut rows = table(&["disk", "SCSI id", "size", "as retention volume"], &[2]);
        let mut reasons = String::new();
        for (disk, standing) in self.each() {
            let names: Vec<&str> = disk.paths.iter().map(|path| path.name.as_str()).collect();
            let names = names.join(", ");
            rows.add_row([
                names.clone(),
                disk.scsi_id.as_ref().map_or("none".to_owned(), ToString::to_string),
                disk.size.to_string(),
                verdict(disk, standing),
            ]);
            for rule in broken(standing) {
                let _ = writeln!(reasons, "{}", printable(&format!("{names}: {rule}")));
            }
        }
        format!("{rows}\n{reasons}")
    }

    /// The same for programs.
    pub(super) fn as_json(&self) -> Value {
        let disk = |(disk, standing): (&AttachedDisk, &Standing)| {
            let rules: Vec<Value> = broken(standing)
                .iter()
                .map(|rule| json!({ "rule": rule.rule(), "what": rule.what(), "remedy": rule.remedy() }))
                .collect();
            let standing = match standing {
                Standing::Eligible => "eligible",
                Standing::Retention => "retention",
                Standing::Ineligible(_) => "ineligible",
            };
            json!({
                "name": disk.name,
                "scsi_id": disk.scsi_id,
                "bytes": disk.size.0,
                "standing": standing,
                "broken": rules,
            })
        };
        self.each().map(disk).collect()
    }
}

fn verdict(disk: &AttachedDisk, standing: &Standing) -> String {
    match standing {
        Standing::Eligible => format!("can be: mtctl retention prepare {}", disk.name),
        Standing::Retention => "it is".to_owned(),
        Standing::Ineligible(broken) => {
            let rules: Vec<&str> = broken.iter().map(Ineligible::rule).collect();
            format!("no: {}", rules.join(", "))
        }
    }
}

fn broken(standing: &Standing) -> &[Ineligible] {
    match standing {
        Standing::Ineligible(broken) => broken,
        Standing::Eligible | Standing::Retention => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use block_device::ScsiId;
    use block_device::inventory::{Role, Signature};
    use disk::Bytes;

    const ID: &str = "36000c29a0123456789abcdef01234567";

    fn disk(name: &str) -> AttachedDisk {
        AttachedDisk {
            name: name.into(),
            map: None,
            scsi_id: ScsiId::parse(ID),
            no_scsi_id: None,
            other_scsi_id: None,
            serial: None,
            vendor: None,
            model: None,
            size: Bytes(1 << 40),
            logical_sector: 512,
            physical_sector: 512,
            read_only: false,
            removable: false,
            paths: Vec::new(),
            partitions: Vec::new(),
            signature: Some(Signature::Swap),
            uses: Vec::new(),
            role: Role::Free,
        }
    }

    #[test]
    fn each_disk_has_its_verdict_and_each_broken_rule_a_line() {
        let broken = vec![Ineligible::ReadOnly, Ineligible::Target];
        let disks = Disks {
            inventory: Inventory { disks: vec![disk("sdb"), disk("sdc"), disk("sdd")] },
            standings: vec![Standing::Retention, Standing::Eligible, Standing::Ineligible(broken)],
        };
        let text = disks.as_text();
        assert!(text.contains("it is") && text.contains("can be: mtctl retention prepare sdc"), "{text}");
        assert!(text.contains("no: read-only, target"), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with(": it ")).count(), 2, "{text}");
        let json = disks.as_json();
        assert_eq!(json[0]["standing"], "retention");
        assert_eq!(json[2]["broken"][0]["rule"], "read-only");
        assert!(!json[2]["broken"][1]["remedy"].as_str().unwrap().is_empty());
    }
}
