//! What an item says about itself.

use crate::item::{Doing, Item, Level};
use change_stream::{Need, SyncMode, Time};
use disk::Class;
use journal::{BatchNumber, BatchSummary};

/// Where an item stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its source has never been level with it.
    NeedsInitialSync,
    /// It no longer follows its source.
    NeedsResync {
        /// Why.
        reason: String,
    },
    /// A sync is under way; recovery points made before it, if any, remain.
    Syncing {
        /// How.
        mode: SyncMode,
    },
    /// It follows its source.
    Protected,
    /// A recovery point is being put back.
    FailingOver {
        /// Which.
        point: BatchNumber,
    },
    /// The disks stand at a recovery point.
    FailedOver {
        /// Which.
        point: BatchNumber,
    },
    /// The way back was given up.
    Committed,
    /// An error stopped it.
    Fenced {
        /// What failed.
        why: String,
        /// What to do about it.
        class: Class,
    },
    /// It was shut down in order.
    Stopped,
}

/// How far a long operation has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes done.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// The connected source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// Name that its certificate was checked for.
    pub peer: String,
    /// Its own word about its version.
    pub agent: String,
    /// When the last frame came.
    pub last_heard: Time,
}

/// An item at one moment.
#[derive(Clone, Debug)]
pub struct ItemStatus {
    /// Where it stands.
    pub stage: Stage,
    /// Sync or rollback under way.
    pub progress: Option<Progress>,
    /// The connected source.
    pub session: Option<SessionStatus>,
    /// Source time up to which everything is durable; moved on by heartbeats while the source is idle.
    pub protected_until: Option<Time>,
    /// Last durable sequence number.
    pub durable_sequence: u64,
    /// The newest batch.
    pub newest: Option<BatchSummary>,
    /// Bytes of the item's disks received in frames.
    pub received_bytes: u64,
    /// Bytes that became durable on the disks.
    pub applied_bytes: u64,
    /// True while the retention volume has no room and the item waits for some.
    pub lacks_room: bool,
}

impl Item {
    /// Where the item stands.
    pub fn stage(&self) -> Stage {
        match &self.doing {
            Doing::Ended(stage) => stage.clone(),
            Doing::Failover(failover) => failover.stage(),
            Doing::Stopping { .. } => Stage::Stopped,
            Doing::Receiving => match &self.level {
                Level::NeedsInitialSync => Stage::NeedsInitialSync,
                Level::NeedsResync { reason } => Stage::NeedsResync { reason: reason.clone() },
                Level::Syncing { mode } => Stage::Syncing { mode: *mode },
                Level::Reached => Stage::Protected,
            },
        }
    }

    /// What the source is told that it has to do.
    pub(crate) fn need(&self) -> Need {
        match &self.level {
            Level::NeedsInitialSync => Need::InitialSync,
            Level::NeedsResync { reason } => Need::Resync { reason: reason.clone() },
            Level::Syncing { .. } | Level::Reached => Need::Nothing,
        }
    }

    /// The item at this moment.
    pub fn status(&self) -> ItemStatus {
        let progress = match &self.doing {
            Doing::Failover(failover) => failover.progress(),
            _ => self.sync_progress(),
        };
        ItemStatus {
            stage: self.stage(),
            progress,
            session: self.session.as_ref().filter(|session| session.welcomed).map(|session| SessionStatus {
                peer: session.peer.clone(),
                agent: session.agent.clone(),
                last_heard: session.last_heard,
            }),
            protected_until: self.protected_until,
            durable_sequence: self.durable.sequence,
            newest: self.newest.clone(),
            received_bytes: self.received_bytes,
            applied_bytes: self.applied_bytes,
            lacks_room: self.lacks_room(),
        }
    }

    fn sync_progress(&self) -> Option<Progress> {
        let total = self.disks.iter().map(|disk| disk.size).sum();
        matches!(self.level, Level::Syncing { .. }).then_some(Progress { done: self.sync_position, total })
    }
}
