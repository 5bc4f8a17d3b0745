//! Where the log of a daemon goes.

use crate::journal::{self, Journal};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Whether this can be the filter of a log: a level such as `info`, or a list such as `info,hyper=warn`.
pub fn is_filter(filter: &str) -> bool {
    EnvFilter::try_new(filter).is_ok()
}

/// Starts the log of a daemon, `identifier`: into the journal when systemd has connected the standard error to it, and
/// otherwise onto the standard error. Once for each process; what of the filter is no filter is left out of it.
pub fn start_log(identifier: &'static str, filter: &str) {
    let filter = EnvFilter::new(filter);
    if journal::takes_standard_error()
        && let Ok(journal) = Journal::open(identifier, journal::SOCKET)
    {
        return tracing_subscriber::registry().with(filter).with(journal).init();
    }
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}
