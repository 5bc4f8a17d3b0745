//! Days of items on a volume that is too small, ten seconds at a time: the steward's arithmetic against journals that
//! behave as the engine's do, in whole segments.

use super::forecast::forecast;
use super::rate::GrowthRate;
use super::shares::{Allowance, Share, allowances, headroom};
use control_api::time::{SECOND, Time};
use std::collections::VecDeque;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const HOUR: Time = 3600 * SECOND;
const DAY: Time = 24 * HOUR;
const STEP: Time = 10 * SECOND;

/// A journal: its segments, each with the time of its last batch and its size.
struct Journal {
    segments: VecDeque<(Time, u64)>,
    /// Where the oldest segment begins.
    oldest: Time,
    appended: u64,
    grain: u64,
    window: Time,
    min: u64,
    max: Option<u64>,
    growth: GrowthRate,
    limit: Option<u64>,
    /// Each time how far back points reached, from the second day on.
    reaches: Vec<Time>,
}

impl Journal {
    fn new(grain: u64) -> Journal {
        Journal {
            segments: VecDeque::from([(0, 0)]),
            oldest: 0,
            appended: 0,
            grain,
            window: DAY,
            min: 0,
            max: None,
            growth: GrowthRate::default(),
            limit: None,
            reaches: Vec::new(),
        }
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|(_, bytes)| bytes).sum()
    }

    fn append(&mut self, now: Time, bytes: u64) {
        self.appended += bytes;
        if self.segments.back().is_none_or(|(_, size)| *size >= self.grain) {
            self.segments.push_back((now, 0));
        }
        if let Some((last, size)) = self.segments.back_mut() {
            (*last, *size) = (now, *size + bytes);
        }
    }

    fn prune(&mut self, now: Time) {
        let keep_from = now.saturating_sub(self.window);
        while self.segments.len() > 1 {
            let (last, _) = self.segments[0];
            if last > keep_from && self.limit.is_none_or(|limit| self.bytes() <= limit) {
                break;
            }
            self.oldest = last;
            self.segments.pop_front();
        }
    }

    fn share(&self, now: Time) -> Share {
        Share {
            bytes: self.bytes(),
            reach: now - self.oldest,
            min: self.min,
            max: self.max,
            grain: self.grain,
            rate: self.growth.per_second(),
            window: self.window,
            held: false,
        }
    }
}

struct World {
    capacity: u64,
    others: u64,
    now: Time,
    journals: Vec<Journal>,
    /// The least and the most that was free, from the second day on.
    free: (u64, u64),
}

impl World {
    fn new(capacity: u64, journals: Vec<Journal>) -> World {
        World { capacity, others: 0, now: 0, journals, free: (u64::MAX, 0) }
    }

    fn available(&self) -> u64 {
        let journals: u64 = self.journals.iter().map(Journal::bytes).sum();
        self.capacity.checked_sub(journals + self.others).expect("invariant 4: the volume overflowed")
    }

    fn run(&mut self, until: Time, rates: impl Fn(usize, Time) -> u64) {
        while self.now < until {
            self.now += STEP;
            for (n, journal) in self.journals.iter_mut().enumerate() {
                journal.append(self.now, rates(n, self.now) * (STEP / SECOND));
                journal.growth.note(self.now, Some(journal.appended));
            }
            self.steward();
            for journal in &mut self.journals {
                journal.prune(self.now);
                if self.now > DAY {
                    journal.reaches.push(self.now - journal.oldest);
                }
            }
            if self.now > DAY {
                self.free = (self.free.0.min(self.available()), self.free.1.max(self.available()));
            }
        }
    }

    fn steward(&mut self) {
        let shares: Vec<Share> = self.journals.iter().map(|journal| journal.share(self.now)).collect();
        let shortage = self.headroom().saturating_sub(self.available());
        for (journal, allowed) in self.journals.iter_mut().zip(allowances(&shares, shortage)) {
            journal.limit = Allowance::bytes(allowed);
        }
    }

    fn headroom(&self) -> u64 {
        headroom(self.capacity, self.journals.iter().map(|journal| journal.growth.per_second()).sum())
    }

    fn reach(&self, n: usize) -> Time {
        self.now - self.journals[n].oldest
    }

    /// Forgets what was before, to look at what is from now on.
    fn settle(&mut self) {
        self.free = (u64::MAX, 0);
        self.journals.iter_mut().for_each(|journal| journal.reaches.clear());
    }

    /// How much the window of an item went up and down.
    fn wavers(&self, n: usize) -> Time {
        let reaches = &self.journals[n].reaches;
        reaches.iter().max().unwrap() - reaches.iter().min().unwrap()
    }
}

fn about(reach: Time, wanted: Time, tolerance: Time) {
    assert!(
        reach.abs_diff(wanted) <= tolerance,
        "{} min instead of {}",
        reach / 60 / SECOND,
        wanted / 60 / SECOND
    );
}

/// Invariant 4: windows become equally long whatever the rates are, stay so, and fill the volume but for the headroom.
#[test]
fn invariant_4_windows_of_items_with_different_rates_shrink_alike_and_do_not_waver() {
    let mut world = World::new(500 * GIB, (0..3).map(|_| Journal::new(256 * MIB)).collect());
    let rates = [MIB, 2 * MIB, 5 * MIB];
    world.run(2 * DAY, |n, _| rates[n]);
    world.settle();
    world.run(4 * DAY, |n, _| rates[n]);
    // At 8 MiB/s, beside a headroom of 4 GiB.
    let fits = (500 - 4) * GIB / (8 * MIB) * SECOND;
    for n in 0..3 {
        // A segment of the slowest holds four minutes.
        about(world.reach(n), fits, 15 * 60 * SECOND);
        assert!(world.wavers(n) < 15 * 60 * SECOND, "{} s", world.wavers(n) / SECOND);
    }
    // No more is asked for than the headroom; whole segments go, of 256 MiB and what came within one step.
    assert!(world.free.1 <= world.headroom() + 3 * 306 * MIB, "{} MiB free", world.free.1 / MIB);
    assert!(world.free.0 + 8 * MIB * 10 >= world.headroom(), "{} MiB free", world.free.0 / MIB);
    let shares: Vec<Share> = world.journals.iter().map(|journal| journal.share(world.now)).collect();
    for window in forecast(&shares, (500 - 4) * GIB).windows {
        about(window.unwrap(), fits, 60 * SECOND);
    }
}

#[test]
fn invariant_4_minima_and_maxima_are_kept_while_the_others_shrink() {
    let mut journals: Vec<Journal> = (0..3).map(|_| Journal::new(16 * MIB)).collect();
    journals[0].min = 60 * GIB;
    journals[1].max = Some(10 * GIB);
    let mut world = World::new(100 * GIB, journals);
    world.run(2 * DAY, |_, _| MIB);
    world.settle();
    world.run(3 * DAY, |_, _| MIB);
    let bytes: Vec<u64> = world.journals.iter().map(Journal::bytes).collect();
    assert!((60 * GIB..61 * GIB).contains(&bytes[0]), "{} MiB", bytes[0] / MIB);
    assert!((9 * GIB..=10 * GIB + 16 * MIB).contains(&bytes[1]), "{} MiB", bytes[1] / MIB);
    assert!((24 * GIB..26 * GIB).contains(&bytes[2]), "{} MiB", bytes[2] / MIB);
    for n in 0..3 {
        assert!(world.wavers(n) < 10 * 60 * SECOND, "item {n}: {} s", world.wavers(n) / SECOND);
    }
}

/// Other files come, all give way alike; they go, and the windows grow again until they are whole.
#[test]
fn invariant_4_windows_shrink_for_other_files_and_grow_again_when_they_go() {
    let mut world = World::new(220 * GIB, (0..2).map(|_| Journal::new(64 * MIB)).collect());
    let rate = |n: usize, _: Time| if n == 0 { MIB / 2 } else { MIB };
    world.run(2 * DAY, rate);
    // 24 h fit: 126 GiB.
    about(world.reach(0), DAY, 600 * SECOND);
    about(world.reach(1), DAY, 600 * SECOND);
    // They come no faster than the headroom lasts from one look to the next.
    for _ in 0..150 {
        world.others += GIB;
        world.run(world.now + STEP, rate);
    }
    world.run(world.now + HOUR, rate);
    let short = [world.reach(0), world.reach(1)];
    about(short[0], short[1], 600 * SECOND);
    about(short[0], 66 * GIB / (3 * MIB / 2) * SECOND, 900 * SECOND);
    world.others = 0;
    world.run(world.now + DAY, rate);
    about(world.reach(0), DAY, 600 * SECOND);
    about(world.reach(1), DAY, 600 * SECOND);
}

/// Days and nights, a burst of one item, and an item that begins late: none overflows the volume or loses its window
/// to the burst of another for longer than that lasts.
#[test]
fn invariant_4_bursts_nights_and_new_items() {
    let mut world = World::new(200 * GIB, (0..4).map(|_| Journal::new(32 * MIB)).collect());
    let rate = |n: usize, now: Time| {
        let night = (now / HOUR) % 24 < 8;
        match n {
            0 => {
                if night {
                    MIB / 4
                } else {
                    2 * MIB
                }
            }
            1 => MIB,
            2 if (30 * HOUR..31 * HOUR).contains(&now) => 40 * MIB,
            2 => MIB / 8,
            _ if now > 36 * HOUR => 3 * MIB,
            _ => 0,
        }
    };
    world.run(6 * DAY, rate);
    let reaches: Vec<Time> = (0..4).map(|n| world.reach(n)).collect();
    for reach in &reaches {
        about(*reach, reaches[1], 1200 * SECOND);
    }
    assert!(reaches[1] > 8 * HOUR, "{} min", reaches[1] / 60 / SECOND);
    assert!(world.free.1 < 30 * GIB, "{} GiB were left free", world.free.1 / GIB);
}
