//! Each thing that goes wrong has a message of its own that tells the cause and what to do, and leaves the machine as it
//! was.

use crate::guide;
use crate::table::{CASES, Outcome, target};
use anyhow::{Context, Result, ensure};
use std::fmt::Write;

/// What stands between words does not matter: lines are broken by the length of addresses.
pub(crate) fn in_words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn each_error_tells_its_cause_and_what_to_do() -> Result<()> {
    if !registering::is_root("a test of all errors on machines of their own") {
        return Ok(());
    }
    let mut texts = String::new();
    let mut shown = Vec::new();
    for case in &CASES {
        let Outcome { said, names } = (case.bring_about)().with_context(|| case.title)?;
        writeln!(texts, "=== {}\n{}", case.title, said.text())?;
        let words = in_words(&said.error);
        ensure!(said.status.code() == Some(1), "{}: status {}: {words}", case.title, said.status);
        for part in case.parts {
            ensure!(words.contains(part), "{}: {part:?} is not in: {}", case.title, said.error);
        }
        ensure!(words.contains(" why ") && words.contains(" do "), "{}: {words}", case.title);
        ensure!(words.ends_with("This machine is as it was before."), "{}: {words}", case.title);
        ensure!(!words.contains("some-passphrase"), "{}: it tells the passphrase", case.title);
        shown.push(guide::neutral(&said.error, &names));
    }
    std::fs::write(target()?.join("register-errors.txt"), &texts)?;
    let mut first_lines: Vec<&str> =
        shown.iter().map(|text| text.lines().next().unwrap_or_default()).collect();
    first_lines.sort_unstable();
    first_lines.dedup();
    ensure!(first_lines.len() == CASES.len(), "two errors begin alike: {first_lines:#?}");
    guide::check(&shown)
}
