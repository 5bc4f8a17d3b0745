//! Everything together, and what happens to it.

use crate::Tally;
use crate::link::Link;
use crate::source::Source;
use crate::target::Target;
use change_stream::{Frame, Time};
use replication_receiver::{ConnectionId, Event, Stage};
use source_agent::Event as SourceEvent;
use testkit::Rng;

pub(crate) const MILLISECOND: Time = 1_000_000;
pub(crate) const SECOND: Time = 1_000 * MILLISECOND;

/// Turns within which a world at peace becomes level.
const PATIENCE: u32 = 10_000;

type Move = fn(&mut World);

/// What may happen next, and how often it does beside the others.
const MOVES: [(u64, Move); 11] = [
    (3, World::write),
    (1, World::flush),
    (1, World::bookmark),
    (8, |world| _ = world.run_source_job()),
    (16, |world| _ = world.run_target_job()),
    (12, World::move_links),
    (1, |world| world.step_target(Event::Tick)),
    (1, |world| world.step_source(SourceEvent::Tick)),
    (3, World::connect),
    (1, World::drained),
    (3, World::wait_for_source),
];

/// A source, a network and a master target.
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) now: Time,
    pub(crate) source: Source,
    pub(crate) target: Target,
    pub(crate) links: Vec<Link>,
    connections: ConnectionId,
    /// Frames that fit between the two machines.
    room: usize,
    /// How often each of [`MOVES`] is made in this world.
    weights: [u64; MOVES.len()],
    /// Nothing fails any more.
    pub(crate) peace: bool,
    pub(crate) tally: Tally,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let sizes = sizes(&mut rng);
        let mut world = World {
            now: 1_700_000_000 * SECOND,
            source: Source::new(&mut rng, &sizes),
            target: Target::new(&mut rng, &sizes),
            links: Vec::new(),
            connections: 0,
            room: *rng.pick(&[2, 8, 64]),
            weights: MOVES.map(|(weight, _)| weight * rng.pick(&[1, 4, 16])),
            peace: false,
            tally: Tally::default(),
            rng,
        };
        world.set_source_clock();
        world.create_target();
        world.start_agent();
        world
    }

    /// One move, as the seed decides.
    pub(crate) fn turn(&mut self) {
        let time = self.rng.below(20) * MILLISECOND;
        self.pass(time);
        let mut roll = self.rng.below(self.weights.iter().sum());
        for (weight, (_, act)) in self.weights.iter().zip(MOVES) {
            match roll.checked_sub(*weight) {
                Some(rest) => roll = rest,
                None => {
                    act(self);
                    break;
                }
            }
        }
        if self.source.power.is_cut() {
            self.kill_source();
        }
    }

    /// Something goes wrong, or someone wants something.
    pub(crate) fn fault(&mut self) {
        match self.rng.below(17) {
            0..=2 => self.cut(),
            // A power that is cut already stays cut until the target has found out.
            3..=6 if self.target.power.is_cut() => {}
            3..=6 => self.target.power.cut_after(self.rng.below(16)),
            7 => self.source.power.cut_after(self.rng.below(20)),
            8 => self.source_loses_power(),
            9 => self.restart_agent(),
            10 => self.restart_target(),
            11 => self.order_resync(),
            12 => self.fail_over(),
            13 => self.cancel_failover(),
            14 => self.check_points(),
            15 => self.limit_journal(),
            _ => (0..self.rng.below(30)).for_each(|_| self.write()),
        }
    }

    fn pass(&mut self, time: Time) {
        self.now += time;
        self.set_source_clock();
    }

    /// Lets time pass until the source would act by itself.
    fn wait_for_source(&mut self) {
        if self.links.iter().all(|link| !link.source_holds) {
            self.pass((self.source.wake + MILLISECOND).saturating_sub(self.now));
            self.step_source(SourceEvent::Tick);
        }
    }

    pub(crate) fn add_link(&mut self, bulk: Option<usize>) -> &mut Link {
        self.connections += 1;
        self.links.push(Link::new(self.connections, bulk));
        self.links.last_mut().expect("it was just added")
    }

    /// Breaks all connections, or one of them.
    fn cut(&mut self) {
        self.tally.cuts += 1;
        if self.rng.one_in(2) || self.links.is_empty() {
            return self.links.iter_mut().for_each(Link::break_off);
        }
        let one = self.rng.below(self.links.len() as u64) as usize;
        self.links[one].break_off();
    }

    /// One of the machines has forgotten all connections.
    pub(crate) fn break_links(&mut self) {
        let target_runs = self.target.is_running();
        for link in &mut self.links {
            link.break_off();
            link.target_holds &= target_runs;
        }
    }

    fn move_links(&mut self) {
        for _ in 0..=self.rng.below(4) {
            if self.links.is_empty() {
                return;
            }
            let number = self.rng.below(self.links.len() as u64) as usize;
            match self.rng.below(8) {
                0..=2 => self.transmit(number),
                3..=5 => self.deliver(number),
                6 => self.answer_source(number),
                _ => self.tell_of_end(number),
            };
        }
    }

    /// A frame leaves the source's machine.
    fn transmit(&mut self, number: usize) -> bool {
        let link = &mut self.links[number];
        let begun = link.is_new();
        let Some(ends) = link.transmit(self.room) else { return false };
        if let (Some(bytes), true) = (ends, link.source_holds) {
            self.step_source(match self.links[number].bulk {
                None => SourceEvent::Sent { bytes },
                Some(connection) if begun => SourceEvent::BulkConnected { connection },
                Some(connection) => SourceEvent::BulkSent { connection },
            });
        }
        true
    }

    /// A frame reaches the target, if it wants one.
    fn deliver(&mut self, number: usize) -> bool {
        let link = &mut self.links[number];
        if link.flying.is_empty() || !self.target.item().wants_input(link.id) {
            return false;
        }
        let Some(parcel) = link.flying.pop_front() else { return false };
        let (connection, greeted) = (link.id, std::mem::replace(&mut link.greeted, true));
        let begins = matches!(parcel.frame, Frame::SyncBegin { .. });
        if let Frame::Hello { stream, .. } | Frame::SyncBegin { stream, .. } = parcel.frame {
            link.stream = Some(stream);
        }
        self.step_target(match greeted {
            true => Event::Frame { connection, frame: parcel.frame },
            false => Event::Connected { connection, peer: "source".into(), hello: parcel.frame },
        });
        if begins {
            self.sync_began(parcel.book);
        }
        true
    }

    /// A frame reaches the source.
    fn answer_source(&mut self, number: usize) -> bool {
        let link = &mut self.links[number];
        let Some(frame) = link.answers.pop_front().filter(|_| link.source_holds) else { return false };
        self.step_source(SourceEvent::Frame(frame));
        true
    }

    /// An end learns that the other one is gone. The target may never be told.
    fn tell_of_end(&mut self, number: usize) -> bool {
        let link = &mut self.links[number];
        let gone = link.cut || !link.target_holds && link.answers.is_empty();
        if link.source_holds && gone {
            link.source_holds = false;
            self.step_source(SourceEvent::Disconnected { why: "the connection broke".into() });
            return true;
        }
        if link.source_holds || !link.is_drained() {
            return false;
        }
        let link = self.links.swap_remove(number);
        if link.target_holds && link.greeted && !self.rng.one_in(4) {
            self.step_target(Event::Disconnected { connection: link.id });
        }
        true
    }

    fn drained(&mut self) {
        if self.links.iter().all(|link| link.flying.is_empty()) {
            self.step_target(Event::Drained);
        }
    }

    /// Peace: in the end the target is level with its source.
    pub(crate) fn settle(&mut self) {
        self.peace = true;
        if self.target.power.is_cut() {
            self.target_loses_power();
        }
        self.target.power.restore();
        self.source.power.restore();
        let mut pause = MILLISECOND;
        for _ in 0..PATIENCE {
            if self.is_level() {
                self.peace = false;
                return;
            }
            let moved = self.peaceful_turn();
            pause = if moved { MILLISECOND } else { (pause * 2).min(20 * SECOND) };
            self.pass(pause);
        }
        panic!(
            "it never settles: {:?} and {:?}",
            self.source.agent().sender.status(),
            self.target.item().status()
        );
    }

    fn is_level(&mut self) -> bool {
        let status = self.source.agent().sender.status();
        let (stage, standing) = (status.stage, status.standing);
        let caught_up = standing.acknowledged + 1 == standing.next_sequence && standing.dirty == 0;
        stage == source_agent::Stage::Level && caught_up && self.target.stage() == Stage::Protected
    }

    /// Moves whatever can move; false when only time helps.
    fn peaceful_turn(&mut self) -> bool {
        let mut moved = false;
        for number in (0..self.links.len()).rev() {
            for act in [World::transmit, World::deliver, World::answer_source, World::tell_of_end] {
                moved |= number < self.links.len() && act(self, number);
            }
        }
        moved |= self.run_source_job();
        moved |= self.run_target_job();
        self.connect();
        self.drained();
        self.cancel_failover();
        self.step_source(SourceEvent::Tick);
        self.step_target(Event::Tick);
        moved
    }
}

/// Mostly small disks, to live many lives; now and then one that is compared and sent in more than one block.
fn sizes(rng: &mut Rng) -> Vec<usize> {
    if rng.one_in(200) {
        return vec![(2 << 20) + 4608, 70_144];
    }
    let count = 1 + rng.below(3);
    (0..count).map(|_| *rng.pick(&[25 << 10, 25 << 10, (64 << 10) + 4608, (128 << 10) + 512])).collect()
}
