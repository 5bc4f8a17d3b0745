//! An extent that grows: grains at the end of the file, found through grain tables.
//!
//! New grains are written one after the other at the end of the file, a run of them in one write. Until the next
//! sync only memory knows where they are. The sync makes the grains durable first, then writes the changed
//! tables, both copies, and makes those durable: so a table on the medium never points to bytes that are not there.

use crate::header::{Geometry, Header, UNCLEAN_AT};
use crate::sync_gate::SyncGate;
use crate::tables::{Place, Table, Tables, entry_bytes, merge, place, read_entries};
use crate::{Error, Result, lock};
use disk::{Allocation, ByteRange, Bytes, Disk, Extent, File, SECTOR_SIZE};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

/// Changed tables held in memory before a write makes room by itself: 4 MiB of them, and 64 GiB of disk.
const MAX_DIRTY_TABLES: usize = 2048;
/// Most bytes that one step of a long write allocates and pads at once.
const STEP: u64 = 4 << 20;
/// Tables that one question about holes looks at.
const EXTENT_TABLES: u32 = 64;

pub(crate) struct SparseExtent {
    file: Arc<dyn File>,
    geometry: Geometry,
    state: Mutex<State>,
    /// Some grains are no longer being allocated.
    allocated: Condvar,
    gate: SyncGate,
    /// True while the unclean-shutdown byte is set. Writers hold it for reading.
    unclean: RwLock<bool>,
}

struct State {
    tables: Tables,
    /// First sector past everything that is in use or being written.
    next_free: u64,
    /// Grains that have a place but not yet their data: nobody may read them there, or allocate them again.
    allocating: Vec<Range<u64>>,
}

/// Consecutive bytes of the extent that are consecutive in the file, or nowhere.
struct Run {
    length: u64,
    at: Option<Bytes>,
}

/// A part of a write.
struct Step {
    range: ByteRange,
    at: Bytes,
    /// The grains that get their place by it.
    new: Option<Range<u64>>,
}

impl SparseExtent {
    /// The extent in `file`. After an unclean shutdown, copies of tables that differ are merged: in the file too,
    /// when it is to be written.
    pub(crate) fn open(file: &Arc<dyn File>, header: &Header, writable: bool) -> Result<SparseExtent> {
        let geometry = header.geometry(file.name(), file.size())?;
        let tables = Tables::load(file, geometry, header.unclean && !writable)?;
        if header.unclean && writable {
            recover(&**file, &geometry, &tables)?;
        }
        let end = file.size().to_sectors_rounded_up().0;
        let state = State { tables, next_free: end.next_multiple_of(geometry.grain), allocating: Vec::new() };
        Ok(SparseExtent {
            file: file.clone(),
            geometry,
            state: Mutex::new(state),
            allocated: Condvar::new(),
            gate: SyncGate::default(),
            unclean: RwLock::new(header.unclean && writable),
        })
    }

    pub(crate) fn read_at(&self, offset: Bytes, mut buffer: &mut [u8]) -> Result<()> {
        let mut at = offset.0;
        while !buffer.is_empty() {
            let run = self.run_at(at, buffer.len() as u64)?;
            let (now, later) = buffer.split_at_mut(run.length as usize);
            match run.at {
                Some(place) => self.file.read_at(place, now)?,
                None => now.fill(0),
            }
            at += run.length;
            buffer = later;
        }
        Ok(())
    }

    /// The longest run from `offset` on within one table, at most `limit` bytes.
    fn run_at(&self, offset: u64, limit: u64) -> Result<Run> {
        let mut state = lock(&self.state);
        let grain_bytes = self.geometry.grain_bytes();
        let grain = offset / grain_bytes;
        let within = offset % grain_bytes;
        let wanted = (within + limit).div_ceil(grain_bytes);
        let (count, first) = self.places(&mut state, grain, wanted)?;
        let length = (count * grain_bytes - within).min(limit);
        let at = match first {
            Place::Hole => None,
            Place::At(sector) => Some(Bytes(u64::from(sector) * SECTOR_SIZE + within)),
        };
        Ok(Run { length, at })
    }

    /// How many grains from `grain` on, at most `wanted`, lie one after the other, and where the first one is.
    fn places(&self, state: &mut State, grain: u64, wanted: u64) -> Result<(u64, Place)> {
        let geometry = &self.geometry;
        let (index, entry) = geometry.locate(grain);
        let count = wanted.min(u64::from(geometry.entries) - entry as u64);
        let end = state.next_free;
        let table_at = u64::from(state.tables.directories().primary[index as usize]) * SECTOR_SIZE;
        let Some(table) = state.tables.table(index)? else {
            return Ok((count, Place::Hole));
        };
        let damaged = |problem| Error::damaged(self.file.name(), Bytes(table_at + 4 * entry as u64), problem);
        let first = place(geometry, grain, table[entry], end).map_err(damaged)?;
        let mut expected = first;
        let mut length = 0;
        for (number, value) in (0..count).zip(&table[entry..]) {
            if place(geometry, grain + number, *value, end).map_err(damaged)? != expected {
                break;
            }
            if let Place::At(sector) = &mut expected {
                *sector = sector.saturating_add(geometry.grain as u32);
            }
            length += 1;
        }
        Ok((length, first))
    }

    pub(crate) fn write_at(&self, offset: Bytes, mut data: &[u8]) -> Result<()> {
        let _unclean = self.begin_write()?;
        let step_bytes = STEP.max(self.geometry.grain_bytes());
        let mut at = offset.0;
        while !data.is_empty() {
            let until = (at / step_bytes + 1) * step_bytes;
            let (now, later) = data.split_at((until - at).min(data.len() as u64) as usize);
            self.write_part(at, now)?;
            at += now.len() as u64;
            data = later;
        }
        self.gate.note_write();
        Ok(())
    }

    /// Sets the unclean-shutdown byte, durably, unless it is set already.
    fn begin_write(&self) -> Result<RwLockReadGuard<'_, bool>> {
        loop {
            let unclean = self.unclean.read().unwrap_or_else(PoisonError::into_inner);
            if *unclean {
                return Ok(unclean);
            }
            drop(unclean);
            let mut unclean = self.unclean.write().unwrap_or_else(PoisonError::into_inner);
            if !*unclean {
                self.file.write_at(UNCLEAN_AT, &[1])?;
                self.file.sync()?;
                *unclean = true;
            }
        }
    }

    fn write_part(&self, offset: u64, data: &[u8]) -> Result<()> {
        if lock(&self.state).tables.dirty_count() > MAX_DIRTY_TABLES {
            self.flush()?;
        }
        let mut done = 0;
        while done < data.len() {
            let steps = self.reserve(offset + done as u64, (data.len() - done) as u64)?;
            let start = Bytes(offset + done as u64);
            let length: u64 = steps.iter().map(|step| step.range.length().0).sum();
            let written = self.write_steps(&steps, start, &data[done..done + length as usize]);
            self.publish(&steps, written)?;
            done += length as usize;
        }
        Ok(())
    }

    /// Finds or makes a place for every byte from `offset` on, as far as one table reaches.
    fn reserve(&self, offset: u64, length: u64) -> Result<Vec<Step>> {
        let grain_bytes = self.geometry.grain_bytes();
        let entries = u64::from(self.geometry.entries);
        let first = offset / grain_bytes;
        let table_end = (first / entries + 1) * entries;
        let end = (offset + length).div_ceil(grain_bytes).min(table_end);
        let mut state = self.wait_until_free(first..end);
        self.ensure_table(&mut state, self.geometry.locate(first).0)?;
        let mut steps = Vec::new();
        let mut grain = first;
        while grain < end {
            let (count, place) = self.places(&mut state, grain, end - grain)?;
            let start = offset.max(grain * grain_bytes);
            let stop = (offset + length).min((grain + count) * grain_bytes);
            let (sector, new) = match place {
                Place::At(sector) => (u64::from(sector), None),
                Place::Hole => (self.allocate(&mut state, count)?, Some(grain..grain + count)),
            };
            let at = Bytes(sector * SECTOR_SIZE + start - grain * grain_bytes);
            steps.push(Step { range: ByteRange::between(Bytes(start), Bytes(stop)), at, new });
            grain += count;
        }
        state.allocating.extend(steps.iter().filter_map(|step| step.new.clone()));
        Ok(steps)
    }

    fn wait_until_free(&self, grains: Range<u64>) -> MutexGuard<'_, State> {
        let taken = |state: &mut State| {
            state.allocating.iter().any(|busy| busy.start < grains.end && grains.start < busy.end)
        };
        self.allocated.wait_while(lock(&self.state), taken).unwrap_or_else(PoisonError::into_inner)
    }

    fn allocate(&self, state: &mut State, grains: u64) -> Result<u64> {
        let sector = state.next_free;
        let next = sector + grains * self.geometry.grain;
        if next > u64::from(u32::MAX) {
            return Err(Error::SparseFull { object: self.file.name().to_owned() });
        }
        state.next_free = next;
        Ok(sector)
    }

    /// Gives a table a place, where its writer left it out: first the empty table, then the entry that points to it.
    fn ensure_table(&self, state: &mut State, index: u32) -> Result<()> {
        if state.tables.table(index)?.is_some() {
            return Ok(());
        }
        let length = self.geometry.table_sectors();
        let grains = (2 * length).div_ceil(self.geometry.grain);
        let primary = self.allocate(state, grains)?;
        let end = Bytes((primary + grains * self.geometry.grain) * SECTOR_SIZE);
        let zeroes = vec![0; (grains * self.geometry.grain_bytes()) as usize];
        self.file.write_at(end - Bytes(zeroes.len() as u64), &zeroes)?;
        self.file.sync()?;
        state.tables.add_table(index, primary as u32, (primary + length) as u32)
    }

    fn write_steps(&self, steps: &[Step], start: Bytes, data: &[u8]) -> Result<()> {
        for step in steps {
            let from = (step.range.start() - start).as_usize();
            let part = &data[from..from + step.range.length().as_usize()];
            match &step.new {
                None => self.file.write_at(step.at, part)?,
                Some(grains) => self.write_new(grains, step, part)?,
            }
        }
        Ok(())
    }

    /// Writes grains that did not exist, filled up with zeroes to whole ones.
    fn write_new(&self, grains: &Range<u64>, step: &Step, data: &[u8]) -> Result<()> {
        let grain_bytes = self.geometry.grain_bytes();
        let before = step.range.start().0 - grains.start * grain_bytes;
        let whole = ((grains.end - grains.start) * grain_bytes) as usize;
        if data.len() == whole {
            return Ok(self.file.write_at(step.at, data)?);
        }
        let mut padded = vec![0; whole];
        padded[before as usize..before as usize + data.len()].copy_from_slice(data);
        Ok(self.file.write_at(step.at - Bytes(before), &padded)?)
    }

    /// Lets readers and the next sync find the new grains, if they are written.
    fn publish(&self, steps: &[Step], written: Result<()>) -> Result<()> {
        let mut state = lock(&self.state);
        let mut outcome = written;
        for step in steps {
            let Some(grains) = &step.new else { continue };
            state.allocating.retain(|busy| busy != grains);
            if outcome.is_ok() {
                let before = step.range.start().0 - grains.start * self.geometry.grain_bytes();
                let sector = (step.at.0 - before) / SECTOR_SIZE;
                outcome = state.tables.set(grains.clone(), sector as u32);
            }
        }
        self.allocated.notify_all();
        outcome
    }

    /// Zeroes what has a place; what has none is zero already. Grains keep their place, so no table changes, and
    /// the file may free the space behind it.
    pub(crate) fn write_zeroes(&self, range: ByteRange) -> Result<()> {
        let _unclean = self.begin_write()?;
        let mut at = range.start().0;
        while at < range.end().0 {
            let run = self.run_at(at, range.end().0 - at)?;
            if let Some(place) = run.at {
                let end = Bytes(place.0 + run.length);
                self.file.write_zeroes(ByteRange::between(place, end))?;
                self.gate.note_write();
            }
            at += run.length;
        }
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.gate.pass(|| self.flush_alone())
    }

    fn flush(&self) -> Result<()> {
        self.gate.note_write();
        self.sync()
    }

    fn flush_alone(&self) -> Result<()> {
        let changed = lock(&self.state).tables.begin_flush();
        self.file.sync()?;
        if changed.is_empty() {
            return Ok(());
        }
        let writes = self.table_writes(&changed);
        for (sector, bytes) in writes {
            self.file.write_at(Bytes(sector * SECTOR_SIZE), &bytes)?;
        }
        self.file.sync()?;
        lock(&self.state).tables.end_flush(&changed);
        Ok(())
    }

    /// Where the copies of changed tables go; tables that lie one after the other make one write.
    fn table_writes(&self, changed: &[(u32, Table)]) -> Vec<(u64, Vec<u8>)> {
        let state = lock(&self.state);
        let mut places: Vec<(u64, &Table)> = Vec::with_capacity(2 * changed.len());
        for (index, table) in changed {
            places.extend(state.tables.directories().copies(*index).map(|sector| (sector.into(), table)));
        }
        places.sort_unstable_by_key(|(sector, _)| *sector);
        let mut writes: Vec<(u64, Vec<u8>)> = Vec::new();
        for (sector, table) in places {
            match writes.last_mut() {
                Some((start, bytes)) if *start * SECTOR_SIZE + bytes.len() as u64 == sector * SECTOR_SIZE => {
                    bytes.extend(entry_bytes(table));
                }
                _ => writes.push((sector, entry_bytes(table))),
            }
        }
        writes
    }

    /// Syncs, and takes the unclean-shutdown byte back.
    pub(crate) fn close(&self) -> Result<()> {
        let mut unclean = self.unclean.write().unwrap_or_else(PoisonError::into_inner);
        if *unclean {
            self.flush()?;
            self.file.write_at(UNCLEAN_AT, &[0])?;
            self.file.sync()?;
            *unclean = false;
        }
        Ok(())
    }

    pub(crate) fn extent_at(&self, offset: Bytes) -> Result<Extent> {
        let capacity = self.geometry.capacity.0 * SECTOR_SIZE;
        let table_bytes = self.geometry.grain_bytes() * u64::from(self.geometry.entries);
        let horizon = (offset.0 + u64::from(EXTENT_TABLES) * table_bytes).min(capacity);
        let mut at = offset.0;
        let mut hole = None;
        while at < horizon {
            let run = self.run_at(at, horizon - at)?;
            if *hole.get_or_insert(run.at.is_none()) != run.at.is_none() {
                break;
            }
            at += run.length;
        }
        let allocation = if hole == Some(true) { Allocation::Hole } else { Allocation::Data };
        Ok(Extent { length: Bytes(at - offset.0), allocation })
    }
}

/// Makes the copies of every table equal again.
fn recover(file: &dyn File, geometry: &Geometry, tables: &Tables) -> Result<()> {
    let count = geometry.entries as usize;
    let mut changed = false;
    for index in 0..geometry.tables {
        let sectors: Vec<u32> = tables.directories().copies(index).collect();
        let [primary_at, redundant_at] = sectors[..] else { continue };
        let primary = read_entries(file, primary_at.into(), count)?;
        let redundant = read_entries(file, redundant_at.into(), count)?;
        let merged = merge(geometry, index, &primary, &redundant).map_err(|(entry, problem)| {
            let offset = Bytes(u64::from(primary_at) * SECTOR_SIZE + entry as u64 * 4);
            Error::damaged(file.name(), offset, problem)
        })?;
        for (sector, entries) in [(primary_at, primary), (redundant_at, redundant)] {
            if entries[..] != merged[..] {
                file.write_at(Bytes(u64::from(sector) * SECTOR_SIZE), &entry_bytes(&merged))?;
                changed = true;
            }
        }
    }
    if changed {
        file.sync()?;
    }
    Ok(())
}
