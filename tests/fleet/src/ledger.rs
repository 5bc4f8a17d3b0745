//! What the simulated hosts know of their jobs.

use control_api::agent::JobReport;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// All jobs that reached a host.
#[derive(Default)]
pub struct Ledger(Mutex<HashMap<String, Entry>>);

/// A job.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Id of the host that was ordered it first.
    pub host: String,
    /// When that was.
    pub taken: Instant,
    /// How often another host was ordered it as well, which must not be.
    pub strayed: u32,
    /// How often it was ordered to a question that was asked after its end had been confirmed, which must not be.
    pub repeated: u32,
    /// The last report, once it has ended.
    pub ended: Option<JobReport>,
    /// When the server has confirmed that.
    pub confirmed: Option<Instant>,
}

impl Ledger {
    /// A host was ordered a job when it asked at that moment: `None` when it is new and to be run now, else what became
    /// of it.
    pub(crate) fn take(&self, host: &str, job: &str, asked: Instant) -> Option<Option<JobReport>> {
        let mut jobs = self.lock();
        let Some(entry) = jobs.get_mut(job) else {
            let taken = Instant::now();
            let host = host.to_owned();
            let entry = Entry { host, taken, strayed: 0, repeated: 0, ended: None, confirmed: None };
            jobs.insert(job.to_owned(), entry);
            return None;
        };
        entry.strayed += u32::from(entry.host != host);
        entry.repeated += u32::from(entry.confirmed.is_some_and(|confirmed| confirmed < asked));
        Some(entry.ended.clone())
    }

    /// Jobs that a host is at.
    pub(crate) fn running(&self, host: &str) -> Vec<String> {
        let jobs = self.lock();
        let open = jobs.iter().filter(|(_, entry)| entry.host == host && entry.ended.is_none());
        open.map(|(id, _)| id.clone()).collect()
    }

    pub(crate) fn ended(&self, report: &JobReport) {
        if let Some(entry) = self.lock().get_mut(&report.id) {
            entry.ended = Some(report.clone());
        }
    }

    pub(crate) fn confirmed(&self, job: &str) {
        if let Some(entry) = self.lock().get_mut(job) {
            entry.confirmed.get_or_insert_with(Instant::now);
        }
    }

    /// What is known of a job.
    pub fn entry(&self, job: &str) -> Option<Entry> {
        self.lock().get(job).cloned()
    }

    /// All jobs, by id.
    pub fn all(&self) -> HashMap<String, Entry> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
