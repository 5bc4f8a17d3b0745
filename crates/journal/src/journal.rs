//! The journal itself: creating, opening, and what is asked of it without reading.

use crate::append::Writer;
use crate::encode::{self, EncodedBatch};
use crate::record::Record;
use crate::segment::{Index, Segment, first_of_name};
use crate::store::Store;
use crate::types::{BatchHeader, BatchNumber, BatchSummary, Identity, Options, UndoExtent, Usage};
use crate::{Error, Result};
use disk::{Access, Bytes, File, Folder};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

/// Name of a segment's file until its header is durable.
pub(crate) const UNFINISHED: &str = "segment.new";

/// The journal of one item.
///
/// All methods may be called by many threads at once; those that write run one after the other.
pub struct Journal {
    pub(crate) store: Store,
    writer: Mutex<Writer>,
    state: RwLock<State>,
    /// What [`Journal::note_applied`] was told.
    pub(crate) applied: AtomicU64,
    fence: Mutex<Option<String>>,
    /// Bytes appended since it was opened.
    pub(crate) appended: AtomicU64,
    /// How many pins hold each point.
    pins: Mutex<BTreeMap<u64, usize>>,
}

/// What changes when a batch is appended or a segment comes or goes.
#[derive(Clone, Default)]
pub(crate) struct State {
    /// Oldest first, never empty.
    pub(crate) segments: Arc<Vec<Arc<Segment>>>,
    pub(crate) newest: Option<Record>,
    /// The oldest boundary from which on every batch has its before-images here.
    pub(crate) floor: u64,
}

impl State {
    pub(crate) fn newest_number(&self) -> u64 {
        self.newest.as_ref().map_or(0, |newest| newest.number)
    }
}

/// Keeps a point from being pruned by time while it exists. Pruning for space does not look at it: a view that is
/// held must not hold up replication. What was given up so is told by [`crate::PruneReport::lost_pin`].
pub struct Pin {
    journal: Arc<Journal>,
    point: BatchNumber,
}

impl Pin {
    /// The point that is kept.
    pub fn point(&self) -> BatchNumber {
        self.point
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.journal.pins();
        if let Some(count) = pins.get_mut(&self.point.0) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.point.0);
            }
        }
    }
}

impl Journal {
    /// Creates a journal in a folder that holds none. It is durable when this returns.
    pub fn create(folder: Arc<dyn Folder>, identity: &Identity, options: Options) -> Result<Journal> {
        check_identity(&*folder, identity)?;
        let store = Store::new(folder, identity, options);
        if !segment_names(&store)?.is_empty() {
            return Err(Error::Exists { folder: store.name().to_owned() });
        }
        let journal = Journal::with_store(store, State::default(), 0);
        {
            let mut writer = journal.writer();
            journal.start_segment(&mut writer)?;
            journal.sync_all(&mut writer)?;
        }
        Ok(journal)
    }

    /// Opens the journal in a folder: drops a torn end, and reports damage before it.
    ///
    /// Only headers and footers are read, and the records of the one segment that was being written. What may not
    /// have been durable at the end of the journal is written again and synced, because a sync that failed earlier
    /// may have left it in memory only.
    pub fn open(folder: Arc<dyn Folder>, identity: &Identity, options: Options) -> Result<Journal> {
        check_identity(&*folder, identity)?;
        let store = Store::new(folder, identity, options);
        let names = segment_names(&store)?;
        let mut segments: Vec<Arc<Segment>> = Vec::with_capacity(names.len());
        let mut why_unfinished = None;
        for (number, name) in names.iter().enumerate() {
            let is_last = number + 1 == names.len();
            let (segment, file) = open_file(&store, name, is_last)?;
            if let Some(before) = segments.last() {
                follows(&store, before, &segment, why_unfinished.take())?;
            }
            if let Err(what) = segment.read_footer(&store, &*file)? {
                let found = segment.scan(&store, &*file, is_last)?;
                why_unfinished = Some((found.index.totals.end, format!("{}, and {what}", found.stop)));
                if is_last {
                    segment.set_index(Index::Memory(found.index));
                } else {
                    segment.set_rebuilt(found.index);
                }
            }
            segments.push(Arc::new(segment));
        }
        let Some(last) = segments.last().cloned() else {
            return Err(Error::Missing { folder: store.name().to_owned() });
        };
        let state = describe(&store, segments)?;
        let journal = Journal::with_store(store, state, 0);
        journal.settle_end(&last)?;
        journal.applied.store(journal.recorded_applied().0, Ordering::Release);
        Ok(journal)
    }

    fn with_store(store: Store, state: State, applied: u64) -> Journal {
        Journal {
            store,
            writer: Mutex::default(),
            state: RwLock::new(state),
            applied: AtomicU64::new(applied),
            fence: Mutex::default(),
            appended: AtomicU64::new(0),
            pins: Mutex::default(),
        }
    }

    /// Cuts off what follows the last record, makes the rest durable, and goes on writing where it ends.
    fn settle_end(&self, last: &Arc<Segment>) -> Result<()> {
        let failed = || self.store.failed("making the end of the journal durable");
        let file = last.file(&self.store)?;
        let (size, synced) = (last.file_size(), last.totals(|totals| totals.synced));
        if file.size() != Bytes(size) {
            file.set_size(Bytes(size)).map_err(failed())?;
        }
        let mut position = synced;
        while position < size {
            let piece = (size - position).min(1 << 20);
            let bytes = crate::store::read_vec(&*file, position, piece as usize).map_err(failed())?;
            file.write_at(Bytes(position), &bytes).map_err(failed())?;
            position += piece;
        }
        file.sync().map_err(failed())?;
        self.store.folder.sync().map_err(failed())?;
        if matches!(&*last.read(), Index::Memory(_)) {
            self.writer().resume(last.clone(), file, size);
        }
        Ok(())
    }

    /// Compresses and checksums a batch, holding no lock. The extents ascend by disk and offset and do not
    /// overlap.
    pub fn encode(&self, header: &BatchHeader, extents: &[UndoExtent<'_>]) -> Result<EncodedBatch> {
        encode::encode(&self.store.identity, header, extents).map_err(|what| self.store.invalid(what))
    }

    /// Notes that a batch and all before it are durable on the disks. The next record carries it.
    pub fn note_applied(&self, batch: BatchNumber) {
        self.applied.fetch_max(batch.0, Ordering::AcqRel);
    }

    /// The newest batch.
    pub fn newest(&self) -> Option<BatchSummary> {
        self.state_with(|state| state.newest.as_ref().and_then(Record::summary))
    }

    /// Keeps a point from pruning by time as long as the pin lives.
    pub fn pin(self: &Arc<Self>, point: BatchNumber) -> Pin {
        *self.pins().entry(point.0).or_insert(0) += 1;
        Pin { journal: self.clone(), point }
    }

    /// How much the journal holds.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for segment in self.segments().iter() {
            let bytes = segment.file_size();
            usage.bytes += bytes;
            usage.largest = usage.largest.max(bytes);
            usage.segments += 1;
            usage.rebuilt_indexes += u64::from(segment.is_rebuilt());
            segment.totals(|totals| {
                usage.extents += totals.extents;
                usage.undo_bytes += totals.undo_bytes;
                usage.stored_bytes += totals.stored_bytes;
            });
        }
        usage
    }

    /// Bytes that were appended since the journal was opened, pruned or not: how much it grows.
    pub fn appended(&self) -> Bytes {
        Bytes(self.appended.load(Ordering::Relaxed))
    }

    /// Whose journal it is.
    pub fn identity(&self) -> &Identity {
        &self.store.identity
    }

    /// The oldest boundary that a view can reach.
    pub(crate) fn floor(&self) -> BatchNumber {
        BatchNumber(self.state_with(|state| state.floor))
    }

    /// The newest batch that is known to be on the disks.
    pub(crate) fn noted_applied(&self) -> BatchNumber {
        BatchNumber(self.applied.load(Ordering::Acquire))
    }

    /// What the records say has been applied; a batch without before-images was applied before it was journaled,
    /// and so was whatever has been pruned.
    pub(crate) fn recorded_applied(&self) -> BatchNumber {
        let (last, floor) = self.state_with(|state| (state.segments.last().cloned(), state.floor));
        let recorded = last.map_or(0, |last| last.totals(|totals| totals.applied));
        BatchNumber(recorded.max(floor))
    }

    pub(crate) fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        self.state_with(|state| state.segments.clone())
    }

    pub(crate) fn state_with<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    pub(crate) fn change_state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.write().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Takes over a new list of segments.
    pub(crate) fn set_segments(&self, segments: Vec<Arc<Segment>>) -> Result<()> {
        let state = describe(&self.store, segments)?;
        self.change_state(|old| *old = state);
        Ok(())
    }

    pub(crate) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn pins(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        self.pins.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Refuses to go on after a failed write or sync.
    pub(crate) fn check_fence(&self) -> Result<()> {
        let fence = self.fence.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match &*fence {
            None => Ok(()),
            Some(why) => Err(Error::Fenced { journal: self.store.name().to_owned(), why: why.clone() }),
        }
    }

    /// Lets nothing be written any more: what is on the medium is unknown. The failure itself is the answer.
    pub(crate) fn fence(&self, doing: &'static str, source: disk::Error) -> Error {
        let error = self.store.failed(doing)(source);
        let mut fence = self.fence.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        fence.get_or_insert_with(|| error.to_string());
        error
    }
}

/// The state over these segments.
fn describe(store: &Store, segments: Vec<Arc<Segment>>) -> Result<State> {
    let first = segments.first().map_or(0, |oldest| oldest.first() - 1);
    let without_undo = segments.iter().map(|segment| segment.totals(|totals| totals.without_undo)).max();
    let mut newest = segments.first().and_then(|oldest| oldest.header.anchor.clone());
    if let Some(segment) = segments.iter().rev().find(|segment| segment.last() >= segment.first()) {
        let last = segment.last();
        newest = segment.rows_around(store, last)?.into_iter().find(|row| row.number == last);
    }
    let floor = first.max(without_undo.unwrap_or(0));
    Ok(State { segments: Arc::new(segments), newest, floor })
}

fn check_identity(folder: &dyn Folder, identity: &Identity) -> Result<()> {
    use crate::types::{MAX_DISKS, MAX_NAME};
    let names = identity.disks.iter().map(|disk| &disk.id).chain([&identity.item]);
    if identity.disks.len() > MAX_DISKS || names.into_iter().any(|name| name.len() > MAX_NAME) {
        let what = format!("an item has at most {MAX_DISKS} disks, and names of at most {MAX_NAME} bytes");
        return Err(Error::Invalid { journal: folder.name().to_owned(), what });
    }
    Ok(())
}

/// Names of the segments' files, oldest first. A file that was never finished is removed.
fn segment_names(store: &Store) -> Result<Vec<String>> {
    let mut names = store.folder.list().map_err(store.failed("listing the segments"))?;
    if names.iter().any(|name| name == UNFINISHED) {
        store.folder.remove(UNFINISHED).map_err(store.failed("removing an unfinished segment"))?;
    }
    names.retain(|name| first_of_name(name).is_some());
    names.sort_unstable();
    Ok(names)
}

/// Opens a segment's file and reads its header. The last one is opened for writing and stays open: its lock keeps
/// others from using the journal.
fn open_file(store: &Store, name: &str, is_last: bool) -> Result<(Segment, Arc<dyn File>)> {
    let access = if is_last { Access::Write } else { Access::Read };
    let file = store.folder.open(name, access).map_err(store.failed("opening a segment"))?;
    let segment = Segment::read_header(store, name, &*file)?;
    if is_last {
        store.files.pin(segment.id, file.clone());
    }
    Ok((segment, file))
}

/// Checks that a segment goes on where the one before ends. When that one had no footer, the reason why its
/// records end may be the better answer.
fn follows(
    store: &Store,
    before: &Segment,
    segment: &Segment,
    unfinished: Option<(u64, String)>,
) -> Result<()> {
    let (last, chain) = before.totals(|totals| (totals.last, totals.chain));
    if last + 1 == segment.first() && chain == segment.header.previous {
        return Ok(());
    }
    Err(match unfinished {
        Some((offset, what)) => store.corrupt(&before.name, offset, what),
        None => {
            let what = format!(
                "it starts with batch {}, but the segment before it ends with batch {last} or belongs to another history",
                segment.first()
            );
            store.corrupt(&segment.name, 0, what)
        }
    })
}
