use super::*;
use journal::{BatchHeader, BatchKind, BatchNumber};
use replication_receiver::{ItemStatus, SessionStatus};

const MINUTE: Time = 60 * SECOND;
const HOUR: Time = 60 * MINUTE;
const GIB: u64 = 1 << 30;

fn point(received: Time) -> BatchSummary {
    let header = BatchHeader {
        kind: BatchKind::Point,
        stream: [0; 16],
        first_sequence: 1,
        last_sequence: 1,
        source_time: received,
        receive_time: received,
        bookmark: None,
        undo: true,
    };
    BatchSummary { number: BatchNumber(1), header, extents: 0, bytes: 0, stored_bytes: 0 }
}

fn open(stage: Stage, connected: bool) -> Snapshot {
    let session = SessionStatus { peer: "web01".into(), agent: "test".into(), last_heard: 0 };
    let status = ItemStatus {
        stage,
        progress: None,
        session: connected.then_some(session),
        protected_until: None,
        durable_sequence: 0,
        newest: None,
        received_bytes: 0,
        applied_bytes: 0,
        lacks_room: false,
    };
    Snapshot {
        condition: Condition::Open(Box::new(status)),
        storage: None,
        start: None,
        alerts: Vec::new(),
        bytes_per_second: 0,
        seconds_left: None,
    }
}

fn policy(text: &str) -> config::Policy {
    let text = format!(
        "[policy]\n{text}\n[[item]]\nname = \"web01\"\nsource = \"s\"\ndisks = [{{ id = \"d\", target = \"/x\" }}]\n"
    );
    config::Config::parse("mtd.toml", &text).unwrap().items.remove(0).policy
}

#[test]
fn a_window_reaches_back_from_now_or_from_what_a_silent_source_sent_last() {
    let seen =
        ItemSight { oldest: Some(point(10 * HOUR)), newest: Some(point(12 * HOUR)), ..ItemSight::default() };
    let holding = Holding::default();
    let now = 100 * HOUR;
    let reach = |snapshot: &Snapshot| holding.share(now, &seen, snapshot, &policy(""), Some(GIB)).reach;
    assert_eq!(reach(&open(Stage::Protected, true)), 90 * HOUR);
    assert_eq!(reach(&open(Stage::Protected, false)), 2 * HOUR);
    let none =
        holding.share(now, &ItemSight::default(), &open(Stage::Protected, true), &policy(""), Some(GIB));
    assert_eq!(none.reach, 0);
}

#[test]
fn what_is_failed_over_or_closed_is_not_asked_for_anything() {
    let held = |snapshot: &Snapshot| {
        Holding::default().share(0, &ItemSight::default(), snapshot, &policy(""), Some(GIB)).held
    };
    assert!(!held(&open(Stage::Protected, false)));
    assert!(held(&open(Stage::FailedOver { point: BatchNumber(1) }, false)));
    let closed = Snapshot { condition: Condition::Stopped, ..open(Stage::Protected, false) };
    assert!(held(&closed));
}

#[test]
fn shares_of_a_policy_are_of_the_volume_there_is() {
    let policy = policy("min_journal = \"2 GiB\"\nmax_journal = \"10 %\"");
    let share = |capacity: u64| {
        let snapshot = open(Stage::Protected, true);
        Holding::default().share(0, &ItemSight::default(), &snapshot, &policy, Some(capacity))
    };
    assert_eq!((share(100 * GIB).min, share(100 * GIB).max), (2 * GIB, Some(10 * GIB)));
    // A volume so small that the minimum is more than the maximum: the maximum counts.
    assert_eq!((share(10 * GIB).min, share(10 * GIB).max), (GIB, Some(GIB)));
}

/// An item that gives nothing is left out for a while, and one that gives while more comes in is not.
#[test]
fn an_item_that_gives_nothing_is_left_out_for_a_while() {
    let (mut stubborn, mut obedient) = (Holding::default(), Holding::default());
    let share = Share { bytes: 100, reach: HOUR, ..Share::default() };
    let allowed = Allowance::Shortage(50);
    for second in 0..=6 {
        let now = second * SECOND;
        let seen = |appended| ItemSight { bytes: 100, appended: Some(appended), ..ItemSight::default() };
        stubborn.watch_obedience(now, &seen(0), &share, allowed);
        // Still 100 bytes, but 10 came, so 10 went.
        obedient.watch_obedience(now, &seen(second * 10), &share, allowed);
    }
    assert!(stubborn.left_out_until > 6 * SECOND && obedient.left_out_until == 0);
}

fn overdue(
    holding: &mut Holding,
    now: Time,
    seen: &ItemSight,
    snapshot: &Snapshot,
    text: &str,
) -> Option<String> {
    holding.check_consistent(now, seen, snapshot, &policy(text));
    holding.alerts.list().pop().map(|alert| alert.message)
}

#[test]
fn application_consistent_points_are_missed_where_there_were_some_or_they_are_wanted() {
    let protected = open(Stage::Protected, true);
    let never = ItemSight { oldest: Some(point(HOUR)), ..ItemSight::default() };
    let once = ItemSight { consistent: Some(point(2 * HOUR)), ..never.clone() };
    let every = "application_consistent_every = \"60 min\"";
    let late = 3 * HOUR + 16 * MINUTE;
    // Many sources set none, and nobody asked.
    assert_eq!(overdue(&mut Holding::default(), late, &never, &protected, ""), None);
    let asked = overdue(&mut Holding::default(), late, &never, &protected, every).unwrap();
    assert!(asked.contains("there is no application-consistent recovery point"), "{asked}");
    let mut holding = Holding::default();
    assert_eq!(overdue(&mut holding, 3 * HOUR + 14 * MINUTE, &once, &protected, ""), None);
    let missed = overdue(&mut holding, late, &once, &protected, "").unwrap();
    assert!(missed.contains("is 1 h 16 min old, though there should be one every 1 h"), "{missed}");
    // It stays when the last such point has been pruned, and goes with the connection or a new one.
    assert!(overdue(&mut holding, late, &never, &protected, "").is_some());
    assert_eq!(overdue(&mut holding, late, &never, &open(Stage::Protected, false), ""), None);
    let again = ItemSight { consistent: Some(point(late)), ..never };
    assert_eq!(overdue(&mut holding, late + MINUTE, &again, &protected, ""), None);
    let off = "application_consistent_every = \"never\"";
    assert_eq!(overdue(&mut holding, late + 9 * HOUR, &once, &protected, off), None);
}
