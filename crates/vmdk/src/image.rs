//! An image as one disk.

use crate::create::{CreateOptions, create_files};
use crate::descriptor::{Backing, Descriptor, ExtentLine};
use crate::flat::FlatExtent;
use crate::open::{
    Embedded, Located, locate, open_extent_files, refuse_broken_newline, refuse_children, sparse_header,
};
use crate::sparse::SparseExtent;
use crate::stream_reader::{StreamExtent, complete_header};
use crate::{DiskUuid, Error, Problem, Refusal, Result, lock};
use disk::{
    Access, Allocation, ByteRange, Bytes, Cause, Disk, Extent, File, Folder, Operation, Sectors, check_bounds,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What the name of a descriptor that replaces another one ends in, until it does.
const NEW_SUFFIX: &str = ".new";

/// Lets one image at a time of this process take its locks and look for children: looking takes a lock of every
/// other image in the folder for a moment, which must not be the moment in which that one is opened.
static OPENING: Mutex<()> = Mutex::new(());

/// An open VMDK.
///
/// Any number of threads may use it. Its files are locked until it is dropped. [`Image::close`] leaves the image
/// as a clean shutdown does; dropping it tries to.
pub struct Image {
    name: String,
    access: Access,
    capacity: Bytes,
    extents: Vec<PlacedExtent>,
    descriptor: Mutex<DescriptorFile>,
    /// Some write or sync failed.
    fenced: AtomicBool,
    /// The content id was renewed since the image was opened.
    renewed: AtomicBool,
}

struct PlacedExtent {
    range: ByteRange,
    /// What to call it in a message.
    name: String,
    writable: bool,
    backing: Content,
}

enum Content {
    Flat(FlatExtent),
    Sparse(SparseExtent),
    Stream(StreamExtent),
    Zero,
}

struct DescriptorFile {
    folder: Arc<dyn Folder>,
    file_name: String,
    file: Arc<dyn File>,
    descriptor: Descriptor,
    /// Where in the file the text is, unless it is the file.
    embedded_at: Option<Bytes>,
    fresh_cid: u32,
}

impl Image {
    /// Creates a new image, durably, and opens it for writing. No file of it may exist.
    pub fn create(folder: &Arc<dyn Folder>, name: &str, options: &CreateOptions) -> Result<Image> {
        create_files(&**folder, name, options)?;
        Image::open(folder, name, Access::Write, options.cid)
    }

    /// Opens an image that exists.
    ///
    /// `fresh_cid` is a random number: the content id that the image gets at its first write.
    pub fn open(folder: &Arc<dyn Folder>, name: &str, access: Access, fresh_cid: u32) -> Result<Image> {
        let opening = lock(&OPENING);
        let located = locate(&**folder, name, access)?;
        let object = located.file.name().to_owned();
        if let Some(parent) = located.descriptor.parent() {
            return Err(Error::refused(object, parent));
        }
        let files = open_extent_files(&**folder, name, &located, access)?;
        if access == Access::Write {
            refuse_children(&**folder, name, &located.descriptor, &files)?;
        }
        drop(opening);
        let extents = place_extents(&located, &files, access)?;
        let capacity = extents.last().map_or(Bytes::ZERO, |extent| extent.range.end());
        let Located { file, descriptor, embedded } = located;
        let descriptor = DescriptorFile {
            folder: folder.clone(),
            file_name: name.to_owned(),
            file,
            descriptor,
            embedded_at: embedded.map(|embedded| embedded.at),
            fresh_cid,
        };
        Ok(Image {
            name: object,
            access,
            capacity,
            extents,
            descriptor: Mutex::new(descriptor),
            fenced: AtomicBool::new(false),
            renewed: AtomicBool::new(false),
        })
    }

    /// The descriptor's `createType`.
    pub fn create_type(&self) -> String {
        lock(&self.descriptor).descriptor.create_type.clone()
    }

    /// The content id as it is now.
    pub fn cid(&self) -> u32 {
        lock(&self.descriptor).descriptor.cid()
    }

    /// The identity that a guest sees, if the descriptor has one.
    pub fn uuid(&self) -> Option<DiskUuid> {
        lock(&self.descriptor).descriptor.uuid
    }

    /// The controller that the descriptor names.
    pub fn adapter(&self) -> Option<String> {
        lock(&self.descriptor).descriptor.adapter.clone()
    }

    /// The file of a hypervisor's changed-block tracking, when it is on: it will not know of our writes.
    pub fn change_tracking(&self) -> Option<String> {
        lock(&self.descriptor).descriptor.change_tracking.clone()
    }

    /// Makes all writes durable, and marks the image as cleanly shut down. A later write takes the mark back.
    pub fn close(&self) -> disk::Result<()> {
        self.refuse_when_fenced(Operation::Sync, None)?;
        for extent in &self.extents {
            let closed = match &extent.backing {
                Content::Flat(flat) => flat.sync(),
                Content::Sparse(sparse) => sparse.close(),
                Content::Stream(_) | Content::Zero => Ok(()),
            };
            closed.map_err(|error| self.fence(Operation::Sync, error))?;
        }
        Ok(())
    }

    /// The extents that a range touches, each with the part of the range that is its own, counted from its start.
    fn parts(&self, range: ByteRange) -> impl Iterator<Item = (&PlacedExtent, ByteRange)> {
        let first = self.extents.partition_point(|extent| extent.range.end() <= range.start());
        self.extents[first..].iter().map_while(move |extent| {
            let common = extent.range.intersection(&range)?;
            let base = extent.range.start();
            Some((extent, ByteRange::between(common.start() - base, common.end() - base)))
        })
    }

    /// Everything that a write needs before it may change a byte.
    fn begin_write(&self, range: ByteRange, zeroes: bool) -> disk::Result<()> {
        check_bounds(self, Operation::Write, range)?;
        let read_only =
            |name: &str| Err(disk::Error::new(Operation::Write, name, Some(range), Cause::ReadOnly));
        if self.access == Access::Read {
            return read_only(&self.name);
        }
        self.refuse_when_fenced(Operation::Write, Some(range))?;
        for (extent, _) in self.parts(range) {
            let stays_zero = zeroes && matches!(extent.backing, Content::Zero);
            if !extent.writable && !stays_zero {
                return read_only(&extent.name);
            }
        }
        if !self.renewed.load(Ordering::Acquire) {
            self.renew_cid().map_err(|error| self.fence(Operation::Write, error))?;
        }
        Ok(())
    }

    fn renew_cid(&self) -> Result<()> {
        let mut descriptor = lock(&self.descriptor);
        if !self.renewed.load(Ordering::Acquire) {
            descriptor.renew_cid()?;
            self.renewed.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn refuse_when_fenced(&self, operation: Operation, range: Option<ByteRange>) -> disk::Result<()> {
        if self.fenced.load(Ordering::Acquire) {
            return Err(disk::Error::new(operation, &self.name, range, Cause::Fenced));
        }
        Ok(())
    }

    /// After a failure nobody knows what is on the medium: no further write until the image is opened again.
    fn fence(&self, operation: Operation, error: Error) -> disk::Error {
        self.fenced.store(true, Ordering::Release);
        error.into_disk(operation, &self.name)
    }
}

impl Disk for Image {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> Bytes {
        self.capacity
    }

    fn read_at(&self, offset: Bytes, mut buffer: &mut [u8]) -> disk::Result<()> {
        let range = ByteRange::of_buffer(offset, buffer.len());
        check_bounds(self, Operation::Read, range)?;
        for (extent, part) in self.parts(range) {
            let (now, later) = buffer.split_at_mut(part.length().as_usize());
            let outcome = match &extent.backing {
                Content::Flat(flat) => flat.read_at(part.start(), now),
                Content::Sparse(sparse) => sparse.read_at(part.start(), now),
                Content::Stream(stream) => stream.read_at(part.start(), now),
                Content::Zero => {
                    now.fill(0);
                    Ok(())
                }
            };
            outcome.map_err(|error| error.into_disk(Operation::Read, &self.name))?;
            buffer = later;
        }
        Ok(())
    }

    fn write_at(&self, offset: Bytes, mut data: &[u8]) -> disk::Result<()> {
        let range = ByteRange::of_buffer(offset, data.len());
        self.begin_write(range, false)?;
        for (extent, part) in self.parts(range) {
            let (now, later) = data.split_at(part.length().as_usize());
            let outcome = match &extent.backing {
                Content::Flat(flat) => flat.write_at(part.start(), now),
                Content::Sparse(sparse) => sparse.write_at(part.start(), now),
                // Not writable, so turned away before.
                Content::Stream(_) | Content::Zero => Ok(()),
            };
            outcome.map_err(|error| self.fence(Operation::Write, error))?;
            data = later;
        }
        Ok(())
    }

    fn write_zeroes(&self, range: ByteRange) -> disk::Result<()> {
        self.begin_write(range, true)?;
        for (extent, part) in self.parts(range) {
            let outcome = match &extent.backing {
                Content::Flat(flat) => flat.write_zeroes(part),
                Content::Sparse(sparse) => sparse.write_zeroes(part),
                Content::Stream(_) | Content::Zero => Ok(()),
            };
            outcome.map_err(|error| self.fence(Operation::Write, error))?;
        }
        Ok(())
    }

    fn sync(&self) -> disk::Result<()> {
        self.refuse_when_fenced(Operation::Sync, None)?;
        for extent in &self.extents {
            let outcome = match &extent.backing {
                Content::Flat(flat) => flat.sync(),
                Content::Sparse(sparse) => sparse.sync(),
                Content::Stream(_) | Content::Zero => Ok(()),
            };
            outcome.map_err(|error| self.fence(Operation::Sync, error))?;
        }
        Ok(())
    }

    fn extent_at(&self, offset: Bytes) -> disk::Result<Extent> {
        let rest = ByteRange::between(offset, self.capacity.max(offset));
        let Some((extent, part)) = self.parts(rest).next() else {
            let cause = Cause::OutOfBounds { size: self.capacity };
            return Err(disk::Error::new(Operation::Read, &self.name, Some(rest), cause));
        };
        let outcome = match &extent.backing {
            Content::Flat(flat) => flat.extent_at(part.start()),
            Content::Sparse(sparse) => sparse.extent_at(part.start()),
            Content::Stream(stream) => stream.extent_at(part.start()),
            Content::Zero => Ok(Extent { length: part.length(), allocation: Allocation::Hole }),
        };
        outcome.map_err(|error| error.into_disk(Operation::Read, &self.name))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.access == Access::Write && !self.fenced.load(Ordering::Acquire) {
            // Nobody is left to tell; the unclean-shutdown byte stays set and tells the next opener.
            let _ = self.close();
        }
    }
}

impl DescriptorFile {
    /// Gives the content a new id, durably.
    fn renew_cid(&mut self) -> Result<()> {
        let changed = self.descriptor.renew_cid(self.fresh_cid);
        match self.embedded_at {
            Some(at) => {
                let digits = &self.descriptor.text()[changed.clone()];
                self.file.write_at(at + Bytes(changed.start as u64), digits)?;
                Ok(self.file.sync()?)
            }
            None => self.replace(),
        }
    }

    /// Puts the text into a new file that takes the old one's name: after a crash one of the two is there, whole.
    fn replace(&mut self) -> Result<()> {
        let temporary = format!("{}{NEW_SUFFIX}", self.file_name);
        let file = match self.folder.create(&temporary) {
            Err(error) if matches!(error.cause(), Cause::AlreadyExists) => {
                // Left behind by a crash.
                self.folder.remove(&temporary)?;
                self.folder.create(&temporary)?
            }
            created => created?,
        };
        file.write_at(Bytes::ZERO, self.descriptor.text())?;
        file.sync()?;
        self.folder.rename(&temporary, &self.file_name)?;
        self.folder.sync()?;
        self.file = file;
        Ok(())
    }
}

fn place_extents(
    located: &Located,
    files: &BTreeMap<String, Arc<dyn File>>,
    access: Access,
) -> Result<Vec<PlacedExtent>> {
    let mut start = Bytes::ZERO;
    let mut placed = Vec::with_capacity(located.descriptor.extents.len());
    for line in &located.descriptor.extents {
        let length = bytes_of(line.sectors);
        let file = line.backing.file().and_then(|name| files.get(name));
        let writable = line.writable && access == Access::Write && file.is_some();
        let backing = match file {
            Some(file) => open_content(file, line, length, located.embedded.as_ref(), writable)?,
            None => Content::Zero,
        };
        let name = file.map_or("a ZERO extent", |file| file.name()).to_owned();
        placed.push(PlacedExtent {
            range: ByteRange::between(start, start + length),
            name,
            writable,
            backing,
        });
        start += length;
    }
    Ok(placed)
}

fn open_content(
    file: &Arc<dyn File>,
    line: &ExtentLine,
    length: Bytes,
    embedded: Option<&Embedded>,
    writable: bool,
) -> Result<Content> {
    if let Backing::Flat { offset, .. } = line.backing {
        let start = bytes_of(offset);
        let (found, needed) = (file.size(), start + length);
        if found < needed {
            return Err(Error::damaged(file.name(), found, Problem::TooShort { found, needed }));
        }
        return Ok(Content::Flat(FlatExtent::new(file.clone(), start, length)));
    }
    let header = match embedded {
        Some(embedded) => embedded.header.clone(),
        None => sparse_header(&**file)?,
    };
    refuse_broken_newline(&**file, &header)?;
    if Sectors(header.capacity) != line.sectors {
        let problem =
            Problem::CapacityMismatch { descriptor: line.sectors, header: Sectors(header.capacity) };
        return Err(Error::damaged(file.name(), Bytes(12), problem));
    }
    let compressed = complete_header(&**file, &header)?.geometry(file.name(), file.size())?.compressed;
    if !compressed {
        return Ok(Content::Sparse(SparseExtent::open(file, &header, writable)?));
    }
    if writable {
        return Err(Error::refused(file.name(), Refusal::StreamInPlace));
    }
    Ok(Content::Stream(StreamExtent::open(file, &header)?))
}

/// In bytes; the parser has made sure that the whole image fits into 64 bits.
fn bytes_of(sectors: Sectors) -> Bytes {
    sectors.to_bytes().unwrap_or(Bytes(u64::MAX))
}
