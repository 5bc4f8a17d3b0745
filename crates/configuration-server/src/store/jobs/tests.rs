use super::*;
use crate::store::testing::{NOW, item, register, store};
use crate::store::{hosts, items};
use control_api::ItemState;

fn check(host: &Known) -> NewJob {
    NewJob { host: host.row, item: None, job: JobKind::Check, by: "anna".into(), now: NOW }
}

fn added(connection: &Connection, host: &Known) -> Job {
    add(connection, &check(host)).unwrap().unwrap()
}

fn reported(id: &str, state: JobState) -> JobReport {
    JobReport {
        id: id.into(),
        state,
        started: NOW,
        ended: state.has_ended().then_some(NOW + 1),
        steps: Vec::new(),
        progress: None,
        seconds_left: None,
        can_cancel: true,
        outcome: None,
        failure: None,
    }
}

fn state(connection: &Connection, id: &str) -> JobState {
    by_uuid(connection, id).unwrap().unwrap().state
}

fn kinds(connection: &Connection) -> Vec<String> {
    let query = events::Query { limit: 100, ..events::Query::default() };
    events::newest(connection, &query).unwrap().into_iter().map(|event| event.kind).collect()
}

#[test]
fn a_job_goes_forward_and_its_end_stays() {
    let (_folder, connection) = store();
    let host = register(&connection, HostKind::MasterTarget, 1);
    let job = added(&connection, &host);
    let say = |state| report(&connection, host.row, &reported(&job.id, state), NOW).unwrap().unwrap();
    assert_eq!(due(&connection, host.row, &[]).unwrap().orders.len(), 1);
    assert!(due(&connection, host.row, std::slice::from_ref(&job.id)).unwrap().orders.is_empty());
    assert!(say(JobState::Running).changed && !say(JobState::Running).changed);
    assert!(due(&connection, host.row, &[]).unwrap().orders.is_empty(), "a report came");
    assert!(!say(JobState::Queued).changed);
    assert_eq!(state(&connection, &job.id), JobState::Running);
    assert!(say(JobState::Failed).changed);
    for late in [JobState::Running, JobState::Succeeded, JobState::Cancelled, JobState::Failed] {
        assert_eq!(say(late), Noted { cancel: false, changed: false });
        assert_eq!(state(&connection, &job.id), JobState::Failed);
    }
    assert_eq!(kinds(&connection), ["job-failed"]);
}

#[test]
fn nobody_reports_of_another_hosts_job() {
    let (_folder, connection) = store();
    let (host, other) =
        (register(&connection, HostKind::MasterTarget, 1), register(&connection, HostKind::MasterTarget, 2));
    let job = added(&connection, &host);
    let refused = |host: &Known, id: &str| {
        report(&connection, host.row, &reported(id, JobState::Succeeded), NOW).unwrap().unwrap_err().code
    };
    assert_eq!(refused(&other, &job.id), ErrorCode::NotFound);
    assert_eq!(refused(&host, "0"), ErrorCode::NotFound);
    assert_eq!(state(&connection, &job.id), JobState::Queued);
}

#[test]
fn a_job_that_nobody_was_told_of_is_cancelled_at_once_and_any_other_by_its_host() {
    let (_folder, connection) = store();
    let host = register(&connection, HostKind::MasterTarget, 1);
    let (first, second) = (added(&connection, &host), added(&connection, &host));
    let cancelled = cancel(&connection, &first.id, "bert", NOW).unwrap().unwrap();
    assert_eq!((cancelled.state, cancelled.cancelled_by.as_deref()), (JobState::Cancelled, Some("bert")));
    assert_eq!(cancel(&connection, &first.id, "bert", NOW).unwrap().unwrap_err().code, ErrorCode::Conflict);
    let mut orders = due(&connection, host.row, &[]).unwrap().orders;
    assert!(untold(&connection, &orders).unwrap());
    tell(&connection, &mut orders, NOW).unwrap();
    assert!(orders.len() == 1 && !untold(&connection, &orders).unwrap());
    let asked = cancel(&connection, &second.id, "bert", NOW).unwrap().unwrap();
    assert_eq!((asked.state, asked.cancelled_by.as_deref()), (JobState::Queued, Some("bert")));
    // The host may never have got the order; it is told both.
    let reply = due(&connection, host.row, &[]).unwrap();
    assert_eq!((reply.orders.len(), reply.cancel), (1, vec![second.id.clone()]));
    let running = report(&connection, host.row, &reported(&second.id, JobState::Running), NOW);
    assert!(running.unwrap().unwrap().cancel);
    let end = report(&connection, host.row, &reported(&second.id, JobState::Cancelled), NOW);
    assert_eq!(end.unwrap().unwrap(), Noted { cancel: false, changed: true });
    assert_eq!(kinds(&connection), ["job-cancelled", "job-cancelled"]);
    assert!(due(&connection, host.row, &[]).unwrap().cancel.is_empty());
}

#[test]
fn a_job_that_cannot_be_stopped_safely_is_not_cancelled() {
    let (_folder, connection) = store();
    let host = register(&connection, HostKind::MasterTarget, 1);
    let job = added(&connection, &host);
    let running = JobReport { can_cancel: false, ..reported(&job.id, JobState::Running) };
    report(&connection, host.row, &running, NOW).unwrap().unwrap();
    let refused = cancel(&connection, &job.id, "bert", NOW).unwrap().unwrap_err();
    assert!(refused.to_string().contains("would not be safe"), "{refused}");
}

#[test]
fn an_order_that_ended_before_it_was_handed_out_is_taken_back() {
    let (_folder, connection) = store();
    let host = register(&connection, HostKind::MasterTarget, 1);
    let job = added(&connection, &host);
    let mut orders = due(&connection, host.row, &[]).unwrap().orders;
    cancel(&connection, &job.id, "bert", NOW).unwrap().unwrap();
    tell(&connection, &mut orders, NOW).unwrap();
    assert!(orders.is_empty());
}

#[test]
fn jobs_fit_the_host_and_are_bounded() {
    let (_folder, connection) = store();
    let (target, agent) =
        (register(&connection, HostKind::MasterTarget, 1), register(&connection, HostKind::SourceAgent, 2));
    let id = items::put(&connection, target.row, &item("web01", ItemState::Protected), NOW, NOW).unwrap();
    let order = |host: &Known, job| add(&connection, &NewJob { job, ..check(host) }).unwrap();
    let resync = |item: &str| JobKind::Resync { item: item.into() };
    assert_eq!(order(&target, resync("web01")).unwrap().item, Some(id));
    assert_eq!(order(&target, resync("web02")).unwrap().item, None);
    let bookmark = |name: String| JobKind::Bookmark { name, application_consistent: false };
    order(&agent, bookmark("nightly".into())).unwrap();
    for (host, job) in [
        (&agent, JobKind::Check),
        (&target, bookmark("nightly".into())),
        (&agent, bookmark(String::new())),
        (&agent, bookmark("x".repeat(MAX_TEXT + 1))),
        (&target, resync("a\nb")),
    ] {
        assert_eq!(order(host, job).unwrap_err().code, ErrorCode::BadRequest);
    }
    for _ in 2..MAX_OPEN {
        order(&target, JobKind::Check).unwrap();
    }
    let refused = order(&target, JobKind::Check).unwrap_err();
    assert!(refused.code == ErrorCode::Conflict && refused.to_string().contains("64 jobs"), "{refused}");
    let open = Query { host: Some(target.id), open: Some(true), limit: 1000, ..Query::default() };
    let jobs = list(&connection, &open).unwrap();
    assert_eq!(jobs.len(), MAX_OPEN as usize);
    let before = Query { before: Some(jobs[10].number), limit: 1, ..Query::default() };
    assert_eq!(list(&connection, &before).unwrap()[0].id, jobs[11].id);
    assert_eq!(list(&connection, &Query { item: Some(id), limit: 9, ..Query::default() }).unwrap().len(), 1);
    assert_eq!(waited_for(&connection).unwrap(), [target.row, agent.row]);
}

#[test]
fn jobs_that_have_ended_are_kept_up_to_a_number() {
    let (_folder, connection) = store();
    let host = register(&connection, HostKind::MasterTarget, 1);
    let transaction = connection.unchecked_transaction().unwrap();
    for number in 0..MAX_ENDED {
        transaction
            .execute(
                "INSERT INTO job (uuid, host, body, state, ordered, ordered_by, ended) \
                 VALUES (?, ?, '{\"kind\":\"check\"}', 'succeeded', 1, 'anna', ?)",
                params![format!("old{number}"), host.row, number],
            )
            .unwrap();
    }
    let job = added(&transaction, &host);
    cancel(&transaction, &job.id, "bert", NOW).unwrap().unwrap();
    let count: u32 = transaction.query_row("SELECT count(*) FROM job", [], |row| row.get(0)).unwrap();
    assert_eq!(count, MAX_ENDED);
    assert!(by_uuid(&transaction, "old0").unwrap().is_none());
    assert_eq!(state(&transaction, &job.id), JobState::Cancelled);
}

#[test]
fn jobs_of_a_host_that_is_revoked_fail_and_say_why() {
    let (_folder, connection) = store();
    let host = register(&connection, HostKind::MasterTarget, 1);
    let (queued, running) = (added(&connection, &host), added(&connection, &host));
    report(&connection, host.row, &reported(&running.id, JobState::Running), NOW).unwrap().unwrap();
    hosts::revoke(&connection, &host, NOW).unwrap();
    for id in [&queued.id, &running.id] {
        let job = by_uuid(&connection, id).unwrap().unwrap();
        assert_eq!((job.state, job.ended), (JobState::Failed, Some(NOW)));
        assert!(job.report.unwrap().failure.unwrap().why.contains("mt01 was revoked"));
    }
    assert_eq!(kinds(&connection), ["revoked", "job-failed", "job-failed"]);
    assert_eq!(add(&connection, &check(&host)).unwrap().unwrap_err().code, ErrorCode::Conflict);
}
