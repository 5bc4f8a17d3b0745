//! A fleet of master targets that are only simulated, and a configuration server that is not.
//!
//! The server is the real `mt-configserver`, a process of its own; everything that reaches it comes over TCP and mutual
//! TLS. The hosts are tasks in this process: each registered by the real handshake ([`hosts`]), each from an address of
//! its own (the whole network 127.0.0.0/8 leads to this machine), and each with an [`agent`] that sends
//! heartbeats with items, disks and recovery points as real ones are ([`body`]), and asks for jobs and runs them by a
//! ledger. [`people`] log in, read pages, order jobs. [`measure`] and [`machine`] tell how long that took and what it
//! cost, apart from what others on the same machine take.
//!
//! The tests are programs of their own, one for each file, so that cargo runs one after the other: `scale` measures,
//! `killed` kills the server again and again, `away` lets it be gone for long. In `replication`, `workflows`, `groups`
//! and `both_ways` the hosts are real too, and somebody at his [`desk`] orders what they do. The program `fleet` measures for longer,
//! for docs/benchmarks.md.

pub mod aged;
pub mod agent;
pub mod body;
pub mod client;
pub mod desk;
pub mod hosts;
mod lane;
pub mod ledger;
pub mod machine;
pub mod measure;
pub mod people;
pub mod report;
pub mod seed;
pub mod server;
pub mod trial;
pub mod users;

use control_api::time::{SECOND, Time};
use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() * SECOND + u64::from(since.subsec_nanos())
}
