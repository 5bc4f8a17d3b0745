//! Workflows over the network, and a server that is killed while they go on.

use super::client::{Agent, Person};
use crate::killed::{free, start};
use crate::support::{folder, wait_for};
use control_api::ItemState;
use control_api::agent::{HEARTBEAT_PATH, HeartbeatReply, JobState, Protection};
use control_api::registration::HostKind;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ROUNDS: u64 = 5;

/// The item and its source are told of; gives the number of the item.
pub(super) fn tell(person: &Person, target: &Agent, source: &Agent) -> Value {
    let protection = Protection {
        item: "web01".into(),
        target: format!("{}:9443", target.host.name),
        disks: Vec::new(),
        state: "level".into(),
        ..Protection::default()
    };
    let mut beat = source.heartbeat(&[]);
    beat.protection = Some(protection);
    source.post::<HeartbeatReply>(HEARTBEAT_PATH, &beat).unwrap().unwrap();
    let mut beat = target.heartbeat(&[("web01", ItemState::Protected)]);
    beat.items[0].status.peer = Some(source.host.name.clone());
    target.post::<HeartbeatReply>(HEARTBEAT_PATH, &beat).unwrap().unwrap();
    person.get("/api/v1/items")["entries"][0]["id"].clone()
}

/// How the job of this id ends: every other failover fails.
fn end(kind: HostKind, id: &str) -> JobState {
    let odd = id.bytes().last().is_some_and(|last| last % 2 == 1);
    match kind == HostKind::MasterTarget && odd {
        true => JobState::Failed,
        false => JobState::Succeeded,
    }
}

/// Carries out what a host is ordered, and tells it until that is confirmed: the server repeats the order until then.
fn work(host: &Agent, confirmed: &Mutex<BTreeSet<String>>, wait_seconds: u64) {
    let Ok(Ok(reply)) = host.jobs(&[], wait_seconds) else { return };
    for order in reply.orders {
        assert!(!confirmed.lock().unwrap().contains(&order.id), "{}: ordered after its end", order.id);
        if let Ok(Ok(_)) = host.report(&order.id, end(host.host.kind, &order.id)) {
            confirmed.lock().unwrap().insert(order.id);
        }
    }
}

/// Titles and states of the steps of a workflow, in their order.
fn steps(person: &Person, workflow: &str) -> Vec<(String, String)> {
    let found = person.get(&format!("/api/v1/jobs?parent={workflow}"));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let each = found["entries"].as_array().unwrap().iter().rev();
    each.map(|job| (text(&job["job"]["kind"]), text(&job["state"]))).collect()
}

#[test]
fn a_server_that_is_killed_carries_each_workflow_to_its_end_and_orders_no_step_twice() {
    let (state, machines) = (folder(), [folder(), folder()]);
    let server = free();
    let mut next = Some(start(state.path(), &server));
    let (passphrase, _) = registration::passphrase(&state.path().join("connection.passphrase")).unwrap();
    let register = |kind, number: u32| {
        Agent::new(&server, &passphrase, kind, number, machines[number as usize - 1].path())
    };
    let (target, source) = (register(HostKind::MasterTarget, 1), register(HostKind::SourceAgent, 2));
    let person = Arc::new(Person::first(&server, state.path()));
    let confirmed = Arc::new(Mutex::new(BTreeSet::new()));
    let accepted = Arc::new(Mutex::new(BTreeSet::new()));
    for round in 0..ROUNDS {
        let running = next.take().unwrap_or_else(|| start(state.path(), &server));
        let item = tell(&person, &target.anew(), &source.anew());
        let ended = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for host in [&target, &source] {
            let (host, confirmed, ended) = (host.anew(), confirmed.clone(), ended.clone());
            threads.push(std::thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    work(&host, &confirmed, 1);
                }
            }));
        }
        let (ordering, accepted, until) = (person.clone(), accepted.clone(), ended.clone());
        threads.push(std::thread::spawn(move || {
            let order = json!({ "workflow": "planned-failover", "item": item });
            while !until.load(Ordering::Relaxed) {
                match ordering.try_order("/api/v1/workflows", &order) {
                    Ok(Ok(id)) => drop(accepted.lock().unwrap().insert(id)),
                    // The one before goes on.
                    Ok(Err(refused)) => {
                        assert_eq!(refused["code"], "conflict", "{refused}");
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Err(_) => {}
                }
            }
        }));
        // At another moment of the work each time.
        std::thread::sleep(Duration::from_millis(700 + round * 137));
        drop(running);
        ended.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
    let running = start(state.path(), &server);
    let (target, source) = (target.anew(), source.anew());
    tell(&person, &target, &source);
    wait_for("the end of all jobs", || {
        [&target, &source].into_iter().for_each(|host| work(host, &confirmed, 0));
        let open = person.get("/api/v1/jobs?open=true");
        open["entries"].as_array().unwrap().is_empty().then_some(())
    });
    let accepted = accepted.lock().unwrap().clone();
    println!("{} workflows", accepted.len());
    assert!(accepted.len() > ROUNDS as usize, "{} workflows", accepted.len());
    let step = |kind: &str, state: &str| (kind.to_owned(), state.to_owned());
    for id in &accepted {
        let (state, steps) = (person.state(id), steps(&person, id));
        let expected = match state.as_str() {
            "succeeded" => vec![step("quiesce", "succeeded"), step("failover", "succeeded")],
            _ => {
                vec![step("quiesce", "succeeded"), step("failover", "failed"), step("unquiesce", "succeeded")]
            }
        };
        assert_eq!(steps, expected, "{id}: {state}");
    }
    drop(running);
}
