//! The engine of a replicated item on the master target.
//!
//! A source sends the ordered writes of an item; this crate turns them into batches, journals what each batch
//! overwrites, writes it to the target disks, and tells the source what is durable. It also answers the source's
//! block hashes during a resync, and puts the disks back to a recovery point in a failover.
//!
//! An [`Item`] is a state machine without threads, sockets or clock: [`Item::step`] takes one [`Event`] (a frame,
//! the end of a job, a moment in time, a command) and says which [`Action`]s follow. The work itself is a [`Job`]:
//! plain code that reads, journals and writes through the item's [`Storage`], on whatever thread the caller has. So
//! the daemon runs it with tokio, and a simulation runs the very same code with a seeded order of events and disks
//! that lose power.
//!
//! Batches go through three lanes, one batch in each at a time: *prepare* reads the before-images, *journal* appends
//! and syncs them, *apply* writes the disks and syncs them. Only then is the batch acknowledged. A batch closes at
//! every bookmark, at a size, or as soon as the lanes are hungry; each boundary is a recovery point while the item
//! is level with its source. As long as there is no recovery point to go back to, an initial sync writes no
//! before-images: data is written and synced, and then its boundary is recorded.
//!
//! After any failed read, write or sync the item is fenced: it takes no more frames and says why. The caller drops
//! it and opens its storage anew, through crash recovery.

mod batch;
mod error;
mod failover;
mod frames;
mod item;
mod job;
mod outcomes;
mod pipeline;
mod session;
mod status;
mod storage;

pub use error::{Error, Result};
pub use item::{Action, Command, ConnectionId, Event, Item, ItemConfig, Notice};
pub use job::{Job, JobDone};
pub use status::{ItemStatus, Progress, SessionStatus, Stage};
pub use storage::Storage;

#[cfg(test)]
mod tests;
