//! What people get to see of the checks: one line for what is right, a paragraph for what is not.

use crate::preflight::{Attestation, Check, Report, Row, Severity, Step, Verdict};
use std::fmt::Write;

/// Lines are no longer than this; it fits every terminal.
const WIDTH: usize = 80;

/// Where the text after a verdict begins.
const INDENT: usize = 11;

/// Where the words after found, needed and mend (or do) begin.
const DEEP: usize = 19;

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "ok",
        Verdict::Failed => "FAILED",
        Verdict::Warning => "warning",
        Verdict::CannotTell => "unknown",
    }
}

fn painted(verdict: Verdict, colour: bool) -> String {
    let padded = format!("{:<9}", word(verdict));
    let code = match verdict {
        Verdict::Passed => 32,
        Verdict::Failed => 31,
        Verdict::Warning => 33,
        Verdict::CannotTell => 36,
    };
    if colour { format!("\x1b[{code}m{padded}\x1b[0m") } else { padded }
}

/// All rows by group, and a summary.
pub(super) fn report(report: &Report, colour: bool) -> String {
    let mut text = String::new();
    let mut group = None;
    for row in &report.rows {
        if group != Some(row.check.group) {
            let _ = writeln!(text, "{}{}", if group.is_some() { "\n" } else { "" }, row.check.group);
            group = Some(row.check.group);
        }
        line(row, colour, &mut text);
    }
    text + &summary(report)
}

fn line(row: &Row, colour: bool, text: &mut String) {
    let begin = format!("  {}", painted(row.verdict, colour));
    let part = |name: &str, words: &str, text: &mut String| {
        let _ = writeln!(text, "{:INDENT$}{name:<8}{}", "", wrapped(words, DEEP, DEEP));
    };
    if matches!(row.verdict, Verdict::Failed | Verdict::Warning) {
        let _ = writeln!(text, "{begin}{}: {}", row.check.id, row.check.title);
        part("found", &row.found, text);
        part("needed", row.check.needed, text);
    } else {
        let found = wrapped(&format!("{}: {}", row.check.id, row.found), INDENT, INDENT + 2);
        let _ = writeln!(text, "{begin}{found}");
    }
    if let Some(remedy) = &row.remedy {
        let name = if row.verdict == Verdict::CannotTell { "do" } else { "mend" };
        part(name, remedy, text);
    }
}

fn summary(report: &Report) -> String {
    let count = |verdict| report.count(verdict);
    let mut text = format!(
        "\n{} passed, {} failed, {} {}, {} unknown\n",
        count(Verdict::Passed),
        count(Verdict::Failed),
        count(Verdict::Warning),
        if count(Verdict::Warning) == 1 { "warning" } else { "warnings" },
        count(Verdict::CannotTell)
    );
    let broken = |row: &&Row| matches!(row.verdict, Verdict::Failed | Verdict::Warning);
    let fixable = report.rows.iter().filter(broken).filter(|row| row.check.fixable()).count();
    if fixable > 0 {
        let _ = writeln!(text, "mtctl check --fix mends {fixable} of them, after asking");
    }
    if let Some(first) = report.rows.iter().find(|row| row.verdict != Verdict::Passed) {
        let _ =
            writeln!(text, "mtctl check --explain ID tells why, for example: --explain {}", first.check.id);
    }
    text
}

/// Why there is a check.
pub(super) fn explanation(check: &Check) -> String {
    let severity = match check.severity {
        Severity::Failure => "a failure",
        Severity::Warning => "a warning",
    };
    let mend = match check.fixable() {
        true => format!("mtctl check --fix --only {} mends it, after asking.", check.id),
        false => "It has to be mended by hand; mtctl check shows how when the rule is broken.".to_owned(),
    };
    format!(
        "{} ({})\n\n{}\nWhen it is broken, that is {severity}.\n\n{}\n\n{}\n",
        check.title,
        check.id,
        wrapped(&format!("Rule: {}.", check.needed), 0, 0),
        wrapped(check.why, 0, 0),
        wrapped(&mend, 0, 0)
    )
}

/// What will be mended, and what will not.
pub(super) fn plan(steps: &[Step], refused: &[String]) -> String {
    let mut text = String::new();
    if steps.is_empty() {
        text.push_str("there is nothing that can be mended from here\n");
    } else {
        text.push_str("This will be changed; mtctl check --undo takes it back:\n");
    }
    for step in steps {
        let begin = format!("{}: {}", step.check, step.shown);
        let _ = writeln!(text, "  {}", wrapped(&begin, 2, 4));
    }
    for reason in refused {
        let _ = writeln!(text, "not mended: {}", wrapped(reason, 12, 4));
    }
    text
}

/// That an answer was kept.
pub(super) fn attested(check: &Check, kept: &Attestation) -> String {
    format!("kept: {} says that {}\n", kept.by, check.needed)
}

/// Text in lines of at most [`WIDTH`], the first of which begins at column `first`, the others after `indent` blanks.
/// A word that is longer has a line of its own.
fn wrapped(text: &str, first: usize, indent: usize) -> String {
    let mut lines = String::new();
    let mut column = first;
    let mut begins = true;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !begins && column + 1 + length > WIDTH {
            let _ = write!(lines, "\n{:indent$}", "");
            column = indent;
            begins = true;
        }
        if !begins {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
        begins = false;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight;

    fn row(id: &str, verdict: Verdict, found: &str, remedy: Option<&str>) -> Row {
        let check = preflight::find(id).unwrap();
        Row { check, verdict, found: found.into(), remedy: remedy.map(str::to_owned) }
    }

    fn sample() -> Report {
        let rows = vec![
            row("operating-system", Verdict::Passed, "Ubuntu 16.04.2 LTS, amd64", None),
            row(
                "kernel",
                Verdict::Failed,
                "4.4.0-82-generic is not a supported kernel",
                Some("install another"),
            ),
            row("kernel-pinned", Verdict::Warning, "x", Some("apt-mark hold x")),
            row("snapshots", Verdict::CannotTell, "nobody has answered", None),
        ];
        Report { rows }
    }

    #[test]
    fn a_report_is_short_where_all_is_well_and_clear_where_it_is_not() {
        let expected = "\
Machine and operating system
  ok       operating-system: Ubuntu 16.04.2 LTS, amd64
  FAILED   kernel: Kernel
           found   4.4.0-82-generic is not a supported kernel
           needed  4.4.0 up to -81, 4.8.0 up to -56 or 4.10.0 up to -24, each
                   generic
           mend    install another
  warning  kernel-pinned: Kernel upgrades
           found   x
           needed  the kernel's packages, and the meta packages that bring newer
                   ones, are on hold
           mend    apt-mark hold x

What only people can answer
  unknown  snapshots: nobody has answered

1 passed, 1 failed, 1 warning, 1 unknown
mtctl check --fix mends 1 of them, after asking
mtctl check --explain ID tells why, for example: --explain kernel
";
        assert_eq!(report(&sample(), false), expected);
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let coloured = report(&sample(), true);
        assert!(coloured.contains("\x1b[31mFAILED"));
        let mut plain = coloured;
        for code in ["31", "32", "33", "36", "0"] {
            plain = plain.replace(&format!("\x1b[{code}m"), "");
        }
        assert_eq!(plain, report(&sample(), false));
    }

    #[test]
    fn the_json_is_as_documented() {
        let value = sample().json();
        assert_eq!((&value["failed"], &value["warnings"]), (&1.into(), &1.into()));
        let kernel = &value["checks"][1];
        assert_eq!(kernel["verdict"], "failed");
        let mut keys: Vec<&str> = kernel.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["fixable", "found", "id", "needed", "remedy", "title", "verdict"]);
        assert_eq!(value["checks"][3]["verdict"], "cannot-tell");
    }

    #[test]
    fn everything_that_is_said_fits_on_a_screen() {
        for check in preflight::all() {
            let text = explanation(check);
            assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        }
    }
}
