//! Works off what is dirty.
//!
//! In initial mode each dirty block is read and sent. In resync mode small parts are compared first: their hashes go
//! over, and only the parts that differ are read and sent. Parts are small at once, since comparing long blocks first
//! would save hashes but read most of what differs twice, on both sides. A block that was read waits until the change that its place names has been sent, and follows it. Its bits are cleared when
//! the target has its frames durably; those of a block found equal when the next sync frame after the answer is durable,
//! because then all that the target compared with is durable too. What is found equal may be so only since a change that
//! has not been sent yet, so the sync does not end before it.

use super::{Action, Progress, SenderConfig};
use crate::job::{Hashes, Job, Piece, ReadBlock, ReadTask, Task};
use crate::splitter::SplitterDisk;
use crate::tracker::{SyncStart, Tracker};
use change_stream::{Compression, Frame, Limits, SyncMode, Time, encode};
use disk::{ByteRange, Bytes};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// Bytes that are read as one.
const BLOCK: u64 = 1 << 20;
/// Bytes that are compared as one: their hashes take one part in 512 of what is compared.
const PART: u64 = 16 << 10;
/// Bytes whose hashes go over together.
const HASHED_TOGETHER: u64 = 8 << 20;
/// Numbers of bulk data that one block may use.
const BULK_PER_BLOCK: u64 = BLOCK / PART;
/// Blocks known to differ beyond which no more are compared.
const MOST_DIFFERING: usize = 64;

pub(super) struct Sync {
    session: u64,
    mode: SyncMode,
    start: SyncStart,
    consistent: bool,
    limits: Limits,
    window: u64,
    disks: Vec<Arc<SplitterDisk>>,
    progress: Progress,
    /// Where to look for dirty granules next.
    disk: u16,
    offset: u64,
    walked: bool,
    jobs: usize,
    numbers: u64,
    /// What was asked about, by the number of the question.
    questions: HashMap<u64, Area>,
    /// Newest change that was recorded when the sync began, or may show in what was compared: what was found equal is
    /// right once the target has it.
    compared: u64,
    differing: VecDeque<(Area, Vec<ByteRange>)>,
    /// Blocks being read, and bytes of data that are not acknowledged.
    reading: HashMap<u64, Area>,
    outstanding: u64,
    /// Blocks that were read, by the change they follow and their number.
    landed: BTreeMap<(u64, u64), LandedBlock>,
    /// Sync frames sent.
    frames: u64,
    /// What to clear once so many sync frames are durable.
    confirm: VecDeque<Confirm>,
    ended: Option<u64>,
}

#[derive(Clone, Copy)]
struct Area {
    disk: u16,
    range: ByteRange,
}

struct LandedBlock {
    area: Area,
    pieces: Vec<Piece>,
    /// Bulk frames handed on and not sent: a reference does not overtake its data.
    unsent_bulk: usize,
    bytes: u64,
}

struct Confirm {
    frames: u64,
    area: Area,
    bytes: u64,
}

/// What there is to send of the sync at a place in the order.
pub(super) enum Landed {
    /// Something was taken.
    Taken,
    /// It has to wait for bulk data, and so has everything after it.
    Waits,
    /// Nothing before the change after this one.
    Later(u64),
}

impl Sync {
    #[allow(clippy::too_many_arguments)] // one constructor, of plain facts
    pub(super) fn new(
        now: Time,
        session: u64,
        mode: SyncMode,
        start: SyncStart,
        total: u64,
        limits: Limits,
        config: &SenderConfig,
        disks: &[Arc<SplitterDisk>],
    ) -> Sync {
        Sync {
            session,
            mode,
            start,
            consistent: config.scan.is_none_or(|scan| scan.quiet),
            limits,
            window: config.window.min(limits.bulk_window).max(BLOCK),
            disks: disks.to_vec(),
            progress: Progress { done: 0, total, sent: 0, since: now },
            disk: 0,
            offset: 0,
            walked: false,
            jobs: 0,
            numbers: 0,
            questions: HashMap::new(),
            compared: start.newest,
            differing: VecDeque::new(),
            reading: HashMap::new(),
            outstanding: 0,
            landed: BTreeMap::new(),
            frames: 0,
            confirm: VecDeque::new(),
            ended: None,
        }
    }

    pub(super) fn mode(&self) -> SyncMode {
        self.mode
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    /// Starts as many jobs as may run.
    pub(super) fn start_jobs(
        &mut self,
        tracker: &Tracker,
        config: &SenderConfig,
        bulk: bool,
        acknowledged: u64,
        actions: &mut Vec<Action>,
    ) {
        let comparable = acknowledged >= self.start.newest && tracker.passed(self.start.barrier);
        while self.jobs < config.jobs.max(1) {
            let task = self.next_read(tracker, config, bulk).or_else(|| match comparable {
                true => self.next_hash(tracker),
                false => None,
            });
            let Some(task) = task else { return };
            self.jobs += 1;
            actions.push(Action::Run(Job { session: self.session, task }));
        }
    }

    fn next_read(&mut self, tracker: &Tracker, config: &SenderConfig, bulk: bool) -> Option<Task> {
        if self.outstanding > 0 && self.outstanding + BLOCK > self.window {
            return None;
        }
        let (area, ranges) = match self.differing.pop_front() {
            Some(differing) => differing,
            None if self.mode == SyncMode::Initial => {
                let area = self.walk(tracker, BLOCK, true)?;
                (area, vec![area.range])
            }
            None => return None,
        };
        let number = self.next_number();
        self.outstanding += length_of(&ranges);
        self.reading.insert(number, area);
        Some(Task::Read(ReadTask {
            block: number,
            disk: area.disk,
            splitter: self.disks.get(usize::from(area.disk))?.clone(),
            ranges,
            compression: config.compression,
            bulk: bulk.then_some(number * BULK_PER_BLOCK),
        }))
    }

    fn next_hash(&mut self, tracker: &Tracker) -> Option<Task> {
        let busy = self.questions.len() >= (self.limits.hash_requests as usize).max(1)
            || self.differing.len() >= MOST_DIFFERING;
        if self.mode == SyncMode::Initial || busy {
            return None;
        }
        let area = self.walk(tracker, HASHED_TOGETHER, false)?;
        let request = self.next_number();
        self.questions.insert(request, area);
        Some(Task::Hash {
            request,
            splitter: self.disks.get(usize::from(area.disk))?.clone(),
            range: area.range,
            block_size: PART as u32,
        })
    }

    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The next dirty run, at most so long, and within one aligned block if asked.
    fn walk(&mut self, tracker: &Tracker, limit: u64, in_block: bool) -> Option<Area> {
        while usize::from(self.disk) < self.disks.len() {
            if let Some(run) = tracker.next_dirty(self.disk, self.offset, limit) {
                let block_end = (run.start().0 / BLOCK + 1).saturating_mul(BLOCK);
                let end = if in_block { run.end().0.min(block_end) } else { run.end().0 };
                self.offset = end;
                return Some(Area { disk: self.disk, range: ByteRange::between(run.start(), Bytes(end)) });
            }
            self.disk += 1;
            self.offset = 0;
        }
        self.walked = true;
        None
    }

    /// The question to send, once its hashes are there.
    pub(super) fn hashed(&mut self, request: u64, hashes: Hashes) -> Option<Frame> {
        let Hashes { hashes, newest } = hashes;
        self.jobs -= 1;
        self.compared = self.compared.max(newest);
        let area = self.questions.get(&request)?;
        Some(Frame::HashBlocks {
            request,
            disk: area.disk,
            offset: area.range.start().0,
            block_size: PART as u32,
            length: area.range.length().0,
            hashes,
        })
    }

    /// Sorts the blocks of a question by its answer.
    pub(super) fn hash_reply(&mut self, request: u64, differs: &[u8]) {
        let Some(Area { disk, range }) = self.questions.remove(&request) else { return };
        let differs = |part: ByteRange| {
            let number = (part.start() - range.start()).0 / PART;
            differs.get((number / 8) as usize).is_none_or(|bits| bits & (1 << (number % 8)) != 0)
        };
        for block in aligned_pieces(range, BLOCK) {
            let area = Area { disk, range: block };
            let ranges = merged(aligned_pieces(block, PART).filter(|part| differs(*part)));
            match ranges.is_empty() {
                true => self.equal(area),
                false => self.differing.push_back((area, ranges)),
            }
        }
    }

    fn equal(&mut self, area: Area) {
        self.confirm.push_back(Confirm { frames: self.frames + 1, area, bytes: 0 });
    }

    /// Takes in a block that was read; returns its bulk frames, which may be sent at once.
    pub(super) fn block_read(&mut self, number: u64, read: ReadBlock) -> Vec<Vec<u8>> {
        self.jobs -= 1;
        let Some(area) = self.reading.remove(&number) else { return Vec::new() };
        let ReadBlock { place, mut pieces, bytes } = read;
        let bulk: Vec<Vec<u8>> = pieces.iter_mut().filter_map(|piece| piece.bulk.take()).collect();
        self.progress.sent += pieces.iter().map(|piece| piece.data_length).sum::<u64>();
        let block = LandedBlock { area, pieces, unsent_bulk: bulk.len(), bytes };
        self.landed.insert((place.after(), number), block);
        bulk
    }

    pub(super) fn bulk_sent(&mut self, number: u64) {
        let block = self.landed.iter_mut().find(|((_, landed), _)| *landed == number);
        if let Some((_, block)) = block {
            block.unsent_bulk -= 1;
        }
    }

    /// Takes what has its place after the change that was sent last, or the end of the sync; `time` tells the newest moment of
    /// which the target has everything then.
    pub(super) fn take_landed(
        &mut self,
        time: impl FnOnce() -> Time,
        sent_sequence: u64,
        batch: &mut Vec<u8>,
    ) -> Result<Landed, String> {
        let Some(entry) = self.landed.first_entry() else { return self.take_end(time, sent_sequence, batch) };
        let after = entry.key().0;
        if after > sent_sequence {
            return Ok(Landed::Later(after));
        }
        if entry.get().unsent_bulk > 0 {
            return Ok(Landed::Waits);
        }
        let block = entry.remove();
        self.frames += block.pieces.len() as u64;
        for piece in &block.pieces {
            batch.extend_from_slice(&piece.frame);
        }
        self.confirm.push_back(Confirm { frames: self.frames, area: block.area, bytes: block.bytes });
        Ok(Landed::Taken)
    }

    fn take_end(
        &mut self,
        time: impl FnOnce() -> Time,
        sent_sequence: u64,
        batch: &mut Vec<u8>,
    ) -> Result<Landed, String> {
        let busy = !self.walked
            || sent_sequence < self.compared
            || self.jobs > 0
            || !self.questions.is_empty()
            || !self.differing.is_empty();
        if busy || self.ended.is_some() {
            return Ok(Landed::Later(u64::MAX));
        }
        let frame = Frame::SyncEnd { time: time(), consistent: self.consistent };
        encode(&frame, Compression::None, batch).map_err(|error| error.to_string())?;
        self.frames += 1;
        self.ended = Some(self.frames);
        Ok(Landed::Taken)
    }

    /// Clears what is durable; tells when the sync has ended, and whether the target is level.
    pub(super) fn acknowledged(
        &mut self,
        tracker: &Tracker,
        epoch: u64,
        durable: u64,
    ) -> crate::Result<Option<bool>> {
        while let Some(confirm) = self.confirm.pop_front_if(|confirm| confirm.frames <= durable) {
            tracker.clear(epoch, confirm.area.disk, confirm.area.range)?;
            self.outstanding = self.outstanding.saturating_sub(confirm.bytes);
            self.progress.done += confirm.area.range.length().0;
        }
        let ended = self.ended.is_some_and(|end| end <= durable);
        Ok(ended.then_some(self.consistent))
    }
}

fn length_of(ranges: &[ByteRange]) -> u64 {
    ranges.iter().map(|range| range.length().0).sum()
}

/// A range cut at the multiples of a size.
fn aligned_pieces(range: ByteRange, size: u64) -> impl Iterator<Item = ByteRange> {
    let mut start = range.start().0;
    std::iter::from_fn(move || {
        let end = range.end().0.min((start / size + 1).saturating_mul(size));
        let piece = (start < end).then(|| ByteRange::between(Bytes(start), Bytes(end)));
        start = end;
        piece
    })
}

/// Ascending ranges with those joined that touch.
fn merged(ranges: impl Iterator<Item = ByteRange>) -> Vec<ByteRange> {
    let mut merged: Vec<ByteRange> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.end() == range.start() => {
                *last = ByteRange::between(last.start(), range.end());
            }
            _ => merged.push(range),
        }
    }
    merged
}
