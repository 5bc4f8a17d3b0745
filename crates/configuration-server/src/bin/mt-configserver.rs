//! `mt-configserver`: see [`configuration_server`].

use clap::Parser;
use configuration_server::commands::{Arguments, run};
use nix::sys::stat::{Mode, umask};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Keys, passphrase and store are nobody else's business.
    umask(Mode::from_bits_truncate(0o077));
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mt-configserver: {error:#}");
            ExitCode::FAILURE
        }
    }
}
