//! A configuration server that is killed in the middle of orders and reports.

use super::client::{Agent, Person};
use crate::killed::start;
use crate::support::{folder, wait_for};
use control_api::ItemState;
use control_api::agent::{HEARTBEAT_PATH, HeartbeatReply, JobState};
use control_api::registration::HostKind;
use registration::server::Server;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ROUNDS: u64 = 6;

/// What the server has confirmed.
#[derive(Default)]
struct Confirmed {
    ordered: BTreeSet<String>,
    ended: BTreeSet<String>,
    /// Heartbeats that told a new state.
    states: u32,
}

/// Orders jobs until the server is away.
fn order(person: &Person, target: &Agent, ended: &AtomicBool, confirmed: &Mutex<Confirmed>) {
    while !ended.load(Ordering::Relaxed) {
        match person.try_order_check(&target.id) {
            Ok(Ok(id)) => drop(confirmed.lock().unwrap().ordered.insert(id)),
            // Too many are open.
            Ok(Err(_)) | Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Carries jobs out, as a host does that never forgets what it has begun.
fn work(target: &Agent, ended: &AtomicBool, confirmed: &Mutex<Confirmed>) {
    while !ended.load(Ordering::Relaxed) {
        let Ok(Ok(reply)) = target.jobs(&[], 1) else { continue };
        for order in reply.orders {
            let again = confirmed.lock().unwrap().ended.contains(&order.id);
            assert!(!again, "{}: ordered again after its end", order.id);
            let _ = target.report(&order.id, JobState::Running);
            if let Ok(Ok(_)) = target.report(&order.id, JobState::Succeeded) {
                confirmed.lock().unwrap().ended.insert(order.id);
            }
        }
    }
}

/// Tells of an item whose state changes with each heartbeat, so each one is an event.
fn beat(target: &Agent, ended: &AtomicBool, confirmed: &Mutex<Confirmed>) {
    while !ended.load(Ordering::Relaxed) {
        // What was not confirmed is told again.
        let odd = confirmed.lock().unwrap().states % 2 == 1;
        let state = if odd { ItemState::Protected } else { ItemState::Resync };
        let heartbeat = target.heartbeat(&[("web01", state)]);
        if let Ok(Ok(_)) = target.post::<HeartbeatReply>(HEARTBEAT_PATH, &heartbeat) {
            confirmed.lock().unwrap().states += 1;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn no_job_that_was_accepted_and_no_event_is_lost() {
    let (state, machine) = (folder(), folder());
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server { address: "127.0.0.1".into(), port: free.local_addr().unwrap().port() };
    drop(free);
    let running = start(state.path(), &server);
    let (passphrase, _) = registration::passphrase(&state.path().join("connection.passphrase")).unwrap();
    let target = Agent::new(&server, &passphrase, HostKind::MasterTarget, 1, machine.path());
    let person = Arc::new(Person::first(&server, state.path()));
    let confirmed = Arc::new(Mutex::new(Confirmed::default()));
    let mut next = Some(running);
    for round in 0..ROUNDS {
        let running = next.take().unwrap_or_else(|| start(state.path(), &server));
        let ended = Arc::new(AtomicBool::new(false));
        let spawn = |work: fn(&Agent, &AtomicBool, &Mutex<Confirmed>)| {
            let (target, ended, confirmed) = (target.anew(), ended.clone(), confirmed.clone());
            std::thread::spawn(move || work(&target, &ended, &confirmed))
        };
        let mut threads = vec![spawn(work), spawn(beat)];
        let (person, target, orders) = (person.clone(), target.clone(), confirmed.clone());
        let until = ended.clone();
        threads.push(std::thread::spawn(move || order(&person, &target, &until, &orders)));
        // At another moment of the work each time.
        std::thread::sleep(Duration::from_millis(500 + round * 137));
        drop(running);
        ended.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
    let running = start(state.path(), &server);
    let confirmed = Arc::into_inner(confirmed).unwrap().into_inner().unwrap();
    println!(
        "{} jobs ordered, {} ended, {} heartbeats with news",
        confirmed.ordered.len(),
        confirmed.ended.len(),
        confirmed.states
    );
    assert!(confirmed.ordered.len() > ROUNDS as usize && confirmed.ended.len() > ROUNDS as usize);
    for id in &confirmed.ordered {
        let now = person.state(id);
        let ended = confirmed.ended.contains(id);
        assert!(!ended || now == "succeeded", "{id}: its end was confirmed, and it is {now}");
    }
    // What was ordered and has not ended is ordered still.
    let target = target.anew();
    wait_for("the end of all jobs", || {
        let orders = target.jobs(&[], 0).unwrap().unwrap().orders;
        for order in &orders {
            assert!(!confirmed.ended.contains(&order.id));
            target.report(&order.id, JobState::Succeeded).unwrap().unwrap();
        }
        let open = person.get("/api/v1/jobs?open=true&limit=100").to_string();
        let running: Vec<&String> = confirmed.ordered.iter().filter(|id| open.contains(*id)).collect();
        // Those whose first report came, and whose end did not.
        for id in running {
            target.report(id, JobState::Succeeded).unwrap().unwrap();
        }
        orders.is_empty().then_some(())
    });
    for id in &confirmed.ordered {
        assert_eq!(person.state(id), "succeeded", "{id}");
    }
    let all = person.kinds();
    let about = |kind: &str| all.iter().filter(|event| *event == kind).count();
    assert!(about("job-succeeded") >= confirmed.ordered.len(), "{} events", about("job-succeeded"));
    assert!(
        about("item") >= confirmed.states as usize,
        "{} events, {} heartbeats",
        about("item"),
        confirmed.states
    );
    drop(running);
}
