//! A folder and files that lose power.

use crate::Rng;
use disk::{
    Access, ByteRange, Bytes, Cause, Disk, Error, File, Folder, Operation, Result, SECTOR_SIZE, check_bounds,
    valid_name,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

/// The power supply that files and disks share: it counts their writes and syncs, and fails at one of them.
#[derive(Debug, Default)]
pub struct Power {
    state: Mutex<PowerState>,
}

#[derive(Debug, Default)]
struct PowerState {
    operations: u64,
    cut_at: Option<u64>,
    room: Option<u64>,
    no_more_files: bool,
}

impl Power {
    /// Writes, syncs and changes of names so far.
    pub fn operations(&self) -> u64 {
        lock(&self.state).operations
    }

    /// Cuts the power at the `nth` operation from now, counted from zero: it and all later ones fail.
    pub fn cut_after(&self, nth: u64) {
        let mut state = lock(&self.state);
        state.cut_at = Some(state.operations + nth);
    }

    /// Turns the power on again and forgets a planned cut.
    pub fn restore(&self) {
        lock(&self.state).cut_at = None;
    }

    /// True when the power has been cut.
    pub fn is_cut(&self) -> bool {
        let state = lock(&self.state);
        state.cut_at.is_some_and(|at| state.operations >= at)
    }

    /// Limits the bytes that all files together may hold; `None` lifts the limit.
    pub fn set_room(&self, room: Option<u64>) {
        lock(&self.state).room = room;
    }

    /// Whether a folder can hold no more files than it has, as a volume without a free inode.
    pub fn set_no_more_files(&self, none: bool) {
        lock(&self.state).no_more_files = none;
    }

    fn room(&self) -> Option<u64> {
        lock(&self.state).room
    }

    /// True when this operation still takes place.
    fn tick(&self) -> bool {
        let mut state = lock(&self.state);
        if state.cut_at.is_some_and(|at| state.operations >= at) {
            return false;
        }
        state.operations += 1;
        true
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn power_failure(operation: Operation, name: &str) -> Error {
    Error::new(operation, name, None, Cause::Io(std::io::Error::other("the power is cut")))
}

/// A file in memory that remembers what was durable.
#[derive(Debug)]
pub struct SimFile {
    name: String,
    power: Arc<Power>,
    volume: Arc<Mutex<u64>>,
    state: Mutex<Contents>,
    /// A disk keeps its size; a file grows with its writes.
    fixed: bool,
}

#[derive(Debug, Default)]
struct Contents {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors written since the last sync, each once.
    dirty: BTreeSet<u64>,
}

impl SimFile {
    /// A disk of its own, outside of any folder, on a power supply that it shares with others.
    pub fn disk(name: impl Into<String>, size: Bytes, power: &Arc<Power>) -> Arc<SimFile> {
        let zeroes = vec![0; size.as_usize()];
        let contents = Contents { now: zeroes.clone(), durable: zeroes, dirty: BTreeSet::new() };
        Arc::new(SimFile {
            name: name.into(),
            power: power.clone(),
            volume: Arc::default(),
            state: Mutex::new(contents),
            fixed: true,
        })
    }

    /// What a reader sees now.
    pub fn contents(&self) -> Vec<u8> {
        lock(&self.state).now.clone()
    }

    /// Overwrites bytes behind the back of everyone, durably: damage to the medium.
    pub fn corrupt(&self, offset: usize, xor: u8) {
        let mut state = lock(&self.state);
        let Contents { now, durable, .. } = &mut *state;
        for byte in [now.get_mut(offset), durable.get_mut(offset)].into_iter().flatten() {
            *byte ^= xor;
        }
    }

    /// What is left after a loss of power: each sector written since the last sync survives or not, and the size
    /// is the durable one, the newest, or one between.
    pub fn crash(&self, rng: &mut Rng) {
        let mut state = lock(&self.state);
        let Contents { now, durable, dirty } = &mut *state;
        // Some crashes lose everything, some nothing, most lose a part: each is worth meeting often.
        let (lost, of) = *rng.pick(&[(0, 1), (1, 1), (1, 2), (1, 8), (7, 8)]);
        let mut keep = || rng.below(of) >= lost;
        let length = match (now.len(), durable.len()) {
            (new, old) if new == old => new,
            (new, old) => {
                if keep() {
                    new
                } else {
                    old
                }
            }
        };
        let mut left = durable.clone();
        left.resize(length, 0);
        for sector in dirty.iter() {
            if !keep() {
                continue;
            }
            let start = (sector * SECTOR_SIZE) as usize;
            let end = (start + SECTOR_SIZE as usize).min(length).min(now.len());
            if start < end {
                left[start..end].copy_from_slice(&now[start..end]);
            }
        }
        dirty.clear();
        self.account(now.len(), left.len());
        now.clone_from(&left);
        *durable = left;
    }

    fn account(&self, old: usize, new: usize) {
        let mut used = lock(&self.volume);
        *used = (*used + new as u64).saturating_sub(old as u64);
    }

    fn tick(&self, operation: Operation) -> Result<()> {
        if self.power.tick() { Ok(()) } else { Err(power_failure(operation, &self.name)) }
    }

    fn reserve(&self, old: usize, new: usize, range: ByteRange) -> Result<()> {
        let used = *lock(&self.volume);
        if new > old && self.power.room().is_some_and(|room| used + (new - old) as u64 > room) {
            return Err(Error::new(Operation::Write, &self.name, Some(range), Cause::NoSpace));
        }
        self.account(old, new);
        Ok(())
    }

    fn put(&self, range: ByteRange, data: Option<&[u8]>) -> Result<()> {
        if self.fixed {
            check_bounds(self, Operation::Write, range)?;
        }
        self.tick(Operation::Write)?;
        let mut state = lock(&self.state);
        let (start, end) = (range.start().as_usize(), range.end().as_usize());
        let old = state.now.len();
        if end > old {
            self.reserve(old, end, range)?;
            state.now.resize(end, 0);
        }
        match data {
            Some(data) => state.now[start..end].copy_from_slice(data),
            None => state.now[start..end].fill(0),
        }
        if !range.is_empty() {
            let first = start.min(old) as u64 / SECTOR_SIZE;
            state.dirty.extend(first..(end as u64).div_ceil(SECTOR_SIZE));
        }
        Ok(())
    }
}

impl Disk for SimFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> Bytes {
        Bytes(lock(&self.state).now.len() as u64)
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> Result<()> {
        check_bounds(self, Operation::Read, ByteRange::of_buffer(offset, buffer.len()))?;
        if self.power.is_cut() {
            return Err(power_failure(Operation::Read, &self.name));
        }
        let start = offset.as_usize();
        buffer.copy_from_slice(&lock(&self.state).now[start..start + buffer.len()]);
        Ok(())
    }

    fn write_at(&self, offset: Bytes, data: &[u8]) -> Result<()> {
        self.put(ByteRange::of_buffer(offset, data.len()), Some(data))
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<()> {
        self.put(range, None)
    }

    fn sync(&self) -> Result<()> {
        self.tick(Operation::Sync)?;
        let mut state = lock(&self.state);
        let Contents { now, durable, dirty } = &mut *state;
        durable.resize(now.len(), 0);
        for sector in std::mem::take(dirty) {
            let start = ((sector * SECTOR_SIZE) as usize).min(now.len());
            let end = (start + SECTOR_SIZE as usize).min(now.len());
            durable[start..end].copy_from_slice(&now[start..end]);
        }
        Ok(())
    }
}

impl File for SimFile {
    fn set_size(&self, size: Bytes) -> Result<()> {
        self.tick(Operation::Resize)?;
        let mut state = lock(&self.state);
        let (old, new) = (state.now.len(), size.as_usize());
        let range = ByteRange::of_buffer(Bytes(old.min(new) as u64), old.abs_diff(new));
        self.reserve(old, new, range)?;
        state.now.resize(new, 0);
        if new > old {
            state.dirty.extend(old as u64 / SECTOR_SIZE..(new as u64).div_ceil(SECTOR_SIZE));
        }
        Ok(())
    }

    /// What it is long takes room here in any case.
    fn allocate(&self, size: Bytes) -> Result<()> {
        self.set_size(size)
    }

    fn keep_room(&self) {}
}

/// A folder of [`SimFile`]s. Clones share the folder.
#[derive(Clone, Debug)]
pub struct SimFolder {
    name: String,
    power: Arc<Power>,
    volume: Arc<Mutex<u64>>,
    names: Arc<Mutex<Names>>,
}

#[derive(Debug, Default)]
struct Names {
    now: BTreeMap<String, Arc<SimFile>>,
    /// Every change of names since the last sync, oldest first, as the map before it.
    since_sync: Vec<BTreeMap<String, Arc<SimFile>>>,
    locks: Vec<(std::sync::Weak<Handle>, Access)>,
}

/// An open file: its lock lasts as long as the handle.
#[derive(Debug)]
struct Handle {
    file: Arc<SimFile>,
    access: Access,
}

impl SimFolder {
    /// An empty folder with a power supply of its own.
    pub fn new(name: impl Into<String>) -> SimFolder {
        SimFolder::on_power(name, &Arc::default())
    }

    /// An empty folder on a power supply that it shares with others.
    pub fn on_power(name: impl Into<String>, power: &Arc<Power>) -> SimFolder {
        SimFolder { name: name.into(), power: power.clone(), volume: Arc::default(), names: Arc::default() }
    }

    /// The power supply.
    pub fn power(&self) -> &Arc<Power> {
        &self.power
    }

    /// A file's medium, to look at or to damage, or `None` where there is no such file.
    pub fn file(&self, name: &str) -> Option<Arc<SimFile>> {
        lock(&self.names).now.get(name).cloned()
    }

    /// Cuts the power and turns it on again: what was not synced survives as the seed decides. Handles opened
    /// before must not be used any more; their locks are gone.
    pub fn crash(&self, rng: &mut Rng) {
        let mut names = lock(&self.names);
        let changes = names.since_sync.len() as u64;
        // Names are journaled by the file system: a prefix of the changes survives.
        let survived = rng.below(changes + 1);
        if survived < changes {
            names.now = names.since_sync[survived as usize].clone();
        }
        names.since_sync.clear();
        names.locks.clear();
        for file in names.now.values() {
            file.crash(rng);
        }
        self.power.restore();
    }

    fn tick(&self, operation: Operation, name: &str) -> Result<()> {
        if self.power.tick() { Ok(()) } else { Err(power_failure(operation, name)) }
    }

    fn error<T>(&self, operation: Operation, name: &str, cause: Cause) -> Result<T> {
        Err(Error::new(operation, format!("{}/{name}", self.name), None, cause))
    }

    fn hand_out(names: &mut Names, file: Arc<SimFile>, access: Access) -> Arc<dyn File> {
        let handle = Arc::new(Handle { file, access });
        names.locks.retain(|(held, _)| held.strong_count() > 0);
        names.locks.push((Arc::downgrade(&handle), access));
        handle
    }
}

impl Folder for SimFolder {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self, name: &str, access: Access) -> Result<Arc<dyn File>> {
        let mut names = lock(&self.names);
        let Some(file) = names.now.get(name).cloned() else {
            return self.error(Operation::Open, name, Cause::NotFound);
        };
        let conflict = names.locks.iter().any(|(held, how)| {
            held.upgrade().is_some_and(|handle| Arc::ptr_eq(&handle.file, &file))
                && (*how == Access::Write || access == Access::Write)
        });
        if conflict {
            let holder = "another handle of this process".to_owned();
            return self.error(Operation::Open, name, Cause::InUse { holder });
        }
        Ok(SimFolder::hand_out(&mut names, file, access))
    }

    fn create(&self, name: &str) -> Result<Arc<dyn File>> {
        if !valid_name(name) {
            return self.error(Operation::Create, name, Cause::BadName);
        }
        let mut names = lock(&self.names);
        if names.now.contains_key(name) {
            return self.error(Operation::Create, name, Cause::AlreadyExists);
        }
        if lock(&self.power.state).no_more_files {
            return self.error(Operation::Create, name, Cause::NoSpace);
        }
        self.tick(Operation::Create, name)?;
        let file = Arc::new(SimFile {
            name: format!("{}/{name}", self.name),
            power: self.power.clone(),
            volume: self.volume.clone(),
            state: Mutex::default(),
            fixed: false,
        });
        let before = names.now.clone();
        names.since_sync.push(before);
        names.now.insert(name.to_owned(), file.clone());
        Ok(SimFolder::hand_out(&mut names, file, Access::Write))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        if !valid_name(to) {
            return self.error(Operation::Rename, to, Cause::BadName);
        }
        let mut names = lock(&self.names);
        let Some(file) = names.now.get(from).cloned() else {
            return self.error(Operation::Rename, from, Cause::NotFound);
        };
        self.tick(Operation::Rename, from)?;
        let before = names.now.clone();
        names.since_sync.push(before);
        names.now.remove(from);
        if let Some(replaced) = names.now.insert(to.to_owned(), file) {
            replaced.account(replaced.size().as_usize(), 0);
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<()> {
        let mut names = lock(&self.names);
        if !names.now.contains_key(name) {
            return self.error(Operation::Remove, name, Cause::NotFound);
        }
        self.tick(Operation::Remove, name)?;
        let before = names.now.clone();
        names.since_sync.push(before);
        if let Some(removed) = names.now.remove(name) {
            removed.account(removed.size().as_usize(), 0);
        }
        Ok(())
    }

    fn list(&self) -> Result<Vec<String>> {
        Ok(lock(&self.names).now.keys().cloned().collect())
    }

    fn sync(&self) -> Result<()> {
        self.tick(Operation::Sync, &self.name)?;
        lock(&self.names).since_sync.clear();
        Ok(())
    }

    fn available(&self) -> Result<Bytes> {
        let used = *lock(&self.volume);
        Ok(Bytes(self.power.room().map_or(1 << 40, |room| room.saturating_sub(used))))
    }
}

impl Disk for Handle {
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
        self.writable(Operation::Write)?;
        self.file.write_at(offset, data)
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<()> {
        self.writable(Operation::Write)?;
        self.file.write_zeroes(range)
    }

    fn sync(&self) -> Result<()> {
        self.file.sync()
    }
}

impl File for Handle {
    fn set_size(&self, size: Bytes) -> Result<()> {
        self.writable(Operation::Resize)?;
        self.file.set_size(size)
    }

    fn allocate(&self, size: Bytes) -> Result<()> {
        self.writable(Operation::Resize)?;
        self.file.allocate(size)
    }

    fn keep_room(&self) {
        self.file.keep_room();
    }
}

impl Handle {
    fn writable(&self, operation: Operation) -> Result<()> {
        match self.access {
            Access::Write => Ok(()),
            Access::Read => Err(Error::new(operation, self.file.name(), None, Cause::ReadOnly)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(folder: &SimFolder, name: &str, data: &[u8]) -> Arc<dyn File> {
        let file = folder.create(name).unwrap();
        file.write_at(Bytes(0), data).unwrap();
        file
    }

    #[test]
    fn what_was_synced_survives_every_crash() {
        for seed in 0..200 {
            let folder = SimFolder::new("sim");
            let file = written(&folder, "a", &[7; 2000]);
            file.sync().unwrap();
            folder.sync().unwrap();
            file.write_at(Bytes(100), &[9; 1500]).unwrap();
            drop(file);
            folder.crash(&mut Rng::new(seed));
            let left = folder.file("a").unwrap().contents();
            assert_eq!(left.len(), 2000, "seed {seed}");
            assert!(left[..100].iter().chain(&left[1600..]).all(|byte| *byte == 7), "seed {seed}");
            assert!(left[100..1600].iter().all(|byte| *byte == 7 || *byte == 9), "seed {seed}");
        }
    }

    #[test]
    fn a_name_is_durable_only_after_the_folders_sync() {
        let mut survived = [0, 0];
        for seed in 0..200 {
            let folder = SimFolder::new("sim");
            drop(written(&folder, "a", b"x"));
            folder.crash(&mut Rng::new(seed));
            survived[usize::from(folder.file("a").is_some())] += 1;
        }
        assert!(survived.iter().all(|times| *times > 20), "{survived:?}");
    }

    #[test]
    fn a_cut_stops_everything_until_the_crash() {
        let folder = SimFolder::new("sim");
        let file = folder.create("a").unwrap();
        folder.power().cut_after(1);
        assert!(file.write_at(Bytes(0), b"x").is_ok());
        assert!(file.sync().is_err());
        assert!(file.read_at(Bytes(0), &mut [0]).is_err());
        folder.crash(&mut Rng::new(1));
        assert!(folder.create("b").is_ok());
    }

    #[test]
    fn a_writer_excludes_everyone_and_readers_each_other_not() {
        let folder = SimFolder::new("sim");
        let writer = folder.create("a").unwrap();
        assert!(matches!(folder.open("a", Access::Read).err().unwrap().cause(), Cause::InUse { .. }));
        drop(writer);
        let reader = folder.open("a", Access::Read).unwrap();
        assert!(folder.open("a", Access::Read).is_ok());
        assert!(folder.open("a", Access::Write).is_err());
        assert!(matches!(reader.write_at(Bytes(0), b"x").unwrap_err().cause(), Cause::ReadOnly));
    }

    #[test]
    fn a_full_volume_refuses_growth_and_keeps_what_it_has() {
        let folder = SimFolder::new("sim");
        let file = written(&folder, "a", &[1; 100]);
        folder.power().set_room(Some(150));
        assert!(matches!(file.write_at(Bytes(100), &[1; 100]).unwrap_err().cause(), Cause::NoSpace));
        assert_eq!((file.size(), folder.available().unwrap()), (Bytes(100), Bytes(50)));
        assert!(file.write_at(Bytes(0), &[2; 100]).is_ok());
    }
}
