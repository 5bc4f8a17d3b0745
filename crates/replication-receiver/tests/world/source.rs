//! A source agent, as plainly as it can be written: it keeps every change it ever made and a copy of its disks after
//! each, so it is the oracle as well.

use change_stream::{
    BookmarkKind, DiskDescription, Frame, Need, PROTOCOL_VERSION, Position, StreamId, SyncMode, Time,
};
use std::collections::{HashMap, VecDeque};
use testkit::Rng;

pub(crate) const DISKS: usize = 2;
pub(crate) const DISK_SIZE: usize = 6 * 1024 + 512;
const BLOCK: usize = 1024;

pub(crate) type Disks = [Vec<u8>; DISKS];

#[derive(Default)]
pub(crate) struct Source {
    pub(crate) disks: Disks,
    /// What the disks held after each change, by sequence number: the oracle.
    pub(crate) states: HashMap<(StreamId, u64), Disks>,
    stream: u8,
    history: Vec<Frame>,
    /// Number of the oldest change that can still be sent.
    oldest_held: u64,
    pub(crate) next_sequence: u64,
    session: Option<Session>,
    /// A sync that has not been acknowledged whole.
    syncing: Option<SyncMode>,
    pub(crate) acknowledged: u64,
    pub(crate) bookmarks: Vec<(u64, String)>,
}

/// A connection that was welcomed.
struct Session {
    next_to_send: u64,
    /// Blocks still to be hashed, then to be sent.
    to_hash: VecDeque<(usize, usize)>,
    hashing: HashMap<u64, (usize, usize)>,
    to_send: VecDeque<(usize, usize)>,
    sync_frames: u64,
    end_at: Option<u64>,
    bulk: u64,
}

impl Source {
    pub(crate) fn new(rng: &mut Rng) -> Source {
        let mut source = Source { oldest_held: 1, next_sequence: 1, stream: 1, ..Source::default() };
        for disk in &mut source.disks {
            *disk = vec![0; DISK_SIZE];
            if !rng.one_in(3) {
                rng.fill(&mut disk[1000..3000]);
            }
        }
        source.remember();
        source
    }

    pub(crate) fn stream(&self) -> StreamId {
        StreamId([self.stream; 16])
    }

    fn remember(&mut self) {
        self.states.insert((self.stream(), self.next_sequence - 1), self.disks.clone());
    }

    pub(crate) fn descriptions() -> Vec<DiskDescription> {
        (0..DISKS).map(|n| DiskDescription { id: format!("disk{n}"), size: DISK_SIZE as u64 }).collect()
    }

    pub(crate) fn hello(&mut self) -> Frame {
        self.session = None;
        Frame::Hello {
            version: PROTOCOL_VERSION,
            item: "web01".into(),
            stream: self.stream(),
            disks: Source::descriptions(),
            oldest_held: self.oldest_held,
            next_sequence: self.next_sequence,
            agent: "model".into(),
        }
    }

    /// Changes the disks and remembers the change.
    pub(crate) fn change(&mut self, rng: &mut Rng, time: Time) {
        let at = Position { sequence: self.next_sequence, time };
        let disk = rng.below(DISKS as u64) as usize;
        let longest = if rng.one_in(3) { 1500 } else { 200 };
        let length = 1 + rng.below(longest) as usize;
        let offset = rng.below((DISK_SIZE - length) as u64) as usize;
        let range = offset..offset + length;
        let (disk_number, offset, length) = (disk as u16, offset as u64, length as u64);
        let frame = match rng.below(10) {
            0 => {
                self.disks[disk][range].fill(0);
                Frame::WriteZeroes { at, disk: disk_number, offset, length }
            }
            1 => {
                self.disks[disk][range].fill(0);
                Frame::Discard { at, disk: disk_number, offset, length }
            }
            2 => Frame::Flush { at },
            3 => {
                let name = format!("mark {}", at.sequence);
                self.bookmarks.push((at.sequence, name.clone()));
                Frame::Bookmark { at, kind: BookmarkKind::ApplicationConsistent, name, group: None }
            }
            _ => {
                let mut data = vec![rng.next_u64() as u8; length as usize];
                if rng.one_in(2) {
                    rng.fill(&mut data);
                }
                self.disks[disk][range].copy_from_slice(&data);
                Frame::Write { at, disk: disk_number, offset, data }
            }
        };
        self.history.push(frame);
        self.next_sequence += 1;
        self.remember();
    }

    /// Gives up what it held: a backlog that overflowed.
    pub(crate) fn forget(&mut self) {
        self.oldest_held = self.next_sequence;
    }

    /// A new stream: a source that lost its state.
    pub(crate) fn restart_stream(&mut self) {
        self.stream += 1;
        self.history.clear();
        (self.oldest_held, self.next_sequence, self.acknowledged) = (1, 1, 0);
        self.session = None;
        self.remember();
    }

    /// Takes a frame of the master target and answers with the frames that begin a sync, if one is needed.
    pub(crate) fn take(&mut self, frame: Frame) -> Vec<Frame> {
        match frame {
            Frame::Welcome { durable_sequence, need, .. } => self.welcomed(durable_sequence, &need),
            Frame::Ack { durable_sequence, durable_sync } => {
                self.acknowledged = self.acknowledged.max(durable_sequence);
                let ended = self.session.as_ref().and_then(|session| session.end_at);
                if ended.is_some_and(|end| durable_sync >= end) {
                    self.syncing = None;
                }
                Vec::new()
            }
            Frame::HashReply { request, differs } => {
                if let Some(session) = &mut self.session {
                    let block = session.hashing.remove(&request).expect("an answer to a question");
                    if differs[0] & 1 != 0 {
                        session.to_send.push_back(block);
                    }
                }
                Vec::new()
            }
            other => panic!("a master target sent {other:?}"),
        }
    }

    fn welcomed(&mut self, durable: u64, need: &Need) -> Vec<Frame> {
        let lost = durable + 1 < self.oldest_held || durable >= self.next_sequence;
        let mode = match need {
            Need::InitialSync => Some(SyncMode::Initial),
            Need::Resync { .. } => Some(SyncMode::Resync),
            Need::Nothing if lost => Some(SyncMode::Resync),
            Need::Nothing => self.syncing.map(|_| SyncMode::Resync),
        };
        if mode.is_none() {
            self.acknowledged = self.acknowledged.max(durable);
        }
        let mut session = Session {
            next_to_send: durable + 1,
            to_hash: VecDeque::new(),
            hashing: HashMap::new(),
            to_send: VecDeque::new(),
            sync_frames: 0,
            end_at: None,
            bulk: 0,
        };
        let mut first = Vec::new();
        if let Some(mode) = mode {
            self.syncing = Some(mode);
            let restart = *need != Need::Nothing || lost;
            let base = if restart { self.next_sequence - 1 } else { durable };
            session.next_to_send = base + 1;
            let blocks = (0..DISKS).flat_map(|disk| (0..DISK_SIZE).step_by(BLOCK).map(move |at| (disk, at)));
            match mode {
                SyncMode::Initial => session.to_send = blocks.collect(),
                SyncMode::Resync => session.to_hash = blocks.collect(),
            }
            first.push(Frame::SyncBegin { mode, stream: self.stream(), base_sequence: base });
        }
        self.session = Some(session);
        first
    }

    /// The next frame for the ordered connection, and one for the bulk connection, if there is anything to send.
    pub(crate) fn next(&mut self, rng: &mut Rng, time: Time, bulk: bool) -> (Option<Frame>, Option<Frame>) {
        let Some(session) = &mut self.session else { return (None, None) };
        let all_sent = session.next_to_send == self.next_sequence;
        let sync_next = self.syncing.is_some() && session.end_at.is_none();
        if sync_next && (all_sent || rng.one_in(2)) {
            if let Some(block) = session.to_hash.pop_front() {
                return (Some(hash_blocks(session, &self.disks, block)), None);
            }
            // What a sync sends is what the disk holds at this place in the order, so all changes go first.
            if all_sent {
                if let Some(block) = session.to_send.pop_front() {
                    session.sync_frames += 1;
                    return sync_data(session, &self.disks, block, bulk && rng.one_in(2));
                }
                if session.hashing.is_empty() {
                    session.sync_frames += 1;
                    session.end_at = Some(session.sync_frames);
                    return (Some(Frame::SyncEnd { time, consistent: true }), None);
                }
            }
        }
        if all_sent {
            return (None, None);
        }
        let frame = self.history[session.next_to_send as usize - 1].clone();
        session.next_to_send += 1;
        (Some(frame), None)
    }

    /// Where it stands, for a failing run.
    pub(crate) fn standing(&self) -> String {
        let session = self.session.as_ref().map(|session| {
            let Session { next_to_send, to_hash, hashing, to_send, sync_frames, end_at, .. } = session;
            format!(
                "{next_to_send} {} {} {} {sync_frames} {end_at:?}",
                to_hash.len(),
                hashing.len(),
                to_send.len()
            )
        });
        format!(
            "{:?} of {}, acknowledged {}, {session:?}",
            self.syncing, self.next_sequence, self.acknowledged
        )
    }

    /// True when nothing is left to send or to wait for.
    pub(crate) fn is_done(&self) -> bool {
        let session = self.session.as_ref().is_some_and(|session| session.next_to_send == self.next_sequence);
        session && self.syncing.is_none() && self.acknowledged + 1 == self.next_sequence
    }
}

fn block_end(at: usize) -> usize {
    (at + BLOCK).min(DISK_SIZE)
}

fn hash_blocks(session: &mut Session, disks: &Disks, block: (usize, usize)) -> Frame {
    let (disk, at) = block;
    let bytes = &disks[disk][at..block_end(at)];
    session.bulk += 1;
    session.hashing.insert(session.bulk, block);
    Frame::HashBlocks {
        request: session.bulk,
        disk: disk as u16,
        offset: at as u64,
        block_size: BLOCK as u32,
        length: bytes.len() as u64,
        hashes: vec![*blake3::hash(bytes).as_bytes()],
    }
}

fn sync_data(
    session: &mut Session,
    disks: &Disks,
    (disk, at): (usize, usize),
    bulk: bool,
) -> (Option<Frame>, Option<Frame>) {
    let data = disks[disk][at..block_end(at)].to_vec();
    let (disk, offset, length) = (disk as u16, at as u64, data.len() as u32);
    if data.iter().all(|byte| *byte == 0) {
        return (Some(Frame::SyncZeroes { disk, offset, length: u64::from(length) }), None);
    }
    if !bulk {
        return (Some(Frame::SyncData { disk, offset, data }), None);
    }
    session.bulk += 1;
    let bulk = session.bulk;
    (Some(Frame::SyncReference { disk, offset, length, bulk }), Some(Frame::BulkData { bulk, data }))
}
