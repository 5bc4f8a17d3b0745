//! What daemons, their command lines and the configuration server say to each other, as types.
//!
//! There are two APIs. The one of a configuration server is JSON over HTTPS: [`ServerVersion`], [`registration`] with its
//! handshake, [`agent`] for what registered hosts tell, and [`ApiError`] for everything that is refused. The local one is
//! described here.
//!
//! The master target listens on a Unix socket that only root can open. A client sends one [`Request`] as one line
//! of JSON; the daemon answers with lines of JSON, each one a [`Reply`]: any number of [`Reply::Progress`], then
//! exactly one [`Reply::Done`] or [`Reply::Failed`]. After that the client may send its next request on the same
//! connection. Closing the connection gives up what was asked for where that can be given up (an export), and
//! lets it go on where it cannot (a failover).
//!
//! Lines are bounded: [`MAX_REQUEST_LINE`] and [`MAX_REPLY_LINE`]. A request carries the [`API_VERSION`] it was
//! written for; the daemon refuses another one by name, so that an old command line says "update me" instead of
//! misreading an answer. Keys that this version does not know are errors in requests and ignored in replies.
//!
//! Nothing here opens a socket or reads a clock. Times are nanoseconds since the Unix epoch; [`time`] turns them
//! into RFC 3339 and back, since that is how people write them.

pub mod agent;
mod api_error;
mod local;
mod point;
pub mod registration;
mod server_version;
mod severity;
mod status;
pub mod time;

pub use api_error::{ApiError, ErrorCode};
pub use local::{
    API_VERSION, Answer, Call, Failure, LineError, MAX_REPLY_LINE, MAX_REQUEST_LINE, NbdExport, Progress,
    Reply, Request, TestFailover, VersionInfo, Work, from_line, to_line,
};
pub use point::{Bookmark, Point, PointSelector, PointSelectorError};
pub use server_version::{PRODUCT, Release, ServerVersion, VERSION_PATH};
pub use severity::Severity;
pub use status::{
    Alert, AlertKind, DiskStatus, ItemState, ItemStatus, LinkStatus, RetentionState, RetentionStatus,
    StartReport, Status,
};
