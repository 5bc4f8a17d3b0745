//! The one time that is written into what is built, so that a second build gives the same bytes.

use crate::command::{output, workspace};
use anyhow::{Context, Result};
use std::process::Command;

/// `SOURCE_DATE_EPOCH`, or the time of the last commit: seconds since 1970.
pub(crate) fn seconds() -> Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => output(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(workspace()))
            .context("SOURCE_DATE_EPOCH is not set, and the time of the last commit is not known")?,
    };
    text.trim().parse().with_context(|| format!("{text:?} is no number of seconds since 1970"))
}

/// A time in UTC, as `date` writes it by `format`.
pub(crate) fn shown(seconds: u64, format: &str) -> Result<String> {
    let mut date = Command::new("date");
    date.args(["--utc", &format!("--date=@{seconds}"), &format!("+{format}")]).env("LC_ALL", "C");
    Ok(output(&mut date)?.trim().to_owned())
}
