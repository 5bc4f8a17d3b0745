use super::*;
use crate::store::hosts;
use crate::store::jobs;
use crate::store::testing::{NOW, described, heartbeat, item, register, store};
use control_api::ErrorCode;
use control_api::agent::{JobState, Protection};
use control_api::registration::HostKind;
use tempfile::TempDir;

/// A master target with an item, and its source.
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
        let beat = heartbeat(described(HostKind::MasterTarget, 1), Vec::new());
        reports::put(&store, target.row, &beat, NOW).unwrap();
        let mut world = World { _folder: folder, store, target, source, item: 0 };
        world.item = world.tell(ItemState::Protected, Some("web02"));
        world.protects(2, world.source.row, "web01", "mt01:9443", false);
        world
    }

    fn tell(&self, state: ItemState, peer: Option<&str>) -> i64 {
        let mut told = item("web01", state);
        told.status.peer = peer.map(str::to_owned);
        items::put(&self.store, self.target.row, &told, NOW, NOW).unwrap()
    }

    fn protects(&self, number: u8, row: i64, item: &str, target: &str, quiesced: bool) {
        let mut beat = heartbeat(described(HostKind::SourceAgent, number), Vec::new());
        beat.protection = Some(Protection {
            item: item.into(),
            target: target.into(),
            disks: Vec::new(),
            quiesced,
            state: "level".into(),
            ..Protection::default()
        });
        reports::put(&self.store, row, &beat, NOW).unwrap();
    }

    fn order(&self, wanted: Wanted) -> std::result::Result<Job, ApiError> {
        order(&self.store, self.item, wanted, "anna", NOW).unwrap().map(|(job, _)| job)
    }

    fn refused(&self, wanted: Wanted) -> String {
        let refused = self.order(wanted).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Conflict);
        refused.failure.why
    }

    /// Orders a workflow, gives it up again, and tells its steps.
    fn steps(&self, wanted: Wanted) -> Vec<String> {
        let job = self.order(wanted).unwrap();
        jobs::cancel(&self.store, &job.id, "anna", NOW).unwrap().unwrap();
        job.report.unwrap().steps.into_iter().map(|step| step.name).collect()
    }
}

#[test]
fn a_planned_failover_needs_a_source_at_hand() {
    let world = World::new();
    let ordered = world.order(Wanted::PlannedFailover).unwrap();
    assert_eq!(ordered.item, Some(world.item));
    assert!(world.refused(Wanted::Commit).contains("planned failover of web01 goes on"));
    jobs::cancel(&world.store, &ordered.id, "anna", NOW).unwrap().unwrap();
    world.protects(2, world.source.row, "web01", "mt01:9443", true);
    assert!(world.refused(Wanted::PlannedFailover).contains("are at rest already"));
    reports::lost(&world.store, world.source.row).unwrap();
    assert!(world.refused(Wanted::PlannedFailover).contains("web02, is not connected"));
    world.tell(ItemState::Protected, None);
    assert!(world.refused(Wanted::PlannedFailover).contains("no source agent"));
    for (state, why) in [(ItemState::FailedOver, "failed over already"), (ItemState::Fenced, "it is fenced")]
    {
        world.tell(state, Some("web02"));
        assert!(world.refused(Wanted::PlannedFailover).contains(why));
    }
    let unknown = order(&world.store, 99, Wanted::Commit, "anna", NOW).unwrap().err().unwrap();
    assert_eq!(unknown.code, ErrorCode::NotFound);
}

#[test]
fn nobody_lets_writes_through_in_the_middle_of_a_workflow() {
    use crate::server::actions::jobs as actions_of_jobs;
    use control_api::agent::JobKind;
    let world = World::new();
    let order_alone = |job: JobKind| {
        let ordered =
            actions_of_jobs::order(&world.store, &world.source.id, job, "bert".into(), NOW).unwrap();
        ordered.map(drop).map_err(|refused| refused.failure.why)
    };
    let workflow = world.order(Wanted::PlannedFailover).unwrap();
    for job in [JobKind::Unquiesce, JobKind::StopReplicating] {
        let why = order_alone(job).unwrap_err();
        assert!(why.contains("planned failover of web01 goes on"), "{why}");
    }
    assert_eq!(
        order_alone(JobKind::Check),
        Err("it is a source agent, and only a master target does this".into())
    );
    jobs::cancel(&world.store, &workflow.id, "anna", NOW).unwrap().unwrap();
    assert_eq!(order_alone(JobKind::Unquiesce), Ok(()));
}

#[test]
fn a_source_that_sends_nothing_now_is_known_by_what_is_certain_alone() {
    let world = World::new();
    world.tell(ItemState::FailedOver, None);
    let (commit, stop) = ("commit the failover of web01 (mt01)", "stop replicating (web02)");
    assert_eq!(world.steps(Wanted::Commit), [commit, stop]);
    // By the address that the master target comes from.
    world.protects(2, world.source.row, "web01", "10.0.0.5:9443", false);
    assert_eq!(world.steps(Wanted::Commit), [commit, stop]);
    // An item of this name at another master target is another item.
    world.protects(2, world.source.row, "web01", "mt09:9443", false);
    assert_eq!(world.steps(Wanted::Commit), [commit]);
    world.protects(2, world.source.row, "db01", "mt01:9443", false);
    assert_eq!(world.steps(Wanted::Commit), [commit]);
    // Two that say the same, unless one of them was brought to rest for it.
    let other = register(&world.store, HostKind::SourceAgent, 3);
    world.protects(2, world.source.row, "web01", "mt01:9443", false);
    world.protects(3, other.row, "web01", "mt01:9443", false);
    assert_eq!(world.steps(Wanted::Commit), [commit]);
    world.tell(ItemState::Protected, Some("web02"));
    let planned = world.steps(Wanted::PlannedFailover);
    assert!(planned[0].starts_with("quiesce with bookmark planned-failover-"), "{planned:?}");
    world.tell(ItemState::FailedOver, None);
    assert_eq!(world.steps(Wanted::Commit), [commit, stop]);
    hosts::revoke(&world.store, &world.source, NOW).unwrap();
    assert_eq!(world.steps(Wanted::Commit), [commit, "stop replicating (web03)"]);
}

#[test]
fn a_source_is_let_go_on_when_it_was_brought_to_rest() {
    let world = World::new();
    let (back, free) = ("cancel the failover of web01 (mt01)", "unquiesce (web02)");
    world.tell(ItemState::FailedOver, None);
    assert_eq!(world.steps(Wanted::CancelFailover), [back]);
    world.protects(2, world.source.row, "web01", "mt01:9443", true);
    assert_eq!(world.steps(Wanted::CancelFailover), [back, free]);
    // Its last heartbeat may be older than its rest.
    world.protects(2, world.source.row, "web01", "mt01:9443", false);
    world.tell(ItemState::Protected, Some("web02"));
    world.steps(Wanted::PlannedFailover);
    world.tell(ItemState::FailedOver, None);
    let job = world.order(Wanted::CancelFailover).unwrap();
    assert_eq!((job.state, job.report.unwrap().steps.len()), (JobState::Queued, 2));
}
