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

use crate::backlog::{Backlog, BacklogLimits, Contents, NotTaken, Stored};
use crate::dirty_map::DirtyMap;
use crate::state::{BootId, State};
use crate::{Error, Result};
use change_stream::{
    BookmarkKind, Compression, DiskDescription, Encoder, Frame, MAX_DISKS, Position, StreamId, SyncMode, Time,
};
use disk::{Access, ByteRange, Bytes, Disk, File, Folder};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

const COMPLETED: &str = "completed";
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
    /// Bytes in the backlog.
    pub backlog: u64,
    /// How often the backlog overflowed since start.
    pub overflows: u64,
    /// A sync was begun and has not ended.
    pub pending: Option<SyncMode>,
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

struct Inner {
    folder: Arc<dyn Folder>,
    state: State,
    backlog: Backlog,
    dirty: Vec<DirtyMap>,
    completed: Arc<dyn File>,
    unmarked: u32,
    encoder: Encoder,
    scratch: Vec<u8>,
    /// Numbers of changes begun so far.
    tickets: u64,
    /// Changes in flight, with their sequence numbers.
    in_flight: BTreeMap<u64, Option<u64>>,
    places: BTreeMap<u64, u64>,
    place_count: u64,
    changed_since_flush: bool,
    epoch: u64,
    overflows: u64,
    overflow_cause: Option<String>,
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
        let mut base = durable;
        if everything {
            inner.dirty.iter_mut().try_for_each(DirtyMap::set_all)?;
        }
        if everything || !inner.state.logging {
            inner.restart_log(new_stream)?;
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

    /// Notes that a sync has ended with the target level.
    pub fn end_sync(&self) -> Result<()> {
        let mut inner = self.lock();
        inner.state.pending = None;
        inner.store_state(false)
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

impl Inner {
    fn open(folder: Arc<dyn Folder>, state: State, limits: BacklogLimits) -> Result<(Inner, Contents)> {
        let exists = folder.list()?.iter().any(|name| name == COMPLETED);
        let completed =
            if exists { folder.open(COMPLETED, Access::Write)? } else { folder.create(COMPLETED)? };
        let (backlog, contents) = Backlog::open(folder.clone(), limits, completed_mark(&completed)?)?;
        let mut inner = Inner {
            folder,
            state,
            backlog,
            dirty: Vec::new(),
            completed,
            unmarked: 0,
            encoder: Encoder::new(Compression::None),
            scratch: Vec::new(),
            tickets: 0,
            in_flight: BTreeMap::new(),
            places: BTreeMap::new(),
            place_count: 0,
            changed_since_flush: true,
            epoch: 0,
            overflows: 0,
            overflow_cause: None,
        };
        inner.open_maps()?;
        Ok((inner, contents))
    }

    fn open_maps(&mut self) -> Result<()> {
        for (number, disk) in self.state.disks.iter().enumerate() {
            let (map, _) = DirtyMap::open(&self.folder, &format!("dirty-{number}"), Bytes(disk.size))?;
            self.dirty.push(map);
        }
        Ok(())
    }

    /// Does what the way the agent ended asks for, and marks it as running.
    fn settle(&mut self, found: Found, contents: Contents, fresh: State) -> Result<Found> {
        let mut found = match found {
            Found::Clean | Found::Killed { .. } if !self.adopt(found, &contents)? => Found::Damaged,
            found => found,
        };
        match &mut found {
            Found::Clean => {}
            Found::Killed { uncertain } => {
                let before = self.dirty_bytes();
                if self.state.logging {
                    self.mark(contents.uncertain)?;
                }
                *uncertain = self.dirty_bytes() - before;
            }
            Found::Nothing | Found::PowerLost | Found::Damaged => {
                self.dirty.iter_mut().try_for_each(DirtyMap::set_all)?;
                self.state = fresh.clone();
            }
        }
        if !self.state.logging {
            self.backlog.clear()?;
        }
        self.state.boot = fresh.boot;
        self.state.clean = false;
        self.mark_completed()?;
        self.store_state(true)?;
        Ok(found)
    }

    /// Takes numbering up where the backlog ends. False when the backlog is not what it was when the agent ended.
    fn adopt(&mut self, found: Found, contents: &Contents) -> Result<bool> {
        if !self.state.logging {
            return Ok(true);
        }
        let stored = self.state.next_sequence - 1;
        let newest = contents.newest.map_or(stored, |newest| newest.sequence);
        let expected =
            if found == Found::Clean { stored } else { completed_mark(&self.completed)?.max(stored) };
        if !contents.followed || newest < expected {
            return Ok(false);
        }
        self.state.next_sequence = newest + 1;
        self.state.time = self.state.time.max(contents.newest.map_or(0, |newest| newest.time));
        Ok(true)
    }

    /// Makes granules dirty.
    fn mark(&mut self, mut touched: Vec<(u16, ByteRange)>) -> Result<()> {
        touched.sort_by_key(|(disk, _)| *disk);
        for part in touched.chunk_by(|a, b| a.0 == b.0) {
            if let Some(map) = self.dirty.get_mut(usize::from(part[0].0)) {
                map.set_many(part.iter().map(|(_, range)| *range))?;
            }
        }
        Ok(())
    }

    /// Writes down that every change before the oldest one in flight has reached the disk.
    fn mark_completed(&mut self) -> Result<()> {
        let oldest = self.in_flight.values().flatten().min().copied();
        let completed = oldest.unwrap_or(self.state.next_sequence) - 1;
        let mut mark = completed.to_le_bytes().to_vec();
        mark.extend(crc32c::crc32c(&mark).to_le_bytes());
        self.completed.write_at(Bytes::ZERO, &mark)?;
        self.unmarked = 0;
        Ok(())
    }

    fn standing(&self) -> Standing {
        Standing {
            stream: self.state.stream,
            logging: self.state.logging,
            oldest_held: self.backlog.oldest().unwrap_or(self.state.next_sequence),
            next_sequence: self.state.next_sequence,
            acknowledged: self.state.acknowledged,
            epoch: self.epoch,
            dirty: self.dirty_bytes(),
            backlog: self.backlog.bytes(),
            overflows: self.overflows,
            pending: self.state.pending,
        }
    }

    fn dirty_bytes(&self) -> u64 {
        self.dirty.iter().map(DirtyMap::dirty_bytes).sum()
    }

    /// The next number; the clock may jump back, the stream's time does not.
    fn next_position(&self, time: Time) -> Position {
        Position { sequence: self.state.next_sequence, time: time.max(self.state.time) }
    }

    fn log_change(
        &mut self,
        disk: u16,
        range: ByteRange,
        change: Change<'_>,
        time: Time,
    ) -> std::result::Result<u64, NotTaken> {
        let at = self.next_position(time);
        self.scratch.clear();
        let offset = range.start().0;
        let encoded = match change {
            Change::Write(data) => self.encoder.encode_write(at, disk, offset, data, &mut self.scratch),
            Change::Zeroes(length) => {
                self.encoder.encode(&Frame::WriteZeroes { at, disk, offset, length }, &mut self.scratch)
            }
        };
        encoded.map_err(|_| NotTaken::Full)?;
        self.append(at, Some((disk, range)))?;
        self.changed_since_flush = true;
        Ok(at.sequence)
    }

    fn log_or_overflow(&mut self, frame: &Frame) -> Result<()> {
        let Some(at) = frame.position() else { return Ok(()) };
        self.scratch.clear();
        self.encoder.encode(frame, &mut self.scratch)?;
        match self.append(at, None) {
            Ok(()) => Ok(()),
            Err(cause) => self.overflow(cause),
        }
    }

    fn append(
        &mut self,
        at: Position,
        touches: Option<(u16, ByteRange)>,
    ) -> std::result::Result<(), NotTaken> {
        self.backlog.append(&self.scratch, at.sequence, touches)?;
        self.state.next_sequence += 1;
        self.state.time = at.time;
        Ok(())
    }

    /// Gives up the backlog: what it held becomes dirty, before it is forgotten.
    fn overflow(&mut self, cause: NotTaken) -> Result<()> {
        self.mark(self.backlog.touched_after(self.state.acknowledged).collect())?;
        self.state.logging = false;
        self.epoch += 1;
        self.overflows += 1;
        self.overflow_cause = Some(match cause {
            NotTaken::Full => format!("it holds {}", Bytes(self.backlog.bytes())),
            NotTaken::Failed(error) => error.to_string(),
        });
        self.store_state(false)?;
        Ok(self.backlog.clear()?)
    }

    /// Empties the backlog and logs from here on. Dirty bits stand for all that was in it.
    fn restart_log(&mut self, new_stream: Option<StreamId>) -> Result<()> {
        self.state.logging = false;
        self.store_state(false)?;
        self.backlog.clear()?;
        if let Some(stream) = new_stream {
            self.state.stream = stream;
            self.state.next_sequence = 1;
            self.state.acknowledged = 0;
        }
        self.mark_completed()?;
        self.state.logging = true;
        Ok(())
    }

    fn store_state(&self, durable: bool) -> Result<()> {
        Ok(self.state.store(&self.folder, durable)?)
    }
}

/// The newest change of which it is known that it and all before it reached the disk.
fn completed_mark(file: &Arc<dyn File>) -> Result<u64> {
    let mut mark = [0; 12];
    if file.size().0 < mark.len() as u64 {
        return Ok(0);
    }
    file.read_at(Bytes::ZERO, &mut mark)?;
    let (number, checksum) = mark.split_at(8);
    let good = crc32c::crc32c(number).to_le_bytes() == checksum;
    Ok(number.first_chunk().filter(|_| good).map_or(0, |number| u64::from_le_bytes(*number)))
}
