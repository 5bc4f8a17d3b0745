//! Disks that fail or wait on a schedule that a seed decides.

use crate::{ByteRange, Bytes, Cause, Disk, Error, Extent, Operation, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What an operation meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done; the operation fails as a broken medium does.
    Fail,
    /// Nothing is done; the operation fails for lack of space.
    NoSpace,
    /// The first half of a write is done, then it fails.
    Tear,
    /// One bit of what is read or written is wrong, and nothing tells.
    FlipBit,
}

/// Which operations of a disk meet which fault: the n-th read, write (zeroing is one) or sync, counted from zero.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    faults: Vec<(Operation, u64, Fault)>,
    stays_broken: bool,
}

impl FaultPlan {
    /// No fault at all.
    pub fn none() -> FaultPlan {
        FaultPlan::default()
    }

    /// Adds a fault at the `nth` operation of a kind.
    pub fn at(mut self, operation: Operation, nth: u64, fault: Fault) -> FaultPlan {
        self.faults.push((operation, nth, fault));
        self
    }

    /// After the first fault that is reported, every later operation fails too.
    pub fn then_stays_broken(mut self) -> FaultPlan {
        self.stays_broken = true;
        self
    }

    fn fault(&self, operation: Operation, nth: u64) -> Option<Fault> {
        self.faults.iter().find(|(kind, at, _)| *kind == operation && *at == nth).map(|(_, _, fault)| *fault)
    }
}

/// A disk that meets the faults of a plan.
pub struct FaultDisk<D> {
    disk: D,
    plan: FaultPlan,
    reads: AtomicU64,
    writes: AtomicU64,
    syncs: AtomicU64,
    broken: AtomicBool,
}

impl<D: Disk> FaultDisk<D> {
    /// `disk`, meeting the faults of `plan`.
    pub fn new(disk: D, plan: FaultPlan) -> FaultDisk<D> {
        let counter = || AtomicU64::new(0);
        FaultDisk {
            disk,
            plan,
            reads: counter(),
            writes: counter(),
            syncs: counter(),
            broken: AtomicBool::new(false),
        }
    }

    fn next(&self, operation: Operation, counter: &AtomicU64) -> Option<Fault> {
        let nth = counter.fetch_add(1, Ordering::Relaxed);
        if self.broken.load(Ordering::Relaxed) {
            return Some(Fault::Fail);
        }
        let fault = self.plan.fault(operation, nth);
        if self.plan.stays_broken && fault.is_some_and(|fault| fault != Fault::FlipBit) {
            self.broken.store(true, Ordering::Relaxed);
        }
        fault
    }

    fn failed(&self, operation: Operation, range: Option<ByteRange>, fault: Fault) -> Error {
        let cause = match fault {
            Fault::NoSpace => Cause::NoSpace,
            _ => Cause::Io(std::io::Error::other("injected fault")),
        };
        Error::new(operation, self.disk.name(), range, cause)
    }
}

impl<D: Disk> Disk for FaultDisk<D> {
    fn name(&self) -> &str {
        self.disk.name()
    }

    fn size(&self) -> Bytes {
        self.disk.size()
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> Result<()> {
        match self.next(Operation::Read, &self.reads) {
            None => self.disk.read_at(offset, buffer),
            Some(Fault::FlipBit) => {
                self.disk.read_at(offset, buffer)?;
                flip_middle_bit(buffer);
                Ok(())
            }
            Some(fault) => {
                let range = ByteRange::of_buffer(offset, buffer.len());
                Err(self.failed(Operation::Read, Some(range), fault))
            }
        }
    }

    fn write_at(&self, offset: Bytes, data: &[u8]) -> Result<()> {
        let fault = match self.next(Operation::Write, &self.writes) {
            None => return self.disk.write_at(offset, data),
            Some(Fault::FlipBit) => {
                let mut wrong = data.to_vec();
                flip_middle_bit(&mut wrong);
                return self.disk.write_at(offset, &wrong);
            }
            Some(fault) => fault,
        };
        if fault == Fault::Tear {
            self.disk.write_at(offset, &data[..data.len() / 2])?;
        }
        Err(self.failed(Operation::Write, Some(ByteRange::of_buffer(offset, data.len())), fault))
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<()> {
        match self.next(Operation::Write, &self.writes) {
            None => self.disk.write_zeroes(range),
            Some(fault) => Err(self.failed(Operation::Write, Some(range), fault)),
        }
    }

    fn sync(&self) -> Result<()> {
        match self.next(Operation::Sync, &self.syncs) {
            None => self.disk.sync(),
            Some(fault) => Err(self.failed(Operation::Sync, None, fault)),
        }
    }

    fn extent_at(&self, offset: Bytes) -> Result<Extent> {
        self.disk.extent_at(offset)
    }
}

fn flip_middle_bit(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 0x10;
    }
}

/// A disk whose operations first wait for a time that a seed decides. Waiting is done by a function that the
/// caller hands in, so a simulation can count the time instead of spending it.
pub struct DelayDisk<D, W> {
    disk: D,
    wait: W,
    longest: Duration,
    state: AtomicU64,
}

impl<D: Disk, W: Fn(Duration) + Send + Sync> DelayDisk<D, W> {
    /// `disk`, each operation after a wait between zero and `longest`.
    pub fn new(disk: D, seed: u64, longest: Duration, wait: W) -> DelayDisk<D, W> {
        DelayDisk { disk, wait, longest, state: AtomicU64::new(seed) }
    }

    fn pause(&self) {
        // SplitMix64: one addition makes the next state, the mixing makes the number.
        let mut z = self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let fraction = ((z ^ (z >> 31)) >> 40) as f64 / (1u64 << 24) as f64;
        (self.wait)(self.longest.mul_f64(fraction));
    }
}

impl<D: Disk, W: Fn(Duration) + Send + Sync> Disk for DelayDisk<D, W> {
    fn name(&self) -> &str {
        self.disk.name()
    }

    fn size(&self) -> Bytes {
        self.disk.size()
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> Result<()> {
        self.pause();
        self.disk.read_at(offset, buffer)
    }

    fn write_at(&self, offset: Bytes, data: &[u8]) -> Result<()> {
        self.pause();
        self.disk.write_at(offset, data)
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<()> {
        self.pause();
        self.disk.write_zeroes(range)
    }

    fn sync(&self) -> Result<()> {
        self.pause();
        self.disk.sync()
    }

    fn extent_at(&self, offset: Bytes) -> Result<Extent> {
        self.disk.extent_at(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryDisk;
    use std::sync::Mutex;

    #[test]
    fn faults_come_when_the_plan_says_so() {
        let plan = FaultPlan::none()
            .at(Operation::Write, 1, Fault::Tear)
            .at(Operation::Read, 0, Fault::FlipBit)
            .at(Operation::Sync, 0, Fault::Fail);
        let disk = FaultDisk::new(MemoryDisk::new("m", Bytes(8)), plan);
        disk.write_at(Bytes(0), b"aaaaaaaa").unwrap();
        assert!(disk.write_at(Bytes(0), b"bbbbbbbb").is_err());
        let mut seen = [0; 8];
        disk.read_at(Bytes(0), &mut seen).unwrap();
        assert_eq!(&seen, b"bbbbqaaa");
        assert!(disk.sync().is_err());
        assert!(disk.sync().is_ok());
    }

    #[test]
    fn a_disk_that_stays_broken_never_works_again() {
        let plan = FaultPlan::none().at(Operation::Sync, 0, Fault::Fail).then_stays_broken();
        let disk = FaultDisk::new(MemoryDisk::new("m", Bytes(8)), plan);
        assert!(disk.write_at(Bytes(0), b"a").is_ok());
        assert!(disk.sync().is_err());
        assert!(disk.sync().is_err());
        assert!(disk.read_at(Bytes(0), &mut [0]).is_err());
    }

    #[test]
    fn equal_seeds_wait_equally_long() {
        let waits = |seed| {
            let seen = Mutex::new(Vec::new());
            let record = |time| seen.lock().unwrap().push(time);
            let disk = DelayDisk::new(MemoryDisk::new("m", Bytes(8)), seed, Duration::from_millis(9), record);
            (0..5).for_each(|_| disk.sync().unwrap());
            drop(disk);
            seen.into_inner().unwrap()
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
        assert!(waits(7).iter().all(|wait| *wait <= Duration::from_millis(9)));
    }
}
