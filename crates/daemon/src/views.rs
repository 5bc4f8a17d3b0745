//! A disk as it was at a recovery point, held as long as someone looks at it.

use control_api::{Failure, PointSelector};
use disk::{ByteRange, Bytes, Disk, Extent};
use journal::{BatchNumber, BatchSummary, Pin, PointQuery, PointView};
use replication_receiver::Storage;
use std::sync::Arc;

/// The recovery point that a person means.
pub(crate) fn resolve(storage: &Storage, selector: &PointSelector) -> Result<BatchSummary, Failure> {
    let item = &storage.identity().item;
    let journal = storage.journal();
    let newest = PointQuery { limit: 1, newest_first: true, ..PointQuery::default() };
    let found = match selector {
        PointSelector::Latest => {
            let query = PointQuery { only_received: true, ..newest };
            journal.points(&query).map(|mut points| points.pop())
        }
        PointSelector::LatestApplicationConsistent => {
            let query = PointQuery { only_application_consistent: true, ..newest };
            journal.points(&query).map(|mut points| points.pop())
        }
        PointSelector::Number(number) => numbered(storage, BatchNumber(*number)),
        PointSelector::Time(time) => journal.point_at_time(*time),
        PointSelector::Bookmark(name) => {
            let query = PointQuery { only_bookmarks: true, limit: 0, ..newest };
            let named =
                |point: &BatchSummary| point.header.bookmark.as_ref().is_some_and(|b| b.name == *name);
            journal.points(&query).map(|points| points.into_iter().find(named))
        }
    };
    let failed = |why: String| {
        let next = format!("mtctl points {item} lists the recovery points there are");
        Failure::new(item, format!("cannot find the recovery point {selector}"), why, next)
    };
    match found {
        Ok(Some(point)) => Ok(point),
        Ok(None) => Err(failed("there is none of this kind in the retention window".into())),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn numbered(storage: &Storage, number: BatchNumber) -> journal::Result<Option<BatchSummary>> {
    let oldest = storage.journal().oldest_point()?;
    if oldest.is_none_or(|oldest| number < oldest.number) {
        return Ok(None);
    }
    Ok(storage.journal().summary(number)?.filter(|batch| batch.header.kind.is_consistent()))
}

/// A disk of an item at a recovery point. While it lives the point is not pruned for its age, and the item's disks
/// and journal stay open.
pub(crate) struct HeldView {
    view: PointView,
    _pin: Arc<Pin>,
    _storage: Arc<Storage>,
}

impl HeldView {
    /// Every disk of the item at `point`, in the order of the item.
    pub(crate) fn all(storage: &Arc<Storage>, point: BatchNumber) -> journal::Result<Vec<HeldView>> {
        let pin = Arc::new(storage.journal().pin(point));
        let disks = (0u16..).zip(storage.disks());
        disks
            .map(|(number, live)| {
                let view = PointView::new(storage.journal().clone(), point, number, live.clone())?;
                Ok(HeldView { view, _pin: pin.clone(), _storage: storage.clone() })
            })
            .collect()
    }
}

impl Disk for HeldView {
    fn name(&self) -> &str {
        self.view.name()
    }

    fn size(&self) -> Bytes {
        self.view.size()
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> disk::Result<()> {
        self.view.read_at(offset, buffer)
    }

    fn write_at(&self, offset: Bytes, data: &[u8]) -> disk::Result<()> {
        self.view.write_at(offset, data)
    }

    fn write_zeroes(&self, range: ByteRange) -> disk::Result<()> {
        self.view.write_zeroes(range)
    }

    fn sync(&self) -> disk::Result<()> {
        self.view.sync()
    }

    fn extent_at(&self, offset: Bytes) -> disk::Result<Extent> {
        self.view.extent_at(offset)
    }
}
