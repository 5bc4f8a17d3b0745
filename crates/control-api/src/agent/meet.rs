//! Meetings: source agents that do something at one moment agree on it through the configuration server.
//!
//! Members of a meeting are the hosts that were ordered jobs of it together. Each says at which stage it is, and is
//! answered when all of them are there, or when the time is over. A meeting has rounds, one after the other, until one
//! succeeds: all have gathered and hold nothing; where applications were to come to rest, they have; all hold their
//! writes. Whoever was told at this last stage that all are met, while it holds its writes without a break, knows that
//! there was one moment at which all of them did.

use super::check::{Checked, is_job_id};
use crate::registration::Host;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Says where a member of a meeting is, and waits for the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeetRequest {
    /// Who says it.
    pub host: Host,
    /// Id of the meeting, as its job names it: 32 hexadecimal digits.
    pub meeting: String,
    /// Where it is.
    pub at: MeetStage,
}

/// A stage of a meeting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "kebab-case", deny_unknown_fields)]
pub enum MeetStage {
    /// It holds nothing, and is ready for a round.
    Gathered {
        /// The round in which it has placed its bookmark, if the last one was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        placed: Option<String>,
    },
    /// Its applications are at rest, where they are to be, and nothing but the others keeps it from holding its writes.
    Ready {
        /// The round.
        round: String,
    },
    /// It holds its writes.
    Held {
        /// The round.
        round: String,
    },
}

impl MeetStage {
    /// How long the server lets a member wait for the others here. Applications that are at rest, and changes that are held,
    /// must not wait long; for the latter it leaves time for the answer to come before their second is over.
    pub fn longest(&self) -> Duration {
        match self {
            MeetStage::Gathered { .. } | MeetStage::Ready { .. } => Duration::from_secs(10),
            MeetStage::Held { .. } => Duration::from_millis(700),
        }
    }
}

/// What a member of a meeting is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum MeetReply {
    /// All have gathered: a round begins.
    Round {
        /// What it is called: by chance, so that no round is called like another.
        round: String,
    },
    /// All are at this stage of the round.
    Met,
    /// Not all came in time, or the round is over.
    Missed {
        /// Why.
        why: String,
    },
    /// All have placed their bookmarks in one and the same round: the meeting is over.
    Done,
}

impl MeetRequest {
    /// Refuses what has another form, apart from its host, which has a check of its own.
    pub fn check(&self) -> Result<(), String> {
        if !is_job_id(&self.meeting) {
            return Err("meeting must be 32 hexadecimal digits in lower case".into());
        }
        match &self.at {
            MeetStage::Gathered { placed } => placed.iter().try_for_each(|round| is_round(round)),
            MeetStage::Ready { round } | MeetStage::Held { round } => is_round(round),
        }
    }
}

/// A round is called by 8 hexadecimal digits.
fn is_round(round: &str) -> Checked {
    let good =
        round.len() == 8 && round.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    good.then_some(()).ok_or_else(|| "a round must be 8 hexadecimal digits in lower case".into())
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn each_stage_has_this_form() {
        let host = example().host;
        let round = || "0123abcd".to_owned();
        for (at, text) in [
            (MeetStage::Gathered { placed: None }, r#"{"stage":"gathered"}"#),
            (MeetStage::Gathered { placed: Some(round()) }, r#"{"stage":"gathered","placed":"0123abcd"}"#),
            (MeetStage::Ready { round: round() }, r#"{"stage":"ready","round":"0123abcd"}"#),
            (MeetStage::Held { round: round() }, r#"{"stage":"held","round":"0123abcd"}"#),
        ] {
            assert_eq!(serde_json::to_string(&at).unwrap(), text);
            assert_eq!(serde_json::from_str::<MeetStage>(text).unwrap(), at);
            let request = MeetRequest { host: host.clone(), meeting: "0f".repeat(16), at };
            assert_eq!(request.check(), Ok(()));
            assert!(MeetRequest { meeting: "nightly".into(), ..request }.check().is_err());
        }
        for round in ["", "0123abc", "0123ABCD", "0123abcde"] {
            let at = MeetStage::Held { round: round.into() };
            assert!(
                MeetRequest { host: host.clone(), meeting: "0f".repeat(16), at }.check().is_err(),
                "{round}"
            );
        }
    }
}
