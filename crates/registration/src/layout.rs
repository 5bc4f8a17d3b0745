//! What went wrong, laid out for a terminal: what, why, and numbered steps.

use crate::explain::Explanation;
use std::fmt::Write;

/// Columns of a line, where words allow it: a terminal of the narrow kind.
const WIDTH: usize = 80;
/// Where the text after "why" and "do" begins.
const INDENT: usize = 8;

impl Explanation {
    /// The text that `program` shows.
    pub fn shown(&self, program: &str) -> String {
        let mut text = format!("{program}: {}\n\n  why   {}\n\n", self.what, wrapped(&self.why, INDENT));
        let several = self.next.len() > 1;
        for (index, step) in self.next.iter().enumerate() {
            let label = if index == 0 { "do" } else { "" };
            let (number, indent) =
                if several { (format!("{}. ", index + 1), INDENT + 3) } else { (String::new(), INDENT) };
            let _ = writeln!(text, "  {label:<5} {number}{}", wrapped(step, indent));
        }
        text
    }
}

/// Breaks a text into lines, the later ones indented. What stands between backquotes is a command, and stays whole.
fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut column = indent;
    for word in words(text) {
        let length = word.chars().count();
        if column > indent && column + 1 + length > WIDTH {
            lines.push('\n');
            lines.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else if column > indent {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
    }
    lines
}

/// What spaces outside of backquotes part.
fn words(text: &str) -> Vec<&str> {
    let mut quoted = false;
    let parted = text.split(move |c: char| {
        quoted ^= c == '`';
        c == ' ' && !quoted
    });
    parted.filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_numbered_and_commands_stay_whole() {
        let long =
            "look at this and that, and at what else there may be to look at, then: `a command with spaces`";
        let shown = Explanation::new("x", "what", "because", [long, "second"]).shown("mtctl");
        let expected = concat!(
            "mtctl: what\n\n  why   because\n\n",
            "  do    1. look at this and that, and at what else there may be to look at,\n",
            "           then: `a command with spaces`\n",
            "        2. second\n"
        );
        assert_eq!(shown, expected);
        let one = Explanation::new("x", "what", "because", ["only"]).shown("mtctl");
        assert_eq!(one, "mtctl: what\n\n  why   because\n\n  do    only\n");
    }

    #[test]
    fn a_word_that_is_too_long_has_a_line_of_its_own() {
        let long = "x".repeat(100);
        assert_eq!(wrapped(&format!("a {long} b"), 2), format!("a\n  {long}\n  b"));
    }
}
