//! The differential frames that the target has not acknowledged, on disk and partly in memory.
//!
//! Encoded frames stand back to back in segment files, each named by the sequence number of its first frame. A
//! frame's own header and checksum tell where it ends and whether it is whole, so what a killed process left behind
//! is read back up to the first frame that is not. The newest bytes are kept in memory as well: a sender that keeps
//! up reads nothing from the files.
//!
//! Places in the backlog are counted in bytes since it was opened, over all segments.

use change_stream::{Frame, HEADER_SIZE, MAX_DATA, MAX_TEXT, Position};
use disk::{Access, ByteRange, Bytes, Disk, File, Folder, Result};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes in the longest frame that is kept here, with room to spare.
pub(crate) const MAX_FRAME: usize = MAX_DATA + (16 << 10);

/// How much the backlog may hold.
#[derive(Clone, Copy, Debug)]
pub struct BacklogLimits {
    /// Bytes in all segments.
    pub bytes: u64,
    /// Bytes in one segment.
    pub segment: u64,
    /// Newest bytes that are kept in memory.
    pub cache: usize,
}

impl Default for BacklogLimits {
    fn default() -> BacklogLimits {
        BacklogLimits { bytes: 1 << 30, segment: 16 << 20, cache: 8 << 20 }
    }
}

/// Why a frame was not taken.
#[derive(Debug)]
pub(crate) enum NotTaken {
    Full,
    Failed(disk::Error),
}

/// What there is to read at a place.
pub(crate) enum Stored {
    /// Nothing newer.
    Nothing,
    /// Whole frames, from memory.
    Frames(Vec<u8>),
    /// They have to be read from a file first.
    InFile { file: Arc<dyn File>, at: Bytes, length: usize },
}

/// How closely it is known how much is acknowledged, in bytes.
const MARK: u64 = 64 << 10;

pub(crate) struct Backlog {
    folder: Arc<dyn Folder>,
    limits: BacklogLimits,
    segments: VecDeque<Segment>,
    bytes: u64,
    /// Place after the newest byte.
    end: u64,
    /// Place after the newest frame that is known to be acknowledged, and how many bytes were since it was opened.
    settled: u64,
    acknowledged: u64,
    /// Numbers of frames that are not acknowledged, about [`MARK`] bytes apart, each with the place after it.
    marks: VecDeque<(u64, u64)>,
    /// The newest bytes, as whole appends: the place of the first, and each.
    cache: VecDeque<Vec<u8>>,
    cached: usize,
}

struct Segment {
    name: String,
    file: Arc<dyn File>,
    /// Place of its first byte.
    start: u64,
    length: u64,
    first: u64,
    last: u64,
    /// What its frames changed: disk and range.
    touched: Vec<(u16, ByteRange)>,
}

fn segment_name(first: u64) -> String {
    format!("segment-{first:016x}")
}

impl Backlog {
    /// Reads what is there, up to the first frame that is torn. Changes after `completed` are uncertain.
    pub(crate) fn open(
        folder: Arc<dyn Folder>,
        limits: BacklogLimits,
        completed: u64,
    ) -> Result<(Backlog, Contents)> {
        let mut names: Vec<String> = folder.list()?;
        names.retain(|name| name.starts_with("segment-"));
        names.sort();
        let mut backlog = Backlog::empty(folder, limits);
        let mut contents = Contents { newest: None, followed: true, uncertain: Vec::new() };
        let mut torn = false;
        for name in names {
            contents.followed &= !torn;
            let file = backlog.folder.open(&name, Access::Write)?;
            let scan = Scan::of(&file, &mut contents, completed)?;
            if torn || scan.frames == 0 {
                torn = true;
                backlog.folder.remove(&name)?;
                continue;
            }
            torn = scan.length != file.size().0;
            if torn {
                file.set_size(Bytes(scan.length))?;
            }
            backlog.adopt(name, file, scan);
        }
        Ok((backlog, contents))
    }

    fn empty(folder: Arc<dyn Folder>, limits: BacklogLimits) -> Backlog {
        Backlog {
            folder,
            limits,
            segments: VecDeque::new(),
            bytes: 0,
            end: 0,
            settled: 0,
            acknowledged: 0,
            marks: VecDeque::new(),
            cache: VecDeque::new(),
            cached: 0,
        }
    }

    fn adopt(&mut self, name: String, file: Arc<dyn File>, scan: Scan) {
        let (start, length) = (self.end, scan.length);
        self.segments.push_back(Segment {
            name,
            file,
            start,
            length,
            first: scan.first,
            last: scan.last,
            touched: scan.touched,
        });
        self.bytes += length;
        self.end += length;
        self.marks.push_back((scan.last, self.end));
    }

    /// Appends one encoded frame. After an error the backlog must be cleared.
    pub(crate) fn append(
        &mut self,
        frame: &[u8],
        sequence: u64,
        touches: Option<(u16, ByteRange)>,
    ) -> std::result::Result<(), NotTaken> {
        let length = frame.len() as u64;
        if self.bytes + length > self.limits.bytes {
            return Err(NotTaken::Full);
        }
        let fits = self.segments.back().is_some_and(|segment| segment.length + length <= self.limits.segment);
        if !fits {
            self.add_segment(sequence).map_err(NotTaken::Failed)?;
        }
        let Some(segment) = self.segments.back_mut() else { return Err(NotTaken::Full) };
        segment.file.write_at(Bytes(segment.length), frame).map_err(NotTaken::Failed)?;
        segment.length += length;
        segment.last = sequence;
        touch(&mut segment.touched, touches);
        self.bytes += length;
        self.end += length;
        if self.marks.back().map_or(self.settled, |(_, place)| *place) + MARK <= self.end {
            self.marks.push_back((sequence, self.end));
        }
        self.remember(frame);
        Ok(())
    }

    fn add_segment(&mut self, sequence: u64) -> Result<()> {
        let name = segment_name(sequence);
        let file = self.folder.create(&name)?;
        self.segments.push_back(Segment {
            name,
            file,
            start: self.end,
            length: 0,
            first: sequence,
            last: sequence,
            touched: Vec::new(),
        });
        Ok(())
    }

    fn remember(&mut self, frame: &[u8]) {
        const JOIN: usize = 64 << 10;
        match self.cache.back_mut() {
            Some(last) if last.len() + frame.len() <= JOIN => last.extend_from_slice(frame),
            _ => {
                let mut chunk = Vec::with_capacity(frame.len().max(JOIN));
                chunk.extend_from_slice(frame);
                self.cache.push_back(chunk);
            }
        }
        self.cached += frame.len();
        while self.cached > self.limits.cache {
            let Some(oldest) = self.cache.pop_front() else { break };
            self.cached -= oldest.len();
        }
    }

    /// The frames up to this one are acknowledged. Forgets segments that have no others, but for the newest: it tells
    /// where numbering goes on.
    pub(crate) fn trim(&mut self, durable: u64) -> Result<()> {
        let mut settled = self.settled;
        while let Some((_, place)) = self.marks.pop_front_if(|(number, _)| *number <= durable) {
            settled = place;
        }
        if self.segments.back().is_none_or(|newest| newest.last <= durable) {
            settled = self.end;
        }
        self.acknowledged += settled - self.settled;
        self.settled = settled;
        while self.segments.len() > 1 && self.segments[0].last <= durable {
            self.remove_oldest()?;
        }
        Ok(())
    }

    fn remove_oldest(&mut self) -> Result<()> {
        let Some(segment) = self.segments.pop_front() else { return Ok(()) };
        self.bytes -= segment.length;
        self.folder.remove(&segment.name)
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.cache.clear();
        self.cached = 0;
        self.marks.clear();
        self.settled = self.end;
        while !self.segments.is_empty() {
            self.remove_oldest()?;
        }
        Ok(())
    }

    /// Number of the oldest frame held.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.segments.front().map(|segment| segment.first)
    }

    /// Bytes held, acknowledged or not.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that are not acknowledged; up to [`MARK`] bytes of acknowledged ones may be among them, but none when all are.
    pub(crate) fn waiting(&self) -> u64 {
        self.end - self.settled
    }

    /// Bytes that were acknowledged since it was opened, with the same grain.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// What the frames after `sequence`, and perhaps some before, changed.
    pub(crate) fn touched_after(&self, sequence: u64) -> impl Iterator<Item = (u16, ByteRange)> + '_ {
        let segments = self.segments.iter().filter(move |segment| segment.last > sequence);
        segments.flat_map(|segment| segment.touched.iter().copied())
    }

    /// The files that hold the frames from a sequence number on, and their lengths.
    pub(crate) fn files_from(&self, sequence: u64) -> Vec<(Arc<dyn File>, u64)> {
        let segments = self.segments.iter().filter(|segment| segment.last >= sequence);
        segments.map(|segment| (segment.file.clone(), segment.length)).collect()
    }

    /// Place of a frame that is held, or the end for the next one.
    pub(crate) fn locate(&self, sequence: u64) -> Result<u64> {
        let Some(segment) =
            self.segments.iter().find(|segment| (segment.first..=segment.last).contains(&sequence))
        else {
            return Ok(self.end);
        };
        let mut at = 0;
        let mut found = None;
        walk(&segment.file, segment.length, |frame, number| {
            if number == sequence {
                found = Some(at);
            }
            at += frame as u64;
            found.is_none()
        })?;
        Ok(segment.start + found.unwrap_or(at))
    }

    /// What follows a place: up to about `most` bytes of whole frames, or the part of a file that holds them.
    pub(crate) fn read(&self, place: u64, most: usize) -> Stored {
        if place >= self.end {
            return Stored::Nothing;
        }
        let cache_start = self.end - self.cached as u64;
        if place >= cache_start {
            return Stored::Frames(self.cached_after((place - cache_start) as usize, most));
        }
        let segment = self.segments.iter().find(|segment| place < segment.start + segment.length);
        let Some(segment) = segment else { return Stored::Nothing };
        let at = place.saturating_sub(segment.start);
        let length = (segment.length - at).min(most.max(MAX_FRAME) as u64);
        Stored::InFile { file: segment.file.clone(), at: Bytes(at), length: length as usize }
    }

    fn cached_after(&self, mut skip: usize, most: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for chunk in &self.cache {
            if skip >= chunk.len() {
                skip -= chunk.len();
                continue;
            }
            let part = &chunk[skip..];
            skip = 0;
            if !out.is_empty() && out.len() + part.len() > most {
                break;
            }
            out.extend_from_slice(part);
        }
        out
    }

    /// Makes all that is held durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.segments.iter().try_for_each(|segment| segment.file.sync())
    }
}

/// Adds a range, joining it with the newest where they meet: sequential writes leave one.
fn touch(touched: &mut Vec<(u16, ByteRange)>, touches: Option<(u16, ByteRange)>) {
    let Some((disk, range)) = touches else { return };
    if let Some((last_disk, last)) = touched.last_mut()
        && *last_disk == disk
        && range.start() <= last.end()
        && last.start() <= range.end()
    {
        *last = ByteRange::between(last.start().min(range.start()), last.end().max(range.end()));
        return;
    }
    touched.push((disk, range));
}

/// What was read back.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) newest: Option<LastFrame>,
    /// Nothing but the end of the newest segment was torn.
    pub(crate) followed: bool,
    /// What the uncertain changes touch.
    pub(crate) uncertain: Vec<(u16, ByteRange)>,
}

/// The newest frame that was read back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastFrame {
    pub(crate) sequence: u64,
    pub(crate) time: u64,
}

/// What a segment file holds.
#[derive(Default)]
struct Scan {
    first: u64,
    last: u64,
    length: u64,
    frames: u64,
    touched: Vec<(u16, ByteRange)>,
}

impl Scan {
    /// Reads frames until one is torn, damaged, or does not follow the one before.
    fn of(file: &Arc<dyn File>, contents: &mut Contents, completed: u64) -> Result<Scan> {
        let mut scan = Scan::default();
        let size = file.size().0;
        let mut decoder = change_stream::Decoder::new();
        let mut read = 0;
        loop {
            match decoder.next() {
                Ok(Some(frame)) => {
                    if !scan.take(&frame, contents, completed) {
                        break;
                    }
                    scan.length = read - decoder.pending() as u64;
                }
                Ok(None) if read < size => {
                    let buffer = decoder.read_buffer();
                    let length = (buffer.len() as u64).min(size - read) as usize;
                    file.read_at(Bytes(read), &mut buffer[..length])?;
                    decoder.advance(length);
                    read += length as u64;
                }
                Ok(None) | Err(_) => break,
            }
        }
        Ok(scan)
    }

    fn take(&mut self, frame: &Frame, contents: &mut Contents, completed: u64) -> bool {
        let Some(at) = frame.position() else { return false };
        if contents.newest.is_some_and(|last| last.sequence + 1 != at.sequence) {
            return false;
        }
        if self.frames == 0 {
            self.first = at.sequence;
        }
        self.frames += 1;
        self.last = at.sequence;
        contents.newest = Some(LastFrame { sequence: at.sequence, time: at.time });
        touch(&mut self.touched, touches(frame));
        if at.sequence > completed {
            touch(&mut contents.uncertain, touches(frame));
        }
        true
    }
}

/// What a differential frame changes.
pub(crate) fn touches(frame: &Frame) -> Option<(u16, ByteRange)> {
    let (disk, offset, length) = match frame {
        Frame::Write { disk, offset, data, .. } => (*disk, *offset, data.len() as u64),
        Frame::WriteZeroes { disk, offset, length, .. } | Frame::Discard { disk, offset, length, .. } => {
            (*disk, *offset, *length)
        }
        _ => return None,
    };
    ByteRange::new(Bytes(offset), Bytes(length)).map(|range| (disk, range))
}

/// Length and position of the encoded differential frame at the front of `bytes`, if it is there whole.
pub(crate) fn front_frame(bytes: &[u8]) -> Option<(usize, Position)> {
    let (header, payload) = bytes.split_first_chunk::<HEADER_SIZE>()?;
    let outline = change_stream::outline(header).ok()?;
    let (sequence, payload) = payload.split_first_chunk::<8>()?;
    let time = payload.first_chunk::<8>()?;
    let at = Position { sequence: u64::from_le_bytes(*sequence), time: u64::from_le_bytes(*time) };
    (outline.length <= bytes.len()).then_some((outline.length, at))
}

/// The number of the first bookmark of this name from a sequence number on, in a good segment.
pub(crate) fn find_bookmark(file: &Arc<dyn File>, length: u64, name: &str, from: u64) -> Result<Option<u64>> {
    /// No bookmark is longer.
    const LONGEST: usize = HEADER_SIZE + 64 + 2 * (MAX_TEXT + 2);
    let (mut at, mut candidates) = (0, Vec::new());
    walk(file, length, |frame, number| {
        if number >= from && frame <= LONGEST {
            candidates.push((at, frame, number));
        }
        at += frame as u64;
        true
    })?;
    for (at, frame, number) in candidates {
        let mut bytes = vec![0; frame];
        file.read_at(Bytes(at), &mut bytes)?;
        if matches!(decode(&bytes), Some(Frame::Bookmark { name: found, .. }) if found == name) {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

fn decode(mut bytes: &[u8]) -> Option<Frame> {
    let mut decoder = change_stream::Decoder::new();
    loop {
        if let Some(frame) = decoder.next().ok()? {
            return Some(frame);
        }
        if bytes.is_empty() {
            return None;
        }
        let buffer = decoder.read_buffer();
        let length = buffer.len().min(bytes.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        decoder.advance(length);
        bytes = &bytes[length..];
    }
}

/// Calls `visit` with length and number of each frame of a good segment, until it returns false.
fn walk(file: &Arc<dyn File>, length: u64, mut visit: impl FnMut(usize, u64) -> bool) -> Result<()> {
    let mut header = [0; HEADER_SIZE + 8];
    let mut at = 0;
    while at + header.len() as u64 <= length {
        file.read_at(Bytes(at), &mut header)?;
        let Some((front, rest)) = header.split_first_chunk::<HEADER_SIZE>() else { return Ok(()) };
        let (Ok(outline), Some(number)) = (change_stream::outline(front), rest.first_chunk::<8>()) else {
            return Ok(());
        };
        if !visit(outline.length, u64::from_le_bytes(*number)) {
            return Ok(());
        }
        at += outline.length as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::SimFolder;

    const LIMITS: BacklogLimits = BacklogLimits { bytes: 64 << 20, segment: 1 << 20, cache: 1 << 20 };

    #[test]
    fn what_waits_is_what_is_not_acknowledged() {
        let frame = |sequence| {
            let at = Position { sequence, time: sequence };
            let frame = Frame::WriteZeroes { at, disk: 0, offset: 0, length: 512 };
            let mut bytes = Vec::new();
            change_stream::encode(&frame, change_stream::Compression::None, &mut bytes).unwrap();
            bytes
        };
        let length = frame(1).len() as u64;
        let folder: Arc<dyn Folder> = Arc::new(SimFolder::new("state"));
        let (mut backlog, _) = Backlog::open(folder.clone(), LIMITS, 0).unwrap();
        for sequence in 1..=60_000 {
            backlog.append(&frame(sequence), sequence, None).map_err(|_| "not taken").unwrap();
        }
        assert!(backlog.segments.len() > 1, "{length}");
        assert_eq!((backlog.waiting(), backlog.acknowledged()), (60_000 * length, 0));
        for durable in [1, 5_000, 5_001, 30_000, 59_999] {
            backlog.trim(durable).unwrap();
            let waiting = backlog.waiting();
            let least = (60_000 - durable) * length;
            assert!((least..=least + MARK).contains(&waiting), "{durable}: {waiting}, of {least}");
            assert_eq!(waiting + backlog.acknowledged(), 60_000 * length);
        }
        drop(backlog);
        // After a start it is known by whole segments until something is acknowledged.
        let (mut backlog, _) = Backlog::open(folder, LIMITS, 0).unwrap();
        assert_eq!(backlog.waiting(), backlog.bytes());
        backlog.trim(60_000).unwrap();
        assert_eq!((backlog.waiting(), backlog.acknowledged()), (0, backlog.end));
        assert!(backlog.bytes() > 0, "the newest segment is held");
        backlog.append(&frame(60_001), 60_001, None).map_err(|_| "not taken").unwrap();
        assert_eq!(backlog.waiting(), length);
        backlog.clear().unwrap();
        assert_eq!((backlog.waiting(), backlog.acknowledged()), (0, backlog.end - length));
    }
}
