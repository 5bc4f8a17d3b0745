//! The actor's end of a connection.

use change_stream::Frame;
use std::collections::VecDeque;
use tokio::sync::{mpsc, watch};

/// Names a connection; never used twice.
pub(crate) type ConnectionId = replication_receiver::ConnectionId;

/// Frames that may wait for a peer which does not read: more, and it is taken for gone.
pub(crate) const OUTGOING_QUEUE: usize = 256;

/// Dropping it closes the connection after everything sent on it.
pub(crate) struct Link {
    /// Frames to the peer.
    pub(crate) frames: mpsc::Sender<Frame>,
    /// False while the connection is not to be read.
    pub(crate) gate: watch::Sender<bool>,
    /// Frames that came while they were not wanted.
    pub(crate) waiting: VecDeque<Frame>,
    /// True when nothing more had arrived behind the last frame.
    pub(crate) drained: bool,
}

impl Link {
    pub(crate) fn new(frames: mpsc::Sender<Frame>, gate: watch::Sender<bool>) -> Link {
        Link { frames, gate, waiting: VecDeque::new(), drained: true }
    }

    /// Opens or shuts the gate.
    pub(crate) fn set_open(&self, open: bool) {
        self.gate.send_if_modified(|state| std::mem::replace(state, open) != open);
    }
}
