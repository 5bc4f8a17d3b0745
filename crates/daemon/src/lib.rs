//! The master target: `mtd`, the daemon, and `mtctl`, its command line.
//!
//! `mtd` receives the change streams of protected machines, applies them to target disks and keeps a journal from
//! which any recovery point of the retention window can be had. What is decided and done to bytes lives in the crates
//! below; this one owns what they must not know: the configuration, sockets, threads, the clock, and the people who
//! give orders.
//!
//! Its parts are few. [`config`] reads one TOML file and refuses what is wrong in it. Each replicated item is an
//! actor of its own (`item`): one task that hands events to the item's engine and carries out what it says, with jobs
//! on blocking threads. `sources` lets source agents in, over mutual TLS, each only to the item that its certificate
//! is for. `local` answers the local API on a Unix socket: status, recovery points, failover, test failover (an NBD
//! export of a writable view), export. [`run`] ties them together, tells systemd, and on SIGTERM finishes what is
//! in flight and closes every image cleanly.
//!
//! Which items there are is not only for the configuration to say: `items` takes and lets go of them while everything
//! else runs.
//!
//! Items share the retention volume, over which `retention` keeps watch and whose room it shares out among them, and a
//! limit of jobs at once, nothing else: what fails in one stays in it. Memory
//! is bounded by constants beside each queue: an item holds at most a few batches, a few lots of frames on their way
//! to it, and one lot for each connection.
//!
//! While the machine is registered, `server_link` tells the configuration server how it is, carries out the jobs that
//! come from there by the same code as the local API, and turns away sources whose certificates are revoked.
//!
//! [`mtctl`] talks to the local API; whatever it can do there, another program can do by the same lines of JSON. What
//! concerns the machine alone it does without the daemon: [`preflight`] looks whether the machine is ready.

mod alerts;
mod clock;
pub mod config;
mod export;
mod identity;
mod item;
mod items;
mod local;
mod master_target;
pub mod mtctl;
pub mod preflight;
mod random;
mod retention;
mod server_link;
mod service;
mod sources;
mod state_format;
mod test_failover;
mod tested;
mod views;

pub use service::{run, run_until};
pub use state_format::{STATE_FORMAT, StateError};
