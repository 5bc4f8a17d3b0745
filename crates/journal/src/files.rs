//! The segments' files: opened when they are read, and only so many at a time.

use disk::{Access, File, Folder};
use std::sync::{Arc, Mutex, MutexGuard};

/// Open files of segments. The file of the open segment is pinned: it was opened for writing, and its lock is
/// what keeps a second process from using the journal.
pub(crate) struct Files {
    folder: Arc<dyn Folder>,
    most: usize,
    /// Least recently used first.
    open: Mutex<Vec<Open>>,
}

struct Open {
    segment: u64,
    file: Arc<dyn File>,
    pinned: bool,
}

impl Files {
    pub(crate) fn new(folder: Arc<dyn Folder>, most: usize) -> Files {
        Files { folder, most: most.max(1), open: Mutex::default() }
    }

    /// The file of a segment, opened for reading unless it is open.
    pub(crate) fn get(&self, segment: u64, name: &str) -> disk::Result<Arc<dyn File>> {
        let mut open = self.lock();
        if let Some(at) = open.iter().position(|entry| entry.segment == segment) {
            let entry = open.remove(at);
            let file = entry.file.clone();
            open.push(entry);
            return Ok(file);
        }
        let file = self.folder.open(name, Access::Read)?;
        open.push(Open { segment, file: file.clone(), pinned: false });
        self.evict(&mut open);
        Ok(file)
    }

    /// Takes over a file that was opened for writing.
    pub(crate) fn pin(&self, segment: u64, file: Arc<dyn File>) {
        let mut open = self.lock();
        open.retain(|entry| entry.segment != segment);
        open.push(Open { segment, file, pinned: true });
    }

    pub(crate) fn unpin(&self, segment: u64) {
        let mut open = self.lock();
        open.iter_mut().filter(|entry| entry.segment == segment).for_each(|entry| entry.pinned = false);
        self.evict(&mut open);
    }

    pub(crate) fn forget(&self, segment: u64) {
        self.lock().retain(|entry| entry.segment != segment);
    }

    /// Closes files until few enough are open. One that a reader holds stays: its lock would outlive it and refuse
    /// the next opener. Handles are given out under the same lock, so a count of one cannot rise meanwhile.
    fn evict(&self, open: &mut Vec<Open>) {
        let mut surplus = open.len().saturating_sub(self.most);
        open.retain(|entry| {
            let idle = surplus > 0 && !entry.pinned && Arc::strong_count(&entry.file) == 1;
            surplus -= usize::from(idle);
            !idle
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
