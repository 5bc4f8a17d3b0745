//! What registered hosts and their configuration server tell each other, over mutual TLS.
//!
//! The host always begins. Every half minute, or as often as the server asks, it posts a [`Heartbeat`]: how it is, and
//! what it has. Beside that it keeps asking for jobs: the server holds a [`JobsRequest`] until there is something to
//! tell, so an order arrives within a second, through any firewall that lets the host out. What becomes of a job is
//! posted as a [`JobReport`], as often as there is something new and once more when it has ended.
//!
//! A job runs exactly once. Its id is made by the server; the host writes it down durably before it begins, and answers
//! an order that it has already taken with what became of it. The server repeats an order until it has a report, and
//! the host its last report until the server has confirmed it. Jobs that are to do something at one moment on several
//! hosts wait for each other by a [`MeetRequest`].

mod check;
mod fit;
mod heartbeat;
mod item_order;
mod job;
mod meet;

pub use check::is_job_id;
pub use heartbeat::{
    Datastore, GivenPolicy, Health, Heartbeat, HeartbeatReply, HostDisk, ItemReport, MAX_HEARTBEAT,
    ProtectedDisk, Protection,
};
pub use item_order::{DiskOrder, ItemOrder, ItemPolicy, TargetOrder};
pub use job::{
    JobKind, JobOrder, JobReport, JobState, JobStep, JobsReply, JobsRequest, ReportReply, ReportRequest,
    StepState, is_target,
};
pub use meet::{MeetReply, MeetRequest, MeetStage};

/// Path that heartbeats are posted to.
pub const HEARTBEAT_PATH: &str = "/api/v1/agent/heartbeat";
/// Path that jobs are asked for at.
pub const JOBS_PATH: &str = "/api/v1/agent/jobs";
/// Path that reports of jobs are posted to.
pub const REPORT_PATH: &str = "/api/v1/agent/report";
/// Path at which members of a meeting wait for each other.
pub const MEET_PATH: &str = "/api/v1/agent/meet";

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
        let [heartbeat, beaten, ask, orders, report, reported, meet, met] = examples[..] else {
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
        stands_for::<MeetRequest>(meet).check().unwrap();
        stands_for::<MeetReply>(met);
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
        assert!(serde_json::from_str::<MeetRequest>(&with(examples[6])).is_err());
    }

    fn policy(application_consistent_every_seconds: Option<u64>) -> ItemPolicy {
        ItemPolicy {
            window_seconds: 86_400,
            rpo_threshold_seconds: 900,
            application_consistent_every_seconds,
        }
    }

    fn item() -> ItemOrder {
        let disk = |id: &str, target| DiskOrder { id: id.into(), size: 1 << 20, target };
        let new = TargetOrder::New {
            folder: "/vmfs".into(),
            format: "vmfs-thin".into(),
            adapter: "lsilogic".into(),
            uuid: Some("6000c29f000000000000000000000001".into()),
        };
        let existing = TargetOrder::Existing { target: "36000c29f00a1".into() };
        ItemOrder {
            name: "web01".into(),
            source: "web01.example".into(),
            policy: policy(Some(3600)),
            disks: vec![disk("disk0", existing), disk("disk1", new)],
        }
    }

    #[test]
    fn a_target_is_a_host_and_a_port() {
        for target in ["mt:1", "mt01.example:9443", "10.0.0.5:65535", "[fe80::1]:9443"] {
            assert!(is_target(target), "{target}");
        }
        let long = format!("{}:1", "x".repeat(254));
        for target in [
            "",
            "mt",
            "mt:",
            ":1",
            "mt:0",
            "mt:65536",
            "mt:+1",
            "a b:1",
            "mt:01",
            "fe80::1:9443",
            "[mt]:1",
            "[]:1",
            &long,
        ] {
            assert!(!is_target(target), "{target}");
        }
    }

    #[test]
    fn each_kind_of_job_has_this_form() {
        let kinds = [
            (JobKind::Check, r#"{"kind":"check"}"#),
            (
                JobKind::Bookmark { name: "nightly".into(), application_consistent: true },
                r#"{"kind":"bookmark","name":"nightly","application_consistent":true}"#,
            ),
            (
                JobKind::GroupBookmark {
                    name: "nightly".into(),
                    group: "Shop".into(),
                    meeting: "0f".repeat(16),
                    application_consistent: false,
                },
                concat!(
                    r#"{"kind":"group-bookmark","name":"nightly","group":"Shop","#,
                    r#""meeting":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f","application_consistent":false}"#
                ),
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
            (JobKind::Release { item: "web01".into() }, r#"{"kind":"release","item":"web01"}"#),
            (
                JobKind::Protect { item: item() },
                concat!(
                    r#"{"kind":"protect","item":{"name":"web01","source":"web01.example","policy":{"#,
                    r#""window_seconds":86400,"rpo_threshold_seconds":900,"#,
                    r#""application_consistent_every_seconds":3600},"disks":[{"id":"disk0","size":1048576,"#,
                    r#""target":{"kind":"existing","target":"36000c29f00a1"}},{"id":"disk1","size":1048576,"#,
                    r#""target":{"kind":"new","folder":"/vmfs","format":"vmfs-thin","adapter":"lsilogic","#,
                    r#""uuid":"6000c29f000000000000000000000001"}}]}}"#
                ),
            ),
            (
                JobKind::Replicate {
                    item: "web01".into(),
                    target: "10.0.0.5:9443".into(),
                    server_name: Some("mt01.example".into()),
                },
                r#"{"kind":"replicate","item":"web01","target":"10.0.0.5:9443","server_name":"mt01.example"}"#,
            ),
            (
                JobKind::Replicate { item: "web01".into(), target: "mt:1".into(), server_name: None },
                r#"{"kind":"replicate","item":"web01","target":"mt:1"}"#,
            ),
            (JobKind::StopReplicating, r#"{"kind":"stop-replicating"}"#),
            (JobKind::Quiesce { bookmark: "move".into() }, r#"{"kind":"quiesce","bookmark":"move"}"#),
            (JobKind::Unquiesce, r#"{"kind":"unquiesce"}"#),
        ];
        for (kind, text) in kinds {
            assert_eq!(serde_json::to_string(&kind).unwrap(), text);
            assert_eq!(serde_json::from_str::<JobKind>(text).unwrap(), kind);
        }
    }
}
