//! docs/guide/register.md, made of what the real program said in the test of all errors.
//!
//! `UPDATE_DOCS=1 cargo test -p registering errors` writes it anew.

use crate::errors::in_words;
use crate::table::CASES;
use anyhow::{Context, Result, ensure};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What stands before the errors.
const BEGINNING: &str = include_str!("guide.md");

/// A text without what is so in one run only.
pub(crate) fn neutral(error: &str, names: &[(String, String)]) -> String {
    let mut text = error.trim().to_owned();
    for (one, other) in names {
        text = text.replace(one, other);
    }
    let mut prints: Vec<String> = Vec::new();
    for word in error.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() == 64) {
        if !prints.iter().any(|known| known == word) {
            prints.push(word.to_owned());
        }
    }
    for (number, print) in prints.iter().enumerate() {
        let digits = ["3f9a41c07be2d856", "c41d07f26a93be58"][number % 2];
        text = text.replace(print, &digits.repeat(4));
    }
    text
}

/// Holds the page against what was said.
pub(crate) fn check(shown: &[String]) -> Result<()> {
    let page = page(shown)?;
    let path = path();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()));
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    for (case, text) in CASES.iter().zip(shown) {
        ensure!(
            in_words(&there).contains(&in_words(text)),
            "docs/guide/register.md does not say of {:?} what the program says; UPDATE_DOCS=1 cargo test -p registering \
             errors\n{text}",
            case.title
        );
    }
    ensure!(
        in_words(&there) == in_words(&page),
        "docs/guide/register.md is not what it was made of; UPDATE_DOCS=1 cargo test -p registering errors"
    );
    Ok(())
}

fn page(shown: &[String]) -> Result<String> {
    let mut page = BEGINNING.to_owned();
    for case in &CASES {
        let anchor: String = case.title.to_lowercase().replace(' ', "-");
        let anchor: String = anchor.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect();
        writeln!(page, "| [{}](#{anchor}) | `{}` |", case.title, case.code)?;
    }
    for (case, text) in CASES.iter().zip(shown) {
        writeln!(page, "\n### {}\n\n{}\n\n```text\n{text}\n```", case.title, case.when)?;
    }
    Ok(page)
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/register.md")
}
