//! Failover: the disks go back to a recovery point, to another one, or forward again, until commit.
//!
//! A rollback is one more source of batches: what was touched after the point is read as it was at the point, several
//! batches at a time, and goes through the lanes of the pipeline as the writes of a source do.

use crate::item::{Action, Doing, Item, Notice};
use crate::job::{Job, Prepared, Restore, RollbackBatch, RollbackStep, Work};
use crate::status::{Progress, Stage};
use crate::{Error, Result};
use change_stream::{StreamId, Time};
use disk::Bytes;
use journal::{BatchHeader, BatchKind, BatchNumber};
use std::collections::VecDeque;

/// Most batches of a rollback that are being read or wait for the journal.
const BATCHES_AHEAD: usize = 3;

/// A failover under way or done.
#[derive(Debug)]
pub(crate) struct Failover {
    goal: Goal,
    /// The newest batch that was replicated: where a cancelled failover goes.
    forward: BatchNumber,
    rollback: Option<Box<Rollback>>,
    progress: Progress,
}

/// A rollback under way.
#[derive(Debug)]
struct Rollback {
    step: RollbackStep,
    search: Search,
    /// Found, not begun.
    found: VecDeque<RollbackBatch>,
    /// Batches being read.
    restoring: usize,
    /// Read, waiting for the journal.
    restored: VecDeque<Prepared>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Search {
    /// There may be more to put back.
    Due,
    /// It is being looked for.
    Running,
    /// Everything was found.
    Complete,
    /// Everything was put back, and the end is being recorded.
    Recording,
    /// There was no room to record the end.
    LacksRoom,
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
    fn new(step: RollbackStep) -> Rollback {
        let (found, restored) = (VecDeque::new(), VecDeque::new());
        Rollback { step, search: Search::Due, found, restoring: 0, restored }
    }

    fn read_ahead(&mut self, actions: &mut Vec<Action>) {
        while self.restoring + self.restored.len() < BATCHES_AHEAD
            && let Some(batch) = self.found.pop_front()
        {
            self.restoring += 1;
            actions.extend(Restore::jobs(batch).map(|work| Action::Run(Job(work))));
        }
        if self.found.is_empty() && self.search == Search::Due {
            self.search = Search::Running;
            actions.push(Action::Run(Job(Work::FindTouched { step: self.step.clone() })));
        }
    }

    fn is_restored(&self) -> bool {
        self.search == Search::Complete
            && self.found.is_empty()
            && self.restoring == 0
            && self.restored.is_empty()
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
        let Doing::Failover(failover) = &mut self.doing else { return };
        match &mut failover.rollback {
            Some(rollback) if idle && rollback.is_restored() => {
                rollback.search = Search::Recording;
                let stand = failover.goal != Goal::Cancel;
                let work = Work::FinishRollback { step: rollback.step.clone(), stand };
                actions.push(Action::Run(Job(work)));
            }
            Some(rollback) => {
                if self.pipeline.takes_prepared()
                    && let Some(prepared) = rollback.restored.pop_front()
                {
                    self.pipeline.prepared(prepared);
                }
                rollback.read_ahead(actions);
            }
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
        let mut rollback = Rollback::new(step);
        rollback.read_ahead(actions);
        if let Doing::Failover(failover) = &mut self.doing {
            failover.rollback = Some(Box::new(rollback));
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

    pub(crate) fn touched_found(&mut self, step: RollbackStep, batches: Vec<RollbackBatch>) {
        let Some(rollback) = self.rollback() else { return };
        rollback.search = if batches.is_empty() { Search::Complete } else { Search::Due };
        rollback.step = step;
        rollback.found.extend(batches);
    }

    pub(crate) fn restored(&mut self, prepared: Prepared) {
        let before = |disk: u16| self.disks[..usize::from(disk)].iter().map(|disk| disk.size).sum::<u64>();
        let last = prepared.batch.changes.last();
        let done = last.map(|change| before(change.disk) + change.range.end().0);
        let total = before(self.disks.len() as u16);
        let Doing::Failover(failover) = &mut self.doing else { return };
        let Some(rollback) = &mut failover.rollback else { return };
        failover.progress = Progress { done: failover.progress.done.max(done.unwrap_or(0)), total };
        rollback.restoring -= 1;
        // A batch that holds already what it shall is as good as put back.
        if last.is_some() {
            rollback.restored.push_back(prepared);
        }
    }

    pub(crate) fn no_room_to_finish(&mut self, actions: &mut Vec<Action>) {
        if let Some(rollback) = self.rollback() {
            rollback.search = Search::LacksRoom;
            actions.push(Action::Notice(Notice::NoRoom));
        }
    }

    /// Lets everything that found the retention volume full try again.
    pub(crate) fn retry_room(&mut self) {
        if self.pipeline.lacks_room() {
            self.pipeline.retry_room();
        }
        if let Some(rollback) = self.rollback()
            && rollback.search == Search::LacksRoom
        {
            rollback.search = Search::Complete;
        }
    }

    /// True while something waits because the retention volume is full.
    pub(crate) fn lacks_room(&self) -> bool {
        let unfinished = match &self.doing {
            Doing::Failover(Failover { rollback: Some(rollback), .. }) => {
                rollback.search == Search::LacksRoom
            }
            _ => false,
        };
        unfinished || self.pipeline.lacks_room()
    }

    fn rollback(&mut self) -> Option<&mut Rollback> {
        match &mut self.doing {
            Doing::Failover(failover) => failover.rollback.as_deref_mut(),
            _ => None,
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
