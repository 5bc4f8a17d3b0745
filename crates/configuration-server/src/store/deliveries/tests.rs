use super::*;
use crate::store::testing::{self, happened};
use control_api::time::SECOND;

const HOUR: Time = 3600 * SECOND;
const PATIENCE: Patience = Patience { alert: HOUR / 4, give_up: 24 * HOUR };
const WHY: (&str, &str) = ("it refuses connections", "start it");

struct Rig {
    _folder: tempfile::TempDir,
    store: Connection,
}

impl Rig {
    fn new(channels: &[&str]) -> Rig {
        let (folder, store) = testing::store();
        let rig = Rig { _folder: folder, store };
        rig.set_up(channels, 0);
        rig
    }

    fn set_up(&self, channels: &[&str], now: Time) {
        let channels: Vec<String> = channels.iter().map(|&name| name.into()).collect();
        set_up(&self.store, &channels, now).unwrap();
    }

    fn happens(&self, time: Time, severity: Severity) -> i64 {
        events::add(&self.store, &happened(time, severity)).unwrap()
    }

    fn due(&self, channel: &str) -> Vec<Due> {
        match look(&self.store, &wanted(channel), 100).unwrap().0 {
            Work::Nothing => Vec::new(),
            Work::Deliver { due, .. } => due,
        }
    }

    fn ids(&self, channel: &str) -> Vec<i64> {
        self.due(channel).iter().map(|due| due.event.id).collect()
    }

    fn fails(&self, channel: &str, now: Time) -> (u32, bool) {
        let due = self.due(channel);
        failed(&self.store, &wanted(channel), &due, WHY, PATIENCE, now).unwrap()
    }

    fn events(&self) -> Vec<(String, String)> {
        let all = events::newest(&self.store, &events::Query { limit: 1000, ..Default::default() }).unwrap();
        all.into_iter().map(|event| (event.kind, event.object)).collect()
    }
}

fn wanted(channel: &str) -> Wanted {
    Wanted { channel: channel.into(), at_least: Severity::Warning }
}

#[test]
fn a_new_channel_begins_with_the_events_from_now_on() {
    let rig = Rig::new(&["mail"]);
    let first = rig.happens(1, Severity::Critical);
    rig.set_up(&["mail", "ops"], 2);
    let second = rig.happens(3, Severity::Warning);
    assert_eq!(rig.ids("mail"), [first, second]);
    assert_eq!(rig.ids("ops"), [second]);
    // One that was taken away and comes back begins anew.
    rig.set_up(&["mail"], 4);
    rig.set_up(&["mail", "ops"], 5);
    assert_eq!(rig.ids("ops"), [0; 0]);
    assert_eq!(rig.ids("mail"), [first, second]);
}

#[test]
fn what_is_not_wanted_is_passed_and_the_end_of_what_was_wanted_is_told() {
    let rig = Rig::new(&["mail"]);
    let dull = rig.happens(1, Severity::Info);
    assert_eq!(look(&rig.store, &wanted("mail"), 100).unwrap(), (Work::Nothing, Some(dull)));
    pass(&rig.store, "mail", dull).unwrap();
    assert_eq!(look(&rig.store, &wanted("mail"), 100).unwrap(), (Work::Nothing, None));
    events::raise(&rig.store, "bad", &happened(2, Severity::Warning)).unwrap();
    events::raise(&rig.store, "dull", &happened(3, Severity::Info)).unwrap();
    events::clear(&rig.store, "bad", 4).unwrap();
    events::clear(&rig.store, "dull", 5).unwrap();
    let due = rig.due("mail");
    assert_eq!(due.iter().map(|due| due.event.time).collect::<Vec<_>>(), [2, 4]);
    assert_eq!((due[0].ends, due[1].ends), (None, Some(due[0].event.id)));
}

#[test]
fn a_message_that_is_repeated_is_the_same() {
    let rig = Rig::new(&["mail"]);
    let first = rig.happens(1, Severity::Critical);
    let Work::Deliver { position, due } = look(&rig.store, &wanted("mail"), 100).unwrap().0 else { panic!() };
    begin(&rig.store, &wanted("mail"), &position, first, 2).unwrap();
    let second = rig.happens(3, Severity::Critical);
    assert_eq!(rig.due("mail"), due);
    rig.fails("mail", 4);
    assert_eq!(rig.due("mail"), due);
    arrived(&rig.store, &wanted("mail"), first, None, 5).unwrap();
    assert_eq!(rig.ids("mail"), [second]);
}

#[test]
fn a_channel_that_fails_for_long_raises_an_alert_and_clears_it() {
    let rig = Rig::new(&["mail", "ops"]);
    rig.happens(0, Severity::Critical);
    assert_eq!(rig.fails("mail", HOUR), (1, false));
    assert_eq!(rig.fails("mail", HOUR + HOUR / 5), (2, false));
    assert_eq!(rig.fails("mail", HOUR + HOUR / 4), (3, true));
    assert_eq!(rig.fails("mail", HOUR + HOUR / 2), (4, false));
    let raised = events::raised(&rig.store).unwrap();
    assert_eq!(raised.iter().map(|alert| &*alert.key).collect::<Vec<_>>(), ["channel/mail/failing"]);
    assert_eq!((&*raised[0].event.cause, &*raised[0].event.next), WHY);
    // It is told to the others, and not to itself.
    assert_eq!(rig.due("ops").len(), 2);
    assert_eq!(rig.due("mail").len(), 1);
    let last = rig.due("mail")[0].event.id;
    assert!(arrived(&rig.store, &wanted("mail"), last, None, 2 * HOUR).unwrap());
    assert!(events::raised(&rig.store).unwrap().is_empty());
    assert!(rig.due("mail").is_empty());
    assert_eq!(position(&rig.store, "mail").unwrap().unwrap().failures, 0);
}

#[test]
fn a_channel_that_is_taken_away_leaves_no_alert() {
    let rig = Rig::new(&["mail"]);
    rig.happens(0, Severity::Critical);
    rig.fails("mail", 0);
    rig.fails("mail", HOUR);
    assert_eq!(events::raised(&rig.store).unwrap().len(), 1);
    rig.set_up(&[], HOUR);
    assert!(events::raised(&rig.store).unwrap().is_empty());
}

#[test]
fn events_are_given_up_after_a_day_and_not_before() {
    let rig = Rig::new(&["mail"]);
    rig.happens(0, Severity::Critical);
    let young = rig.happens(HOUR, Severity::Critical);
    rig.fails("mail", 23 * HOUR);
    assert_eq!(rig.due("mail").len(), 2);
    rig.fails("mail", 24 * HOUR);
    assert_eq!(rig.ids("mail"), [young]);
    let told = events::newest(&rig.store, &events::Query { limit: 1, ..Default::default() }).unwrap();
    assert_eq!(told[0].what, "an event was not delivered to it and will not be");
    assert!(told[0].cause.contains("it refuses connections"), "{}", told[0].cause);
}

#[test]
fn two_channels_that_fail_do_not_go_on_about_each_other() {
    let rig = Rig::new(&["mail", "ops"]);
    rig.happens(0, Severity::Critical);
    for hour in 0..24 * 20 {
        for channel in ["mail", "ops"] {
            if !rig.due(channel).is_empty() {
                rig.fails(channel, hour * HOUR);
            }
        }
    }
    // The event itself, an alert and what was given up for each channel.
    assert_eq!(rig.events().len(), 5, "{:?}", rig.events());
    assert!(rig.due("mail").is_empty() && rig.due("ops").is_empty());
}

#[test]
fn events_that_were_deleted_before_they_were_delivered_are_told_of() {
    let rig = Rig::new(&["mail"]);
    let first = rig.happens(1, Severity::Critical);
    rig.happens(2, Severity::Critical);
    let last = rig.happens(3, Severity::Critical);
    rig.store.execute("DELETE FROM event WHERE id > ? AND id < ?", [first - 1, last]).unwrap();
    let Work::Deliver { position, due } = look(&rig.store, &wanted("mail"), 100).unwrap().0 else { panic!() };
    begin(&rig.store, &wanted("mail"), &position, due[0].event.id, 4).unwrap();
    assert_eq!(rig.events()[0], ("not-delivered".into(), "channel mail".into()));
    // Once.
    let Work::Deliver { position, .. } = look(&rig.store, &wanted("mail"), 100).unwrap().0 else { panic!() };
    begin(&rig.store, &wanted("mail"), &position, last, 5).unwrap();
    assert_eq!(rig.events().len(), 2);
}

#[test]
fn receivers_that_refuse_while_others_accept_raise_the_alert_at_once() {
    let rig = Rig::new(&["mail"]);
    for round in 1..4 {
        let event = rig.happens(round, Severity::Critical);
        let refused = (round < 3).then_some(("nobody@example is refused", "correct it"));
        arrived(&rig.store, &wanted("mail"), event, refused, round).unwrap();
        assert_eq!(events::raised(&rig.store).unwrap().len(), usize::from(round < 3));
    }
    assert_eq!(rig.events().len(), 5, "the alert was raised and cleared more than once: {:?}", rig.events());
}
