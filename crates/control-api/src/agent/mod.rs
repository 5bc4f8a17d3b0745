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

mod heartbeat;
mod job;

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
