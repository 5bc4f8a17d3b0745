//! Finding batches and recovery points.

use crate::index::{Points, Totals};
use crate::journal::Journal;
use crate::record::{RECORD_HEADER, Record};
use crate::segment::Segment;
use crate::store::read_vec;
use crate::types::{BatchKind, BatchNumber, BatchSummary, PendingBatch, PointQuery};
use crate::{Error, Result};
use std::ops::ControlFlow;

impl Journal {
    /// A batch by its number, if the journal still knows it.
    pub fn summary(&self, batch: BatchNumber) -> Result<Option<BatchSummary>> {
        Ok(self.find(batch)?.and_then(|(record, _)| record.summary()))
    }

    /// The recovery points that a query asks for: consistent boundaries whose later batches are all here. A batch that
    /// is not noted as applied is none yet: what it writes is in neither journal nor disks.
    pub fn points(&self, query: &PointQuery) -> Result<Vec<BatchSummary>> {
        let (floor, applied) = (self.floor().0, self.noted_applied().0);
        let mut found = Vec::new();
        let mut take = |record: &Record| {
            if (floor..=applied).contains(&record.number) && query.wants(record) {
                found.extend(record.summary());
            }
            let enough = query.limit > 0 && found.len() >= query.limit;
            if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let relevant = |totals: &Totals| {
            totals.last >= floor && totals.points.is_some_and(|points| query.may_match(&points))
        };
        self.visit(query.newest_first, relevant, &mut take)?;
        Ok(found)
    }

    /// The oldest recovery point that can be reached.
    pub fn oldest_point(&self) -> Result<Option<BatchSummary>> {
        let query = PointQuery { limit: 1, ..PointQuery::default() };
        Ok(self.points(&query)?.pop())
    }

    /// The newest recovery point.
    pub fn newest_point(&self) -> Result<Option<BatchSummary>> {
        let query = PointQuery { limit: 1, newest_first: true, ..PointQuery::default() };
        Ok(self.points(&query)?.pop())
    }

    /// The newest point that came from the source and whose source time is not after this; where the source's clock
    /// jumped, the one of the highest number.
    pub fn point_at_time(&self, source_time: u64) -> Result<Option<BatchSummary>> {
        let query = PointQuery {
            to: Some(source_time),
            only_received: true,
            limit: 1,
            newest_first: true,
            ..PointQuery::default()
        };
        Ok(self.points(&query)?.pop())
    }

    /// The batches after the recorded applied mark, oldest first: those that a crash may have kept from reaching
    /// the disks whole.
    pub fn pending(&self) -> Result<Vec<PendingBatch>> {
        let newest = self.state_with(|state| state.newest_number());
        (self.recorded_applied().0 + 1..=newest)
            .map(|number| self.pending_batch(BatchNumber(number)))
            .collect()
    }

    fn pending_batch(&self, number: BatchNumber) -> Result<PendingBatch> {
        let Some((record, Some(segment))) = self.find(number)? else {
            return Err(self.out_of_reach(number));
        };
        let file = segment.file(&self.store)?;
        let (position, failed) = (record.place.position, "reading a pending batch");
        let length = RECORD_HEADER + record.body_length() as usize;
        let bytes = read_vec(&*file, position, length).map_err(self.store.failed(failed))?;
        let (header, body) = bytes.split_at(RECORD_HEADER);
        let corrupt = |what| self.store.corrupt(&segment.name, position, what);
        let (mut found, _) = Record::decode(header).map_err(corrupt)?;
        let (_, extents) = found.decode_body(header, body, &self.store.identity.disks).map_err(corrupt)?;
        match found.batch {
            Some(header) if found.number == number.0 => Ok(PendingBatch {
                number,
                header,
                extents: extents.iter().map(|extent| extent.pending()).collect(),
            }),
            _ => Err(corrupt("another record stands here")),
        }
    }

    pub(crate) fn out_of_reach(&self, batch: BatchNumber) -> Error {
        Error::OutOfReach { journal: self.store.name().to_owned(), batch, oldest: self.floor() }
    }

    /// A batch and the segment that holds it; the batch before the oldest segment has none any more.
    fn find(&self, batch: BatchNumber) -> Result<Option<(Record, Option<std::sync::Arc<Segment>>)>> {
        let segments = self.segments();
        let after = segments.partition_point(|segment| segment.first() <= batch.0);
        let Some(segment) = after.checked_sub(1).and_then(|at| segments.get(at)) else {
            let anchor = segments.first().and_then(|oldest| oldest.header.anchor.clone());
            return Ok(anchor.filter(|anchor| anchor.number == batch.0).map(|anchor| (anchor, None)));
        };
        if batch.0 > segment.last() {
            return Ok(None);
        }
        let rows = segment.rows_around(&self.store, batch.0)?;
        let row = rows.into_iter().find(|row| row.number == batch.0);
        Ok(row.map(|row| (row, Some(segment.clone()))))
    }

    /// Shows the batches to `visit` in order, skipping segments that are not `relevant`, until it breaks.
    pub(crate) fn visit(
        &self,
        newest_first: bool,
        relevant: impl Fn(&Totals) -> bool,
        visit: &mut dyn FnMut(&Record) -> ControlFlow<()>,
    ) -> Result<()> {
        let segments = self.segments();
        let anchor = segments.first().and_then(|oldest| oldest.header.anchor.as_ref());
        if !newest_first && anchor.is_some_and(|anchor| visit(anchor).is_break()) {
            return Ok(());
        }
        for number in 0..segments.len() {
            let at = if newest_first { segments.len() - 1 - number } else { number };
            if segments[at].totals(&relevant)
                && self.visit_segment(&segments[at], newest_first, visit)?.is_break()
            {
                return Ok(());
            }
        }
        if let Some(anchor) = anchor.filter(|_| newest_first) {
            let _ = visit(anchor);
        }
        Ok(())
    }

    fn visit_segment(
        &self,
        segment: &Segment,
        newest_first: bool,
        visit: &mut dyn FnMut(&Record) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let (first, last) = (segment.first(), segment.last());
        let (mut from, mut to) = (first, last);
        while from <= to {
            let mut rows = segment.rows_around(&self.store, if newest_first { to } else { from })?;
            rows.retain(|row| (from..=to).contains(&row.number));
            let (Some(lowest), Some(highest)) = (rows.first(), rows.last()) else { break };
            if newest_first {
                to = lowest.number - 1;
                rows.reverse();
            } else {
                from = highest.number + 1;
            }
            for row in &rows {
                if visit(row).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl PointQuery {
    fn wants(&self, record: &Record) -> bool {
        let Some(batch) = &record.batch else { return false };
        let bookmark = batch.bookmark.as_ref();
        batch.kind.is_consistent()
            && (!self.only_received || batch.kind == BatchKind::Point)
            && self.from.is_none_or(|from| batch.source_time >= from)
            && self.to.is_none_or(|to| batch.source_time <= to)
            && (!self.only_bookmarks || bookmark.is_some())
            && (!self.only_application_consistent
                || bookmark.is_some_and(|bookmark| bookmark.application_consistent))
    }

    fn may_match(&self, points: &Points) -> bool {
        self.from.is_none_or(|from| points.max_source >= from)
            && self.to.is_none_or(|to| points.min_source <= to)
            && (!(self.only_bookmarks || self.only_application_consistent) || points.bookmarks > 0)
    }
}
