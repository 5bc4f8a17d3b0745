use super::*;
use crate::store::testing::{NOW, item as told, register, status, store};
use control_api::registration::HostKind;
use control_api::{Alert, AlertKind, Bookmark};

fn names(connection: &Connection, query: &Query) -> (Vec<String>, u64) {
    let (items, total) = list(connection, &Query { limit: 10, ..query.clone() }).unwrap();
    (items.into_iter().map(|item| item.name).collect(), total)
}

#[test]
fn items_are_found_by_host_state_health_text_and_group() {
    let (_folder, connection) = store();
    let (one, two) =
        (register(&connection, HostKind::MasterTarget, 1), register(&connection, HostKind::MasterTarget, 2));
    let put =
        |host: &Known, name: &str, state| put(&connection, host.row, &told(name, state), NOW, NOW).unwrap();
    use crate::store::hosts::Known;
    let web = put(&one, "web01", ItemState::Protected);
    put(&one, "db01", ItemState::Fenced);
    let other = put(&two, "web01", ItemState::InitialSyncRequired);
    assert_eq!(
        names(&connection, &Query::default()),
        (vec!["db01".into(), "web01".into(), "web01".into()], 3)
    );
    let all = Query { offset: 1, limit: 1, ..Query::default() };
    assert_eq!(list(&connection, &all).unwrap().1, 3);
    assert_eq!(list(&connection, &all).unwrap().0[0].id, web);
    assert_eq!(names(&connection, &Query { host: Some(two.id), ..Query::default() }).1, 1);
    let state = Query { state: Some(ItemState::Fenced), ..Query::default() };
    assert_eq!(names(&connection, &state), (vec!["db01".into()], 1));
    let health = |health| names(&connection, &Query { health: Some(health), ..Query::default() }).1;
    assert_eq!([Severity::Info, Severity::Warning, Severity::Critical].map(health), [3, 2, 1]);
    let text = |text: &str| names(&connection, &Query { text: Some(text.into()), ..Query::default() }).1;
    assert_eq!([text("WEB"), text("mt01"), text("%"), text("b0")], [2, 2, 0, 3]);
    connection.execute("INSERT INTO item_group VALUES (5, 'shop')", []).unwrap();
    connection.execute("UPDATE item SET item_group = 5 WHERE id = ?", [other]).unwrap();
    assert_eq!(names(&connection, &Query { group: Some(5), ..Query::default() }).1, 1);
    let found = by_id(&connection, other).unwrap().unwrap();
    assert_eq!((found.group, found.policy, &*found.host_name), (Some(5), 1, "mt02"));
    assert_eq!(found.rpo_seconds, Some(5));
    assert_eq!(by_id(&connection, 999).unwrap(), None);
}

#[test]
fn an_item_keeps_its_number_and_its_points() {
    let (_folder, connection) = store();
    let host = register(&connection, HostKind::MasterTarget, 1).row;
    let bookmark = Bookmark { name: "nightly".into(), application_consistent: true, group: None };
    let point = Point {
        number: 7,
        source_time: 1,
        receive_time: 2,
        bookmark: Some(bookmark),
        tested: None,
        journal_bytes: 3,
    };
    let without = ItemReport { points: None, ..told("web01", ItemState::Protected) };
    let id = put(&connection, host, &without, NOW, NOW).unwrap();
    assert!(lack_points(&connection, host).unwrap() && points(&connection, id).unwrap().is_empty());
    let with = ItemReport { points: Some(vec![point.clone()]), ..without.clone() };
    assert_eq!(put(&connection, host, &with, NOW, NOW).unwrap(), id);
    assert!(!lack_points(&connection, host).unwrap());
    left(&connection, id, NOW).unwrap();
    assert_eq!(by_id(&connection, id).unwrap().unwrap().gone, Some(NOW));
    assert_eq!(names(&connection, &Query { gone: Some(false), ..Query::default() }).1, 0);
    assert_eq!(put(&connection, host, &without, NOW, NOW).unwrap(), id);
    assert_eq!(points(&connection, id).unwrap(), [point]);
    assert_eq!(by_id(&connection, id).unwrap().unwrap().gone, None);
}

#[test]
fn health_is_the_worst_of_alerts_and_state() {
    let alert = |kind| Alert { kind, since: 1, message: String::new() };
    let with = |state, kinds: &[AlertKind]| {
        let alerts = kinds.iter().copied().map(alert).collect();
        health(&ItemStatus { alerts, ..status("web01", state) })
    };
    assert_eq!(with(ItemState::Protected, &[]), Severity::Info);
    assert_eq!(with(ItemState::Protected, &[AlertKind::RpoExceeded]), Severity::Warning);
    assert_eq!(with(ItemState::Fenced, &[AlertKind::RpoExceeded]), Severity::Critical);
    assert_eq!(
        with(ItemState::Protected, &[AlertKind::RpoExceeded, AlertKind::RetentionLost]),
        Severity::Critical
    );
    assert_eq!(rpo_seconds(&status("web01", ItemState::Committed), NOW), None);
    assert_eq!(rpo_seconds(&status("web01", ItemState::Protected), NOW), Some(5));
}

#[test]
fn items_that_are_gone_are_forgotten_in_the_end() {
    let (_folder, connection) = store();
    let host = register(&connection, HostKind::MasterTarget, 1).row;
    let transaction = connection.unchecked_transaction().unwrap();
    for number in 0..MAX_GONE + 10 {
        let report = told(&format!("web{number:03}"), ItemState::Protected);
        let id = put(&transaction, host, &report, NOW, NOW).unwrap();
        left(&transaction, id, NOW + Time::from(number)).unwrap();
    }
    put(&transaction, host, &told("here", ItemState::Protected), NOW, NOW).unwrap();
    forget(&transaction, host, NOW).unwrap();
    let gone = |gone| names(&transaction, &Query { gone: Some(gone), ..Query::default() });
    assert_eq!((gone(true).1, &*gone(true).0[0], gone(false).1), (u64::from(MAX_GONE), "web010", 1));
    forget(&transaction, host, NOW + FORGOTTEN + SECOND).unwrap();
    assert_eq!((gone(true).1, gone(false).1), (0, 1));
    let left: u32 = transaction.query_row("SELECT count(*) FROM item_status", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 1);
}
