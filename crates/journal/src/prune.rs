//! Pruning: whole segments go, oldest first.
//!
//! A segment is needed by every point before its last batch, so it can go when the oldest point that is to be kept
//! is not before that. Three rules stand above all wishes: the newest point stays, a batch that may not have
//! reached the disks stays, and the last segment stays, because its header alone remembers the batch before it.

use crate::Result;
use crate::index::Totals;
use crate::journal::Journal;
use crate::segment::Segment;
use crate::types::{BatchNumber, PruneReport};
use disk::Class;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Journal {
    /// Removes whole segments that no point in the window needs: the newest point that was received not after
    /// `keep_from` stays reachable, and every pinned point. Then removes the oldest closed segments until all take
    /// at most `max_bytes`.
    ///
    /// Where the clock jumped, points up to the first one received after `keep_from` count as older, no matter
    /// what later ones say: a jump back never shortens the window.
    pub fn prune(&self, keep_from: u64, max_bytes: Option<u64>) -> Result<PruneReport> {
        let _writer = self.writer();
        self.check_fence()?;
        let mut report = self.begin_report()?;
        let floor = self.floor().0;
        let kept = self.newest_point_before(keep_from)?.unwrap_or(floor);
        let pinned = self.pins().keys().next().copied().filter(|pin| *pin >= floor);
        let keep = kept.min(pinned.unwrap_or(kept)).max(floor);
        self.remove_oldest(&mut report, |segment, _| segment.last() <= keep)?;
        if let Some(most) = max_bytes {
            let excess = self.usage().bytes.saturating_sub(most);
            let before = report.bytes;
            let last_needed = self.last_removable()?;
            self.remove_oldest(&mut report, |segment, freed| {
                freed - before < excess && segment.last() <= last_needed
            })?;
        }
        report.oldest = self.oldest_point()?;
        Ok(report)
    }

    /// Removes the oldest segments until `bytes` are freed or only the newest point is left. When nothing else is
    /// left to remove, the open segment goes too, if all its batches have been applied and no point but the one
    /// at its end would still need it.
    pub fn make_room(&self, bytes: u64) -> Result<PruneReport> {
        let mut writer = self.writer();
        self.check_fence()?;
        let mut report = self.begin_report()?;
        let last_needed = self.last_removable()?;
        let wanted = |segment: &Segment, freed| freed < bytes && segment.last() <= last_needed;
        self.remove_oldest(&mut report, wanted)?;
        let only = self.segments().last().cloned();
        let only = only.filter(|only| {
            let applied = self.applied.load(Ordering::Acquire);
            only.last() >= only.first() && only.last() <= applied && wanted(only, report.bytes)
        });
        if only.is_some() {
            match self.start_segment(&mut writer) {
                Ok(()) => {
                    self.sync_all(&mut writer)?;
                    self.remove_oldest(&mut report, wanted)?;
                }
                // Not even a header fits. What was freed before may be enough; if nothing was, the caller waits.
                Err(error) if error.class() == Class::Full => {}
                Err(error) => return Err(error),
            }
        }
        report.oldest = self.oldest_point()?;
        Ok(report)
    }

    fn begin_report(&self) -> Result<PruneReport> {
        Ok(PruneReport { before: self.oldest_point()?.map(|point| point.number), ..PruneReport::default() })
    }

    /// The highest batch whose before-images the newest point can do without.
    fn last_removable(&self) -> Result<u64> {
        let newest = self.newest_point()?.map(|point| point.number.0);
        Ok(newest.unwrap_or(self.floor().0))
    }

    /// Removes segments from the oldest on, while `wanted` says so of the next one and what was freed so far.
    fn remove_oldest(&self, report: &mut PruneReport, wanted: impl Fn(&Segment, u64) -> bool) -> Result<()> {
        let applied = self.applied.load(Ordering::Acquire);
        loop {
            let segments = self.segments();
            let [oldest, rest @ ..] = &segments[..] else { return Ok(()) };
            if rest.is_empty() || oldest.last() > applied || !wanted(oldest, report.bytes) {
                return Ok(());
            }
            let rest: Vec<Arc<Segment>> = rest.to_vec();
            let first = rest[0].first();
            report.lost_pin = report.lost_pin.or(self.pin_between(self.floor().0, first - 1));
            // Views lose the segment before its file goes, so that they say why they end.
            self.change_state(|state| {
                state.segments = Arc::new(rest);
                state.floor = state.floor.max(first - 1);
            });
            let bytes = oldest.file_size();
            self.remove_segment(oldest)?;
            report.segments += 1;
            report.bytes += bytes;
        }
    }

    /// The oldest pinned point that a view can reach from `floor`, but not from `next`.
    fn pin_between(&self, floor: u64, next: u64) -> Option<BatchNumber> {
        let pins = self.pins();
        pins.range(floor..next.max(floor)).next().map(|(pin, _)| BatchNumber(*pin))
    }

    /// The last point before the first one that was received after `time`.
    fn newest_point_before(&self, time: u64) -> Result<Option<u64>> {
        let floor = self.floor().0;
        let mut newest = None;
        // Segments that are older as a whole need not be read.
        let recent = |totals: &Totals| {
            totals.points.is_some_and(|points| points.last >= floor && points.max_receive > time)
        };
        let segments = self.segments();
        for segment in segments.iter().take_while(|segment| !segment.totals(recent)) {
            newest = segment.totals(|totals| totals.points).map(|points| points.last).or(newest);
        }
        self.visit(false, recent, &mut |record| {
            let consistent = record.batch.as_ref().filter(|batch| batch.kind.is_consistent());
            match consistent.filter(|_| record.number >= floor) {
                Some(batch) if batch.receive_time > time => ControlFlow::Break(()),
                Some(_) => {
                    newest = newest.max(Some(record.number));
                    ControlFlow::Continue(())
                }
                None => ControlFlow::Continue(()),
            }
        })?;
        Ok(newest.filter(|newest| *newest >= floor))
    }
}
