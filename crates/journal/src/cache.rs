//! A bounded memory of blocks and chunks that were read and found whole.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

/// What a cached block is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// Entries of an index.
    Entries,
    /// Places of chunks.
    Places,
    /// Batches.
    Rows,
    /// A chunk of before-images, decompressed.
    Chunk,
}

/// A block: of which segment, of which part of it, and its number there.
pub(crate) type BlockId = (u64, Part, u32);

/// The least recently used block makes room for the next.
pub(crate) struct Cache {
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    blocks: HashMap<BlockId, (Arc<[u8]>, u64)>,
    by_use: BTreeMap<u64, BlockId>,
    uses: u64,
    bytes: usize,
}

impl Cache {
    /// A cache of at most `most` bytes.
    pub(crate) fn new(most: usize) -> Cache {
        Cache { most, state: Mutex::default() }
    }

    /// The block, read by `read` unless it is cached. No lock is held while reading.
    pub(crate) fn get<E>(
        &self,
        id: BlockId,
        read: impl FnOnce() -> Result<Arc<[u8]>, E>,
    ) -> Result<Arc<[u8]>, E> {
        if let Some(block) = self.lock().touch(id) {
            return Ok(block);
        }
        let block = read()?;
        self.lock().insert(id, block.clone(), self.most);
        Ok(block)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn touch(&mut self, id: BlockId) -> Option<Arc<[u8]>> {
        let (block, used) = self.blocks.get_mut(&id)?;
        self.by_use.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.by_use.insert(self.uses, id);
        Some(block.clone())
    }

    fn insert(&mut self, id: BlockId, block: Arc<[u8]>, most: usize) {
        if block.len() > most || self.blocks.contains_key(&id) {
            return;
        }
        self.uses += 1;
        self.bytes += block.len();
        self.blocks.insert(id, (block, self.uses));
        self.by_use.insert(self.uses, id);
        while self.bytes > most {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            if let Some((gone, _)) = self.blocks.remove(&oldest) {
                self.bytes -= gone.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_block_goes_first() {
        let cache = Cache::new(30);
        let read = |number: u32| {
            let mut missed = false;
            let block = cache.get::<()>((1, Part::Rows, number), || {
                missed = true;
                Ok(vec![number as u8; 10].into())
            });
            assert_eq!(block.unwrap()[0], number as u8);
            missed
        };
        assert!(read(1) && read(2) && read(3));
        assert!(!read(1));
        assert!(read(4));
        assert!(!read(1) && !read(3) && !read(4));
        assert!(read(2));
    }
}
