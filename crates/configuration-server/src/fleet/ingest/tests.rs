use super::*;
use crate::store::jobs::{self, NewJob};
use crate::store::policies;
use crate::store::testing::{NOW, described, heartbeat, item, register, store};
use control_api::agent::{ItemPolicy, JobKind};
use control_api::registration::HostKind;
use control_api::time::SECOND;
use control_api::{Alert, AlertKind, RetentionState, RetentionStatus};

const OURS: &str = "9.4.0";

struct World {
    _folder: tempfile::TempDir,
    connection: Connection,
    host: Known,
}

impl World {
    fn new() -> World {
        let (folder, connection) = store();
        let host = register(&connection, HostKind::MasterTarget, 1);
        World { _folder: folder, connection, host }
    }

    /// Takes a heartbeat as the server does; true when it had to be durable.
    fn take(&self, heartbeat: Heartbeat, now: Time) -> (bool, bool) {
        let host = hosts::by_uuid(&self.connection, &self.host.id).unwrap().unwrap();
        let incoming = Incoming::new(heartbeat, OURS, now);
        let take = |manner| {
            let transaction = self.connection.unchecked_transaction().unwrap();
            let taken = incoming.take(&transaction, &host, manner).unwrap();
            if taken != Taken::MustBeDurable {
                transaction.commit().unwrap();
            }
            taken
        };
        match take(Manner::Quick) {
            Taken::Written { news, want_points } => {
                assert!(!news);
                (false, want_points)
            }
            Taken::MustBeDurable => match take(Manner::Durable) {
                Taken::Written { want_points, .. } => (true, want_points),
                Taken::MustBeDurable => panic!("it was durable"),
            },
        }
    }

    fn tell(&self, items: Vec<ItemReport>) -> bool {
        self.take(heartbeat(described(HostKind::MasterTarget, 1), items), NOW).0
    }

    fn alerts(&self) -> Vec<String> {
        let raised = events::raised(&self.connection).unwrap();
        let mut keys: Vec<String> =
            raised.into_iter().map(|alert| alert.key.replace(&self.host.id, "H")).collect();
        keys.sort();
        keys
    }

    /// What happened, the oldest first.
    fn events(&self) -> Vec<String> {
        let query = events::Query { limit: 100, ..events::Query::default() };
        let newest = events::newest(&self.connection, &query).unwrap();
        newest.into_iter().rev().map(|event| format!("{}: {}", event.object, event.what)).collect()
    }
}

fn alerting(name: &str, state: ItemState, kind: AlertKind) -> ItemReport {
    let mut item = item(name, state);
    item.status.alerts = vec![Alert { kind, since: NOW, message: "disk gone".into() }];
    item
}

#[test]
fn only_a_heartbeat_that_tells_something_new_is_durable() {
    let world = World::new();
    let same = || vec![item("web01", ItemState::Protected)];
    assert!(world.tell(same()), "the first one");
    assert!(!world.tell(same()) && !world.tell(same()));
    assert_eq!(world.events(), ["web01: it is replicated to mt01"]);
    let report = reports::of(&world.connection, world.host.row).unwrap().unwrap();
    assert!(report.connected && report.received == NOW && report.heartbeat.items.is_empty());
    let mut newer = described(HostKind::MasterTarget, 1);
    newer.version = "9.4.1".into();
    assert!(world.take(heartbeat(newer.clone(), same()), NOW).0);
    assert!(!world.take(heartbeat(newer, same()), NOW).0);
    let known = hosts::by_uuid(&world.connection, &world.host.id).unwrap().unwrap();
    assert_eq!(known.version, "9.4.1");
}

#[test]
fn a_change_of_state_is_one_event_and_an_alert_is_raised_and_cleared_once() {
    let world = World::new();
    for state in [ItemState::InitialSyncRequired, ItemState::InitialSync, ItemState::Protected] {
        assert!(world.tell(vec![item("web01", state)]));
        assert!(!world.tell(vec![item("web01", state)]));
    }
    let fenced = || vec![alerting("web01", ItemState::Fenced, AlertKind::Fenced)];
    assert!(world.tell(fenced()) && !world.tell(fenced()));
    assert_eq!(world.alerts(), ["item/1/fenced"]);
    let list = items::list(&world.connection, &items::Query { limit: 9, ..items::Query::default() });
    assert_eq!(list.unwrap().0[0].health, Severity::Critical);
    assert!(world.tell(vec![item("web01", ItemState::Starting)]));
    assert!(!world.tell(vec![item("web01", ItemState::Protected)]), "it was being opened");
    assert!(world.alerts().is_empty());
    assert!(world.tell(vec![item("web01", ItemState::ResyncRequired)]));
    assert_eq!(
        world.events(),
        [
            "web01: it is replicated to mt01",
            "web01: its initial sync has begun",
            "web01: its initial sync has ended: it is protected",
            "web01: an error stopped it",
            "web01: no longer: an error stopped it",
            "web01: it no longer follows its source",
        ]
    );
}

#[test]
fn an_item_that_is_alerting_when_it_is_first_told_of_alerts() {
    let world = World::new();
    assert!(world.tell(vec![alerting("web01", ItemState::Protected, AlertKind::RpoExceeded)]));
    assert_eq!(world.alerts(), ["item/1/rpo-exceeded"]);
    let raised = events::raised(&world.connection).unwrap();
    let event = &raised[0].event;
    assert_eq!((event.severity, event.item, event.host), (Severity::Warning, Some(1), Some(world.host.row)));
    assert!(event.cause == "disk gone" && event.next.contains("source agent"), "{event:?}");
}

#[test]
fn an_item_that_is_no_longer_told_of_is_gone_with_its_alerts_and_comes_back_as_itself() {
    let world = World::new();
    let fenced = || alerting("web01", ItemState::Fenced, AlertKind::Fenced);
    world.tell(vec![fenced(), item("db01", ItemState::Protected)]);
    assert!(world.tell(vec![item("db01", ItemState::Protected)]));
    assert!(!world.tell(vec![item("db01", ItemState::Protected)]));
    assert!(world.alerts().is_empty());
    let web01 = items::by_id(&world.connection, 1).unwrap().unwrap();
    assert_eq!((&*web01.name, web01.gone), ("web01", Some(NOW)));
    assert!(world.tell(vec![fenced(), item("db01", ItemState::Protected)]));
    assert_eq!(world.alerts(), ["item/1/fenced"]);
    assert_eq!(items::by_id(&world.connection, 1).unwrap().unwrap().gone, None);
    let told = world.events();
    assert!(told.contains(&"web01: mt01 tells of it no more".into()), "{told:?}");
    assert!(told.contains(&"web01: it is replicated to mt01 again".into()), "{told:?}");
}

#[test]
fn that_an_item_leaves_after_its_commit_is_no_warning() {
    let world = World::new();
    world.tell(vec![item("web01", ItemState::FailedOver), item("db01", ItemState::FailedOver)]);
    let sql = "SELECT id FROM item WHERE name = 'web01'";
    let web01: i64 = world.connection.query_row(sql, [], |row| row.get(0)).unwrap();
    let job = JobKind::Commit { item: "web01".into() };
    let commit = NewJob { host: world.host.row, item: Some(web01), job, by: "anna".into(), now: NOW };
    jobs::add(&world.connection, &commit).unwrap().unwrap();
    world.tell(Vec::new());
    let query = events::Query { limit: 100, ..events::Query::default() };
    let newest = events::newest(&world.connection, &query).unwrap();
    let mut left: Vec<(&str, Severity)> = newest
        .iter()
        .filter(|event| event.what == "mt01 tells of it no more")
        .map(|event| (&*event.object, event.severity))
        .collect();
    left.sort();
    assert_eq!(left, [("db01", Severity::Warning), ("web01", Severity::Info)]);
}

#[test]
fn the_retention_volume_and_the_clock_of_a_host_alert() {
    let world = World::new();
    let beat = |alerts: Vec<Alert>, time: Time| {
        let mut beat = heartbeat(described(HostKind::MasterTarget, 1), Vec::new());
        beat.time = time;
        beat.retention = Some(RetentionStatus {
            folder: "/mnt/retention".into(),
            state: RetentionState::Ready,
            detail: None,
            file_system: None,
            capacity_bytes: None,
            available_bytes: None,
            journal_bytes_per_second: 0,
            full_in_seconds: None,
            needed_bytes: None,
            needed_for_24_h_bytes: None,
            alerts,
        });
        world.take(beat, NOW).0
    };
    let filling = || vec![Alert { kind: AlertKind::RetentionFilling, since: 1, message: "96 % full".into() }];
    assert!(beat(filling(), NOW) && !beat(filling(), NOW));
    assert_eq!(world.alerts(), ["host/H/retention-filling"]);
    assert!(!beat(filling(), NOW - 60 * SECOND));
    assert!(beat(filling(), NOW - 61 * SECOND) && !beat(filling(), NOW + 46 * SECOND));
    assert_eq!(world.alerts(), ["host/H/clock", "host/H/retention-filling"]);
    assert!(beat(Vec::new(), NOW + 45 * SECOND));
    assert!(world.alerts().is_empty());
    assert!(world.events().contains(&"mt01: its clock is wrong".into()));
}

#[test]
fn a_host_that_is_newer_than_the_server_is_heard_and_alerts() {
    let world = World::new();
    let mut newer = described(HostKind::MasterTarget, 1);
    newer.version = "9.5.0".into();
    assert!(world.take(heartbeat(newer, Vec::new()), NOW).0);
    assert_eq!(world.alerts(), ["host/H/version-too-new"]);
}

#[test]
fn a_host_that_was_silent_is_back_and_alerts_of_others_stay() {
    let world = World::new();
    world.tell(Vec::new());
    let limit = std::time::Duration::from_secs(90);
    let last = reports::of(&world.connection, world.host.row).unwrap();
    let alarm = alarms::not_connected(&world.host, last.as_ref(), limit, NOW);
    assert!(alarm.event.cause.contains("for 1 min 30 s") && alarm.event.severity == Severity::Critical);
    events::raise(&world.connection, &alarm.key, &alarm.event).unwrap();
    reports::lost(&world.connection, world.host.row).unwrap();
    let foreign = format!("host/{}/policy-missed", world.host.id);
    events::raise(&world.connection, &foreign, &alarm.event).unwrap();
    assert_eq!(hosts::registered(&world.connection).unwrap(), [(world.host.row, true)]);
    assert!(world.tell(Vec::new()));
    assert_eq!(world.alerts(), ["host/H/policy-missed"]);
    assert_eq!(reports::connected(&world.connection, world.host.row).unwrap(), Some(true));
    assert_eq!(hosts::registered(&world.connection).unwrap(), [(world.host.row, false)]);
}

#[test]
fn points_are_wanted_until_they_are_known() {
    let world = World::new();
    let beat = |points| {
        let item = ItemReport { points, ..item("web01", ItemState::Protected) };
        world.take(heartbeat(described(HostKind::MasterTarget, 1), vec![item]), NOW).1
    };
    assert!(beat(None) && beat(None));
    assert!(!beat(Some(Vec::new())) && !beat(None));
}

#[test]
fn a_host_that_is_revoked_alerts_no_more() {
    let world = World::new();
    world.tell(vec![alerting("web01", ItemState::Fenced, AlertKind::Fenced)]);
    let alarm = alarms::not_connected(&world.host, None, std::time::Duration::from_secs(90), NOW);
    events::raise(&world.connection, &alarm.key, &alarm.event).unwrap();
    hosts::revoke(&world.connection, &world.host, NOW).unwrap();
    assert!(world.alerts().is_empty());
    assert!(items::by_id(&world.connection, 1).unwrap().unwrap().gone.is_some());
    assert!(hosts::registered(&world.connection).unwrap().is_empty());
}

#[test]
fn an_item_that_was_taken_follows_the_policy_that_says_what_it_was_taken_with() {
    let world = World::new();
    let connection = &world.connection;
    let taken = |window_seconds| {
        let mut told = item("web01", ItemState::Protected);
        told.status.taken = true;
        told.status.peer = Some("web01.example".into());
        told.status.policy = Some(ItemPolicy {
            window_seconds,
            rpo_threshold_seconds: 900,
            application_consistent_every_seconds: Some(3600),
        });
        told
    };
    let given = || {
        let given = policies::given(connection, world.host.row).unwrap();
        given.iter().map(|given| (given.item.clone(), given.policy.window_seconds)).collect::<Vec<_>>()
    };
    let mut other = item("db01", ItemState::Protected);
    other.status.policy = taken(86_400).status.policy;
    world.tell(vec![taken(172_800), other.clone()]);
    assert_eq!(given(), [], "none says this, and db01 was not taken");
    world.tell(vec![taken(86_400), other.clone()]);
    assert_eq!(given(), [], "what changes later at its master target is its own");
    world.tell(vec![other.clone()]);
    world.tell(vec![taken(86_400), other.clone()]);
    assert_eq!(given(), [("web01".to_owned(), 86_400)], "it was taken anew, as the default says");
    connection.execute("UPDATE policy SET window_seconds = 7200", []).unwrap();
    world.tell(vec![taken(86_400), other.clone()]);
    assert_eq!(given(), [("web01".to_owned(), 7200)]);
    world.tell(vec![other.clone()]);
    assert_eq!(given(), [], "it is gone");
    world.tell(vec![taken(86_400), other]);
    assert_eq!(given(), [], "it was taken anew with more than the policy says, and must not lose that");

    let every = |source: &str, item: &str| policies::every_seconds(connection, source, item).unwrap();
    assert_eq!(every("web01.example", "web01"), Some(3600));
    assert_eq!((every("web02.example", "web01"), every("web01.example", "db01")), (None, None));
    let mut never = taken(86_400);
    never.status.policy.as_mut().unwrap().application_consistent_every_seconds = None;
    world.tell(vec![never]);
    assert_eq!(every("web01.example", "web01"), Some(0));
}

#[test]
fn an_item_that_was_expected_is_new_and_follows_what_was_chosen_for_it() {
    let world = World::new();
    items::expect(&world.connection, world.host.row, "web01", policies::DEFAULT, None, NOW).unwrap();
    let mut told = item("web01", ItemState::Protected);
    let policy = policies::by_id(&world.connection, policies::DEFAULT).unwrap().unwrap().values();
    (told.status.taken, told.status.policy) = (true, Some(policy));
    let replicated = |again: &str| format!("web01: it is replicated to {}{again}", world.host.name);
    world.tell(vec![told.clone()]);
    assert_eq!(world.events(), [replicated("")]);
    assert_eq!(policies::given(&world.connection, world.host.row).unwrap()[0].policy, policy);
    world.tell(Vec::new());
    world.tell(vec![told]);
    assert_eq!(world.events().last(), Some(&replicated(" again")));
}
