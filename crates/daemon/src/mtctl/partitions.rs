//! `mtctl partitions`.

use super::cli::PartitionsArguments;
use super::run::Outcome;

pub(super) fn run(_arguments: &PartitionsArguments, _json: bool) -> Outcome {
    Outcome::Failed
}
