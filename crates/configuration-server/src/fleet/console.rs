//! Hears that a command has changed the store.
//!
//! Commands that are typed open the store by themselves, and nobody tells this program of it. But each of them writes an entry
//! into the audit, in the same transaction as what it changes, and these are looked for once a second: so hosts that
//! wait for jobs are told of those ordered by commands, and pages show what commands have changed.

use crate::server::Shared;
use crate::server::changes::Topic;
use crate::store::audit;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells every topic whenever a command has changed something.
pub(crate) async fn listen(shared: Arc<Shared>) {
    let mut seen = 0;
    loop {
        match shared.store.read(move |connection| Ok(audit::typed_after(connection, seen)?)).await {
            Ok((newest, typed)) => {
                seen = newest;
                if typed {
                    Topic::ALL.into_iter().for_each(|topic| shared.changes.tell(topic));
                }
            }
            Err(error) => tracing::error!("cannot look what commands have changed: {error:#}"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
