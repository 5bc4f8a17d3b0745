//! The connection of an item's source: one that carries the order, and extra ones that carry bulk data.

use crate::ConnectionId;
use change_stream::{Frame, StreamId, Time};
use std::collections::{HashMap, HashSet, VecDeque};

/// A source that is connected, from its `Hello` on.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: u64,
    pub(crate) connection: ConnectionId,
    pub(crate) peer: String,
    pub(crate) agent: String,
    pub(crate) stream: StreamId,
    /// Number of the source's next change when it connected.
    pub(crate) next_sequence: u64,
    pub(crate) last_heard: Time,
    /// True once `Welcome` was sent.
    pub(crate) welcomed: bool,
    /// Sync frames received, and how many of them are durable.
    pub(crate) sync_frames: u64,
    pub(crate) durable_sync: u64,
    pub(crate) bulk: Bulk,
    /// What the ordered frames wait for, and those that came meanwhile.
    pub(crate) blocked: Option<Blocked>,
    pub(crate) stalled: VecDeque<Frame>,
    pub(crate) hashing: usize,
}

impl Session {
    pub(crate) fn new(
        connection: ConnectionId,
        peer: String,
        agent: String,
        stream: StreamId,
        next_sequence: u64,
    ) -> Session {
        Session {
            id: 0,
            connection,
            peer,
            agent,
            stream,
            next_sequence,
            last_heard: 0,
            welcomed: false,
            sync_frames: 0,
            durable_sync: 0,
            bulk: Bulk::default(),
            blocked: None,
            stalled: VecDeque::new(),
            hashing: 0,
        }
    }
}

/// Why the next ordered frame has to wait.
#[derive(Debug)]
pub(crate) enum Blocked {
    /// A `SyncReference` whose data has not come yet.
    Data { disk: u16, offset: u64, length: u32, bulk: u64 },
    /// The rest of a long zeroing, taken in parts so that its before-images stay within bounds.
    Zeroes { disk: u16, offset: u64, length: u64, then: Then },
}

/// What the end of a long zeroing counts as.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    Sequence(change_stream::Position),
    SyncFrame,
}

/// Data that came over extra connections and whose place in the order is not known yet.
#[derive(Debug, Default)]
pub(crate) struct Bulk {
    pub(crate) connections: HashSet<ConnectionId>,
    arrived: HashMap<u64, Vec<u8>>,
    bytes: u64,
}

impl Bulk {
    /// Keeps data until it is referred to; false when its number is taken or the window is overrun.
    pub(crate) fn keep(&mut self, number: u64, data: Vec<u8>, window: u64) -> bool {
        let bytes = self.bytes + data.len() as u64;
        if bytes > window || self.arrived.contains_key(&number) {
            return false;
        }
        self.bytes = bytes;
        self.arrived.insert(number, data);
        true
    }

    pub(crate) fn take(&mut self, number: u64) -> Option<Vec<u8>> {
        let data = self.arrived.remove(&number)?;
        self.bytes -= data.len() as u64;
        Some(data)
    }
}
