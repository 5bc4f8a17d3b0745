//! Workflows of all items of a group.

use super::*;

/// A group of two items, whose second source is another host.
pub(super) struct Pair {
    world: World,
    pub(super) group: Group,
    other: Known,
    pub(super) members: Vec<Member>,
}

impl Pair {
    pub(super) fn new() -> Pair {
        let world = World::new();
        let other = register(&world.store, HostKind::SourceAgent, 3);
        let beat = heartbeat(described(HostKind::SourceAgent, 3), Vec::new());
        reports::put(&world.store, other.row, &beat, NOW).unwrap();
        let db01 = items::put(&world.store, world.target.row, &item("db01", ItemState::Protected), NOW, NOW);
        let member = |item, name: &str, source: &Known| Member {
            item,
            name: name.into(),
            target: Place::from(&world.target),
            source: Some(Place::from(source)),
            failed_over: false,
        };
        let members = vec![member(world.item, "web01", &world.source), member(db01.unwrap(), "db01", &other)];
        Pair { world, group: Group { id: 7, name: "Shop".into(), items: 2 }, other, members }
    }

    fn order(&self, plan: &Plan) -> Job {
        order(&self.world.store, plan, None, "anna", NOW).unwrap().unwrap()
    }

    pub(super) fn bookmark(&self) -> Plan {
        self.bookmark_that(false)
    }

    fn bookmark_that(&self, regular: bool) -> Plan {
        let meeting = "0f".repeat(16);
        let shared =
            Shared { bookmark: "nightly", meeting: &meeting, application_consistent: false, regular };
        Plan::group_bookmark(&self.group, &self.members, &shared)
    }

    pub(super) fn failover(&self) -> Plan {
        let numbered: Vec<_> = self.members.iter().cloned().zip(7..).collect();
        Plan::group_failover(&self.group, &numbered, "nightly-1")
    }

    /// All orders that the master target is told, which are handed out.
    fn told(&self) -> Vec<String> {
        let store = &self.world.store;
        let mut orders = jobs::due(store, self.world.target.row, &[]).unwrap().orders;
        jobs::tell(store, &mut orders, NOW).unwrap();
        orders.into_iter().map(|order| order.id).collect()
    }
}

#[test]
fn steps_beside_each_other_are_ordered_together_and_all_are_waited_for() {
    let pair = Pair::new();
    let world = &pair.world;
    let plan = Plan::group_planned_failover(&pair.group, &pair.members, "last");
    let job = pair.order(&plan);
    assert_eq!(states(&job), [StepState::Waiting; 4]);
    let about: Vec<_> =
        jobs::children(&world.store, job.number).unwrap().iter().map(|job| job.item).collect();
    assert_eq!(about, [Some(pair.members[1].item), Some(pair.members[0].item)]);
    assert_eq!(open_of_item(&world.store, pair.members[1].item).unwrap().unwrap().id, job.id);
    assert_eq!(open_of_group(&world.store, 7).unwrap().unwrap().id, job.id);
    world.does(&pair.other, JobState::Succeeded);
    assert!(world.is_idle(&world.target), "the other source is not at rest");
    assert_eq!(
        states(&world.workflow(&job)),
        [StepState::Waiting, StepState::Done, StepState::Waiting, StepState::Waiting]
    );
    world.does(&world.source, JobState::Succeeded);
    let failovers = pair.told();
    assert_eq!(failovers.len(), 2);
    for id in failovers {
        world.report(&world.target, &id, JobState::Succeeded);
    }
    let done = world.workflow(&job);
    assert_eq!((done.state, world.children(&job).len()), (JobState::Succeeded, 4));
    assert_eq!(done.report.unwrap().outcome.unwrap(), "all is well", "it is said once");
    assert_eq!(open_of_item(&world.store, pair.members[1].item).unwrap(), None);
    assert_eq!(world.events(), ["job-succeeded"]);
}

#[test]
fn an_item_of_a_group_that_cannot_fail_over_takes_the_others_back() {
    for (first, then) in [(JobState::Failed, JobState::Succeeded), (JobState::Succeeded, JobState::Failed)] {
        let pair = Pair::new();
        let world = &pair.world;
        let job = pair.order(&pair.failover());
        let failovers = pair.told();
        world.report(&world.target, &failovers[0], first);
        assert!(pair.told().iter().all(|id| *id == failovers[1]), "the other one is waited for");
        world.report(&world.target, &failovers[1], then);
        world.does(&world.target, JobState::Succeeded);
        let failed = world.workflow(&job);
        assert_eq!((failed.state, world.children(&job).len()), (JobState::Failed, 3));
        let back = if first == JobState::Succeeded { "web01" } else { "db01" };
        assert_eq!(world.children(&job)[2].0, format!("cancel the failover of {back}"));
        assert_eq!(failed.report.unwrap().failure.unwrap().why, "the path is gone; undone: all is well");
    }
    // One that was failed over before stays so.
    let mut pair = Pair::new();
    pair.members[0].failed_over = true;
    let job = pair.order(&pair.failover());
    let failovers = pair.told();
    pair.world.report(&pair.world.target, &failovers[0], JobState::Succeeded);
    pair.world.report(&pair.world.target, &failovers[1], JobState::Failed);
    let failed = pair.world.workflow(&job);
    assert_eq!((failed.state, pair.world.children(&job).len()), (JobState::Failed, 2));
}

#[test]
fn a_crash_beside_other_steps_neither_loses_nor_doubles_one() {
    let pair = Pair::new();
    let world = &pair.world;
    let count =
        || -> i64 { world.store.query_row("SELECT count(*) FROM job", [], |row| row.get(0)).unwrap() };
    let crashed = world.store.unchecked_transaction().unwrap();
    order(&crashed, &pair.failover(), None, "anna", NOW).unwrap().unwrap();
    crashed.rollback().unwrap();
    assert_eq!(count(), 0, "all of it is ordered, or nothing");
    let job = pair.order(&pair.failover());
    for (id, state) in pair.told().into_iter().zip([JobState::Succeeded, JobState::Failed]) {
        let (before, ended) = (count(), reported(&id, state));
        let crashed = world.store.unchecked_transaction().unwrap();
        jobs::report(&crashed, world.target.row, &ended, NOW).unwrap().unwrap();
        crashed.rollback().unwrap();
        assert!(count() == before && pair.told().contains(&id), "it is told again");
        for _ in 0..3 {
            jobs::report(&world.store, world.target.row, &ended, NOW).unwrap().unwrap();
        }
        assert!(count() <= before + 1);
    }
    world.does(&world.target, JobState::Succeeded);
    assert_eq!((world.workflow(&job).state, world.children(&job).len()), (JobState::Failed, 3));
    assert!(world.is_idle(&world.target));
}

#[test]
fn cancelling_gives_up_all_steps_that_go_on() {
    let pair = Pair::new();
    let world = &pair.world;
    let job = pair.order(&pair.bookmark());
    let told = world.told(&world.source);
    world.report(&world.source, &told, JobState::Running);
    jobs::cancel(&world.store, &job.id, "bert", NOW).unwrap().unwrap();
    assert_eq!(world.workflow(&job).state, JobState::Running);
    assert!(world.is_idle(&pair.other), "nobody was told of the other one");
    world.report(&world.source, &told, JobState::Cancelled);
    assert_eq!(world.workflow(&job).state, JobState::Cancelled);
    // One of them cannot be given up any more.
    let job = pair.order(&pair.bookmark());
    let told = world.told(&pair.other);
    let report = JobReport { can_cancel: false, ..reported(&told, JobState::Running) };
    jobs::report(&world.store, pair.other.row, &report, NOW).unwrap().unwrap();
    assert!(!world.workflow(&job).report.unwrap().can_cancel);
    assert!(jobs::cancel(&world.store, &job.id, "bert", NOW).unwrap().is_err());
}

#[test]
fn a_bookmark_of_a_group_does_not_wait_for_a_source_that_is_gone() {
    let pair = Pair::new();
    let world = &pair.world;
    let job = pair.order(&pair.bookmark());
    assert_eq!(open_of_item(&world.store, world.item).unwrap(), None, "nothing waits for a bookmark");
    world.told(&world.source);
    world.silence(&pair.other);
    assert_eq!(world.workflow(&job).state, JobState::Queued, "the first one may be at it");
    let told = world.told(&world.source);
    world.report(&world.source, &told, JobState::Failed);
    assert_eq!(world.workflow(&job).state, JobState::Failed);
    // All of them are gone.
    let job = pair.order(&pair.bookmark());
    world.silence(&world.source);
    let failed = world.workflow(&job);
    assert_eq!(failed.state, JobState::Failed);
    let failure = failed.report.unwrap().failure.unwrap();
    assert_eq!(failure.what, "it was not waited for");
}

#[test]
fn bookmarks_that_nobody_ordered_are_told_only_when_something_changes() {
    let pair = Pair::new();
    let world = &pair.world;
    let ends = |state| {
        forget_regular(&world.store, 7).unwrap();
        let job = pair.order(&pair.bookmark_that(true));
        world.does(&world.source, state);
        world.does(&pair.other, state);
        assert_eq!(world.workflow(&job).state, state);
    };
    let events = || world.events().into_iter().rev().collect::<Vec<_>>();
    ends(JobState::Succeeded);
    ends(JobState::Succeeded);
    assert_eq!(events(), [""; 0]);
    ends(JobState::Failed);
    ends(JobState::Failed);
    assert_eq!(events(), ["job-failed"]);
    ends(JobState::Succeeded);
    ends(JobState::Succeeded);
    assert_eq!(events(), ["job-failed", "job-succeeded"]);
    let left = || -> i64 { world.store.query_row("SELECT count(*) FROM job", [], |row| row.get(0)).unwrap() };
    assert_eq!(left(), 2 * 3, "what became of the one before is told by it");
    // Those of another group, and those that somebody ordered, stay.
    let own = pair.order(&pair.bookmark());
    world.does(&world.source, JobState::Succeeded);
    world.does(&pair.other, JobState::Succeeded);
    forget_regular(&world.store, 8).unwrap();
    assert_eq!(left(), 3 * 3);
    forget_regular(&world.store, 7).unwrap();
    assert_eq!((left(), world.workflow(&own).state), (2 * 3, JobState::Succeeded));
}

#[test]
fn steps_that_cannot_be_ordered_fail_with_all_the_others_there() {
    let pair = Pair::new();
    let world = &pair.world;
    hosts::revoke(&world.store, &world.source, NOW).unwrap();
    let job = pair.order(&pair.bookmark());
    assert_eq!((job.state, world.children(&job).len()), (JobState::Running, 2));
    world.does(&pair.other, JobState::Failed);
    let failure = world.workflow(&job).report.unwrap().failure.unwrap();
    assert!(failure.why.contains("its registration was revoked"), "{failure:?}");
}

#[test]
fn a_group_is_committed_as_far_as_it_can_be() {
    let pair = Pair::new();
    let world = &pair.world;
    let job = pair.order(&Plan::group_commit(&pair.group, &pair.members));
    let commits = pair.told();
    world.silence(&world.target);
    assert_eq!(world.workflow(&job).state, JobState::Queued, "nothing comes of it without the master target");
    assert!(world.is_idle(&world.source) && world.is_idle(&pair.other));
    world.report(&world.target, &commits[0], JobState::Failed);
    world.report(&world.target, &commits[1], JobState::Succeeded);
    assert!(world.is_idle(&world.source), "what is not committed keeps its source");
    world.silence(&pair.other);
    let failed = world.workflow(&job);
    assert_eq!((failed.state, world.children(&job).len()), (JobState::Failed, 3));
    assert_eq!(
        failed.report.unwrap().failure.unwrap().why,
        "the path is gone; done all the same: all is well"
    );
}

#[test]
fn a_group_comes_back_as_far_as_it_can_and_the_rest_when_it_is_ordered_again() {
    let pair = Pair::new();
    let world = &pair.world;
    let back = pair.order(&Plan::group_cancel_failover(&pair.group, &pair.members));
    let cancels = pair.told();
    world.report(&world.target, &cancels[0], JobState::Succeeded);
    world.report(&world.target, &cancels[1], JobState::Failed);
    assert!(world.is_idle(&pair.other), "no source goes on while its replica may be in use");
    world.does(&world.source, JobState::Succeeded);
    assert_eq!((world.workflow(&back).state, world.children(&back).len()), (JobState::Failed, 3));
    let again = pair.order(&Plan::group_cancel_failover(&pair.group, &pair.members[1..]));
    world.does(&world.target, JobState::Succeeded);
    world.does(&pair.other, JobState::Succeeded);
    assert_eq!(world.workflow(&again).state, JobState::Succeeded);
    // Given up in the middle: what is back stays so, and says so.
    let back = pair.order(&Plan::group_cancel_failover(&pair.group, &pair.members));
    let cancels = pair.told();
    world.report(&world.target, &cancels[0], JobState::Succeeded);
    world.report(&world.target, &cancels[1], JobState::Running);
    jobs::cancel(&world.store, &back.id, "bert", NOW).unwrap().unwrap();
    world.report(&world.target, &cancels[1], JobState::Cancelled);
    world.does(&world.source, JobState::Failed);
    let ended = world.workflow(&back);
    assert_eq!(ended.state, JobState::Cancelled);
    let outcome = ended.report.unwrap().outcome.unwrap();
    assert!(outcome.contains("nothing had to be undone; done all the same: all is well"), "{outcome}");
}
