//! `mtctl retention`: the volume that holds the journals.

mod disks;
mod prepare;
mod status;
mod targets;
mod text;

use super::cli::{Arguments, RetentionCommand};
use super::run::Outcome;

/// Carries out a command about the retention volume.
pub(super) fn run(command: &RetentionCommand, arguments: &Arguments) -> Outcome {
    match command {
        RetentionCommand::Prepare(prepare) => prepare::run(prepare, arguments.json),
        RetentionCommand::Status { config } => status::run(config, &arguments.socket, arguments.json),
    }
}
