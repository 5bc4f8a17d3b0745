//! Requests and replies on the local socket, and their lines.

use crate::agent::ItemOrder;
use crate::point::{Point, PointSelector};
use crate::status::{ItemStatus, Status};
use crate::time::Time;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Version of the local API. A change that an older end would misread raises it.
pub const API_VERSION: u32 = 1;

/// The longest request, in bytes, with its newline.
pub const MAX_REQUEST_LINE: usize = 64 << 10;

/// The longest reply, in bytes, with its newline.
pub const MAX_REPLY_LINE: usize = 16 << 20;

/// A line from a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// [`API_VERSION`] of the client.
    pub api: u32,
    /// What it asks for.
    pub call: Call,
}

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Call {
    /// Versions of daemon and API.
    Version,
    /// Everything at a glance.
    Status,
    /// All items, or the named one.
    Items {
        /// Only this item.
        item: Option<String>,
    },
    /// Recovery points of an item, newest first.
    Points {
        /// The item.
        item: String,
        /// Only points whose source time is not before this.
        from: Option<Time>,
        /// Only points whose source time is not after this.
        to: Option<Time>,
        /// Only points with a bookmark.
        bookmarks: bool,
        /// At most so many.
        limit: u32,
    },
    /// Exports a writable view of a point over NBD.
    TestFailoverStart {
        /// The item.
        item: String,
        /// The point.
        point: PointSelector,
        /// Where to listen: `unix:PATH` or `tcp:ADDRESS:PORT`; a socket beside the daemon's own when missing.
        listen: Option<String>,
    },
    /// Ends a test failover and forgets what was written to it.
    TestFailoverStop {
        /// Its number.
        id: u64,
    },
    /// All test failovers.
    TestFailoverList,
    /// Writes a point to the item's disks and stops replication.
    Failover {
        /// The item.
        item: String,
        /// The point.
        point: PointSelector,
    },
    /// Goes back from a failover that was not committed.
    CancelFailover {
        /// The item.
        item: String,
    },
    /// Gives up the way back from a failover.
    Commit {
        /// The item.
        item: String,
    },
    /// Copies a disk at a point into a new image.
    Export {
        /// The item.
        item: String,
        /// Id of the disk.
        disk: String,
        /// The point.
        point: PointSelector,
        /// `raw`, or a createType of VMDK.
        format: String,
        /// Path of the new image, absolute.
        to: String,
    },
    /// Opens a fenced item again, through crash recovery.
    Resume {
        /// The item.
        item: String,
    },
    /// Has the source compare all its disks with the replica.
    Resync {
        /// The item.
        item: String,
    },
    /// Takes an item.
    Protect {
        /// The item.
        item: ItemOrder,
    },
    /// Lets go of an item that was taken: its disks stay as they are, its recovery points go.
    Release {
        /// The item.
        item: String,
    },
    /// Changes the policy of an item that was taken; what is null stays as it is.
    SetPolicy {
        /// The item.
        item: String,
        /// Seconds that recovery points are to reach back.
        window_seconds: Option<u64>,
        /// Seconds of RPO above which there is an alert.
        rpo_threshold_seconds: Option<u64>,
        /// Seconds from one application-consistent recovery point to the next; 0 when none are asked for.
        application_consistent_every_seconds: Option<u64>,
        /// What its journal keeps when the volume is short of room: a share such as `20 %`, a size such as `40 GiB`, or
        /// `standard` for what holds for all items.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min_journal: Option<String>,
        /// What its journal may take, in the same form.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_journal: Option<String>,
    },
}

/// A line from the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// What was asked for goes on.
    Progress(Progress),
    /// It is done; the last line for this request.
    Done(Answer),
    /// It failed; the last line for this request.
    Failed(Failure),
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Call::Version`].
    Version(VersionInfo),
    /// To [`Call::Status`].
    Status(Box<Status>),
    /// To [`Call::Items`], and to calls that change one item: how it stands afterwards.
    Items(Vec<ItemStatus>),
    /// To [`Call::Points`].
    Points(Vec<Point>),
    /// To [`Call::TestFailoverStart`].
    TestFailover(TestFailover),
    /// To [`Call::TestFailoverList`].
    TestFailovers(Vec<TestFailover>),
    /// In words, where there is nothing else to tell.
    Message(String),
}

/// Versions of daemon and API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionInfo {
    /// Of the daemon.
    pub version: String,
    /// Of the local API.
    pub api: u32,
    /// Of the change stream.
    pub change_stream: u16,
}

/// Work that can take long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Work {
    /// The first copy of the source.
    InitialSync,
    /// Bringing the replica level by hashes.
    Resync,
    /// Writing a recovery point to the item's disks.
    Failover,
    /// Copying a disk into a new image.
    Export,
    /// Opening disks and journal again.
    Recovery,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Work::InitialSync => "initial sync",
            Work::Resync => "resync",
            Work::Failover => "failover",
            Work::Export => "export",
            Work::Recovery => "recovery",
        })
    }
}

/// How far work has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Which work.
    pub work: Work,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all; `None` while unknown.
    pub total: Option<u64>,
}

/// A test failover: a writable view of a recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestFailover {
    /// Its number.
    pub id: u64,
    /// The item.
    pub item: String,
    /// The point.
    pub point: Point,
    /// Since when.
    pub started: Time,
    /// One for each disk.
    pub exports: Vec<NbdExport>,
}

/// A disk that is served over NBD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NbdExport {
    /// Id of the disk, and name of the export.
    pub disk: String,
    /// Where a client finds it.
    pub uri: String,
    /// Size in bytes.
    pub size: u64,
}

/// Why a request was not done: which object, what went wrong, why, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{object}: {what}: {why}; {next}")]
pub struct Failure {
    /// The item, disk, path or key that it is about.
    pub object: String,
    /// What could not be done.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do next.
    pub next: String,
}

impl Failure {
    /// A failure, from its four parts.
    pub fn new(
        object: impl Into<String>,
        what: impl Into<String>,
        why: impl fmt::Display,
        next: impl Into<String>,
    ) -> Failure {
        Failure { object: object.into(), what: what.into(), why: why.to_string(), next: next.into() }
    }
}

/// A line that cannot be sent or is not what was expected.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Longer than allowed.
    #[error("a line of {length} bytes is longer than the {limit} allowed")]
    TooLong {
        /// Its length.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// Not JSON, or not of the expected form.
    #[error("the line is not a message of the local API: {0}")]
    Form(#[from] serde_json::Error),
}

/// A message as one line, with its newline.
pub fn to_line<T: Serialize>(message: &T, limit: usize) -> Result<Vec<u8>, LineError> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    check_length(line.len(), limit)?;
    Ok(line)
}

/// The message of one line, with or without its newline.
pub fn from_line<T: DeserializeOwned>(line: &[u8], limit: usize) -> Result<T, LineError> {
    check_length(line.len(), limit)?;
    Ok(serde_json::from_slice(line)?)
}

fn check_length(length: usize, limit: usize) -> Result<(), LineError> {
    if length > limit { Err(LineError::TooLong { length, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Result<Request, LineError> {
        from_line(line.as_bytes(), MAX_REQUEST_LINE)
    }

    #[test]
    fn requests_have_this_form_on_the_wire() {
        let line = |call| {
            let bytes = to_line(&Request { api: 1, call }, MAX_REQUEST_LINE).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(line(Call::Status), "{\"api\":1,\"call\":\"status\"}\n");
        assert_eq!(
            line(Call::Failover { item: "web01".into(), point: PointSelector::Number(7) }),
            "{\"api\":1,\"call\":{\"failover\":{\"item\":\"web01\",\"point\":\"7\"}}}\n"
        );
        assert_eq!(
            line(Call::TestFailoverStart {
                item: "web01".into(),
                point: PointSelector::Time(5),
                listen: None
            }),
            "{\"api\":1,\"call\":{\"test-failover-start\":{\"item\":\"web01\",\"point\":\"time:5\",\"listen\":null}}}\n"
        );
    }

    #[test]
    fn replies_have_this_form_on_the_wire() {
        let line = |reply| String::from_utf8(to_line(&reply, MAX_REPLY_LINE).unwrap()).unwrap();
        assert_eq!(
            line(Reply::Progress(Progress { work: Work::Failover, done: 5, total: Some(10) })),
            "{\"progress\":{\"work\":\"failover\",\"done\":5,\"total\":10}}\n"
        );
        assert_eq!(
            line(Reply::Failed(Failure::new("web01", "failover", "no such point", "see mtctl points web01"))),
            "{\"failed\":{\"object\":\"web01\",\"what\":\"failover\",\"why\":\"no such point\",\
             \"next\":\"see mtctl points web01\"}}\n"
        );
    }

    #[test]
    fn a_request_with_an_unknown_key_or_call_is_refused() {
        assert!(request("{\"api\":1,\"call\":\"status\"}").is_ok());
        assert!(request("{\"api\":1,\"call\":\"stauts\"}").is_err());
        assert!(request("{\"api\":1,\"call\":\"status\",\"x\":1}").is_err());
        assert!(request("{\"api\":1,\"call\":{\"commit\":{\"item\":\"a\",\"now\":true}}}").is_err());
    }

    #[test]
    fn lines_are_bounded_both_ways() {
        let long = Call::Commit { item: "x".repeat(MAX_REQUEST_LINE) };
        let error = to_line(&Request { api: 1, call: long }, MAX_REQUEST_LINE).unwrap_err();
        assert!(matches!(error, LineError::TooLong { .. }));
        assert!(matches!(request(&" ".repeat(MAX_REQUEST_LINE + 1)), Err(LineError::TooLong { .. })));
    }

    #[test]
    fn a_failure_reads_as_a_sentence() {
        let failure = Failure::new("web01", "cannot fail over", "point 9 was pruned", "choose a newer point");
        assert_eq!(failure.to_string(), "web01: cannot fail over: point 9 was pruned; choose a newer point");
    }
}
