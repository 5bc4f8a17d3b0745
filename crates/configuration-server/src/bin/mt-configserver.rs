//! `mt-configserver`: see [`configuration_server`].

use configuration_server::commands::run;
use nix::sys::stat::{Mode, umask};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Keys, passphrase and store are nobody else's business.
    umask(Mode::from_bits_truncate(0o077));
    match run(&manual::arguments()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mt-configserver: {error:#}");
            ExitCode::FAILURE
        }
    }
}
