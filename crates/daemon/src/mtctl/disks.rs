//! `mtctl disks`: what disks this machine has, what they are for, and what is wrong with them.
//!
//! It needs no daemon. The daemon's configuration, where there is one, tells which disks items write to and where the
//! retention volume is; without it the rest is shown all the same.

pub(super) mod text;
mod warnings;

use super::cli::DisksArguments;
use super::run::{CLEAR, Outcome};
use crate::config::Config;
use block_device::inventory::{AttachedDisk, Changes, Look};
use block_device::{Inventory, System};
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// A path that fails makes no event that is sure to come, so they are looked at from time to time.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

pub(super) fn run(arguments: &DisksArguments, json: bool) -> Outcome {
    let (look, targets) = from_configuration(arguments);
    let system = System::host();
    let mut changes = Changes::listen(&system);
    loop {
        let mut inventory = Inventory::read_with(&system, &look);
        inventory.mark_targets(&system, &targets);
        let shown = show(&system, &inventory, arguments.disk.as_deref(), json);
        let clear = arguments.watch && !json && std::io::stdout().is_terminal();
        let outcome = print(if clear { CLEAR } else { "" }, shown);
        match outcome {
            // A disk that is not there can still come.
            Ok(_) if arguments.watch => changes.wait(LOOK_AGAIN),
            Ok(outcome) => return outcome,
            // Nobody reads on.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Outcome::Done,
            Err(error) => {
                eprintln!("mtctl: cannot print: {error}");
                return Outcome::Failed;
            }
        };
    }
}

/// Where the retention volume is, and the targets of all items.
fn from_configuration(arguments: &DisksArguments) -> (Look, Vec<String>) {
    match Config::load(&arguments.config) {
        Ok(config) => {
            let disks = config.items.iter().flat_map(|item| &item.disks);
            let targets = disks.map(|disk| disk.target.to_string_lossy().into_owned());
            let targets = targets.collect();
            (Look { retention: config.retention.folder, ..Look::default() }, targets)
        }
        Err(error) => {
            eprintln!("mtctl: the target disks of items are not marked: {error}");
            (Look::default(), Vec::new())
        }
    }
}

fn print(before: &str, shown: Result<String, String>) -> std::io::Result<Outcome> {
    let mut stdout = std::io::stdout().lock();
    let (text, outcome) = match &shown {
        Ok(text) => (text.as_str(), Outcome::Done),
        Err(_) => ("", Outcome::Failed),
    };
    write!(stdout, "{before}{text}")?;
    stdout.flush()?;
    if let Err(error) = shown {
        eprintln!("mtctl: {error}");
    }
    Ok(outcome)
}

/// All disks, or the one with this name.
fn show(system: &System, inventory: &Inventory, name: Option<&str>, json: bool) -> Result<String, String> {
    let chosen = match name {
        Some(name) => Some(inventory.find(system, name).map_err(|error| error.to_string())?),
        None => None,
    };
    let warnings = warnings::all(inventory, chosen);
    if json {
        let disks: Vec<&AttachedDisk> =
            chosen.map_or_else(|| inventory.disks.iter().collect(), |disk| vec![disk]);
        return Ok(format!("{}\n", json!({ "disks": disks, "warnings": warnings })));
    }
    let mut shown = match chosen {
        Some(disk) => text::detail(disk),
        None => text::overview(&inventory.disks),
    };
    for warning in warnings {
        shown.push_str(&format!("WARNING {}\n", text::printable(&warning)));
    }
    Ok(shown)
}

#[cfg(test)]
mod tests;
