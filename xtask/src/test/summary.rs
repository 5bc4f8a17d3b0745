//! What came of all tests.

use std::time::Duration;

/// What the test programs said at their ends.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Summary {
    passed: u64,
    failed: u64,
    pub(super) ignored: u64,
    programs: u64,
    pub(super) skipped: Vec<String>,
    failures: Vec<String>,
    slowest: Option<(f64, String)>,
}

impl Summary {
    /// Takes what the program `name` printed.
    pub(super) fn add(&mut self, name: &str, printed: &str) {
        for line in printed.lines() {
            self.note(name, line.trim());
        }
    }

    fn note(&mut self, name: &str, line: &str) {
        if let Some(reason) = line.strip_prefix("SKIPPED: ") {
            self.skipped.push(reason.to_owned());
        } else if let Some(test) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failures.push(format!("{test} ({name})"));
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.note_result(name, result);
        }
    }

    /// `ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s`
    fn note_result(&mut self, name: &str, result: &str) {
        self.programs += 1;
        for part in result.split([';', '.']).map(str::trim) {
            let Some((number, what)) = part.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
        let seconds =
            result.rsplit("finished in ").next().and_then(|time| time.trim_end_matches('s').parse().ok());
        let Some(seconds) = seconds else { return };
        if self.slowest.as_ref().is_none_or(|(most, _)| seconds > *most) {
            self.slowest = Some((seconds, name.to_owned()));
        }
    }

    pub(super) fn text(&self, time: Duration) -> String {
        let mut text = format!(
            "\n{} tests passed, {} failed, {} ignored, {} skipped, in {} programs and {} s\n",
            self.passed,
            self.failed,
            self.ignored,
            self.skipped.len(),
            self.programs,
            time.as_secs()
        );
        if let Some((seconds, name)) = &self.slowest {
            text += &format!("slowest: {name}, {seconds:.1} s\n");
        }
        for reason in &self.skipped {
            text += &format!("skipped: {reason}\n");
        }
        for name in &self.failures {
            text += &format!("failed: {name}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_adds_up_what_test_programs_print() {
        let mut summary = Summary::default();
        summary.add(
            "one src/lib.rs",
            "test one ... ok\nSKIPPED: it needs root\n\
             test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.50s\n",
        );
        summary.add(
            "one tests/slow.rs",
            "test two ... FAILED\n\
             test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 12.25s",
        );
        let text = summary.text(Duration::from_secs(13));
        assert!(
            text.contains("5 tests passed, 1 failed, 1 ignored, 1 skipped, in 2 programs and 13 s"),
            "{text}"
        );
        assert!(text.contains("slowest: one tests/slow.rs, 12.2 s"), "{text}");
        assert!(
            text.contains("failed: two (one tests/slow.rs)") && text.contains("skipped: it needs root"),
            "{text}"
        );
    }
}
