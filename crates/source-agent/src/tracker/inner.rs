//! What a tracker guards by its lock.

use super::{Change, Found, Standing};
use crate::Result;
use crate::backlog::{Backlog, BacklogLimits, Contents, NotTaken};
use crate::dirty_map::DirtyMap;
use crate::state::State;
use change_stream::{Compression, Encoder, Frame, Position, StreamId, Time};
use disk::{Access, ByteRange, Bytes, File, Folder};
use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

const COMPLETED: &str = "completed";
/// Beginnings of syncs that are remembered.
const MAX_PASSED_OVER: usize = 16;

pub(super) struct Inner {
    pub(super) folder: Arc<dyn Folder>,
    pub(super) state: State,
    pub(super) backlog: Backlog,
    pub(super) dirty: Vec<DirtyMap>,
    pub(super) completed: Arc<dyn File>,
    pub(super) unmarked: u32,
    pub(super) encoder: Encoder,
    pub(super) scratch: Vec<u8>,
    /// Numbers of changes begun so far.
    pub(super) tickets: u64,
    /// Changes in flight, with their sequence numbers.
    pub(super) in_flight: BTreeMap<u64, Option<u64>>,
    pub(super) places: BTreeMap<u64, u64>,
    pub(super) place_count: u64,
    pub(super) changed_since_flush: bool,
    pub(super) epoch: u64,
    pub(super) overflows: u64,
    pub(super) overflow_cause: Option<String>,
    /// Changes that the target did not have when a sync began, over the last few of them.
    pub(super) passed_over: VecDeque<RangeInclusive<u64>>,
}

impl Inner {
    pub(super) fn open(
        folder: Arc<dyn Folder>,
        state: State,
        limits: BacklogLimits,
    ) -> Result<(Inner, Contents)> {
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
            passed_over: VecDeque::new(),
        };
        inner.open_maps()?;
        Ok((inner, contents))
    }

    pub(super) fn open_maps(&mut self) -> Result<()> {
        for (number, disk) in self.state.disks.iter().enumerate() {
            let (map, _) = DirtyMap::open(&self.folder, &format!("dirty-{number}"), Bytes(disk.size))?;
            self.dirty.push(map);
        }
        Ok(())
    }

    /// Does what the way the agent ended asks for, and marks it as running.
    pub(super) fn settle(&mut self, found: Found, contents: Contents, fresh: State) -> Result<Found> {
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
    pub(super) fn adopt(&mut self, found: Found, contents: &Contents) -> Result<bool> {
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
    pub(super) fn mark(&mut self, mut touched: Vec<(u16, ByteRange)>) -> Result<()> {
        touched.sort_by_key(|(disk, _)| *disk);
        for part in touched.chunk_by(|a, b| a.0 == b.0) {
            if let Some(map) = self.dirty.get_mut(usize::from(part[0].0)) {
                map.set_many(part.iter().map(|(_, range)| *range))?;
            }
        }
        Ok(())
    }

    /// Writes down that every change before the oldest one in flight has reached the disk.
    pub(super) fn mark_completed(&mut self) -> Result<()> {
        let oldest = self.in_flight.values().flatten().min().copied();
        let completed = oldest.unwrap_or(self.state.next_sequence) - 1;
        let mut mark = completed.to_le_bytes().to_vec();
        mark.extend(crc32c::crc32c(&mark).to_le_bytes());
        self.completed.write_at(Bytes::ZERO, &mark)?;
        self.unmarked = 0;
        Ok(())
    }

    pub(super) fn standing(&self) -> Standing {
        Standing {
            stream: self.state.stream,
            logging: self.state.logging,
            oldest_held: self.backlog.oldest().unwrap_or(self.state.next_sequence),
            next_sequence: self.state.next_sequence,
            acknowledged: self.state.acknowledged,
            epoch: self.epoch,
            dirty: self.dirty_bytes(),
            backlog: self.backlog.waiting(),
            settled: self.backlog.acknowledged(),
            overflows: self.overflows,
            pending: self.state.pending,
        }
    }

    pub(super) fn dirty_bytes(&self) -> u64 {
        self.dirty.iter().map(DirtyMap::dirty_bytes).sum()
    }

    /// The next number; the clock may jump back, the stream's time does not.
    pub(super) fn next_position(&self, time: Time) -> Position {
        Position { sequence: self.state.next_sequence, time: time.max(self.state.time) }
    }

    pub(super) fn log_change(
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

    pub(super) fn log_or_overflow(&mut self, frame: &Frame) -> Result<()> {
        let Some(at) = frame.position() else { return Ok(()) };
        self.scratch.clear();
        self.encoder.encode(frame, &mut self.scratch)?;
        match self.append(at, None) {
            Ok(()) => Ok(()),
            Err(cause) => self.overflow(cause),
        }
    }

    pub(super) fn append(
        &mut self,
        at: Position,
        touches: Option<(u16, ByteRange)>,
    ) -> std::result::Result<(), NotTaken> {
        self.backlog.append(&self.scratch, at.sequence, touches)?;
        self.state.next_sequence += 1;
        self.state.time = at.time;
        Ok(())
    }

    /// A sync begins: the target is not level when it gets what it does not have yet.
    pub(super) fn note_passed_over(&mut self) {
        let range = self.state.acknowledged + 1..=self.state.next_sequence - 1;
        if range.is_empty() {
            return;
        }
        if self.passed_over.len() >= MAX_PASSED_OVER {
            self.passed_over.pop_front();
        }
        self.passed_over.push_back(range);
    }

    /// Gives up the backlog: what it held becomes dirty, before it is forgotten.
    pub(super) fn overflow(&mut self, cause: NotTaken) -> Result<()> {
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
    pub(super) fn restart_log(&mut self, new_stream: Option<StreamId>) -> Result<()> {
        self.empty_log(new_stream)?;
        self.state.logging = true;
        Ok(())
    }

    /// Everything is dirty, nothing is logged, and numbering begins anew.
    pub(super) fn begin_anew(&mut self, stream: StreamId) -> Result<()> {
        self.epoch += 1;
        self.dirty.iter_mut().try_for_each(DirtyMap::set_all)?;
        self.state.pending = None;
        self.passed_over.clear();
        // Their numbers are of the stream that ends here; that they are made is for dirty bits to tell.
        self.in_flight.values_mut().for_each(|sequence| *sequence = None);
        self.empty_log(Some(stream))?;
        self.store_state(true)
    }

    fn empty_log(&mut self, new_stream: Option<StreamId>) -> Result<()> {
        self.state.logging = false;
        self.store_state(false)?;
        self.backlog.clear()?;
        if let Some(stream) = new_stream {
            self.state.stream = stream;
            self.state.next_sequence = 1;
            self.state.acknowledged = 0;
        }
        self.mark_completed()
    }

    pub(super) fn store_state(&self, durable: bool) -> Result<()> {
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
