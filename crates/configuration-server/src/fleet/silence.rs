//! Notices hosts whose heartbeats do not come any more.
//!
//! A host has three intervals, measured by a clock that never jumps. All that fall silent together are written down
//! together. They are back with their next heartbeat. Workflows that need not wait for them go on.

use super::alarms;
use crate::server::Shared;
use crate::server::changes::Topic;
use crate::store::{events, hosts, reports, workflows};
use anyhow::Result;
use rusqlite::TransactionBehavior;
use std::sync::Arc;
use std::time::Duration;

/// Intervals without a heartbeat after which a host counts as not connected.
const MISSED: u32 = 3;

/// Looks again and again, three times in each interval.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let interval = Duration::from_secs(shared.config.heartbeat_seconds);
    loop {
        if let Err(error) = look(&shared, interval * MISSED).await {
            tracing::error!("cannot look for hosts that are silent: {error:#}");
        }
        tokio::time::sleep(interval / 3).await;
    }
}

async fn look(shared: &Arc<Shared>, limit: Duration) -> Result<()> {
    let now = shared.now();
    let registered = shared.store.read(|connection| Ok(hosts::registered(connection)?)).await?;
    let rows: Vec<i64> = registered.iter().map(|(row, _)| *row).collect();
    let silent = shared.attendance.silent(&rows, limit);
    let not_noted: Vec<i64> = registered
        .into_iter()
        .filter(|(row, noted)| !noted && silent.contains(row))
        .map(|(row, _)| row)
        .collect();
    if not_noted.is_empty() {
        return Ok(());
    }
    let here = shared.clone();
    shared
        .store
        .with(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for host in hosts::all(&transaction)? {
                // One may have been heard just now, or be revoked.
                let counts = not_noted.contains(&host.row) && host.revoked.is_none();
                if !counts || !here.attendance.is_silent(host.row, limit) {
                    continue;
                }
                let last = reports::of(&transaction, host.row)?;
                let alarm = alarms::not_connected(&host, last.as_ref(), limit, now);
                tracing::warn!(host = host.name, "{}: {}", alarm.event.what, alarm.event.cause);
                reports::lost(&transaction, host.row)?;
                events::raise(&transaction, &alarm.key, &alarm.event)?;
                workflows::fell_silent(&transaction, host.row, now)?;
            }
            Ok(transaction.commit()?)
        })
        .await?;
    [Topic::Hosts, Topic::Events, Topic::Jobs].into_iter().for_each(|topic| shared.changes.tell(topic));
    Ok(())
}
