//! Copies a disk at a recovery point into a new image, leaving out what is zero.

use crate::random;
use block_device::{Caching, HostFolder};
use control_api::{Failure, Progress, Work};
use disk::{Allocation, Bytes, Cause, Disk, File, Folder, Operation};
use std::path::Path;
use std::sync::Arc;
use vmdk::{AdapterType, CreateOptions, Image, StreamWriter};

/// Bytes read at a time.
const STEP: usize = 1 << 20;
/// Zeroes are left out in pieces of this size: a grain of a sparse VMDK.
const PIECE: usize = 64 << 10;

/// What a new image is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Raw,
    Vmdk(vmdk::Format),
}

impl Format {
    pub(crate) fn parse(text: &str) -> Result<Format, Failure> {
        if text == "raw" {
            return Ok(Format::Raw);
        }
        text.parse().map(Format::Vmdk).map_err(|error: vmdk::UnknownName| {
            Failure::new(text, "cannot export in this format", error, "give raw, or one of these")
        })
    }
}

/// Copies `disk` into a new image at `path`. `report` is told the progress, and says whether to go on. An image that
/// was not finished is removed.
pub(crate) fn export(
    disk: &dyn Disk,
    path: &Path,
    format: Format,
    report: impl FnMut(Progress) -> bool,
) -> Result<(), Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        let next = "choose a new file in a folder with enough room, then export again";
        Failure::new(path.display().to_string(), "cannot export", why, next)
    };
    let name = path.file_name().and_then(|name| name.to_str());
    let (Some(folder), Some(name)) = (path.parent(), name) else {
        return Err(failed(&"this names no file in a folder"));
    };
    let folder = HostFolder::open(folder, Caching::Direct).map_err(|error| failed(&error))?;
    let folder: Arc<dyn Folder> = Arc::new(folder);
    let before = folder.list().map_err(|error| failed(&error))?;
    let copied = Sink::create(&folder, name, format, disk.size()).and_then(|sink| copy(disk, sink, report));
    copied.map_err(|error| {
        remove_new_files(&*folder, &before, name);
        failed(&error)
    })
}

/// Removes what an unfinished export made: files that were not there before and carry its name.
fn remove_new_files(folder: &dyn Folder, before: &[String], name: &str) {
    let base = name.strip_suffix(".vmdk").unwrap_or(name);
    for file in folder.list().unwrap_or_default() {
        if file.starts_with(base) && !before.contains(&file) {
            // What cannot be removed stays; the error of the export itself is the one to report.
            let _ = folder.remove(&file);
        }
    }
}

fn copy(
    disk: &dyn Disk,
    mut sink: Sink,
    mut report: impl FnMut(Progress) -> bool,
) -> Result<(), ExportError> {
    let size = disk.size();
    let mut buffer = vec![0; STEP];
    let mut at = Bytes::ZERO;
    while at < size {
        let extent = disk.extent_at(at)?;
        let end = (at + extent.length).min(size);
        if extent.allocation == Allocation::Hole {
            at = end;
        } else {
            let length = (end - at).min(Bytes(STEP as u64 - at.0 % STEP as u64)).as_usize();
            disk.read_at(at, &mut buffer[..length])?;
            sink.write(at, &buffer[..length])?;
            at += Bytes(length as u64);
        }
        if !report(Progress { work: Work::Export, done: at.0, total: Some(size.0) }) {
            return Err(ExportError::GivenUp);
        }
    }
    sink.finish()
}

#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Disk(#[from] disk::Error),
    #[error(transparent)]
    Vmdk(#[from] vmdk::Error),
    #[error("the client went away")]
    GivenUp,
}

/// The image that is being written.
enum Sink {
    Raw { folder: Arc<dyn Folder>, file: Arc<dyn File> },
    Image { image: Box<Image> },
    Stream { writer: Box<StreamWriter> },
}

impl Sink {
    fn create(
        folder: &Arc<dyn Folder>,
        name: &str,
        format: Format,
        size: Bytes,
    ) -> Result<Sink, ExportError> {
        let format = match format {
            Format::Vmdk(format) => format,
            Format::Raw => {
                let file = folder.create(name)?;
                file.set_size(size)?;
                return Ok(Sink::Raw { folder: folder.clone(), file });
            }
        };
        let random = |error| disk::Error::new(Operation::Read, "/dev/urandom", None, Cause::Io(error));
        let cid = u32::from_le_bytes(random::bytes().map_err(random)?);
        let options =
            CreateOptions { format, capacity: size, adapter: AdapterType::LsiLogic, uuid: None, cid };
        Ok(match format {
            vmdk::Format::StreamOptimized => {
                Sink::Stream { writer: Box::new(StreamWriter::create(folder, name, &options)?) }
            }
            _ => Sink::Image { image: Box::new(Image::create(folder, name, &options)?) },
        })
    }

    /// Writes what is not zero.
    fn write(&mut self, at: Bytes, data: &[u8]) -> Result<(), ExportError> {
        let mut start = 0;
        while start < data.len() {
            let zero = is_zero(&data[start..data.len().min(start + PIECE)]);
            let mut end = start;
            while end < data.len() && is_zero(&data[end..data.len().min(end + PIECE)]) == zero {
                end = data.len().min(end + PIECE);
            }
            if !zero {
                self.write_data(at + Bytes(start as u64), &data[start..end])?;
            }
            start = end;
        }
        Ok(())
    }

    fn write_data(&mut self, at: Bytes, data: &[u8]) -> Result<(), ExportError> {
        match self {
            Sink::Raw { file, .. } => Ok(file.write_at(at, data)?),
            Sink::Image { image } => Ok(image.write_at(at, data)?),
            Sink::Stream { writer } => Ok(writer.write(at, data)?),
        }
    }

    fn finish(self) -> Result<(), ExportError> {
        match self {
            Sink::Raw { folder, file } => {
                file.sync()?;
                Ok(folder.sync()?)
            }
            Sink::Image { image } => {
                image.sync()?;
                Ok(image.close()?)
            }
            Sink::Stream { writer } => Ok(writer.finish()?),
        }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk::MemoryDisk;

    fn sample() -> MemoryDisk {
        let disk = MemoryDisk::new("sample", Bytes(5 * STEP as u64 + 512));
        disk.write_at(Bytes(70_000), &[7; 100_000]).unwrap();
        disk.write_at(Bytes(3 * STEP as u64), &[8; 512]).unwrap();
        disk.write_at(disk.size() - Bytes(512), &[9; 512]).unwrap();
        disk
    }

    #[test]
    fn every_format_holds_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let disk = sample();
        let formats = vmdk::Format::ALL.map(Format::Vmdk);
        for format in formats.into_iter().chain([Format::Raw]) {
            let name = match format {
                Format::Raw => "x.raw".to_string(),
                Format::Vmdk(format) => format!("{format}.vmdk"),
            };
            let path = folder.path().join(&name);
            let mut last = 0;
            export(&disk, &path, format, |progress| {
                last = progress.done;
                true
            })
            .unwrap();
            assert_eq!(last, disk.size().0);
            let opened = HostFolder::open(folder.path(), Caching::PageCache).unwrap();
            let opened: Arc<dyn Folder> = Arc::new(opened);
            let image: Box<dyn Disk> = match format {
                Format::Raw => Box::new(opened.open(&name, disk::Access::Read).unwrap()),
                Format::Vmdk(_) => Box::new(Image::open(&opened, &name, disk::Access::Read, 1).unwrap()),
            };
            let mut bytes = vec![0; image.size().as_usize()];
            image.read_at(Bytes::ZERO, &mut bytes).unwrap();
            assert!(bytes == disk.contents(), "{format:?}");
        }
    }

    #[test]
    fn an_export_that_is_given_up_leaves_nothing_and_an_existing_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.vmdk");
        let given_up = export(&sample(), &path, Format::Vmdk(vmdk::Format::MonolithicFlat), |_| false);
        assert!(given_up.unwrap_err().why.contains("went away"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        std::fs::write(&path, b"mine").unwrap();
        export(&sample(), &path, Format::Vmdk(vmdk::Format::MonolithicSparse), |_| true).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn a_format_that_does_not_exist_is_refused_with_those_that_do() {
        let failure = Format::parse("qcow2").unwrap_err();
        assert!(failure.why.contains("monolithicSparse"), "{failure}");
    }
}
