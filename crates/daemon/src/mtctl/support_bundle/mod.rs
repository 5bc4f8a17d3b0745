//! `mtctl support-bundle`: what someone needs who is to help, in one file, and no secret.
//!
//! [`gather`] looks at the machine and puts what it finds into a [`Bundle`], which bounds it, has [`redact`] take secrets out
//! of it, and writes down what could not be had and why, and what was left out on purpose. [`archive`] makes one file of it.
//! Nothing has to work for that: each part that fails is a line in the manifest.

mod archive;
mod bundle;
mod gather;
mod redact;

use super::cli::SupportBundleArguments;
use super::run::Outcome;
use anyhow::{Context, Result};
use bundle::Bundle;
use control_api::time;
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Makes the bundle, and says what is in it. `socket` is that of the daemon.
pub(super) fn run(arguments: &SupportBundleArguments, socket: &Path, json: bool) -> Outcome {
    match make(arguments, socket) {
        Ok((path, bundle)) if json => {
            println!(
                "{}",
                json!({ "bundle": path, "files": bundle.names(), "missing": bundle.missing(),
                "left_out": bundle.left_out() })
            );
            Outcome::Done
        }
        Ok((path, bundle)) => {
            print!("{}\n{}", bundle.summary(), closing(&path));
            Outcome::Done
        }
        Err(error) => {
            eprintln!("mtctl: {error:#}");
            Outcome::Failed
        }
    }
}

fn closing(path: &Path) -> String {
    format!("{} is readable by its owner alone. Look into it before you give it away.\n", path.display())
}

fn make(arguments: &SupportBundleArguments, socket: &Path) -> Result<(PathBuf, Bundle)> {
    let now = super::run::now();
    let name = folder_name(now);
    let path = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
    // Before the work is done: a name that cannot be used is told at once.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot make {}; give another file with --output", path.display()))?;
    let written = fill(&mut file, &name, arguments, socket);
    if written.is_err() {
        // Half a bundle is none.
        let _ = std::fs::remove_file(&path);
    }
    let bundle = written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok((path, bundle))
}

fn fill(file: &mut File, name: &str, arguments: &SupportBundleArguments, socket: &Path) -> Result<Bundle> {
    let bundle = gather::everything(arguments, socket)?;
    file.write_all(&archive::pack(name, &bundle.all(), time_in_seconds(super::run::now()))?)?;
    file.sync_all()?;
    Ok(bundle)
}

fn time_in_seconds(now: time::Time) -> u64 {
    now / time::SECOND
}

/// `master-target-support-mt01-20261120T162124Z`
fn folder_name(now: time::Time) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let seconds = time::format(time_in_seconds(now) * time::SECOND);
    let moment: String = seconds.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    format!("master-target-support-{}-{moment}", bundle::file_name(host.trim()))
}
