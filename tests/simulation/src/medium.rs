//! A disk of the source whose writer may be killed in the middle of a write.

use disk::{ByteRange, Bytes, Disk, Result};
use std::sync::{Arc, Mutex};
use testkit::{Rng, SimFile};

/// The write that was under way when the source was killed; without data it wrote zeroes.
type Torn = (Bytes, usize, Option<Vec<u8>>);

/// Passes everything on, and remembers the write that failed because its writer was killed.
pub(crate) struct Medium {
    file: Arc<SimFile>,
    torn: Mutex<Option<Torn>>,
}

impl Medium {
    pub(crate) fn new(file: Arc<SimFile>) -> Medium {
        Medium { file, torn: Mutex::new(None) }
    }

    pub(crate) fn contents(&self) -> Vec<u8> {
        self.file.contents()
    }

    /// The machine loses power.
    pub(crate) fn crash(&self, rng: &mut Rng) {
        self.take_torn();
        self.file.crash(rng);
    }

    /// The writer was killed: of the write that was under way, any part may have been made.
    pub(crate) fn tear(&self, rng: &mut Rng) {
        let Some((offset, length, data)) = self.take_torn() else { return };
        let part = rng.below(length as u64 + 1) as usize;
        let made = *rng.pick(&[0, part, length]);
        let result = match data {
            Some(data) => self.file.write_at(offset, &data[..made]),
            None => self.file.write_zeroes(ByteRange::of_buffer(offset, made)),
        };
        result.expect("the machine has power");
    }

    fn take_torn(&self) -> Option<Torn> {
        self.torn.lock().expect("no test panics here").take()
    }

    fn note(&self, result: Result<()>, torn: impl FnOnce() -> Torn) -> Result<()> {
        if result.is_err() {
            *self.torn.lock().expect("no test panics here") = Some(torn());
        }
        result
    }
}

impl Disk for Medium {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn size(&self) -> Bytes {
        self.file.size()
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> Result<()> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: Bytes, data: &[u8]) -> Result<()> {
        self.note(self.file.write_at(offset, data), || (offset, data.len(), Some(data.to_vec())))
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<()> {
        let torn = || (range.start(), range.length().as_usize(), None);
        self.note(self.file.write_zeroes(range), torn)
    }

    fn sync(&self) -> Result<()> {
        self.file.sync()
    }
}
