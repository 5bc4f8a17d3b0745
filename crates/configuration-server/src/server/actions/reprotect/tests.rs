use super::*;
use crate::store::testing::{NOW, described, happened, heartbeat, item, register, store};
use crate::store::{groups, jobs};
use control_api::agent::{JobKind, JobReport, JobState, Protection};
use control_api::{ErrorCode, ItemState, Severity};
use rusqlite::Connection;
use tempfile::TempDir;

/// A master target, another one with an item, and a machine that is not protected yet.
struct World {
    _folder: TempDir,
    store: Connection,
    target: Known,
    source: Known,
}

fn existing() -> TargetOrder {
    TargetOrder::Existing { target: "/vmfs/web02.vmdk".into() }
}

impl World {
    fn new() -> World {
        let (folder, store) = store();
        let target = register(&store, HostKind::MasterTarget, 1);
        let source = register(&store, HostKind::SourceAgent, 2);
        let world = World { _folder: folder, store, target, source };
        let beat = heartbeat(described(HostKind::MasterTarget, 1), Vec::new());
        reports::put(&world.store, world.target.row, &beat, NOW).unwrap();
        world.tells("", false);
        world
    }

    fn tells(&self, item: &str, quiesced: bool) {
        let mut beat = heartbeat(described(HostKind::SourceAgent, 2), Vec::new());
        let disk = |id: &str, size| ProtectedDisk { id: id.into(), size };
        beat.protection = Some(Protection {
            item: item.into(),
            target: if item.is_empty() { String::new() } else { "mt09:9443".into() },
            disks: vec![disk("system", 4096), disk("data", 8192)],
            quiesced,
            state: "serving".into(),
            ..Protection::default()
        });
        reports::put(&self.store, self.source.row, &beat, NOW).unwrap();
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            source: self.source.id.clone(),
            target: self.target.id.clone(),
            name: "web".into(),
            policy: 1,
            group: None,
            address: None,
            disks: vec![("data".into(), existing()), ("system".into(), existing())],
        }
    }

    fn order(&self, change: impl FnOnce(&mut Wanted)) -> std::result::Result<Job, ApiError> {
        let mut wanted = self.wanted();
        change(&mut wanted);
        order(&self.store, wanted, "anna", NOW).unwrap().map(|(job, _)| job)
    }

    fn refused(&self, change: impl FnOnce(&mut Wanted)) -> (ErrorCode, String) {
        let refused = self.order(change).unwrap_err();
        (refused.code, refused.failure.why)
    }

    /// A host takes its only order, and it ends like this.
    fn does(&self, host: &Known, state: JobState) -> JobKind {
        let mut orders = jobs::due(&self.store, host.row, &[]).unwrap().orders;
        assert_eq!(orders.len(), 1, "{orders:?}");
        let order = orders.remove(0);
        let report = JobReport {
            id: order.id,
            state,
            started: NOW,
            ended: Some(NOW),
            steps: Vec::new(),
            progress: None,
            seconds_left: None,
            can_cancel: false,
            outcome: None,
            failure: None,
        };
        jobs::report(&self.store, host.row, &report, NOW).unwrap().unwrap();
        order.job
    }

    fn state(&self, job: &Job) -> JobState {
        jobs::by_uuid(&self.store, &job.id).unwrap().unwrap().state
    }
}

#[test]
fn a_machine_is_taken_and_then_replicates() {
    let world = World::new();
    let shop = groups::add(&world.store, "Shop").unwrap().unwrap().id;
    let job = world.order(|wanted| wanted.group = Some(shop)).unwrap();
    assert!(world.refused(|_| {}).1.contains("reprotect web goes on"));
    let JobKind::Protect { item: order } = world.does(&world.target, JobState::Succeeded) else { panic!() };
    let sizes: Vec<(&str, u64)> = order.disks.iter().map(|disk| (disk.id.as_str(), disk.size)).collect();
    assert_eq!((order.name.as_str(), order.source.as_str()), ("web", "web02"));
    assert_eq!(sizes, [("system", 4096), ("data", 8192)]);
    // Known before it is told of, with its group.
    let taken = jobs::by_uuid(&world.store, &job.id).unwrap().unwrap().item.unwrap();
    assert!(items::by_id(&world.store, taken).unwrap().is_none());
    let told = item("web", ItemState::InitialSync);
    assert_eq!(items::put(&world.store, world.target.row, &told, NOW, NOW).unwrap(), taken);
    let found = items::by_id(&world.store, taken).unwrap().unwrap();
    assert_eq!((found.group, found.policy, found.gone), (Some(shop), 1, None));
    let replicate = world.does(&world.source, JobState::Succeeded);
    let (target, server_name) = ("10.0.0.5:9443".to_owned(), Some("mt01".to_owned()));
    assert_eq!(replicate, JobKind::Replicate { item: "web".into(), target, server_name });
    assert_eq!(world.state(&job), JobState::Succeeded);
}

#[test]
fn what_was_taken_in_vain_is_let_go_of() {
    let world = World::new();
    let job = world.order(|wanted| wanted.address = Some("mt.example:1".into())).unwrap();
    world.does(&world.target, JobState::Succeeded);
    world.does(&world.source, JobState::Failed);
    assert_eq!(world.does(&world.source, JobState::Succeeded), JobKind::StopReplicating);
    let release = JobKind::Release { item: "web".into() };
    assert_eq!(world.does(&world.target, JobState::Succeeded), release);
    assert_eq!(world.state(&job), JobState::Failed);
    // An item that was not taken is not let go of: another one may have its name.
    let job = world.order(|_| {}).unwrap();
    world.does(&world.target, JobState::Failed);
    assert_eq!(world.state(&job), JobState::Failed);
    assert!(jobs::due(&world.store, world.target.row, &[]).unwrap().orders.is_empty());
    assert!(jobs::due(&world.store, world.source.row, &[]).unwrap().orders.is_empty());
}

#[test]
fn what_is_known_to_be_impossible_is_refused_at_once() {
    let world = World::new();
    let conflict = |change: fn(&mut Wanted), expected: &str| {
        let (code, why) = world.refused(change);
        assert!(code == ErrorCode::Conflict && why.contains(expected), "{expected}: {why}");
    };
    conflict(|wanted| drop(wanted.disks.pop()), "its disk system is left out");
    conflict(|wanted| wanted.disks.push(("data".into(), existing())), "given twice");
    conflict(|wanted| wanted.target = wanted.source.clone(), "a master target is needed");
    for change in [
        |wanted: &mut Wanted| wanted.source = "0".repeat(32),
        |wanted: &mut Wanted| wanted.policy = 99,
        |wanted: &mut Wanted| wanted.group = Some(99),
    ] {
        assert_eq!(world.refused(change).0, ErrorCode::NotFound);
    }
    world.tells("", true);
    conflict(|_| {}, "at rest");
    world.tells("web", false);
    conflict(|_| {}, "it replicates to mt09:9443 as web already");
    world.tells("", false);
    let other = register(&world.store, HostKind::MasterTarget, 3);
    let put = |host: &Known, name: &str| {
        let told = item(name, ItemState::Protected);
        items::put(&world.store, host.row, &told, NOW, NOW).unwrap()
    };
    put(&world.target, "web");
    conflict(|_| {}, "mt01 has an item of this name");
    let shop = groups::add(&world.store, "Shop").unwrap().unwrap().id;
    groups::assign(&world.store, put(&other, "db"), Some(shop)).unwrap().unwrap();
    assert_eq!(shop, 1);
    conflict(|wanted| (wanted.name, wanted.group) = ("shop".into(), Some(1)), "its items are on mt03");
    let newer = format!("host/{}/version-too-new", world.target.id);
    events::raise(&world.store, &newer, &happened(NOW, Severity::Warning)).unwrap();
    conflict(|_| {}, "newer than this configuration server");
    reports::lost(&world.store, world.target.row).unwrap();
    conflict(|_| {}, "it is not connected");
}

#[test]
fn a_master_target_is_reached_where_it_comes_from() {
    let world = World::new();
    let mut told = reports::of(&world.store, world.target.row).unwrap().unwrap();
    assert_eq!(at("10.0.0.5", &told), "10.0.0.5:9443");
    assert_eq!(at("fd00::5", &told), "[fd00::5]:9443");
    told.heartbeat.data_port = Some(19443);
    assert_eq!(at("10.0.0.5", &told), "10.0.0.5:19443");
}
