//! The passphrase that hosts register with.

use rand_core::RngCore;
use std::fmt;
use zeroize::Zeroizing;

/// Letters and digits that nobody takes for one another: no 0, O, o, 1, l, I.
const ALPHABET: &[u8; 56] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz";

/// Characters of a passphrase that is made here: 20 of 56 are 116 bits.
pub const PASSPHRASE_LENGTH: usize = 20;

/// The longest passphrase, in bytes.
const LONGEST: usize = 128;

/// A passphrase. It is shown only to who asks for it by [`Passphrase::reveal`], and wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(Zeroizing<String>);

/// Why a text is no passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PassphraseError {
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// It is longer than any passphrase.
    #[error("it is longer than {LONGEST} characters")]
    TooLong,
    /// There is more than one line.
    #[error("it has more than one line")]
    Lines,
    /// There is something that cannot be typed.
    #[error("it holds characters that are neither letters, digits nor signs of ASCII")]
    Characters,
}

impl Passphrase {
    /// Reads a passphrase as it lies in a file: a newline or CRLF at the end, and blanks around, do not belong to it.
    pub fn parse(text: &str) -> Result<Passphrase, PassphraseError> {
        let text = text.trim_matches([' ', '\t', '\r', '\n', '\u{feff}']);
        if text.is_empty() {
            return Err(PassphraseError::Empty);
        }
        if text.len() > LONGEST {
            return Err(PassphraseError::TooLong);
        }
        if text.contains('\n') {
            return Err(PassphraseError::Lines);
        }
        match text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Passphrase(Zeroizing::new(text.to_owned()))),
            false => Err(PassphraseError::Characters),
        }
    }

    /// A new one, each character as likely as any other.
    pub fn generate(random: &mut impl RngCore) -> Passphrase {
        // Bytes from here on would make the first letters of the alphabet likelier.
        const FAIR: u8 = (256 / ALPHABET.len() * ALPHABET.len()) as u8;
        let mut text = Zeroizing::new(String::with_capacity(PASSPHRASE_LENGTH));
        while text.len() < PASSPHRASE_LENGTH {
            let mut byte = [0];
            random.fill_bytes(&mut byte);
            if byte[0] < FAIR {
                text.push(char::from(ALPHABET[usize::from(byte[0]) % ALPHABET.len()]));
            }
        }
        Passphrase(text)
    }

    /// The passphrase itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_written_by_any_editor_are_read() {
        for text in ["abc123", "abc123\n", "abc123\r\n", "\u{feff}abc123\r\n\n", " abc123\t"] {
            assert_eq!(Passphrase::parse(text).unwrap().reveal(), "abc123", "{text:?}");
        }
    }

    #[test]
    fn what_is_no_passphrase_is_refused() {
        let refused = |text: &str| Passphrase::parse(text).unwrap_err();
        assert_eq!(refused(" \r\n"), PassphraseError::Empty);
        assert_eq!(refused(&"x".repeat(129)), PassphraseError::TooLong);
        assert_eq!(refused("a\nb"), PassphraseError::Lines);
        assert_eq!(refused("a b"), PassphraseError::Characters);
        assert_eq!(refused("pässphrase"), PassphraseError::Characters);
    }

    #[test]
    fn it_is_not_shown_by_accident() {
        assert_eq!(format!("{:?}", Passphrase::parse("secret").unwrap()), "Passphrase(…)");
    }

    #[test]
    fn new_ones_use_the_whole_alphabet_and_nothing_else() {
        let mut random = super::super::handshake::tests::Counter::new(7);
        let all: String = (0..200).map(|_| Passphrase::generate(&mut random).reveal().to_owned()).collect();
        assert_eq!(all.len(), 200 * PASSPHRASE_LENGTH);
        assert!(ALPHABET.iter().all(|letter| all.contains(char::from(*letter))));
        assert!(all.bytes().all(|byte| ALPHABET.contains(&byte)));
        let bits = (ALPHABET.len() as f64).log2() * PASSPHRASE_LENGTH as f64;
        assert!(bits >= 80.0, "{bits}");
    }
}
