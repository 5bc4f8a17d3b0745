//! The master target: the engine of the item, its journal and its disks, and the checks after each loss of power.

use crate::oracle::Key;
use crate::source::{ITEM, Source};
use crate::world::{SECOND, World};
use change_stream::{Frame, Limits, StreamId, Time};
use disk::{Bytes, Disk, Folder};
use journal::{
    BatchKind, BatchNumber, BatchSummary, DiskIdentity, Identity, Journal, Options, PointQuery, PointView,
};
use replication_receiver::{
    Action, Command, ConnectionId, Event, Item, ItemConfig, Job, JobDone, Notice, Stage, Storage,
};
use std::sync::Arc;
use testkit::{Power, Rng, SimFile, SimFolder};

/// Points that are compared at a time, besides the oldest and the newest.
const SAMPLE: usize = 3;

/// What survives the daemon, and what a loss of power leaves of it.
pub(crate) struct Target {
    pub(crate) power: Arc<Power>,
    folder: SimFolder,
    disks: Vec<Arc<SimFile>>,
    identity: Identity,
    options: Options,
    config: ItemConfig,
    running: Option<Running>,
    pub(crate) wake: Time,
    /// When each sync began, and the book that its changes are in.
    syncs: Vec<(Time, u64)>,
    /// The newest change that was acknowledged: what must survive.
    acknowledged: Option<(StreamId, u64)>,
}

/// The daemon between its start and its end.
struct Running {
    item: Item,
    storage: Arc<Storage>,
    jobs: Vec<Job>,
    done: Vec<JobDone>,
}

impl Target {
    pub(crate) fn new(rng: &mut Rng, sizes: &[usize]) -> Target {
        let power: Arc<Power> = Arc::default();
        let blank = !rng.one_in(3);
        let disk = |(number, size): (usize, &usize)| {
            let file = SimFile::disk(format!("target{number}"), Bytes(*size as u64), &power);
            if !blank {
                let mut content = vec![0; size / 2];
                rng.fill(&mut content);
                file.write_at(Bytes(0), &content).expect("the machine has power");
                file.sync().expect("the machine has power");
            }
            file
        };
        let disks: Vec<_> = sizes.iter().enumerate().map(disk).collect();
        let described = Source::descriptions(disks.iter().map(|disk| disk.size()));
        let known = described.into_iter().map(|disk| DiskIdentity { id: disk.id, size: Bytes(disk.size) });
        Target {
            folder: SimFolder::on_power("journal", &power),
            power,
            identity: Identity { item: ITEM.into(), disks: known.collect() },
            disks,
            options: Options { segment_bytes: 16 << 10, segment_extents: 24, ..Options::default() },
            config: ItemConfig {
                blank,
                window: *rng.pick(&[u64::MAX, u64::MAX, 20 * SECOND]),
                max_journal_bytes: *rng.pick(&[None, None, Some(64 << 10)]),
                limits: Limits {
                    bulk_window: 2 << 20,
                    hash_requests: 1 + rng.below(4) as u32,
                    heartbeat_seconds: 10,
                },
            },
            running: None,
            wake: 0,
            syncs: Vec::new(),
            acknowledged: None,
        }
    }

    fn journal_folder(&self) -> Arc<dyn Folder> {
        Arc::new(self.folder.clone())
    }

    fn live(&self) -> Vec<Arc<dyn Disk>> {
        self.disks.iter().map(|disk| disk.clone() as Arc<dyn Disk>).collect()
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the master target runs")
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(crate) fn item(&self) -> &Item {
        &self.running().item
    }

    pub(crate) fn stage(&self) -> Stage {
        self.item().status().stage
    }

    /// What a range of a disk holds now.
    pub(crate) fn held(&self, disk: usize, offset: usize, length: usize) -> Vec<u8> {
        self.disks[disk].contents()[offset..offset + length].to_vec()
    }

    pub(crate) fn journal(&self) -> &Arc<Journal> {
        self.running().storage.journal()
    }

    pub(crate) fn points(&self) -> Vec<BatchSummary> {
        self.journal().points(&PointQuery::default()).expect("the journal is good")
    }

    /// The state of the source that a recovery point stands for; none when its origin was pruned.
    fn key_of(&self, point: &BatchSummary) -> Option<Key> {
        match point.header.kind {
            BatchKind::Point => {
                let before = self.syncs.partition_point(|(began, _)| *began < point.header.receive_time);
                Some(Key { book: self.syncs[before - 1].1, sequence: point.header.last_sequence })
            }
            BatchKind::Rollback { to, finished: true } => {
                self.key_of(&self.journal().summary(to).expect("the journal is good")?)
            }
            _ => panic!("batch {} is no recovery point", point.number),
        }
    }
}

impl World {
    /// A new item: an empty journal.
    pub(crate) fn create_target(&mut self) {
        let target = &self.target;
        let storage = Storage::create(
            target.journal_folder(),
            target.identity.clone(),
            target.live(),
            target.options.clone(),
        );
        self.start_target(storage.expect("the machine has power"));
    }

    fn start_target(&mut self, storage: Storage) {
        let item = Item::new(self.target.config.clone(), &storage, self.now).expect("the journal is good");
        self.target.running =
            Some(Running { item, storage: Arc::new(storage), jobs: Vec::new(), done: Vec::new() });
        self.target.wake = self.now;
    }

    /// Hands an event to the item and carries out what follows, except that jobs wait to be picked.
    pub(crate) fn step_target(&mut self, event: Event) {
        // No two steps at one time: so a batch's time tells after which one it was closed.
        self.now += 1;
        let now = self.now;
        let running = self.target.running.as_mut().expect("the master target runs");
        let mut actions = Vec::new();
        running.item.step(now, event, &mut actions);
        for action in actions {
            match action {
                Action::Run(job) => {
                    self.target.running.as_mut().expect("the master target runs").jobs.push(job)
                }
                Action::Send { connection, frame } => self.answer(connection, frame),
                Action::Close { connection } => self.target_closes(connection),
                Action::WakeAt(time) => self.target.wake = time,
                Action::Notice(Notice::Fenced { why, .. }) => {
                    assert!(self.target.power.is_cut(), "fenced without a cause: {why}");
                    return self.target_loses_power();
                }
                Action::Notice(notice) => self.note_of_target(&notice),
            }
        }
    }

    fn answer(&mut self, connection: ConnectionId, frame: Frame) {
        let Some(link) = self.links.iter_mut().find(|link| link.id == connection) else { return };
        if let (Frame::Ack { durable_sequence, .. }, Some(stream)) = (&frame, link.stream) {
            self.target.acknowledged = Some((stream, *durable_sequence));
        }
        if link.target_holds && link.source_holds && !link.cut {
            link.answers.push_back(frame);
        }
    }

    fn target_closes(&mut self, connection: ConnectionId) {
        if let Some(link) = self.links.iter_mut().find(|link| link.id == connection) {
            link.target_holds = false;
            link.flying.clear();
        }
    }

    fn note_of_target(&mut self, notice: &Notice) {
        match notice {
            // Nothing can be read to compare it.
            _ if self.target.power.is_cut() => {}
            Notice::FailedOver { point } => {
                self.tally.failovers += 1;
                let point = self.target.journal().summary(*point).expect("the journal is good");
                point.iter().for_each(|point| self.assert_target_is_at(point));
            }
            Notice::FailoverCancelled => {
                let newest = self.target.journal().newest().expect("there were batches");
                if newest.header.kind == BatchKind::Point {
                    self.assert_target_is_at(&newest);
                }
            }
            _ => {}
        }
    }

    /// Notes in which book the changes are that follow a sync's beginning, if the item took it.
    pub(crate) fn sync_began(&mut self, book: u64) {
        if matches!(self.target.stage(), Stage::Syncing { .. }) {
            self.target.syncs.push((self.now, book));
            self.tally.syncs += 1;
        }
    }

    /// Runs a job, or tells the item of one that has ended.
    pub(crate) fn run_target_job(&mut self) -> bool {
        let Running { jobs, done, storage, .. } =
            self.target.running.as_mut().expect("the master target runs");
        if !done.is_empty() && (jobs.is_empty() || self.rng.one_in(2)) {
            let done = done.swap_remove(self.rng.below(done.len() as u64) as usize);
            self.step_target(Event::JobDone(done));
            return true;
        }
        if jobs.is_empty() {
            return false;
        }
        let job = jobs.swap_remove(self.rng.below(jobs.len() as u64) as usize);
        done.push(job.run(storage));
        true
    }

    /// Loses power, perhaps again while it recovers, and checks what is left.
    pub(crate) fn target_loses_power(&mut self) {
        self.tally.crashes += 1;
        self.target.running = None;
        self.break_links();
        loop {
            self.target.folder.crash(&mut self.rng);
            for disk in &self.target.disks {
                disk.crash(&mut self.rng);
            }
            if self.rng.one_in(3) {
                self.target.power.cut_after(self.rng.below(12));
            }
            if self.open_target() {
                break;
            }
        }
        self.check_after_restart();
    }

    /// Opens the storage, through crash recovery; false when the power fails meanwhile.
    fn open_target(&mut self) -> bool {
        let target = &self.target;
        let opened = Storage::open(
            target.journal_folder(),
            target.identity.clone(),
            target.live(),
            target.options.clone(),
        );
        match opened {
            Ok((storage, _)) => {
                self.target.power.restore();
                self.start_target(storage);
                true
            }
            Err(error) => {
                assert!(self.target.power.is_cut(), "recovery failed: {error}");
                false
            }
        }
    }

    /// The daemon is stopped in order and started again.
    pub(crate) fn restart_target(&mut self) {
        let crashes = self.tally.crashes;
        self.step_target(Event::Command(Command::ShutDown));
        while self.target.stage() != Stage::Stopped || self.run_target_job() {
            if self.tally.crashes > crashes {
                return;
            }
        }
        self.target.running = None;
        self.break_links();
        if self.target.power.is_cut() || !self.open_target() {
            return self.target_loses_power();
        }
        self.check_after_restart();
    }

    /// Invariants 1 and 2: nothing acknowledged is lost, and all disks stand at one boundary.
    fn check_after_restart(&mut self) {
        let Some(newest) = self.target.journal().newest() else { return };
        let (header, synced) = (&newest.header, newest.header.kind == BatchKind::Syncing);
        self.target.syncs.retain(|(began, _)| *began < header.receive_time || synced);
        if let Some((stream, promised)) = self.target.acknowledged
            && stream.0 == header.stream
            && !matches!(header.kind, BatchKind::Rollback { .. })
        {
            let reached = header.last_sequence;
            assert!(reached >= promised, "change {promised} was acknowledged, {reached} is left");
        }
        if header.kind.is_consistent() {
            self.assert_target_is_at(&newest);
        }
        self.check_points();
    }

    /// The live disks hold what the source held at a point.
    fn assert_target_is_at(&self, point: &BatchSummary) {
        let Some(key) = self.target.key_of(point) else { return };
        let wanted = self.source.oracle.state(key);
        for (number, (disk, wanted)) in self.target.disks.iter().zip(wanted).enumerate() {
            let difference = wanted.difference(&disk.contents());
            assert_eq!(difference, None, "disk {number} differs from {key:?} at batch {}", point.number);
        }
    }

    /// Invariant 3: points that are listed read exactly as the source was.
    pub(crate) fn check_points(&mut self) {
        if self.target.power.is_cut() {
            return self.target_loses_power();
        }
        let mut points = self.target.points();
        while points.len() > SAMPLE + 2 {
            points.swap_remove(1 + self.rng.below(points.len() as u64 - 2) as usize);
        }
        for point in &points {
            self.check_point(point);
        }
        self.tally.points += points.len() as u64;
    }

    fn check_point(&self, point: &BatchSummary) {
        let Some(key) = self.target.key_of(point) else { return };
        if let Some(bookmark) = &point.header.bookmark {
            assert_eq!(
                self.source.oracle.marked(&bookmark.name),
                key,
                "{} is at the wrong place",
                bookmark.name
            );
        }
        let wanted = self.source.oracle.state(key);
        for (number, (live, wanted)) in self.target.live().into_iter().zip(wanted).enumerate() {
            let mut found = vec![0; live.size().as_usize()];
            let view = PointView::new(self.target.journal().clone(), point.number, number as u16, live);
            let read = view.map(|view| view.read_at(Bytes(0), &mut found));
            read.expect("a listed point has a view").expect("the view can be read");
            let difference = wanted.difference(&found);
            assert_eq!(difference, None, "point {} of disk {number} differs from {key:?}", point.number);
        }
    }

    /// The target's disks are the source's.
    pub(crate) fn assert_level(&self) {
        for (number, (disk, wanted)) in self.target.disks.iter().zip(self.source.oracle.present()).enumerate()
        {
            assert_eq!(wanted.difference(&disk.contents()), None, "disk {number} differs from its source");
        }
        let newest = self.target.journal().newest().expect("a sync has ended");
        assert_eq!(newest.header.kind, BatchKind::Point, "the newest boundary is a recovery point");
    }

    /// An order to go to some recovery point.
    pub(crate) fn fail_over(&mut self) {
        if self.target.power.is_cut() || matches!(self.target.stage(), Stage::FailingOver { .. }) {
            return;
        }
        let points = self.target.points();
        if !points.is_empty() {
            let point: BatchNumber = self.rng.pick(&points).number;
            self.step_target(Event::Command(Command::Failover { point }));
        }
    }

    pub(crate) fn cancel_failover(&mut self) {
        if matches!(self.target.stage(), Stage::FailedOver { .. }) {
            self.step_target(Event::Command(Command::CancelFailover));
        }
    }

    /// The retention volume is shared with others: the journal may take more or less from now on.
    pub(crate) fn limit_journal(&mut self) {
        let bytes = *self.rng.pick(&[None, Some(64 << 10), Some(20 << 10), Some(0)]);
        self.step_target(Event::Command(Command::LimitJournal { bytes }));
    }

    pub(crate) fn order_resync(&mut self) {
        if !matches!(self.target.stage(), Stage::FailingOver { .. } | Stage::FailedOver { .. }) {
            self.tally.resyncs += 1;
            self.step_target(Event::Command(Command::Resync { reason: "it was ordered".into() }));
        }
    }
}
