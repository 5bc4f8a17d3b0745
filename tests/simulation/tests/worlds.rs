//! Many worlds. A failing seed is printed; `SIMULATION_SEED=n` runs that one alone, `SIMULATION_RUNS=n` decides how
//! many are tried, from `SIMULATION_FIRST=n` on.

use simulation::Tally;
use std::time::Instant;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

fn run_all(seeds: impl Iterator<Item = u64>) -> Tally {
    let mut total = Tally::default();
    for seed in seeds {
        let tally = std::panic::catch_unwind(|| simulation::run(seed));
        total += tally.unwrap_or_else(|_| panic!("replay with SIMULATION_SEED={seed}"));
    }
    total
}

#[test]
fn invariants_1_2_3_and_7_hold_from_the_writer_to_the_recovery_point() {
    if let Some(seed) = number("SIMULATION_SEED") {
        println!("seed {seed}: {:?}", simulation::run(seed));
        return;
    }
    let runs = number("SIMULATION_RUNS").unwrap_or(10_000);
    let first = number("SIMULATION_FIRST").unwrap_or(0);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()) as u64;
    let begun = Instant::now();
    let mut total = Tally::default();
    std::thread::scope(|scope| {
        let work = |worker| move || run_all((first..first + runs).filter(|seed| seed % threads == worker));
        let workers: Vec<_> = (0..threads).map(|worker| scope.spawn(work(worker))).collect();
        workers.into_iter().for_each(|worker| total += worker.join().unwrap());
    });
    println!("{runs} worlds in {:?}: {total:?}", begun.elapsed());
    let quiet = [
        total.crashes,
        total.kills,
        total.outages,
        total.restarts,
        total.cuts,
        total.overflows,
        total.syncs,
        total.resyncs,
        total.failovers,
        total.points,
    ];
    assert!(quiet.iter().all(|count| *count > runs / 10), "the worlds are too quiet to prove anything");
}
