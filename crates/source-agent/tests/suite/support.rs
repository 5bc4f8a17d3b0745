//! A target that is a slow, obvious oracle, and a world in which a source talks to it.

use change_stream::{
    Compression, Decoder, Frame, Limits, Need, PROTOCOL_VERSION, StreamId, SyncMode, encode,
};
use std::collections::{HashMap, VecDeque};

/// Applies frames to vectors of bytes, one after the other, checking everything that the protocol promises.
pub(crate) struct Target {
    pub(crate) disks: Vec<Vec<u8>>,
    stream: Option<StreamId>,
    pub(crate) sequence: u64,
    pub(crate) level: bool,
    initial: bool,
    time: u64,
    durable: Option<Durable>,
    session: Option<TargetSession>,
    pub(crate) sessions: u64,
    /// Bookmarks that came while level, with the disks at that moment.
    pub(crate) bookmarks: HashMap<String, Vec<Vec<u8>>>,
    /// Names of the bookmarks that came, in their order.
    pub(crate) bookmarks_taken: Vec<String>,
    pub(crate) sync_bytes: u64,
    pub(crate) sync_begins: Vec<SyncMode>,
    /// Nothing is acknowledged.
    pub(crate) is_mute: bool,
}

#[derive(Clone)]
struct Durable {
    disks: Vec<Vec<u8>>,
    stream: Option<StreamId>,
    sequence: u64,
    level: bool,
    initial: bool,
    bookmarks: HashMap<String, Vec<Vec<u8>>>,
}

#[derive(Default)]
struct TargetSession {
    greeted: bool,
    sync_frames: u64,
    bulk: HashMap<u64, Vec<u8>>,
    stalled: VecDeque<Frame>,
}

impl Target {
    pub(crate) fn new(sizes: &[usize]) -> Target {
        Target {
            disks: sizes.iter().map(|size| vec![0xee; *size]).collect(),
            stream: None,
            sequence: 0,
            level: false,
            initial: true,
            time: 0,
            durable: None,
            session: None,
            sessions: 0,
            bookmarks: HashMap::new(),
            bookmarks_taken: Vec::new(),
            sync_bytes: 0,
            sync_begins: Vec::new(),
            is_mute: false,
        }
    }

    /// Is level with a stream that has had no change yet, whatever the disks hold.
    pub(crate) fn adopt(&mut self, stream: StreamId) {
        self.stream = Some(stream);
    }

    /// Everything received so far is durable; says so.
    pub(crate) fn acknowledge(&mut self) -> Option<Frame> {
        if self.is_mute {
            return None;
        }
        self.save();
        let session = self.session.as_ref().filter(|session| session.greeted)?;
        Some(Frame::Ack { durable_sequence: self.sequence, durable_sync: session.sync_frames })
    }

    fn save(&mut self) {
        self.durable = Some(Durable {
            disks: self.disks.clone(),
            stream: self.stream,
            sequence: self.sequence,
            level: self.level,
            initial: self.initial,
            bookmarks: self.bookmarks.clone(),
        });
    }

    /// Goes back to what was durable.
    pub(crate) fn crash(&mut self) {
        self.session = None;
        self.time = 0;
        if let Some(durable) = self.durable.clone() {
            self.disks = durable.disks;
            self.stream = durable.stream;
            self.sequence = durable.sequence;
            self.level = durable.level;
            self.initial = durable.initial;
            self.bookmarks = durable.bookmarks;
        }
    }

    pub(crate) fn disconnect(&mut self) {
        self.session = None;
    }

    pub(crate) fn bulk(&mut self, frame: Frame) {
        let Some(session) = &mut self.session else { return };
        match frame {
            Frame::BulkData { bulk, data } => assert!(session.bulk.insert(bulk, data).is_none()),
            Frame::BulkHello { .. } => {}
            other => panic!("{other:?} on a bulk connection"),
        }
        while let Some(frame) = self.session.as_mut().and_then(|session| session.stalled.pop_front()) {
            if !self.try_apply(&frame) {
                self.session.as_mut().unwrap().stalled.push_front(frame);
                break;
            }
        }
    }

    /// Takes a frame of the main connection and returns an answer.
    pub(crate) fn frame(&mut self, frame: Frame) -> Option<Frame> {
        match frame {
            Frame::Hello { version, stream, next_sequence, oldest_held, disks, .. } => {
                assert_eq!(version, PROTOCOL_VERSION);
                assert!(oldest_held <= next_sequence);
                assert_eq!(disks.len(), self.disks.len());
                self.sessions += 1;
                self.session = Some(TargetSession { greeted: true, ..TargetSession::default() });
                self.save();
                let known = self.stream == Some(stream) && next_sequence > self.sequence;
                let need = match (self.stream, known) {
                    (None, _) => Need::InitialSync,
                    (_, true) => Need::Nothing,
                    _ => Need::Resync { reason: "another stream".into() },
                };
                let limits = Limits { bulk_window: 4 << 20, hash_requests: 3, heartbeat_seconds: 10 };
                let session = self.sessions;
                let version = PROTOCOL_VERSION;
                Some(Frame::Welcome { version, session, durable_sequence: self.sequence, need, limits })
            }
            Frame::HashBlocks { request, disk, offset, block_size, length, hashes } => {
                let mut differs = vec![0u8; hashes.len().div_ceil(8)];
                let range = &self.disks[disk as usize][offset as usize..(offset + length) as usize];
                for (index, block) in range.chunks(block_size as usize).enumerate() {
                    if blake3::hash(block).as_bytes() != &hashes[index] {
                        differs[index / 8] |= 1 << (index % 8);
                    }
                }
                Some(Frame::HashReply { request, differs })
            }
            frame => {
                let session = self.session.as_mut().expect("a session");
                if !session.stalled.is_empty() {
                    session.stalled.push_back(frame);
                } else if !self.try_apply(&frame) {
                    self.session.as_mut().unwrap().stalled.push_back(frame);
                }
                None
            }
        }
    }

    fn put(&mut self, disk: u16, offset: u64, data: &[u8]) {
        let (start, end) = (offset as usize, offset as usize + data.len());
        self.disks[usize::from(disk)][start..end].copy_from_slice(data);
    }

    fn zero(&mut self, disk: u16, offset: u64, length: u64) {
        self.disks[usize::from(disk)][offset as usize..(offset + length) as usize].fill(0);
    }

    fn try_apply(&mut self, frame: &Frame) -> bool {
        if let Some(at) = frame.position() {
            assert!(self.stream.is_some(), "a change before any sync");
            assert_eq!(at.sequence, self.sequence + 1, "the order has no gaps");
            assert!(at.time >= self.time, "time does not run backwards");
            self.sequence = at.sequence;
            self.time = at.time;
        }
        match frame {
            Frame::Write { disk, offset, data, .. } => self.put(*disk, *offset, data),
            Frame::WriteZeroes { disk, offset, length, .. } => self.zero(*disk, *offset, *length),
            Frame::Bookmark { name, .. } if self.level => {
                self.bookmarks.insert(name.clone(), self.disks.clone());
                self.bookmarks_taken.push(name.clone());
            }
            Frame::SyncBegin { mode, stream, base_sequence } => {
                if self.stream != Some(*stream) {
                    self.time = 0;
                }
                self.stream = Some(*stream);
                self.sequence = *base_sequence;
                self.level = false;
                self.initial = *mode == SyncMode::Initial;
                self.sync_begins.push(*mode);
            }
            Frame::SyncData { disk, offset, data } => {
                self.put(*disk, *offset, data);
                self.count_sync(data.len() as u64);
            }
            Frame::SyncZeroes { disk, offset, length } => {
                self.zero(*disk, *offset, *length);
                self.count_sync(0);
            }
            Frame::SyncReference { disk, offset, length, bulk } => {
                let Some(data) = self.session.as_mut().and_then(|session| session.bulk.remove(bulk)) else {
                    return false;
                };
                assert_eq!(data.len(), *length as usize);
                self.put(*disk, *offset, &data);
                self.count_sync(data.len() as u64);
            }
            Frame::SyncEnd { time, consistent } => {
                assert!(*time >= self.time, "a sync ends after the changes that it follows");
                // Whatever is recorded by then has come, or a later change would be older than this.
                self.time = *time;
                self.count_sync(0);
                self.level = *consistent;
            }
            _ => {}
        }
        true
    }

    fn count_sync(&mut self, bytes: u64) {
        assert!(!self.level, "sync frames only in a sync");
        self.sync_bytes += bytes;
        self.session.as_mut().expect("a session").sync_frames += 1;
    }
}

/// A connection: bytes on their way to the target.
#[derive(Default)]
pub(crate) struct Wire {
    decoder: Decoder,
    bytes: VecDeque<Vec<u8>>,
}

impl Wire {
    pub(crate) fn send(&mut self, bytes: Vec<u8>) {
        self.bytes.push_back(bytes);
    }

    pub(crate) fn send_frame(&mut self, frame: &Frame) {
        let mut bytes = Vec::new();
        encode(frame, Compression::None, &mut bytes).unwrap();
        self.bytes.push_back(bytes);
    }

    /// Delivers what was sent first: its frames and its length.
    pub(crate) fn deliver(&mut self) -> (Vec<Frame>, usize) {
        let Some(bytes) = self.bytes.pop_front() else { return (Vec::new(), 0) };
        let (mut frames, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            at += self.decoder.feed(&bytes[at..]);
            while let Some(frame) = self.decoder.next().unwrap() {
                frames.push(frame);
            }
        }
        (frames, bytes.len())
    }
}
