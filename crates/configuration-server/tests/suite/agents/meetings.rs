//! Source agents of a group that meet over the network.

use super::client::{Agent, Answered, Person, code};
use super::{agent, world};
use crate::support::folder;
use control_api::agent::{
    HEARTBEAT_PATH, HeartbeatReply, JobKind, JobState, MEET_PATH, MeetReply, MeetRequest, MeetStage,
    Protection,
};
use control_api::registration::HostKind;
use control_api::{ErrorCode, ItemState};
use serde_json::{Value, json};
use std::thread;
use std::time::{Duration, Instant};

const ITEMS: [&str; 2] = ["web01", "db01"];

fn meet(agent: &Agent, meeting: &str, at: MeetStage) -> Answered<MeetReply> {
    agent.post(MEET_PATH, &MeetRequest { host: agent.host.clone(), meeting: meeting.to_owned(), at })
}

fn gathered(placed: Option<&str>) -> MeetStage {
    MeetStage::Gathered { placed: placed.map(str::to_owned) }
}

fn held(round: &str) -> MeetStage {
    MeetStage::Held { round: round.to_owned() }
}

/// All say at once where they are; what each is told.
fn all(agents: &[Agent; 2], meeting: &str, at: &MeetStage) -> [MeetReply; 2] {
    thread::scope(|scope| {
        let threads = [&agents[0], &agents[1]]
            .map(|agent| scope.spawn(|| meet(agent, meeting, at.clone()).unwrap().unwrap()));
        threads.map(|thread| thread.join().unwrap())
    })
}

fn round(agents: &[Agent; 2], meeting: &str) -> String {
    let [MeetReply::Round { round }, MeetReply::Round { round: other }] =
        all(agents, meeting, &gathered(None))
    else {
        panic!("no round begins")
    };
    assert_eq!(round, other);
    round
}

/// Both items are told of, with their sources, and put into a group; its number.
fn group(person: &Person, target: &Agent, agents: &[Agent; 2]) -> Value {
    let group = person.post("/api/v1/groups", &json!({"name": "Shop"}))["id"].clone();
    let mut beat = target.heartbeat(&ITEMS.map(|item| (item, ItemState::Protected)));
    for (number, source) in agents.iter().enumerate() {
        beat.items[number].status.peer = Some(source.host.name.clone());
        let mut beat = source.heartbeat(&[]);
        beat.protection = Some(Protection {
            item: ITEMS[number].into(),
            target: format!("{}:9443", target.host.name),
            disks: Vec::new(),
            quiesced: false,
            state: "level".into(),
            backlog_bytes: 0,
            drain_seconds: None,
            bytes_per_second: 0,
            alerts: Vec::new(),
        });
        source.post::<HeartbeatReply>(HEARTBEAT_PATH, &beat).unwrap().unwrap();
    }
    target.post::<HeartbeatReply>(HEARTBEAT_PATH, &beat).unwrap().unwrap();
    for item in person.get("/api/v1/items")["entries"].as_array().unwrap() {
        person.patch(&format!("/api/v1/items/{}", item["id"]), &json!({"group": group}));
    }
    group
}

#[test]
fn agents_of_a_group_meet_at_one_moment_or_not_at_all() {
    let (world, machines) = (world(), [folder(), folder()]);
    let agents = [0, 1]
        .map(|number| agent(&world.cs, HostKind::SourceAgent, 7 + number as u32, machines[number].path()));
    let group = group(&world.person, &world.target, &agents);
    let order =
        json!({"workflow": "group-bookmark", "group": group, "name": "cut", "application_consistent": false});
    let workflow = world.person.try_order("/api/v1/workflows", &order).unwrap().unwrap();
    let orders = agents.each_ref().map(|agent| agent.jobs(&[], 5).unwrap().unwrap().orders.remove(0));
    let JobKind::GroupBookmark { meeting, .. } = &orders[0].job else { panic!("{orders:?}") };
    let begun = round(&agents, meeting);

    // One comes when the other lets its changes go on already.
    let waited = Instant::now();
    let alone = meet(&agents[0], meeting, held(&begun)).unwrap().unwrap();
    let MeetReply::Missed { why } = alone else { panic!("{alone:?}") };
    assert!(why.contains(&agents[1].host.name) && waited.elapsed() >= Duration::from_millis(700), "{why}");
    let late = meet(&agents[1], meeting, held(&begun)).unwrap().unwrap();
    assert!(matches!(late, MeetReply::Missed { .. }), "{late:?}");

    // In the next round both hold, as soon as they do; on a busy machine not in the first one.
    let met = (0..20).find_map(|_| {
        let next = round(&agents, meeting);
        assert_ne!(next, begun);
        (all(&agents, meeting, &held(&next)) == [MeetReply::Met, MeetReply::Met]).then_some(next)
    });
    let met = met.unwrap();
    let stale = meet(&agents[0], meeting, held(&begun)).unwrap().unwrap();
    assert!(matches!(stale, MeetReply::Missed { .. }), "an earlier round is over: {stale:?}");

    for (host, meeting, at, expected) in [
        (&world.target, meeting.as_str(), gathered(None), ErrorCode::NotFound),
        (&agents[0], &"0".repeat(32), gathered(None), ErrorCode::NotFound),
        (&agents[0], "cut", gathered(None), ErrorCode::BadRequest),
        (&agents[0], meeting, held("now"), ErrorCode::BadRequest),
    ] {
        assert_eq!(code(meet(host, meeting, at)), expected);
    }

    assert_eq!(all(&agents, meeting, &gathered(Some(&met))), [MeetReply::Done, MeetReply::Done]);
    agents[0].report(&orders[0].id, JobState::Succeeded).unwrap().unwrap();
    // The other one has not got its answer, or was killed: it finds that the meeting has come to its end.
    assert_eq!(meet(&agents[1], meeting, gathered(None)).unwrap().unwrap(), MeetReply::Done);
    agents[1].report(&orders[1].id, JobState::Succeeded).unwrap().unwrap();
    assert_eq!(world.person.state(&workflow), "succeeded");
    assert_eq!(code(meet(&agents[1], meeting, gathered(None))), ErrorCode::NotFound);
}

#[test]
fn who_waits_for_a_member_that_has_failed_is_told() {
    let (world, machines) = (world(), [folder(), folder()]);
    let agents = [0, 1]
        .map(|number| agent(&world.cs, HostKind::SourceAgent, 7 + number as u32, machines[number].path()));
    let group = group(&world.person, &world.target, &agents);
    let order =
        json!({"workflow": "group-bookmark", "group": group, "name": "cut", "application_consistent": true});
    let workflow = world.person.try_order("/api/v1/workflows", &order).unwrap().unwrap();
    let orders = agents.each_ref().map(|agent| agent.jobs(&[], 5).unwrap().unwrap().orders.remove(0));
    let JobKind::GroupBookmark { meeting, .. } = &orders[0].job else { panic!("{orders:?}") };
    agents[1].report(&orders[1].id, JobState::Failed).unwrap().unwrap();
    let refused = meet(&agents[0], meeting, gathered(None)).unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.failure.why.contains(&agents[1].host.name), "{refused}");
    agents[0].report(&orders[0].id, JobState::Failed).unwrap().unwrap();
    assert_eq!(world.person.state(&workflow), "failed");
}
