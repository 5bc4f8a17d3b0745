use super::*;
use crate::store::testing::{NOW, register, status, store};

#[test]
fn what_an_alert_tells_already_is_no_event() {
    let mut fenced = status("web01", ItemState::Fenced);
    assert_eq!(change(ItemState::Protected, &fenced).unwrap().0, Severity::Critical);
    fenced.alerts = vec![Alert { kind: AlertKind::Fenced, since: 1, message: String::new() }];
    assert_eq!(change(ItemState::Protected, &fenced), None);
    assert_eq!(change(ItemState::Protected, &status("web01", ItemState::Protected)), None);
}

#[test]
fn each_change_of_state_reads_well() {
    for from in ItemState::ALL {
        for to in ItemState::ALL {
            if let Some((_, what)) = change(from, &status("web01", to)) {
                assert!(what.starts_with("it") || what.starts_with("an "), "{from} {to}: {what}");
            }
        }
    }
}

#[test]
fn only_alerts_of_heartbeats_are_ours() {
    assert!(is_ours("host/u/clock") && is_ours("item/5/fenced") && is_ours("host/u/not-connected"));
    assert!(!is_ours("host/u/delivery") && !is_ours("item/5/policy"));
}

#[test]
fn every_alert_says_what_to_do() {
    let (_folder, connection) = store();
    let host = register(&connection, HostKind::MasterTarget, 1);
    for kind in AlertKind::ALL {
        let alert = Alert { kind, since: 1, message: "because".into() };
        let event = told(&alert, &host, "web01", Some(5), NOW);
        assert!(event.what.len() > 10 && event.next.len() > 10 && event.cause == "because", "{event:?}");
        assert!(!event.what.contains("attention"), "{kind:?} has no words of its own");
    }
    let expired = Known { valid_until: NOW, ..host };
    let alarm = not_connected(&expired, None, Duration::from_secs(90), NOW);
    assert!(alarm.event.next.contains("register it again"), "{:?}", alarm.event);
}
