//! Reading what a request says: the fields of its body, and the parameters of its query.
//!
//! Each refusal names the field, what it must be and what it is. A field or parameter that nobody asked for is refused
//! too, so a misspelt one does not pass as one that was left out.

use control_api::{ApiError, ErrorCode};
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

/// Characters that a name may have.
pub(crate) const MAX_NAME: usize = 64;
/// Entries of a list in one answer, unless the request says so.
const PAGE: u64 = 100;
/// Entries of a list in one answer at most.
const MAX_PAGE: u64 = 1000;
/// Parameters that a query may have.
const MAX_PARAMETERS: usize = 16;
/// Characters of a value that a refusal repeats.
const SHOWN: usize = 60;

/// The refusal of one field or parameter.
pub(super) fn refused(key: &str, expected: &str, found: &str) -> ApiError {
    let found: String = found.chars().take(SHOWN).collect();
    ApiError::new(
        ErrorCode::BadRequest,
        key.chars().take(SHOWN).collect::<String>(),
        "it cannot be taken",
        format!("it must be {expected}, not {found}"),
        "correct it; GET /api/v1/openapi.json describes each field and parameter",
    )
}

fn unknown(key: &str, kind: &str) -> ApiError {
    ApiError::new(
        ErrorCode::BadRequest,
        key.chars().take(SHOWN).collect::<String>(),
        format!("this {kind} is not known here"),
        "it is misspelt, or of another version",
        "correct it or leave it out; GET /api/v1/openapi.json describes each field and parameter",
    )
}

/// The fields of a body that have not been read yet.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads a body.
    pub(super) fn of(body: &[u8]) -> Result<Fields, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Fields(fields)),
            Ok(other) => Err(refused("the body", "a JSON object", &other.to_string())),
            Err(cause) => Err(ApiError::new(
                ErrorCode::BadRequest,
                "the body",
                "it is not understood",
                format!("it is no JSON: {cause}"),
                "GET /api/v1/openapi.json describes the body of each request",
            )),
        }
    }

    /// The field of this name, which has to be there.
    pub(super) fn take(&mut self, key: &'static str) -> Result<Field, ApiError> {
        self.find(key).ok_or_else(|| refused(key, "there", "left out"))
    }

    /// The field of this name, when it is there.
    pub(super) fn find(&mut self, key: &'static str) -> Option<Field> {
        self.0.remove(key).map(|value| Field { key, value })
    }

    /// Refuses what was not read.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        self.0.keys().next().map_or(Ok(()), |key| Err(unknown(key, "field")))
    }
}

/// A field of a body.
pub(super) struct Field {
    key: &'static str,
    value: Value,
}

impl Field {
    /// One that lies deeper in a body.
    pub(super) fn new(key: &'static str, value: Value) -> Field {
        Field { key, value }
    }

    fn refused(&self, expected: &str) -> ApiError {
        refused(self.key, expected, &self.value.to_string())
    }

    /// The field itself, or `None` when it is null.
    pub(super) fn unless_null(self) -> Option<Field> {
        (!self.value.is_null()).then_some(self)
    }

    /// What it holds.
    pub(super) fn value(self) -> Value {
        self.value
    }

    /// A text.
    pub(super) fn text(self) -> Result<String, ApiError> {
        match self.value {
            Value::String(text) => Ok(text),
            _ => Err(self.refused("a text")),
        }
    }

    /// A whole number; `expected` says which.
    pub(super) fn whole(self, range: RangeInclusive<u64>, expected: &str) -> Result<u64, ApiError> {
        // In JSON 60.0 is as whole as 60.
        let float = |value: &Value| value.as_f64().filter(|number| number.fract() == 0.0 && *number >= 0.0);
        let number = self.value.as_u64().or_else(|| float(&self.value).map(|number| number as u64));
        number.filter(|number| range.contains(number)).ok_or_else(|| self.refused(expected))
    }

    /// The number of a policy, group or user.
    pub(super) fn id(self) -> Result<i64, ApiError> {
        let id = self.whole(1..=i64::MAX as u64, "the id of one that there is, a whole number")?;
        Ok(id.cast_signed())
    }

    /// A name that people give: no control characters, and no blank at either end.
    pub(super) fn name(self) -> Result<String, ApiError> {
        match &self.value {
            Value::String(text) if is_name(text) => self.text(),
            _ => Err(self.refused(&format!(
                "a text of 1 to {MAX_NAME} characters without control characters, and without blanks at its ends"
            ))),
        }
    }
}

/// Whether people may call something so.
pub(crate) fn is_name(text: &str) -> bool {
    let is_blank = |character: char| character == ' ' || character == '\u{a0}';
    (1..=MAX_NAME).contains(&text.chars().count())
        && !text.contains(char::is_control)
        && !text.starts_with(is_blank)
        && !text.ends_with(is_blank)
}

/// The parameters of a query that have not been read yet.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads the part of a URL after the question mark.
    pub(super) fn of(query: &str) -> Result<Parameters, ApiError> {
        let mut found: Vec<(String, String)> = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let (Some(key), Some(value)) = (decoded(key), decoded(value)) else {
                return Err(refused("the query", "UTF-8 with percent signs as in %C3%A4", part));
            };
            if found.iter().any(|(earlier, _)| *earlier == key) {
                return Err(refused(&key, "there once", "repeated"));
            }
            if found.len() == MAX_PARAMETERS {
                return Err(refused("the query", &format!("at most {MAX_PARAMETERS} parameters"), "more"));
            }
            found.push((key, value));
        }
        Ok(Parameters(found))
    }

    fn take(&mut self, key: &str) -> Option<String> {
        let place = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.swap_remove(place).1)
    }

    /// A whole number.
    pub(super) fn whole(&mut self, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.take(key) else { return Ok(None) };
        // What `parse` takes beside digits is a plus sign.
        let number = text.parse().ok().filter(|number| range.contains(number) && !text.starts_with('+'));
        let expected = || format!("a whole number from {} to {}", range.start(), range.end());
        number.map(Some).ok_or_else(|| refused(key, &expected(), &format!("{text:?}")))
    }

    /// A number of something that the store has.
    pub(super) fn id(&mut self, key: &str) -> Result<Option<i64>, ApiError> {
        Ok(self.whole(key, 1..=i64::MAX as u64)?.map(u64::cast_signed))
    }

    /// True or false.
    pub(super) fn flag(&mut self, key: &str) -> Result<Option<bool>, ApiError> {
        self.choice(key, &[("true", true), ("false", false)])
    }

    /// One of these.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.take(key) else { return Ok(None) };
        let names = || choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        match choices.iter().find(|(name, _)| *name == text) {
            Some((_, choice)) => Ok(Some(*choice)),
            None => Err(refused(key, &format!("one of {}", names()), &format!("{text:?}"))),
        }
    }

    /// A text that is looked for.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, ApiError> {
        let Some(text) = self.take(key) else { return Ok(None) };
        match (1..=100).contains(&text.chars().count()) && !text.contains(char::is_control) {
            true => Ok(Some(text)),
            false => {
                let expected = "a text of 1 to 100 characters without control characters";
                Err(refused(key, expected, &format!("{text:?}")))
            }
        }
    }

    /// The id of a host or job: 32 hexadecimal digits.
    pub(super) fn host_or_job(&mut self, key: &str, kind: &str) -> Result<Option<String>, ApiError> {
        let Some(text) = self.take(key) else { return Ok(None) };
        match is_host_id(&text) {
            true => Ok(Some(text)),
            false => {
                let expected = format!("the id of a {kind}, 32 hexadecimal digits");
                Err(refused(key, &expected, &format!("{text:?}")))
            }
        }
    }

    /// How many entries are wanted.
    pub(super) fn limit(&mut self) -> Result<u64, ApiError> {
        Ok(self.whole("limit", 1..=MAX_PAGE)?.unwrap_or(PAGE))
    }

    /// Which part of a list is wanted.
    pub(super) fn page(&mut self) -> Result<Page, ApiError> {
        let limit = self.limit()?;
        Ok(Page { limit, offset: self.whole("offset", 0..=u64::from(u32::MAX))?.unwrap_or(0) })
    }

    /// Refuses what was not read.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        self.0.first().map_or(Ok(()), |(key, _)| Err(unknown(key, "parameter")))
    }
}

/// Whether a text can be the id of a host or job.
pub(super) fn is_host_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A text without its percent signs; `None` when it is not UTF-8 or a percent sign stands alone.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                u8::try_from(high << 4 | low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Entries that are wanted at most.
    pub(super) limit: u64,
    /// Entries before the first one.
    pub(super) offset: u64,
}

impl Page {
    /// This part of a whole list.
    pub(super) fn of<T>(self, all: Vec<T>) -> Vec<T> {
        let offset = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        all.into_iter().skip(offset).take(limit).collect()
    }
}

#[cfg(test)]
mod tests;
