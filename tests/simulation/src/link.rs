//! The network: connections that delay, hold back, and break without telling.

use change_stream::{Decoder, Frame, StreamId};
use replication_receiver::ConnectionId;
use std::collections::VecDeque;

/// A frame on its way to the target.
pub(crate) struct Parcel {
    pub(crate) frame: Frame,
    /// The oracle's book when it was sent.
    pub(crate) book: u64,
    /// It is the last one of so many bytes that were sent together.
    ends: Option<usize>,
}

/// One connection between source and target.
pub(crate) struct Link {
    pub(crate) id: ConnectionId,
    /// Number of an extra connection.
    pub(crate) bulk: Option<usize>,
    decoder: Decoder,
    /// Frames that have left the source's machine.
    sent: u64,
    /// Waiting in the source's operating system.
    queued: VecDeque<Parcel>,
    /// Under way to the target.
    pub(crate) flying: VecDeque<Parcel>,
    /// Under way to the source.
    pub(crate) answers: VecDeque<Frame>,
    /// The source's end is open, as far as the source knows.
    pub(crate) source_holds: bool,
    /// The target's end is open, as far as the target knows.
    pub(crate) target_holds: bool,
    /// The first frame has been handed to the target.
    pub(crate) greeted: bool,
    /// The stream that it carries, as the target was told.
    pub(crate) stream: Option<StreamId>,
    /// Nothing gets through any more.
    pub(crate) cut: bool,
}

impl Link {
    pub(crate) fn new(id: ConnectionId, bulk: Option<usize>) -> Link {
        Link {
            id,
            bulk,
            decoder: Decoder::new(),
            sent: 0,
            queued: VecDeque::new(),
            flying: VecDeque::new(),
            answers: VecDeque::new(),
            source_holds: true,
            target_holds: true,
            greeted: false,
            stream: None,
            cut: false,
        }
    }

    /// Takes encoded frames from the source.
    pub(crate) fn send(&mut self, bytes: &[u8], book: u64) {
        let mut at = 0;
        while at < bytes.len() {
            at += self.decoder.feed(&bytes[at..]);
            while let Some(frame) = self.decoder.next().expect("the source sends good frames") {
                self.queued.push_back(Parcel { frame, book, ends: None });
            }
        }
        assert_eq!(self.decoder.pending(), 0, "the source sends whole frames");
        if let Some(last) = self.queued.back_mut() {
            last.ends = Some(bytes.len());
        }
    }

    /// Lets one frame leave the source's machine, if there is room on the way; gives the bytes of which it was
    /// the last.
    pub(crate) fn transmit(&mut self, room: usize) -> Option<Option<usize>> {
        if self.cut || self.flying.len() >= room {
            return None;
        }
        let parcel = self.queued.pop_front()?;
        let ends = parcel.ends;
        self.sent += 1;
        if self.target_holds {
            self.flying.push_back(parcel);
        }
        Some(ends)
    }

    /// Nothing has left the source's machine yet.
    pub(crate) fn is_new(&self) -> bool {
        self.sent == 0
    }

    /// Nothing is left to be delivered to the target.
    pub(crate) fn is_drained(&self) -> bool {
        self.queued.is_empty() && self.flying.is_empty()
    }

    /// Breaks the connection: what is under way is lost, and neither end knows yet.
    pub(crate) fn break_off(&mut self) {
        self.cut = true;
        self.queued.clear();
        self.flying.clear();
        self.answers.clear();
    }
}
