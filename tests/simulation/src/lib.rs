//! The whole data path in one world, from one seed.
//!
//! The real state machines of the source agent (its tracker, its splitters, its sender and their jobs) and the real
//! engine of the master target (its item, its jobs, its journal and its crash recovery) run against each other on one
//! thread, and the seed decides what happens next: a write, a job that ends, a frame that arrives, a connection that
//! breaks without either end knowing, a source that is killed in the middle of a write, a machine that loses power,
//! another one that loses it again while it recovers, an operator who orders a resync or a failover.
//!
//! An oracle keeps what the source's disks held after every change. Against it the world checks, after every restart
//! of the master target and at every rest:
//!
//! - invariant 1: what was acknowledged is still there;
//! - invariant 2: all disks stand at one and the same boundary;
//! - invariant 3: the recovery points that are listed read exactly, on all disks, and a bookmark names its own moment;
//! - invariant 7: a failover leaves exactly the point that was asked for, and can be taken back.
//!
//! At the end of each world nothing fails any more, and then the target must become the source, byte for byte, within
//! a bounded number of turns.

mod link;
mod medium;
mod oracle;
mod source;
mod target;
mod world;

use std::ops::AddAssign;
use world::World;

/// What happened in a world, or in many.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Losses of power of the master target.
    pub crashes: u64,
    /// Kills of the source agent.
    pub kills: u64,
    /// Losses of power of the source.
    pub outages: u64,
    /// Orderly restarts of the source agent.
    pub restarts: u64,
    /// Cuts of connections.
    pub cuts: u64,
    /// Overflows of the backlog.
    pub overflows: u64,
    /// Syncs that began.
    pub syncs: u64,
    /// Resyncs that were ordered.
    pub resyncs: u64,
    /// Failovers that reached their point.
    pub failovers: u64,
    /// Recovery points that were compared.
    pub points: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.crashes += other.crashes;
        self.kills += other.kills;
        self.outages += other.outages;
        self.restarts += other.restarts;
        self.cuts += other.cuts;
        self.overflows += other.overflows;
        self.syncs += other.syncs;
        self.resyncs += other.resyncs;
        self.failovers += other.failovers;
        self.points += other.points;
    }
}

/// Lives through the world of a seed; panics where an invariant does not hold.
pub fn run(seed: u64) -> Tally {
    let mut world = World::new(seed);
    let lives = 1 + world.rng.below(2);
    for _ in 0..lives {
        let one_in = *world.rng.pick(&[12, 40, 200]);
        for _ in 0..world.rng.below(600) {
            world.turn();
            if world.rng.one_in(one_in) {
                world.fault();
            }
        }
        world.settle();
        world.assert_level();
        world.check_points();
    }
    world.tally.overflows = world.source.overflows;
    world.tally
}
