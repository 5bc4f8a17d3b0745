//! Registered hosts and their server, over real mutual TLS.

mod client;
mod killed;
mod meetings;
mod orders;
mod workflows;

use crate::support::{ConfigurationServer, folder, wait_for};
use client::{Agent, Person, code, now};
use configuration_server::Environment;
use control_api::agent::{HEARTBEAT_PATH, HeartbeatReply, JOBS_PATH, JobState, JobsReply, MAX_HEARTBEAT};
use control_api::registration::{Hex, HostKind};
use control_api::time::SECOND;
use control_api::{ErrorCode, ItemState};
use registration::unregister;
use serde_json::Value;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server, a master target of it, and its administrator.
struct World {
    cs: ConfigurationServer,
    target: Agent,
    person: Person,
    state: TempDir,
    _machine: TempDir,
}

fn world_with(lines: &str) -> World {
    let (state, machine) = (folder(), folder());
    let cs = ConfigurationServer::configured(state.path(), 0, Environment::host(), lines);
    let target = agent(&cs, HostKind::MasterTarget, 1, machine.path());
    let person = Person::first(&cs.server, state.path());
    World { cs, target, person, state, _machine: machine }
}

fn world() -> World {
    world_with("")
}

fn agent(cs: &ConfigurationServer, kind: HostKind, number: u32, machine: &Path) -> Agent {
    Agent::new(&cs.server, &cs.passphrase(), kind, number, machine)
}

#[test]
fn a_heartbeat_fills_the_inventory() {
    let world = world();
    let reply = world.target.beat(&[("web01", ItemState::Protected)]);
    assert_eq!((reply.interval_seconds, reply.want_points, reply.revoked.len()), (30, false, 0));
    assert!(reply.time.abs_diff(now()) < 5 * SECOND);
    world.target.beat(&[("web01", ItemState::Protected)]);
    let items = world.person.get("/api/v1/items").to_string();
    assert!(items.contains("\"web01\"") && items.contains(&world.target.id), "{items}");
    let events = world.person.events();
    assert_eq!(events.iter().filter(|(_, object)| object == "web01").count(), 1, "{events:?}");
}

#[test]
fn a_job_reaches_its_host_within_a_second_and_is_repeated_until_a_report_came() {
    let world = world();
    let (sender, receiver) = mpsc::channel();
    let waiting = world.target.anew();
    std::thread::spawn(move || {
        for _ in 0..5 {
            let reply = waiting.jobs(&[], 30).unwrap().unwrap();
            let id = reply.orders[0].id.clone();
            sender.send((id.clone(), Instant::now())).unwrap();
            waiting.report(&id, JobState::Running).unwrap().unwrap();
            waiting.report(&id, JobState::Succeeded).unwrap().unwrap();
        }
    });
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        let id = world.person.order_check(&world.target.id);
        let (arrived, at) = receiver.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!(arrived, id);
        slowest = slowest.max(at.duration_since(begun));
        wait_for("its end", || (world.person.state(&id) == "succeeded").then_some(()));
    }
    println!("the slowest of 5 orders arrived after {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    // The answer may be lost on its way.
    let id = world.person.order_check(&world.target.id);
    for _ in 0..3 {
        assert_eq!(world.target.jobs(&[], 5).unwrap().unwrap().orders[0].id, id);
    }
    assert!(world.target.jobs(&[&id], 1).unwrap().unwrap().orders.is_empty(), "it has it");
    world.target.report(&id, JobState::Running).unwrap().unwrap();
    assert_eq!(world.target.jobs(&[], 0).unwrap().unwrap(), JobsReply::default());
    world.target.report(&id, JobState::Failed).unwrap().unwrap();
    world.target.report(&id, JobState::Succeeded).unwrap().unwrap();
    assert_eq!(world.person.state(&id), "failed");
    let kinds = world.person.kinds();
    let count = |wanted: &str| kinds.iter().filter(|kind| *kind == wanted).count();
    assert_eq!((count("job-succeeded"), count("job-failed")), (5, 1));
}

#[test]
fn a_job_of_another_host_is_neither_told_nor_reported() {
    let (world, machine) = (world(), folder());
    let other = agent(&world.cs, HostKind::MasterTarget, 2, machine.path());
    let id = world.person.order_check(&world.target.id);
    assert_eq!(other.jobs(&[], 0).unwrap().unwrap(), JobsReply::default());
    assert_eq!(code(other.report(&id, JobState::Succeeded)), ErrorCode::NotFound);
    assert_eq!(world.person.state(&id), "queued");
}

#[test]
fn a_queued_job_is_cancelled_at_once_and_a_running_one_is_told() {
    let world = world();
    let queued = world.person.order_check(&world.target.id);
    assert_eq!(world.person.cancel(&queued).0, 200);
    assert_eq!(world.person.state(&queued), "cancelled");
    assert!(world.target.jobs(&[], 0).unwrap().unwrap().orders.is_empty());
    let running = world.person.order_check(&world.target.id);
    assert_eq!(world.target.jobs(&[], 5).unwrap().unwrap().orders.len(), 1);
    assert!(!world.target.report(&running, JobState::Running).unwrap().unwrap().cancel);
    let (waiting, id, begun) = (world.target.anew(), running.clone(), Instant::now());
    let waits = std::thread::spawn(move || waiting.jobs(&[&id], 30).unwrap().unwrap());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(world.person.cancel(&running).0, 200);
    assert_eq!(waits.join().unwrap().cancel, std::slice::from_ref(&running));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(world.target.report(&running, JobState::Running).unwrap().unwrap().cancel);
    world.target.report(&running, JobState::Cancelled).unwrap().unwrap();
    assert_eq!(world.person.state(&running), "cancelled");
    assert_eq!(world.person.cancel(&running).0, 409);
}

#[test]
fn an_order_outlives_a_restart_of_the_server() {
    let world = world();
    let World { cs, target, person, state, _machine } = world;
    let (first, second) = (person.order_check(&target.id), person.order_check(&target.id));
    assert_eq!(target.jobs(&[], 5).unwrap().unwrap().orders.len(), 2);
    target.report(&first, JobState::Running).unwrap().unwrap();
    let port = cs.server.port;
    // A host that waits for jobs does not hold up the end.
    let (waiting, begun) = (target.anew(), Instant::now());
    let waits = std::thread::spawn(move || waiting.jobs(&["0".repeat(32).as_str()], 30));
    drop(cs);
    let _ = waits.join().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    let _cs = ConfigurationServer::with(state.path(), port, Environment::host());
    let orders = target.anew().jobs(&[&first], 5).unwrap().unwrap().orders;
    assert_eq!(orders.iter().map(|order| &order.id).collect::<Vec<_>>(), [&second]);
    for id in [&first, &second] {
        target.anew().report(id, JobState::Succeeded).unwrap().unwrap();
    }
    assert_eq!((&*person.state(&first), &*person.state(&second)), ("succeeded", "succeeded"));
}

#[test]
fn a_host_that_is_silent_is_noticed_and_is_back_by_itself() {
    let world = world_with("heartbeat_seconds = 1\n");
    let key = format!("host/{}/not-connected", world.target.id);
    let alerting = || world.person.alerts().contains(&key);
    assert_eq!(world.target.beat(&[]).interval_seconds, 1);
    let begun = Instant::now();
    wait_for("the alert", || alerting().then_some(()));
    let after = begun.elapsed();
    assert!((2.9..6.0).contains(&after.as_secs_f64()), "{after:?}");
    let hosts = world.person.get("/api/v1/hosts");
    assert_eq!(hosts["entries"][0]["state"], "not-connected", "{hosts}");
    world.target.beat(&[]);
    assert!(!alerting());
    let kinds = world.person.kinds();
    assert_eq!(kinds, ["not-connected", "not-connected"]);
    // After a restart each host has its full time.
    let World { cs, target, person, state, _machine } = world;
    let port = cs.server.port;
    drop(cs);
    std::thread::sleep(Duration::from_secs(4));
    let lines = "heartbeat_seconds = 1\n";
    let _cs = ConfigurationServer::configured(state.path(), port, Environment::host(), lines);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!person.alerts().contains(&key));
    target.anew().beat(&[]);
}

#[test]
fn a_host_that_is_revoked_is_refused_at_once_and_its_jobs_fail() {
    let world = world();
    world.target.beat(&[("web01", ItemState::Protected)]);
    let job = world.person.order_check(&world.target.id);
    world.cs.revoke(&world.target.host.name);
    // On the connection that it has, and on a new one.
    for target in [&world.target, &world.target.anew()] {
        let beat = target.post::<HeartbeatReply>(HEARTBEAT_PATH, &target.heartbeat(&[]));
        assert_eq!(code(beat), ErrorCode::NotRegistered);
        assert_eq!(code(target.jobs(&[], 0)), ErrorCode::NotRegistered);
        assert_eq!(code(target.report(&job, JobState::Succeeded)), ErrorCode::NotRegistered);
    }
    let failed = world.person.get(&format!("/api/v1/jobs/{job}"));
    assert!(failed["state"] == "failed" && failed.to_string().contains("was revoked"), "{failed}");
}

#[test]
fn master_targets_are_told_which_source_agents_are_revoked() {
    let (world, machine) = (world(), folder());
    let agent = agent(&world.cs, HostKind::SourceAgent, 2, machine.path());
    assert!(agent.beat(&[]).revoked.is_empty());
    let identity = machine.path().join(registration::IDENTITY).join(registration::CERTIFICATE_FILE);
    let certificate = {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject;
        CertificateDer::from_pem_file(identity).unwrap()
    };
    assert!(unregister(machine.path(), agent.host.clone()).unwrap().not_told.is_none());
    let digest = ring::digest::digest(&ring::digest::SHA256, &certificate);
    assert_eq!(world.target.beat(&[]).revoked, [Hex::from(digest.as_ref())]);
}

#[test]
fn what_has_not_its_form_is_refused_and_named() {
    let world = world();
    let target = &world.target;
    let refused = |path: &str, body: &Value| {
        let refused = target.post::<Value>(path, body).unwrap().unwrap_err();
        assert_eq!(refused.code, ErrorCode::BadRequest, "{refused}");
        refused.to_string()
    };
    let good = serde_json::to_value(target.heartbeat(&[("web01", ItemState::Protected)])).unwrap();
    // A newer host may tell more than this server knows of.
    let mut more = good.clone();
    more["colour"] = "blue".into();
    target.post::<HeartbeatReply>(HEARTBEAT_PATH, &more).unwrap().unwrap();
    let mut host = good.clone();
    host["host"]["colour"] = "blue".into();
    assert!(refused(HEARTBEAT_PATH, &host).contains("colour"));
    let ask = serde_json::json!({ "host": target.host, "running": [], "wait_seconds": 0, "colour": "blue" });
    assert!(refused(JOBS_PATH, &ask).contains("colour"));
    let mut long = good.clone();
    long["disks"] = serde_json::json!([{ "name": "x".repeat(300), "size": 1, "paths": 1, "used_for": "" }]);
    assert!(refused(HEARTBEAT_PATH, &long).contains("disks: number 1: name"));
    for length in [MAX_HEARTBEAT + 1, 3 * MAX_HEARTBEAT] {
        let mut huge = good.clone();
        huge["colour"] = "x".repeat(length).into();
        let text = refused(HEARTBEAT_PATH, &huge);
        assert!(text.contains("longer than 1048576 bytes"), "{text}");
    }
    // Somebody without a certificate is not even read.
    let portal = crate::support::Portal::new(&world.cs.server);
    assert_eq!(portal.post(HEARTBEAT_PATH, "", &good).unwrap().0, 401);
    target.beat(&[]);
}
