//! `/api/v1/overview`: everything at a glance.

use super::call::{Answer, Call, Reply};
use crate::store::events;
use crate::store::events::Raised;
use crate::store::overview::{self, Counts};
use control_api::Severity;
use control_api::time::Time;
use serde::Serialize;
use std::collections::BTreeMap;

/// Alerts that are shown.
const SHOWN: usize = 10;

#[derive(Serialize)]
struct Overview {
    /// Of the configuration server.
    version: String,
    now: Time,
    #[serde(flatten)]
    counts: Counts,
    alerts: Alerts,
}

#[derive(Serialize)]
struct Alerts {
    critical: u64,
    warning: u64,
    info: u64,
    /// How many there are of each kind.
    kinds: BTreeMap<String, u64>,
    /// The worst of them, then the newest.
    worst: Vec<Raised>,
}

pub(super) async fn show(mut call: Call) -> Answer {
    call.no_query()?;
    let (counts, raised) =
        call.read(|connection| Ok((overview::counts(connection)?, events::raised(connection)?))).await?;
    let version = call.shared.environment.version.clone();
    Reply::of(&Overview { version, now: call.now(), counts, alerts: alerts(raised) })
}

fn alerts(raised: Vec<Raised>) -> Alerts {
    let count = |severity| raised.iter().filter(|alert| alert.event.severity == severity).count() as u64;
    let (critical, warning, info) =
        (count(Severity::Critical), count(Severity::Warning), count(Severity::Info));
    let mut kinds = BTreeMap::new();
    for alert in &raised {
        *kinds.entry(alert.event.kind.clone()).or_default() += 1;
    }
    Alerts { critical, warning, info, kinds, worst: raised.into_iter().take(SHOWN).collect() }
}
