//! Running all tests, and summing them up.

use crate::command::{cargo, run as run_command, shown};
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Read};
use std::process::Command;
use std::time::{Duration, Instant};

/// Told to tests that would rather be skipped, without root for example: fail instead.
const NO_SKIPS: &str = "MASTER_TARGET_NO_SKIPS";

const BASE: [&str; 4] = ["test", "--workspace", "--no-fail-fast", "--locked"];

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

/// Simulations, which wait for nothing and take one processor each for minutes: their program, and their one test. They run
/// beside all other tests.
const WORLDS: [(&str, &str); 2] = [
    ("simulation", "invariants_1_2_3_6_7_hold_in_every_seeded_world"),
    ("worlds", "invariants_1_2_3_and_7_hold_from_the_writer_to_the_recovery_point"),
];

/// Runs all tests. With `no_skips` a test that was skipped or ignored is a failure.
pub(crate) fn run(no_skips: bool) -> Result<()> {
    let begun = Instant::now();
    run_command(cargo(&BASE).arg("--no-run"))?;
    let mut worlds = tests(no_skips);
    worlds.args(WORLDS.iter().flat_map(|(program, _)| ["--test", program]));
    let mut others = tests(no_skips);
    others.arg("--").args(WORLDS.iter().flat_map(|(_, test)| ["--skip", test]));
    let (worlds, others) = std::thread::scope(|scope| {
        let worlds = scope.spawn(|| carry_out(worlds));
        let others = carry_out(others);
        (worlds.join().expect("it does not panic"), others)
    });
    let (worlds, others) = (worlds?, others?);
    let (run, wanted) = (worlds.summary.passed + worlds.summary.failed, WORLDS.len() as u64);
    let summary = worlds.summary.with(others.summary);
    print!("{}", summary.text(begun.elapsed()));
    for (failed, words) in [(worlds.failed, &worlds.words), (others.failed, &others.words)] {
        ensure!(!failed, "{words} failed");
    }
    ensure!(run == wanted, "{run} simulations ran, and there are {wanted}: has one another name?");
    if no_skips && (summary.ignored > 0 || !summary.skipped.is_empty()) {
        bail!("tests were skipped or ignored, which is not allowed here");
    }
    Ok(())
}

/// What came of a command.
struct Ran {
    summary: Summary,
    failed: bool,
    words: String,
}

fn tests(no_skips: bool) -> Command {
    let mut command = cargo(&BASE);
    if no_skips {
        command.env(NO_SKIPS, "1");
    }
    if std::env::var_os(RUNS.0).is_none() {
        command.env(RUNS.0, RUNS.1);
    }
    command
}

/// Runs tests, and shows what they print.
fn carry_out(mut command: Command) -> Result<Ran> {
    // One pipe for both: what cargo says and what the tests print stays in its order.
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("cannot start {}", shown(&command)))?;
    // The command holds ends of the pipe: while they are open, the pipe does not end.
    let words = shown(&command);
    drop(command);
    let summary = pass_on(reader);
    let failed = !child.wait()?.success();
    Ok(Ran { summary, failed, words })
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
    fn with(mut self, other: Summary) -> Summary {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.programs += other.programs;
        self.skipped.extend(other.skipped);
        self.failures.extend(other.failures);
        self.slowest =
            [self.slowest, other.slowest].into_iter().flatten().max_by(|one, two| one.0.total_cmp(&two.0));
        self
    }

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
