//! Fields of a query or a form, as browsers send them.

use std::fmt::Write;

/// Fields that are read; more are left out.
const MAX_FIELDS: usize = 64;

/// Names and values, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads `application/x-www-form-urlencoded`; what is no UTF-8 becomes replacement characters.
    pub(super) fn parse(text: &str) -> Fields {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).take(MAX_FIELDS);
        let read = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        };
        Fields(pairs.map(read).collect())
    }

    /// The first value of this name, without blanks around it; empty when there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.trim())
    }

    /// The same, exactly as it came.
    pub(super) fn exact(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// A value as a number.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.get(name).parse().ok()
    }

    /// The query with other values of some fields, for a link; empty values are left out.
    pub(super) fn with(&self, changes: &[(&str, &str)]) -> String {
        let kept = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let kept = kept.filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
        let pairs = kept.chain(changes.iter().copied()).filter(|(_, value)| !value.is_empty());
        let query: Vec<String> =
            pairs.map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        format!("?{}", query.join("&"))
    }
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match (byte, bytes.get(at..at + 2).and_then(hex)) {
            (b'+', _) => decoded.push(b' '),
            (b'%', Some(value)) => {
                decoded.push(value);
                at += 2;
            }
            _ => decoded.push(byte),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |digit: u8| (digit as char).to_digit(16);
    match digits {
        [high, low] => Some((digit(*high)? * 16 + digit(*low)?) as u8),
        _ => None,
    }
}

/// Encodes a value of a query.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte as char);
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_read_as_browsers_send_them() {
        let fields = Fields::parse("q=web+01%2Fx&state=&page=2&q=other&%zz=%4");
        assert_eq!((fields.get("q"), fields.get("state"), fields.get("none")), ("web 01/x", "", ""));
        assert_eq!((fields.number("page"), fields.number::<u32>("q")), (Some(2u32), None));
        assert_eq!(fields.get("%zz"), "%4");
        let many = "a=1&".repeat(1000);
        assert_eq!(Fields::parse(&many).0.len(), MAX_FIELDS);
    }

    #[test]
    fn a_link_keeps_the_other_fields() {
        let fields = Fields::parse("q=a%26b&page=3");
        assert_eq!(fields.with(&[("page", "4")]), "?q=a%26b&page=4");
        assert_eq!(fields.with(&[("page", "")]), "?q=a%26b");
    }

    proptest! {
        #[test]
        fn what_is_encoded_reads_back(text in ".{0,40}") {
            prop_assert_eq!(decode(&encode(&text)), text);
        }

        #[test]
        fn reading_never_panics(text in ".{0,80}") {
            Fields::parse(&text);
        }
    }
}
