//! Finding out what a file is, and opening all that belongs to it.

use crate::descriptor::{Backing, Descriptor, MAX_DESCRIPTOR, ParentLink, parse};
use crate::header::{HEADER_SIZE, Header, MAGIC, NEWLINE_AT};
use crate::{Error, Problem, Refusal, Result};
use disk::{Access, Bytes, Cause, Disk, File, Folder, SECTOR_SIZE};
use std::collections::BTreeMap;
use std::sync::Arc;

/// First bytes of the sparse format of ESXi's snapshots.
const COWD: [u8; 4] = *b"COWD";
/// First bytes of the space-efficient sparse format.
const SESPARSE: [u8; 8] = 0xcafe_babe_u64.to_le_bytes();

/// A descriptor, where it stands, and the file that it was read from.
pub(crate) struct Located {
    pub(crate) file: Arc<dyn File>,
    pub(crate) descriptor: Descriptor,
    pub(crate) embedded: Option<Embedded>,
}

/// A descriptor inside a sparse extent.
pub(crate) struct Embedded {
    pub(crate) header: Header,
    /// Where the text begins.
    pub(crate) at: Bytes,
}

/// The text of a descriptor as it was found, unread.
struct Text {
    bytes: Vec<u8>,
    embedded: Option<Embedded>,
}

/// Opens the file that names an image, and reads its descriptor.
pub(crate) fn locate(folder: &dyn Folder, name: &str, access: Access) -> Result<Located> {
    let file = folder.open(name, access)?;
    let Text { bytes, embedded } = descriptor_text(&*file)?;
    let at = embedded.as_ref().map_or(Bytes::ZERO, |embedded| embedded.at);
    let descriptor = parse(&bytes, file.name(), at)?;
    Ok(Located { file, descriptor, embedded })
}

fn descriptor_text(file: &dyn Disk) -> Result<Text> {
    match identify(file)? {
        Kind::Sparse(header) if header.descriptor_at == 0 => {
            Err(Error::refused(file.name(), Refusal::ExtentAlone))
        }
        Kind::Sparse(header) => {
            let (at, bytes) = embedded_text(file, &header)?;
            Ok(Text { bytes, embedded: Some(Embedded { header, at }) })
        }
        Kind::Text => {
            let mut bytes = vec![0; file.size().as_usize()];
            file.read_at(Bytes::ZERO, &mut bytes)?;
            Ok(Text { bytes, embedded: None })
        }
        Kind::Snapshot(found) => {
            let found = found.to_owned();
            Err(Error::refused(file.name(), Refusal::SnapshotDelta { found }))
        }
        Kind::Other => Err(Error::damaged(file.name(), Bytes::ZERO, Problem::NotVmdk)),
    }
}

/// What the first bytes of a file say that it is.
enum Kind {
    Sparse(Header),
    Text,
    Snapshot(&'static str),
    Other,
}

fn identify(file: &dyn Disk) -> Result<Kind> {
    let size = file.size().0;
    let mut first = [0; HEADER_SIZE];
    let length = size.min(HEADER_SIZE as u64) as usize;
    file.read_at(Bytes::ZERO, &mut first[..length])?;
    if first.starts_with(&MAGIC) {
        let needed = Bytes(SECTOR_SIZE);
        let short =
            || Error::damaged(file.name(), Bytes::ZERO, Problem::TooShort { found: Bytes(size), needed });
        return Header::decode(&first).filter(|_| size >= SECTOR_SIZE).map(Kind::Sparse).ok_or_else(short);
    }
    if first.starts_with(&COWD) {
        return Ok(Kind::Snapshot("a COWD extent"));
    }
    if first.starts_with(&SESPARSE) {
        return Ok(Kind::Snapshot("a seSparse extent"));
    }
    let printable = first[..length].trim_ascii_start().first();
    let text = matches!(printable, Some(b'#' | b'v' | b'V')) && size <= MAX_DESCRIPTOR.0;
    Ok(if text { Kind::Text } else { Kind::Other })
}

fn embedded_text(file: &dyn Disk, header: &Header) -> Result<(Bytes, Vec<u8>)> {
    let sectors = file.size().0 / SECTOR_SIZE;
    let bad =
        |at, field, value| Err(Error::damaged(file.name(), Bytes(at), Problem::HeaderField { field, value }));
    if header.descriptor_at >= sectors {
        return bad(28, "descriptor offset", header.descriptor_at);
    }
    let fits = header.descriptor_size <= sectors - header.descriptor_at;
    if !fits || header.descriptor_size * SECTOR_SIZE > MAX_DESCRIPTOR.0 {
        return bad(36, "descriptor size", header.descriptor_size);
    }
    let at = Bytes(header.descriptor_at * SECTOR_SIZE);
    let mut text = vec![0; (header.descriptor_size * SECTOR_SIZE) as usize];
    file.read_at(at, &mut text)?;
    Ok((at, text))
}

/// Reads the header of a sparse extent, as far as the extent itself goes.
pub(crate) fn sparse_header(file: &dyn Disk) -> Result<Header> {
    match identify(file)? {
        Kind::Sparse(header) => Ok(header),
        Kind::Snapshot(found) => {
            Err(Error::refused(file.name(), Refusal::SnapshotDelta { found: found.to_owned() }))
        }
        Kind::Text | Kind::Other => Err(Error::damaged(file.name(), Bytes::ZERO, Problem::NotVmdk)),
    }
}

/// Refuses a header whose file went through a transfer in text mode.
pub(crate) fn refuse_broken_newline(file: &dyn Disk, header: &Header) -> Result<()> {
    if header.newline_broken() {
        let problem = Problem::NewlineBytes { found: header.newline };
        return Err(Error::damaged(file.name(), NEWLINE_AT, problem));
    }
    Ok(())
}

/// Opens every file that the extents name, each once: for writing where an extent in it may be written.
pub(crate) fn open_extent_files(
    folder: &dyn Folder,
    name: &str,
    located: &Located,
    access: Access,
) -> Result<BTreeMap<String, Arc<dyn File>>> {
    let mut files = BTreeMap::new();
    if located.embedded.is_some() {
        // Whatever the extent line calls it: the file may have been renamed.
        let extent = located.descriptor.only_extent();
        let extent = extent.map_err(|problem| Error::damaged(located.file.name(), Bytes::ZERO, problem))?;
        if let Some(file) = extent.backing.file() {
            files.insert(file.to_owned(), located.file.clone());
        }
        return Ok(files);
    }
    refuse_overlaps(name, located)?;
    let mut writable: BTreeMap<&str, bool> = BTreeMap::new();
    for extent in &located.descriptor.extents {
        if let Some(file) = extent.backing.file() {
            *writable.entry(file).or_default() |= extent.writable;
        }
    }
    for (file, writable) in writable {
        let access = if writable { access } else { Access::Read };
        let opened = folder.open(file, access)?;
        if located.descriptor.is_thick() {
            opened.keep_room();
        }
        files.insert(file.to_owned(), opened);
    }
    Ok(files)
}

/// No two extents may use the same bytes, and none the descriptor.
fn refuse_overlaps(name: &str, located: &Located) -> Result<()> {
    let mut ranges = Vec::new();
    for extent in &located.descriptor.extents {
        match &extent.backing {
            Backing::Flat { file, offset } => ranges.push((file, offset.0, offset.0 + extent.sectors.0)),
            Backing::Sparse { file } => ranges.push((file, 0, u64::MAX)),
            Backing::Zero => {}
        }
    }
    ranges.sort_unstable();
    let shared = ranges.windows(2).find(|pair| pair[0].0 == pair[1].0 && pair[1].1 < pair[0].2);
    let own = ranges.iter().find(|range| range.0 == name);
    match shared.map(|pair| &pair[0]).or(own) {
        Some((file, start, _)) => {
            Err(Error::damaged(file.as_str(), Bytes(start * SECTOR_SIZE), Problem::SharedExtent))
        }
        None => Ok(()),
    }
}

/// Refuses an image that another descriptor in the folder names as its parent.
pub(crate) fn refuse_children(
    folder: &dyn Folder,
    name: &str,
    descriptor: &Descriptor,
    own: &BTreeMap<String, Arc<dyn File>>,
) -> Result<()> {
    for other in folder.list()? {
        let ending = other.len().checked_sub(5).and_then(|at| other.get(at..));
        let candidate = ending.is_some_and(|ending| ending.eq_ignore_ascii_case(".vmdk"));
        if !candidate || other == name || own.contains_key(&other) {
            continue;
        }
        let link = parent_link(folder, &other)?;
        if link.is_some_and(|link| link.leads_to(name, descriptor.cid())) {
            return Err(Error::refused(name, Refusal::Child { child: other }));
        }
    }
    Ok(())
}

/// What a file says of its parent, if it has one, as far as it can be told.
fn parent_link(folder: &dyn Folder, name: &str) -> Result<Option<ParentLink>> {
    let text = folder.open(name, Access::Read).map_err(Error::from).and_then(|file| descriptor_text(&*file));
    match text {
        Ok(text) => Ok(ParentLink::find(&text.bytes)),
        // Whoever holds a child open holds its parent too; and what is no image is no child.
        Err(Error::Storage(error)) => match error.cause() {
            Cause::InUse { .. } | Cause::NotFound => Ok(None),
            _ => Err(Error::Storage(error)),
        },
        Err(_) => Ok(None),
    }
}
