//! Power cut at every write and sync of a scripted run, with lost, torn and reordered sectors and names.
//!
//! The script is the pipeline of an item: while one batch is written to the disks, the next is already journaled
//! and synced; a batch is acknowledged when the disks are synced; now and then the journal is pruned, rolled back
//! or closed.

mod common;

use common::{Batch, Item, identity, small};
use disk::{Bytes, Disk};
use journal::{BatchNumber, Journal, recover};
use std::sync::Arc;
use testkit::Rng;

/// A run that a loss of power may end at any operation.
struct Run {
    item: Item,
    /// Boundaries up to this one were acknowledged.
    acknowledged: u64,
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

impl Run {
    fn new() -> Run {
        Run { item: Item::new(small()), acknowledged: 0 }
    }

    /// The pipeline: journals the next batch while this one is half on the disks.
    fn pipeline(&mut self, rng: &mut Rng, batches: u64) -> Outcome {
        let mut current = self.journal_one(rng)?;
        for step in 0..batches {
            let half = rng.below(current.writes.len() as u64 + 1) as usize;
            let (early, late) = current.writes.split_at(half);
            let number = self.item.history.len() as u64 - 1;
            self.write(early)?;
            let next = self.journal_one(rng)?;
            self.write(late)?;
            self.item.sync_disks()?;
            self.item.journal.note_applied(BatchNumber(number));
            self.acknowledged = number;
            if step % 7 == 6 {
                let keep_from = number.saturating_sub(10) * 1000;
                self.item.journal.prune(keep_from, None)?;
            }
            if step % 11 == 10 {
                self.item.journal.make_room(u64::MAX)?;
            }
            current = next;
        }
        let number = self.item.history.len() as u64 - 1;
        self.write(&current.writes)?;
        self.item.sync_disks()?;
        self.item.journal.note_applied(BatchNumber(number));
        self.acknowledged = number;
        Ok(self.item.journal.record_applied()?)
    }

    fn journal_one(&mut self, rng: &mut Rng) -> Result<Batch, Box<dyn std::error::Error>> {
        let number = self.item.history.len() as u64;
        let oldest = self.item.journal.oldest_point()?.map_or(number, |oldest| oldest.number.0);
        let batch = if number % 5 == 4 && oldest + 3 <= number {
            self.item.rollback_batch(number - 3)?
        } else {
            self.item.random_batch(rng)
        };
        let encoded = self.item.encode(&batch)?;
        // What may be in the journal is remembered, whether the append is seen to succeed or not.
        self.item.remember(&batch);
        self.item.journal.append(&encoded)?;
        self.item.journal.sync()?;
        Ok(batch)
    }

    fn write(&self, writes: &[common::Write]) -> disk::Result<()> {
        writes
            .iter()
            .try_for_each(|write| self.item.live(write.disk).write_at(Bytes(write.offset), &write.data))
    }

    /// Turns the power off and on.
    fn crash(&mut self, rng: &mut Rng) {
        self.item.folder.crash(rng);
        self.item.disks.iter().for_each(|disk| disk.crash(rng));
    }

    /// Opens and recovers, itself losing power a few times; returns the boundary.
    fn recover(&mut self, rng: &mut Rng, crashes: u64) -> u64 {
        for _ in 0..crashes {
            self.item.power.cut_after(rng.below(40));
            let outcome = self.open_and_recover();
            let cut = self.item.power.is_cut();
            assert!(outcome.is_ok() || cut, "recovery failed: {}", outcome.unwrap_err());
            self.crash(rng);
        }
        self.open_and_recover().expect("recovery without a crash")
    }

    fn open_and_recover(&mut self) -> Result<u64, journal::Error> {
        let Item { folder, options, .. } = &self.item;
        let journal = Arc::new(Journal::open(Arc::new(folder.clone()), &identity(), options.clone())?);
        let report = recover(&journal, &self.item.lives())?;
        assert_eq!(report.boundary.0, journal.newest().map_or(0, |newest| newest.number.0));
        self.item.journal = journal;
        Ok(report.boundary.0)
    }

    /// Checks the invariants after recovery at `boundary`, and goes on from there.
    fn check(&mut self, boundary: u64, what: &str) {
        assert!(
            boundary >= self.acknowledged,
            "{what}: invariant 1: recovered to {boundary}, acknowledged {}",
            self.acknowledged
        );
        let expected = &self.item.history[boundary as usize];
        assert!(&self.item.live_contents() == expected, "{what}: invariant 2: not at boundary {boundary}");
        self.item.history.truncate(boundary as usize + 1);
        self.item.headers.truncate(boundary as usize);
        self.acknowledged = boundary;
        self.item.check_points(what);
        assert_eq!(self.item.journal.pending().unwrap(), [], "{what}");
    }
}

/// Counts the operations of a run that nothing disturbs.
fn operations(seed: u64, batches: u64) -> u64 {
    let mut run = Run::new();
    let before = run.item.power.operations();
    run.pipeline(&mut Rng::new(seed), batches).unwrap();
    run.item.power.operations() - before
}

/// One run that loses power at operation `cut`, is recovered, checked, and goes on.
fn crash_at(seed: u64, cut: u64, batches: u64, recovery_crashes: u64) {
    let what = format!("seed {seed}, cut at operation {cut}");
    let mut run = Run::new();
    run.item.power.cut_after(cut);
    assert!(run.pipeline(&mut Rng::new(seed), batches).is_err(), "{what}");
    let mut rng = Rng::new(seed ^ cut << 20);
    run.crash(&mut rng);
    let boundary = run.recover(&mut rng, recovery_crashes);
    run.check(boundary, &what);
    run.pipeline(&mut rng, 3).unwrap();
    run.item.check_points(&format!("{what}, gone on"));
    let newest = run.item.history.last().unwrap();
    assert!(&run.item.live_contents() == newest, "{what}, gone on");
}

#[test]
fn invariants_1_2_3_5_7_hold_wherever_the_power_is_cut() {
    for seed in 0..6 {
        let batches = 20;
        for cut in 0..operations(seed, batches) {
            crash_at(seed, cut, batches, 0);
        }
    }
}

#[test]
fn invariant_2_recovery_may_itself_lose_power_and_is_repeated() {
    for seed in 100..104 {
        let batches = 16;
        for cut in 0..operations(seed, batches) {
            crash_at(seed, cut, batches, 1 + cut % 4);
        }
    }
}
