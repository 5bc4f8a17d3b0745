//! Orders that are typed on the server, by the real program, beside a server that runs or not.

use super::client::Agent;
use super::workflows::tell;
use super::{World, agent, world};
use crate::support::{ConfigurationServer, command, folder};
use configuration_server::Environment;
use control_api::ItemState;
use control_api::agent::{
    HEARTBEAT_PATH, HeartbeatReply, JobKind, JobOrder, JobState, ProtectedDisk, Protection, TargetOrder,
};
use control_api::registration::HostKind;
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Much less than a host waits for orders that nobody tells it of.
const SOON: Duration = Duration::from_secs(20);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn typed(state: &Path, words: &[&str]) -> Output {
    command(state, words).stdin(Stdio::null()).output().unwrap()
}

/// What a command says that succeeds.
fn done(state: &Path, words: &[&str]) -> String {
    let output = typed(state, words);
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn json(state: &Path, words: &[&str]) -> Value {
    serde_json::from_str(&done(state, words)).unwrap()
}

/// What a command says that fails.
fn refused(state: &Path, words: &[&str]) -> String {
    let output = typed(state, words);
    assert_eq!(output.status.code(), Some(1), "{words:?}: {}", text(&output.stdout));
    text(&output.stderr)
}

fn begun(state: &Path, words: &[&str]) -> Child {
    let mut command = command(state, words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The next order of a host, which it takes and carries out like this.
fn carry_out(host: &Agent, end: JobState) -> JobOrder {
    let mut reply = host.jobs(&[], 30).unwrap().unwrap();
    assert_eq!(reply.orders.len(), 1, "{reply:?}");
    let order = reply.orders.remove(0);
    host.report(&order.id, JobState::Running).unwrap().unwrap();
    host.report(&order.id, end).unwrap().unwrap();
    order
}

/// A world whose item is protected by a source.
fn protected() -> (World, Agent, TempDir) {
    let (world, machine) = (world(), folder());
    let source = agent(&world.cs, HostKind::SourceAgent, 2, machine.path());
    tell(&world.person, &world.target, &source);
    (world, source, machine)
}

#[test]
fn an_order_that_is_typed_reaches_hosts_that_wait_and_is_waited_for() {
    let (world, source, _machine) = protected();
    let state = world.state.path();
    let (sender, receiver) = mpsc::channel();
    let waiting = source.anew();
    let waits = std::thread::spawn(move || {
        let order = carry_out(&waiting, JobState::Succeeded);
        sender.send(Instant::now()).unwrap();
        order
    });
    // It waits in its request by then; were it not, it would be told all the same.
    std::thread::sleep(Duration::from_millis(500));
    let ordered = Instant::now();
    let child = begun(state, &["failover", "web01", "--planned", "--yes", "--json"]);
    let took = receiver.recv_timeout(Duration::from_secs(60)).unwrap().duration_since(ordered);
    println!("a waiting host had the order {took:?} after the command began");
    assert!(took < SOON, "{took:?}");
    assert!(matches!(waits.join().unwrap().job, JobKind::Quiesce { .. }));
    assert!(matches!(carry_out(&world.target, JobState::Succeeded).job, JobKind::Failover { .. }));
    world.target.beat(&[("web01", ItemState::FailedOver)]);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(ordered.elapsed() < Duration::from_secs(60), "the new state of the item was not noticed");
    assert_eq!(json(state, &["items", "--json"])["items"][0]["state"], "failed-over");
    let job: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&job["state"], &job["job"]["workflow"]), (&"succeeded".into(), &"planned-failover".into()));
    assert_eq!(job["report"]["steps"].as_array().unwrap().len(), 2, "{job}");
    // The same is in the portal, and the audit tells who typed it.
    let id = job["id"].as_str().unwrap();
    assert_eq!(world.person.state(id), "succeeded");
    let audit = json(state, &["audit", "--json"]);
    let entry = &audit["entries"][0];
    let by = format!("by {}: {id} planned failover of web01", job["ordered_by"].as_str().unwrap());
    assert_eq!((entry["address"].as_str(), entry["detail"].as_str()), (Some("console"), Some(&*by)));

    // One that fails is told step by step, and by the exit code.
    let child = begun(state, &["cancel-failover", "mt01.example/web01", "--yes"]);
    carry_out(&world.target, JobState::Failed);
    let output = child.wait_with_output().unwrap();
    let (said, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}{error}");
    assert!(said.starts_with("job ") && said.contains(": cancel the failover of web01\n"), "{said}");
    assert!(error.contains("  failed: cancel the failover of web01 (mt01.example)"), "{error}");
    assert!(error.contains("\nmt-configserver: cancel the failover of web01: "), "{error}");
    let shown = done(state, &["job", said.split([' ', ':']).nth(1).unwrap()]);
    assert!(shown.starts_with("cancel the failover of web01: failed\n"), "{shown}");
}

#[test]
fn what_cannot_be_ordered_says_why_and_what_to_do() {
    let (world, _source, _machine) = protected();
    let (state, other) = (world.state.path(), folder());
    let second = agent(&world.cs, HostKind::MasterTarget, 3, other.path());
    second.beat(&[("web01", ItemState::Protected), ("db01", ItemState::Protected)]);
    for (words, parts) in [
        (
            &["commit", "web09", "--yes"][..],
            &["item web09: it is not known", "mt-configserver items lists all"][..],
        ),
        (
            &["failover", "web01", "--planned", "--yes"],
            &["item web01: it is not clear", "mt01.example/web01, mt03.example/web01"],
        ),
        (
            &["failover", "db01", "--planned", "--yes"],
            &["db01: no planned failover of it", "no source agent", "mt-source status"],
        ),
        (&["commit", "db01"], &["The way back is given up", "nobody is there to ask; give --yes"]),
        (&["cancel-job", "0"], &["job 0: there is no such job", "look at the list of jobs"]),
        (&["job", "0"], &["job 0: there is none", "mt-configserver jobs"]),
        (&["group", "points", "Shop"], &["group Shop: there is none", "mt-configserver group list"]),
        (&["policy", "remove", "Default"], &["policy Default: there is none", "mt-configserver policy list"]),
        (
            &["reprotect", "a", "--source", "x", "--target", "mt01.example", "--disk", "a=/b"],
            &["x: no host of this name or id is known", "mt-configserver hosts"],
        ),
        (
            &["reprotect", "a", "--source", "mt03.example", "--target", "mt01.example", "--disk", "a=/b"],
            &["mt03.example: it cannot be reprotected like this", "choose another host"],
        ),
    ] {
        let error = refused(state, words);
        assert!(parts.iter().all(|part| error.contains(part)), "{words:?}: {error}");
    }
    assert!(!done(state, &["jobs", "--json"]).contains("workflow"), "something was ordered");
    let order = ["failover", "mt01.example/web01", "--planned", "--yes", "--no-wait", "--json"];
    let id = json(state, &order)["id"].as_str().unwrap().to_owned();
    let busy = refused(state, &["commit", "mt01.example/web01", "--yes"]);
    assert!(busy.contains(&format!("planned failover of web01 goes on (job {id})")), "{busy}");
    assert!(busy.contains("wait for its end, or cancel it first"), "{busy}");
    assert!(done(state, &["cancel-job", &id]).contains("cancelled"));
    assert_eq!(world.person.state(&id), "cancelled");
    for words in [&["failover", "web01"][..], &["policy", "set", "Shop"], &["failover", "a", "--point", ""]] {
        assert_eq!(typed(state, words).status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn policies_and_groups_live_and_are_given_to_items() {
    let (world, _source, _machine) = protected();
    let state = world.state.path();
    let item = || json(state, &["items", "--json"])["items"][0].clone();
    let first =
        json(state, &["policy", "list", "--json"])["policies"][0]["name"].as_str().unwrap().to_owned();
    assert_eq!((&item()["policy_name"], &item()["group_name"]), (&first.as_str().into(), &Value::Null));
    done(state, &["policy", "add", "Gold", "--window", "48h", "--application-consistent", "never"]);
    assert!(refused(state, &["policy", "add", "Gold"]).contains("another policy has it"));
    let set = done(state, &["policy", "set", "Gold", "--rpo", "5min", "--name", "Old gold"]);
    assert_eq!(set, "policy Old gold: changed: window 2 d, RPO 5 min, application-consistent never\n");
    done(state, &["policy", "assign", "web01", "Old gold"]);
    assert_eq!(item()["policy_name"], "Old gold");
    let kept = refused(state, &["policy", "remove", "Old gold", "--yes"]);
    assert!(kept.contains("policy Old gold: it cannot be removed: 1 items have it"), "{kept}");
    done(state, &["policy", "assign", "web01", &first]);
    done(state, &["policy", "remove", "Old gold", "--yes"]);
    let default = refused(state, &["policy", "remove", &first, "--yes"]);
    assert!(default.contains(&first) && default.contains("change it instead"), "{default}");

    done(state, &["group", "add", "Shops"]);
    done(state, &["group", "rename", "Shops", "Shop"]);
    done(state, &["group", "assign", "web01", "Shop"]);
    assert_eq!(item()["group_name"], "Shop");
    let groups = json(state, &["group", "list", "--json"]);
    assert_eq!(groups["groups"][0]["members"][0]["name"], "web01", "{groups}");
    assert_eq!(json(state, &["group", "points", "Shop", "--json"])["points"], Value::Array(Vec::new()));
    let none = refused(state, &["group", "failover", "Shop", "--point", "latest", "--yes"]);
    assert!(
        none.contains("group Shop: ") && none.contains("mt-configserver group bookmark Shop NAME"),
        "{none}"
    );
    let other = refused(state, &["group", "failover", "Shop", "--point", "nightly", "--yes"]);
    assert!(other.contains("\"nightly\" is no bookmark that all of its items share"), "{other}");
    let kept = refused(state, &["group", "remove", "Shop", "--yes"]);
    assert!(kept.contains("group Shop: it cannot be removed: 1 items are in it"), "{kept}");
    let set = ["group", "bookmark", "Shop", "before-the-upgrade", "--no-wait"];
    assert!(done(state, &set).contains(": bookmark before-the-upgrade of group Shop\n"));
    let table = done(state, &["jobs", "--open"]);
    assert!(table.contains("bookmark before-the-upgrade of group Shop"), "{table}");
    done(state, &["cancel-job", table.lines().nth(1).unwrap().split_whitespace().next().unwrap()]);
    done(state, &["group", "assign", "web01", "--none"]);
    assert_eq!(item()["group_name"], Value::Null);
    done(state, &["group", "remove", "Shop", "--yes"]);
    let outcomes = world.cs.outcomes();
    for outcome in
        ["policy added", "policy changed", "policy removed", "group added", "item changed", "group removed"]
    {
        assert!(outcomes.iter().any(|entry| entry == outcome), "{outcome} is not in {outcomes:?}");
    }
    let events = world.person.events();
    assert!(events.contains(&("policy".into(), "Old gold".into())), "{events:?}");
}

#[test]
fn an_order_is_carried_out_when_the_server_is_started() {
    let (world, _source, _machine) = protected();
    let World { cs, target, person, state, _machine } = world;
    let (state, port) = (state.path(), cs.server.port);
    drop(cs);
    let output = typed(state, &["failover", "web01", "--point", "latest", "--yes"]);
    let (said, error) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && error.contains("the configuration server does not run"), "{error}");
    assert!(said.contains(": fail over web01 to latest\n"), "{said}");
    let _cs = ConfigurationServer::with(state, port, Environment::host());
    let order = carry_out(&target.anew(), JobState::Succeeded);
    assert!(matches!(order.job, JobKind::Failover { .. }), "{order:?}");
    assert_eq!(person.state(&order.id), "succeeded");
    assert_eq!(json(state, &["job", &order.id, "--json"])["state"], "succeeded");
}

#[test]
fn a_machine_is_reprotected_by_a_command() {
    let (world, machine) = (world(), folder());
    let (state, source) = (world.state.path(), agent(&world.cs, HostKind::SourceAgent, 2, machine.path()));
    world.target.beat(&[]);
    let disk = |id: &str| ProtectedDisk { id: id.into(), size: 1 << 30 };
    let mut beat = source.heartbeat(&[]);
    let (disks, state_told) = (vec![disk("system"), disk("data")], "serving".into());
    beat.protection = Some(Protection { disks, state: state_told, ..Protection::default() });
    source.post::<HeartbeatReply>(HEARTBEAT_PATH, &beat).unwrap().unwrap();
    done(state, &["group", "add", "Shop"]);
    let reprotect = [
        "reprotect",
        "web",
        "--source",
        &source.host.name,
        "--target",
        "mt01.example",
        "--address",
        "10.0.0.5:9444",
        "--group",
        "Shop",
        "--disk",
        "data=new:/vmfs/web",
        "--no-wait",
        "--json",
    ];
    let missing = refused(state, &reprotect);
    assert!(missing.contains("its disk system is left out") && missing.contains("system, data"), "{missing}");
    let all = [&reprotect[..], &["--disk", "system=36000c29f00b2"]].concat();
    let job = json(state, &all);
    assert_eq!((&job["state"], &job["job"]["workflow"]), (&"queued".into(), &"reprotect".into()));
    let JobKind::Protect { item } = carry_out(&world.target, JobState::Succeeded).job else { panic!() };
    let new = TargetOrder::New {
        folder: "/vmfs/web".into(),
        format: "vmfs-thin".into(),
        adapter: "lsilogic".into(),
        uuid: None,
    };
    let placed: Vec<_> = item.disks.iter().map(|disk| (&*disk.id, disk.size, &disk.target)).collect();
    let existing = TargetOrder::Existing { target: "36000c29f00b2".into() };
    assert_eq!(placed, [("system", 1 << 30, &existing), ("data", 1 << 30, &new)]);
    let JobKind::Replicate { target, .. } = carry_out(&source, JobState::Succeeded).job else { panic!() };
    assert_eq!(target, "10.0.0.5:9444");
    assert_eq!(world.person.state(job["id"].as_str().unwrap()), "succeeded");
}
