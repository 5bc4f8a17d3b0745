//! Making new images.

use crate::descriptor::{MAX_DESCRIPTOR, NewDescriptor, NewExtent, compose};
use crate::header::{GRAIN_SECTORS, Header, MAX_TABLES, TABLE_ENTRIES};
use crate::tables::entry_bytes;
use crate::{AdapterType, DiskUuid, Error, Format, OptionProblem, Result};
use disk::{Bytes, Folder, SECTOR_SIZE, valid_name};

/// Most sectors of an extent of the 2 GiB formats: 2047 MiB, so that the metadata fits below 2 GiB too.
const SPLIT_SECTORS: u64 = 4_192_256;
/// Room of a descriptor inside an extent.
const DESCRIPTOR_SECTORS: u64 = 20;
/// Metadata starts at multiples of 4 KiB, so that direct I/O reaches it without reading around it.
const ALIGNMENT: u64 = 8;

/// What a new image is to be.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Its kind.
    pub format: Format,
    /// Its size, a multiple of 512 bytes.
    pub capacity: Bytes,
    /// The controller that the descriptor names.
    pub adapter: AdapterType,
    /// The identity that a guest sees.
    pub uuid: Option<DiskUuid>,
    /// The first content id: a random number.
    pub cid: u32,
}

impl<'a> NewDescriptor<'a> {
    pub(crate) fn of(options: &CreateOptions, extents: &'a [NewExtent]) -> NewDescriptor<'a> {
        // Two values have a meaning of their own.
        let cid = if options.cid >= u32::MAX - 1 { 1 } else { options.cid };
        let CreateOptions { format, adapter, uuid, .. } = *options;
        NewDescriptor { format, cid, adapter, uuid, extents }
    }
}

/// Refuses what no image can be.
pub(crate) fn check_request(name: &str, options: &CreateOptions) -> Result<()> {
    let refuse = |problem| Err(Error::Options { object: name.to_owned(), problem });
    let quotable = !name.contains(['"', '\\']) && !name.chars().any(char::is_control);
    if !valid_name(name) || !quotable || base_of(name).is_none_or(str::is_empty) {
        return refuse(OptionProblem::Name);
    }
    let limit = Bytes(MAX_TABLES * u64::from(TABLE_ENTRIES) * GRAIN_SECTORS * SECTOR_SIZE);
    let capacity = options.capacity;
    if capacity == Bytes::ZERO || !capacity.0.is_multiple_of(SECTOR_SIZE) || capacity > limit {
        return refuse(OptionProblem::Capacity { capacity, limit });
    }
    Ok(())
}

fn base_of(name: &str) -> Option<&str> {
    let at = name.len().checked_sub(".vmdk".len())?;
    let (base, ending) = name.split_at_checked(at)?;
    ending.eq_ignore_ascii_case(".vmdk").then_some(base)
}

/// Creates the files of an image, durably. On failure those that were made are removed again.
pub(crate) fn create_files(folder: &dyn Folder, name: &str, options: &CreateOptions) -> Result<()> {
    check_request(name, options)?;
    if options.format == Format::StreamOptimized {
        let problem = OptionProblem::Stream { format: options.format };
        return Err(Error::Options { object: name.to_owned(), problem });
    }
    let extents = plan_extents(name, options);
    let text = compose(&NewDescriptor::of(options, &extents));
    if text.len() as u64 > MAX_DESCRIPTOR.0 {
        let problem = OptionProblem::TooManyExtents { extents: extents.len() };
        return Err(Error::Options { object: name.to_owned(), problem });
    }
    let mut made = Vec::new();
    let outcome = write_files(folder, name, options, &extents, &text, &mut made);
    if outcome.is_err() {
        for file in made {
            // The first error is the one to report; a file that stays is seen by the next attempt.
            let _ = folder.remove(file);
        }
    }
    outcome
}

fn plan_extents(name: &str, options: &CreateOptions) -> Vec<NewExtent> {
    let base = base_of(name).unwrap_or(name);
    let split = |letter: char| {
        let bytes = SPLIT_SECTORS * SECTOR_SIZE;
        let count = options.capacity.0.div_ceil(bytes);
        let extent = |number: u64| NewExtent {
            file: format!("{base}-{letter}{:03}.vmdk", number + 1),
            size: Bytes(bytes.min(options.capacity.0 - number * bytes)),
        };
        (0..count).map(extent).collect()
    };
    match options.format {
        Format::TwoGbMaxExtentFlat => split('f'),
        Format::TwoGbMaxExtentSparse => split('s'),
        Format::MonolithicFlat | Format::Vmfs | Format::VmfsThin => {
            vec![NewExtent { file: format!("{base}-flat.vmdk"), size: options.capacity }]
        }
        Format::MonolithicSparse | Format::StreamOptimized => {
            vec![NewExtent { file: name.to_owned(), size: options.capacity }]
        }
    }
}

fn write_files<'a>(
    folder: &dyn Folder,
    name: &'a str,
    options: &CreateOptions,
    extents: &'a [NewExtent],
    text: &str,
    made: &mut Vec<&'a str>,
) -> Result<()> {
    for extent in extents {
        let file = folder.create(&extent.file)?;
        made.push(&extent.file);
        match options.format {
            Format::MonolithicSparse => write_sparse(&*file, extent.size, Some(text))?,
            Format::TwoGbMaxExtentSparse => write_sparse(&*file, extent.size, None)?,
            Format::Vmfs => file.allocate(extent.size)?,
            _ => file.set_size(extent.size)?,
        }
        file.sync()?;
    }
    if options.format != Format::MonolithicSparse {
        let file = folder.create(name)?;
        made.push(name);
        file.write_at(Bytes::ZERO, text.as_bytes())?;
        file.sync()?;
    }
    Ok(folder.sync()?)
}

/// Writes an empty sparse extent: header, descriptor, then directory and tables, twice. All tables exist from the
/// start, as other programs expect, and read as zeroes without being written.
fn write_sparse(file: &dyn disk::File, size: Bytes, descriptor: Option<&str>) -> Result<()> {
    let mut header = Header::growing(size.to_sectors_rounded_up());
    let tables = header.capacity.div_ceil(GRAIN_SECTORS * u64::from(TABLE_ENTRIES));
    let table_sectors = u64::from(TABLE_ENTRIES) * 4 / SECTOR_SIZE;
    let mut next = 1;
    if descriptor.is_some() {
        (header.descriptor_at, header.descriptor_size) = (next, DESCRIPTOR_SECTORS);
        next += DESCRIPTOR_SECTORS;
    }
    let mut directories = Vec::new();
    for at in [&mut header.redundant_at, &mut header.directory_at] {
        *at = next.next_multiple_of(ALIGNMENT);
        let first = (*at + (tables * 4).div_ceil(SECTOR_SIZE)).next_multiple_of(ALIGNMENT);
        let entries: Vec<u32> = (0..tables).map(|index| (first + index * table_sectors) as u32).collect();
        directories.push((*at, entry_bytes(&entries)));
        next = first + tables * table_sectors;
    }
    header.overhead = next.next_multiple_of(GRAIN_SECTORS);
    file.set_size(Bytes(header.overhead * SECTOR_SIZE))?;
    let mut start = header.encode().to_vec();
    start.extend(descriptor.unwrap_or_default().as_bytes());
    file.write_at(Bytes::ZERO, &start)?;
    for (sector, bytes) in directories {
        file.write_at(Bytes(sector * SECTOR_SIZE), &bytes)?;
    }
    Ok(())
}
