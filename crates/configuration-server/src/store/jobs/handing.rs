//! Handing orders out: what there is to tell which host.

use crate::store::json;
use control_api::agent::{JobOrder, JobsReply};
use control_api::time::Time;
use rusqlite::{Connection, Result, params};

/// What there is to tell the host in this row, which has the jobs `running` already.
pub(crate) fn due(connection: &Connection, host: i64, running: &[String]) -> Result<JobsReply> {
    let mut statement = connection.prepare_cached(
        "SELECT uuid, body, ordered, report IS NULL, cancelled_by IS NOT NULL FROM job \
         WHERE host = ? AND ended IS NULL AND plan IS NULL AND (report IS NULL OR cancelled_by IS NOT NULL) ORDER BY id",
    )?;
    let mut rows = statement.query([host])?;
    let mut reply = JobsReply::default();
    while let Some(row) = rows.next()? {
        let order = JobOrder { id: row.get(0)?, job: json::column(row, 1)?, ordered: row.get(2)? };
        let (unreported, cancelled): (bool, bool) = (row.get(3)?, row.get(4)?);
        if cancelled {
            reply.cancel.push(order.id.clone());
        }
        if unreported && !running.contains(&order.id) {
            reply.orders.push(order);
        }
    }
    Ok(reply)
}

/// Whether any of these orders was never handed out.
pub(crate) fn untold(connection: &Connection, orders: &[JobOrder]) -> Result<bool> {
    let mut statement =
        connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM job WHERE uuid = ? AND told IS NULL)")?;
    for order in orders {
        if statement.query_row([&order.id], |row| row.get(0))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// From now on these orders count as handed out; those of jobs that ended meanwhile are taken out.
pub(crate) fn tell(connection: &Connection, orders: &mut Vec<JobOrder>, now: Time) -> Result<()> {
    let mut statement = connection
        .prepare_cached("UPDATE job SET told = ifnull(told, ?) WHERE uuid = ? AND ended IS NULL")?;
    let mut open = Vec::with_capacity(orders.len());
    for order in orders.drain(..) {
        if statement.execute(params![now, order.id])? == 1 {
            open.push(order);
        }
    }
    *orders = open;
    Ok(())
}

/// The rows of the hosts that there is something to tell.
pub(crate) fn waited_for(connection: &Connection) -> Result<Vec<i64>> {
    let mut statement = connection.prepare_cached(
        "SELECT DISTINCT host FROM job WHERE ended IS NULL AND plan IS NULL \
         AND (report IS NULL OR cancelled_by IS NOT NULL)",
    )?;
    statement.query_map([], |row| row.get(0))?.collect()
}
