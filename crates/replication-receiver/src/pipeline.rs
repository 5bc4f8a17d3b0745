//! The lanes of the apply pipeline: which batch may be prepared, journaled or applied now.
//!
//! Each lane carries one batch at a time, in the order of the change stream. With before-images a batch goes
//! prepare, journal, apply; without them (an initial sync with no earlier recovery point) it is applied first and
//! its boundary recorded afterwards. The two orders never mix: a batch of the other kind waits until the pipeline
//! is empty. The rule that recovery rests on is kept here: the disks are written for one batch at a time, and the
//! next one only after they were synced for the one before.

use crate::batch::Batch;
use crate::job::{Apply, Prepare, Prepared, Work, touched_disks};
use journal::{BatchHeader, BatchNumber};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Without before-images, disks are synced after this many bytes at the latest, and a boundary recorded. While that
/// goes on as many are written again, and a source whose window holds four times as many never waits.
const SYNC_EVERY: u64 = 8 << 20;

/// Most closed batches that wait for the prepare lane before input stops.
const MOST_WAITING: usize = 2;

/// What has become durable: the last boundary of the change stream, for the acknowledgement.
#[derive(Debug)]
pub(crate) struct Durable {
    pub(crate) header: BatchHeader,
    pub(crate) session: u64,
    pub(crate) sync_frames: u64,
}

/// A batch whose before-images are in the journal.
#[derive(Debug)]
struct Journaled {
    batch: Arc<Batch>,
    number: BatchNumber,
}

#[derive(Debug, Default)]
pub(crate) struct Pipeline {
    waiting: VecDeque<Arc<Batch>>,
    preparing: Option<Arc<Batch>>,
    prepared: Option<Prepared>,
    journaling: Option<Arc<Batch>>,
    journaled: Option<Journaled>,
    applying: Option<Arc<Batch>>,
    /// Written but not synced: only without before-images.
    unsynced: Unsynced,
    /// Synced, its boundary being recorded.
    recording: Option<Arc<Batch>>,
    /// Found no room in the journal: first in its lane when it is tried again.
    without_room: Option<Prepared>,
    /// The boundary of what is unsynced found no room in the journal.
    record_without_room: bool,
    try_again: bool,
}

#[derive(Debug, Default)]
struct Unsynced {
    bytes: u64,
    disks: BTreeSet<u16>,
    /// The last batch written, to be recorded after the next sync.
    last: Option<Arc<Batch>>,
}

impl Pipeline {
    /// Adds a closed batch. The caller has asked [`Pipeline::has_room`] unless the batch must end here.
    pub(crate) fn push(&mut self, batch: Batch) {
        self.waiting.push_back(Arc::new(batch));
    }

    /// True when the next batch may be closed for size.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < MOST_WAITING
    }

    /// True when a batch closed now would be worked on at once.
    pub(crate) fn is_hungry(&self) -> bool {
        self.waiting.is_empty()
            && self.preparing.is_none()
            && self.prepared.is_none()
            && !self.unlogged_busy()
    }

    fn unlogged_busy(&self) -> bool {
        self.applying.as_ref().is_some_and(|batch| !batch.header.undo)
    }

    /// True when nothing is under way and nothing waits for durability.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.logged_empty() && self.unlogged_empty()
    }

    fn logged_empty(&self) -> bool {
        self.preparing.is_none()
            && self.prepared.is_none()
            && self.without_room.is_none()
            && self.journaling.is_none()
            && self.journaled.is_none()
            && self.applying.as_ref().is_none_or(|batch| !batch.header.undo)
    }

    fn unlogged_empty(&self) -> bool {
        !self.unlogged_busy() && self.unsynced.last.is_none() && self.recording.is_none()
    }

    /// True while the retention volume is full and what has to be journaled waits.
    pub(crate) fn lacks_room(&self) -> bool {
        (self.without_room.is_some() || self.record_without_room) && !self.try_again
    }

    /// Lets it try again after it found the volume full.
    pub(crate) fn retry_room(&mut self) {
        self.try_again = true;
    }

    /// The work that may start now. `idle` says that no input is at hand, so that what is unsynced should be synced.
    pub(crate) fn start(&mut self, idle: bool, jobs: &mut Vec<Work>) {
        self.start_prepare(jobs);
        self.start_journal(jobs);
        self.start_apply(jobs);
        self.start_unlogged(idle, jobs);
    }

    fn start_prepare(&mut self, jobs: &mut Vec<Work>) {
        let ready = self.preparing.is_none() && self.prepared.is_none() && self.unlogged_empty();
        if !ready || self.waiting.front().is_none_or(|batch| !batch.header.undo) {
            return;
        }
        let Some(batch) = self.waiting.pop_front() else { return };
        self.preparing = Some(batch.clone());
        jobs.extend(Prepare::jobs(batch, self.unapplied()));
    }

    /// Batches whose data may not have reached the disks yet, oldest first.
    fn unapplied(&self) -> Vec<Arc<Batch>> {
        let journaled = self.journaled.as_ref().map(|journaled| &journaled.batch);
        let without_room = self.without_room.as_ref().map(|prepared| &prepared.batch);
        let oldest_first = [self.applying.as_ref(), journaled, self.journaling.as_ref(), without_room];
        oldest_first.into_iter().flatten().cloned().collect()
    }

    fn start_journal(&mut self, jobs: &mut Vec<Work>) {
        if self.journaling.is_some() || self.journaled.is_some() || self.lacks_room() {
            return;
        }
        if let Some(prepared) = self.without_room.take().or_else(|| self.prepared.take()) {
            self.journaling = Some(prepared.batch.clone());
            jobs.push(Work::Journal { prepared });
        }
    }

    fn start_apply(&mut self, jobs: &mut Vec<Work>) {
        if self.applying.is_some() {
            return;
        }
        if let Some(Journaled { batch, number }) = self.journaled.take() {
            self.applying = Some(batch.clone());
            let sync = touched_disks(&batch);
            jobs.extend(Apply::jobs(batch, Some(number), sync));
        }
    }

    fn start_unlogged(&mut self, idle: bool, jobs: &mut Vec<Work>) {
        if self.applying.is_some() || !self.logged_empty() {
            return;
        }
        let next_is_unlogged = self.waiting.front().is_some_and(|batch| !batch.header.undo);
        if next_is_unlogged && self.unsynced.bytes < SYNC_EVERY && !self.must_record() {
            let Some(batch) = self.waiting.pop_front() else { return };
            self.applying = Some(batch.clone());
            self.unsynced.bytes += batch.bytes;
            self.unsynced.disks.extend(touched_disks(&batch));
            jobs.extend(Apply::jobs(batch, None, Vec::new()));
        } else if self.recording.is_none() && (idle || !self.waiting.is_empty()) {
            self.start_recording(jobs);
        }
    }

    fn must_record(&self) -> bool {
        self.unsynced.last.as_ref().is_some_and(|batch| batch.closed)
    }

    fn start_recording(&mut self, jobs: &mut Vec<Work>) {
        if self.lacks_room() {
            return;
        }
        if let Some(last) = self.unsynced.last.take() {
            self.record_without_room = false;
            let sync = std::mem::take(&mut self.unsynced.disks).into_iter().collect();
            self.unsynced.bytes = 0;
            self.recording = Some(last.clone());
            jobs.push(Work::Record { header: last.header.clone(), sync });
        }
    }

    /// True when a batch prepared elsewhere may be handed to the journal lane.
    pub(crate) fn takes_prepared(&self) -> bool {
        self.preparing.is_none()
            && self.prepared.is_none()
            && self.waiting.is_empty()
            && self.unlogged_empty()
    }

    pub(crate) fn prepared(&mut self, prepared: Prepared) {
        self.preparing = None;
        self.prepared = Some(prepared);
    }

    pub(crate) fn journaled(&mut self, batch: Arc<Batch>, number: BatchNumber) {
        self.journaling = None;
        self.journaled = Some(Journaled { batch, number });
    }

    /// The journal had no room: the batch goes back to wait in front of the lane.
    pub(crate) fn found_no_room(&mut self, prepared: Prepared) {
        self.journaling = None;
        self.try_again = false;
        self.without_room = Some(prepared);
    }

    /// The journal had no room for a boundary: it waits, unless a later one takes its place.
    pub(crate) fn found_no_room_to_record(&mut self) {
        self.try_again = false;
        self.record_without_room = true;
        let recording = self.recording.take();
        self.unsynced.last = self.unsynced.last.take().or(recording);
    }

    /// The batch in the apply lane is written; with before-images it is durable too.
    pub(crate) fn applied(&mut self) -> Option<Durable> {
        let batch = self.applying.take()?;
        if batch.header.undo {
            return Some(durable(&batch));
        }
        self.unsynced.last = Some(batch);
        None
    }

    pub(crate) fn recorded(&mut self) -> Option<Durable> {
        self.recording.take().map(|batch| durable(&batch))
    }
}

fn durable(batch: &Batch) -> Durable {
    Durable { header: batch.header.clone(), session: batch.session, sync_frames: batch.sync_frames }
}
