//! Where the agent replicates to at present, and moving it elsewhere while it serves its disks.
//!
//! At any moment there is one driver or none. A move stops the one there is, which says goodbye to its master target,
//! has the tracker begin anew where the place is another one, and starts the next. Each step of it stands on the disk
//! before the next is done, and starting the agent goes through the same steps; so a move that was cut off is carried
//! on by the next start. Writers of the disks notice nothing.

use super::assignment::{Assignment, Record, Records};
use super::config::Config;
use super::connection::Peer;
use super::driver::{self, DriverHandle, Listeners};
use super::host::{self, SteadyClock};
use crate::{Notice, Scan, Sender, SenderConfig, SplitterDisk, Status, Tracker};
use anyhow::{Context, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc};

/// Most bytes of sync data that are read and not acknowledged.
const WINDOW: u64 = 32 << 20;

/// What all drivers need.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) tracker: Arc<Tracker>,
    pub(crate) splitters: Vec<Arc<SplitterDisk>>,
    pub(crate) clock: SteadyClock,
    pub(crate) changed: Arc<Notify>,
}

pub(crate) struct Replication {
    parts: Parts,
    records: Records,
    listeners: Listeners,
    current: Mutex<Option<Current>>,
}

#[derive(Clone)]
struct Current {
    assignment: Assignment,
    driver: DriverHandle,
}

impl Replication {
    /// Nothing runs yet.
    pub(crate) fn new(parts: Parts) -> (Arc<Replication>, mpsc::UnboundedReceiver<Notice>) {
        let (notices, told) = mpsc::unbounded_channel();
        let listeners = Listeners { notices, sent: Arc::new(AtomicU64::new(0)) };
        let records = Records { folder: parts.config.state_folder.clone() };
        (Arc::new(Replication { parts, records, listeners, current: Mutex::default() }), told)
    }

    /// Where the disks are replicated to.
    pub(crate) fn assignment(&self) -> Option<Assignment> {
        self.current().as_ref().map(|current| current.assignment.clone())
    }

    /// Whether the configuration file says where: then nothing else does.
    pub(crate) fn is_fixed(&self) -> bool {
        self.parts.config.item.is_some()
    }

    /// What the driver is doing, if there is one.
    pub(crate) async fn status(&self) -> Option<Status> {
        let driver = self.current().as_ref().map(|current| current.driver.clone())?;
        driver.status().await
    }

    /// Connects at once, if it waits to do so.
    pub(crate) async fn hurry(&self) {
        let driver = self.current().as_ref().map(|current| current.driver.clone());
        if let Some(driver) = driver {
            driver.hurry().await;
        }
    }

    /// Bytes sent since the start, over all connections.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.listeners.sent.load(Ordering::Relaxed)
    }

    /// Goes where the configuration file or else the assignment in the state folder says. May block on the state folder.
    pub(crate) fn take_up(&self) -> Result<()> {
        let assigned = match self.parts.config.assignment() {
            Some(in_file) => Some(in_file),
            None => self.records.read(Record::Assigned)?,
        };
        match &assigned {
            None => tracing::info!("not assigned to a master target: serving the disks, and waiting"),
            Some(Assignment { item, target, .. }) => tracing::info!("replicating to {target} as {item}"),
        }
        self.go_to(assigned.as_ref(), None)
    }

    /// One pass of a scan begins. May block on the state folder.
    pub(crate) fn begin_scan(&self, scan: Scan) -> Result<()> {
        let in_file = self.parts.config.assignment();
        let assignment = in_file.context("a scan has to be told item and target")?;
        self.go_to(Some(&assignment), Some(scan))
    }

    /// Writes down where the agent is told to replicate to, or that it is told to stop. May block on the state folder.
    pub(crate) fn keep(&self, assigned: Option<&Assignment>) -> Result<()> {
        self.records.write(Record::Assigned, assigned)
    }

    /// Moves to what [`Replication::keep`] has written down. One caller at a time.
    pub(crate) async fn follow(self: &Arc<Self>, why: &str) -> Result<()> {
        self.stop(why).await;
        let replication = self.clone();
        tokio::task::spawn_blocking(move || replication.take_up()).await.context("a defect")?
    }

    /// Ends the session, if there is one, and waits until that was said to the target.
    pub(crate) async fn stop(&self, why: &str) {
        let current = self.current().take();
        if let Some(current) = current {
            current.driver.stop(why).await;
        }
    }

    fn go_to(&self, assigned: Option<&Assignment>, scan: Option<Scan>) -> Result<()> {
        self.settle(assigned)?;
        let Some(assignment) = assigned else { return Ok(()) };
        let driver = self.start(assignment, scan);
        *self.current() = Some(Current { assignment: assignment.clone(), driver });
        Ok(())
    }

    /// Sees to it that the tracker's stream is the one of this place.
    fn settle(&self, assigned: Option<&Assignment>) -> Result<()> {
        let tracker = &self.parts.tracker;
        let replicated = self.records.read(Record::Replicated)?;
        let goes_on = match (assigned, &replicated) {
            (Some(assigned), Some(replicated)) => assigned.is_same_place(replicated),
            // The state folder of an older version, which knew no other place than that of its file.
            (Some(_), None) => self.is_fixed(),
            (None, replicated) => replicated.is_none() && !tracker.standing().logging,
        };
        if !goes_on {
            tracker
                .begin_anew(host::random_stream()?)
                .context("the state cannot be made ready for another master target")?;
        }
        if assigned != replicated.as_ref() {
            self.records.write(Record::Replicated, assigned)?;
        }
        Ok(())
    }

    fn start(&self, assignment: &Assignment, scan: Option<Scan>) -> DriverHandle {
        let Parts { config, tracker, splitters, clock, changed } = &self.parts;
        let sender = SenderConfig {
            item: assignment.item.clone(),
            agent: concat!("mt-source ", env!("CARGO_PKG_VERSION")).to_owned(),
            compression: config.compression.compression(),
            bulk_connections: config.limits.bulk_connections,
            jobs: config.limits.jobs,
            window: WINDOW,
            scan,
        };
        let peer = Arc::new(Peer {
            target: assignment.target.clone(),
            server_name: assignment.server_name().to_owned(),
            files: config.tls_files(),
            compression: config.compression.compression(),
        });
        let sender = Sender::new(sender, tracker.clone(), splitters.clone());
        driver::start(sender, peer, *clock, changed.clone(), self.listeners.clone())
    }

    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
