//! Failover: the disks go back to a recovery point, to another one, or forward again, until commit.
//!
//! A rollback is one more source of batches: what was touched after the point is read as it was at the point, and
//! goes through the lanes of the pipeline as the writes of a source do.

use crate::batch::{Batch, Change};
use crate::item::{Action, Doing, Item, Notice};
use crate::job::{Job, RollbackStep, Work};
use crate::status::{Progress, Stage};
use crate::{Error, Result};
use change_stream::{StreamId, Time};
use disk::Bytes;
use journal::{BatchHeader, BatchKind, BatchNumber};

/// A failover under way or done.
#[derive(Debug)]
pub(crate) struct Failover {
    goal: Goal,
    /// The newest batch that was replicated: where a cancelled failover goes.
    forward: BatchNumber,
    rollback: Option<Rollback>,
    progress: Progress,
}

/// A rollback under way.
#[derive(Debug)]
struct Rollback {
    step: RollbackStep,
    reading: Reading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// The next part may be read.
    Ready,
    /// It is being read.
    Running,
    /// Everything was read; what is in the pipeline has yet to become durable.
    Complete,
    /// The end is being recorded.
    Recording,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// Go to this point, then stand there.
    Reach(BatchNumber),
    /// Stand at this point.
    Stand(BatchNumber),
    /// Go forward, then receive again.
    Cancel,
}

impl Rollback {
    fn read(&mut self, actions: &mut Vec<Action>) {
        self.reading = Reading::Running;
        actions.push(Action::Run(Job(Work::ReadPoint { step: self.step.clone() })));
    }
}

impl Failover {
    pub(crate) fn stage(&self) -> Stage {
        match self.goal {
            Goal::Stand(point) => Stage::FailedOver { point },
            Goal::Reach(point) => Stage::FailingOver { point },
            Goal::Cancel => Stage::FailingOver { point: self.forward },
        }
    }

    pub(crate) fn progress(&self) -> Option<Progress> {
        (!matches!(self.goal, Goal::Stand(_))).then_some(self.progress)
    }

    /// Where the disks go now, while they go anywhere.
    fn destination(&self) -> Option<BatchNumber> {
        match self.goal {
            Goal::Reach(point) => Some(point),
            Goal::Cancel => Some(self.forward),
            Goal::Stand(_) => None,
        }
    }
}

impl Item {
    /// After a restart: goes on with a failover that the journal shows.
    pub(crate) fn resume_failover(&mut self) -> Result<()> {
        let Some(newest) = self.newest.clone() else { return Ok(()) };
        let BatchKind::Rollback { to, finished } = newest.header.kind else { return Ok(()) };
        let forward = self.received_before(&newest)?.number;
        let goal = match (finished, self.summary(to)?.header.kind.is_consistent()) {
            (true, _) => Goal::Stand(to),
            (false, true) => Goal::Reach(to),
            // Only a cancelled failover goes to a boundary that is no point.
            (false, false) => Goal::Cancel,
        };
        self.doing =
            Doing::Failover(Failover { goal, forward, rollback: None, progress: Progress::default() });
        Ok(())
    }

    pub(crate) fn start_failover(&mut self, now: Time, point: BatchNumber, actions: &mut Vec<Action>) {
        let (code, why) = (change_stream::RefusalCode::FailedOver, format!("item {} fails over", self.name));
        self.end_session(code, why, actions);
        self.close_batch(now, None, false);
        let goal = Goal::Reach(point);
        match &mut self.doing {
            Doing::Failover(failover) if failover.rollback.is_none() => failover.goal = goal,
            Doing::Receiving => {
                let failover =
                    Failover { goal, forward: BatchNumber(0), rollback: None, progress: Progress::default() };
                self.doing = Doing::Failover(failover);
            }
            _ => {}
        }
    }

    pub(crate) fn cancel_failover(&mut self) {
        if let Doing::Failover(failover) = &mut self.doing
            && failover.rollback.is_none()
        {
            failover.goal = Goal::Cancel;
        }
    }

    pub(crate) fn commit(&mut self, actions: &mut Vec<Action>) {
        if let Doing::Failover(Failover { goal: Goal::Stand(_), .. }) = self.doing {
            self.end(Stage::Committed, Notice::Committed, actions);
        }
    }

    /// Takes the next step of a failover, if one is due.
    pub(crate) fn advance_failover(&mut self, now: Time, actions: &mut Vec<Action>) {
        // A pruning that is still running might take away what the rollback is about to read.
        let idle = self.pipeline.is_empty() && self.builder.is_empty() && !self.pruning;
        let has_room = self.pipeline.has_room();
        let Doing::Failover(failover) = &mut self.doing else { return };
        match &mut failover.rollback {
            Some(rollback) => match rollback.reading {
                Reading::Ready if has_room => rollback.read(actions),
                Reading::Complete if idle => {
                    rollback.reading = Reading::Recording;
                    let stand = failover.goal != Goal::Cancel;
                    let work = Work::FinishRollback { step: rollback.step.clone(), stand };
                    actions.push(Action::Run(Job(work)));
                }
                _ => {}
            },
            None if idle => {
                if let Err(error) = self.start_rollback(now, actions) {
                    self.fence(&error, actions);
                }
            }
            None => {}
        }
    }

    fn start_rollback(&mut self, now: Time, actions: &mut Vec<Action>) -> Result<()> {
        let base = self.journal.newest().map_or(BatchNumber(0), |newest| newest.number);
        let Doing::Failover(failover) = &mut self.doing else { return Ok(()) };
        let begins = failover.forward == BatchNumber(0);
        if begins {
            failover.forward = base;
        }
        let Some(to) = failover.destination() else { return Ok(()) };
        failover.progress = Progress::default();
        match self.check_point(to) {
            Err(gone @ Error::NoSuchPoint { .. }) if begins => {
                self.doing = Doing::Receiving;
                actions.push(Action::Notice(Notice::CommandFailed { why: gone.to_string() }));
                return Ok(());
            }
            checked if begins => checked?,
            _ => {}
        }
        let header = self.rollback_header(now, to)?;
        let step = RollbackStep { to, base, header, disk: 0, from: Bytes::ZERO };
        let mut rollback = Rollback { step, reading: Reading::Ready };
        rollback.read(actions);
        if let Doing::Failover(failover) = &mut self.doing {
            failover.rollback = Some(rollback);
        }
        Ok(())
    }

    fn rollback_header(&self, now: Time, to: BatchNumber) -> Result<BatchHeader> {
        let mut header = self.summary(to)?.header;
        header.first_sequence = header.last_sequence + 1;
        header.receive_time = now;
        header.bookmark = None;
        header.undo = true;
        Ok(header)
    }

    pub(crate) fn point_read(&mut self, step: RollbackStep, changes: Vec<Change>) {
        let Doing::Failover(failover) = &mut self.doing else { return };
        let before: u64 = self.disks[..usize::from(step.disk)].iter().map(|disk| disk.size).sum();
        let total = self.disks.iter().map(|disk| disk.size).sum();
        failover.progress = Progress { done: before + step.from.0, total };
        let mut header = step.header.clone();
        header.kind = BatchKind::Rollback { to: step.to, finished: false };
        let reading = if changes.is_empty() { Reading::Complete } else { Reading::Ready };
        failover.rollback = Some(Rollback { step, reading });
        if !changes.is_empty() {
            let bytes = changes.iter().map(|change| change.range.length().0).sum();
            self.pipeline.push(Batch { header, changes, session: 0, sync_frames: 0, bytes, closed: true });
        }
    }

    pub(crate) fn rollback_finished(&mut self, step: &RollbackStep, actions: &mut Vec<Action>) {
        let Doing::Failover(failover) = &mut self.doing else { return };
        failover.rollback = None;
        self.newest = self.journal.newest();
        let cursor = crate::item::Cursor {
            stream: StreamId(step.header.stream),
            sequence: step.header.last_sequence,
            time: step.header.source_time,
        };
        (self.received, self.durable, self.closed_sequence) = (cursor, cursor, cursor.sequence);
        if failover.goal == Goal::Cancel {
            self.doing = Doing::Receiving;
            actions.push(Action::Notice(Notice::FailoverCancelled));
        } else {
            failover.goal = Goal::Stand(step.to);
            actions.push(Action::Notice(Notice::FailedOver { point: step.to }));
        }
    }

    /// Refuses a point that the item cannot be put back to.
    pub fn check_point(&self, point: BatchNumber) -> Result<()> {
        let known = self.summary(point)?;
        let oldest = self.journal.oldest_point()?;
        let kept = oldest.is_some_and(|oldest| oldest.number <= point) && known.header.kind.is_consistent();
        if kept { Ok(()) } else { Err(Error::NoSuchPoint { item: self.name.clone(), point: point.0 }) }
    }
}
