//! `mtctl`: the master target's command line. It only talks to the daemon's local API.

mod cli;
mod client;
mod progress;
mod run;
mod table;

pub use cli::{Arguments, Command, TestFailoverCommand};
pub use client::{Client, ClientError};
pub use run::{Outcome, run};
