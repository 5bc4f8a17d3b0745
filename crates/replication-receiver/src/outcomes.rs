//! What the outcome of each job means for the item.

use crate::item::{Action, Cursor, Item, Notice};
use crate::job::Outcome;
use crate::pipeline::Durable;
use crate::status::Stage;
use change_stream::{Frame, StreamId, Time};
use journal::{BatchKind, PruneReport};

impl Item {
    pub(crate) fn job_done(&mut self, now: Time, outcome: Outcome, actions: &mut Vec<Action>) {
        match outcome {
            Outcome::PartDone => {}
            Outcome::Prepared(prepared) => self.pipeline.prepared(prepared),
            Outcome::Journaled { batch, number, room } => {
                self.pruned(now, room, actions);
                self.pipeline.journaled(batch, number);
            }
            Outcome::NoRoom { prepared, room } => {
                self.pruned(now, room.map(|report| *report), actions);
                self.pipeline.found_no_room(prepared);
                actions.push(Action::Notice(Notice::NoRoom));
            }
            Outcome::Applied { bytes } => {
                self.applied_bytes += bytes;
                let durable = self.pipeline.applied();
                self.became_durable(durable, actions);
            }
            Outcome::Recorded { room } => {
                self.pruned(now, room, actions);
                let durable = self.pipeline.recorded();
                self.became_durable(durable, actions);
            }
            Outcome::NoRoomToRecord => {
                self.pipeline.found_no_room_to_record();
                actions.push(Action::Notice(Notice::NoRoom));
            }
            Outcome::Hashed { connection, request, differs } => {
                if let Some(session) = &mut self.session {
                    session.hashing = session.hashing.saturating_sub(1);
                }
                actions.push(Action::Send { connection, frame: Frame::HashReply { request, differs } });
            }
            Outcome::TouchedFound { step, batches } => self.touched_found(step, batches),
            Outcome::Restored(prepared) => self.restored(prepared),
            Outcome::NoRoomToFinish => self.no_room_to_finish(actions),
            Outcome::RollbackFinished { step } => self.rollback_finished(&step, actions),
            Outcome::Pruned(report) => {
                self.pruning = false;
                self.prunable = report.bytes > 0 || !self.is_too_large();
                self.pruned(now, Some(report), actions);
            }
            Outcome::AppliedRecorded => self.end(Stage::Stopped, Notice::Stopped, actions),
            Outcome::Failed(error) => self.fence(&error, actions),
        }
    }

    /// Tells what was given up, and whether the window still wanted it (invariant 4).
    fn pruned(&self, now: Time, report: Option<PruneReport>, actions: &mut Vec<Action>) {
        let Some(report) = report.filter(|report| report.bytes > 0) else { return };
        actions.push(Action::Notice(match report.shrank(self.keep_from(now)) {
            true => Notice::WindowShrunk(report),
            false => Notice::Pruned(report),
        }));
    }

    fn became_durable(&mut self, durable: Option<Durable>, actions: &mut Vec<Action>) {
        let Some(Durable { header, session: sender, sync_frames }) = durable else { return };
        self.durable = Cursor {
            stream: StreamId(header.stream),
            sequence: header.last_sequence,
            time: header.source_time,
        };
        self.newest = self.journal.newest();
        if header.kind == BatchKind::Point {
            self.protected_until = Some(header.source_time);
        }
        if let Some(session) = &mut self.session {
            if session.id == sender {
                session.durable_sync = sync_frames;
            }
            if session.welcomed {
                let frame =
                    Frame::Ack { durable_sequence: header.last_sequence, durable_sync: session.durable_sync };
                actions.push(Action::Send { connection: session.connection, frame });
            }
        }
    }
}
