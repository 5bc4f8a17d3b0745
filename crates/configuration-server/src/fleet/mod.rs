//! The registered hosts as they are now: what they tell, and that they tell nothing any more.
//!
//! [`ingest`] takes a heartbeat into the store. What a heartbeat tells anew each time is written without waiting for the
//! disk; as soon as it changes an alert or the state of an item, all of it is written durably, in one transaction with
//! the events that tell of the change. So a crash loses no event, and a quiet fleet costs no syncs. [`alarms`] says which
//! alerts a heartbeat means and which events a change of state is. [`silence`] notices hosts whose heartbeats do not come
//! any more, and [`attendance`] is what is known of each host in memory alone: when it was heard last, and the bell that
//! wakes it when there is a job for it. In [`meetings`] hosts wait for each other that do something at one
//! moment, which [`rhythm`] has groups do from time to time. [`console`] hears what is ordered by commands.

mod alarms;
mod attendance;
mod console;
pub(crate) mod ingest;
mod meetings;
mod overdue;
mod rhythm;
mod silence;

pub(crate) use attendance::Attendance;
pub(crate) use console::listen;
pub(crate) use meetings::Meetings;
pub(crate) use rhythm::keep as keep_rhythm;
pub(crate) use silence::watch;

use crate::server::Shared;
use crate::server::changes::Topic;
use crate::store::jobs;
use std::sync::Arc;
use std::time::Duration;

/// Pause after the bells were rung, so that a burst of changes asks the store once.
const BURST: Duration = Duration::from_millis(20);

/// Rings the bells of the hosts that there is something to tell, whenever jobs have changed: one question to the store,
/// however many hosts wait.
pub(crate) async fn dispatch(shared: Arc<Shared>) {
    let mut changes = shared.changes.watch();
    let mut seen = None;
    loop {
        let count = changes.borrow_and_update()[Topic::Jobs as usize];
        if seen.replace(count) != Some(count) {
            match shared.store.read(|connection| Ok(jobs::waited_for(connection)?)).await {
                Ok(hosts) => shared.attendance.ring(&hosts),
                Err(error) => tracing::error!("cannot look for jobs: {error:#}"),
            }
            tokio::time::sleep(BURST).await;
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}
