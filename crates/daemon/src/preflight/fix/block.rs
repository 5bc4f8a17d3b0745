//! A marked block of lines in somebody else's file.

const BEGIN: &str = "BEGIN master-target (mtctl check --undo removes this block)";
const END: &str = "END master-target";

/// The text without the block; `None` when there is none, and also when it is not whole: then a person must look.
pub(crate) fn without(text: &str, comment: &str) -> Option<String> {
    let (begin, end) = (format!("{comment} {BEGIN}"), format!("{comment} {END}"));
    let mut kept = String::with_capacity(text.len());
    let mut within = false;
    let mut found = false;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end();
        if bare == begin && !within {
            (within, found) = (true, true);
        } else if bare == end && within {
            within = false;
        } else if !within {
            kept.push_str(line);
        }
    }
    (found && !within).then_some(kept)
}

/// Whether a beginning of the block is there, whole or not.
pub(crate) fn begins(text: &str, comment: &str) -> bool {
    let begin = format!("{comment} {BEGIN}");
    text.lines().any(|line| line.trim_end() == begin)
}

/// The text with the block at its end.
pub(crate) fn with(text: &str, comment: &str, lines: &[String]) -> String {
    let mut whole = without(text, comment).unwrap_or_else(|| text.to_owned());
    if !whole.is_empty() && !whole.ends_with('\n') {
        whole.push('\n');
    }
    let lines = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    whole + &format!("{comment} {BEGIN}\n{lines}{comment} {END}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_comes_and_goes_and_every_other_byte_stays() {
        let lines = ["10.0.0.5 mt".to_owned()];
        for text in ["", "127.0.0.1 localhost\n", "a\r\n\n# END master-target\n"] {
            let whole = with(text, "#", &lines);
            assert!(whole.contains("\n10.0.0.5 mt\n"), "{whole}");
            assert_eq!(with(&whole, "#", &lines), whole);
            assert_eq!(without(&whole, "#").as_deref(), Some(text));
        }
        // A file without an end of line gets one; that much stays.
        assert_eq!(without(&with("a", "#", &lines), "#").as_deref(), Some("a\n"));
    }

    #[test]
    fn a_block_that_is_not_whole_is_left_alone() {
        let whole = with("a\n", "#", &["b".to_owned()]);
        let cut = whole.replace("# END master-target\n", "");
        assert_eq!(without(&cut, "#"), None);
        assert!(begins(&cut, "#") && !begins("a", "#"));
    }
}
