//! Mending what can be mended without guessing.

use crate::check::{Report, Severity, check, check_sparse};
use crate::descriptor::ExtentLine;
use crate::header::{Geometry, Header, NEWLINE_AT, NEWLINE_BYTES, UNCLEAN_AT};
use crate::open::{locate, open_extent_files, sparse_header};
use crate::stream_reader::complete_header;
use crate::tables::{Directories, entry_bytes, read_entries};
use crate::{Problem, Result};
use disk::{Access, Bytes, File, Folder, SECTOR_SIZE, Sectors};

/// What a repair did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// What was found before.
    pub before: Report,
    /// What is left.
    pub after: Report,
}

/// Repairs an image, which nobody may have open.
///
/// Mended are: a directory entry that breaks the pattern of all others, when both copies of the table that the
/// pattern leads to are equal; a table entry that is missing in one of two copies; and, when nothing else is
/// wrong with the extent, the newline bytes and the unclean-shutdown byte. All else is left as it is, because
/// mending it would be guessing: a flat extent that is too short lacks data that nobody here knows, and of two
/// grains in one place nobody knows whose the data is.
pub fn repair(folder: &dyn Folder, name: &str) -> Result<Repaired> {
    let before = check(folder, name)?;
    if before.findings.iter().any(|finding| finding.repairable) {
        let located = locate(folder, name, Access::Write)?;
        let files = open_extent_files(folder, name, &located, Access::Write)?;
        for line in located.descriptor.extents.iter().filter(|line| line.writable) {
            let Some(file) = line.backing.file().and_then(|name| files.get(name)) else { continue };
            if is_sparse(line) {
                repair_sparse(&**file, line.sectors)?;
            }
        }
    }
    let after = check(folder, name)?;
    Ok(Repaired { before, after })
}

fn is_sparse(line: &ExtentLine) -> bool {
    matches!(line.backing, crate::descriptor::Backing::Sparse { .. })
}

fn repair_sparse(file: &dyn File, declared: Sectors) -> Result<()> {
    let header = sparse_header(file)?;
    let geometry =
        complete_header(file, &header).and_then(|header| header.geometry(file.name(), file.size()));
    // What is wrong with the geometry cannot be mended, and the check has told.
    let Ok(geometry) = geometry else { return Ok(()) };
    if geometry.redundant.is_some() {
        repair_directories(file, &geometry)?;
        repair_tables(file, &geometry)?;
        file.sync()?;
    }
    repair_header(file, &header, declared)
}

/// Restores directory entries by the pattern of the others, when that makes both directories whole and the copies
/// of each table concerned equal.
fn repair_directories(file: &dyn File, geometry: &Geometry) -> Result<()> {
    let found = Directories::read(file, geometry)?;
    if is_whole(&found, geometry, file.size()) {
        return Ok(());
    }
    let step = geometry.table_sectors();
    let primary = by_pattern(&found.primary, step);
    let redundant = by_pattern(&found.redundant, step);
    let (Some(primary), Some(redundant)) = (primary, redundant) else { return Ok(()) };
    let mended = Directories { primary, redundant };
    if !is_whole(&mended, geometry, file.size()) {
        return Ok(());
    }
    let count = geometry.entries as usize;
    for index in 0..geometry.tables as usize {
        let same = |one: &Directories, other: &Directories| {
            one.primary[index] == other.primary[index] && one.redundant[index] == other.redundant[index]
        };
        if !same(&found, &mended) {
            let one = read_entries(file, mended.primary[index].into(), count)?;
            if one != read_entries(file, mended.redundant[index].into(), count)? {
                return Ok(());
            }
        }
    }
    let places = [(Some(geometry.directory), &mended.primary), (geometry.redundant, &mended.redundant)];
    for (at, entries) in places {
        if let Some(at) = at {
            file.write_at(Bytes(at.0 * SECTOR_SIZE), &entry_bytes(entries))?;
        }
    }
    Ok(())
}

fn is_whole(directories: &Directories, geometry: &Geometry, size: Bytes) -> bool {
    let mut whole = true;
    directories.inspect(geometry, size, &mut |_, _| whole = false);
    whole
}

/// The directory of tables that lie one after the other, as most of its entries say; `None` where fewer do.
fn by_pattern(entries: &[u32], step: u64) -> Option<Vec<u32>> {
    let mut bases: Vec<i64> =
        entries.iter().zip(0i64..).map(|(entry, index)| i64::from(*entry) - index * step as i64).collect();
    bases.sort_unstable();
    // What more than half of the entries say is in the middle.
    let base = bases[bases.len() / 2];
    let agreeing = bases.iter().filter(|other| **other == base).count();
    let entry = |index: i64| u32::try_from(base + index * step as i64).ok();
    let enough = agreeing * 2 > entries.len();
    enough.then(|| (0..entries.len() as i64).map(entry).collect::<Option<Vec<u32>>>()).flatten()
}

/// Completes each copy of a table by the entries that only the other one has.
fn repair_tables(file: &dyn File, geometry: &Geometry) -> Result<()> {
    let directories = Directories::read(file, geometry)?;
    if !is_whole(&directories, geometry, file.size()) {
        return Ok(());
    }
    let count = geometry.entries as usize;
    for index in 0..geometry.tables {
        let sectors: Vec<u32> = directories.copies(index).collect();
        let [primary_at, redundant_at] = sectors[..] else { continue };
        let primary = read_entries(file, primary_at.into(), count)?;
        let redundant = read_entries(file, redundant_at.into(), count)?;
        if primary == redundant {
            continue;
        }
        let completed = |own: &[u32], other: &[u32]| -> Vec<u32> {
            own.iter().zip(other).map(|(own, other)| if *own == 0 { *other } else { *own }).collect()
        };
        for (sector, entries) in
            [(primary_at, completed(&primary, &redundant)), (redundant_at, completed(&redundant, &primary))]
        {
            file.write_at(Bytes(u64::from(sector) * SECTOR_SIZE), &entry_bytes(&entries))?;
        }
    }
    Ok(())
}

/// Restores the newline bytes and clears the unclean-shutdown byte of an extent that is whole otherwise.
fn repair_header(file: &dyn File, header: &Header, declared: Sectors) -> Result<()> {
    let mut report = Report::default();
    let checked = check_sparse(file, header, declared, &mut report);
    report.take(checked)?;
    let harmless = |problem: &Problem| matches!(problem, Problem::NewlineBytes { .. } | Problem::Unclean);
    let rest = |finding: &crate::Finding| finding.severity > Severity::Note && !harmless(&finding.problem);
    if report.more > 0 || report.findings.iter().any(rest) {
        return Ok(());
    }
    if header.newline_broken() {
        file.write_at(NEWLINE_AT, &NEWLINE_BYTES)?;
    }
    if header.unclean {
        file.write_at(UNCLEAN_AT, &[0])?;
    }
    Ok(file.sync()?)
}
