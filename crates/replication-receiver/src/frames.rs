//! Sessions and frames: the handshake, the ordered frames, bulk data and hashes.

use crate::ConnectionId;
use crate::item::{Action, Doing, Item, Level, Notice, refuse};
use crate::job::{HashRequest, Job, Work};
use crate::session::{Blocked, Session, Then};
use change_stream::{
    BookmarkKind, Frame, Need, PROTOCOL_VERSION, Position, RefusalCode, StreamId, SyncMode, Time,
};
use disk::{ByteRange, Bytes};
use journal::Bookmark;

/// Blocks that are compared by hash are at least and at most this long.
const HASH_BLOCK: std::ops::RangeInclusive<u32> = 512..=4 << 20;
/// Long zeroings are taken in parts of this many bytes while before-images are kept.
const ZERO_PART: u64 = 1 << 20;
/// Frames that may arrive while the order waits for bulk data, before the peer is taken for hostile.
const MOST_STALLED: usize = 4096;

/// A frame that breaks the protocol: which code, and what was wrong.
type Violation = (RefusalCode, String);

fn violation<T>(what: impl Into<String>) -> Result<T, Violation> {
    Err((RefusalCode::Protocol, what.into()))
}

impl Item {
    pub(crate) fn connect(
        &mut self,
        now: Time,
        connection: ConnectionId,
        peer: String,
        hello: Frame,
        actions: &mut Vec<Action>,
    ) {
        let result = match hello {
            Frame::BulkHello { version, session, .. } => {
                self.connect_bulk(connection, &peer, version, session)
            }
            Frame::Hello { version, item, stream, disks, next_sequence, agent, .. } => {
                let described = self.check_hello(version, &item, &disks);
                let session = Session::new(connection, peer.clone(), agent, stream, next_sequence);
                described.and_then(|()| self.greet(now, session, actions))
            }
            _ => violation("the first frame must be Hello or BulkHello"),
        };
        if let Err((code, what)) = result {
            refuse(connection, peer, code, format!("item {}: {what}", self.name), actions);
        }
    }

    fn check_hello(
        &self,
        version: u16,
        item: &str,
        disks: &[change_stream::DiskDescription],
    ) -> Result<(), Violation> {
        if version != PROTOCOL_VERSION {
            let what =
                format!("version {version} of the change stream is not spoken here, {PROTOCOL_VERSION} is");
            return Err((RefusalCode::Version, what));
        }
        if item != self.name {
            return Err((RefusalCode::UnknownItem, format!("the source calls it {item}")));
        }
        if disks != self.disks {
            let show = |disks: &[change_stream::DiskDescription]| {
                let each = disks.iter().map(|disk| format!("{} of {} bytes", disk.id, disk.size));
                each.collect::<Vec<_>>().join(", ")
            };
            let what = format!(
                "the source has disks {}, the master target {}; make both configurations agree",
                show(disks),
                show(&self.disks)
            );
            return Err((RefusalCode::DiskMismatch, what));
        }
        Ok(())
    }

    fn connect_bulk(
        &mut self,
        connection: ConnectionId,
        peer: &str,
        version: u16,
        session: u64,
    ) -> Result<(), Violation> {
        if version != PROTOCOL_VERSION {
            return Err((
                RefusalCode::Version,
                format!("version {version} of the change stream is not spoken here"),
            ));
        }
        match &mut self.session {
            Some(current) if current.id == session && current.welcomed && current.peer == peer => {
                current.bulk.connections.insert(connection);
                Ok(())
            }
            _ => Err((RefusalCode::Busy, format!("session {session} is not under way; connect again"))),
        }
    }

    fn greet(&mut self, now: Time, mut session: Session, actions: &mut Vec<Action>) -> Result<(), Violation> {
        if !matches!(self.doing, Doing::Receiving) {
            return Err(self.not_receiving());
        }
        if let Some(current) = &self.session {
            // The same source again: its old connection was cut and nobody told us yet.
            if current.peer != session.peer || current.stream != session.stream {
                let what =
                    format!("{} is replicating it already; stop that source agent first", current.peer);
                return Err((RefusalCode::Busy, what));
            }
            let what = format!("item {}: the source opened a new session", self.name);
            self.end_session(RefusalCode::Busy, what, actions);
        }
        session.id = self.next_session;
        session.last_heard = now;
        self.next_session += 1;
        self.session = Some(session);
        Ok(())
    }

    /// Tells a source that waits for it where to go on, once everything received before is durable.
    pub(crate) fn welcome(&mut self, now: Time, actions: &mut Vec<Action>) {
        let Some(session) = self.session.as_mut().filter(|session| !session.welcomed) else { return };
        session.welcomed = true;
        session.last_heard = now;
        if matches!(self.level, Level::Reached | Level::Syncing { .. }) {
            let lost = match (
                session.stream == self.durable.stream,
                session.next_sequence > self.durable.sequence,
            ) {
                (true, true) => None,
                (true, false) => Some("the source has lost changes that it had sent"),
                (false, _) => Some("the source began a new change stream"),
            };
            if let Some(reason) = lost {
                self.level = Level::NeedsResync { reason: reason.to_owned() };
            }
        }
        let (connection, id) = (session.connection, session.id);
        actions.push(Action::Notice(Notice::Connected {
            peer: session.peer.clone(),
            agent: session.agent.clone(),
        }));
        let frame = Frame::Welcome {
            version: PROTOCOL_VERSION,
            session: id,
            durable_sequence: self.durable.sequence,
            need: self.need(),
            limits: self.config.limits,
        };
        actions.push(Action::Send { connection, frame });
    }

    pub(crate) fn disconnected(&mut self, connection: ConnectionId, actions: &mut Vec<Action>) {
        let Some(session) = &mut self.session else { return };
        if session.connection == connection {
            let bulk = session.bulk.connections.iter();
            actions.extend(bulk.map(|bulk| Action::Close { connection: *bulk }));
            self.session = None;
            actions.push(Action::Notice(Notice::Disconnected));
        } else {
            session.bulk.connections.remove(&connection);
        }
    }

    pub(crate) fn end_session(&mut self, code: RefusalCode, why: String, actions: &mut Vec<Action>) {
        let Some(session) = self.session.take() else { return };
        refuse(session.connection, session.peer, code, why, actions);
        actions.extend(session.bulk.connections.into_iter().map(|connection| Action::Close { connection }));
    }

    pub(crate) fn frame(
        &mut self,
        now: Time,
        connection: ConnectionId,
        frame: Frame,
        actions: &mut Vec<Action>,
    ) {
        let Some(session) = &mut self.session else { return };
        let is_main = session.connection == connection;
        if !session.welcomed || !(is_main || session.bulk.connections.contains(&connection)) {
            return;
        }
        session.last_heard = now;
        let result = match frame {
            Frame::BulkData { bulk, data } => self.bulk_data(bulk, data),
            Frame::HashBlocks { request, disk, offset, block_size, length, hashes } => {
                let request = HashRequest {
                    connection,
                    request,
                    disk,
                    range: ByteRange::between(Bytes::ZERO, Bytes::ZERO),
                    block_size,
                    hashes,
                };
                self.hash_blocks(request, offset, length, actions)
            }
            _ if !is_main => violation("this frame belongs on the session's first connection"),
            frame if session.blocked.is_some() => {
                session.stalled.push_back(frame);
                if session.stalled.len() > MOST_STALLED {
                    violation("too many frames before bulk data")
                } else {
                    Ok(())
                }
            }
            frame => self.ordered(now, frame, actions),
        };
        self.settle(result, actions);
    }

    fn settle(&mut self, result: Result<(), Violation>, actions: &mut Vec<Action>) {
        if let Err((code, what)) = result {
            self.end_session(code, format!("item {}: {what}", self.name), actions);
        }
    }

    fn bulk_data(&mut self, number: u64, data: Vec<u8>) -> Result<(), Violation> {
        let window = self.config.limits.bulk_window;
        self.received_bytes += data.len() as u64;
        let kept = self.session.as_mut().is_none_or(|session| session.bulk.keep(number, data, window));
        if kept {
            Ok(())
        } else {
            violation(format!("bulk data {number} came twice or overran {window} bytes"))
        }
    }

    fn hash_blocks(
        &mut self,
        mut request: HashRequest,
        offset: u64,
        length: u64,
        actions: &mut Vec<Action>,
    ) -> Result<(), Violation> {
        request.range = self.checked(request.disk, offset, length)?;
        if !HASH_BLOCK.contains(&request.block_size) {
            return violation(format!("hashed blocks of {} bytes are not compared", request.block_size));
        }
        if length.div_ceil(u64::from(request.block_size)) != request.hashes.len() as u64 {
            return violation("the number of hashes does not fit the range");
        }
        let most = self.config.limits.hash_requests as usize;
        if let Some(session) = &mut self.session {
            session.hashing += 1;
            if session.hashing > most {
                return violation(format!("more than {most} hash requests at once"));
            }
        }
        actions.push(Action::Run(Job(Work::Hash { request })));
        Ok(())
    }

    /// The range, when it is not empty and lies on the disk.
    fn checked(&self, disk: u16, offset: u64, length: u64) -> Result<ByteRange, Violation> {
        let Some(known) = self.disks.get(usize::from(disk)) else {
            return violation(format!("there is no disk number {disk}"));
        };
        match ByteRange::new(Bytes(offset), Bytes(length)) {
            Some(range) if length > 0 && range.end().0 <= known.size => Ok(range),
            _ => violation(format!(
                "{length} bytes at offset {offset} leave disk {}, which has {} bytes",
                known.id, known.size
            )),
        }
    }

    /// A frame of the session's first connection, in its place.
    fn ordered(&mut self, now: Time, frame: Frame, actions: &mut Vec<Action>) -> Result<(), Violation> {
        match frame {
            Frame::Write { at, disk, offset, data } => {
                self.checked(disk, offset, data.len() as u64)?;
                self.place(now, at)?;
                self.write(disk, offset, data);
                self.reached(Then::Sequence(at));
            }
            Frame::WriteZeroes { at, disk, offset, length } | Frame::Discard { at, disk, offset, length } => {
                self.checked(disk, offset, length)?;
                self.place(now, at)?;
                self.zero(disk, offset, length, Then::Sequence(at));
            }
            Frame::Flush { at } => {
                self.place(now, at)?;
                self.reached(Then::Sequence(at));
            }
            Frame::Bookmark { at, kind, name, group } => {
                self.place(now, at)?;
                self.reached(Then::Sequence(at));
                self.bookmark(now, kind, name, group, actions);
            }
            Frame::Heartbeat { time, newest_sequence } => self.heartbeat(time, newest_sequence),
            Frame::SyncBegin { mode, stream, base_sequence } => {
                self.sync_begin(now, mode, stream, base_sequence, actions)?;
            }
            Frame::SyncData { disk, offset, data } => {
                self.sync_place(now, disk, offset, data.len() as u64)?;
                self.write(disk, offset, data);
                self.reached(Then::SyncFrame);
            }
            Frame::SyncZeroes { disk, offset, length } => {
                self.sync_place(now, disk, offset, length)?;
                self.zero(disk, offset, length, Then::SyncFrame);
            }
            Frame::SyncReference { disk, offset, length, bulk } => {
                self.sync_place(now, disk, offset, u64::from(length))?;
                self.block(Blocked::Data { disk, offset, length, bulk });
            }
            Frame::SyncEnd { time, consistent } => self.sync_end(now, time, consistent, actions)?,
            Frame::Goodbye { .. } => {
                if let Some(session) = &self.session {
                    actions.push(Action::Close { connection: session.connection });
                }
            }
            _ => return violation("a frame came that only a master target or a first frame may be"),
        }
        Ok(())
    }

    /// Checks a differential frame's place in the order, and that it may come now.
    fn place(&mut self, now: Time, at: Position) -> Result<(), Violation> {
        if self.need() != Need::Nothing {
            return Err((
                RefusalCode::ResyncRequired,
                "a sync must begin before changes are taken".to_owned(),
            ));
        }
        if at.sequence != self.received.sequence.wrapping_add(1) {
            return violation(format!(
                "change {} came where {} was due",
                at.sequence,
                self.received.sequence.wrapping_add(1)
            ));
        }
        self.begin_batch(now);
        Ok(())
    }

    fn sync_place(&mut self, now: Time, disk: u16, offset: u64, length: u64) -> Result<(), Violation> {
        if !matches!(self.level, Level::Syncing { .. }) {
            return violation("sync data came outside of a sync");
        }
        let range = self.checked(disk, offset, length)?;
        let before: u64 = self.disks[..usize::from(disk)].iter().map(|disk| disk.size).sum();
        self.sync_position = self.sync_position.max(before + range.end().0);
        self.begin_batch(now);
        Ok(())
    }

    fn begin_batch(&mut self, now: Time) {
        if self.builder_is_full() && self.pipeline.has_room() {
            self.close_batch(now, None, false);
        }
        if self.builder.is_empty() && self.received.sequence == self.closed_sequence {
            self.builder_since = now;
        }
    }

    fn write(&mut self, disk: u16, offset: u64, data: Vec<u8>) {
        self.received_bytes += data.len() as u64;
        self.builder.write(disk, offset, data);
    }

    fn zero(&mut self, disk: u16, offset: u64, length: u64, then: Then) {
        if self.logs() && length > ZERO_PART {
            return self.block(Blocked::Zeroes { disk, offset, length, then });
        }
        self.builder.zero(disk, offset, length);
        self.reached(then);
    }

    /// The frame has been taken in whole.
    fn reached(&mut self, then: Then) {
        match (then, &mut self.session) {
            (Then::Sequence(at), _) => {
                self.received.sequence = at.sequence;
                self.received.time = at.time;
            }
            (Then::SyncFrame, Some(session)) => session.sync_frames += 1,
            (Then::SyncFrame, None) => {}
        }
    }

    fn block(&mut self, blocked: Blocked) {
        if let Some(session) = &mut self.session {
            session.blocked = Some(blocked);
        }
    }

    /// Goes on with what the order waited for, as far as it can.
    pub(crate) fn unblock(&mut self, now: Time, actions: &mut Vec<Action>) {
        while let Some(session) = &mut self.session {
            let result = match session.blocked.take() {
                Some(blocked) => match self.try_unblock(now, blocked) {
                    Ok(true) => Ok(()),
                    Ok(false) => return,
                    Err(violation) => Err(violation),
                },
                None => match session.stalled.pop_front() {
                    Some(frame) => self.ordered(now, frame, actions),
                    None => return,
                },
            };
            self.settle(result, actions);
        }
    }

    /// False when it still has to wait.
    fn try_unblock(&mut self, now: Time, blocked: Blocked) -> Result<bool, Violation> {
        match blocked {
            Blocked::Data { disk, offset, length, bulk } => {
                let Some(data) = self.session.as_mut().and_then(|session| session.bulk.take(bulk)) else {
                    self.block(Blocked::Data { disk, offset, length, bulk });
                    return Ok(false);
                };
                if data.len() as u64 != u64::from(length) {
                    return violation(format!(
                        "bulk data {bulk} has {} bytes instead of {length}",
                        data.len()
                    ));
                }
                self.begin_batch(now);
                self.builder.write(disk, offset, data);
                self.reached(Then::SyncFrame);
            }
            Blocked::Zeroes { disk, offset, length, then } => {
                self.begin_batch(now);
                if self.builder_is_full() {
                    self.block(Blocked::Zeroes { disk, offset, length, then });
                    return Ok(false);
                }
                let part = length.min(ZERO_PART);
                self.builder.zero(disk, offset, part);
                if part < length {
                    let rest = Blocked::Zeroes { disk, offset: offset + part, length: length - part, then };
                    self.block(rest);
                } else {
                    self.reached(then);
                }
            }
        }
        Ok(true)
    }

    fn bookmark(
        &mut self,
        now: Time,
        kind: BookmarkKind,
        name: String,
        group: Option<String>,
        actions: &mut Vec<Action>,
    ) {
        if self.level != Level::Reached {
            actions.push(Action::Notice(Notice::BookmarkDropped { name }));
            return;
        }
        let application_consistent = kind == BookmarkKind::ApplicationConsistent;
        self.close_batch(now, Some(Bookmark { application_consistent, name, group }), true);
    }

    fn heartbeat(&mut self, time: Time, newest_sequence: u64) {
        let all_durable = newest_sequence == self.durable.sequence && self.level == Level::Reached;
        if all_durable {
            self.protected_until = self.protected_until.max(Some(time));
        }
    }

    fn sync_begin(
        &mut self,
        now: Time,
        mode: SyncMode,
        stream: StreamId,
        base_sequence: u64,
        actions: &mut Vec<Action>,
    ) -> Result<(), Violation> {
        let goes_on = self.need() == Need::Nothing && stream == self.received.stream;
        if goes_on && base_sequence < self.received.sequence {
            return violation(format!(
                "a sync goes back to change {base_sequence}, but {} was received",
                self.received.sequence
            ));
        }
        self.close_batch(now, None, false);
        self.level = Level::Syncing { mode };
        self.sync_position = 0;
        self.received.stream = stream;
        self.received.sequence = base_sequence;
        self.closed_sequence = base_sequence;
        if let Some(session) = &mut self.session {
            session.stream = stream;
        }
        // From here on the disks are between two states: recorded before anything of the sync is written.
        self.close_batch(now, None, true);
        actions.push(Action::Notice(Notice::SyncStarted(mode)));
        Ok(())
    }

    fn sync_end(
        &mut self,
        now: Time,
        time: Time,
        consistent: bool,
        actions: &mut Vec<Action>,
    ) -> Result<(), Violation> {
        if !matches!(self.level, Level::Syncing { .. }) {
            return violation("a sync ended that had not begun");
        }
        self.reached(Then::SyncFrame);
        self.received.time = time;
        if consistent {
            self.level = Level::Reached;
            actions.push(Action::Notice(Notice::SyncFinished));
        }
        self.close_batch(now, None, true);
        self.has_points |= consistent;
        Ok(())
    }
}
