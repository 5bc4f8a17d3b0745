//! What a bundle holds, within bounds, and what it does not.

use super::redact::Redactor;
use disk::Bytes;
use serde::Serialize;
use std::fmt::Write;

/// Bytes of a file that are kept.
const LARGEST_FILE: usize = 4 << 20;
/// Bytes of all files together.
const LARGEST: usize = 48 << 20;
const MANIFEST: &str = "manifest.txt";

/// What never is in a bundle.
const NEVER: &str = "private keys, passphrases, passwords, replicated data, recovery points";

/// Which end of a long text matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// The first bytes.
    Beginning,
    /// The last ones: what happened most recently.
    End,
}

/// Something that is not in the bundle.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Absent {
    /// What it would have been.
    pub(super) name: String,
    /// Why it is not there.
    pub(super) reason: String,
}

/// Files, and what is said of others.
pub(super) struct Bundle {
    redactor: Redactor,
    files: Vec<(String, Vec<u8>)>,
    missing: Vec<Absent>,
    left_out: Vec<Absent>,
}

impl Bundle {
    /// An empty one.
    pub(super) fn new(redactor: Redactor) -> Bundle {
        Bundle { redactor, files: Vec::new(), missing: Vec::new(), left_out: Vec::new() }
    }

    /// Adds a file, without the secrets that are found in it.
    pub(super) fn add(&mut self, name: &str, text: &str, keep: Keep) {
        let text = self.redactor.clean(text);
        let kept = cut(&text, keep);
        let held: usize = self.files.iter().map(|(_, content)| content.len()).sum();
        if held + kept.len() > LARGEST {
            return self.miss(name, format!("the bundle would be larger than {}", Bytes(LARGEST as u64)));
        }
        if kept.len() < text.len() {
            let reason = format!("{} of its {} are kept", Bytes(kept.len() as u64), Bytes(text.len() as u64));
            self.left_out.push(Absent { name: format!("part of {name}"), reason });
        }
        self.files.push((name.to_owned(), kept.as_bytes().to_vec()));
    }

    /// A file could not be had.
    pub(super) fn miss(&mut self, name: &str, reason: impl ToString) {
        self.missing.push(Absent { name: name.to_owned(), reason: self.redactor.clean(&reason.to_string()) });
    }

    /// A file is left out on purpose.
    pub(super) fn leave_out(&mut self, name: &str, reason: &str) {
        self.left_out.push(Absent { name: name.to_owned(), reason: reason.to_owned() });
    }

    /// The text of a file that is in it.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let (_, content) = self.files.iter().find(|(known, _)| known == name)?;
        std::str::from_utf8(content).ok()
    }

    /// The names of its files.
    pub(super) fn names(&self) -> Vec<&str> {
        std::iter::once(MANIFEST).chain(self.files.iter().map(|(name, _)| name.as_str())).collect()
    }

    /// What could not be had.
    pub(super) fn missing(&self) -> &[Absent] {
        &self.missing
    }

    /// What is left out on purpose.
    pub(super) fn left_out(&self) -> &[Absent] {
        &self.left_out
    }

    /// All files, the manifest first.
    pub(super) fn all(&self) -> Vec<(String, Vec<u8>)> {
        let mut all = vec![(MANIFEST.to_owned(), self.summary().into_bytes())];
        all.extend(self.files.iter().cloned());
        all
    }

    /// What is in it and what is not, for people.
    pub(super) fn summary(&self) -> String {
        let mut text = "In the bundle:\n".to_owned();
        for (name, content) in &self.files {
            // Writing to a string never fails.
            let _ = writeln!(text, "  {name}, {}", Bytes(content.len() as u64));
        }
        for (title, absent) in [("Could not be had:", &self.missing), ("Left out:", &self.left_out)] {
            let _ = writeln!(text, "{title}");
            absent.iter().for_each(|Absent { name, reason }| {
                let _ = writeln!(text, "  {name}: {reason}");
            });
            if absent.is_empty() {
                text += "  nothing\n";
            }
        }
        let _ = writeln!(text, "Never in a bundle: {NEVER}.");
        text
    }
}

/// What of a text is kept, in whole characters.
fn cut(text: &str, keep: Keep) -> &str {
    match keep {
        Keep::Beginning => &text[..text.floor_char_boundary(LARGEST_FILE)],
        Keep::End => &text[text.ceil_char_boundary(text.len().saturating_sub(LARGEST_FILE))..],
    }
}

/// A name that a file can have.
pub(super) fn file_name(name: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || ['.', '-', '_'].contains(&c) { c } else { '_' };
    name.chars().map(kept).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_bounded_and_says_what_is_not_in_it() {
        let mut bundle = Bundle::new(Redactor::new().unwrap());
        bundle.add("log.txt", &format!("old{}new", "x".repeat(LARGEST_FILE)), Keep::End);
        assert!(bundle.text("log.txt").is_some_and(|text| text.ends_with("new") && !text.contains("old")));
        for number in 0..LARGEST / LARGEST_FILE {
            bundle.add(&format!("{number}"), &"y".repeat(LARGEST_FILE), Keep::Beginning);
        }
        bundle.miss("lsblk.txt", "it said password=hunter22");
        bundle.leave_out("key.pem", "a private key");
        assert!(
            bundle.all().iter().map(|(_, content)| content.len()).sum::<usize>() <= LARGEST + LARGEST_FILE
        );
        let summary = bundle.summary();
        assert!(summary.contains("\n  part of log.txt: 4 MiB of its "), "{summary}");
        for line in [
            "  11: the bundle would be larger than 48 MiB",
            "  lsblk.txt: it said password=(left out)",
            "  key.pem: a private key",
        ] {
            assert!(summary.lines().any(|one| one == line), "{line}\n{summary}");
        }
    }

    #[test]
    fn names_of_items_become_names_of_files() {
        assert_eq!(file_name("../we b/01"), ".._we_b_01");
    }
}
