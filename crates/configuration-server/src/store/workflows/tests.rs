mod groups;

use super::plan::{Role, Step};
use super::*;
use crate::store::groups::Group;
use crate::store::hosts::{self, Known};
use crate::store::jobs::{self, Job};
use crate::store::testing::{NOW, described, heartbeat, item, register, store};
use crate::store::{events, items, reports};
use control_api::agent::{DiskOrder, ItemOrder, ItemPolicy, JobReport, JobState, StepState, TargetOrder};
use control_api::registration::HostKind;
use control_api::{ErrorCode, Failure, ItemState};
use groups::Pair;
use rusqlite::Connection;
use tempfile::TempDir;

/// A master target with an item, and its source; both are connected.
struct World {
    _folder: TempDir,
    store: Connection,
    target: Known,
    source: Known,
    item: i64,
}

impl World {
    fn new() -> World {
        let (folder, store) = store();
        let target = register(&store, HostKind::MasterTarget, 1);
        let source = register(&store, HostKind::SourceAgent, 2);
        for (host, kind, number) in
            [(&target, HostKind::MasterTarget, 1), (&source, HostKind::SourceAgent, 2)]
        {
            reports::put(&store, host.row, &heartbeat(described(kind, number), Vec::new()), NOW).unwrap();
        }
        let item = items::put(&store, target.row, &item("web01", ItemState::Protected), NOW, NOW).unwrap();
        World { _folder: folder, store, target, source, item }
    }

    fn places(&self) -> (Place, Place) {
        (Place::from(&self.target), Place::from(&self.source))
    }

    fn order(&self, plan: &Plan) -> Job {
        order(&self.store, plan, Some(self.item), "anna", NOW).unwrap().unwrap()
    }

    fn planned(&self) -> Job {
        let (target, source) = self.places();
        self.order(&Plan::planned_failover("web01", &target, &source, "last"))
    }

    fn workflow(&self, job: &Job) -> Job {
        jobs::by_uuid(&self.store, &job.id).unwrap().unwrap()
    }

    /// Kinds, hosts and states of the children, in their order.
    fn children(&self, job: &Job) -> Vec<(String, String, JobState)> {
        let mut children = jobs::children(&self.store, job.number).unwrap();
        children.reverse();
        let each = children.into_iter().map(|child| (child.job.title(), child.host_name, child.state));
        each.collect()
    }

    /// The only order that a host is told, which is handed out.
    fn told(&self, host: &Known) -> String {
        let mut orders = jobs::due(&self.store, host.row, &[]).unwrap().orders;
        jobs::tell(&self.store, &mut orders, NOW).unwrap();
        assert_eq!(orders.len(), 1, "{orders:?}");
        orders.remove(0).id
    }

    fn is_idle(&self, host: &Known) -> bool {
        jobs::due(&self.store, host.row, &[]).unwrap().orders.is_empty()
    }

    fn report(&self, host: &Known, id: &str, state: JobState) {
        let report = reported(id, state);
        jobs::report(&self.store, host.row, &report, NOW + 5).unwrap().unwrap();
    }

    /// A host takes its only order, and it ends like this.
    fn does(&self, host: &Known, state: JobState) {
        let id = self.told(host);
        self.report(host, &id, JobState::Running);
        self.report(host, &id, state);
    }

    fn silence(&self, host: &Known) {
        reports::lost(&self.store, host.row).unwrap();
        fell_silent(&self.store, host.row, NOW + 9).unwrap();
    }

    fn events(&self) -> Vec<String> {
        let query = events::Query { limit: 100, ..events::Query::default() };
        events::newest(&self.store, &query).unwrap().into_iter().map(|event| event.kind).collect()
    }
}

fn reported(id: &str, state: JobState) -> JobReport {
    let failed = state == JobState::Failed;
    JobReport {
        id: id.into(),
        state,
        started: NOW,
        ended: state.has_ended().then_some(NOW + 1),
        steps: Vec::new(),
        progress: None,
        seconds_left: Some(7),
        can_cancel: true,
        outcome: (state == JobState::Succeeded).then(|| "all is well".into()),
        failure: failed.then(|| Failure::new("disk0", "it cannot be read", "the path is gone", "look at it")),
    }
}

fn states(job: &Job) -> Vec<StepState> {
    job.report.as_ref().unwrap().steps.iter().map(|step| step.state).collect()
}

const QUIESCE: &str = "quiesce with bookmark last";
const FAIL_OVER: &str = "fail over web01 to bookmark:last";

#[test]
fn a_planned_failover_is_one_step_after_the_other() {
    let world = World::new();
    let job = world.planned();
    assert_eq!((job.state, job.host_name.as_str(), job.parent.as_deref()), (JobState::Queued, "mt01", None));
    assert_eq!(states(&job), [StepState::Waiting, StepState::Waiting]);
    assert!(world.is_idle(&world.target), "a workflow is no order, and its second step comes second");
    let meddled = jobs::report(&world.store, world.target.row, &reported(&job.id, JobState::Succeeded), NOW);
    assert_eq!(meddled.unwrap().unwrap_err().code, ErrorCode::NotFound);
    let quiesce = world.told(&world.source);
    world.report(&world.source, &quiesce, JobState::Running);
    let running = world.workflow(&job);
    assert_eq!(running.state, JobState::Running);
    assert_eq!(states(&running), [StepState::Running, StepState::Waiting]);
    assert_eq!(running.report.unwrap().seconds_left, Some(7));
    world.report(&world.source, &quiesce, JobState::Succeeded);
    // What is told again changes nothing.
    world.report(&world.source, &quiesce, JobState::Succeeded);
    assert!(world.is_idle(&world.source));
    world.does(&world.target, JobState::Succeeded);
    let done = world.workflow(&job);
    assert_eq!((done.state, done.ended), (JobState::Succeeded, Some(NOW + 5)));
    assert_eq!(states(&done), [StepState::Done, StepState::Done]);
    let steps = world.children(&job);
    assert_eq!(
        steps,
        [
            (QUIESCE.into(), "web02".into(), JobState::Succeeded),
            (FAIL_OVER.into(), "mt01".into(), JobState::Succeeded)
        ]
    );
    assert!(world.is_idle(&world.source) && world.is_idle(&world.target));
    assert_eq!(world.events(), ["job-succeeded"], "the steps are told by their workflow");
}

#[test]
fn what_was_done_is_undone_when_a_step_fails() {
    let world = World::new();
    let job = world.planned();
    world.does(&world.source, JobState::Succeeded);
    world.does(&world.target, JobState::Failed);
    let undoing = world.workflow(&job);
    assert_eq!(states(&undoing), [StepState::Done, StepState::Failed, StepState::Waiting]);
    let refused = jobs::cancel(&world.store, &job.id, "bert", NOW).unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    world.does(&world.source, JobState::Succeeded);
    let failed = world.workflow(&job);
    assert_eq!(failed.state, JobState::Failed);
    let failure = failed.report.unwrap().failure.unwrap();
    assert_eq!((failure.object.as_str(), failure.what.as_str()), ("disk0", "it cannot be read"));
    assert_eq!(failure.why, "the path is gone; undone: all is well");
    assert_eq!(world.children(&job)[2], ("unquiesce".into(), "web02".into(), JobState::Succeeded));
    assert_eq!(world.events(), ["job-failed"]);
}

#[test]
fn nothing_is_undone_that_was_not_done() {
    let world = World::new();
    let job = world.planned();
    world.does(&world.source, JobState::Failed);
    let failed = world.workflow(&job);
    assert_eq!((failed.state, world.children(&job).len()), (JobState::Failed, 1));
    assert_eq!(failed.report.unwrap().failure.unwrap().why, "the path is gone");
}

#[test]
fn what_cannot_be_undone_is_told() {
    let world = World::new();
    let job = world.planned();
    world.does(&world.source, JobState::Succeeded);
    world.does(&world.target, JobState::Failed);
    world.does(&world.source, JobState::Failed);
    let failure = world.workflow(&job).report.unwrap().failure.unwrap();
    assert!(failure.why.contains("to undo: unquiesce (web02): it cannot be read"), "{failure:?}");
    assert_eq!(failure.next, "look at it; unquiesce (web02): look at it");
}

#[test]
fn cancelling_a_workflow_cancels_its_step_and_undoes_the_others() {
    let world = World::new();
    // Nobody was told of the first step.
    let job = world.planned();
    let cancelled = jobs::cancel(&world.store, &job.id, "bert", NOW).unwrap().unwrap();
    assert_eq!((cancelled.state, cancelled.cancelled_by.as_deref()), (JobState::Cancelled, Some("bert")));
    assert_eq!(world.children(&job), [(QUIESCE.into(), "web02".into(), JobState::Cancelled)]);
    // The second step runs.
    let job = world.planned();
    world.does(&world.source, JobState::Succeeded);
    let failover = world.told(&world.target);
    world.report(&world.target, &failover, JobState::Running);
    let asked = jobs::cancel(&world.store, &job.id, "bert", NOW).unwrap().unwrap();
    assert_eq!(asked.state, JobState::Running);
    let asked = jobs::due(&world.store, world.target.row, &[]).unwrap();
    assert_eq!(asked.cancel.as_slice(), std::slice::from_ref(&failover));
    world.report(&world.target, &failover, JobState::Cancelled);
    world.does(&world.source, JobState::Succeeded);
    let ended = world.workflow(&job);
    assert_eq!(ended.state, JobState::Cancelled);
    assert_eq!(ended.report.unwrap().outcome.unwrap(), "it was given up, and undone: all is well");
    // The first step is done before its host hears of the cancelling.
    let job = world.planned();
    let quiesce = world.told(&world.source);
    world.report(&world.source, &quiesce, JobState::Running);
    jobs::cancel(&world.store, &job.id, "bert", NOW).unwrap().unwrap();
    world.report(&world.source, &quiesce, JobState::Succeeded);
    assert!(world.is_idle(&world.target));
    world.does(&world.source, JobState::Succeeded);
    assert_eq!(world.workflow(&job).state, JobState::Cancelled);
    assert_eq!(world.children(&job)[1].0, "unquiesce");
    assert_eq!(world.events(), ["job-cancelled"; 3]);
}

#[test]
fn who_cancels_a_step_cancels_the_workflow() {
    let world = World::new();
    let job = world.planned();
    let child = jobs::children(&world.store, job.number).unwrap().remove(0);
    jobs::cancel(&world.store, &child.id, "bert", NOW).unwrap().unwrap();
    assert_eq!(world.workflow(&job).state, JobState::Cancelled);
}

#[test]
fn a_step_that_cannot_be_stopped_safely_keeps_its_workflow_from_being_cancelled() {
    let world = World::new();
    let job = world.planned();
    let id = world.told(&world.source);
    let report = JobReport { can_cancel: false, ..reported(&id, JobState::Running) };
    jobs::report(&world.store, world.source.row, &report, NOW).unwrap().unwrap();
    assert!(!world.workflow(&job).report.unwrap().can_cancel);
    assert!(jobs::cancel(&world.store, &job.id, "bert", NOW).unwrap().is_err());
}

#[test]
fn a_source_that_died_while_it_came_to_rest_holds_up_nobody_who_cancels() {
    let world = World::new();
    let job = world.planned();
    let quiesce = world.told(&world.source);
    world.report(&world.source, &quiesce, JobState::Running);
    world.silence(&world.source);
    assert_eq!(world.workflow(&job).state, JobState::Running, "it may come back");
    let cancelled = jobs::cancel(&world.store, &job.id, "bert", NOW).unwrap().unwrap();
    assert_eq!(cancelled.state, JobState::Cancelled);
    let outcome = cancelled.report.unwrap().outcome.unwrap();
    assert!(outcome.contains("web02 is not connected: it takes effect when it is back"), "{outcome}");
    // The same when it falls silent after that.
    reports::put(
        &world.store,
        world.source.row,
        &heartbeat(described(HostKind::SourceAgent, 2), Vec::new()),
        NOW,
    )
    .unwrap();
    let reply = jobs::due(&world.store, world.source.row, &[quiesce.as_str().to_owned()]).unwrap();
    assert_eq!(
        (reply.cancel, reply.orders.len()),
        (vec![quiesce.clone()], 1),
        "both are told when it is back"
    );
    world.report(&world.source, &quiesce, JobState::Succeeded);
    world.does(&world.source, JobState::Succeeded);
    assert_eq!(world.workflow(&job).state, JobState::Cancelled);
    assert_eq!(world.events(), ["job-succeeded", "job-succeeded", "job-cancelled"]);
    let job = world.planned();
    let quiesce = world.told(&world.source);
    world.report(&world.source, &quiesce, JobState::Running);
    jobs::cancel(&world.store, &job.id, "bert", NOW).unwrap().unwrap();
    assert_eq!(world.workflow(&job).state, JobState::Running);
    world.silence(&world.source);
    assert_eq!(world.workflow(&job).state, JobState::Cancelled);
}

#[test]
fn a_cancelled_failover_lets_its_source_go_on() {
    let world = World::new();
    let (target, source) = world.places();
    let plan = Plan::cancel_failover("web01", &target, Some(&source));
    let job = world.order(&plan);
    world.does(&world.target, JobState::Succeeded);
    assert!(jobs::cancel(&world.store, &job.id, "bert", NOW).unwrap().is_err());
    world.does(&world.source, JobState::Failed);
    let failure = world.workflow(&job).report.unwrap().failure.unwrap();
    assert_eq!(failure.why, "the path is gone; done all the same: all is well");
    // Nothing of it comes when the first step fails.
    let job = world.order(&plan);
    world.does(&world.target, JobState::Failed);
    assert_eq!((world.workflow(&job).state, world.children(&job).len()), (JobState::Failed, 1));
    // A source that is silent lets writes through when it is back.
    let job = world.order(&plan);
    world.silence(&world.source);
    world.does(&world.target, JobState::Succeeded);
    let done = world.workflow(&job);
    assert_eq!((done.state, states(&done)[1]), (JobState::Succeeded, StepState::Waiting));
    assert!(done.report.unwrap().outcome.unwrap().contains("takes effect when it is back"));
    assert_eq!(world.children(&job)[1].2, JobState::Queued);
}

#[test]
fn a_commit_does_not_wait_for_a_source_that_is_gone() {
    let world = World::new();
    let (target, source) = world.places();
    let job = world.order(&Plan::commit("web01", &target, Some(&source)));
    world.does(&world.target, JobState::Succeeded);
    // Nobody has noticed yet that it was shut down.
    assert_eq!(world.workflow(&job).state, JobState::Running);
    world.silence(&world.source);
    assert_eq!(world.workflow(&job).state, JobState::Succeeded);
    let again = world.order(&Plan::commit("web01", &target, Some(&source)));
    world.does(&world.target, JobState::Succeeded);
    let done = world.workflow(&again);
    assert_eq!(done.state, JobState::Succeeded, "{done:?}");
    // One that refuses does not spoil it, and a source that nobody knows is told of.
    hosts::revoke(&world.store, &world.source, NOW).unwrap();
    let refused = world.order(&Plan::commit("web01", &target, Some(&source)));
    world.does(&world.target, JobState::Succeeded);
    let done = world.workflow(&refused);
    assert_eq!((done.state, states(&done)[1]), (JobState::Succeeded, StepState::Failed));
    assert!(done.report.unwrap().outcome.unwrap().contains("its registration was revoked"));
    let alone = world.order(&Plan::commit("web01", &target, None));
    world.does(&world.target, JobState::Succeeded);
    assert!(world.workflow(&alone).report.unwrap().outcome.unwrap().contains("mt-source stop-replicating"));
}

#[test]
fn a_workflow_goes_on_when_a_host_of_it_is_revoked() {
    let world = World::new();
    let job = world.planned();
    world.does(&world.source, JobState::Succeeded);
    world.told(&world.target);
    hosts::revoke(&world.store, &world.target, NOW).unwrap();
    assert_eq!(world.workflow(&job).state, JobState::Running);
    world.does(&world.source, JobState::Succeeded);
    let failed = world.workflow(&job);
    let why = failed.report.unwrap().failure.unwrap().why;
    assert!(failed.state == JobState::Failed && why.contains("mt01 was revoked"), "{why}");
    // One that cannot even begin.
    let job = world.planned();
    world.does(&world.source, JobState::Succeeded);
    world.does(&world.source, JobState::Succeeded);
    let why = world.workflow(&job).report.unwrap().failure.unwrap().why;
    assert!(why.contains("its registration was revoked"), "{why}");
}

#[test]
fn a_crash_at_any_moment_neither_loses_nor_doubles_a_step() {
    let world = World::new();
    let (target, source) = world.places();
    let plan = Plan::planned_failover("web01", &target, &source, "last");
    let count =
        || -> i64 { world.store.query_row("SELECT count(*) FROM job", [], |row| row.get(0)).unwrap() };
    // A crash before the commit of the order: nothing is there.
    let crashed = world.store.unchecked_transaction().unwrap();
    order(&crashed, &plan, Some(world.item), "anna", NOW).unwrap().unwrap();
    crashed.rollback().unwrap();
    assert_eq!(count(), 0);
    let job = world.order(&plan);
    for (host, state) in [
        (&world.source, JobState::Succeeded),
        (&world.target, JobState::Failed),
        (&world.source, JobState::Succeeded),
    ] {
        let (id, before) = (world.told(host), count());
        let ended = reported(&id, state);
        let crashed = world.store.unchecked_transaction().unwrap();
        jobs::report(&crashed, host.row, &ended, NOW).unwrap().unwrap();
        crashed.rollback().unwrap();
        // The step is as before, and its host tells its end again and again.
        assert_eq!((count(), world.told(host)), (before, id));
        for _ in 0..3 {
            jobs::report(&world.store, host.row, &ended, NOW).unwrap().unwrap();
        }
        assert!(count() <= before + 1);
    }
    assert_eq!((world.workflow(&job).state, world.children(&job).len()), (JobState::Failed, 3));
    assert!(world.is_idle(&world.source) && world.is_idle(&world.target));
    assert_eq!(world.events(), ["job-failed"]);
}

fn reprotect() -> Reprotect {
    let policy = ItemPolicy {
        window_seconds: 60,
        rpo_threshold_seconds: 60,
        application_consistent_every_seconds: None,
    };
    let target = TargetOrder::Existing { target: "/vmfs/web01.vmdk".into() };
    let disks = vec![DiskOrder { id: "disk0".into(), size: 512, target }];
    let (item, source) = ("web01".to_owned(), "b".repeat(32));
    Reprotect {
        workflow: Workflow::Reprotect { item: item.clone(), source, policy: 1, group: None },
        item: ItemOrder { name: item, source: "web02".into(), policy, disks },
        address: "mt01:9443".into(),
        server_name: "mt01".into(),
    }
}

#[test]
fn what_moves_an_item_is_known_however_it_was_ordered() {
    let world = World::new();
    let job = JobKind::Failover { item: "web01".into(), point: control_api::PointSelector::Latest };
    let new =
        jobs::NewJob { host: world.target.row, item: Some(world.item), job, by: "anna".into(), now: NOW };
    let alone = jobs::add(&world.store, &new).unwrap().unwrap();
    assert_eq!(moves_item(&world.store, world.item).unwrap().unwrap().id, alone.id);
    assert_eq!(open_of_item(&world.store, world.item).unwrap(), None, "no workflow does");
    world.does(&world.target, JobState::Succeeded);
    assert_eq!(moves_item(&world.store, world.item).unwrap(), None);
}

/// All that plans have to be for the engine to be right.
#[test]
fn every_plan_is_sound() {
    let world = World::new();
    let (target, source) = world.places();
    let pair = Pair::new();
    for plan in [
        pair.bookmark(),
        pair.failover(),
        Plan::group_planned_failover(&pair.group, &pair.members, "last"),
        Plan::group_cancel_failover(&pair.group, &pair.members),
        Plan::group_commit(&pair.group, &pair.members),
        Plan::planned_failover("web01", &target, &source, "last"),
        Plan::cancel_failover("web01", &target, Some(&source)),
        Plan::cancel_failover("web01", &target, None),
        Plan::commit("web01", &target, Some(&source)),
        Plan::reprotect(reprotect(), &target, &source),
    ] {
        let rank = |step: &Step| match step.role {
            Role::Needed => 0,
            Role::Following { .. } => 1,
            Role::Undo { .. } => 2,
        };
        assert!(plan.steps.is_sorted_by_key(rank), "{plan:?}");
        assert!(!plan.steps[0].beside);
        let beside = plan.steps.windows(2).filter(|two| two[1].beside);
        assert!(beside.into_iter().all(|two| rank(&two[0]) == rank(&two[1])), "{plan:?}");
        for step in &plan.steps {
            let host = if step.place == target { &world.target } else { &world.source };
            assert_eq!(step.job.done_by(), host.kind, "{step:?}");
            match step.role {
                Role::Undo { step, .. } => assert_eq!(plan.steps[step].role, Role::Needed),
                Role::Following { step: before, .. } => {
                    assert_eq!((plan.steps[before].role, plan.steps[before].item), (Role::Needed, step.item));
                }
                _ => {}
            }
        }
        let text = serde_json::to_string(&plan.steps).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Step>>(&text).unwrap(), plan.steps);
        let task = Task::Workflow(plan.workflow);
        assert_eq!(serde_json::from_str::<Task>(&serde_json::to_string(&task).unwrap()).unwrap(), task);
    }
}
