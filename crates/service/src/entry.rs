//! An entry of the journal, as journald takes it: fields, each a name and a value.

use std::fmt;
use tracing::field::{Field, Visit};

/// Bytes of a value that are kept. A datagram holds some 200 KiB; nothing that we say comes near.
const LONGEST_VALUE: usize = 32 << 10;
/// Bytes of a name, by journald.
const LONGEST_NAME: usize = 64;

/// Fields of an event or span, as they were given.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    /// What an event says in words.
    pub(crate) message: String,
    /// The others, in their order.
    pub(crate) named: Vec<(&'static str, String)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name => match self.named.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = value,
                None => self.named.push((name, value)),
            },
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}

/// ` name=value` for each field.
impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.named.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

/// An entry in the making.
#[derive(Debug, Default)]
pub(crate) struct Entry(Vec<u8>);

impl Entry {
    /// Adds a field. A name becomes what journald allows: capitals, digits and underscores, none of them in front.
    pub(crate) fn add(&mut self, name: &str, value: &str) {
        let name: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .skip_while(|c| !c.is_ascii_uppercase())
            .take(LONGEST_NAME)
            .collect();
        if name.is_empty() {
            return;
        }
        let value = &value[..value.floor_char_boundary(LONGEST_VALUE)];
        self.0.extend(name.as_bytes());
        if value.contains('\n') {
            self.0.push(b'\n');
            self.0.extend((value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend(value.as_bytes());
        self.0.push(b'\n');
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_what_journald_reads() {
        let mut entry = Entry::default();
        entry.add("MESSAGE", "two\nlines");
        entry.add("item", "web01");
        entry.add("__odd.name-2", "x=y");
        entry.add("17", "no name is left");
        let wanted: &[u8] = b"MESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\nITEM=web01\nODD_NAME_2=x=y\n";
        assert_eq!(entry.bytes(), wanted);
    }

    #[test]
    fn a_value_is_cut_between_characters() {
        let mut entry = Entry::default();
        entry.add("item", &"ü".repeat(LONGEST_VALUE));
        assert_eq!(entry.bytes().len(), "ITEM=\n".len() + LONGEST_VALUE);
        let mut entry = Entry::default();
        entry.add(&"N".repeat(80), "v");
        assert_eq!(entry.bytes().len(), LONGEST_NAME + "=v\n".len());
    }
}
