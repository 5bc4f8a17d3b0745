//! The state machine of a replicated item.

use crate::batch::{Batch, BatchBuilder};
use crate::failover::Failover;
use crate::job::{Job, JobDone, Work};
use crate::pipeline::Pipeline;
use crate::session::{Blocked, Session};
use crate::status::Stage;
use crate::{Error, Result, Storage};
use change_stream::{DiskDescription, Frame, Limits, RefusalCode, StreamId, SyncMode, Time};
use disk::Class;
use journal::{BatchHeader, BatchKind, BatchNumber, BatchSummary, Bookmark, Journal, PruneReport};
use std::sync::Arc;

/// Names a connection of the caller's; never used twice.
pub type ConnectionId = u64;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;

/// A batch closes at this many bytes of data; with one in each lane this bounds the item's memory.
pub(crate) const BATCH_BYTES: u64 = 4 << 20;
/// A batch closes at this many writes, which bounds its table.
const BATCH_WRITES: usize = 8192;
/// While input keeps coming, hungry lanes get a batch at this age.
const BATCH_AGE: Time = 5 * MILLISECOND;
/// Without before-images, input that pauses for this long has the disks synced.
const SYNC_PAUSE: Time = 20 * MILLISECOND;
const PRUNE_EVERY: Time = 10 * SECOND;
/// How often silence is noticed and a full volume tried again.
const TICK: Time = SECOND;
/// A source that was silent for this many heartbeats is taken for gone.
const SILENT_HEARTBEATS: u64 = 4;

/// What an item is told from outside.
#[derive(Clone, Debug)]
pub struct ItemConfig {
    /// True when the target disks are known to be all zero, so that an initial sync need not compare.
    pub blank: bool,
    /// Nanoseconds that recovery points reach back; [`Command::SetWindow`] changes it.
    pub window: u64,
    /// Most bytes of the journal; [`Command::LimitJournal`] changes it.
    pub max_journal_bytes: Option<u64>,
    /// What the source is told.
    pub limits: Limits,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A peer, authenticated for this item as `peer`, opened a connection with a `Hello` or `BulkHello`.
    Connected {
        /// The connection.
        connection: ConnectionId,
        /// Name that the certificate was checked for.
        peer: String,
        /// The first frame.
        hello: Frame,
    },
    /// A further frame came.
    Frame {
        /// Where.
        connection: ConnectionId,
        /// What.
        frame: Frame,
    },
    /// Everything that had been received was handed in.
    Drained,
    /// A connection is gone.
    Disconnected {
        /// Which.
        connection: ConnectionId,
    },
    /// A job has ended.
    JobDone(JobDone),
    /// A moment has come that [`Action::WakeAt`] asked for, or a second has passed.
    Tick,
    /// Someone in charge wants something.
    Command(Command),
}

/// What to do next.
#[derive(Debug)]
pub enum Action {
    /// Send a frame.
    Send {
        /// Where.
        connection: ConnectionId,
        /// What.
        frame: Frame,
    },
    /// Close a connection after what was sent on it.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// Run a job and hand back its end.
    Run(Job),
    /// Something to log, and to alert of where it is bad.
    Notice(Notice),
    /// Send [`Event::Tick`] at this time.
    WakeAt(Time),
}

/// What people should know.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A source was welcomed.
    Connected {
        /// Name that its certificate was checked for.
        peer: String,
        /// Its own word about its version.
        agent: String,
    },
    /// A session was refused or ended for a reason.
    Refused {
        /// The peer.
        peer: String,
        /// Why.
        why: String,
    },
    /// The session's connection is gone.
    Disconnected,
    /// A sync began.
    SyncStarted(SyncMode),
    /// The item is level with its source.
    SyncFinished,
    /// A bookmark that came during a sync marks no recovery point.
    BookmarkDropped {
        /// Its name.
        name: String,
    },
    /// Points were given up that had left the window.
    Pruned(PruneReport),
    /// Space ran short: points inside the window were given up.
    WindowShrunk(PruneReport),
    /// The retention volume is full and nothing can be given up; the item waits.
    NoRoom,
    /// The item stopped.
    Fenced {
        /// What failed.
        why: String,
        /// What to do about it.
        class: Class,
        /// True when it was the journal.
        journal: bool,
    },
    /// The disks stand at a recovery point.
    FailedOver {
        /// Which.
        point: BatchNumber,
    },
    /// A command could not be followed; nothing changed.
    CommandFailed {
        /// Why, and what to do.
        why: String,
    },
    /// A failover was taken back: the item waits for its source.
    FailoverCancelled,
    /// The way back was given up.
    Committed,
    /// Everything received is durable and recorded: the storage may be dropped.
    Stopped,
}

/// What someone in charge wants.
#[derive(Clone, Debug)]
pub enum Command {
    /// Put the disks back to a recovery point, or, failed over already, to another one.
    Failover {
        /// Which.
        point: BatchNumber,
    },
    /// Put the disks forward again and go on receiving.
    CancelFailover,
    /// Give up the way back.
    Commit,
    /// Compare everything with the source again.
    Resync {
        /// Why.
        reason: String,
    },
    /// Keep the journal within so many bytes from now on, by giving up the oldest points but never the newest.
    LimitJournal {
        /// How many; `None` for what the volume has.
        bytes: Option<u64>,
    },
    /// Recovery points reach back so far from now on.
    SetWindow {
        /// Nanoseconds.
        nanos: u64,
    },
    /// Finish what is in flight, record it, and stop.
    ShutDown,
}

/// How level the disks are with the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    NeedsInitialSync,
    NeedsResync { reason: String },
    Syncing { mode: SyncMode },
    Reached,
}

/// What the item does.
#[derive(Debug)]
pub(crate) enum Doing {
    Receiving,
    Failover(Failover),
    Stopping { recording: bool },
    Ended(Stage),
}

/// A place in the change stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) stream: StreamId,
    pub(crate) sequence: u64,
    pub(crate) time: Time,
}

/// The engine of one replicated item.
pub struct Item {
    pub(crate) name: String,
    pub(crate) disks: Vec<DiskDescription>,
    pub(crate) config: ItemConfig,
    pub(crate) journal: Arc<Journal>,
    pub(crate) doing: Doing,
    pub(crate) level: Level,
    /// True once there is a recovery point to go back to: from then on everything is journaled.
    pub(crate) has_points: bool,
    pub(crate) received: Cursor,
    pub(crate) durable: Cursor,
    pub(crate) closed_sequence: u64,
    pub(crate) builder: BatchBuilder,
    pub(crate) builder_since: Time,
    pub(crate) pipeline: Pipeline,
    pub(crate) session: Option<Session>,
    /// Sessions welcomed or tried so far, and the number that the next one gets.
    pub(crate) next_session: u64,
    pub(crate) drained: bool,
    pub(crate) last_input: Time,
    pub(crate) protected_until: Option<Time>,
    pub(crate) next_prune: Time,
    pub(crate) pruning: bool,
    /// False when the journal is too large and pruning freed nothing: it is then tried again only when it is due.
    pub(crate) prunable: bool,
    pub(crate) received_bytes: u64,
    pub(crate) applied_bytes: u64,
    pub(crate) sync_position: u64,
    pub(crate) newest: Option<BatchSummary>,
    /// From the newest batch to the opening. Nobody saw whether this time passed or the clock was wrong, so it does
    /// not count against the age of recovery points.
    unseen: Time,
}

impl Item {
    /// The engine of an item whose storage has just been created or opened.
    pub fn new(config: ItemConfig, storage: &Storage, now: Time) -> Result<Item> {
        let identity = storage.identity();
        let disks =
            identity.disks.iter().map(|disk| DiskDescription { id: disk.id.clone(), size: disk.size.0 });
        let newest = storage.journal().newest();
        let cursor =
            newest.as_ref().map_or(Cursor { stream: StreamId([0; 16]), sequence: 0, time: 0 }, |batch| {
                Cursor {
                    stream: StreamId(batch.header.stream),
                    sequence: batch.header.last_sequence,
                    time: batch.header.source_time,
                }
            });
        let mut item = Item {
            name: identity.item.clone(),
            disks: disks.collect(),
            journal: storage.journal().clone(),
            doing: Doing::Receiving,
            level: Level::NeedsInitialSync,
            has_points: storage.journal().oldest_point()?.is_some(),
            received: cursor,
            durable: cursor,
            closed_sequence: cursor.sequence,
            builder: BatchBuilder::default(),
            builder_since: 0,
            pipeline: Pipeline::default(),
            session: None,
            next_session: now,
            drained: true,
            last_input: now,
            protected_until: None,
            next_prune: now,
            pruning: false,
            prunable: true,
            received_bytes: 0,
            applied_bytes: 0,
            sync_position: 0,
            unseen: newest.as_ref().map_or(0, |batch| now.saturating_sub(batch.header.receive_time)),
            newest,
            config,
        };
        item.find_level()?;
        item.resume_failover()?;
        Ok(item)
    }

    /// Where the newest batch that came from a source left the item: a cancelled failover goes back there.
    fn find_level(&mut self) -> Result<()> {
        let newest = self.newest.clone();
        let received = newest.as_ref().map(|newest| self.received_before(newest)).transpose()?;
        self.level = match received.map(|batch| batch.header.kind) {
            Some(BatchKind::Point) => Level::Reached,
            Some(_) => Level::Syncing { mode: SyncMode::Resync },
            None if self.config.blank => Level::NeedsInitialSync,
            None => Level::NeedsResync { reason: "the target disks held data before".to_owned() },
        };
        if self.level == Level::Reached {
            self.protected_until = newest.map(|batch| batch.header.source_time);
        }
        Ok(())
    }

    /// The newest batch up to this one that is not part of a rollback.
    pub(crate) fn received_before(&self, batch: &BatchSummary) -> Result<BatchSummary> {
        let mut found = batch.clone();
        while let BatchKind::Rollback { .. } = found.header.kind {
            found = self.summary(BatchNumber(found.number.0 - 1))?;
        }
        Ok(found)
    }

    pub(crate) fn summary(&self, point: BatchNumber) -> Result<BatchSummary> {
        self.journal
            .summary(point)?
            .ok_or_else(|| Error::NoSuchPoint { item: self.name.clone(), point: point.0 })
    }

    /// Takes an event and adds the actions that follow. `now` never goes back: it is the wall clock as it was at
    /// the start of the daemon, moved on by a steady one, so that a clock that jumps moves no recovery point.
    pub fn step(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        if matches!(self.doing, Doing::Ended(_)) {
            return self.step_ended(event, actions);
        }
        match event {
            Event::Connected { connection, peer, hello } => {
                self.connect(now, connection, peer, hello, actions)
            }
            Event::Frame { connection, frame } => {
                self.drained = false;
                self.last_input = now;
                self.frame(now, connection, frame, actions);
            }
            Event::Drained => self.drained = true,
            Event::Disconnected { connection } => self.disconnected(connection, actions),
            Event::JobDone(done) => self.job_done(now, done.0, actions),
            Event::Tick => self.tick(now, actions),
            Event::Command(command) => self.command(now, command, actions),
        }
        if !matches!(self.doing, Doing::Ended(_)) {
            self.advance(now, actions);
        }
    }

    fn step_ended(&mut self, event: Event, actions: &mut Vec<Action>) {
        if let Event::Connected { connection, peer, .. } = event {
            let (code, why) = self.not_receiving();
            refuse(connection, peer, code, why, actions);
        }
    }

    /// Why a source is refused while the item does something else.
    pub(crate) fn not_receiving(&self) -> (RefusalCode, String) {
        let name = &self.name;
        match self.stage() {
            Stage::Fenced { why, .. } => {
                let next = format!("mend it and run `mtctl resume {name}` on the master target");
                (RefusalCode::Fenced, format!("item {name} has stopped: {why}; {next}"))
            }
            Stage::Stopped => {
                (RefusalCode::ShuttingDown, format!("item {name} is being closed; connect again later"))
            }
            _ => {
                let next =
                    format!("cancel the failover with `mtctl cancel-failover {name}` to replicate again");
                (RefusalCode::FailedOver, format!("item {name} has been failed over; {next}"))
            }
        }
    }

    /// False when no more frames of this connection should be handed in for now. One frame more does no harm.
    pub fn wants_input(&self, connection: ConnectionId) -> bool {
        let Some(session) = &self.session else { return true };
        if connection != session.connection {
            return true;
        }
        session.welcomed && session.blocked.is_none() && !self.is_full()
    }

    /// True while nothing more can be taken before a batch has gone on.
    fn is_full(&self) -> bool {
        self.builder_is_full() && !self.pipeline.has_room()
    }

    pub(crate) fn builder_is_full(&self) -> bool {
        let logged = self.logs();
        self.builder.data_bytes + if logged { self.builder.zero_bytes } else { 0 } >= BATCH_BYTES
            || self.builder.writes >= BATCH_WRITES
    }

    /// True when before-images are kept: as soon as there is a point to go back to.
    pub(crate) fn logs(&self) -> bool {
        self.has_points
    }

    /// Closes the batch that is being filled, if it holds anything or must end here.
    pub(crate) fn close_batch(&mut self, now: Time, bookmark: Option<Bookmark>, must: bool) {
        if self.builder.is_empty() && !must && self.received.sequence == self.closed_sequence {
            return;
        }
        let level = self.level == Level::Reached;
        let header = BatchHeader {
            kind: if level { BatchKind::Point } else { BatchKind::Syncing },
            stream: self.received.stream.0,
            first_sequence: self.closed_sequence + 1,
            last_sequence: self.received.sequence,
            source_time: self.received.time,
            receive_time: now,
            bookmark,
            undo: self.logs(),
        };
        self.closed_sequence = self.received.sequence;
        let changes = self.builder.take();
        let bytes = changes.iter().map(|change| change.range.length().0).sum();
        let (session, sync_frames) = self.session.as_ref().map_or((0, 0), |s| (s.id, s.sync_frames));
        self.pipeline.push(Batch { header, changes, session, sync_frames, bytes, closed: must });
    }

    /// Everything that can go on without a further event.
    fn advance(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.unblock(now, actions);
        self.close_batch_if_due(now, actions);
        self.advance_failover(now, actions);
        self.prune_if_due(now, actions);
        let idle = self.drained && now >= self.last_input + SYNC_PAUSE || self.is_draining();
        let mut jobs = Vec::new();
        self.pipeline.start(idle, &mut jobs);
        actions.extend(jobs.into_iter().map(|work| Action::Run(Job(work))));
        if self.pipeline.is_empty() && self.builder.is_empty() {
            self.drained_pipeline(now, actions);
        } else if self.drained && !idle {
            actions.push(Action::WakeAt(self.last_input + SYNC_PAUSE));
        }
    }

    /// True when what was received has to become durable before something else can begin.
    fn is_draining(&self) -> bool {
        !matches!(self.doing, Doing::Receiving)
            || self.session.as_ref().is_none_or(|session| !session.welcomed)
    }

    fn close_batch_if_due(&mut self, now: Time, actions: &mut Vec<Action>) {
        let nothing_new = self.builder.is_empty() && self.received.sequence == self.closed_sequence;
        if nothing_new || !self.pipeline.has_room() {
            return;
        }
        if self.is_draining() || self.builder_is_full() {
            return self.close_batch(now, None, false);
        }
        if self.pipeline.is_hungry() {
            if self.drained || now >= self.builder_since + BATCH_AGE {
                return self.close_batch(now, None, false);
            }
            actions.push(Action::WakeAt(self.builder_since + BATCH_AGE));
        }
    }

    fn drained_pipeline(&mut self, now: Time, actions: &mut Vec<Action>) {
        match &mut self.doing {
            Doing::Receiving => self.welcome(now, actions),
            Doing::Stopping { recording } if !*recording => {
                *recording = true;
                actions.push(Action::Run(Job(Work::RecordApplied)));
            }
            Doing::Failover(_) | Doing::Stopping { .. } | Doing::Ended(_) => {}
        }
    }

    fn tick(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.retry_room();
        self.drop_silent_session(now, actions);
        self.prune_if_too_large(now);
        actions.push(Action::WakeAt(now + TICK));
    }

    /// Received not after this, all points but the newest have left the window. It reaches back from the newest batch:
    /// a source that fell silent loses no recovery point.
    pub(crate) fn keep_from(&self, now: Time) -> Time {
        let newest = self.newest.as_ref().map_or(now, |newest| newest.header.receive_time);
        newest.min(now.saturating_sub(self.unseen)).saturating_sub(self.config.window)
    }

    fn prune_if_too_large(&mut self, now: Time) {
        if self.prunable && self.is_too_large() {
            self.next_prune = now;
        }
    }

    pub(crate) fn is_too_large(&self) -> bool {
        self.config.max_journal_bytes.is_some_and(|most| self.journal.usage().bytes > most)
    }

    /// A failover keeps every point: it may be going to, or from, any of them.
    fn prune_if_due(&mut self, now: Time, actions: &mut Vec<Action>) {
        if now >= self.next_prune && !self.pruning && matches!(self.doing, Doing::Receiving) {
            self.next_prune = now + PRUNE_EVERY;
            self.pruning = true;
            let (keep_from, max_bytes) = (self.keep_from(now), self.config.max_journal_bytes);
            actions.push(Action::Run(Job(Work::Prune { keep_from, max_bytes })));
        }
    }

    fn drop_silent_session(&mut self, now: Time, actions: &mut Vec<Action>) {
        let longest = u64::from(self.config.limits.heartbeat_seconds) * SILENT_HEARTBEATS * SECOND;
        let Some(session) = &self.session else { return };
        let we_are_slow = self.is_full() || matches!(session.blocked, Some(Blocked::Zeroes { .. }));
        if session.welcomed && now > session.last_heard + longest && !we_are_slow {
            let seconds = (now - session.last_heard) / SECOND;
            let why = format!("item {}: the source was silent for {seconds} s; connect again", self.name);
            self.end_session(RefusalCode::Protocol, why, actions);
        }
    }

    fn command(&mut self, now: Time, command: Command, actions: &mut Vec<Action>) {
        match command {
            Command::Failover { point } => match self.check_point(point) {
                Ok(()) => self.start_failover(now, point, actions),
                Err(error) => actions.push(Action::Notice(Notice::CommandFailed { why: error.to_string() })),
            },
            Command::CancelFailover => self.cancel_failover(),
            Command::Commit => self.commit(actions),
            Command::Resync { reason } => self.order_resync(now, reason, actions),
            Command::LimitJournal { bytes } => {
                self.config.max_journal_bytes = bytes;
                self.prunable = true;
                self.prune_if_too_large(now);
            }
            Command::SetWindow { nanos } => {
                self.config.window = nanos;
                self.next_prune = now;
            }
            Command::ShutDown => {
                let why = format!("item {} is being closed; connect again later", self.name);
                self.end_session(RefusalCode::ShuttingDown, why, actions);
                match self.doing {
                    Doing::Receiving => self.doing = Doing::Stopping { recording: false },
                    _ => self.end(Stage::Stopped, Notice::Stopped, actions),
                }
            }
        }
    }

    fn order_resync(&mut self, now: Time, reason: String, actions: &mut Vec<Action>) {
        let why = format!("item {}: a resync was ordered: {reason}; connect again", self.name);
        self.end_session(RefusalCode::ResyncRequired, why, actions);
        self.close_batch(now, None, false);
        self.level = Level::NeedsResync { reason };
        // No source has this stream, so the order outlives a restart.
        self.received.stream = StreamId([0; 16]);
        self.close_batch(now, None, true);
    }

    pub(crate) fn end(&mut self, stage: Stage, notice: Notice, actions: &mut Vec<Action>) {
        self.doing = Doing::Ended(stage);
        actions.push(Action::Notice(notice));
    }

    /// Stops for good: whatever is still running no longer counts (invariant 6).
    pub(crate) fn fence(&mut self, error: &Error, actions: &mut Vec<Action>) {
        let (why, class) = (error.to_string(), error.class());
        let stage = Stage::Fenced { why: why.clone(), class };
        self.end(stage, Notice::Fenced { why, class, journal: error.is_of_journal() }, actions);
        let (code, why) = self.not_receiving();
        self.end_session(code, why, actions);
    }
}

pub(crate) fn refuse(
    connection: ConnectionId,
    peer: String,
    code: RefusalCode,
    why: String,
    actions: &mut Vec<Action>,
) {
    actions.push(Action::Notice(Notice::Refused { peer, why: why.clone() }));
    actions.push(Action::Send { connection, frame: Frame::Refused { code, message: why } });
    actions.push(Action::Close { connection });
}
