//! `mtctl`: see [`daemon::mtctl`].

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(daemon::mtctl::run(&daemon::mtctl::Arguments::parse()) as u8)
}
