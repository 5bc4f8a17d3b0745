//! `mtctl disks`.

use super::cli::DisksArguments;
use super::run::Outcome;

pub(super) fn run(_arguments: &DisksArguments, _json: bool) -> Outcome {
    Outcome::Failed
}
