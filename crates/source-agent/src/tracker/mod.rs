//! Every change of the item's disks, in one order, and which granules the target may not have.
//!
//! The tracker is in one of two modes. While it *logs*, each change gets the next sequence number and stands in the
//! backlog before the disk is touched. While it only *marks*, because nothing was ever synced or because the backlog
//! overflowed, a change sets dirty bits and has no number; the next sync brings the target what they stand for.
//! [`Tracker::begin_sync`] goes from marking to logging, an overflow goes back.
//!
//! What is known after a restart depends on how the agent ended. Closed cleanly: everything. Killed: the files have
//! all that was recorded, but of the newest changes it is uncertain whether they reached the disk, so their granules
//! become dirty. Lost power: neither backlog nor bits can be trusted, every granule becomes dirty and a new stream
//! begins.

mod inner;

use crate::backlog::{self, BacklogLimits, Stored};
use crate::dirty_map::DirtyMap;
use crate::state::{BootId, State};
use crate::{Error, Result};
use change_stream::{BookmarkKind, DiskDescription, Frame, MAX_DISKS, StreamId, SyncMode, Time};
use disk::{ByteRange, Folder};
use inner::Inner;
use std::sync::{Arc, Mutex, MutexGuard};

/// Changes after which the completed mark is written again: what a kill makes uncertain is at most these and
/// those in flight.
const MARK_EVERY: u32 = 64;

/// What a tracker keeps track of, and where.
pub struct TrackerConfig {
    /// The item's disks, in order.
    pub disks: Vec<DiskDescription>,
    /// Limits of the backlog.
    pub backlog: BacklogLimits,
    /// This boot of the machine.
    pub boot: BootId,
    /// Name of the stream to begin, if a new one has to be begun.
    pub fresh_stream: StreamId,
    /// Called after each change that a sender may want to look at; must be quick and must not call back.
    pub on_change: Box<dyn Fn() + Send + Sync>,
}

/// What a tracker found in its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or the state of other disks: everything has to be synced.
    Nothing,
    /// All of it, closed cleanly.
    Clean,
    /// The agent was killed: the newest changes are uncertain.
    Killed {
        /// Bytes in the granules of uncertain changes.
        uncertain: u64,
    },
    /// The machine lost power or crashed: everything has to be compared.
    PowerLost,
    /// The state folder does not hold what it must: everything has to be compared.
    Damaged,
}

/// What became of a bookmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sought {
    /// It has this sequence number.
    Set(u64),
    /// It is not in the stream.
    NotSet,
    /// What was sent meanwhile is not kept any more.
    Unknown,
}

/// A change of a disk.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// Data is written, at most [`change_stream::MAX_DATA`] bytes.
    Write(&'a [u8]),
    /// So many bytes become zero.
    Zeroes(u64),
}

/// A change that has been recorded and is being made.
#[derive(Debug)]
#[must_use = "a change that never completes holds up the next sync"]
pub struct Ticket {
    number: u64,
    disk: u16,
    range: ByteRange,
}

/// Where the stream stands.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The stream.
    pub stream: StreamId,
    /// Changes are being logged.
    pub logging: bool,
    /// Oldest sequence number held.
    pub oldest_held: u64,
    /// Number of the next change.
    pub next_sequence: u64,
    /// Newest number known to be durable at the target.
    pub acknowledged: u64,
    /// Changes whenever granules became dirty in a way that no sync in progress knows of.
    pub epoch: u64,
    /// Bytes in dirty granules.
    pub dirty: u64,
    /// Bytes of changes in the backlog that the target has not acknowledged.
    pub backlog: u64,
    /// Bytes of changes that it has acknowledged since start.
    pub settled: u64,
    /// How often the backlog overflowed since start.
    pub overflows: u64,
    /// A sync was begun and has not ended.
    pub pending: Option<SyncMode>,
}

impl Standing {
    /// Whether the target has, or gets with the next frames, all that the disks hold: a bookmark set now marks a recovery
    /// point.
    pub fn is_level(&self) -> bool {
        self.logging && self.pending.is_none() && self.dirty == 0
    }
}

/// How a sync begins.
#[derive(Clone, Copy, Debug)]
pub struct SyncStart {
    /// Stream of the differential frames that follow.
    pub stream: StreamId,
    /// The change before the first one that follows.
    pub base: u64,
    /// Comparisons are right once the tracker has [`Tracker::passed`] this,
    pub barrier: u64,
    /// and once the target has this change, before which there may be recorded ones that never reached the disk.
    pub newest: u64,
    /// For [`Tracker::clear`].
    pub epoch: u64,
}

/// The one order of all changes of an item, and what of them the target may lack.
pub struct Tracker {
    inner: Mutex<Inner>,
    disks: Vec<DiskDescription>,
    on_change: Box<dyn Fn() + Send + Sync>,
}

impl Tracker {
    /// Opens the state in `folder`, or begins anew.
    pub fn open(folder: Arc<dyn Folder>, config: TrackerConfig) -> Result<(Arc<Tracker>, Found)> {
        let count = config.disks.len();
        if count == 0 || count > MAX_DISKS {
            return Err(Error::DiskCount { count, limit: MAX_DISKS });
        }
        let stored = State::load(&folder)?.filter(|state| state.disks == config.disks);
        let found = match &stored {
            None => Found::Nothing,
            Some(state) if state.clean => Found::Clean,
            Some(state) if state.boot == config.boot => Found::Killed { uncertain: 0 },
            Some(_) => Found::PowerLost,
        };
        let fresh = State::fresh(config.fresh_stream, config.boot, config.disks.clone());
        let (mut inner, contents) =
            Inner::open(folder, stored.unwrap_or_else(|| fresh.clone()), config.backlog)?;
        let found = inner.settle(found, contents, fresh)?;
        let tracker = Tracker { inner: Mutex::new(inner), disks: config.disks, on_change: config.on_change };
        Ok((Arc::new(tracker), found))
    }

    /// The item's disks.
    pub fn disks(&self) -> &[DiskDescription] {
        &self.disks
    }

    /// Where the stream stands.
    pub fn standing(&self) -> Standing {
        self.lock().standing()
    }

    /// Records a change that is about to be made. The caller holds the range against overlapping changes until it
    /// has called [`Tracker::complete`]. An error means that the change must not be made.
    pub fn begin(&self, disk: u16, range: ByteRange, change: Change<'_>, time: Time) -> Result<Ticket> {
        let mut inner = self.lock();
        let mut sequence = None;
        if inner.state.logging {
            match inner.log_change(disk, range, change, time) {
                Ok(number) => sequence = Some(number),
                Err(cause) => inner.overflow(cause)?,
            }
        }
        if sequence.is_none() {
            inner.dirty[usize::from(disk)].set(range)?;
        }
        let number = inner.tickets;
        inner.tickets += 1;
        inner.in_flight.insert(number, sequence);
        drop(inner);
        (self.on_change)();
        Ok(Ticket { number, disk, range })
    }

    /// Says that a recorded change was made, or that it failed and the disk holds nobody knows what.
    pub fn complete(&self, ticket: &Ticket, succeeded: bool) -> Result<()> {
        let mut inner = self.lock();
        inner.in_flight.remove(&ticket.number);
        inner.unmarked += 1;
        if inner.unmarked >= MARK_EVERY {
            inner.mark_completed()?;
        }
        let result = if succeeded {
            Ok(())
        } else {
            inner.epoch += 1;
            inner.dirty[usize::from(ticket.disk)].set(ticket.range)
        };
        let wake = !succeeded || inner.in_flight.is_empty();
        drop(inner);
        if wake {
            (self.on_change)();
        }
        Ok(result?)
    }

    /// Records that the writer asked for durability, unless nothing changed since it last did.
    pub fn flush(&self, time: Time) -> Result<()> {
        let mut inner = self.lock();
        if inner.state.logging && std::mem::take(&mut inner.changed_since_flush) {
            let at = inner.next_position(time);
            inner.log_or_overflow(&Frame::Flush { at })?;
            drop(inner);
            (self.on_change)();
        }
        Ok(())
    }

    /// Looks for a bookmark of this name from a sequence number on, in what is kept of the stream. Writers do not wait for
    /// it.
    pub fn find_bookmark(&self, name: &str, from: u64) -> Result<Sought> {
        let (files, whole) = {
            let inner = self.lock();
            let oldest = inner.backlog.oldest().unwrap_or(inner.state.next_sequence);
            (inner.backlog.files_from(from), oldest <= from)
        };
        for (file, length) in files {
            if let Some(sequence) = backlog::find_bookmark(&file, length, name, from)? {
                return Ok(Sought::Set(sequence));
            }
        }
        Ok(if whole { Sought::NotSet } else { Sought::Unknown })
    }

    /// Whether a bookmark of this number came to the target during a sync, or not at all: then it marks no recovery point.
    pub fn is_passed_over(&self, sequence: u64) -> bool {
        self.lock().passed_over.iter().any(|range| range.contains(&sequence))
    }

    /// Puts a bookmark into the stream and returns its sequence number.
    pub fn bookmark(&self, time: Time, kind: BookmarkKind, name: &str, group: Option<&str>) -> Result<u64> {
        let mut inner = self.lock();
        let not_level = |why| Error::NotLevel { name: name.to_owned(), why };
        if !inner.state.logging {
            return Err(not_level("the target has not been synced, or changes were lost to a full backlog"));
        }
        if inner.state.pending.is_some() || inner.dirty_bytes() > 0 {
            return Err(not_level("a sync is not finished"));
        }
        let at = inner.next_position(time);
        let frame = Frame::Bookmark { at, kind, name: name.to_owned(), group: group.map(str::to_owned) };
        inner.log_or_overflow(&frame)?;
        if !inner.state.logging {
            return Err(not_level("the backlog is full"));
        }
        drop(inner);
        (self.on_change)();
        Ok(at.sequence)
    }

    /// Holds the present place in the stream for a sync frame: until it is dropped no later change is given to the
    /// sender. The caller has locked the range that the frame is about.
    pub fn hold_place(self: &Arc<Self>) -> Place {
        let mut inner = self.lock();
        let after = inner.state.next_sequence - 1;
        let number = inner.place_count;
        inner.place_count += 1;
        inner.places.insert(number, after);
        Place { tracker: self.clone(), number, after }
    }

    /// Newest sequence number that no held place forbids to send.
    pub fn sendable(&self) -> u64 {
        let inner = self.lock();
        inner.places.values().min().copied().unwrap_or(u64::MAX).min(inner.state.next_sequence - 1)
    }

    /// True when this is the newest change: then every later one is logged, and none as older than `time`.
    pub(crate) fn ends_at(&self, sequence: u64, time: Time) -> bool {
        let mut inner = self.lock();
        let ends = inner.state.logging && inner.state.next_sequence - 1 == sequence;
        if ends {
            inner.state.time = inner.state.time.max(time);
        }
        ends
    }

    /// Notes what is durable at the target.
    pub fn acknowledge(&self, sequence: u64) -> Result<()> {
        let mut inner = self.lock();
        if sequence > inner.state.acknowledged {
            inner.state.acknowledged = sequence;
            inner.backlog.trim(sequence)?;
        }
        Ok(())
    }

    /// Begins a sync, and to log, if the tracker was only marking. With `everything` all granules become dirty; then,
    /// or after marking, nothing older than this moment is sent. With a new stream numbering begins anew. Otherwise the
    /// frames after `durable` follow.
    pub fn begin_sync(
        &self,
        mode: SyncMode,
        everything: bool,
        new_stream: Option<StreamId>,
        durable: u64,
    ) -> Result<SyncStart> {
        let mut inner = self.lock();
        inner.note_passed_over();
        let mut base = durable;
        if everything {
            inner.dirty.iter_mut().try_for_each(DirtyMap::set_all)?;
        }
        if everything || !inner.state.logging {
            inner.restart_log(new_stream)?;
            if new_stream.is_some() {
                // What they number is of another stream.
                inner.passed_over.clear();
            }
            base = inner.state.next_sequence - 1;
        }
        inner.state.pending = Some(mode);
        inner.store_state(false)?;
        Ok(SyncStart {
            stream: inner.state.stream,
            base,
            barrier: inner.tickets,
            newest: inner.state.next_sequence - 1,
            epoch: inner.epoch,
        })
    }

    /// True when every change that was begun before a barrier has completed.
    pub fn passed(&self, barrier: u64) -> bool {
        self.lock().in_flight.first_key_value().is_none_or(|(oldest, _)| *oldest >= barrier)
    }

    /// For a time without changes: writes down that every one so far has reached the disk, so that a kill leaves none
    /// uncertain.
    pub fn rest(&self) -> Result<()> {
        let mut inner = self.lock();
        inner.mark_completed()?;
        inner.store_state(true)
    }

    /// Notes that a sync has ended with the target level.
    pub fn end_sync(&self) -> Result<()> {
        let mut inner = self.lock();
        inner.state.pending = None;
        inner.store_state(false)
    }

    /// Forgets what any target has, for another one to come: everything is dirty and nothing is logged until the next sync,
    /// with which this new stream begins. Durable when it returns. No session may be under way.
    pub fn begin_anew(&self, stream: StreamId) -> Result<()> {
        self.lock().begin_anew(stream)
    }

    /// Makes everything dirty: for a disk that was changed by others.
    pub fn mark_all(&self) -> Result<()> {
        let mut inner = self.lock();
        inner.epoch += 1;
        inner.dirty.iter_mut().try_for_each(DirtyMap::set_all)?;
        Ok(())
    }

    /// Clears the granules of a range that the target has durably, unless anything became dirty meanwhile.
    pub fn clear(&self, epoch: u64, disk: u16, range: ByteRange) -> Result<()> {
        let mut inner = self.lock();
        if inner.epoch == epoch {
            inner.dirty[usize::from(disk)].clear(range)?;
        }
        Ok(())
    }

    /// The first run of dirty granules of a disk at or after `from`, at most `limit` bytes.
    pub fn next_dirty(&self, disk: u16, from: u64, limit: u64) -> Option<ByteRange> {
        self.lock().dirty[usize::from(disk)].next_run(from, limit)
    }

    /// Why the backlog overflowed last, told once.
    pub fn take_overflow_cause(&self) -> Option<String> {
        self.lock().overflow_cause.take()
    }

    /// Ends cleanly: everything is durable, and the next start can trust it. No change may be in flight.
    pub fn close(&self) -> Result<()> {
        let mut inner = self.lock();
        inner.mark_completed()?;
        inner.backlog.sync()?;
        inner.dirty.iter().try_for_each(DirtyMap::sync)?;
        inner.completed.sync()?;
        inner.folder.sync()?;
        inner.state.clean = inner.in_flight.is_empty();
        inner.store_state(true)
    }

    pub(crate) fn locate(&self, sequence: u64) -> Result<u64> {
        Ok(self.lock().backlog.locate(sequence)?)
    }

    pub(crate) fn read(&self, place: u64, most: usize) -> Stored {
        self.lock().backlog.read(place, most)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A held place in the stream; see [`Tracker::hold_place`].
pub struct Place {
    tracker: Arc<Tracker>,
    number: u64,
    after: u64,
}

impl Place {
    /// The sequence number that the place comes after.
    pub fn after(&self) -> u64 {
        self.after
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tracker.lock().places.remove(&self.number);
        (self.tracker.on_change)();
    }
}
