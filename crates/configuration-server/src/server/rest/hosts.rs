//! `/api/v1/hosts`.

use super::super::actions::hosts::{self as actions, KIND};
use super::super::actions::missing;
use super::call::{Answer, Call, Reply};
use crate::store::events::{self, Raised};
use crate::store::hosts::{self, Known};
use crate::store::reports::{self, Report};
use control_api::RetentionStatus;
use control_api::agent::{Datastore, Health, HostDisk, Protection};
use control_api::registration::HostKind;
use control_api::time::Time;
use serde::Serialize;

/// Whether a host tells of itself.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Standing {
    /// Its heartbeats come.
    Connected,
    /// None came for too long.
    NotConnected,
    /// None has ever come.
    New,
    /// Its registration has ended.
    Revoked,
}

/// A host in a list.
#[derive(Serialize)]
struct Entry {
    #[serde(flatten)]
    known: Known,
    state: Standing,
    /// When its last heartbeat came.
    last_heartbeat: Option<Time>,
    health: Option<Health>,
}

/// A host with all that it told.
#[derive(Serialize)]
struct Detail {
    #[serde(flatten)]
    entry: Entry,
    disks: Vec<HostDisk>,
    datastores: Vec<Datastore>,
    retention: Option<RetentionStatus>,
    protection: Option<Protection>,
    /// Alerts about it and its items.
    alerts: Vec<Raised>,
}

fn entry(known: Known, report: Option<&Report>) -> Entry {
    let state = match report {
        _ if known.revoked.is_some() => Standing::Revoked,
        None => Standing::New,
        Some(report) if report.connected => Standing::Connected,
        Some(_) => Standing::NotConnected,
    };
    let last_heartbeat = report.map(|report| report.received);
    Entry { known, state, last_heartbeat, health: report.map(|report| report.heartbeat.health.clone()) }
}

/// Those that are registered, unless those that are revoked are asked for.
pub(super) async fn list(mut call: Call) -> Answer {
    let mut query = call.query()?;
    let kinds = HostKind::ALL.map(|kind| (kind.id(), kind));
    let kind = query.choice("kind", &kinds)?;
    let states = [
        ("connected", Standing::Connected),
        ("not-connected", Standing::NotConnected),
        ("new", Standing::New),
        ("revoked", Standing::Revoked),
    ];
    let state = query.choice("state", &states)?;
    let text = query.text("text")?.map(|text| text.to_lowercase());
    let page = query.page()?;
    query.finish()?;
    let found = call.read(move |connection| {
        let reports = reports::all(connection)?;
        let all = hosts::all(connection)?.into_iter().map(|known| {
            let report = reports.get(&known.row);
            entry(known, report)
        });
        let is_wanted = |entry: &Entry| {
            kind.is_none_or(|kind| entry.known.kind == kind)
                && state.map_or(entry.state != Standing::Revoked, |state| entry.state == state)
                && text.as_ref().is_none_or(|text| entry.known.name.to_lowercase().contains(text))
        };
        Ok(all.filter(is_wanted).collect::<Vec<_>>())
    });
    let found = found.await?;
    Reply::list(found.len() as u64, page.of(found))
}

/// What is revoked is no longer there by its id: it is listed as `state=revoked`.
pub(super) async fn show(mut call: Call) -> Answer {
    call.no_query()?;
    let id = call.id();
    let found = call.read(move |connection| {
        let Some(known) = hosts::by_uuid(connection, &id)?.filter(|known| known.revoked.is_none()) else {
            return Ok(None);
        };
        let row = Some(known.row);
        let report = reports::of(connection, known.row)?;
        let mut alerts = events::raised(connection)?;
        alerts.retain(|alert| alert.event.host == row);
        let entry = entry(known, report.as_ref());
        let Some(Report { heartbeat, .. }) = report else {
            let (disks, datastores) = (Vec::new(), Vec::new());
            return Ok(Some(Detail { entry, disks, datastores, retention: None, protection: None, alerts }));
        };
        let (disks, datastores) = (heartbeat.disks, heartbeat.datastores);
        let (retention, protection) = (heartbeat.retention, heartbeat.protection);
        Ok(Some(Detail { entry, disks, datastores, retention, protection, alerts }))
    });
    Reply::of(&found.await?.ok_or_else(|| missing(KIND, &call.id()))?)
}

/// Ends the registration of a host.
pub(super) async fn revoke(mut call: Call) -> Answer {
    call.no_query()?;
    let (id, now) = (call.id(), call.now());
    call.change(&actions::REVOKED, move |store| actions::revoke(store, &id, now)).await?;
    Reply::nothing()
}
