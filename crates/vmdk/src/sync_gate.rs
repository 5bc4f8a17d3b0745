//! Which writes a sync has to cover.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Lets a file without new writes go without a sync, and makes concurrent syncs wait for one another.
#[derive(Debug, Default)]
pub(crate) struct SyncGate {
    wrote: AtomicBool,
    one_at_a_time: Mutex<()>,
}

impl SyncGate {
    /// Notes a write. Called after the write is done: one that is under way during a sync is left to the next.
    pub(crate) fn note_write(&self) {
        self.wrote.store(true, Ordering::Release);
    }

    /// Runs `sync`, unless nothing was written since the last time.
    pub(crate) fn pass<E>(&self, sync: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let _alone = crate::lock(&self.one_at_a_time);
        if self.wrote.swap(false, Ordering::AcqRel) { sync() } else { Ok(()) }
    }
}
