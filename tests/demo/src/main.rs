//! The main job, shown and proved on this machine: a configuration server starts, both ends register with it, a disk is
//! replicated into a VMDK while it is being written, an old point is opened at once, the replica is rolled back and
//! forward again, and each result is compared byte for byte by `qemu-img compare`. Exit status 0 means that all of it
//! held.

mod image;
mod interrupt;
mod register;
mod report;
mod scenario;
mod tour;
mod writer;

use anyhow::{Context, Result};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
struct Arguments {
    /// Disk image to replicate, in any format that qemu-img reads; a copy is used. Default: a disk made here.
    #[arg(long, value_name = "IMG")]
    source: Option<PathBuf>,
    /// Format of the target: monolithicSparse, monolithicFlat, twoGbMaxExtentSparse, twoGbMaxExtentFlat or vmfs.
    #[arg(long, value_name = "CREATETYPE", default_value = "monolithicSparse")]
    format: String,
    /// Folder to work in; the replica, web01-disk0.vmdk, is left there.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Folder with mtd, mtctl, mt-source and mt-configserver.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Leave everything running at the end, until Ctrl-C: a protected machine, to play a whole failback on in the portal.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let beside_us = || -> Result<PathBuf> {
        let own = std::env::current_exe()?;
        Ok(own.parent().context("a program is in a folder")?.to_owned())
    };
    let programs = arguments.programs.clone().map_or_else(beside_us, Ok)?;
    let dir = arguments.dir.clone().unwrap_or_else(|| PathBuf::from("target/demo"));
    scenario::run(&scenario::Order {
        dir: &dir,
        programs: &programs,
        image: arguments.source.as_deref(),
        create_type: &arguments.format,
        keep: arguments.keep,
    })
}
