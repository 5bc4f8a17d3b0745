//! Source, network, receiver and crashing disks, all from one seed. A failing seed is printed; `SIMULATION_SEED=n`
//! runs that one alone, and `SIMULATION_RUNS=n` decides how many are tried.

mod world;

use replication_receiver::{Command, Event, Stage};
use world::World;

/// One run: changes, cuts and losses of power, then peace; at the end everything must be exact.
fn run(seed: u64) -> (u32, usize) {
    let mut world = World::new(seed);
    for _ in 0..world.rng.below(1200) {
        world.turn();
        match world.rng.below(400) {
            0 => world.cut(),
            1..=2 => world.plan_crash(20),
            3 if world.rng.one_in(4) => world.source.forget(),
            4 if world.rng.one_in(8) => {
                world.cut();
                world.source.restart_stream();
            }
            _ => {}
        }
    }
    world.settle();
    world.assert_disks_are(world.source.stream(), world.source.next_sequence - 1);
    let points = world.check_points();
    if world.rng.one_in(2) {
        fail_over_and_back(&mut world);
    }
    (world.crashes, points)
}

/// Invariant 7: back to a point and to another one, through losses of power, and forward again.
fn fail_over_and_back(world: &mut World) {
    let points = world.storage().journal().points(&Default::default()).unwrap();
    for _ in 0..1 + world.rng.below(2) {
        let point = world.rng.pick(&points).clone();
        world.fail_over(point.number);
        world.plan_crash(40);
        while world.item().status().stage != (Stage::FailedOver { point: point.number }) {
            // The power may fail before an order has left a trace: then it is given again.
            if matches!(world.item().status().stage, Stage::FailedOver { .. } | Stage::Protected) {
                world.fail_over(point.number);
            }
            world.run_until(|stage| matches!(stage, Stage::FailedOver { .. } | Stage::Protected));
        }
        world.assert_disks_are(change_stream::StreamId(point.header.stream), point.header.last_sequence);
    }
    world.check_points();
    while world.item().status().stage != Stage::Protected {
        world.step(Event::Command(Command::CancelFailover));
        world.run_until(|stage| matches!(stage, Stage::FailedOver { .. } | Stage::Protected));
    }
    world.assert_disks_are(world.source.stream(), world.source.next_sequence - 1);
    for _ in 0..10 {
        world.turn();
    }
    world.settle();
    world.assert_disks_are(world.source.stream(), world.source.next_sequence - 1);
    world.check_points();
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

#[test]
fn invariants_1_2_3_6_7_hold_in_every_seeded_world() {
    if let Some(seed) = number("SIMULATION_SEED") {
        println!("seed {seed}: {:?} crashes and points", run(seed));
        return;
    }
    let runs = number("SIMULATION_RUNS").unwrap_or(1_000);
    let first = number("SIMULATION_FIRST").unwrap_or(0);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()) as u64;
    let totals: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                scope.spawn(move || {
                    let (mut crashes, mut points) = (0, 0);
                    for seed in (first..first + runs).filter(|seed| seed % threads == worker) {
                        let result = std::panic::catch_unwind(|| run(seed));
                        let (c, p) = result.unwrap_or_else(|_| panic!("replay with SIMULATION_SEED={seed}"));
                        crashes += u64::from(c);
                        points += p as u64;
                    }
                    (crashes, points)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let (crashes, points) = totals.iter().fold((0, 0), |(c, p), (crashes, points)| (c + crashes, p + points));
    println!("{runs} worlds, {crashes} losses of power, {points} recovery points compared");
    assert!(crashes > runs && points > 2 * runs, "the worlds are too quiet to prove anything");
}
