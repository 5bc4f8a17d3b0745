//! Running all tests, and summing them up.

use crate::command::{cargo, shown};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Read};
use std::time::{Duration, Instant};

/// Told to tests that would rather be skipped, without root for example: fail instead.
const NO_SKIPS: &str = "MASTER_TARGET_NO_SKIPS";

/// How many worlds each simulation lives through, unless the caller says so.
const RUNS: (&str, &str) = ("SIMULATION_RUNS", "100000");

/// What the test programs said at their ends.
#[derive(Debug, Default, PartialEq)]
struct Summary {
    passed: u64,
    failed: u64,
    ignored: u64,
    programs: u64,
    skipped: Vec<String>,
    failures: Vec<String>,
    slowest: Option<(f64, String)>,
    running: String,
}

/// Runs all tests. With `no_skips` a test that was skipped or ignored is a failure.
pub(crate) fn run(no_skips: bool) -> Result<()> {
    let begun = Instant::now();
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast", "--locked"]);
    // One pipe for both: what cargo says and what the tests print stays in its order.
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    if no_skips {
        command.env(NO_SKIPS, "1");
    }
    if std::env::var_os(RUNS.0).is_none() {
        command.env(RUNS.0, RUNS.1);
    }
    let mut child = command.spawn().with_context(|| format!("cannot start {}", shown(&command)))?;
    // The command holds ends of the pipe: while they are open, the pipe does not end.
    let words = shown(&command);
    drop(command);
    let summary = pass_on(reader);
    let status = child.wait()?;
    if summary.programs > 0 {
        print!("{}", summary.text(begun.elapsed()));
    }
    if !status.success() {
        bail!("{words} failed ({status})");
    }
    if no_skips && (summary.ignored > 0 || !summary.skipped.is_empty()) {
        bail!("tests were skipped or ignored, which is not allowed here");
    }
    Ok(())
}

/// Shows each line and notes what it says.
fn pass_on(output: impl Read) -> Summary {
    let mut summary = Summary::default();
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        summary.note(&line);
    }
    summary
}

impl Summary {
    fn note(&mut self, line: &str) {
        let line = line.trim();
        if let Some(reason) = line.strip_prefix("SKIPPED: ") {
            self.skipped.push(reason.to_owned());
        } else if let Some(name) = line.strip_prefix("Running ").or_else(|| line.strip_prefix("Doc-tests ")) {
            self.running = name.split(" (").next().unwrap_or(name).to_owned();
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failures.push(format!("{name} ({})", self.running));
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.note_result(result);
        }
    }

    /// `ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s`
    fn note_result(&mut self, result: &str) {
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
            self.slowest = Some((seconds, self.running.clone()));
        }
    }

    fn text(&self, time: Duration) -> String {
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
        for line in [
            "     Running unittests src/lib.rs (target/debug/deps/a-1)",
            "test one ... ok",
            "SKIPPED: it needs root",
            "test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.50s",
            "     Running tests/slow.rs (target/debug/deps/b-1)",
            "test two ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 12.25s",
        ] {
            summary.note(line);
        }
        let text = summary.text(Duration::from_secs(13));
        assert!(
            text.contains("5 tests passed, 1 failed, 1 ignored, 1 skipped, in 2 programs and 13 s"),
            "{text}"
        );
        assert!(text.contains("slowest: tests/slow.rs, 12.2 s"), "{text}");
        assert!(
            text.contains("failed: two (tests/slow.rs)") && text.contains("skipped: it needs root"),
            "{text}"
        );
    }
}
