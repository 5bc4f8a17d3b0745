//! Which paths a Rust source names, outside of its tests.
//!
//! This reads tokens, not the language: comments and literals are left out, `use` trees are spread into whole paths,
//! and an item under `#[cfg(test)]` is passed over. That is enough to find an honest mistake.

use std::path::Path;

/// True for a file of a module that is only there for tests: `tests.rs`, or any in a folder `tests`.
pub(super) fn is_test_file(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs") || path.iter().any(|part| part == "tests")
}

/// Lines that name one of the paths `forbids`, or something below it.
pub(super) fn forbidden(text: &str, forbids: &[String]) -> Vec<(usize, String)> {
    let tokens = without_tests(&tokens(text));
    let mut found = Vec::new();
    for (line, path) in paths(&tokens) {
        let below = |forbidden: &&String| {
            path.strip_prefix(forbidden.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        if let Some(forbidden) = forbids.iter().find(below) {
            found.push((line, forbidden.clone()));
        }
    }
    found.dedup();
    found
}

#[derive(Clone, Debug, PartialEq)]
struct Token<'a> {
    line: usize,
    /// A word, `::`, or one other character.
    text: &'a str,
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(next) = text[at..].chars().next() {
        let rest = &text[at..];
        let length = passed_over(rest).unwrap_or_else(|| {
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let length = match word {
                0 if rest.starts_with("::") => 2,
                0 => next.len_utf8(),
                word => word,
            };
            tokens.push(Token { line, text: &rest[..length] });
            length
        });
        line += rest[..length].matches('\n').count();
        at += length;
    }
    tokens
}

/// Length of the white space, comment or literal that a text begins with.
fn passed_over(text: &str) -> Option<usize> {
    let until =
        |end: &str, from: usize| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    let first = text.chars().next()?;
    if first.is_whitespace() {
        return Some(first.len_utf8());
    }
    if text.starts_with("//") {
        return Some(until("\n", 0));
    }
    if text.starts_with("/*") {
        return Some(until("*/", 2));
    }
    if let Some(raw) = text.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            return Some(until(&format!("\"{}", "#".repeat(hashes)), hashes + 2));
        }
    }
    match first {
        '"' => Some(quoted(text, '"')),
        // A lifetime has no closing quote behind one character.
        '\'' if text[1..].starts_with('\\') || text.chars().nth(2) == Some('\'') => Some(quoted(text, '\'')),
        _ => None,
    }
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Leaves out each item under an attribute `#[cfg(test)]`.
fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    const ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let marked = tokens[at..].iter().map(|token| token.text).take(ATTRIBUTE.len()).eq(ATTRIBUTE);
        if marked {
            at = end_of_item(tokens, at + ATTRIBUTE.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Where the item that begins at `at` is over: behind its semicolon or its closing brace.
fn end_of_item(tokens: &[Token<'_>], mut at: usize) -> usize {
    let mut depth = 0usize;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.text {
            "{" | "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    break;
                }
            }
            ";" if depth == 0 => break,
            _ => {}
        }
    }
    at
}

/// Every path with its line, those of `use` trees in full.
fn paths(tokens: &[Token<'_>]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    // Whole prefix of each open group of a `use` tree; other braces have an empty one.
    let mut groups: Vec<String> = Vec::new();
    let mut path = String::new();
    for (at, token) in tokens.iter().enumerate() {
        let continues = tokens.get(at + 1).is_some_and(|next| next.text == "::");
        match token.text {
            "::" => path.push_str("::"),
            "{" => groups.push(std::mem::take(&mut path)),
            "}" => {
                groups.pop();
                path.clear();
            }
            text if text.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                if !path.ends_with("::") {
                    path = groups.last().cloned().unwrap_or_default();
                }
                path.push_str(text);
                if !continues {
                    found.push((token.line, std::mem::take(&mut path)));
                }
            }
            _ => path.clear(),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<usize> {
        let forbids = ["std::fs", "std::time::Instant", "libc"].map(str::to_owned);
        forbidden(text, &forbids).into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn paths_are_found_however_they_are_written() {
        assert_eq!(found("use std::fs;"), [1]);
        assert_eq!(found("use std::{\n io,\n fs::File};"), [3]);
        assert_eq!(found("use std::{io, time::{Duration,\n Instant}};"), [2]);
        assert_eq!(found("fn f() {\n let a = std::fs::read(\"x\");\n}"), [2]);
        assert_eq!(found("fn f() { g(libc::EIO, 'x', '\\'', b\"\\\"\") }"), [1]);
    }

    #[test]
    fn what_is_like_a_forbidden_path_is_not_found() {
        assert!(
            found("use std::time::Duration; // std::fs\n/* libc */ let a = \"libc\"; let b = r#\"libc\"#;")
                .is_empty()
        );
        assert!(found("fn f<'a>(fs: &'a crate::fs::Libc) { mylibc::x(self.libc2) }").is_empty());
        assert!(found("struct Instant; use std::io::{self, Read};").is_empty());
    }

    #[test]
    fn tests_are_passed_over_and_what_follows_is_not() {
        let text = "#[cfg(test)]\nmod tests { use std::fs; fn f() { libc() } }\nuse std::fs;";
        assert_eq!(found(text), [3]);
        assert_eq!(found("#[cfg(test)]\nuse std::fs;\nuse libc;"), [3]);
        assert!(is_test_file(Path::new("apply/tests.rs")) && is_test_file(Path::new("tests/a.rs")));
        assert!(!is_test_file(Path::new("tests_of_sources.rs")));
    }
}
