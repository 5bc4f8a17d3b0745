//! `mtctl`: the master target's command line. It talks to the daemon's local API; what concerns the
//! machine alone (disks, partitions, checks) it does itself, so that it works before the daemon does.

mod check;
mod cli;
mod client;
mod disk_maps;
mod disks;
mod partitions;
mod progress;
mod register;
mod retention;
mod run;
mod support_bundle;
mod table;

pub use cli::{
    Arguments, CheckArguments, Command, DisksArguments, LogsOfItem, PartitionsArguments, PrepareArguments,
    RegisterArguments, RetentionCommand, SupportBundleArguments, TestFailoverCommand, UnregisterArguments,
};
pub use client::{Client, ClientError};
pub use run::{Outcome, run};
