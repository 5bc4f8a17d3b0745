//! `/api/v1/disks`, `/api/v1/retention-volumes` and `/api/v1/datastores`: what all hosts have.

use super::call::{Answer, Call, Reply};
use crate::store::hosts;
use crate::store::reports;
use control_api::RetentionStatus;
use control_api::agent::{Datastore, Heartbeat, HostDisk};
use control_api::time::Time;
use serde::Serialize;

/// Something that a host has.
#[derive(Serialize)]
struct Owned<T> {
    /// Id of the host.
    host: String,
    host_name: String,
    /// When the host told of it.
    reported: Time,
    #[serde(flatten)]
    thing: T,
}

/// Lists what `things` takes from the last heartbeat of each host that is registered.
async fn list<T: Serialize + Send + 'static>(mut call: Call, things: fn(Heartbeat) -> Vec<T>) -> Answer {
    let mut query = call.query()?;
    let host = query.host_or_job("host", "host")?;
    let page = query.page()?;
    query.finish()?;
    let found = call.read(move |connection| {
        let mut reports = reports::all(connection)?;
        let mut found = Vec::new();
        for known in hosts::all(connection)? {
            let is_wanted = known.revoked.is_none() && host.as_ref().is_none_or(|host| known.id == *host);
            let Some(report) = reports.remove(&known.row).filter(|_| is_wanted) else { continue };
            found.extend(things(report.heartbeat).into_iter().map(|thing| Owned {
                host: known.id.clone(),
                host_name: known.name.clone(),
                reported: report.received,
                thing,
            }));
        }
        Ok(found)
    });
    let found = found.await?;
    Reply::list(found.len() as u64, page.of(found))
}

pub(super) async fn disks(call: Call) -> Answer {
    list::<HostDisk>(call, |heartbeat| heartbeat.disks).await
}

pub(super) async fn retention_volumes(call: Call) -> Answer {
    list::<RetentionStatus>(call, |heartbeat| heartbeat.retention.into_iter().collect()).await
}

pub(super) async fn datastores(call: Call) -> Answer {
    list::<Datastore>(call, |heartbeat| heartbeat.datastores).await
}
