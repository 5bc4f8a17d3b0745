//! The real `mt-process-server`, between real clients and real servers.

mod failures;
mod registration;
mod replication;
mod support;
