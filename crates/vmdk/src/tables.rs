//! Grain directories and grain tables: where in the file each grain is.
//!
//! The directories stay in memory; tables are loaded when they are first needed, into a cache of bounded size. A
//! changed table stays in memory until the extent's sync has written it.

use crate::header::Geometry;
use crate::{Directory, Error, Problem, Result};
use disk::{Bytes, Disk, File, SECTOR_SIZE};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Tables in each of the cache's two generations: 2 MiB each, and together 64 GiB of disk.
const GENERATION: usize = 1024;
/// The table entry of a grain of zeroes, where the header allows it.
const ZERO_GRAIN: u32 = 1;

pub(crate) type Table = Box<[u32]>;

/// Where a grain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere: it reads as zeroes.
    Hole,
    /// In the file, from this sector on.
    At(u32),
}

/// The two directories of an extent; without redundancy the second is empty.
#[derive(Debug)]
pub(crate) struct Directories {
    pub(crate) primary: Vec<u32>,
    pub(crate) redundant: Vec<u32>,
}

impl Directories {
    /// Reads both, unchecked.
    pub(crate) fn read(file: &dyn Disk, geometry: &Geometry) -> Result<Directories> {
        let count = geometry.tables as usize;
        let primary = read_entries(file, geometry.directory.0, count)?;
        let redundant = match geometry.redundant {
            Some(at) => read_entries(file, at.0, count)?,
            None => Vec::new(),
        };
        Ok(Directories { primary, redundant })
    }

    /// Reads both, and refuses what cannot be.
    pub(crate) fn load(file: &dyn Disk, geometry: &Geometry) -> Result<Directories> {
        let directories = Directories::read(file, geometry)?;
        let mut first = None;
        directories.inspect(geometry, file.size(), &mut |offset, problem| {
            first.get_or_insert((offset, problem));
        });
        match first {
            Some((offset, problem)) => Err(Error::damaged(file.name(), offset, problem)),
            None => Ok(directories),
        }
    }

    /// Reports every entry that cannot be right: out of the file, over other metadata, or in one directory only.
    pub(crate) fn inspect(&self, geometry: &Geometry, size: Bytes, report: &mut dyn FnMut(Bytes, Problem)) {
        let length = geometry.table_sectors();
        let directory_length = geometry.directory_sectors();
        let reserved = [Some(geometry.directory), geometry.redundant];
        let possible = |sector: u64| {
            let clear = |at: u64| sector + length <= at || at + directory_length <= sector;
            let inside = sector >= geometry.start && sector + length <= size.0 / SECTOR_SIZE;
            inside && reserved.iter().flatten().all(|at| clear(at.0))
        };
        let mut places = Vec::with_capacity(self.primary.len() + self.redundant.len());
        let both = [
            (Directory::Primary, &self.primary, geometry.directory.0),
            (Directory::Redundant, &self.redundant, geometry.redundant.map_or(0, |at| at.0)),
        ];
        for (directory, entries, at) in both {
            for (index, sector) in (0..).zip(entries.iter().copied()) {
                if sector != 0 && !possible(sector.into()) {
                    report(entry_offset(at, index), Problem::TablePlace { directory, index, sector });
                } else if sector != 0 {
                    places.push(sector);
                }
            }
        }
        places.sort_unstable();
        for pair in places.windows(2) {
            if u64::from(pair[1] - pair[0]) < length {
                let sector = pair[1];
                report(Bytes(u64::from(sector) * SECTOR_SIZE), Problem::SharedTable { sector });
            }
        }
        for (index, (one, other)) in (0..).zip(self.primary.iter().zip(&self.redundant)) {
            if (*one == 0) != (*other == 0) {
                report(entry_offset(geometry.directory.0, index), Problem::DirectoriesDiffer { index });
            }
        }
    }

    /// The sectors of a table's copies: the primary, then the redundant one.
    pub(crate) fn copies(&self, index: u32) -> impl Iterator<Item = u32> {
        let at = |directory: &Vec<u32>| directory.get(index as usize).copied().filter(|sector| *sector != 0);
        at(&self.primary).into_iter().chain(at(&self.redundant))
    }
}

fn entry_offset(directory: u64, index: u32) -> Bytes {
    Bytes(directory * SECTOR_SIZE + u64::from(index) * 4)
}

/// Reads 32-bit numbers from a sector on.
pub(crate) fn read_entries(file: &dyn Disk, sector: u64, count: usize) -> Result<Vec<u32>> {
    let mut bytes = vec![0; count * 4];
    file.read_at(Bytes(sector * SECTOR_SIZE), &mut bytes)?;
    Ok(bytes.chunks_exact(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect())
}

/// 32-bit numbers as they are stored.
pub(crate) fn entry_bytes(entries: &[u32]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_le_bytes()).collect()
}

/// One table out of its two copies, after an unclean shutdown.
///
/// An entry changes once, from nothing to a grain, and only when the grain is durable: of an entry and its copy
/// that differ, the one that points to a grain is right.
pub(crate) fn merge(
    geometry: &Geometry,
    index: u32,
    primary: &[u32],
    redundant: &[u32],
) -> std::result::Result<Table, (usize, Problem)> {
    let merged = primary.iter().zip(redundant).enumerate().map(|(entry, pair)| match pair {
        (one, other) if one == other => Ok(*one),
        (0, one) | (one, 0) => Ok(*one),
        (one, other) => Err((entry, differ(geometry, index, entry, *one, *other))),
    });
    merged.collect()
}

pub(crate) fn differ(geometry: &Geometry, index: u32, entry: usize, primary: u32, redundant: u32) -> Problem {
    let grain = u64::from(index) * u64::from(geometry.entries) + entry as u64;
    Problem::TablesDiffer { grain, primary, redundant }
}

/// What a table entry means; `end` is the first sector past the file.
pub(crate) fn place(
    geometry: &Geometry,
    grain: u64,
    entry: u32,
    end: u64,
) -> std::result::Result<Place, Problem> {
    if entry == 0 || entry == ZERO_GRAIN && geometry.zero_grains {
        return Ok(Place::Hole);
    }
    let start = u64::from(entry);
    // How long a compressed grain is, its marker tells. The last grain may end with the disk.
    let length = if geometry.compressed { 1 } else { geometry.used_bytes(grain) / SECTOR_SIZE };
    if start < geometry.overhead || start + length > end {
        return Err(Problem::GrainPlace { grain, sector: entry });
    }
    Ok(Place::At(entry))
}

/// The tables of one extent.
pub(crate) struct Tables {
    file: Arc<dyn File>,
    geometry: Geometry,
    directories: Directories,
    /// After an unclean shutdown, copies of a table may differ.
    merging: bool,
    young: BTreeMap<u32, Table>,
    old: BTreeMap<u32, Table>,
    dirty: BTreeMap<u32, DirtyTable>,
}

#[derive(Debug)]
struct DirtyTable {
    entries: Table,
    /// It has changed since the flush that is under way took its copy.
    newer: bool,
}

impl Tables {
    pub(crate) fn load(file: &Arc<dyn File>, geometry: Geometry, merging: bool) -> Result<Tables> {
        let directories = Directories::load(file, &geometry)?;
        Ok(Tables {
            file: file.clone(),
            geometry,
            directories,
            merging,
            young: BTreeMap::new(),
            old: BTreeMap::new(),
            dirty: BTreeMap::new(),
        })
    }

    pub(crate) fn directories(&self) -> &Directories {
        &self.directories
    }

    /// The entries of a table; `None` where there is no table, so no grain either.
    pub(crate) fn table(&mut self, index: u32) -> Result<Option<&[u32]>> {
        if self.directories.primary[index as usize] == 0 {
            return Ok(None);
        }
        // The lookups are told apart first, because a borrow that is returned would hold through the others.
        if self.dirty.contains_key(&index) {
            return Ok(self.dirty.get(&index).map(|table| &*table.entries));
        }
        if !self.young.contains_key(&index) {
            let table = match self.old.remove(&index) {
                Some(table) => table,
                None => self.read_table(index)?,
            };
            self.remember(index, table);
        }
        Ok(self.young.get(&index).map(|table| &**table))
    }

    fn remember(&mut self, index: u32, table: Table) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(index, table);
    }

    fn read_table(&self, index: u32) -> Result<Table> {
        let count = self.geometry.entries as usize;
        let mut copies = Vec::with_capacity(2);
        for sector in self.directories.copies(index) {
            copies.push((sector, read_entries(&*self.file, sector.into(), count)?));
        }
        let damaged = |sector: u32, entry: usize, problem| {
            let offset = entry_offset(sector.into(), entry as u32);
            Error::damaged(self.file.name(), offset, problem)
        };
        match copies.as_slice() {
            [(sector, primary), (_, redundant)] if self.merging => {
                merge(&self.geometry, index, primary, redundant)
                    .map_err(|(entry, problem)| damaged(*sector, entry, problem))
            }
            [(sector, primary), (_, redundant)] => {
                let differing = primary.iter().zip(redundant).position(|(one, other)| one != other);
                if let Some(entry) = differing {
                    let problem = differ(&self.geometry, index, entry, primary[entry], redundant[entry]);
                    return Err(damaged(*sector, entry, problem));
                }
                Ok(primary.as_slice().into())
            }
            _ => Ok(copies.swap_remove(0).1.into()),
        }
    }

    /// Puts consecutive grains of one table in place.
    pub(crate) fn set(&mut self, grains: std::ops::Range<u64>, first_sector: u32) -> Result<()> {
        let (index, first) = self.geometry.locate(grains.start);
        if !self.dirty.contains_key(&index) {
            let Some(entries) = self.table(index)?.map(Table::from) else {
                let problem = Problem::DirectoriesDiffer { index };
                return Err(Error::damaged(self.file.name(), Bytes::ZERO, problem));
            };
            self.young.remove(&index);
            self.dirty.insert(index, DirtyTable { entries, newer: true });
        }
        if let Some(table) = self.dirty.get_mut(&index) {
            table.newer = true;
            let count = (grains.end - grains.start) as usize;
            for (number, entry) in (0..).zip(&mut table.entries[first..first + count]) {
                *entry = first_sector + number * self.geometry.grain as u32;
            }
        }
        Ok(())
    }

    /// Adds an empty table, whose copies are durable as zeroes at these sectors.
    pub(crate) fn add_table(&mut self, index: u32, primary: u32, redundant: u32) -> Result<()> {
        let place = |directory: u64, sector: u32| {
            self.file.write_at(entry_offset(directory, index), &sector.to_le_bytes())
        };
        place(self.geometry.directory.0, primary)?;
        self.directories.primary[index as usize] = primary;
        if let Some(at) = self.geometry.redundant {
            place(at.0, redundant)?;
            self.directories.redundant[index as usize] = redundant;
        }
        Ok(())
    }

    /// Tables changed and not yet written.
    pub(crate) fn dirty_count(&self) -> usize {
        self.dirty.len()
    }

    /// A copy of every changed table.
    pub(crate) fn begin_flush(&mut self) -> Vec<(u32, Table)> {
        let copy = |(index, table): (&u32, &mut DirtyTable)| {
            table.newer = false;
            (*index, table.entries.clone())
        };
        self.dirty.iter_mut().map(copy).collect()
    }

    /// The copies are durable: tables that did not change meanwhile may leave memory again.
    pub(crate) fn end_flush(&mut self, flushed: &[(u32, Table)]) {
        for (index, _) in flushed {
            if self.dirty.get(index).is_some_and(|table| !table.newer)
                && let Some(table) = self.dirty.remove(index)
            {
                self.remember(*index, table.entries);
            }
        }
    }
}
