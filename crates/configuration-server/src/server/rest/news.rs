//! `/api/v1/events`, `/api/v1/alerts` and `/api/v1/audit`.

use super::call::{Answer, Call, Reply};
use super::items::SEVERITIES;
use crate::store::{audit, events, hosts};

/// The newest first.
pub(super) async fn events(mut call: Call) -> Answer {
    let mut query = call.query()?;
    let at_least = query.choice("severity", &SEVERITIES)?;
    let (host, item) = (query.host_or_job("host", "host")?, query.id("item")?);
    let (before, limit) = (query.id("before")?, query.limit()?);
    query.finish()?;
    let found = call.read(move |connection| {
        let host = match host {
            None => None,
            Some(id) => match hosts::by_uuid(connection, &id)? {
                Some(known) => Some(known.row),
                None => return Ok(Vec::new()),
            },
        };
        let rows = u32::try_from(limit).unwrap_or(u32::MAX);
        let wanted = events::Query { at_least, host, item, before, limit: rows };
        Ok(events::newest(connection, &wanted)?)
    });
    Reply::newest(found.await?, limit, |event| event.id)
}

/// Those that are raised, the worst first.
pub(super) async fn alerts(mut call: Call) -> Answer {
    let mut query = call.query()?;
    let at_least = query.choice("severity", &SEVERITIES)?;
    let page = query.page()?;
    query.finish()?;
    let found = call.read(move |connection| {
        let mut raised = events::raised(connection)?;
        raised.retain(|alert| at_least.is_none_or(|least| alert.event.severity >= least));
        Ok(raised)
    });
    let found = found.await?;
    Reply::list(found.len() as u64, page.of(found))
}

/// The newest first.
pub(super) async fn audit(mut call: Call) -> Answer {
    let mut query = call.query()?;
    let (before, limit) = (query.id("before")?, query.limit()?);
    query.finish()?;
    let rows = u32::try_from(limit).unwrap_or(u32::MAX);
    let found = call.read(move |connection| Ok(audit::before(connection, before, rows)?)).await?;
    Reply::newest(found, limit, |entry| entry.id)
}
