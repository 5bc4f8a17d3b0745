//! What clients can ask for.

use crate::wire::can;
use crate::{Error, MAX_NAME, Result};
use disk::{Allocation, ByteRange, Bytes, Disk, Extent};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

/// A disk under a name.
pub struct Export {
    name: String,
    disk: Arc<dyn Disk>,
    read_only: bool,
    withdrawn: AtomicBool,
    /// The last stretch that was found to be data. Reading it as data stays right whatever happens to it, so this
    /// spares the reads of a long stretch a lookup each, which some file systems answer slowly.
    known_data: Mutex<ByteRange>,
}

impl Export {
    /// `disk` under `name`; with `read_only`, everything that would change it is refused.
    pub fn new(name: impl Into<String>, disk: Arc<dyn Disk>, read_only: bool) -> Export {
        let known_data = Mutex::new(ByteRange::between(Bytes::ZERO, Bytes::ZERO));
        Export { name: name.into(), disk, read_only, withdrawn: AtomicBool::new(false), known_data }
    }

    /// The name that clients ask for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The disk behind it.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// True when clients may only read.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// True once it has been removed: every further request of a client that still has it open is refused.
    pub fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Acquire)
    }

    /// The stretch from `offset` on as far as it is one kind, where a hole is certain and data is a safe guess.
    pub(crate) fn stretch_at(&self, offset: Bytes) -> disk::Result<Extent> {
        let known = *self.known_data();
        if known.start() <= offset && offset < known.end() {
            return Ok(Extent { length: known.end() - offset, allocation: Allocation::Data });
        }
        let found = self.disk.extent_at(offset)?;
        if found.allocation == Allocation::Data {
            let end = offset.checked_add(found.length).unwrap_or(self.disk.size());
            *self.known_data() = ByteRange::between(offset, end);
        }
        Ok(found)
    }

    /// There may be new holes.
    pub(crate) fn forget_known_data(&self) {
        *self.known_data() = ByteRange::between(Bytes::ZERO, Bytes::ZERO);
    }

    fn known_data(&self) -> MutexGuard<'_, ByteRange> {
        self.known_data.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The transmission flags. All connections reach the same disk, whose sync covers every write that was
    /// answered before it, on whichever connection; that is what the flag for several connections promises.
    pub(crate) fn flags(&self, structured: bool) -> u16 {
        let mut flags = can::HAS_FLAGS | can::FLUSH | can::FUA | can::MULTI_CONN;
        flags |= if self.read_only { can::READ_ONLY } else { can::TRIM | can::WRITE_ZEROES };
        if structured {
            flags |= can::DONT_FRAGMENT;
        }
        flags
    }
}

/// The exports of a server. They can be added and removed while clients are connected.
#[derive(Default)]
pub struct Exports {
    list: RwLock<Vec<Arc<Export>>>,
}

impl Exports {
    /// No exports yet.
    pub fn new() -> Exports {
        Exports::default()
    }

    /// Adds an export under a name that none has yet.
    pub fn add(&self, export: Export) -> Result<Arc<Export>> {
        let length = export.name.len();
        if length > MAX_NAME {
            return Err(Error::NameTooLong { length, limit: MAX_NAME });
        }
        let mut list = self.list.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if list.iter().any(|other| other.name == export.name) {
            return Err(Error::NameTaken { name: export.name });
        }
        let export = Arc::new(export);
        list.push(export.clone());
        Ok(export)
    }

    /// Removes an export. Clients that have it open get an error to every further request.
    pub fn remove(&self, name: &str) -> Option<Arc<Export>> {
        let mut list = self.list.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let at = list.iter().position(|export| export.name == name)?;
        let export = list.remove(at);
        export.withdrawn.store(true, Ordering::Release);
        Some(export)
    }

    /// All exports, in the order in which they were added.
    pub fn list(&self) -> Vec<Arc<Export>> {
        self.list.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// The export of this name. The empty name means the only export there is.
    pub fn find(&self, name: &str) -> Option<Arc<Export>> {
        let list = self.list.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let named = list.iter().find(|export| export.name == name);
        match (named, list.as_slice()) {
            (Some(export), _) => Some(export.clone()),
            (None, [only]) if name.is_empty() => Some(only.clone()),
            (None, _) => None,
        }
    }
}
