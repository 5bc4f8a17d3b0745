//! A whole world from one seed: a source, a network that is cut, a master target that loses power.

mod source;

pub(crate) use source::{DISK_SIZE, DISKS, Source};

use change_stream::{Frame, Limits, Time};
use disk::{Bytes, Disk, Folder};
use journal::{BatchKind, BatchNumber, DiskIdentity, Identity, Options, PointQuery, PointView};
use replication_receiver::{Action, Command, Event, Item, ItemConfig, Job, Notice, Stage, Storage};
use std::collections::VecDeque;
use std::sync::Arc;
use testkit::{Power, Rng, SimFile, SimFolder};

const MILLISECOND: u64 = 1_000_000;
const MAIN: u64 = 0;
const BULK: u64 = 1;

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) seed: u64,
    pub(crate) source: Source,
    pub(crate) now: Time,
    power: Arc<Power>,
    folder: SimFolder,
    pub(crate) disks: Vec<Arc<SimFile>>,
    running: Option<Running>,
    wire: Wire,
    /// Highest sequence number that was acknowledged, in which stream: what must survive.
    acknowledged: (change_stream::StreamId, u64),
    pub(crate) crashes: u32,
}

/// The master target between two losses of power.
struct Running {
    item: Item,
    storage: Arc<Storage>,
    jobs: Vec<Job>,
}

/// What is under way between the two.
#[derive(Default, Debug)]
struct Wire {
    connection: Option<u64>,
    bulk: Option<u64>,
    session: u64,
    next: u64,
    to_target: VecDeque<(u64, Frame)>,
    to_target_bulk: VecDeque<(u64, Frame)>,
    to_source: VecDeque<Frame>,
}

fn identity() -> Identity {
    let disks = (0..DISKS).map(|n| DiskIdentity { id: format!("disk{n}"), size: Bytes(DISK_SIZE as u64) });
    Identity { item: "web01".into(), disks: disks.collect() }
}

fn options() -> Options {
    Options { segment_bytes: 8 << 10, segment_extents: 16, ..Options::default() }
}

fn config(blank: bool) -> ItemConfig {
    ItemConfig {
        blank,
        window: u64::MAX,
        max_journal_bytes: None,
        limits: Limits { bulk_window: 1 << 20, hash_requests: 64, heartbeat_seconds: 10 },
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let power: Arc<Power> = Arc::default();
        let folder = SimFolder::on_power("journal", &power);
        let size = Bytes(DISK_SIZE as u64);
        let disks: Vec<_> = (0..DISKS).map(|n| SimFile::disk(format!("disk{n}"), size, &power)).collect();
        let source = Source::new(&mut rng);
        let mut world = World {
            seed,
            source,
            now: 1_700_000_000_000 * MILLISECOND,
            power,
            folder,
            disks,
            running: None,
            wire: Wire::default(),
            acknowledged: (change_stream::StreamId([0; 16]), 0),
            crashes: 0,
            rng,
        };
        let storage =
            Storage::create(world.journal_folder(), identity(), world.targets(), options()).unwrap();
        world.start(storage);
        world
    }

    fn journal_folder(&self) -> Arc<dyn Folder> {
        Arc::new(self.folder.clone())
    }

    fn targets(&self) -> Vec<Arc<dyn Disk>> {
        self.disks.iter().map(|disk| disk.clone() as Arc<dyn Disk>).collect()
    }

    fn start(&mut self, storage: Storage) {
        let item = Item::new(config(true), &storage, self.now).unwrap();
        self.running = Some(Running { item, storage: Arc::new(storage), jobs: Vec::new() });
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().expect("the master target runs")
    }

    pub(crate) fn item(&self) -> &Item {
        &self.running.as_ref().expect("the master target runs").item
    }

    pub(crate) fn storage(&self) -> &Arc<Storage> {
        &self.running.as_ref().expect("the master target runs").storage
    }

    /// Hands an event to the item and carries out what follows, except that jobs wait to be picked.
    pub(crate) fn step(&mut self, event: Event) {
        let now = self.now;
        let mut actions = Vec::new();
        self.running().item.step(now, event, &mut actions);
        for action in actions {
            match action {
                Action::Run(job) => self.running().jobs.push(job),
                Action::Send { connection, frame } => self.send(connection, frame),
                Action::Close { connection } if Some(connection) == self.wire.connection => self.cut(),
                Action::Notice(Notice::Fenced { why, .. }) => {
                    assert!(self.power.is_cut(), "seed {}: fenced without a cause: {why}", self.seed);
                    return self.crash();
                }
                Action::Close { .. } | Action::Notice(_) | Action::WakeAt(_) => {}
            }
        }
    }

    fn send(&mut self, connection: u64, frame: Frame) {
        if let Frame::Ack { durable_sequence, .. } = &frame
            && Some(connection) == self.wire.connection
        {
            self.acknowledged = (self.source.stream(), *durable_sequence);
        }
        if let Frame::Refused { message, .. } = &frame {
            assert!(self.source_may_be_refused(message), "seed {}: refused: {message}", self.seed);
            return;
        }
        if let Frame::Welcome { session, .. } = &frame {
            self.wire.session = *session;
        }
        if Some(connection) == self.wire.connection || Some(connection) == self.wire.bulk {
            self.wire.to_source.push_back(frame);
        }
    }

    fn source_may_be_refused(&self, message: &str) -> bool {
        ["new session", "already", "fails over", "silent"].iter().any(|why| message.contains(why))
    }

    pub(crate) fn connect(&mut self) {
        self.wire = Wire { next: self.wire.next + 2, ..Wire::default() };
        let connection = self.wire.next * 2 + MAIN;
        self.wire.connection = Some(connection);
        let hello = self.source.hello();
        self.step(Event::Connected { connection, peer: "web01".into(), hello });
    }

    fn connect_bulk(&mut self) {
        let connection = self.wire.next * 2 + BULK;
        self.wire.bulk = Some(connection);
        let hello = Frame::BulkHello {
            version: change_stream::PROTOCOL_VERSION,
            item: "web01".into(),
            stream: self.source.stream(),
            session: self.wire.session,
        };
        self.step(Event::Connected { connection, peer: "web01".into(), hello });
    }

    /// Cuts the connection: what is under way is lost. The master target may learn of it later.
    pub(crate) fn cut(&mut self) {
        let (connection, bulk) = (self.wire.connection.take(), self.wire.bulk.take());
        self.wire.to_target.clear();
        self.wire.to_target_bulk.clear();
        self.wire.to_source.clear();
        if self.rng.one_in(3) || self.running.is_none() {
            return;
        }
        for connection in [bulk, connection].into_iter().flatten() {
            self.step(Event::Disconnected { connection });
        }
    }

    /// Loses power, starts again, and checks what is left.
    pub(crate) fn crash(&mut self) {
        self.crashes += 1;
        self.running = None;
        self.cut();
        loop {
            self.folder.crash(&mut self.rng);
            for disk in &self.disks {
                disk.crash(&mut self.rng);
            }
            // Recovery itself may lose power.
            if self.rng.one_in(3) {
                self.power.cut_after(self.rng.below(12));
            }
            match Storage::open(self.journal_folder(), identity(), self.targets(), options()) {
                Ok((storage, _)) => {
                    self.power.restore();
                    self.start(storage);
                    break self.check_after_crash();
                }
                Err(error) => assert!(self.power.is_cut(), "seed {}: recovery failed: {error}", self.seed),
            }
        }
    }

    /// Invariants 1 and 2: one boundary on all disks, nothing acknowledged is lost.
    fn check_after_crash(&mut self) {
        let Some(newest) = self.storage().journal().newest() else { return };
        let stream = change_stream::StreamId(newest.header.stream);
        if stream == self.acknowledged.0 && !matches!(newest.header.kind, BatchKind::Rollback { .. }) {
            let (reached, promised) = (newest.header.last_sequence, self.acknowledged.1);
            assert!(
                reached >= promised,
                "seed {}: {promised} was acknowledged, {reached} is left",
                self.seed
            );
        }
        if newest.header.kind == BatchKind::Point {
            self.assert_disks_are(stream, newest.header.last_sequence);
        }
    }

    pub(crate) fn assert_disks_are(&self, stream: change_stream::StreamId, sequence: u64) {
        let wanted = &self.source.states[&(stream, sequence)];
        for (n, disk) in self.disks.iter().enumerate() {
            let found = disk.contents();
            if let Some(at) = (0..DISK_SIZE).find(|at| found[*at] != wanted[n][*at]) {
                panic!("seed {}: disk {n} differs from change {sequence} at byte {at}", self.seed);
            }
        }
    }

    /// Invariant 3: every point that is kept reads exactly as its source did.
    pub(crate) fn check_points(&mut self) -> usize {
        if self.power.is_cut() {
            self.crash();
        }
        self.power.restore();
        let storage = self.storage().clone();
        let points = storage.journal().points(&PointQuery::default()).unwrap();
        for point in &points {
            let stream = change_stream::StreamId(point.header.stream);
            let wanted = &self.source.states[&(stream, point.header.last_sequence)];
            for (n, live) in storage.disks().iter().enumerate() {
                let view =
                    PointView::new(storage.journal().clone(), point.number, n as u16, live.clone()).unwrap();
                let mut found = vec![0; DISK_SIZE];
                view.read_at(Bytes(0), &mut found).unwrap();
                assert!(
                    found == wanted[n],
                    "seed {}: point {} of disk {n} is wrong",
                    self.seed,
                    point.number
                );
            }
        }
        points.len()
    }

    /// One move of the world, as the seed decides.
    pub(crate) fn turn(&mut self) {
        self.now += self.rng.below(30) * MILLISECOND;
        match self.rng.below(16) {
            0..=2 => self.source.change(&mut self.rng, self.now),
            3..=6 => (0..=self.rng.below(4)).for_each(|_| self.source_sends()),
            7..=9 => (0..=self.rng.below(4)).for_each(|_| self.deliver()),
            10..=13 => self.run_a_job(),
            14 => self.step(Event::Tick),
            _ if self.wire.connection.is_none() => self.connect(),
            _ if self.wire.bulk.is_none() && self.wire.session != 0 => self.connect_bulk(),
            _ => self.drain_if_empty(),
        }
    }

    fn source_sends(&mut self) {
        while let Some(frame) = self.wire.to_source.pop_front() {
            for first in self.source.take(frame) {
                self.queue(Some(first), None);
            }
        }
        if self.wire.to_target.len() < 8 {
            let (main, bulk) = self.source.next(&mut self.rng, self.now, self.wire.bulk.is_some());
            self.queue(main, bulk);
        }
    }

    fn queue(&mut self, main: Option<Frame>, bulk: Option<Frame>) {
        if let (Some(connection), Some(frame)) = (self.wire.connection, main) {
            self.wire.to_target.push_back((connection, frame));
        }
        if let (Some(connection), Some(frame)) = (self.wire.bulk, bulk) {
            self.wire.to_target_bulk.push_back((connection, frame));
        }
    }

    fn deliver(&mut self) {
        let from_bulk = self.rng.one_in(2) && !self.wire.to_target_bulk.is_empty();
        let queue = if from_bulk { &mut self.wire.to_target_bulk } else { &mut self.wire.to_target };
        let Some((connection, _)) = queue.front() else { return self.drain_if_empty() };
        if !self.running.as_ref().is_some_and(|running| running.item.wants_input(*connection)) {
            return;
        }
        let Some((connection, frame)) = queue.pop_front() else { return };
        self.step(Event::Frame { connection, frame });
    }

    fn drain_if_empty(&mut self) {
        if self.wire.to_target.is_empty() && self.wire.to_target_bulk.is_empty() {
            self.step(Event::Drained);
        }
    }

    fn run_a_job(&mut self) {
        let running = self.running.as_mut().expect("the master target runs");
        if running.jobs.is_empty() {
            return;
        }
        let job = running.jobs.swap_remove(self.rng.below(running.jobs.len() as u64) as usize);
        let done = job.run(&running.storage.clone());
        self.step(Event::JobDone(done));
    }

    /// Cuts the power at one of the next operations.
    pub(crate) fn plan_crash(&mut self, within: u64) {
        self.power.cut_after(self.rng.below(within));
    }

    /// Moves on until everything that the source has is durable.
    pub(crate) fn settle(&mut self) {
        self.power.restore();
        for _ in 0..20_000 {
            if self.source.is_done() {
                return;
            }
            // Long enough that a session whose end nobody told is taken for gone.
            self.now += 10 * MILLISECOND;
            if self.wire.connection.is_none() {
                self.connect();
            }
            self.source_sends();
            self.deliver();
            self.drain_if_empty();
            self.run_a_job();
            self.step(Event::Tick);
        }
        let (item, source) = (self.item().status(), self.source.standing());
        panic!("seed {}: the item never settles: {item:?}; {source}; {:?}", self.seed, self.wire);
    }

    /// Runs jobs until the item is where a command should bring it; power may fail on the way.
    pub(crate) fn run_until(&mut self, reached: impl Fn(&Stage) -> bool) {
        for _ in 0..5_000 {
            if reached(&self.item().status().stage) {
                return;
            }
            self.now += MILLISECOND;
            self.step(Event::Tick);
            self.run_a_job();
        }
        panic!("seed {}: never reached: {:?}", self.seed, self.item().status());
    }

    pub(crate) fn fail_over(&mut self, point: BatchNumber) {
        self.cut();
        if self.power.is_cut() {
            // Nobody has noticed yet, and an order that cannot be checked is refused.
            self.crash();
        }
        self.step(Event::Command(Command::Failover { point }));
    }
}
