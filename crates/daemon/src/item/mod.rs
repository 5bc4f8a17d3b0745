//! One replicated item: an actor that owns its engine, its disks and its journal.
//!
//! The actor is one task. Frames, ends of jobs, orders from the local API and the clock reach it as messages; it
//! hands them to [`replication_receiver::Item`], which decides, and carries out what that says: jobs go to blocking
//! threads, frames to the connections. Nothing in the task blocks, and nothing is shared between items but the
//! number of jobs that may run at once, so what happens to one item stops no other. A panic in a job is caught and
//! fences the item like an error.
//!
//! After an error everything of the item is closed. When a disk went away, it is opened again by itself, through crash
//! recovery, at growing intervals; otherwise it waits for an order. It is open only while the retention volume can be
//! used: it is closed when that ends, whatever it does, and opened again as soon as the volume is back.
//!
//! Of its configuration the policy can change while it runs; name, source and disks stay as they are.

mod actor;
mod link;
mod open;
mod record;
mod running;
mod status;
mod target;

pub(crate) use link::{ConnectionId, Link, OUTGOING_QUEUE};
pub(crate) use open::{Place, Problem, forget, has_journal_of, is_committed};
pub(crate) use status::{Again, Condition, Snapshot, point};
pub(crate) use target::{Target, open as open_target};

use crate::clock::Clock;
use crate::config;
use crate::retention::{Allowance, ItemReport, Volume};
use change_stream::Frame;
use control_api::Failure;
use journal::BatchNumber;
use replication_receiver::Storage;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// Messages from connections that wait for the actor. Each holds about a mebibyte at most.
const INPUT_QUEUE: usize = 4;
/// Orders that wait for the actor.
const ORDER_QUEUE: usize = 8;

/// What comes from a connection.
pub(crate) enum Input {
    /// A peer that may replicate this item opened a connection.
    Connected { connection: ConnectionId, hello: Frame, link: Link },
    /// Frames came; `drained` when nothing more has arrived behind them.
    Frames { connection: ConnectionId, frames: Vec<Frame>, drained: bool },
    /// The connection is gone.
    Disconnected { connection: ConnectionId },
}

/// What someone in charge wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Failover(BatchNumber),
    CancelFailover,
    Commit,
    Resume,
    Resync,
    ShutDown,
}

/// An order and where its acceptance is told.
pub(crate) struct Ordered {
    order: Order,
    accepted: oneshot::Sender<Result<(), Failure>>,
}

/// What every actor gets.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) clock: Clock,
    pub(crate) jobs: Arc<Semaphore>,
    pub(crate) place: Arc<Place>,
    pub(crate) volume: Volume,
}

/// The rest of the daemon's end of an actor.
pub(crate) struct ItemHandle {
    name: String,
    config: watch::Sender<Arc<config::Item>>,
    pub(crate) input: mpsc::Sender<Input>,
    orders: mpsc::Sender<Ordered>,
    snapshot: watch::Receiver<Snapshot>,
    allowance: watch::Sender<Allowance>,
    report: watch::Sender<Option<ItemReport>>,
}

impl ItemHandle {
    /// Starts the actor. `blank` says that the disks were made just now, and are all zero.
    pub(crate) fn start(
        config: config::Item,
        blank: bool,
        surroundings: Surroundings,
    ) -> (ItemHandle, JoinHandle<()>) {
        let name = config.name.clone();
        let config = watch::Sender::new(Arc::new(config));
        let (input, inputs) = mpsc::channel(INPUT_QUEUE);
        let (orders, ordered) = mpsc::channel(ORDER_QUEUE);
        let (publish, snapshot) = watch::channel(Snapshot::starting(surroundings.clock.now()));
        let (allowance, allowed) = watch::channel(Allowance::default());
        let newer = config.subscribe();
        let ends = actor::Ends { newer, inputs, orders: ordered, allowance: allowed, publish };
        let actor = actor::Actor::new(surroundings, ends);
        let task = tokio::spawn(actor.run(blank));
        let report = watch::Sender::default();
        (ItemHandle { name, config, input, orders, snapshot, allowance, report }, task)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What it is, by its newest configuration.
    pub(crate) fn config(&self) -> Arc<config::Item> {
        self.config.borrow().clone()
    }

    /// Gives it another policy. All else of `config` is as before.
    pub(crate) fn configure(&self, config: config::Item) {
        self.config.send_replace(Arc::new(config));
    }

    /// How the item stands.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.snapshot.borrow().clone()
    }

    /// To wait for changes of how it stands.
    pub(crate) fn watch(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.clone()
    }

    /// Says how much its journal may take from now on.
    pub(crate) fn allow(&self, allowance: Allowance) {
        self.allowance.send_if_modified(|known| std::mem::replace(known, allowance) != allowance);
    }

    /// Takes down what the steward found out about its journal.
    pub(crate) fn tell(&self, report: ItemReport) {
        self.report.send_replace(Some(report));
    }

    /// What the steward last found out about its journal, once it has looked.
    pub(crate) fn report(&self) -> Option<ItemReport> {
        self.report.borrow().clone()
    }

    /// Disks and journal, while they are open.
    pub(crate) fn storage(&self) -> Result<Arc<Storage>, Failure> {
        let snapshot = self.snapshot.borrow();
        snapshot.storage.clone().ok_or_else(|| {
            let (why, next) = snapshot.condition.closed_because(self.name());
            Failure::new(self.name(), "its disks and journal are closed", why, next)
        })
    }

    /// Gives an order; it is accepted or refused at once, and carried out afterwards.
    pub(crate) async fn order(&self, order: Order) -> Result<(), Failure> {
        let gone = || {
            Failure::new(self.name(), "cannot be given an order", "it has been stopped", "restart the daemon")
        };
        let (accepted, answer) = oneshot::channel();
        self.orders.send(Ordered { order, accepted }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
