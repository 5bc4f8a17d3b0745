//! What the checks found, for people and programs.

use super::{Check, Finding, Look, Severity};
use serde::Serialize;
use serde_json::{Value, json};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The rule is kept.
    Passed,
    /// The rule is broken, and replication or failback will not work.
    Failed,
    /// It may work, with a risk.
    Warning,
    /// It is not known; the row says why.
    CannotTell,
}

/// What one check found.
#[derive(Clone, Debug)]
pub struct Row {
    /// The check.
    pub check: &'static Check,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found, or why nothing is known.
    pub found: String,
    /// The command or step that mends it; `None` when there is nothing to mend.
    pub remedy: Option<String>,
}

impl Row {
    pub(super) fn new(check: &'static Check, look: Look) -> Row {
        let (verdict, found, remedy) = match look {
            Ok(Finding::Good(found)) => (Verdict::Passed, found, None),
            Ok(Finding::Broken(found, remedy)) => {
                let verdict = match check.severity {
                    Severity::Failure => Verdict::Failed,
                    Severity::Warning => Verdict::Warning,
                };
                (verdict, found, Some(remedy))
            }
            Ok(Finding::Weak(found, remedy)) => (Verdict::Warning, found, Some(remedy)),
            Err(unknown) => (Verdict::CannotTell, unknown.why, unknown.remedy),
        };
        Row { check, verdict, found: printable(&found), remedy: remedy.map(|remedy| printable(&remedy)) }
    }

    fn json(&self) -> Value {
        json!({
            "id": self.check.id,
            "title": self.check.title,
            "verdict": self.verdict,
            "found": self.found,
            "needed": self.check.needed,
            "remedy": self.remedy,
            "fixable": self.check.fixable(),
        })
    }
}

/// What files and servers say may hold anything; a terminal gets to see only characters, and not too many.
fn printable(text: &str) -> String {
    const LONGEST: usize = 1000;
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut shown: String = clean.take(LONGEST + 1).collect();
    if shown.chars().count() > LONGEST {
        shown.pop();
        shown.push('…');
    }
    shown
}

/// What all checks found.
#[derive(Clone, Debug)]
pub struct Report {
    /// One for each check, in their order.
    pub rows: Vec<Row>,
}

impl Report {
    /// How many ended so.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.verdict == verdict).count()
    }

    /// `{"checks":[…],"failed":n,"warnings":n}`.
    pub fn json(&self) -> Value {
        json!({
            "checks": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "failed": self.count(Verdict::Failed),
            "warnings": self.count(Verdict::Warning),
        })
    }
}
