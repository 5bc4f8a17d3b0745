//! Takes secrets out of texts.
//!
//! Secrets are not looked for in the first place: files that hold some are not read into a bundle. This is the second line,
//! for what someone typed where it does not belong, and what a program printed. What is known to be a secret of this machine
//! is found wherever it stands; the rest by how it looks.

use regex_lite::{Captures, Regex};
use std::borrow::Cow;

/// What stands where a secret was.
pub(super) const LEFT_OUT: &str = "(left out)";
/// Shorter ones would be found in words.
const SHORTEST: usize = 8;
/// What the name of a secret has in it.
const WORDS: [&str; 4] = ["password", "passphrase", "secret", "token"];

/// Finds secrets.
pub(super) struct Redactor {
    known: Vec<String>,
    private_key: Regex,
    named: Regex,
    in_address: Regex,
}

impl Redactor {
    /// One that knows no secret of this machine yet.
    pub(super) fn new() -> Result<Redactor, regex_lite::Error> {
        let private_key = r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\z)";
        let value = r#""""(?s:.*?)"""|'''(?s:.*?)'''|"[^"\n]*"|'[^'\n]*'|[^\s,;]+"#;
        let named =
            format!(r#"(?i)([a-z_-]*(?:password|passphrase|secret|token)[a-z_-]*["']?\s*[=:]\s*)({value})"#);
        Ok(Redactor {
            known: Vec::new(),
            private_key: Regex::new(private_key)?,
            named: Regex::new(&named)?,
            in_address: Regex::new(r"://[^/\s:@]*:[^/\s@]*@")?,
        })
    }

    /// Each line of this is a secret, but for what frames it.
    pub(super) fn learn(&mut self, secret: &str) {
        let lines = secret.lines().map(str::trim);
        let telling = lines.filter(|line| line.len() >= SHORTEST && !line.starts_with("-----"));
        self.known.extend(telling.map(str::to_owned));
    }

    /// A text without its secrets. Patterns are slow, and logs are long: each is tried only where there is what it is about.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if text.contains("PRIVATE KEY-----") {
            text = self.private_key.replace_all(&text, "(private key left out)").into_owned();
        }
        for secret in &self.known {
            text = text.replace(secret, LEFT_OUT);
        }
        // A value over several lines, in a configuration.
        if text.contains("\"\"\"") || text.contains("'''") {
            text = self.without_named(&text);
        }
        text.split_inclusive('\n').map(|line| self.clean_line(line)).collect()
    }

    fn clean_line<'a>(&self, line: &'a str) -> Cow<'a, str> {
        let mut line = Cow::Borrowed(line);
        let lower = line.to_ascii_lowercase();
        if WORDS.iter().any(|word| lower.contains(word)) {
            line = self.without_named(&line).into();
        }
        if line.contains("://") && line.contains('@') {
            line = self.in_address.replace_all(&line, format!("://{LEFT_OUT}@")).into_owned().into();
        }
        line
    }

    fn without_named(&self, text: &str) -> String {
        let quoted = |found: &Captures<'_>| {
            let quote = found[2].chars().next().filter(|c| ['"', '\''].contains(c));
            let quote = quote.map(String::from).unwrap_or_default();
            format!("{}{quote}{LEFT_OUT}{quote}", &found[1])
        };
        self.named.replace_all(text, quoted).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(text: &str) -> String {
        let mut redactor = Redactor::new().unwrap();
        redactor.learn("-----BEGIN X-----\nMIGHAgEAMBMGByqGSM49\nab\n-----END X-----\n");
        redactor.clean(text)
    }

    #[test]
    fn secrets_go_by_what_they_are_and_how_they_look() {
        for (text, wanted) in [
            ("a MIGHAgEAMBMGByqGSM49 b", "a (left out) b"),
            ("absolutely", "absolutely"),
            ("password = \"a b\" # c", "password = \"(left out)\" # c"),
            ("smtp_password='x'", "smtp_password='(left out)'"),
            ("{\"token\":\"abc\",\"n\":1}", "{\"token\":\"(left out)\",\"n\":1}"),
            ("Passphrase: open sesame", "Passphrase: (left out) sesame"),
            ("secret = \"\"\"\none\ntwo\n\"\"\"\nx = 1", "secret = \"(left out)\"\nx = 1"),
            ("https://eve:pw@proxy:3128/", "https://(left out)@proxy:3128/"),
            (
                "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\nx",
                "(private key left out)\nx",
            ),
            ("-----BEGIN PRIVATE KEY-----\ncut short", "(private key left out)"),
            ("key = \"/var/lib/x/key.pem\"", "key = \"/var/lib/x/key.pem\""),
            ("-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----"),
        ] {
            assert_eq!(cleaned(text), wanted, "{text}");
        }
    }
}
