//! The small file that says what the rest of the state folder means.
//!
//! ```text
//!  0 8 bytes "MTSSTATE"   8 u32 version 1   12 u8 closed cleanly   13 u8 logging   14 u8 pending sync   15 u8 0
//! 16 16 bytes stream      32 16 bytes boot  48 u64 next sequence   56 u64 acknowledged   64 u64 newest time
//! 72 u16 count of disks, then for each: u64 size, u16 length and bytes of the id; last u32 CRC32C of all before
//! ```

use change_stream::{DiskDescription, MAX_DISKS, MAX_TEXT, StreamId, SyncMode, Time};
use disk::{Access, Bytes, Disk, Folder, Result};
use std::sync::Arc;

const NAME: &str = "state";
const NEW_NAME: &str = "state.new";
const MAGIC: &[u8; 8] = b"MTSSTATE";
const VERSION: u32 = 1;
const FIXED: usize = 74;
const MAX_SIZE: u64 = (FIXED + MAX_DISKS * (10 + MAX_TEXT) + 4) as u64;

/// Names one boot of the machine: what was written and not synced is gone when it differs.
pub type BootId = [u8; 16];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) clean: bool,
    /// Changes go to the backlog; otherwise they only set dirty bits.
    pub(crate) logging: bool,
    /// A sync was begun in this mode and has not ended.
    pub(crate) pending: Option<SyncMode>,
    pub(crate) stream: StreamId,
    pub(crate) boot: BootId,
    pub(crate) next_sequence: u64,
    pub(crate) acknowledged: u64,
    pub(crate) time: Time,
    pub(crate) disks: Vec<DiskDescription>,
}

impl State {
    pub(crate) fn fresh(stream: StreamId, boot: BootId, disks: Vec<DiskDescription>) -> State {
        State {
            clean: false,
            logging: false,
            pending: None,
            stream,
            boot,
            next_sequence: 1,
            acknowledged: 0,
            time: 0,
            disks,
        }
    }

    /// The stored state, or `None` where there is none that can be believed.
    pub(crate) fn load(folder: &Arc<dyn Folder>) -> Result<Option<State>> {
        if !folder.list()?.iter().any(|name| name == NAME) {
            return Ok(None);
        }
        let file = folder.open(NAME, Access::Read)?;
        let size = file.size().0;
        if size < (FIXED + 4) as u64 || size > MAX_SIZE {
            return Ok(None);
        }
        let mut bytes = vec![0; size as usize];
        file.read_at(Bytes::ZERO, &mut bytes)?;
        Ok(State::decode(&bytes))
    }

    /// Replaces the stored state at once; durably, if asked.
    pub(crate) fn store(&self, folder: &Arc<dyn Folder>, durable: bool) -> Result<()> {
        if folder.list()?.iter().any(|name| name == NEW_NAME) {
            folder.remove(NEW_NAME)?;
        }
        let file = folder.create(NEW_NAME)?;
        file.write_at(Bytes::ZERO, &self.encode())?;
        if durable {
            file.sync()?;
        }
        folder.rename(NEW_NAME, NAME)?;
        if durable {
            folder.sync()?;
        }
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(VERSION.to_le_bytes());
        let pending = match self.pending {
            None => 0,
            Some(SyncMode::Initial) => 1,
            Some(SyncMode::Resync) => 2,
        };
        out.extend([u8::from(self.clean), u8::from(self.logging), pending, 0]);
        out.extend(self.stream.0);
        out.extend(self.boot);
        for number in [self.next_sequence, self.acknowledged, self.time] {
            out.extend(number.to_le_bytes());
        }
        out.extend((self.disks.len() as u16).to_le_bytes());
        for disk in &self.disks {
            out.extend(disk.size.to_le_bytes());
            out.extend((disk.id.len() as u16).to_le_bytes());
            out.extend(disk.id.as_bytes());
        }
        out.extend(crc32c::crc32c(&out).to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<State> {
        let (body, checksum) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) || body.get(..8)? != MAGIC {
            return None;
        }
        let u64_at = |at: usize| Some(u64::from_le_bytes(*body.get(at..)?.first_chunk()?));
        if u32::from_le_bytes(*body.get(8..)?.first_chunk()?) != VERSION {
            return None;
        }
        let mut disks = Vec::new();
        let mut left = body.get(FIXED..)?;
        for _ in 0..u16::from_le_bytes(*body.get(72..)?.first_chunk()?) {
            let size = u64::from_le_bytes(*left.first_chunk()?);
            let length = usize::from(u16::from_le_bytes(*left.get(8..)?.first_chunk()?));
            let id = std::str::from_utf8(left.get(10..10 + length)?).ok()?.to_owned();
            left = left.get(10 + length..)?;
            disks.push(DiskDescription { id, size });
        }
        Some(State {
            clean: body[12] == 1,
            logging: body[13] == 1,
            pending: match body[14] {
                1 => Some(SyncMode::Initial),
                2 => Some(SyncMode::Resync),
                _ => None,
            },
            stream: StreamId(*body.get(16..)?.first_chunk()?),
            boot: *body.get(32..)?.first_chunk()?,
            next_sequence: u64_at(48)?.max(1),
            acknowledged: u64_at(56)?,
            time: u64_at(64)?,
            disks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_survives_and_damage_is_found() {
        let disks = vec![DiskDescription { id: "system".into(), size: 12345 }];
        let mut state = State::fresh(StreamId([7; 16]), [9; 16], disks);
        state.pending = Some(SyncMode::Resync);
        let folder: Arc<dyn Folder> = Arc::new(testkit::SimFolder::new("state"));
        assert_eq!(State::load(&folder).unwrap(), None);
        state.store(&folder, true).unwrap();
        assert_eq!(State::load(&folder).unwrap(), Some(state.clone()));
        let bytes = state.encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert_eq!(State::decode(&damaged), None, "byte {at}");
        }
    }
}
