//! The source's machine: its disks, its state folder, and the agent that runs on it.

use crate::link::Link;
use crate::medium::Medium;
use crate::oracle::{Image, Oracle};
use crate::world::{MILLISECOND, World};
use change_stream::{BookmarkKind, Compression, DiskDescription, Frame, StreamId, Time};
use disk::{ByteRange, Bytes, Disk};
use source_agent::{
    Action, BacklogLimits, Clock, Event, Job, JobDone, Notice, Sender, SenderConfig, SplitterDisk, Tracker,
    TrackerConfig,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use testkit::{Power, Rng, SimFile, SimFolder};

pub(crate) const ITEM: &str = "web01";

/// What survives the agent, and what a loss of power leaves of it.
pub(crate) struct Source {
    pub(crate) power: Arc<Power>,
    folder: SimFolder,
    pub(crate) media: Vec<Arc<Medium>>,
    boot: u8,
    backlog: BacklogLimits,
    config: SenderConfig,
    clock: Arc<AtomicU64>,
    /// How far its clock is ahead of the target's.
    skew: Time,
    order: Order,
    pub(crate) agent: Option<Agent>,
    pub(crate) oracle: Oracle,
    pub(crate) connecting: bool,
    pub(crate) wake: Time,
    pub(crate) overflows: u64,
}

/// Which of the agent's jobs is done next.
#[derive(Clone, Copy)]
enum Order {
    Any,
    OldestFirst,
    NewestFirst,
}

/// The agent, from its start to its end.
pub(crate) struct Agent {
    pub(crate) sender: Sender,
    pub(crate) tracker: Arc<Tracker>,
    splitters: Vec<Arc<SplitterDisk>>,
    pub(crate) jobs: Vec<Job>,
    done: Vec<JobDone>,
}

impl Source {
    pub(crate) fn new(rng: &mut Rng, sizes: &[usize]) -> Source {
        let power: Arc<Power> = Arc::default();
        let disk = |(number, size): (usize, &usize)| {
            let file = SimFile::disk(format!("disk{number}"), Bytes(*size as u64), &power);
            let mut content = vec![0; size / 2];
            if !rng.one_in(3) {
                rng.fill(&mut content);
            }
            file.write_at(Bytes((size / 4) as u64), &content).expect("the machine has power");
            file.sync().expect("the machine has power");
            Arc::new(Medium::new(file))
        };
        Source {
            media: sizes.iter().enumerate().map(disk).collect(),
            folder: SimFolder::on_power("state", &power),
            power,
            boot: 1,
            backlog: BacklogLimits {
                bytes: *rng.pick(&[12 << 10, 40 << 10, 1 << 20]),
                segment: *rng.pick(&[1 << 10, 8 << 10]),
                cache: *rng.pick(&[0, 4 << 10, 1 << 20]),
            },
            config: SenderConfig {
                item: ITEM.into(),
                agent: "simulation".into(),
                compression: *rng.pick(&[Compression::None, Compression::Lz4]),
                bulk_connections: rng.below(3) as usize,
                jobs: 1 + rng.below(3) as usize,
                window: 2 << 20,
                scan: None,
            },
            clock: Arc::default(),
            skew: rng.below(10_000) * MILLISECOND,
            order: *rng.pick(&[Order::Any, Order::OldestFirst, Order::NewestFirst]),
            agent: None,
            oracle: Oracle::new(),
            connecting: false,
            wake: 0,
            overflows: 0,
        }
    }

    pub(crate) fn agent(&mut self) -> &mut Agent {
        self.agent.as_mut().expect("the agent runs")
    }

    pub(crate) fn descriptions(sizes: impl Iterator<Item = Bytes>) -> Vec<DiskDescription> {
        sizes.enumerate().map(|(n, size)| DiskDescription { id: format!("disk{n}"), size: size.0 }).collect()
    }

    fn images(&self) -> Vec<Image> {
        self.media.iter().map(|medium| Image::of(&medium.contents())).collect()
    }

    /// Remembers the present state under the number of the newest change.
    fn note(&mut self, numbered: bool) {
        let standing = self.agent().tracker.standing();
        self.oracle.note(standing.stream, standing.next_sequence - 1, numbered);
    }
}

fn random_stream(rng: &mut Rng) -> StreamId {
    let mut id = [0; 16];
    rng.fill(&mut id);
    StreamId(id)
}

impl World {
    /// Moves the source's clock along.
    pub(crate) fn set_source_clock(&self) {
        self.source.clock.store(self.source_now(), Ordering::Relaxed);
    }

    fn source_now(&self) -> Time {
        self.now + self.source.skew
    }

    /// Starts the agent. It may be killed while it starts, several times.
    pub(crate) fn start_agent(&mut self) {
        loop {
            if !self.peace && self.rng.one_in(6) {
                self.source.power.cut_after(self.rng.below(8));
            }
            match self.open_agent() {
                Ok(agent) => {
                    self.source.power.restore();
                    self.source.agent = Some(agent);
                    break;
                }
                Err(error) => {
                    assert!(self.source.power.is_cut(), "the agent does not start: {error}");
                    self.source.power.restore();
                }
            }
        }
        let images = self.source.images();
        self.source.oracle.replace(images);
        let logging = self.source.agent().tracker.standing().logging;
        self.source.note(logging);
        self.step_source(Event::Tick);
    }

    fn open_agent(&mut self) -> source_agent::Result<Agent> {
        let source = &self.source;
        let config = TrackerConfig {
            disks: Source::descriptions(source.media.iter().map(|medium| medium.size())),
            backlog: source.backlog,
            boot: [source.boot; 16],
            fresh_stream: random_stream(&mut self.rng),
            on_change: Box::new(|| {}),
        };
        let (tracker, _) = Tracker::open(Arc::new(source.folder.clone()), config)?;
        let time = source.clock.clone();
        let clock: Clock = Arc::new(move || time.load(Ordering::Relaxed));
        let splitter = |(medium, number): (&Arc<Medium>, u16)| {
            Arc::new(SplitterDisk::new(medium.clone(), number, tracker.clone(), clock.clone()))
        };
        let splitters: Vec<_> = source.media.iter().zip(0..).map(splitter).collect();
        let sender = Sender::new(source.config.clone(), tracker.clone(), splitters.clone());
        Ok(Agent { sender, tracker, splitters, jobs: Vec::new(), done: Vec::new() })
    }

    /// Hands an event to the sender and carries out what follows, except that jobs wait to be picked.
    pub(crate) fn step_source(&mut self, event: Event) {
        let now = self.source_now();
        let mut actions = Vec::new();
        self.source.agent().sender.step(now, event, &mut actions);
        // The source's word on where a new stream or sync begins.
        self.source.note(true);
        for action in actions {
            self.act_for_source(action);
        }
    }

    fn act_for_source(&mut self, action: Action) {
        let book = self.source.oracle.book();
        match action {
            Action::Connect => self.source.connecting = true,
            Action::Send(bytes) => {
                let main = self.links.iter_mut().find(|link| link.source_holds && link.bulk.is_none());
                main.into_iter().for_each(|link| link.send(&bytes, book));
            }
            Action::OpenBulk { connection, hello } => {
                let link = self.add_link(Some(connection));
                link.send(&encoded(&hello), book);
            }
            Action::SendBulk { connection, frame } => {
                let open = |link: &&mut Link| link.source_holds && link.bulk == Some(connection);
                self.links.iter_mut().find(open).into_iter().for_each(|link| link.send(&frame, book));
            }
            Action::Close => self.source_closes(),
            Action::Run(job) => self.source.agent().jobs.push(job),
            Action::WakeAt(time) => self.source.wake = time.saturating_sub(self.source.skew),
            Action::Notice(notice) => self.note_of_source(notice),
        }
    }

    fn note_of_source(&mut self, notice: Notice) {
        match notice {
            Notice::Overflowed { .. } => self.source.overflows += 1,
            Notice::Failed { what } => {
                assert!(self.source.power.is_cut(), "the source failed without a cause: {what}");
            }
            _ => {}
        }
    }

    /// The source lets go of its connections; what it had sent still arrives, or not.
    pub(crate) fn source_closes(&mut self) {
        self.source.connecting = false;
        let lost = self.rng.one_in(2);
        for link in self.links.iter_mut().filter(|link| link.source_holds) {
            link.source_holds = false;
            link.answers.clear();
            if lost {
                link.break_off();
            }
        }
    }

    /// The connection that the sender asked for is there, or fails.
    pub(crate) fn connect(&mut self) {
        if !std::mem::take(&mut self.source.connecting) {
            return;
        }
        if !self.peace && self.rng.one_in(8) {
            return self.step_source(Event::Disconnected { why: "no route".into() });
        }
        self.add_link(None);
        let fresh_stream = random_stream(&mut self.rng);
        self.step_source(Event::Connected { fresh_stream });
    }

    /// Runs a job, or tells the sender of one that has ended: what happens between the two, it does not know of.
    pub(crate) fn run_source_job(&mut self) -> bool {
        let Agent { jobs, done, .. } = self.source.agent.as_mut().expect("the agent runs");
        if !done.is_empty() && (jobs.is_empty() || self.rng.one_in(2)) {
            let done = done.swap_remove(self.rng.below(done.len() as u64) as usize);
            self.step_source(Event::JobDone(done));
            return true;
        }
        if jobs.is_empty() {
            return false;
        }
        let one = match self.source.order {
            Order::Any => self.rng.below(jobs.len() as u64) as usize,
            Order::OldestFirst => 0,
            Order::NewestFirst => jobs.len() - 1,
        };
        done.push(jobs.remove(one).run());
        true
    }

    /// The sender is woken, or learns of a change only when something else happens.
    fn changed(&mut self) {
        self.source.note(true);
        if self.rng.one_in(2) {
            self.step_source(Event::Changed);
        }
    }

    /// The writer changes a disk.
    pub(crate) fn write(&mut self) {
        let disk = self.rng.below(self.source.media.len() as u64) as usize;
        let size = self.source.media[disk].size().as_usize();
        let (offset, length) = self.place(size);
        let data = self.data(disk, offset, length);
        let splitter = self.source.agent().splitters[disk].clone();
        let before = self.source.agent().tracker.standing().next_sequence;
        let range = ByteRange::of_buffer(Bytes(offset as u64), length);
        let made = match &data {
            Some(data) => splitter.write_at(range.start(), data),
            None => splitter.write_zeroes(range),
        };
        drop(splitter);
        if self.survived(made) {
            self.source.oracle.write(disk, offset, length, data.as_deref());
            let numbered = self.source.agent().tracker.standing().next_sequence == before + 1;
            self.source.note(numbered);
            self.changed();
        }
    }

    /// Somewhere on the disk, or in one of a few places that are written again and again.
    fn place(&mut self, size: usize) -> (usize, usize) {
        if self.rng.one_in(2) {
            return (self.rng.below(size as u64 / 4096) as usize % 6 * 4096, 4096);
        }
        let longest = *self.rng.pick(&[600, 600, 5000, 5000, 40_000]);
        let length = 1 + self.rng.below(longest.min(size as u64)) as usize;
        (self.rng.below((size - length) as u64 + 1) as usize, length)
    }

    /// Few values, or those that the target happens to hold there now, so that comparisons find stale data equal; none
    /// for zeroes.
    fn data(&mut self, disk: usize, offset: usize, length: usize) -> Option<Vec<u8>> {
        match self.rng.below(8) {
            0 => None,
            1..=2 => Some(self.target.held(disk, offset, length)),
            3..=4 => Some(vec![1 + self.rng.below(2) as u8; length]),
            _ => {
                let mut data = vec![0; length];
                self.rng.fill(&mut data);
                Some(data)
            }
        }
    }

    /// The writer asks for durability.
    pub(crate) fn flush(&mut self) {
        let disk = self.rng.below(self.source.media.len() as u64) as usize;
        let flushed = self.source.agent().splitters[disk].sync();
        if self.survived(flushed) {
            self.changed();
        }
    }

    pub(crate) fn bookmark(&mut self) {
        let (now, name) = (self.source_now(), format!("mark {}", self.rng.next_u64()));
        let next = self.source.agent().tracker.standing().next_sequence;
        self.source.oracle.bookmark(name.clone(), next);
        let kind = *self.rng.pick(&[BookmarkKind::CrashConsistent, BookmarkKind::ApplicationConsistent]);
        // Not set while the target is not level; not known when the agent was killed meanwhile.
        let _ = self.source.agent().tracker.bookmark(now, kind, &name, None);
        if !self.source.power.is_cut() {
            self.changed();
        }
    }

    /// False when the agent was killed in the middle of a change: then it has been started again.
    fn survived(&mut self, made: disk::Result<()>) -> bool {
        let Err(error) = made else { return true };
        assert!(self.source.power.is_cut(), "a change failed without a cause: {error}");
        self.kill_source();
        false
    }

    /// `kill -9`: everything that was written stays, the change in flight was made in part.
    pub(crate) fn kill_source(&mut self) {
        self.tally.kills += 1;
        self.source.agent = None;
        self.source_closes();
        self.source.power.restore();
        for medium in &self.source.media {
            medium.tear(&mut self.rng);
        }
        self.start_agent();
    }

    /// The source's machine loses power.
    pub(crate) fn source_loses_power(&mut self) {
        self.tally.outages += 1;
        self.source.agent = None;
        self.break_links();
        self.source_closes();
        self.boot_source();
        self.start_agent();
    }

    fn boot_source(&mut self) {
        self.source.boot += 1;
        self.source.folder.crash(&mut self.rng);
        for medium in &self.source.media {
            medium.crash(&mut self.rng);
        }
    }

    /// The agent is stopped in order, and perhaps the machine after it.
    pub(crate) fn restart_agent(&mut self) {
        self.step_source(Event::Stop { reason: "restart".into() });
        let synced = self.source.media.iter().try_for_each(|medium| medium.sync());
        let closed =
            synced.map_err(source_agent::Error::from).and_then(|()| self.source.agent().tracker.close());
        if closed.is_err() || self.source.power.is_cut() {
            return self.kill_source();
        }
        self.tally.restarts += 1;
        self.source.agent = None;
        self.source_closes();
        if self.rng.one_in(2) {
            self.boot_source();
        }
        self.start_agent();
    }
}

pub(crate) fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    change_stream::encode(frame, Compression::None, &mut bytes).expect("a good frame");
    bytes
}
