//! The frames and what they are made of.

use std::fmt;

/// Nanoseconds since the Unix epoch.
pub type Time = u64;

/// Names one unbroken sequence of differential frames; the source makes a new one when it starts tracking.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StreamId(pub [u8; 16]);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a bookmark promises about the state it marks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BookmarkKind {
    /// As after a loss of power.
    CrashConsistent,
    /// Applications were quiesced.
    ApplicationConsistent,
}

/// How a sync brings the target level.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SyncMode {
    /// The target is blank or irrelevant: no hashes.
    Initial,
    /// The target holds an older state: hashes first, then what differs.
    Resync,
}

/// A disk of the item, as the source knows it. Frames name it by its place in `Hello`'s list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskDescription {
    /// Names the disk for as long as the item exists.
    pub id: String,
    /// Size in bytes.
    pub size: u64,
}

/// Place of a differential frame in its stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Position {
    /// Number of the frame, from 1, one more each.
    pub sequence: u64,
    /// When the change was made, by the source's clock.
    pub time: Time,
}

/// What the master target needs before differential frames make sense.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Need {
    /// Nothing: go on after the durable sequence number.
    Nothing,
    /// Everything: the target is blank.
    InitialSync,
    /// A comparison of everything.
    Resync {
        /// Why, for people.
        reason: String,
    },
}

macro_rules! refusal_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal),* $(,)?) => {
        /// Why a session is refused or ended.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum RefusalCode { $($(#[$doc])* $name = $code),* }

        impl RefusalCode {
            /// Every code.
            pub const ALL: &[RefusalCode] = &[$(RefusalCode::$name),*];

            pub(crate) fn from_code(code: u8) -> Option<RefusalCode> {
                match code {
                    $($code => Some(RefusalCode::$name),)*
                    _ => None,
                }
            }
        }
    };
}

refusal_codes! {
    /// Protocol version not spoken here.
    Version = 1,
    /// No such item.
    UnknownItem = 2,
    /// The peer's certificate is not for this item.
    NotAllowed = 3,
    /// Other disks than the item has.
    DiskMismatch = 4,
    /// Another source is connected for this item.
    Busy = 5,
    /// The item stopped after a failure and awaits recovery.
    Fenced = 6,
    /// The item has been failed over.
    FailedOver = 7,
    /// The session went on without a resync that is needed.
    ResyncRequired = 8,
    /// The peer broke the protocol.
    Protocol = 9,
    /// The master target is shutting down.
    ShuttingDown = 10,
}

/// What the master target takes from this source.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Limits {
    /// Most bytes of `BulkData` sent whose reference has not been acknowledged.
    pub bulk_window: u64,
    /// Most `HashBlocks` sent and not answered.
    pub hash_requests: u32,
    /// Seconds between heartbeats of an idle source.
    pub heartbeat_seconds: u32,
}

/// One frame. Those up to `Goodbye` go from source to master target, the others back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// Opens a session.
    Hello {
        /// [`crate::PROTOCOL_VERSION`] of the source.
        version: u16,
        /// The item whose changes follow.
        item: String,
        /// The stream that `oldest_held` and `next_sequence` count in.
        stream: StreamId,
        /// The item's disks, in the order that frames number them.
        disks: Vec<DiskDescription>,
        /// Oldest sequence number the source can still send; `next_sequence` when it holds none.
        oldest_held: u64,
        /// Number of the next change.
        next_sequence: u64,
        /// Name and version of the source agent, for people.
        agent: String,
    },
    /// Opens an extra connection of a session.
    BulkHello {
        /// [`crate::PROTOCOL_VERSION`] of the source.
        version: u16,
        /// The session's item.
        item: String,
        /// The session's stream.
        stream: StreamId,
        /// The session, as `Welcome` named it.
        session: u64,
    },
    /// Data was written.
    Write {
        /// Place in the stream.
        at: Position,
        /// Which disk.
        disk: u16,
        /// First byte.
        offset: u64,
        /// What was written, 1 to [`crate::MAX_DATA`] bytes.
        data: Vec<u8>,
    },
    /// A range was set to zero.
    WriteZeroes {
        /// Place in the stream.
        at: Position,
        /// Which disk.
        disk: u16,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// A range was given up; it reads as zeroes from here on.
    Discard {
        /// Place in the stream.
        at: Position,
        /// Which disk.
        disk: u16,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// The writer asked for all before it to be durable.
    Flush {
        /// Place in the stream.
        at: Position,
    },
    /// A moment worth recovering to.
    Bookmark {
        /// Place in the stream.
        at: Position,
        /// What it promises.
        kind: BookmarkKind,
        /// Its name.
        name: String,
        /// The replication group it belongs to, if any.
        group: Option<String>,
    },
    /// Nothing happened, and the source lives.
    Heartbeat {
        /// The source's clock.
        time: Time,
        /// Number of the newest change made, sent or not.
        newest_sequence: u64,
    },
    /// A sync begins.
    SyncBegin {
        /// How.
        mode: SyncMode,
        /// Stream of the differential frames that follow.
        stream: StreamId,
        /// They start at the number after this one.
        base_sequence: u64,
    },
    /// What a range of the source holds at this place in the order.
    SyncData {
        /// Which disk.
        disk: u16,
        /// First byte.
        offset: u64,
        /// What it holds, 1 to [`crate::MAX_DATA`] bytes.
        data: Vec<u8>,
    },
    /// A range of the source is zero at this place in the order.
    SyncZeroes {
        /// Which disk.
        disk: u16,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// Like `SyncData`; the data comes as `BulkData` on an extra connection.
    SyncReference {
        /// Which disk.
        disk: u16,
        /// First byte.
        offset: u64,
        /// Bytes, 1 to [`crate::MAX_DATA`].
        length: u32,
        /// Number of the `BulkData` that holds the data, unique in the session.
        bulk: u64,
    },
    /// A sync ends.
    SyncEnd {
        /// The source's clock.
        time: Time,
        /// From here on the target is level with the source.
        consistent: bool,
    },
    /// Data for a `SyncReference`.
    BulkData {
        /// Its number.
        bulk: u64,
        /// 1 to [`crate::MAX_DATA`] bytes.
        data: Vec<u8>,
    },
    /// Hashes (BLAKE3) of consecutive blocks of the source, to be compared.
    HashBlocks {
        /// Number of the question, unique in the session.
        request: u64,
        /// Which disk.
        disk: u16,
        /// First byte of the first block.
        offset: u64,
        /// Bytes in each block.
        block_size: u32,
        /// Bytes in all blocks; the last one may be short.
        length: u64,
        /// One hash for each block, 1 to [`crate::MAX_HASHES`].
        hashes: Vec<[u8; 32]>,
    },
    /// The source ends the session.
    Goodbye {
        /// Why, for people.
        reason: String,
    },
    /// Accepts a session.
    Welcome {
        /// [`crate::PROTOCOL_VERSION`] that both will speak.
        version: u16,
        /// Names the session, for extra connections.
        session: u64,
        /// Newest sequence number of the source's stream that is durable here.
        durable_sequence: u64,
        /// What has to come first.
        need: Need,
        /// What the master target takes.
        limits: Limits,
    },
    /// More has become durable.
    Ack {
        /// Newest differential frame that is durable, and all before it.
        durable_sequence: u64,
        /// How many `SyncData`, `SyncZeroes`, `SyncReference` and `SyncEnd` frames of this session are durable.
        durable_sync: u64,
    },
    /// Answers `HashBlocks`.
    HashReply {
        /// Which question.
        request: u64,
        /// Bit i, least significant first, is set where block i differs.
        differs: Vec<u8>,
    },
    /// Refuses or ends the session; the connection is closed afterwards.
    Refused {
        /// Why.
        code: RefusalCode,
        /// Why, for people.
        message: String,
    },
}

macro_rules! frame_types {
    ($($name:ident = $code:literal),* $(,)?) => {
        /// The type of a frame, as its header carries it.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        #[allow(missing_docs)] // the variants are those of `Frame`
        pub enum FrameType { $($name = $code),* }

        impl FrameType {
            /// Every type.
            pub const ALL: &[FrameType] = &[$(FrameType::$name),*];

            /// The type of a code, if there is one.
            pub fn from_code(code: u8) -> Option<FrameType> {
                match code {
                    $($code => Some(FrameType::$name),)*
                    _ => None,
                }
            }
        }

        impl Frame {
            /// The type of this frame.
            pub fn frame_type(&self) -> FrameType {
                match self { $(Frame::$name { .. } => FrameType::$name),* }
            }
        }
    };
}

frame_types! {
    Hello = 1,
    BulkHello = 2,
    Write = 3,
    WriteZeroes = 4,
    Discard = 5,
    Flush = 6,
    Bookmark = 7,
    Heartbeat = 8,
    SyncBegin = 9,
    SyncData = 10,
    SyncZeroes = 11,
    SyncReference = 12,
    SyncEnd = 13,
    BulkData = 14,
    HashBlocks = 15,
    Goodbye = 16,
    Welcome = 64,
    Ack = 65,
    HashReply = 66,
    Refused = 67,
}

impl FrameType {
    /// True for the frames that end in data, the only ones that may be compressed.
    pub fn carries_data(self) -> bool {
        matches!(self, FrameType::Write | FrameType::SyncData | FrameType::BulkData)
    }
}

impl fmt::Display for FrameType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Frame {
    /// Place in the stream of a differential frame, `None` for every other frame.
    pub fn position(&self) -> Option<Position> {
        match self {
            Frame::Write { at, .. }
            | Frame::WriteZeroes { at, .. }
            | Frame::Discard { at, .. }
            | Frame::Flush { at }
            | Frame::Bookmark { at, .. } => Some(*at),
            _ => None,
        }
    }
}
