//! Reads one table of the file at a time, and knows where each value stands.

use super::units;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

const PATH_EXPECTED: &str = "an absolute path";

/// A configuration that cannot be used: where, and what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {message}", line.map(|line| format!(", line {line}")).unwrap_or_default())]
pub struct ConfigError {
    /// The file.
    pub file: String,
    /// Line in it, from 1; `None` when the file itself cannot be read.
    pub line: Option<usize>,
    /// What is wrong and what is expected.
    pub message: String,
}

/// The file being read.
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

impl Source<'_> {
    pub(super) fn error(&self, at: &Range<usize>, message: impl Into<String>) -> ConfigError {
        let before = self.text.as_bytes().get(..at.start).unwrap_or(self.text.as_bytes());
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        ConfigError { file: self.file.to_string(), line: Some(line), message: message.into() }
    }
}

/// A value and where it stands.
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) at: Range<usize>,
}

type Result<T> = std::result::Result<T, ConfigError>;

/// One table. Each getter notes the key it was asked for; [`Section::finish`] refuses every other key.
pub(super) struct Section<'a> {
    source: &'a Source<'a>,
    name: String,
    at: Range<usize>,
    table: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub(super) fn root(source: &'a Source<'a>, table: &'a DeTable<'a>) -> Section<'a> {
        Section { source, name: String::new(), at: 0..0, table: Some(table), known: Vec::new() }
    }

    /// What to call a key of this table in a message.
    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_string() } else { format!("{}.{key}", self.name) }
    }

    pub(super) fn error(&self, message: impl Into<String>) -> ConfigError {
        self.source.error(&self.at, message)
    }

    pub(super) fn error_at(&self, at: &Range<usize>, message: impl Into<String>) -> ConfigError {
        self.source.error(at, message)
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.push(key);
        self.table?.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    fn wrong<T>(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) -> Result<T> {
        let found = match value.get_ref() {
            DeValue::String(text) => format!("the text {text:?}"),
            DeValue::Integer(number) => format!("the number {number}"),
            other => format!("a value of type {}", other.type_str()),
        };
        Err(self.source.error(&value.span(), format!("{} must be {expected}, not {found}", self.path(key))))
    }

    /// A text that is there, or nothing.
    pub(super) fn text(&mut self, key: &'static str, expected: &str) -> Result<Option<Found<String>>> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => match value.get_ref() {
                DeValue::String(text) => Ok(Some(Found { value: text.to_string(), at: value.span() })),
                _ => self.wrong(key, value, expected),
            },
        }
    }

    /// A text that must be there.
    pub(super) fn required(&mut self, key: &'static str, expected: &str) -> Result<Found<String>> {
        match self.text(key, expected)? {
            Some(found) => Ok(found),
            None => {
                Err(self.source.error(&self.at, format!("{} is missing: give {expected}", self.path(key))))
            }
        }
    }

    /// A text that `parse` understands.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        Ok(self.located(key, expected, parse)?.map(|found| found.value))
    }

    /// The same, with its place.
    pub(super) fn located<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<Found<T>>> {
        let Some(found) = self.text(key, expected)? else { return Ok(None) };
        match parse(&found.value) {
            Some(value) => Ok(Some(Found { value, at: found.at })),
            None => {
                let message =
                    format!("{} must be {expected}, not the text {:?}", self.path(key), found.value);
                Err(self.source.error(&found.at, message))
            }
        }
    }

    /// An absolute path, if it is there.
    pub(super) fn path_if_any(&mut self, key: &'static str) -> Result<Option<PathBuf>> {
        let absolute = |text: &str| text.starts_with('/').then(|| PathBuf::from(text));
        self.parsed(key, PATH_EXPECTED, absolute)
    }

    /// An absolute path; without a default it must be there.
    pub(super) fn path_or(&mut self, key: &'static str, default: Option<&str>) -> Result<PathBuf> {
        match (self.path_if_any(key)?, default) {
            (Some(path), _) => Ok(path),
            (None, Some(default)) => Ok(PathBuf::from(default)),
            (None, None) => self.required(key, PATH_EXPECTED).map(|found| PathBuf::from(found.value)),
        }
    }

    pub(super) fn duration_or(
        &mut self,
        key: &'static str,
        default: Duration,
        allowed: RangeInclusive<Duration>,
    ) -> Result<Duration> {
        let expected = format!(
            "a duration between {} and {}, such as \"15 min\" (s, min, h, d, weeks)",
            shown(*allowed.start()),
            shown(*allowed.end())
        );
        let parse = |text: &str| units::duration(text).filter(|duration| allowed.contains(duration));
        Ok(self.parsed(key, &expected, parse)?.unwrap_or(default))
    }

    pub(super) fn size(&mut self, key: &'static str, at_least: u64) -> Result<Option<u64>> {
        let expected = format!(
            "a size of at least {}, such as \"40 GiB\" (B, KiB, MiB, GiB, TiB)",
            disk::Bytes(at_least)
        );
        self.parsed(key, &expected, |text| units::size(text).filter(|size| *size >= at_least))
    }

    pub(super) fn flag_or(&mut self, key: &'static str, default: bool) -> Result<bool> {
        match self.value(key) {
            None => Ok(default),
            Some(value) => match value.get_ref() {
                DeValue::Boolean(flag) => Ok(*flag),
                _ => self.wrong(key, value, "true or false"),
            },
        }
    }

    pub(super) fn number_or(
        &mut self,
        key: &'static str,
        default: u64,
        allowed: RangeInclusive<u64>,
    ) -> Result<u64> {
        let expected = format!("a whole number between {} and {}", allowed.start(), allowed.end());
        let Some(value) = self.value(key) else { return Ok(default) };
        let number = match value.get_ref() {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        match number.filter(|number| allowed.contains(number)) {
            Some(number) => Ok(number),
            None => self.wrong(key, value, &expected),
        }
    }

    /// A table within this one; an empty one when it is missing.
    pub(super) fn table(&mut self, key: &'static str) -> Result<Section<'a>> {
        let (source, name) = (self.source, self.path(key));
        match self.value(key) {
            None => Ok(Section { source, name, at: self.at.clone(), table: None, known: Vec::new() }),
            Some(value) => match value.get_ref() {
                DeValue::Table(table) => {
                    Ok(Section { source, name, at: value.span(), table: Some(table), known: Vec::new() })
                }
                _ => self.wrong(key, value, &format!("a table, [{name}]")),
            },
        }
    }

    /// An array of tables; empty when it is missing.
    pub(super) fn tables(&mut self, key: &'static str) -> Result<Vec<Section<'a>>> {
        let name = self.path(key);
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        match value.get_ref() {
            DeValue::Array(array) => self.sections(&name, array),
            _ => self.wrong(key, value, &format!("an array of tables, [[{name}]]")),
        }
    }

    fn sections(&self, name: &str, array: &'a DeArray<'a>) -> Result<Vec<Section<'a>>> {
        let section = |value: &'a Spanned<DeValue<'a>>| match value.get_ref() {
            DeValue::Table(table) => Ok(Section {
                source: self.source,
                name: name.to_string(),
                at: value.span(),
                table: Some(table),
                known: Vec::new(),
            }),
            _ => Err(self.source.error(&value.span(), format!("each {name} must be a table"))),
        };
        array.iter().map(section).collect()
    }

    /// Refuses every key that was not asked for.
    pub(super) fn finish(self) -> Result<()> {
        let keys = self.table.into_iter().flat_map(|table| table.keys());
        let Some(unknown) =
            keys.filter(|key| !self.known.contains(&&**key.get_ref())).min_by_key(|key| key.span().start)
        else {
            return Ok(());
        };
        let name: &str = unknown.get_ref();
        let hint = match units::nearest(name, &self.known) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => format!("known here are {}", self.known.join(", ")),
        };
        Err(self.source.error(&unknown.span(), format!("unknown key {}: {hint}", self.path(name))))
    }
}

fn shown(duration: Duration) -> String {
    control_api::time::format_duration(duration.as_secs().saturating_mul(control_api::time::SECOND))
}
