//! What went wrong, in the parts that people look for.

use control_api::ApiError;
use serde::Serialize;
use std::fmt;

/// What went wrong, why, and what to do, one step after the other. Commands stand between backquotes.
///
/// As one line, for a log, it is `what: why; do; do`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Its name; it never changes.
    pub code: String,
    /// What went wrong, with what it is about.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do.
    pub next: Vec<String>,
}

impl Explanation {
    /// An explanation, from its parts.
    pub fn new(
        code: &str,
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl IntoIterator<Item = impl Into<String>>,
    ) -> Explanation {
        let next = next.into_iter().map(Into::into).collect();
        Explanation { code: code.into(), what: what.into(), why: why.into(), next }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.what, self.why, self.next.join("; "))
    }
}

impl std::error::Error for Explanation {}

/// A refusal tells its steps in one text, with a semicolon between two.
impl From<&ApiError> for Explanation {
    fn from(refused: &ApiError) -> Explanation {
        let failure = &refused.failure;
        let code = serde_json::to_value(refused.code).ok();
        let code = code.as_ref().and_then(serde_json::Value::as_str).unwrap_or("refused").to_owned();
        Explanation {
            code,
            what: format!("{}: {}", failure.object, failure.what),
            why: failure.why.clone(),
            next: failure.next.split("; ").map(str::to_owned).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control_api::ErrorCode;

    #[test]
    fn a_refusal_is_told_in_the_same_parts() {
        let refused =
            ApiError::new(ErrorCode::LockedOut, "10.0.0.5", "it is locked out", "guesses", "wait; try again");
        let explained = Explanation::from(&refused);
        let expected =
            Explanation::new("locked-out", "10.0.0.5: it is locked out", "guesses", ["wait", "try again"]);
        assert_eq!(explained, expected);
        assert_eq!(explained.to_string(), "10.0.0.5: it is locked out: guesses; wait; try again");
        assert_eq!(explained.to_string(), refused.to_string());
    }
}
