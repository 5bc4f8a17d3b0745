//! The source agent: captures every change of an item's disks and brings it to a master target.
//!
//! Three things have to be true at once: the writer never waits for the target, the target sees all changes in one
//! order, and nothing is lost when this process is killed. So each change passes three places. The [`SplitterDisk`]
//! is what the writer writes to; it holds back overlapping changes and passes each on to the real disk. Before it does,
//! the [`Tracker`] records the change, with its sequence number, in the backlog of the state folder. And some time later
//! the [`Sender`] takes it from there to the target and forgets it when it is acknowledged.
//!
//! What the target lacks in bulk (everything at first, ranges whose changes no longer fitted into the backlog, changes
//! that a kill left uncertain) is one bitmap of 64 KiB granules for each disk. A sync works it off: it reads or compares
//! what is dirty while changes go on, and puts what it read into the same order at the place where it was true.
//!
//! The sender is a state machine without threads, clock or sockets: [`Sender::step`] takes what happened and says what
//! to do, and whatever takes time is a [`Job`] that any thread may run. So the whole agent runs in a simulation as it
//! does in the `mt-source` process, whose shell is the module `agent`; [`register`] is how it gets its certificate.

pub mod agent;
mod backlog;
mod dirty_map;
mod error;
mod gate;
mod job;
mod range_lock;
pub mod register;
mod sender;
mod splitter;
mod state;
mod tracker;

pub use backlog::BacklogLimits;
pub use dirty_map::GRANULE;
pub use error::{Error, Result};
pub use gate::Gate;
pub use job::{Job, JobDone};
pub use sender::{Action, Event, Notice, Progress, Scan, Sender, SenderConfig, Stage, Status};
pub use splitter::{Clock, SplitterDisk};
pub use state::BootId;
pub use tracker::{Change, Found, Place, Sought, Standing, SyncStart, Ticket, Tracker, TrackerConfig};
