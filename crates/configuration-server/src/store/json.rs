//! Columns that hold JSON.

use rusqlite::types::Type;
use rusqlite::{Error, Result, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value as a column holds it.
pub(crate) fn text(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|cause| Error::ToSqlConversionFailure(cause.into()))
}

/// The value in a column.
pub(crate) fn column<T: DeserializeOwned>(row: &Row<'_>, index: usize) -> Result<T> {
    parse(index, row.get_ref(index)?.as_str()?)
}

/// The value in a column that may be empty.
pub(crate) fn optional<T: DeserializeOwned>(row: &Row<'_>, index: usize) -> Result<Option<T>> {
    row.get_ref(index)?.as_str_or_null()?.map(|text| parse(index, text)).transpose()
}

/// The value that a word in a column stands for.
pub(crate) fn word<T>(row: &Row<'_>, index: usize, parse: fn(&str) -> Option<T>) -> Result<T> {
    let word = row.get_ref(index)?.as_str()?;
    parse(word).ok_or_else(|| Error::InvalidColumnType(index, word.to_owned(), Type::Text))
}

fn parse<T: DeserializeOwned>(index: usize, text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|cause| Error::FromSqlConversionFailure(index, Type::Text, cause.into()))
}
