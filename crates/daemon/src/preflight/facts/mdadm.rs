//! What mdadm assembles by itself, by mdadm.conf(5).
//!
//! The first `AUTO` line counts. Its words are tried in order on each array that has no `ARRAY` line: `+1.x` takes those
//! with this metadata, `-all` refuses all that are left, `homehost` and `yes` take. A line that begins with white space
//! goes on with the one before, and an unquoted word that begins with `#` begins a comment.

/// The words of the first `AUTO` line.
pub(crate) fn auto(text: &str) -> Option<Vec<String>> {
    lines(text)
        .into_iter()
        .find(|words| words[0].eq_ignore_ascii_case("auto"))
        .map(|words| words[1..].to_vec())
}

/// Whether these words take no array at all.
pub(crate) fn is_off(words: &[String]) -> bool {
    let until = words.iter().position(|word| word == "-all");
    until.is_some_and(|end| words[..end].iter().all(|word| word.starts_with('-')))
}

/// Whether any array has a line of its own.
pub(crate) fn lists_arrays(text: &str) -> bool {
    lines(text).iter().any(|words| words[0].eq_ignore_ascii_case("array"))
}

/// The lines that say something, each as its words.
fn lines(text: &str) -> Vec<Vec<String>> {
    let mut lines: Vec<Vec<String>> = Vec::new();
    for line in text.lines() {
        let words = line.split_whitespace().take_while(|word| !word.starts_with('#')).map(str::to_owned);
        let words: Vec<String> = words.collect();
        match (line.starts_with([' ', '\t']), lines.last_mut()) {
            (true, last) => last.into_iter().for_each(|last| last.extend(words.iter().cloned())),
            (false, _) if words.is_empty() => {}
            (false, _) => lines.push(words),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn off(text: &str) -> Option<bool> {
        auto(text).map(|words| is_off(&words))
    }

    #[test]
    fn only_a_line_that_refuses_everything_is_off() {
        assert_eq!(off("MAILADDR root\n"), None);
        assert_eq!(off("#AUTO -all\n"), None);
        assert_eq!(off("# Ours\nAUTO -all\n"), Some(true));
        assert_eq!(off("auto -0.90\n  -all # nothing\n"), Some(true));
        assert_eq!(off("AUTO +1.x -all\n"), Some(false));
        assert_eq!(off("AUTO homehost -all\n"), Some(false));
        assert_eq!(off("AUTO +1.x\nAUTO -all\n"), Some(false));
        assert_eq!(off("AUTO\n"), Some(false));
    }

    #[test]
    fn arrays_are_seen() {
        assert!(lists_arrays("DEVICE partitions\nARRAY /dev/md0 UUID=1:2:3:4\n"));
        assert!(!lists_arrays("# ARRAY /dev/md0\n ARRAY x\n"));
    }
}
