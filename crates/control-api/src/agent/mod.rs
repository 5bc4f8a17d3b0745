//! What registered hosts and their configuration server tell each other, over mutual TLS.
//!
//! The host always begins. Every half minute, or as often as the server asks, it posts a [`Heartbeat`]: how it is, and
//! what it has. Beside that it keeps asking for jobs: the server holds a [`JobsRequest`] until there is something to
//! tell, so an order arrives within a second, through any firewall that lets the host out. What becomes of a job is
//! posted as a [`JobReport`], as often as there is something new and once more when it has ended.
//!
//! A job runs exactly once. Its id is made by the server; the host writes it down durably before it begins, and answers
//! an order that it has already taken with what became of it. The server repeats an order until it has a report, and
//! the host its last report until the server has confirmed it.

mod check;
mod fit;
mod heartbeat;
mod job;

pub use check::is_job_id;
pub use heartbeat::{
    Datastore, Health, Heartbeat, HeartbeatReply, HostDisk, ItemReport, MAX_HEARTBEAT, Protection,
};
pub use job::{
    JobKind, JobOrder, JobReport, JobState, JobStep, JobsReply, JobsRequest, ReportReply, ReportRequest,
    StepState,
};

/// Path that heartbeats are posted to.
pub const HEARTBEAT_PATH: &str = "/api/v1/agent/heartbeat";
/// Path that jobs are asked for at.
pub const JOBS_PATH: &str = "/api/v1/agent/jobs";
/// Path that reports of jobs are posted to.
pub const REPORT_PATH: &str = "/api/v1/agent/report";

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;
    use serde::de::DeserializeOwned;
    use serde_json::Value;

    const DOCUMENT: &str = include_str!("../../../../docs/formats/agent-api.md");

    /// An example is of this form, and this form writes it so.
    fn stands_for<T: DeserializeOwned + Serialize>(example: &str) -> T {
        let message: T = serde_json::from_str(example).unwrap_or_else(|why| panic!("{why}: {example}"));
        let written = serde_json::to_value(&message).unwrap();
        assert_eq!(written, serde_json::from_str::<Value>(example).unwrap());
        message
    }

    /// The heartbeat that the document shows.
    pub(super) fn example() -> Heartbeat {
        let text = DOCUMENT.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_document_shows_each_message_as_it_is_on_the_wire() {
        let examples: Vec<&str> =
            DOCUMENT.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        let [heartbeat, beaten, ask, orders, report, reported] = examples[..] else {
            panic!("{} examples", examples.len());
        };
        let heartbeat: Heartbeat = stands_for(heartbeat);
        assert_eq!(heartbeat.items[0].points.as_ref().unwrap().len(), 1);
        heartbeat.host.check().unwrap();
        assert_eq!(stands_for::<HeartbeatReply>(beaten).revoked[0].0.len(), 32);
        assert_eq!(stands_for::<JobsRequest>(ask).wait_seconds, 25);
        assert_eq!(stands_for::<JobsReply>(orders).orders[0].job.item(), Some("web01"));
        assert!(stands_for::<ReportRequest>(report).report.failure.is_some());
        assert!(!stands_for::<ReportReply>(reported).cancel);
    }

    #[test]
    fn keys_that_are_not_known_are_refused_where_the_document_says_so() {
        let examples: Vec<&str> =
            DOCUMENT.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        let with = |example: &str| example.replacen('{', "{\"colour\": \"blue\", ", 1);
        assert!(serde_json::from_str::<Heartbeat>(&with(examples[0])).is_ok());
        assert!(serde_json::from_str::<HeartbeatReply>(&with(examples[1])).is_ok());
        assert!(serde_json::from_str::<JobsRequest>(&with(examples[2])).is_err());
        assert!(serde_json::from_str::<JobsReply>(&with(examples[3])).is_ok());
        assert!(serde_json::from_str::<ReportRequest>(&with(examples[4])).is_err());
    }

    #[test]
    fn each_kind_of_job_has_this_form() {
        let kinds = [
            (JobKind::Check, r#"{"kind":"check"}"#),
            (
                JobKind::Bookmark { name: "nightly".into(), application_consistent: true },
                r#"{"kind":"bookmark","name":"nightly","application_consistent":true}"#,
            ),
            (JobKind::Resync { item: "web01".into() }, r#"{"kind":"resync","item":"web01"}"#),
            (JobKind::Resume { item: "web01".into() }, r#"{"kind":"resume","item":"web01"}"#),
            (
                JobKind::TestFailoverStart { item: "web01".into(), point: crate::PointSelector::Latest },
                r#"{"kind":"test-failover-start","item":"web01","point":"latest"}"#,
            ),
            (
                JobKind::TestFailoverStop { item: "web01".into(), id: 7 },
                r#"{"kind":"test-failover-stop","item":"web01","id":7}"#,
            ),
            (
                JobKind::Failover { item: "web01".into(), point: crate::PointSelector::Number(17) },
                r#"{"kind":"failover","item":"web01","point":"17"}"#,
            ),
            (
                JobKind::CancelFailover { item: "web01".into() },
                r#"{"kind":"cancel-failover","item":"web01"}"#,
            ),
            (JobKind::Commit { item: "web01".into() }, r#"{"kind":"commit","item":"web01"}"#),
        ];
        for (kind, text) in kinds {
            assert_eq!(serde_json::to_string(&kind).unwrap(), text);
            assert_eq!(serde_json::from_str::<JobKind>(text).unwrap(), kind);
        }
    }
}
