//! One line, with its bytes and the fields in it.

use super::Entry;
use std::ops::Range;
use std::path::PathBuf;

/// Device, mount point, type, options, dump, pass; what follows is no field.
const FIELDS: usize = 6;

/// A line with its end.
#[derive(Clone, Debug)]
pub(super) struct Line<'a> {
    pub(super) bytes: &'a [u8],
    /// Where its fields are; none in a comment or an empty line.
    pub(super) fields: Vec<Range<usize>>,
}

impl<'a> Line<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Line<'a> {
        let content = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let mut fields = Vec::new();
        let mut at = 0;
        while fields.len() < FIELDS {
            at += content[at..].iter().take_while(|byte| is_blank(byte)).count();
            let length = content[at..].iter().take_while(|byte| !is_blank(byte)).count();
            // In front it makes the line a comment; behind the type it is one that a person wrote there.
            let is_comment = content.get(at) == Some(&b'#') && (fields.is_empty() || fields.len() > 2);
            if length == 0 || is_comment {
                break;
            }
            fields.push(at..at + length);
            at += length;
        }
        Line { bytes, fields }
    }

    /// What it mounts; `None` when it has not even a mount point.
    pub(super) fn entry(&self, number: usize) -> Option<Entry> {
        let field = |n: usize| self.fields.get(n).map(|range| unescape(&self.bytes[range.clone()]));
        let options = field(3).unwrap_or_else(|| "defaults".to_owned());
        Some(Entry {
            line: number,
            device: field(0)?,
            place: PathBuf::from(field(1)?),
            kind: field(2).unwrap_or_default(),
            options: options.split(',').map(str::to_owned).collect(),
        })
    }

    pub(super) fn ends_with_carriage_return(&self) -> bool {
        self.bytes.ends_with(b"\r\n")
    }
}

/// The text as it stands in a field: blanks, controls, backslashes and `#` as `\040` and the like.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '#' | '\x7f' | '\0'..=' ' => escaped.push_str(&format!("\\{:03o}", u32::from(c))),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// The text that stands in a field. A backslash without an octal number of a byte stays.
pub fn unescape(field: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        match after.get(..3).filter(|_| *first == b'\\').and_then(octal) {
            Some(code) => {
                bytes.push(code);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn octal(digits: &[u8]) -> Option<u8> {
    let is_octal = digits.iter().all(|digit| (b'0'..=b'7').contains(digit));
    let value = digits.iter().fold(0u32, |value, digit| value * 8 + u32::from(digit.wrapping_sub(b'0')));
    is_octal.then_some(value).and_then(|value| value.try_into().ok())
}
