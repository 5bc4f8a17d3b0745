//! Bytes in JSON.

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// The most bytes that one value may hold.
pub const MAX_HEX: usize = 4096;

/// Bytes, in JSON as lower-case hexadecimal; at most [`MAX_HEX`] of them are read.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Hex(pub Vec<u8>);

impl Hex {
    /// The bytes in a text of pairs of hexadecimal digits; `None` for any other text, or a longer one.
    pub fn parse(text: &str) -> Option<Hex> {
        if !text.len().is_multiple_of(2) || text.len() > 2 * MAX_HEX {
            return None;
        }
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
        text.as_bytes().chunks_exact(2).map(pair).collect::<Option<Vec<u8>>>().map(Hex)
    }
}

impl From<&[u8]> for Hex {
    fn from(bytes: &[u8]) -> Hex {
        Hex(bytes.to_vec())
    }
}

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hex, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Hex;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "pairs of lower-case hexadecimal digits, at most {MAX_HEX} bytes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Hex, E> {
                Hex::parse(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str("a text"), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_other_texts_do_not() {
        let bytes = Hex((0..=255).collect());
        assert_eq!(Hex::parse(&bytes.to_string()), Some(bytes));
        for text in ["0", "0g", "AB", "é", &"00".repeat(MAX_HEX + 1)] {
            assert_eq!(Hex::parse(text), None);
        }
    }
}
