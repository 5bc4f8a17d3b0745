//! The thread that tells what becomes of jobs.

use super::Shared;
use super::hub::Lane;
use super::line::Line;
use super::session::Session;
use super::turns;
use crate::error::{Error, Result};
use control_api::ErrorCode;
use control_api::agent::{JobReport, REPORT_PATH, ReportReply, ReportRequest};
use std::sync::Arc;
use std::time::Duration;

/// Changes of so long are told together.
const APART: Duration = Duration::from_millis(500);

pub(super) fn run(shared: &Arc<Shared>) {
    let hub = &shared.hub;
    let turn = |session: &Arc<Session>, line: &mut Line| {
        let seen = hub.reports();
        Ok((seen, tell_all(shared, session, line)?))
    };
    turns::take(shared, Lane::Reports, turn, |session, (seen, told)| {
        if told > 0 {
            hub.well(Lane::Reports);
            hub.sleep(APART);
        }
        hub.until_report(session, seen)
    });
}

/// Tells everything that is new, and every end that is not confirmed; how much that was.
fn tell_all(shared: &Arc<Shared>, session: &Arc<Session>, line: &mut Line) -> Result<usize> {
    let authority = &session.registration.authority;
    let mut told = 0;
    for active in shared.active() {
        let id = &active.order.id;
        let goes_on = |entry: &super::ledger::Entry| entry.report.is_none() && entry.authority == *authority;
        if !shared.ledger().get(id).is_some_and(goes_on) {
            continue;
        }
        let Some((change, report)) = active.untold() else { continue };
        let reply = tell(shared, session, line, report)?;
        active.told(change);
        told += 1;
        if reply.cancel {
            shared.cancel(id);
        }
    }
    let ended = shared.ledger().unconfirmed(authority);
    for report in ended {
        let id = report.id.clone();
        tell(shared, session, line, report)?;
        shared.ledger().confirm(&id);
        told += 1;
    }
    for report in shared.refused() {
        let id = report.id.clone();
        tell(shared, session, line, report)?;
        shared.refusal_told(&id);
        told += 1;
    }
    Ok(told)
}

/// Tells one report. A server that does not know the job, or does not want the report, is not told it again.
fn tell(
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    line: &mut Line,
    report: JobReport,
) -> Result<ReportReply> {
    let request = ReportRequest { host: shared.host(session)?, report };
    match line.post(session, REPORT_PATH, &request, Duration::ZERO) {
        Err(Error::Refused(refused))
            if refused.code == ErrorCode::BadRequest && !request.report.steps.is_empty() =>
        {
            tracing::warn!(job = request.report.id, "its steps are not told: {refused}");
            tell(shared, session, line, JobReport { steps: Vec::new(), ..request.report })
        }
        Err(Error::Refused(refused)) if unwanted(refused.code) => {
            tracing::warn!(job = request.report.id, "what came of a job is not wanted: {refused}");
            Ok(ReportReply { cancel: false })
        }
        outcome => outcome,
    }
}

fn unwanted(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NotFound | ErrorCode::BadRequest | ErrorCode::Conflict)
}
