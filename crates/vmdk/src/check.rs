//! Looking for everything that can be wrong with an image, without changing it.

mod grains;
mod report;

pub use report::{Finding, Report, Severity};

use crate::descriptor::Backing;
use crate::header::{Geometry, Header, NEWLINE_AT, UNCLEAN_AT};
use crate::open::{Located, locate, open_extent_files, sparse_header};
use crate::stream_reader::{complete_header, read_grain};
use crate::tables::{Directories, Place, differ, place, read_entries};
use crate::{Error, Problem, Result};
use disk::{Access, Bytes, Disk, Folder, SECTOR_SIZE, Sectors};
use grains::SharedGrains;

/// Checks an image, for which nobody may have it open for writing.
///
/// All metadata is read, and of a compressed image all data. An error means that the image could not be checked:
/// it is of a kind that is refused, or a file of it cannot be read.
pub fn check(folder: &dyn Folder, name: &str) -> Result<Report> {
    let mut report = Report::default();
    let located = match locate(folder, name, Access::Read) {
        Err(error) => return report.with_damage(error),
        Ok(located) => located,
    };
    if let Some(parent) = located.descriptor.parent() {
        return Err(Error::refused(located.file.name(), parent));
    }
    if let Some(path) = &located.descriptor.change_tracking {
        let problem = Problem::ChangeTracking { path: path.clone() };
        report.add(Severity::Warning, located.file.name(), Bytes::ZERO, problem, false);
    }
    match check_extents(folder, name, &located, &mut report) {
        Err(error) => report.with_damage(error),
        Ok(()) => Ok(report),
    }
}

fn check_extents(folder: &dyn Folder, name: &str, located: &Located, report: &mut Report) -> Result<()> {
    let files = open_extent_files(folder, name, located, Access::Read)?;
    for line in &located.descriptor.extents {
        let Some(file) = line.backing.file().and_then(|name| files.get(name)) else { continue };
        if let Backing::Flat { offset, .. } = line.backing {
            let needed = Sectors(offset.0 + line.sectors.0).to_bytes().unwrap_or(Bytes(u64::MAX));
            let found = file.size();
            if found < needed {
                let problem = Problem::TooShort { found, needed };
                report.add(Severity::Error, file.name(), found, problem, false);
            }
            continue;
        }
        let checked = match &located.embedded {
            Some(embedded) => check_sparse(&**file, &embedded.header, line.sectors, report),
            None => {
                sparse_header(&**file).and_then(|header| check_sparse(&**file, &header, line.sectors, report))
            }
        };
        report.take(checked)?;
    }
    Ok(())
}

/// Checks one sparse or compressed extent. Damage that ends the check early is the error.
pub(crate) fn check_sparse(
    file: &dyn Disk,
    header: &Header,
    declared: Sectors,
    report: &mut Report,
) -> Result<()> {
    if header.newline_broken() {
        let problem = Problem::NewlineBytes { found: header.newline };
        report.add(Severity::Error, file.name(), NEWLINE_AT, problem, true);
    }
    if header.unclean {
        report.add(Severity::Warning, file.name(), UNCLEAN_AT, Problem::Unclean, true);
    }
    if Sectors(header.capacity) != declared {
        let problem = Problem::CapacityMismatch { descriptor: declared, header: Sectors(header.capacity) };
        report.add(Severity::Error, file.name(), Bytes(12), problem, false);
    }
    let header = complete_header(file, header)?;
    let geometry = header.geometry(file.name(), file.size())?;
    let directories = Directories::read(file, &geometry)?;
    let mut whole = true;
    directories.inspect(&geometry, file.size(), &mut |offset, problem| {
        whole = false;
        report.add(Severity::Error, file.name(), offset, problem, geometry.redundant.is_some());
    });
    if !whole {
        return Ok(());
    }
    let mut extent = SparseCheck { file, geometry, directories, unclean: header.unclean, report };
    extent.check_tables()?;
    extent.check_grains()
}

/// A sparse extent whose directories are whole.
struct SparseCheck<'a> {
    file: &'a dyn Disk,
    geometry: Geometry,
    directories: Directories,
    unclean: bool,
    report: &'a mut Report,
}

impl SparseCheck<'_> {
    /// The two copies of every table are equal.
    fn check_tables(&mut self) -> Result<()> {
        let count = self.geometry.entries as usize;
        for index in 0..self.geometry.tables {
            let sectors: Vec<u32> = self.directories.copies(index).collect();
            let [primary_at, redundant_at] = sectors[..] else { continue };
            let primary = read_entries(self.file, primary_at.into(), count)?;
            let redundant = read_entries(self.file, redundant_at.into(), count)?;
            for (entry, (one, other)) in primary.iter().zip(&redundant).enumerate() {
                if one == other {
                    continue;
                }
                let mergeable = *one == 0 || *other == 0;
                // A crash leaves such differences, and opening the image for writing mends them.
                let expected = self.unclean && mergeable;
                let severity = if expected { Severity::Warning } else { Severity::Error };
                let problem = differ(&self.geometry, index, entry, *one, *other);
                let offset = Bytes(u64::from(primary_at) * SECTOR_SIZE + 4 * entry as u64);
                self.report.add(severity, self.file.name(), offset, problem, mergeable);
            }
        }
        Ok(())
    }

    /// Every grain is where data can be, and no two are in one place.
    fn check_grains(&mut self) -> Result<()> {
        let end = self.file.size().0 / SECTOR_SIZE;
        let length = if self.geometry.compressed { 1 } else { self.geometry.grain };
        let mut used = 0u64;
        for window in SharedGrains::windows(end, length) {
            let first = window.start == 0;
            let mut shared = SharedGrains::new(window, length);
            for index in 0..self.geometry.tables {
                let (table_at, entries) = self.merged(index)?;
                for (grain, entry) in (u64::from(index) * u64::from(self.geometry.entries)..).zip(entries) {
                    let Some(sector) = self.sector(first, table_at, grain, entry, end)? else { continue };
                    used += u64::from(first);
                    shared.insert(grain, sector, |at, problem| self.report_shared(at, problem));
                }
            }
            shared.settle(|at, problem| self.report_shared(at, problem));
        }
        self.check_leaks(end, used);
        Ok(())
    }

    fn report_shared(&mut self, sector: u32, problem: Problem) {
        let offset = Bytes(u64::from(sector) * SECTOR_SIZE);
        self.report.add(Severity::Error, self.file.name(), offset, problem, false);
    }

    /// A table as a reader after a crash sees it, and where its primary copy is.
    fn merged(&self, index: u32) -> Result<(u64, Vec<u32>)> {
        let count = self.geometry.entries as usize;
        let mut merged: Option<(u64, Vec<u32>)> = None;
        for sector in self.directories.copies(index) {
            let entries = read_entries(self.file, sector.into(), count)?;
            match &mut merged {
                None => merged = Some((sector.into(), entries)),
                Some((_, first)) => {
                    for (one, other) in first.iter_mut().zip(entries) {
                        *one = if *one == 0 { other } else { *one };
                    }
                }
            }
        }
        Ok(merged.unwrap_or_default())
    }

    /// Where a grain is. Reports, if it is to, an entry that cannot be.
    fn sector(
        &mut self,
        report: bool,
        table_at: u64,
        grain: u64,
        entry: u32,
        end: u64,
    ) -> Result<Option<u32>> {
        // Behind the last grain of the disk a table has entries of no meaning.
        if grain >= self.geometry.grains() {
            return Ok(None);
        }
        let found = match place(&self.geometry, grain, entry, end) {
            Ok(Place::Hole) => return Ok(None),
            Ok(Place::At(sector)) if report && self.geometry.compressed => {
                let read = read_grain(self.file, &self.geometry, grain, sector).map(drop);
                self.report.take(read)?;
                return Ok(Some(sector));
            }
            Ok(Place::At(sector)) => return Ok(Some(sector)),
            Err(problem) => problem,
        };
        if report {
            let entry = self.geometry.locate(grain).1;
            let offset = Bytes(table_at * SECTOR_SIZE + 4 * entry as u64);
            self.report.add(Severity::Error, self.file.name(), offset, found, false);
        }
        Ok(None)
    }

    fn check_leaks(&mut self, end: u64, used: u64) {
        if self.geometry.compressed {
            return;
        }
        let data = end.saturating_sub(self.geometry.overhead).div_ceil(self.geometry.grain);
        let late_tables = (0..self.geometry.tables)
            .flat_map(|index| self.directories.copies(index))
            .filter(|sector| u64::from(*sector) >= self.geometry.overhead)
            .count() as u64;
        let late = (late_tables * self.geometry.table_sectors()).div_ceil(self.geometry.grain);
        // Tables added later take a grain for both copies, or share one: no leak is reported that may be none.
        let leaked = data.saturating_sub(used).saturating_sub(late.max(late_tables));
        if leaked > 0 {
            let at = Bytes(self.geometry.overhead * SECTOR_SIZE);
            self.report.add(Severity::Note, self.file.name(), at, Problem::Leaked { grains: leaked }, false);
        }
    }
}
