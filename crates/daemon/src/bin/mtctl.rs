//! `mtctl`: see [`daemon::mtctl`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(daemon::mtctl::run(&manual::arguments()) as u8)
}
