//! `mtctl disks --map` and `--unmap`: the multipath map of a disk, now and after a restart. It needs no daemon.

use super::cli::DisksArguments;
use super::disks::text::printable;
use super::partitions::report;
use super::run::{Outcome, ask};
use block_device::multipath::{self, Conflict};
use block_device::{Error, Inventory, Result, ScsiId, System};
use serde_json::json;

pub(super) fn run(arguments: &DisksArguments, json: bool) -> Outcome {
    let Some(disk) = &arguments.disk else {
        eprintln!("mtctl: name the disk: mtctl disks --map DISK");
        return Outcome::Usage;
    };
    let system = System::host();
    let id = match id_of(&system, &Inventory::read(&system), disk) {
        Ok(id) => id,
        Err(error) => return report(Err(error), json),
    };
    if arguments.unmap && !arguments.yes {
        let question =
            format!("Remove the multipath map of {id} with its partition maps, and claim it no longer?");
        if let Err(refusal) = ask(&question) {
            eprintln!("mtctl: {refusal}");
            return Outcome::Usage;
        }
    }
    let outcome = if arguments.unmap { unmap(&system, &id, json) } else { map(&system, &id, json) };
    report(outcome, json)
}

/// The SCSI id of the disk that is meant. An id is one also when its disk has gone, or has two paths without a map.
fn id_of(system: &System, inventory: &Inventory, disk: &str) -> Result<ScsiId> {
    match inventory.find(system, disk) {
        Ok(found) => found.scsi_id.clone().ok_or_else(|| Error::NoScsiId { disk: found.name.clone() }),
        Err(error @ (Error::NoDisk { .. } | Error::Ambiguous { .. })) => {
            let is_id = ScsiId::parse(disk).filter(|id| id.as_str().len() > 8);
            is_id.ok_or(error)
        }
        Err(error) => Err(error),
    }
}

fn map(system: &System, id: &ScsiId, json: bool) -> Result<String> {
    let made = multipath::map(system, id);
    let conflicts = multipath::conflicts(system);
    if made.is_err() && !json {
        eprint!("{}", warnings(&conflicts));
    }
    let map = made?;
    Ok(if json {
        format!("{}\n", json!({ "map": map, "conflicts": conflicts }))
    } else {
        format!("/dev/mapper/{}\n{}", map.name, warnings(&conflicts))
    })
}

fn unmap(system: &System, id: &ScsiId, json: bool) -> Result<String> {
    multipath::flush(system, id)?;
    Ok(if json {
        format!("{}\n", json!({ "unmapped": id }))
    } else {
        format!("{id} has no multipath map, and is not claimed any more\n")
    })
}

/// One line for each setting of the machine that works against the map.
fn warnings(conflicts: &[Conflict]) -> String {
    let line = |conflict: &Conflict| {
        let Conflict { file, line, what, advice } = conflict;
        printable(&format!("WARNING {file}, line {line}: {what}; {advice}")) + "\n"
    };
    conflicts.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_without_its_disk() {
        let system = System::at(tempfile::tempdir().unwrap().path());
        let none = Inventory::default();
        assert_eq!(id_of(&system, &none, "36000c29a01234").unwrap().as_str(), "36000c29a01234");
        for other in ["sdb", "/dev/sdb", "3", "dm-0"] {
            assert!(matches!(id_of(&system, &none, other), Err(Error::NoDisk { .. })), "{other}");
        }
    }

    #[test]
    fn a_conflict_is_one_line_with_its_place() {
        let conflict = Conflict {
            file: "/etc/multipath.conf".into(),
            line: 3,
            what: "it does\nthis".into(),
            advice: "remove it".into(),
        };
        assert_eq!(warnings(&[conflict]), "WARNING /etc/multipath.conf, line 3: it does?this; remove it\n");
    }
}
