//! Images of every format against a plain array of bytes.

mod common;

use common::{IN_PLACE, NAME, create, folder, open, options, read_all, write_stream};
use disk::{Access, Allocation, ByteRange, Bytes, Disk};
use proptest::prelude::*;
use testkit::{Rng, SimFolder};
use vmdk::{Format, Image, StreamWriter};

#[derive(Clone, Debug)]
enum Step {
    Write { at: u64, length: u64, seed: u64 },
    Zeroes { at: u64, length: u64 },
    Read { at: u64, length: u64 },
    Sync,
    Close,
    Reopen,
}

/// A grain is 64 KiB: lengths of parts of one, of several, and aligned ones.
fn step(capacity: u64) -> impl Strategy<Value = Step> {
    let place = (0..capacity, prop_oneof![1..2000u64, 60_000..300_000u64], any::<bool>());
    let place = place.prop_map(move |(at, length, aligned)| {
        let (at, length) = if aligned { (at & !0xffff, (length + 0xffff) & !0xffff) } else { (at, length) };
        (at, length.min(capacity - at))
    });
    let kinds = (place, 0..20u8, any::<u64>());
    kinds.prop_map(|((at, length), kind, seed)| match kind {
        0..=8 => Step::Write { at, length, seed },
        9..=12 => Step::Zeroes { at, length },
        13..=16 => Step::Read { at, length },
        17 => Step::Sync,
        18 => Step::Close,
        _ => Step::Reopen,
    })
}

fn run(format: Format, capacity: u64, steps: &[Step]) {
    let sim = SimFolder::new("sim");
    let mut image = create(&sim, format, capacity);
    let mut oracle = vec![0; capacity as usize];
    for step in steps {
        match *step {
            Step::Write { at, length, seed } => {
                let data = &mut oracle[at as usize..(at + length) as usize];
                Rng::new(seed).fill(data);
                image.write_at(Bytes(at), data).unwrap();
            }
            Step::Zeroes { at, length } => {
                oracle[at as usize..(at + length) as usize].fill(0);
                image.write_zeroes(ByteRange::new(Bytes(at), Bytes(length)).unwrap()).unwrap();
            }
            Step::Read { at, length } => {
                let mut seen = vec![0xee; length as usize];
                image.read_at(Bytes(at), &mut seen).unwrap();
                assert!(seen == oracle[at as usize..(at + length) as usize], "{step:?}");
            }
            Step::Sync => image.sync().unwrap(),
            Step::Close => image.close().unwrap(),
            Step::Reopen => {
                drop(image);
                image = open(&sim, Access::Write).unwrap();
            }
        }
    }
    assert!(read_all(&image).unwrap() == oracle);
    assert_holes_are_zero(&image, &oracle);
    drop(image);
    let report = vmdk::check(&sim, NAME).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert!(read_all(&open(&sim, Access::Read).unwrap()).unwrap() == oracle);
}

fn assert_holes_are_zero(image: &Image, oracle: &[u8]) {
    let mut at = Bytes::ZERO;
    while at < image.size() {
        let extent = image.extent_at(at).unwrap();
        assert!(extent.length > Bytes::ZERO);
        let end = at + extent.length;
        if extent.allocation == Allocation::Hole {
            assert!(oracle[at.as_usize()..end.as_usize()].iter().all(|byte| *byte == 0));
        }
        at = end;
    }
    assert_eq!(at, image.size());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_format_holds_what_was_written(
        format in prop::sample::select(&IN_PLACE[..]),
        (capacity, steps) in (1..1600u64).prop_flat_map(|kib| {
            let capacity = kib * 1024 + 512;
            (Just(capacity), prop::collection::vec(step(capacity), 1..30))
        }),
    ) {
        run(format, capacity, &steps);
    }

    #[test]
    fn a_stream_reads_as_it_was_written(
        sectors in 1..6000u64,
        parts in prop::collection::vec((0..200_000u64, 1..200_000u64, any::<u64>(), any::<bool>()), 0..12),
    ) {
        let mut oracle = vec![0; sectors as usize * 512];
        let sim = SimFolder::new("sim");
        let options = options(Format::StreamOptimized, oracle.len() as u64);
        let mut writer = StreamWriter::create(&folder(&sim), NAME, &options).unwrap();
        let mut at = 0;
        for (gap, length, seed, text) in parts {
            let start = (at + gap as usize).min(oracle.len());
            let end = (start + length as usize).min(oracle.len());
            Rng::new(seed).fill(&mut oracle[start..end]);
            if text {
                oracle[start..end].iter_mut().for_each(|byte| *byte &= 1);
            }
            writer.write(Bytes(start as u64), &oracle[start..end]).unwrap();
            at = end;
        }
        writer.finish().unwrap();
        let image = open(&sim, Access::Read).unwrap();
        prop_assert!(read_all(&image).unwrap() == oracle);
        assert_holes_are_zero(&image, &oracle);
        drop(image);
        let report = vmdk::check(&sim, NAME).unwrap();
        prop_assert!(report.findings.is_empty(), "{:?}", report);
    }
}

#[test]
fn a_stream_goes_only_forward_and_is_never_written_in_place() {
    let sim = SimFolder::new("sim");
    let mut writer =
        StreamWriter::create(&folder(&sim), NAME, &options(Format::StreamOptimized, 1 << 20)).unwrap();
    writer.write(Bytes(4096), &[1; 512]).unwrap();
    assert!(writer.write(Bytes(4096), &[1]).unwrap_err().to_string().contains("byte 4608 was reached"));
    assert!(writer.write(Bytes(1 << 20), &[1]).is_err());
    drop(writer);
    assert!(open(&sim, Access::Read).err().unwrap().to_string().contains("footer"));
    drop(sim);
    let sim = SimFolder::new("sim");
    write_stream(&sim, &[7; 100 * 512]);
    assert!(open(&sim, Access::Write).err().unwrap().to_string().contains("in place"));
}

#[test]
fn many_threads_fill_one_image() {
    for format in IN_PLACE {
        let sim = SimFolder::new("sim");
        let image = create(&sim, format, 4 << 20);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let image = &image;
                scope.spawn(move || {
                    // Neighbours share every grain.
                    for chunk in 0..256 {
                        let at = chunk * 16384 + thread * 4096;
                        image.write_at(Bytes(at), &[thread as u8 + 1; 4096]).unwrap();
                        if chunk % 16 == 0 {
                            image.sync().unwrap();
                        }
                    }
                });
            }
        });
        image.close().unwrap();
        drop(image);
        let seen = read_all(&open(&sim, Access::Read).unwrap()).unwrap();
        let right = |(at, byte): (usize, &u8)| *byte as usize == at / 4096 % 4 + 1;
        assert!(seen.iter().enumerate().all(right), "{format}");
        assert!(vmdk::check(&sim, NAME).unwrap().findings.is_empty());
    }
}
