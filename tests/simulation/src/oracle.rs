//! What every disk held after every change: full copies that share their pages.

use change_stream::StreamId;
use std::collections::HashMap;
use std::sync::Arc;

const PAGE: usize = 4096;

/// Contents of a disk. A clone costs a pointer for each page.
#[derive(Clone, Debug)]
pub(crate) struct Image(Vec<Arc<[u8]>>);

impl Image {
    pub(crate) fn of(bytes: &[u8]) -> Image {
        Image(bytes.chunks(PAGE).map(Arc::from).collect())
    }

    /// Writes data, or zeroes where there is none.
    fn write(&mut self, offset: usize, length: usize, data: Option<&[u8]>) {
        let mut done = 0;
        while done < length {
            let (page, at) = ((offset + done) / PAGE, (offset + done) % PAGE);
            let part = (length - done).min(PAGE - at);
            let into = &mut Arc::make_mut(&mut self.0[page])[at..at + part];
            match data {
                Some(data) => into.copy_from_slice(&data[done..done + part]),
                None => into.fill(0),
            }
            done += part;
        }
    }

    /// The first byte that is another one.
    pub(crate) fn difference(&self, bytes: &[u8]) -> Option<usize> {
        let (page, (wanted, found)) = self
            .0
            .iter()
            .zip(bytes.chunks(PAGE))
            .enumerate()
            .find(|(_, (wanted, found))| ***wanted != **found)?;
        let at = wanted.iter().zip(found).position(|(wanted, found)| wanted != found)?;
        Some(page * PAGE + at)
    }
}

/// Names a state of the source's disks. A change that has no number begins a new book, in which the same sequence
/// number stands for another state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) book: u64,
    pub(crate) sequence: u64,
}

/// All that the source's disks ever held.
pub(crate) struct Oracle {
    disks: Vec<Image>,
    /// Of the newest state, unless the disks have changed since.
    key: Key,
    changed: bool,
    stream: StreamId,
    states: HashMap<Key, Vec<Image>>,
    bookmarks: HashMap<String, Key>,
}

impl Oracle {
    pub(crate) fn new() -> Oracle {
        Oracle {
            disks: Vec::new(),
            key: Key { book: 0, sequence: 0 },
            changed: true,
            stream: StreamId([0; 16]),
            states: HashMap::new(),
            bookmarks: HashMap::new(),
        }
    }

    /// The disks hold something that no change tells of: what a kill or a loss of power left.
    pub(crate) fn replace(&mut self, disks: Vec<Image>) {
        self.disks = disks;
        self.changed = true;
    }

    pub(crate) fn write(&mut self, disk: usize, offset: usize, length: usize, data: Option<&[u8]>) {
        self.disks[disk].write(offset, length, data);
        self.changed = true;
    }

    /// Remembers the present state, which comes after this change. `numbered` says that nothing has changed since
    /// the last call but what has a number.
    pub(crate) fn note(&mut self, stream: StreamId, sequence: u64, numbered: bool) {
        if !numbered || stream != self.stream {
            self.key.book += 1;
        } else if sequence == self.key.sequence && !self.changed {
            return;
        }
        (self.stream, self.key.sequence, self.changed) = (stream, sequence, false);
        self.states.insert(self.key, self.disks.clone());
    }

    /// A bookmark that gets this number, if it is recorded.
    pub(crate) fn bookmark(&mut self, name: String, sequence: u64) {
        self.bookmarks.insert(name, Key { book: self.key.book, sequence });
    }

    pub(crate) fn marked(&self, name: &str) -> Key {
        self.bookmarks[name]
    }

    pub(crate) fn book(&self) -> u64 {
        self.key.book
    }

    pub(crate) fn state(&self, key: Key) -> &[Image] {
        self.states.get(&key).unwrap_or_else(|| panic!("the source never was at {key:?}"))
    }

    pub(crate) fn present(&self) -> &[Image] {
        &self.disks
    }
}
