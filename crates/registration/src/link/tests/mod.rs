//! Against a server in this process, and with programs that are killed.

mod killed;
mod server;

use super::*;
use control_api::agent::{Health, JobKind, JobState, MeetReply, MeetStage, StepState};
use control_api::registration::HostKind;
use control_api::{Failure, Progress, Work};
use server::{Authority, SOON, Server};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A host that does what a test says.
pub(super) struct Tester {
    pub(super) runs: AtomicUsize,
    pub(super) answered: AtomicUsize,
    run: Box<Run>,
}

type Run = dyn Fn(&Job) -> std::result::Result<String, End> + Send + Sync;

impl Tester {
    pub(super) fn new(
        run: impl Fn(&Job) -> std::result::Result<String, End> + Send + Sync + 'static,
    ) -> Arc<Tester> {
        Arc::new(Tester { runs: AtomicUsize::new(0), answered: AtomicUsize::new(0), run: Box::new(run) })
    }
}

impl Embedder for Tester {
    fn host(&self, name: &str) -> Result<Host> {
        Ok(Host {
            kind: HostKind::MasterTarget,
            name: name.to_owned(),
            dmi_uuid: None,
            machine_id: "0".repeat(32),
            version: "9.4.0".into(),
            addresses: Vec::new(),
        })
    }

    fn heartbeat(&self, host: Host) -> Heartbeat {
        let health = Health {
            started: 1,
            uptime_seconds: 1,
            processors: 1,
            busy_percent: 1.0,
            load: [0.0; 3],
            memory_bytes: 1,
            memory_used_bytes: 1,
        };
        Heartbeat {
            host,
            time: crate::register::now(),
            health,
            disks: Vec::new(),
            datastores: Vec::new(),
            retention: None,
            items: Vec::new(),
            data_port: None,
            protection: None,
        }
    }

    fn answered(&self, _: &Heartbeat, reply: &HeartbeatReply) {
        assert_eq!(reply.revoked.len(), 1);
        self.answered.fetch_add(1, Ordering::SeqCst);
    }

    fn run(&self, job: &Job) -> std::result::Result<String, End> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        (self.run)(job)
    }
}

fn wait(what: &str, mut ready: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed() < SOON, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn quiet() -> Arc<Tester> {
    Tester::new(|_| Ok("done".into()))
}

#[test]
fn a_host_is_heard_at_once_then_regularly_and_sooner_when_something_changed() {
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    server.authority.register(state.path(), server.port, "mt01");
    let (hub, tester, begun) = (Hub::new(), quiet(), Instant::now());
    let link = Link::start(state.path(), hub.clone(), tester.clone());
    let first = server.wait("a heartbeat", |known| known.heartbeats.first().map(|(at, _)| *at));
    assert!(first - begun < Duration::from_secs(2), "{:?}", first - begun);
    wait("its answer", || tester.answered.load(Ordering::SeqCst) == 1);
    let status = hub.status().unwrap();
    assert_eq!((status.server, status.name), (format!("127.0.0.1:{}", server.port), "mt01".to_owned()));
    assert!(status.connected_since.is_some() && status.last_heartbeat.is_some() && status.problem.is_none());
    let at = |n: usize| server.wait("heartbeats", move |known| known.heartbeats.get(n).map(|(at, _)| *at));
    let regular = at(1) - first;
    assert!(regular > Duration::from_millis(2600) && regular < Duration::from_millis(3800), "{regular:?}");
    hub.hurry();
    let hurried = at(2) - at(1);
    assert!(hurried > Duration::from_millis(900) && hurried < Duration::from_millis(2200), "{hurried:?}");
    // The question for jobs is on a connection that was kept.
    let asked = server.with(|known| known.asked);
    server.wait("a further question", |known| (known.asked > asked + 1).then_some(()));
    let stopping = Instant::now();
    link.stop();
    assert!(stopping.elapsed() < Duration::from_secs(1), "threads end at once: {:?}", stopping.elapsed());
}

#[test]
fn a_server_that_was_away_is_found_again_by_itself() {
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    server.authority.register(state.path(), server.port, "mt01");
    let (hub, tester) = (Hub::new(), quiet());
    let _link = Link::start(state.path(), hub.clone(), tester.clone());
    server.wait("a heartbeat", |known| (!known.heartbeats.is_empty()).then_some(()));
    let (authority, port) = (server.authority.clone(), server.port);
    drop(server);
    // The first trouble may be a conversation that was broken off.
    let refused = "refuses connections: nothing listens there";
    wait("trouble", || {
        hub.status().and_then(|status| status.problem).is_some_and(|problem| problem.contains(refused))
    });
    let status = hub.status().unwrap();
    assert!(status.connected_since.is_none() && status.problem_since.is_some(), "{status:?}");
    std::thread::sleep(Duration::from_secs(3));
    let server = Server::start_with(authority, port);
    let id = server.order(1, JobKind::Check);
    server.wait("the end of a job", |known| known.end_of(&id));
    wait("no trouble", || hub.status().is_some_and(|status| status.connected_since.is_some()));
    assert_eq!(tester.runs.load(Ordering::SeqCst), 1);
}

#[test]
fn an_order_runs_once_and_its_end_is_repeated_until_it_is_confirmed() {
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    server.authority.register(state.path(), server.port, "mt01");
    let tester = Tester::new(|job| {
        job.plan(&["one", "two"]);
        job.begin("one");
        job.detail("half");
        job.progress(Some(Progress { work: Work::Resync, done: 1, total: Some(2) }), Some(7));
        job.begin("two");
        Ok("all of it".into())
    });
    let _link = Link::start(state.path(), Hub::new(), tester.clone());
    server.wait("the question for jobs", |known| (known.asked > 0).then_some(()));
    server.with(|known| known.refuse_reports = 2);
    let ordered = Instant::now();
    let id = server.order(1, JobKind::Check);
    wait("the run", || tester.runs.load(Ordering::SeqCst) == 1);
    assert!(ordered.elapsed() < Duration::from_secs(5), "{:?}", ordered.elapsed());
    let report = server.wait("the end", |known| known.end_of(&id));
    assert_eq!((report.state, report.outcome.as_deref()), (JobState::Succeeded, Some("all of it")));
    let steps: Vec<_> = report.steps.iter().map(|step| (step.name.as_str(), step.state)).collect();
    assert_eq!(steps, [("one", StepState::Done), ("two", StepState::Done)]);
    assert_eq!(report.steps[0].detail.as_deref(), Some("half"));
    // A server that was restored from a backup gives it again.
    let again = server.with(|known| {
        known.reports.clear();
        id.clone()
    });
    server.order(1, JobKind::Check);
    server.wait("the end once more", |known| known.end_of(&again));
    assert_eq!(tester.runs.load(Ordering::SeqCst), 1);
}

#[test]
fn a_job_meets_others_at_the_server_that_ordered_it_and_no_other() {
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    server.authority.register(state.path(), server.port, "mt01");
    let other = Server::start();
    let (authority, port, folder) = (other.authority.clone(), other.port, state.path().to_owned());
    let tester = Tester::new(move |job| {
        let gathered = |round: u32| MeetStage::Gathered { placed: Some(format!("{round:08x}")) };
        let mut meeting = job.meeting(&"0f".repeat(16));
        for round in 0..3 {
            assert_eq!(meeting.meet(gathered(round)).unwrap(), MeetReply::Met);
        }
        // The connection is closed, and there is no time for another one.
        assert!(meeting.meet(MeetStage::Held { round: "0123abcd".into() }).is_err());
        // The machine is registered elsewhere meanwhile.
        authority.register(&folder, port, "mt01");
        wait("the other registration", || meeting.meet(gathered(3)).is_err());
        Ok("met".into())
    });
    let _link = Link::start(state.path(), Hub::new(), tester);
    server.order(1, JobKind::Check);
    other.wait("a heartbeat", |known| (!known.heartbeats.is_empty()).then_some(()));
    let stages: Vec<MeetStage> = server.with(|known| known.met.iter().map(|met| met.at.clone()).collect());
    for round in 0..3 {
        let gathered = MeetStage::Gathered { placed: Some(format!("{round:08x}")) };
        assert!(stages.contains(&gathered), "{stages:?}");
    }
    assert!(!stages.iter().any(|stage| matches!(stage, MeetStage::Held { .. })), "{stages:?}");
    other.with(|known| assert!(known.met.is_empty()));
}

#[test]
fn a_job_is_given_up_where_it_can_be_and_a_defect_ends_only_itself() {
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    server.authority.register(state.path(), server.port, "mt01");
    let tester = Tester::new(|job| match &job.order().job {
        JobKind::Check => {
            job.begin("wait");
            while !job.is_cancelled() {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(End::Cancelled)
        }
        JobKind::Resync { .. } => panic!("a defect, as the test wants it"),
        _ => Err(End::Failed(Failure::new("web01", "cannot", "because", "do that"))),
    });
    let _link = Link::start(state.path(), Hub::new(), tester);
    let waiting = server.order(1, JobKind::Check);
    let defect = server.order(2, JobKind::Resync { item: "web01".into() });
    let failing = server.order(3, JobKind::Resume { item: "web01".into() });
    server.with(|known| {
        known
            .orders
            .push(serde_json::json!({ "id": "f".repeat(32), "job": { "kind": "dance" }, "ordered": 1 }));
        known
            .orders
            .push(serde_json::json!({ "id": "../../etc/passwd", "job": { "kind": "check" }, "ordered": 1 }));
    });
    let report = server.wait("the failure", |known| known.end_of(&failing));
    assert_eq!(report.failure.unwrap().next, "do that");
    let report = server.wait("the defect", |known| known.end_of(&defect));
    assert_eq!(report.failure.unwrap().why, "a defect");
    let report = server.wait("the refusal", |known| known.end_of(&"f".repeat(32)));
    assert!(report.failure.unwrap().why.contains("dance"));
    assert!(server.with(|known| known.end_of(&waiting)).is_none());
    server.with(|known| known.cancel.push(waiting.clone()));
    let report = server.wait("the end", |known| known.end_of(&waiting));
    assert_eq!((report.state, report.steps[0].state), (JobState::Cancelled, StepState::Failed));
    // A record that is just being replaced has a hidden one beside it.
    let names = std::fs::read_dir(state.path().join("jobs")).unwrap().flatten();
    let names: Vec<_> =
        names.map(|file| file.file_name()).filter(|name| !name.to_string_lossy().starts_with('.')).collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn the_conversation_follows_the_identity() {
    let (one, other, state) = (Server::start(), Server::start(), tempfile::tempdir().unwrap());
    let (hub, tester) = (Hub::new(), quiet());
    let _link = Link::start(state.path(), hub.clone(), tester);
    assert!(hub.status().is_none());
    one.authority.register(state.path(), one.port, "mt01");
    one.wait("a heartbeat", |known| (!known.heartbeats.is_empty()).then_some(()));
    // A renewed identity: the same server, another certificate.
    one.authority.register(state.path(), one.port, "mt01");
    let before = one.with(|known| known.heartbeats.len());
    one.wait("a further heartbeat", |known| (known.heartbeats.len() > before).then_some(()));
    other.authority.register(state.path(), other.port, "mt02");
    let name = other.wait("a heartbeat", |known| Some(known.heartbeats.first()?.1.host.name.clone()));
    assert_eq!((name.as_str(), hub.status().unwrap().name.as_str()), ("mt02", "mt02"));
    crate::identity::remove(state.path()).unwrap();
    wait("nothing", || hub.status().is_none());
    let silent = other.with(|known| known.heartbeats.len());
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(other.with(|known| known.heartbeats.len()), silent);
}

/// Whoever has the address but not the authority hears nothing.
#[test]
fn another_authority_at_the_address_is_not_talked_to() {
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    Authority::make().register(state.path(), server.port, "mt01");
    let hub = Hub::new();
    let _link = Link::start(state.path(), hub.clone(), quiet());
    wait("trouble", || hub.status().is_some_and(|status| status.problem.is_some()));
    assert!(hub.status().unwrap().problem.unwrap().contains("shows a certificate that is not of"));
    assert!(server.with(|known| known.heartbeats.is_empty() && known.asked == 0));
}
