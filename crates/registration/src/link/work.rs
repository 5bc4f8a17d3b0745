//! The jobs that are under way or wait for their turn.

use super::Shared;
use super::job::Active;
use super::jobs::{AT_ONCE, run_now};
use super::ledger;
use control_api::Failure;
use control_api::agent::JobReport;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, MutexGuard, PoisonError};

/// Orders of a kind that is not known, until their refusal is told.
const MOST_REFUSED: usize = 64;

/// What is going on.
#[derive(Default)]
pub(super) struct Work {
    waiting: VecDeque<Arc<Active>>,
    running: Vec<Arc<Active>>,
    refused: BTreeMap<String, JobReport>,
}

impl Shared {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that have not ended.
    pub(super) fn active(&self) -> Vec<Arc<Active>> {
        let work = self.work();
        work.running.iter().chain(&work.waiting).cloned().collect()
    }

    pub(super) fn queue(&self, active: Active) {
        self.work().waiting.push_back(Arc::new(active));
    }

    /// The next one, when there is room for it and the link goes on.
    pub(super) fn next_to_run(&self) -> Option<Arc<Active>> {
        let stopping = self.hub.is_stopping();
        let mut work = self.work();
        if stopping || work.running.len() >= AT_ONCE {
            return None;
        }
        let next = work.waiting.pop_front()?;
        work.running.push(next.clone());
        Some(next)
    }

    pub(super) fn ended(&self, id: &str) {
        self.work().running.retain(|active| active.order.id != id);
    }

    /// Somebody wants a job to be given up. One that waits for its turn has it now, to end.
    pub(super) fn cancel(self: &Arc<Self>, id: &str) {
        let mut work = self.work();
        if let Some(active) = work.running.iter().find(|active| active.order.id == id) {
            active.cancel();
        }
        let Some(at) = work.waiting.iter().position(|active| active.order.id == id) else { return };
        if let Some(active) = work.waiting.remove(at) {
            active.cancel();
            work.running.push(active.clone());
            drop(work);
            run_now(self, active);
        }
    }

    /// An order cannot be read: most likely it is of a newer version.
    pub(super) fn refuse_order(&self, id: &str, why: &str) {
        let mut work = self.work();
        if work.refused.len() < MOST_REFUSED && !work.refused.contains_key(id) {
            tracing::warn!(job = id, "an order of the configuration server is refused: {why}");
            let version = env!("CARGO_PKG_VERSION");
            let failure = Failure::new(
                format!("job {id}"),
                "it is not carried out",
                format!("version {version} of this host does not understand it: {why}"),
                "upgrade this host",
            );
            work.refused.insert(id.to_owned(), ledger::failed(id, failure));
        }
        drop(work);
        self.hub.report();
    }

    pub(super) fn refused(&self) -> Vec<JobReport> {
        self.work().refused.values().cloned().collect()
    }

    pub(super) fn refusal_told(&self, id: &str) {
        self.work().refused.remove(id);
    }
}
