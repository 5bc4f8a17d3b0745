//! One session: what was sent, what may be sent next, and in which order.

use super::sync::{Landed, Sync};
use super::{Action, Notice, SECOND, SILENCE, SenderConfig, Stage, front_frame, show_bytes};
use crate::backlog::Stored;
use crate::job::{Hashes, Job, ReadBlock, Task};
use crate::splitter::SplitterDisk;
use crate::tracker::{Standing, Tracker};
use change_stream::{Compression, Frame, Limits, Need, PROTOCOL_VERSION, StreamId, SyncMode, Time, encode};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes that may wait to be sent; beyond them nothing is taken from the backlog.
const MOST_UNSENT: usize = 1 << 20;
/// Bytes of frames that are handed on together.
const BATCH: usize = 256 << 10;

/// What the answer to `Hello` asks for.
pub(super) struct Plan {
    session: u64,
    durable: u64,
    limits: Limits,
    sync: Option<Begin>,
}

/// How a sync begins.
struct Begin {
    mode: SyncMode,
    everything: bool,
    new_stream: Option<StreamId>,
    why: String,
}

impl Plan {
    pub(super) fn new(
        welcome: &Frame,
        hello: &Standing,
        config: &SenderConfig,
        everything: bool,
        fresh_stream: Option<StreamId>,
    ) -> Result<Plan, String> {
        let Frame::Welcome { version, session, durable_sequence, need, limits } = welcome else {
            return Err("the master target did not answer with Welcome".to_owned());
        };
        if *version != PROTOCOL_VERSION {
            return Err(format!(
                "the master target speaks version {version} of the change stream, this agent {PROTOCOL_VERSION}; \
                 bring both to the same release"
            ));
        }
        let sync =
            Begin::needed(*durable_sequence, need, hello, everything || config.scan.is_some(), fresh_stream);
        Ok(Plan { session: *session, durable: *durable_sequence, limits: *limits, sync })
    }
}

impl Begin {
    fn needed(
        durable: u64,
        need: &Need,
        hello: &Standing,
        everything: bool,
        fresh_stream: Option<StreamId>,
    ) -> Option<Begin> {
        let mode = hello.pending.unwrap_or(SyncMode::Resync);
        let all = |mode, why: String| Some(Begin { mode, everything: true, new_stream: None, why });
        match need {
            Need::InitialSync => {
                return all(SyncMode::Initial, "the target is blank".to_owned());
            }
            Need::Resync { reason } => return all(SyncMode::Resync, reason.clone()),
            Need::Nothing if everything => return all(mode, "everything is to be compared".to_owned()),
            Need::Nothing => {}
        }
        if durable >= hello.next_sequence {
            let why = format!(
                "the target has change {durable} of a stream that ends at {} here",
                hello.next_sequence - 1
            );
            return Some(Begin { mode: SyncMode::Resync, everything: true, new_stream: fresh_stream, why });
        }
        let lost = if hello.logging { durable + 1 < hello.oldest_held } else { durable < hello.acknowledged };
        if lost {
            return all(SyncMode::Resync, format!("changes after {durable} are no longer held"));
        }
        if hello.dirty > 0 || !hello.logging || hello.pending.is_some() {
            let why = match (hello.logging, hello.pending) {
                (true, Some(_)) => "a sync was cut off".to_owned(),
                (true, None) => "some changes are uncertain".to_owned(),
                (false, _) => "changes were not held for the target".to_owned(),
            };
            return Some(Begin { mode, everything: false, new_stream: None, why });
        }
        None
    }
}

pub(super) struct Session {
    number: u64,
    epoch: u64,
    heartbeat: Time,
    next_heartbeat: Time,
    last_heard: Time,
    unsent: usize,
    /// Newest differential frame sent, and the place in the backlog after it.
    sent_sequence: u64,
    place: u64,
    /// The time of that frame; when none was sent in this session, when it began.
    sent_time: Time,
    acknowledged: u64,
    /// Frames taken from the backlog and not sent yet.
    staged: Vec<u8>,
    staged_at: usize,
    reading: bool,
    sync: Option<Sync>,
    /// Frames that need no place in the order.
    loose: Vec<u8>,
    bulk: Vec<Bulk>,
}

/// An extra connection.
#[derive(Default)]
struct Bulk {
    connected: bool,
    /// Blocks whose data was handed on and is not sent yet, oldest first.
    unsent: VecDeque<u64>,
}

impl Session {
    pub(super) fn begin(
        now: Time,
        number: u64,
        plan: Plan,
        config: &SenderConfig,
        tracker: &Tracker,
        disks: &[Arc<SplitterDisk>],
        actions: &mut Vec<Action>,
    ) -> Result<Session, String> {
        let heartbeat = Time::from(plan.limits.heartbeat_seconds.clamp(1, 3600)) * SECOND;
        let mut session = Session {
            number,
            epoch: tracker.standing().epoch,
            heartbeat,
            next_heartbeat: now,
            last_heard: now,
            unsent: 0,
            sent_sequence: plan.durable,
            place: 0,
            sent_time: now,
            acknowledged: plan.durable,
            staged: Vec::new(),
            staged_at: 0,
            reading: false,
            sync: None,
            loose: Vec::new(),
            bulk: Vec::new(),
        };
        // Before everything is compared, what the target has may be of another stream.
        if plan.sync.as_ref().is_none_or(|begin| !begin.everything) {
            tracker.acknowledge(plan.durable).map_err(|error| error.to_string())?;
        }
        if let Some(begin) = &plan.sync {
            session.begin_sync(now, begin, &plan, config, tracker, disks, actions)?;
        }
        session.place = tracker.locate(session.sent_sequence + 1).map_err(|error| error.to_string())?;
        Ok(session)
    }

    #[allow(clippy::too_many_arguments)] // called once, with all that the first frame of a sync depends on
    fn begin_sync(
        &mut self,
        now: Time,
        begin: &Begin,
        plan: &Plan,
        config: &SenderConfig,
        tracker: &Tracker,
        disks: &[Arc<SplitterDisk>],
        actions: &mut Vec<Action>,
    ) -> Result<(), String> {
        let start = tracker
            .begin_sync(begin.mode, begin.everything, begin.new_stream, plan.durable)
            .map_err(|error| error.to_string())?;
        self.epoch = start.epoch;
        self.sent_sequence = start.base;
        self.acknowledged = start.base;
        let frame = Frame::SyncBegin { mode: begin.mode, stream: start.stream, base_sequence: start.base };
        self.add_loose(&frame)?;
        let bytes = tracker.standing().dirty;
        let why = format!("{} ({} to look at)", begin.why, show_bytes(bytes));
        actions.push(Action::Notice(Notice::SyncStarted { mode: begin.mode, bytes, why }));
        self.sync = Some(Sync::new(now, self.number, begin.mode, start, bytes, plan.limits, config, disks));
        for connection in 0..config.bulk_connections {
            self.bulk.push(Bulk::default());
            let hello = Frame::BulkHello {
                version: PROTOCOL_VERSION,
                item: config.item.clone(),
                stream: start.stream,
                session: plan.session,
            };
            actions.push(Action::OpenBulk { connection, hello });
        }
        Ok(())
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn sent_sequence(&self) -> u64 {
        self.sent_sequence
    }

    pub(super) fn stage(&self) -> Stage {
        match &self.sync {
            Some(sync) => Stage::Syncing { mode: sync.mode(), progress: sync.progress() },
            None => Stage::Level,
        }
    }

    pub(super) fn heard(&mut self, now: Time) {
        self.last_heard = now;
    }

    /// True when the target is silent though it has something to acknowledge.
    pub(super) fn is_silent(&self, now: Time) -> bool {
        let waits = self.sync.is_some() || self.acknowledged < self.sent_sequence;
        waits && now.saturating_sub(self.last_heard) > SILENCE
    }

    /// True when granules became dirty that this session's sync does not know of.
    pub(super) fn outdated(&self, tracker: &Tracker) -> bool {
        let standing = tracker.standing();
        standing.epoch != self.epoch || !standing.logging
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.unsent = self.unsent.saturating_sub(bytes);
    }

    pub(super) fn bulk_connected(&mut self, connection: usize) {
        if let Some(bulk) = self.bulk.get_mut(connection) {
            bulk.connected = true;
        }
    }

    pub(super) fn bulk_sent(&mut self, connection: usize) {
        let block = self.bulk.get_mut(connection).and_then(|bulk| bulk.unsent.pop_front());
        if let (Some(block), Some(sync)) = (block, &mut self.sync) {
            sync.bulk_sent(block);
        }
    }

    pub(super) fn backlog_read(&mut self, bytes: Vec<u8>) {
        self.reading = false;
        self.staged = bytes;
        self.staged_at = 0;
    }

    pub(super) fn hashed(&mut self, request: u64, hashes: Hashes) -> Result<(), String> {
        let question = self.sync.as_mut().and_then(|sync| sync.hashed(request, hashes));
        question.map_or(Ok(()), |frame| self.add_loose(&frame))
    }

    pub(super) fn hash_reply(&mut self, request: u64, differs: &[u8]) {
        if let Some(sync) = &mut self.sync {
            sync.hash_reply(request, differs);
        }
    }

    /// Takes in a block that was read, and hands its bulk data on.
    pub(super) fn block_read(&mut self, block: u64, read: ReadBlock, actions: &mut Vec<Action>) {
        let Some(sync) = &mut self.sync else { return };
        for frame in sync.block_read(block, read) {
            let idle = self.bulk.iter_mut().enumerate().filter(|(_, bulk)| bulk.connected);
            let Some((connection, bulk)) = idle.min_by_key(|(_, bulk)| bulk.unsent.len()) else { continue };
            bulk.unsent.push_back(block);
            actions.push(Action::SendBulk { connection, frame });
        }
    }

    /// Notes what is durable; tells when the sync ended, and whether the target is level.
    pub(super) fn acknowledged(
        &mut self,
        tracker: &Tracker,
        durable_sequence: u64,
        durable_sync: u64,
    ) -> crate::Result<Option<bool>> {
        self.acknowledged = self.acknowledged.max(durable_sequence.min(self.sent_sequence));
        tracker.acknowledge(self.acknowledged)?;
        let Some(sync) = &mut self.sync else { return Ok(None) };
        let Some(consistent) = sync.acknowledged(tracker, self.epoch, durable_sync)? else { return Ok(None) };
        if consistent {
            tracker.end_sync()?;
        }
        self.sync = None;
        Ok(Some(consistent))
    }

    /// Does all that can be done now.
    pub(super) fn pump(
        &mut self,
        now: Time,
        tracker: &Arc<Tracker>,
        config: &SenderConfig,
        actions: &mut Vec<Action>,
    ) -> Result<(), String> {
        if now >= self.next_heartbeat {
            let newest_sequence = tracker.standing().next_sequence - 1;
            self.add_loose(&Frame::Heartbeat { time: now, newest_sequence })?;
            self.next_heartbeat = now + self.heartbeat;
        }
        if let Some(sync) = &mut self.sync {
            let bulk = self.bulk.iter().any(|bulk| bulk.connected);
            sync.start_jobs(tracker, config, bulk, self.acknowledged, actions);
        }
        while self.unsent < MOST_UNSENT {
            let mut batch = std::mem::take(&mut self.loose);
            self.fill(now, tracker, &mut batch, actions)?;
            if batch.is_empty() {
                break;
            }
            self.unsent += batch.len();
            actions.push(Action::Send(batch));
        }
        actions.push(Action::WakeAt(self.next_heartbeat));
        Ok(())
    }

    /// Takes frames in their order, until the batch is full or the next one is not there yet.
    fn fill(
        &mut self,
        now: Time,
        tracker: &Tracker,
        batch: &mut Vec<u8>,
        actions: &mut Vec<Action>,
    ) -> Result<(), String> {
        while batch.len() < BATCH {
            let landed = match &mut self.sync {
                Some(sync) => {
                    let time = || match tracker.ends_at(self.sent_sequence, now) {
                        true => self.sent_time.max(now),
                        false => self.sent_time,
                    };
                    sync.take_landed(time, self.sent_sequence, batch)?
                }
                None => Landed::Later(u64::MAX),
            };
            let limit = match landed {
                Landed::Taken => continue,
                Landed::Waits => return Ok(()),
                Landed::Later(after) => after.min(tracker.sendable()),
            };
            if self.sent_sequence >= limit || !self.take_differential(tracker, limit, batch, actions)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes staged frames up to a number; false when there is none to be had now.
    fn take_differential(
        &mut self,
        tracker: &Tracker,
        limit: u64,
        batch: &mut Vec<u8>,
        actions: &mut Vec<Action>,
    ) -> Result<bool, String> {
        if self.reading {
            return Ok(false);
        }
        let mut taken = false;
        while batch.len() < BATCH {
            let Some((length, at)) = front_frame(&self.staged[self.staged_at..]) else { break };
            let number = at.sequence;
            if number > limit {
                return Ok(taken);
            }
            if number != self.sent_sequence + 1 {
                return Err(format!(
                    "the backlog has change {number} where {} is due; everything will be compared",
                    self.sent_sequence + 1
                ));
            }
            batch.extend_from_slice(&self.staged[self.staged_at..self.staged_at + length]);
            self.staged_at += length;
            self.place += length as u64;
            self.sent_sequence = number;
            self.sent_time = at.time;
            taken = true;
        }
        Ok(taken || self.stage_more(tracker, actions)?)
    }

    fn stage_more(&mut self, tracker: &Tracker, actions: &mut Vec<Action>) -> Result<bool, String> {
        self.staged.clear();
        self.staged_at = 0;
        match tracker.read(self.place, BATCH) {
            Stored::Nothing => return Ok(false),
            Stored::Frames(frames) => self.staged = frames,
            Stored::InFile { file, at, length } => {
                self.reading = true;
                let task = Task::ReadBacklog { file, at, length };
                actions.push(Action::Run(Job { session: self.number, task }));
                return Ok(false);
            }
        }
        match front_frame(&self.staged) {
            Some(_) => Ok(true),
            None => Err("a frame in the backlog is damaged; everything will be compared".to_owned()),
        }
    }

    fn add_loose(&mut self, frame: &Frame) -> Result<(), String> {
        encode(frame, Compression::None, &mut self.loose).map_err(|error| error.to_string())
    }
}
