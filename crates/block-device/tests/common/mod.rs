//! Operations on a disk, their obvious oracle, and how a test says that it was skipped.

use disk::{Allocation, ByteRange, Bytes, Disk};
use proptest::prelude::*;
use testkit::Rng;

/// One step of a random run.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Write { offset: u64, length: usize, seed: u64 },
    Zero { offset: u64, length: u64 },
    Read { offset: u64, length: usize },
    Sync,
}

/// Steps at offsets up to `span`, many of them at or near block boundaries.
pub(crate) fn steps(span: u64) -> impl Strategy<Value = Vec<Step>> {
    let place = move || {
        let near = (0..=span / 4096, prop_oneof![Just(0u64), Just(1), Just(512), Just(4095)]);
        let offset = prop_oneof![0..=span, near.prop_map(|(block, into)| block * 4096 + into)];
        let length = prop_oneof![0u64..600, Just(4096), Just(8192), 0u64..40_000];
        (offset, length).prop_map(move |(offset, length)| {
            let offset = offset.min(span - 1);
            (offset, length.clamp(1, span - offset))
        })
    };
    let step = prop_oneof![
        (place(), any::<u64>()).prop_map(|((offset, length), seed)| Step::Write {
            offset,
            length: length as usize,
            seed
        }),
        place().prop_map(|(offset, length)| Step::Zero { offset, length }),
        place().prop_map(|(offset, length)| Step::Read { offset, length: length as usize }),
        Just(Step::Sync),
    ];
    prop::collection::vec(step, 1..40)
}

/// The bytes of a write.
pub(crate) fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut data = vec![0; length];
    Rng::new(seed).fill(&mut data);
    data
}

/// Does the same to both disks; reads must be equal.
pub(crate) fn run(steps: &[Step], disk: &dyn Disk, oracle: &dyn Disk) {
    for step in steps {
        match *step {
            Step::Write { offset, length, seed } => {
                let data = bytes(length, seed);
                disk.write_at(Bytes(offset), &data).unwrap();
                oracle.write_at(Bytes(offset), &data).unwrap();
            }
            Step::Zero { offset, length } => {
                let range = ByteRange::new(Bytes(offset), Bytes(length)).unwrap();
                disk.write_zeroes(range).unwrap();
                oracle.write_zeroes(range).unwrap();
            }
            Step::Read { offset, length } => {
                let length = length.min(oracle.size().0.saturating_sub(offset) as usize);
                assert_eq!(
                    read(disk, offset.min(oracle.size().0), length),
                    read(oracle, offset.min(oracle.size().0), length)
                );
            }
            Step::Sync => disk.sync().unwrap(),
        }
    }
    assert_eq!(disk.size(), oracle.size());
    let all = read(oracle, 0, oracle.size().as_usize());
    assert!(read(disk, 0, all.len()) == all, "contents differ");
    check_extents(disk, &all);
}

pub(crate) fn read(disk: &dyn Disk, offset: u64, length: usize) -> Vec<u8> {
    let mut buffer = vec![0xee; length];
    disk.read_at(Bytes(offset), &mut buffer).unwrap();
    buffer
}

/// Extents cover the disk, and what they call a hole reads as zeroes.
fn check_extents(disk: &dyn Disk, contents: &[u8]) {
    let mut at = 0;
    while at < contents.len() {
        let extent = disk.extent_at(Bytes(at as u64)).unwrap();
        let end = at + extent.length.as_usize();
        assert!(at < end && end <= contents.len(), "extent {extent:?} at {at}");
        if extent.allocation == Allocation::Hole {
            assert!(contents[at..end].iter().all(|byte| *byte == 0), "data in the hole at {at}");
        }
        at = end;
    }
}
