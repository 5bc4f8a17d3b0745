//! What the runs came to.

use super::run::last_lines;
use std::path::PathBuf;
use std::time::Duration;

pub(super) struct Outcome {
    pub(super) name: String,
    /// Why it failed; `None` when it passed.
    pub(super) failure: Option<String>,
    pub(super) time: Duration,
    pub(super) results: PathBuf,
}

impl Outcome {
    /// Said as soon as it is known.
    pub(super) fn say(&self) {
        let seconds = self.time.as_secs();
        let Some(failure) = &self.failure else {
            println!("{}: passed, {seconds} s", self.name);
            return;
        };
        let script = last_lines(&self.results.join("script.log"), 30);
        println!("{}: FAILED, {seconds} s: {failure}\n{script}\nlogs: {}", self.name, self.results.display());
    }
}

/// One line for each run, in order of their names.
pub(super) fn table(outcomes: &[Outcome]) -> String {
    let width = outcomes.iter().map(|one| one.name.len()).max().unwrap_or(0).max("scenario".len());
    let mut text = format!("\n{:width$}  verdict  seconds\n", "scenario");
    for one in outcomes {
        let verdict = if one.failure.is_none() { "passed" } else { "FAILED" };
        text += &format!("{:width$}  {verdict:7}  {:7}\n", one.name, one.time.as_secs());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each() {
        let outcome = |name: &str, failure: Option<&str>| Outcome {
            name: name.to_owned(),
            failure: failure.map(str::to_owned),
            time: Duration::from_secs(61),
            results: PathBuf::new(),
        };
        let text = table(&[outcome("one", None), outcome("longer-name", Some("why"))]);
        assert!(text.contains("one          passed        61\nlonger-name  FAILED        61\n"), "{text}");
    }
}
