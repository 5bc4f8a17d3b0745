//! What all parts of a journal share: its folder, whose it is, and how failures are told.

use crate::Error;
use crate::cache::Cache;
use crate::files::Files;
use crate::types::{Identity, Options};
use disk::{ByteRange, Bytes, File, Folder};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Shared by everything in one journal.
pub(crate) struct Store {
    pub(crate) folder: Arc<dyn Folder>,
    pub(crate) identity: Identity,
    pub(crate) options: Options,
    pub(crate) files: Files,
    pub(crate) cache: Cache,
    ids: AtomicU64,
}

impl Store {
    pub(crate) fn new(folder: Arc<dyn Folder>, identity: &Identity, options: Options) -> Store {
        Store {
            files: Files::new(folder.clone(), options.open_files),
            cache: Cache::new(options.cache_bytes),
            folder,
            identity: identity.clone(),
            options,
            ids: AtomicU64::new(0),
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.folder.name()
    }

    /// A number that no other segment of this process's journal had: names of files may come again after a
    /// truncation, what is cached under them must not.
    pub(crate) fn new_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn failed(&self, doing: &'static str) -> impl FnOnce(disk::Error) -> Error + '_ {
        move |source| Error::Storage { journal: self.name().to_owned(), doing, source }
    }

    pub(crate) fn corrupt(&self, segment: &str, offset: u64, what: impl Into<String>) -> Error {
        Error::Corrupt { segment: format!("{}/{segment}", self.name()), offset, what: what.into() }
    }

    pub(crate) fn invalid(&self, what: impl Into<String>) -> Error {
        Error::Invalid { journal: self.name().to_owned(), what: what.into() }
    }
}

/// Reads `length` bytes of a file. The caller has checked that it is so long.
pub(crate) fn read_vec(file: &dyn File, position: u64, length: usize) -> disk::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_at(Bytes(position), &mut bytes)?;
    Ok(bytes)
}

/// A window that moves forward over a file: small pieces are read with what follows them.
pub(crate) struct Window<'a> {
    file: &'a dyn File,
    size: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    const AHEAD: u64 = 64 << 10;

    pub(crate) fn new(file: &'a dyn File) -> Window<'a> {
        Window { file, size: file.size().0, start: 0, bytes: Vec::new() }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The bytes of a range, or `None` where the file ends before it does.
    pub(crate) fn get(&mut self, position: u64, length: u64) -> disk::Result<Option<&[u8]>> {
        let Some(range) = ByteRange::new(Bytes(position), Bytes(length)) else { return Ok(None) };
        if range.end().0 > self.size {
            return Ok(None);
        }
        let held = self.start..self.start + self.bytes.len() as u64;
        if position < held.start || range.end().0 > held.end {
            let ahead = length.max(Window::AHEAD).min(self.size - position);
            self.bytes = read_vec(self.file, position, ahead as usize)?;
            self.start = position;
        }
        let from = (position - self.start) as usize;
        Ok(Some(&self.bytes[from..from + length as usize]))
    }
}
