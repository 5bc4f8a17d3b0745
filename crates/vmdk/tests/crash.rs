//! Loss of power at every write and sync of a scripted run.

mod common;

use common::{NAME, contents, create, open, read_all};
use disk::{Access, ByteRange, Bytes, Disk, SECTOR_SIZE};
use testkit::{Rng, SimFolder};
use vmdk::{Format, Image, Severity};

const GRAIN: u64 = 64 << 10;
/// 40 grains and a part of one.
const CAPACITY: u64 = 40 * GRAIN + 5 * 512;

/// What each sector may hold after a crash: its bytes at the last sync, and every value written since.
struct Expected {
    allowed: Vec<Vec<[u8; 512]>>,
}

impl Expected {
    fn zeroes() -> Expected {
        Expected { allowed: vec![vec![[0; 512]]; (CAPACITY / SECTOR_SIZE) as usize] }
    }

    /// Offset and data are whole sectors.
    fn note(&mut self, at: u64, data: &[u8]) {
        let first = (at / SECTOR_SIZE) as usize;
        for (values, sector) in self.allowed[first..].iter_mut().zip(data.chunks_exact(512)) {
            values.push(sector.try_into().unwrap());
        }
    }

    fn synced(&mut self) {
        for values in &mut self.allowed {
            values.drain(..values.len() - 1);
        }
    }

    fn check(&self, seen: &[u8], context: &str) {
        for (sector, bytes) in seen.chunks(512).enumerate() {
            assert!(self.allowed[sector].iter().any(|value| value == bytes), "sector {sector}, {context}");
        }
    }
}

/// Writes, zeroes, syncs and reopens, until done or out of power.
fn script(sim: &SimFolder, expected: &mut Expected, seed: u64) -> disk::Result<()> {
    let mut rng = Rng::new(seed);
    for round in 0..3 {
        let Ok(image) = open(sim, Access::Write) else { return Ok(()) };
        for step in 0..6 {
            step_once(&image, expected, &mut rng)?;
            if step % 3 == 2 {
                image.sync()?;
                expected.synced();
            }
        }
        if round != 1 {
            image.close()?;
            expected.synced();
        }
    }
    Ok(())
}

fn step_once(image: &Image, expected: &mut Expected, rng: &mut Rng) -> disk::Result<()> {
    let whole = rng.one_in(2);
    let length = if whole { (1 + rng.below(3)) * GRAIN } else { (1 + rng.below(20)) * 512 };
    let at = rng.below((CAPACITY - length) / 512) * 512;
    let at = if whole { at / GRAIN * GRAIN } else { at };
    let mut data = vec![0; length as usize];
    if rng.one_in(4) {
        expected.note(at, &data);
        return image.write_zeroes(ByteRange::new(Bytes(at), Bytes(length)).unwrap());
    }
    rng.fill(&mut data);
    expected.note(at, &data);
    image.write_at(Bytes(at), &data)
}

/// Opens the image after a crash: as a reader, as a checker, and as a writer.
fn inspect(sim: &SimFolder, expected: &Expected, context: &str) {
    let report = vmdk::check(sim, NAME).unwrap();
    assert!(report.is_sound(), "{context}: {report:?}");
    expected.check(&read_all(&open(sim, Access::Read).unwrap()).unwrap(), context);
    let image = open(sim, Access::Write).unwrap();
    expected.check(&read_all(&image).unwrap(), context);
    image.close().unwrap();
    drop(image);
    let report = vmdk::check(sim, NAME).unwrap();
    assert!(
        report.findings.iter().all(|finding| finding.severity == Severity::Note),
        "{context}: {report:?}"
    );
    expected.check(&read_all(&open(sim, Access::Read).unwrap()).unwrap(), context);
}

/// Cuts the power again while the image is opened and closed, some times in a row.
fn crash_while_recovering(sim: &SimFolder, rng: &mut Rng) {
    for _ in 0..1 + rng.below(3) {
        sim.power().cut_after(rng.below(5));
        if let Ok(image) = open(sim, Access::Write) {
            let _ = image.close();
        }
        sim.crash(rng);
    }
}

/// Cuts the power at every operation of the script, with several outcomes of the crash for each.
fn enumerate(format: Format, seed: u64, outcomes: u64) -> u64 {
    let mut cut = 0;
    loop {
        let mut finished = true;
        for outcome in 0..outcomes {
            let sim = SimFolder::new("sim");
            drop(create(&sim, format, CAPACITY));
            let mut expected = Expected::zeroes();
            sim.power().cut_after(cut);
            let ended = script(&sim, &mut expected, seed);
            finished = ended.is_ok() && !sim.power().is_cut();
            let mut rng = Rng::new(cut * 1000 + outcome);
            sim.crash(&mut rng);
            if rng.one_in(2) {
                crash_while_recovering(&sim, &mut rng);
            }
            inspect(&sim, &expected, &format!("{format}, seed {seed}, cut at {cut}, outcome {outcome}"));
        }
        if finished {
            return cut;
        }
        cut += 1;
    }
}

#[test]
fn invariant_8_a_grain_is_durable_before_its_table_entry() {
    for seed in 0..4 {
        let operations = enumerate(Format::MonolithicSparse, seed, 3);
        assert!(operations > 40, "{operations}");
    }
}

#[test]
fn a_crash_of_any_other_format_loses_nothing_synced() {
    for format in [Format::MonolithicFlat, Format::TwoGbMaxExtentSparse, Format::Vmfs] {
        enumerate(format, 9, 2);
    }
}

#[test]
fn a_crash_while_creating_leaves_a_whole_image_or_none() {
    for format in common::IN_PLACE {
        for cut in 0.. {
            let sim = SimFolder::new("sim");
            sim.power().cut_after(cut);
            let made = vmdk::Image::create(&common::folder(&sim), NAME, &common::options(format, CAPACITY));
            let done = made.is_ok();
            drop(made);
            sim.crash(&mut Rng::new(cut));
            match open(&sim, Access::Read) {
                Ok(image) => assert!(read_all(&image).unwrap().iter().all(|byte| *byte == 0)),
                Err(error) => assert!(!done, "{format}, cut at {cut}: {error}"),
            }
            if done {
                break;
            }
        }
    }
}

#[test]
fn after_a_failed_write_the_image_takes_no_more_until_it_is_opened_again() {
    let sim = SimFolder::new("sim");
    let image = create(&sim, Format::MonolithicSparse, CAPACITY);
    image.write_at(Bytes(0), &[1; 512]).unwrap();
    image.sync().unwrap();
    sim.power().set_room(Some(contents(&sim, NAME).len() as u64));
    assert_eq!(image.write_at(Bytes(GRAIN), &[2; 512]).unwrap_err().class(), disk::Class::Full);
    sim.power().set_room(None);
    for refused in [image.write_at(Bytes(0), &[3; 512]).unwrap_err(), image.sync().unwrap_err()] {
        assert!(matches!(refused.cause(), disk::Cause::Fenced), "{refused}");
    }
    drop(image);
    let image = open(&sim, Access::Write).unwrap();
    image.write_at(Bytes(GRAIN), &[2; 512]).unwrap();
    let mut seen = [0; 512];
    image.read_at(Bytes(0), &mut seen).unwrap();
    assert_eq!(seen, [1; 512]);
}

#[test]
fn the_unclean_byte_is_set_from_the_first_write_to_the_close() {
    let sim = SimFolder::new("sim");
    let unclean = || contents(&sim, NAME)[72];
    let image = create(&sim, Format::MonolithicSparse, CAPACITY);
    image.sync().unwrap();
    assert_eq!(unclean(), 0);
    image.write_at(Bytes(0), &[1]).unwrap();
    assert_eq!(unclean(), 1);
    image.close().unwrap();
    assert_eq!(unclean(), 0);
    image.write_at(Bytes(0), &[2]).unwrap();
    assert_eq!(unclean(), 1);
    drop(image);
    assert_eq!(unclean(), 0);
}

#[test]
fn the_content_id_changes_at_the_first_write_after_each_open_and_never_for_a_reader() {
    for format in [Format::MonolithicSparse, Format::MonolithicFlat] {
        let sim = SimFolder::new("sim");
        drop(create(&sim, format, CAPACITY));
        let before = contents(&sim, NAME);
        drop(open(&sim, Access::Write).unwrap());
        drop(open(&sim, Access::Read).unwrap());
        assert_eq!(contents(&sim, NAME), before);
        let image = open(&sim, Access::Write).unwrap();
        assert_eq!(image.cid(), 0x1234_5678);
        image.write_zeroes(ByteRange::new(Bytes(0), Bytes(512)).unwrap()).unwrap();
        drop(image);
        assert_eq!(open(&sim, Access::Read).unwrap().cid(), 0x9abc_def0);
        let image = open(&sim, Access::Write).unwrap();
        image.write_at(Bytes(0), &[1]).unwrap();
        assert_eq!(image.cid(), 0x9abc_def1, "the same number twice is still a change");
    }
}

#[test]
fn an_open_image_excludes_a_second_opener() {
    for format in common::IN_PLACE {
        let sim = SimFolder::new("sim");
        let image = create(&sim, format, CAPACITY);
        // The descriptor that replaced the first one is as locked as that was.
        image.write_at(Bytes(0), &[1]).unwrap();
        for access in [Access::Read, Access::Write] {
            let error = open(&sim, access).err().unwrap();
            assert!(error.to_string().contains("in use"), "{error}");
        }
        drop(image);
        let readers = [open(&sim, Access::Read).unwrap(), open(&sim, Access::Read).unwrap()];
        assert!(open(&sim, Access::Write).is_err());
        assert!(readers[0].write_at(Bytes(0), &[1]).is_err());
    }
}
