//! `mtctl retention prepare`: shows what will be done, asks, and does it.

use super::super::cli::PrepareArguments;
use super::super::disks::text::printable;
use super::super::run::{Outcome, ask};
use super::targets::Known;
use super::text;
use block_device::System;
use retention_volume::prepare::{self, Plan, Progress, Request};
use retention_volume::{Error, RetentionVolume};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::Instant;

pub(in crate::mtctl) fn run(arguments: &PrepareArguments, json: bool) -> Outcome {
    let outcome = request(arguments, Known::read(&arguments.config)).and_then(|(request, notes)| {
        prepare(&System::host(), &request, &notes, arguments, json).map_err(|error| error.to_string())
    });
    match outcome {
        Ok(outcome) => outcome,
        Err(message) => {
            if json {
                println!("{}", json!({ "failed": { "message": message } }));
            } else {
                eprintln!("mtctl: {}", printable(&message));
            }
            Outcome::Failed
        }
    }
}

/// What is asked for, by the arguments and the configuration; and what one should know of the latter. It is refused while
/// a disk could be the target of an item that cannot be read.
fn request(arguments: &PrepareArguments, known: Known) -> Result<(Request, Vec<String>), String> {
    let targets = known.targets()?.to_vec();
    let (own, state_folder) = (known.mount_point(), known.state_folder());
    let mut notes = known.notes;
    let other = arguments.mount_point.as_ref().filter(|place| known.config.is_some() && **place != own);
    notes.extend(other.map(|place| {
        let (file, own) = (arguments.config.display(), own.display());
        format!(
            "{file} has the retention volume at {own}: set retention.folder = \"{}\" there",
            place.display()
        )
    }));
    let request = Request {
        disk: arguments.disk.clone(),
        mount_point: arguments.mount_point.clone().unwrap_or(own),
        reformat: arguments.reformat.clone(),
        state_folder,
        targets,
    };
    Ok((request, notes))
}

fn prepare(
    system: &System,
    request: &Request,
    notes: &[String],
    arguments: &PrepareArguments,
    json: bool,
) -> Result<Outcome, Error> {
    let plan = prepare::plan(system, request)?;
    if !json {
        print!("{}", text::plan(&plan, notes));
    }
    if arguments.dry_run || plan.steps.is_empty() {
        if json {
            println!("{}", json!({ "plan": of_plan(&plan, notes), "done": plan.steps.is_empty() }));
        } else if arguments.dry_run && !plan.steps.is_empty() {
            println!("\nnothing was done (--dry-run)");
        }
        return Ok(Outcome::Done);
    }
    if !json {
        println!();
    }
    if !arguments.yes
        && let Err(refusal) = ask(&printable(&text::question(&plan)))
    {
        eprintln!("mtctl: {refusal}");
        return Ok(Outcome::Usage);
    }
    let volume = carry_out(system, request, &plan, !json)?;
    if json {
        let volume = json!({ "id": volume.id().to_string(), "space": space(&volume) });
        println!("{}", json!({ "plan": of_plan(&plan, notes), "done": true, "volume": volume }));
    } else {
        print!("{}", text::done(&plan, volume.space().ok()));
    }
    Ok(Outcome::Done)
}

/// Takes the steps; each is a line that ends when it is done.
fn carry_out(system: &System, request: &Request, plan: &Plan, shown: bool) -> Result<RetentionVolume, Error> {
    let (mut begun, mut is_open) = (Instant::now(), false);
    let mut show = |progress: Progress<'_>| {
        let line = match progress {
            Progress::Begun(number, step) => {
                (begun, is_open) = (Instant::now(), true);
                text::begun(number, plan.steps.len(), step)
            }
            Progress::Done(_, _, told) => {
                is_open = false;
                text::ended(begun.elapsed(), told.as_deref())
            }
        };
        if shown {
            print!("{line}");
            let _ = io::stdout().flush();
        }
    };
    let outcome = prepare::carry_out(system, request, plan, &mut show);
    if shown && is_open {
        println!(" failed");
    }
    outcome
}

fn of_plan(plan: &Plan, notes: &[String]) -> Value {
    let steps = plan.steps.iter().map(|step| {
        let mut value = json!(step);
        value["text"] = json!(step.to_string());
        value
    });
    let notes = [notes, &plan.notes].concat();
    json!({
        "disk": plan.disk,
        "device": plan.disk.device(),
        "mount_point": plan.mount_point,
        "file_system": plan.file_system.to_string(),
        "steps": steps.collect::<Vec<_>>(),
        "fstab_difference": plan.fstab_difference(),
        "notes": notes,
    })
}

fn space(volume: &RetentionVolume) -> Value {
    let space = volume.space().ok();
    json!(
        space
            .map(|space| json!({ "capacity_bytes": space.capacity.0, "available_bytes": space.available.0 }))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DEFAULT_RETENTION;
    use std::path::PathBuf;

    fn arguments(config: PathBuf) -> PrepareArguments {
        PrepareArguments {
            disk: "sdb".into(),
            mount_point: None,
            reformat: None,
            dry_run: true,
            yes: false,
            config,
        }
    }

    #[test]
    fn the_configuration_tells_targets_and_place_and_need_not_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mtd.toml");
        let request = |arguments: &PrepareArguments| request(arguments, Known::read_at(&path, folder.path()));
        let (request_without, notes) = request(&arguments(path.clone())).unwrap();
        assert_eq!((request_without.mount_point, notes.len()), (PathBuf::from(DEFAULT_RETENTION), 1));
        let text = format!(
            "state_folder = {:?}\n[retention]\nfolder = \"/data/retention\"\n[[item]]\nname = \"a\"\nsource = \"a\"\n\
             disks = [{{ id = \"d\", target = \"/dev/mapper/36000c29a\" }}]\n",
            folder.path()
        );
        std::fs::write(&path, text).unwrap();
        let (with, notes) = request(&arguments(path.clone())).unwrap();
        assert_eq!((with.mount_point, notes.len()), (PathBuf::from("/data/retention"), 0));
        assert_eq!(with.targets, ["/dev/mapper/36000c29a"]);
        let other = PrepareArguments { mount_point: Some("/mnt/x".into()), ..arguments(path.clone()) };
        let (with, notes) = request(&other).unwrap();
        assert_eq!(with.mount_point, PathBuf::from("/mnt/x"));
        assert!(notes[0].contains("retention.folder = \"/mnt/x\""), "{notes:?}");
        std::fs::write(&path, "[retentoin]\n").unwrap();
        assert!(request(&arguments(path.clone())).unwrap_err().contains("which disks items write to"));
    }

    /// Its disk may be the one that is asked for, and empty still.
    #[test]
    fn an_item_whose_file_is_torn_keeps_every_disk_from_being_prepared() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mtd.toml");
        std::fs::create_dir(folder.path().join("items")).unwrap();
        std::fs::write(folder.path().join("items/web01.toml"), "[[item]]\nname = \"web").unwrap();
        for text in [None, Some(format!("state_folder = {:?}\n", folder.path()))] {
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let error = request(&arguments(path.clone()), Known::read_at(&path, folder.path())).unwrap_err();
            assert!(error.contains("the item web01") && error.contains("mend the file"), "{error}");
        }
    }
}
