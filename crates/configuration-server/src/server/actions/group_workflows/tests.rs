use super::*;
use crate::server::actions::{jobs as actions_of_jobs, workflows as actions_of_workflows};
use crate::store::hosts::Known;
use crate::store::jobs;
use crate::store::testing::{NOW, described, heartbeat, item, register, store};
use control_api::agent::{JobKind, JobState, Protection};
use control_api::registration::HostKind;
use control_api::{Bookmark, ErrorCode, Point};
use tempfile::TempDir;

/// A master target with two items in a group, and their sources.
struct World {
    _folder: TempDir,
    store: Connection,
    target: Known,
    sources: Vec<Known>,
    items: Vec<i64>,
    group: i64,
}

const NAMES: [&str; 2] = ["web01", "db01"];

impl World {
    fn new() -> World {
        let (folder, store) = store();
        let target = register(&store, HostKind::MasterTarget, 1);
        let beat = heartbeat(described(HostKind::MasterTarget, 1), Vec::new());
        reports::put(&store, target.row, &beat, NOW).unwrap();
        let sources = [2, 3].map(|number| register(&store, HostKind::SourceAgent, number)).into();
        let group = groups::add(&store, "Shop").unwrap().unwrap().id;
        let mut world = World { _folder: folder, store, target, sources, items: Vec::new(), group };
        for member in 0..2 {
            let id = world.tell(member, ItemState::Protected, &["both-1", ["only-2", "else-3"][member]]);
            groups::assign(&world.store, id, Some(group)).unwrap().unwrap();
            world.items.push(id);
            world.protects(member, false);
        }
        world
    }

    /// The master target tells of an item, with these bookmarks of the group.
    fn tell(&self, member: usize, state: ItemState, bookmarks: &[&str]) -> i64 {
        let mut told = item(NAMES[member], state);
        told.status.peer = Some(self.sources[member].name.clone());
        let point = |(number, name): (usize, &&str)| Point {
            number: number as u64,
            source_time: NOW,
            receive_time: NOW,
            bookmark: Some(Bookmark {
                name: (*name).to_owned(),
                application_consistent: false,
                group: Some("Shop".into()),
            }),
            tested: None,
            journal_bytes: 0,
        };
        told.status.holds_point = (state == ItemState::FailedOver).then_some(0);
        told.points = Some(bookmarks.iter().enumerate().map(point).collect());
        items::put(&self.store, self.target.row, &told, NOW, NOW).unwrap()
    }

    fn tell_both(&self, state: ItemState) {
        for member in 0..2 {
            self.tell(member, state, &["both-1"]);
        }
    }

    fn protects(&self, member: usize, quiesced: bool) {
        let number = u8::try_from(member + 2).unwrap();
        let mut beat = heartbeat(described(HostKind::SourceAgent, number), Vec::new());
        beat.protection = Some(Protection {
            item: NAMES[member].into(),
            target: "mt01:9443".into(),
            disks: Vec::new(),
            quiesced,
            state: "level".into(),
            backlog_bytes: 0,
            drain_seconds: None,
            bytes_per_second: 0,
            alerts: Vec::new(),
        });
        reports::put(&self.store, self.sources[member].row, &beat, NOW).unwrap();
    }

    fn order(&self, wanted: &Wanted) -> std::result::Result<Job, ApiError> {
        order(&self.store, self.group, wanted, "anna", NOW).unwrap().map(|(job, _)| job)
    }

    fn refused(&self, wanted: &Wanted) -> String {
        let refused = self.order(wanted).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Conflict);
        refused.failure.why
    }

    /// Titles of the steps, and how many of them were ordered at once; the workflow is given up again.
    fn steps(&self, wanted: &Wanted) -> (Vec<String>, usize) {
        let job = self.order(wanted).unwrap();
        let query = jobs::Query { parent: Some(job.id.clone()), limit: 100, ..jobs::Query::default() };
        let ordered = jobs::list(&self.store, &query).unwrap().len();
        let steps = job.report.unwrap().steps.into_iter().map(|step| step.name).collect();
        for child in jobs::list(&self.store, &query).unwrap() {
            jobs::cancel(&self.store, &child.id, "anna", NOW).unwrap().unwrap();
        }
        (steps, ordered)
    }
}

fn bookmark() -> Wanted {
    Wanted::Bookmark { name: "nightly".into(), application_consistent: true, regular: false }
}

fn failover(bookmark: &str) -> Wanted {
    Wanted::Failover { bookmark: bookmark.into() }
}

#[test]
fn a_bookmark_of_a_group_is_ordered_of_all_sources_at_once_in_one_meeting() {
    let world = World::new();
    let job = world.order(&bookmark()).unwrap();
    assert_eq!((job.host_name.as_str(), job.item), ("mt01", None));
    let orders: Vec<JobKind> = world
        .sources
        .iter()
        .flat_map(|source| jobs::due(&world.store, source.row, &[]).unwrap().orders)
        .map(|order| order.job)
        .collect();
    let [JobKind::GroupBookmark { meeting, group, .. }, other] = &orders[..] else { panic!("{orders:?}") };
    assert_eq!((group.as_str(), other), ("Shop", &orders[0]));
    for source in &world.sources {
        let jobs::Seat::Members(members) = jobs::seat(&world.store, source.row, meeting).unwrap() else {
            panic!("{} is no member", source.name)
        };
        assert_eq!(members.len(), 2);
    }
    assert_eq!(jobs::seat(&world.store, world.target.row, meeting).unwrap(), jobs::Seat::None);
    assert_eq!(jobs::seat(&world.store, world.sources[0].row, &"0".repeat(32)).unwrap(), jobs::Seat::None);
    assert!(world.refused(&bookmark()).contains("bookmark nightly of group Shop goes on"));
    // An emergency is not held up by it.
    world.order(&failover("both-1")).unwrap();
    let commit = actions_of_workflows::Wanted::Commit;
    let alone = actions_of_workflows::order(&world.store, world.items[0], commit, "anna", NOW).unwrap();
    let why = alone.err().unwrap().failure.why;
    assert!(why.contains("fail over group Shop to bookmark:both-1 goes on"), "{why}");
    assert!(world.refused(&failover("both-1")).contains("goes on"));
}

#[test]
fn a_meeting_is_over_when_a_member_has_failed_and_done_when_one_has_succeeded() {
    for (state, over) in [(JobState::Cancelled, true), (JobState::Succeeded, false)] {
        let world = World::new();
        world.order(&bookmark()).unwrap();
        let order = jobs::due(&world.store, world.sources[0].row, &[]).unwrap().orders.remove(0);
        let JobKind::GroupBookmark { meeting, .. } = &order.job else { panic!("{order:?}") };
        world
            .store
            .execute("UPDATE job SET ended = 1, state = ? WHERE uuid = ?", [state.id(), &order.id])
            .unwrap();
        assert_eq!(jobs::seat(&world.store, world.sources[0].row, meeting).unwrap(), jobs::Seat::None);
        match jobs::seat(&world.store, world.sources[1].row, meeting).unwrap() {
            jobs::Seat::Over(why) => assert!(over && why.contains("cancelled"), "{why}"),
            seat => assert!(!over && seat == jobs::Seat::Done, "{seat:?}"),
        }
    }
}

#[test]
fn a_bookmark_that_nobody_asks_for_is_ordered_when_it_can_be() {
    let mut world = World::new();
    assert!(order_regularly(&mut world.store, world.group, NOW).unwrap());
    assert!(!order_regularly(&mut world.store, world.group, NOW).unwrap(), "one goes on");
    let job = jobs::list(&world.store, &jobs::Query { limit: 1, whole: true, ..jobs::Query::default() });
    let job = job.unwrap().remove(0);
    assert_eq!(
        (job.job.title().as_str(), job.ordered_by.as_str()),
        ("bookmark regular of group Shop", BY_ITSELF)
    );
    jobs::cancel(&world.store, &job.id, "anna", NOW).unwrap().unwrap();
    reports::lost(&world.store, world.sources[1].row).unwrap();
    assert!(!order_regularly(&mut world.store, world.group, NOW).unwrap());
}

#[test]
fn a_bookmark_of_a_group_needs_all_sources() {
    let world = World::new();
    world.protects(1, true);
    assert!(world.refused(&bookmark()).contains("web03, are at rest"));
    reports::lost(&world.store, world.sources[1].row).unwrap();
    assert!(world.refused(&bookmark()).contains("web03, is not connected"));
    let empty = groups::add(&world.store, "Empty").unwrap().unwrap().id;
    let refused = order(&world.store, empty, &bookmark(), "anna", NOW).unwrap().err().unwrap();
    assert!(refused.failure.why.contains("no items"), "{refused}");
    let unknown = order(&world.store, 99, &bookmark(), "anna", NOW).unwrap().err().unwrap();
    assert_eq!(unknown.code, ErrorCode::NotFound);
}

#[test]
fn a_group_fails_over_to_common_points_only() {
    let world = World::new();
    for name in ["only-2", "else-3", "none"] {
        assert!(world.refused(&failover(name)).contains("no bookmark that all of its items share"), "{name}");
    }
    let (steps, ordered) = world.steps(&failover("both-1"));
    assert_eq!(
        steps,
        ["fail over db01 to recovery point 0 (mt01)", "fail over web01 to recovery point 0 (mt01)"]
    );
    assert_eq!(ordered, 2);
    world.tell(0, ItemState::Fenced, &["both-1"]);
    assert!(world.refused(&failover("both-1")).contains("web01 is fenced"));
    // Another point of what is failed over already.
    world.tell_both(ItemState::FailedOver);
    assert_eq!(world.steps(&failover("both-1")).1, 2);
}

#[test]
fn an_item_of_a_group_goes_alone_only_to_a_common_point() {
    let world = World::new();
    let order = |point: PointSelector| {
        let job = JobKind::Failover { item: "web01".into(), point };
        let ordered = actions_of_jobs::order(&world.store, &world.target.id, job, "anna".into(), NOW);
        ordered.unwrap().map(|_| ()).map_err(|refused| refused.failure.what)
    };
    let alone = Err("it does not fail over alone".to_owned());
    for point in [
        PointSelector::Latest,
        PointSelector::LatestApplicationConsistent,
        PointSelector::Time(NOW),
        PointSelector::Number(1),
        PointSelector::Number(7),
        PointSelector::Bookmark("only-2".into()),
    ] {
        assert_eq!(order(point.clone()), alone, "{point}");
    }
    let planned = actions_of_workflows::Wanted::PlannedFailover;
    let refused = actions_of_workflows::order(&world.store, world.items[0], planned, "anna", NOW).unwrap();
    assert_eq!(refused.err().map(|refused| refused.failure.what), alone.clone().err());
    assert_eq!(order(PointSelector::Number(0)), Ok(()));
    assert_eq!(order(PointSelector::Bookmark("both-1".into())), Ok(()));
    // A newer one of the same name that this machine alone has set is not meant.
    world.tell(0, ItemState::Protected, &["both-1", "only-2", "both-1"]);
    assert_eq!(order(PointSelector::Bookmark("both-1".into())), alone);
    // The last one of a group belongs to nobody, and neither does one that was taken out.
    groups::assign(&world.store, world.items[1], None).unwrap().unwrap();
    assert_eq!(order(PointSelector::Latest), Ok(()));
}

#[test]
fn a_planned_failover_of_a_group_has_all_sources_rest_before_any_item_moves() {
    let world = World::new();
    let (steps, ordered) = world.steps(&Wanted::PlannedFailover);
    assert_eq!((steps.len(), ordered), (4, 2));
    assert!(
        steps[..2].iter().all(|step| step.starts_with("quiesce with bookmark planned-failover-")),
        "{steps:?}"
    );
    assert!(steps[2..].iter().all(|step| step.starts_with("fail over ")), "{steps:?}");
    world.protects(1, true);
    assert!(world.refused(&Wanted::PlannedFailover).contains("at rest already"));
    world.protects(1, false);
    world.tell(1, ItemState::Resync, &["both-1"]);
    assert!(world.refused(&Wanted::PlannedFailover).contains("db01 is resync, not protected"));
}

#[test]
fn a_group_is_cancelled_and_committed() {
    let world = World::new();
    assert!(world.refused(&Wanted::CancelFailover).contains("none of its items is failed over"));
    assert!(world.refused(&Wanted::Commit).contains("db01 is protected, not failed over"));
    world.tell_both(ItemState::FailedOver);
    world.protects(1, true);
    let (steps, ordered) = world.steps(&Wanted::CancelFailover);
    let cancel =
        ["cancel the failover of db01 (mt01)", "cancel the failover of web01 (mt01)", "unquiesce (web03)"];
    assert_eq!((steps, ordered), (cancel.map(str::to_owned).into(), 2));
    world.tell(0, ItemState::FailedOver, &["other-4", "both-1"]);
    let why = world.refused(&Wanted::Commit);
    assert!(why.contains("db01 is at bookmark both-1, web01 is at bookmark other-4"), "{why}");
    world.tell(0, ItemState::FailedOver, &[]);
    assert!(world.refused(&Wanted::Commit).contains("web01 is at a point without a bookmark"));
    world.tell(0, ItemState::Committed, &["both-1"]);
    let (steps, _) = world.steps(&Wanted::Commit);
    assert_eq!(steps, ["commit the failover of db01 (mt01)", "stop replicating (web03)"]);
}

#[test]
fn an_item_neither_joins_nor_leaves_a_group_that_moves() {
    use crate::server::actions::items as actions_of_items;
    let world = World::new();
    let other = items::put(&world.store, world.target.row, &item("app01", ItemState::Protected), NOW, NOW);
    let assign = |item, group| {
        let wanted = actions_of_items::Wanted { policy: None, group: Some(group) };
        let assigned = actions_of_items::assign(&world.store, item, &wanted).unwrap();
        assigned.map(drop).map_err(|refused| refused.failure.why)
    };
    let other = other.unwrap();
    world.order(&bookmark()).unwrap();
    assert_eq!(assign(other, Some(world.group)), Ok(()), "a bookmark moves nothing");
    assert_eq!(assign(other, None), Ok(()));
    world.order(&failover("both-1")).unwrap();
    for (item, group) in [(other, Some(world.group)), (world.items[0], None)] {
        let why = assign(item, group).unwrap_err();
        assert!(why.contains("fail over group Shop to bookmark:both-1 goes on"), "{why}");
    }
}
