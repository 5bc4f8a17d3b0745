//! The real `mtd` and a real configuration server: heartbeats, jobs, and sources that are revoked.

use crate::configuration_server::ConfigurationServer;
use crate::source::{Machine, SOON, Source, free_port};
use change_stream::{BookmarkKind, Frame, Need, RefusalCode};
use control_api::ItemState;
use control_api::registration::HostKind;
use rig::{Identity, Rig, Target, TargetDisk, TargetOptions, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use transport::tls::TlsFiles;

const MIB: usize = 1 << 20;
const TARGET: &str = "mt01.example";
const SOURCE: &str = "web01.example";

/// A registered master target with one item, and a registered source of it.
struct Site {
    rig: Rig,
    options: TargetOptions,
    target: Target,
    machine: Machine,
}

impl Site {
    fn start(cs: &ConfigurationServer, folder: &Path) -> Site {
        let programs = Path::new(env!("CARGO_BIN_EXE_mtd")).parent().unwrap();
        let mut rig = Rig::new(folder, programs).unwrap();
        rig.target = cs.register(HostKind::MasterTarget, TARGET, &rig.folder.join("target/state"));
        rig.source = cs.register(HostKind::SourceAgent, SOURCE, &rig.folder.join("source/state"));
        let disk = TargetDisk {
            id: "disk0".into(),
            path: rig.folder.join("disk0.img"),
            format: "raw".into(),
            size: 4 * MIB as u64,
        };
        let options = TargetOptions { port: free_port(), disks: vec![disk] };
        let target = Target::start(&rig, &options).unwrap();
        Site { rig, options, target, machine: Machine::new(&[("disk0", 4 * MIB)], 11) }
    }

    async fn connect(&self) -> Source {
        let Identity { certificate, key, ca, .. } = self.rig.source.clone();
        Source::connect_with(&TlsFiles { certificate, key, ca }, TARGET, self.options.port).await.unwrap()
    }

    /// A source that the item follows.
    async fn protect(&mut self) -> Source {
        let mut source = self.connect().await;
        let (need, _) = source.open(&self.machine.hello("web01")).await;
        assert_eq!(need, Need::InitialSync);
        source.initial_sync(&mut self.machine).await;
        self.target.wait_for_state(ItemState::Protected, SOON).unwrap();
        source
    }

    /// Connects until a comparison is wanted: the order may come just after the connection.
    async fn connect_to_resync(&self) -> Source {
        let begun = Instant::now();
        loop {
            let mut source = self.connect().await;
            let (need, _) = source.open(&self.machine.hello("web01")).await;
            if let Need::Resync { .. } = need {
                return source;
            }
            assert!(begun.elapsed() < SOON, "no resync is wanted");
            // It ends as soon as the resync is ordered.
            while let Ok(Some(frame)) = source.receive().await {
                assert!(!matches!(frame, Frame::Welcome { .. }), "welcomed twice");
            }
        }
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.target.mtctl(&["status", "--json"]).unwrap()).unwrap()
    }

    fn jobs(&self) -> PathBuf {
        self.rig.folder.join("target/state/jobs")
    }
}

/// The whole comparison that a resync asks for, as a source does it that says of each block that it differs.
async fn resync(source: &mut Source, machine: &mut Machine) {
    let size = machine.disks[0].1.len() as u64;
    let begin = Frame::SyncBegin {
        mode: change_stream::SyncMode::Resync,
        stream: crate::source::STREAM,
        base_sequence: machine.sequence,
    };
    source.send(&begin).await;
    let data = machine.disks[0].1.clone();
    for offset in (0..size).step_by(MIB) {
        let part = data[offset as usize..offset as usize + MIB].to_vec();
        source.send(&Frame::SyncData { disk: 0, offset, data: part }).await;
    }
    source.send(&Frame::SyncEnd { time: crate::source::now(), consistent: true }).await;
    source.wait_durable(machine.sequence, size / MIB as u64 + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_master_target_shows_up_with_its_items_and_does_its_jobs() {
    let cs = ConfigurationServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::start(&cs, folder.path());
    let host = cs.wait("/api/v1/hosts", |host| host["name"] == TARGET && host["state"] == "connected");
    assert!(host["health"]["memory_bytes"].as_u64().unwrap() > 0, "{host}");
    let mut source = site.protect().await;
    let item = cs.wait("/api/v1/items", |item| item["name"] == "web01" && item["state"] == "protected");
    let bookmark = site.machine.bookmark("before-upgrade", BookmarkKind::CrashConsistent);
    source.send(&bookmark).await;
    source.wait_durable(site.machine.sequence, 0).await;
    let points = format!("/api/v1/items/{}/points", item["id"]);
    cs.wait(&points, |point| point["bookmark"]["name"] == "before-upgrade");
    let status = site.status();
    assert!(status["link"]["problem"].is_null() && !status["link"]["connected_since"].is_null(), "{status}");

    let ordered = Instant::now();
    let id = cs.order(TARGET, json!({ "kind": "test-failover-start", "item": "web01", "point": "latest" }));
    let done = cs.end_of(&id);
    assert!(ordered.elapsed() < Duration::from_secs(10), "{:?}", ordered.elapsed());
    let outcome = done["report"]["outcome"].as_str().unwrap_or_else(|| panic!("{done:#}")).to_owned();
    assert!(outcome.starts_with("test failover 1 of web01 at") && outcome.contains("nbd+unix:"), "{outcome}");
    assert!(site.target.mtctl(&["test-failover", "list"]).unwrap().contains("web01"));
    let stop = json!({ "kind": "test-failover-stop", "item": "web01", "id": 1 });
    assert_eq!(cs.end_of(&cs.order(TARGET, stop.clone()))["state"], "succeeded");
    let again = cs.end_of(&cs.order(TARGET, stop));
    assert_eq!(again["state"], "failed", "{again}");
    let resume = cs.end_of(&cs.order(TARGET, json!({ "kind": "resume", "item": "web01" })));
    assert!(resume["report"]["failure"]["why"].as_str().unwrap().contains("not fenced"), "{resume:#}");

    let check = cs.end_of(&cs.order(TARGET, json!({ "kind": "check" })));
    let steps = check["report"]["steps"].as_array().unwrap();
    assert!(steps.len() >= 7 && steps.iter().all(|step| !step["detail"].is_null()), "{check:#}");
}

/// A resync is ordered once, wherever in between the daemon is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_resync_is_ordered_once_though_the_daemon_is_killed() {
    let cs = ConfigurationServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::start(&cs, folder.path());
    let mut source = site.protect().await;
    cs.wait("/api/v1/items", |item| item["state"] == "protected");
    for noted in ["\"note\":\"after ", "\"note\":\"ordered\""] {
        let id = cs.order(TARGET, json!({ "kind": "resync", "item": "web01" }));
        let record = site.jobs().join(format!("{id}.json"));
        wait_for("the note", SOON, || {
            let text = fs::read_to_string(&record).unwrap_or_default();
            // The first is soon replaced by the second.
            Ok((text.contains(noted) || text.contains("\"note\":\"ordered\"")).then_some(()))
        })
        .unwrap();
        site.target.process().kill().unwrap();
        drop(source);
        site.target = Target::start(&site.rig, &site.options).unwrap();
        source = site.connect_to_resync().await;
        resync(&mut source, &mut site.machine).await;
        let done = cs.end_of(&id);
        assert_eq!(done["state"], "succeeded", "{done:#}");
        let steps = done["report"]["steps"].as_array().unwrap();
        assert!(steps.iter().all(|step| step["state"] == "done" || step["state"] == "waiting"), "{done:#}");
        // It is not compared once more.
        drop(source);
        site.target.process().kill().unwrap();
        site.target = Target::start(&site.rig, &site.options).unwrap();
        source = site.connect().await;
        let (need, _) = source.open(&site.machine.hello("web01")).await;
        assert_eq!(need, Need::Nothing, "{noted}");
        site.target.wait_for_state(ItemState::Protected, SOON).unwrap();
    }
}

/// A failover, another point, back, and forward for good; wherever the daemon is killed, each job ends as it would have.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_is_ordered_changed_cancelled_and_committed() {
    let cs = ConfigurationServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::start(&cs, folder.path());
    let mut source = site.protect().await;
    let mut images = Vec::new();
    for name in ["one", "two"] {
        source.replicate(&mut site.machine, 50).await;
        source.send(&site.machine.bookmark(name, BookmarkKind::CrashConsistent)).await;
        source.wait_durable(site.machine.sequence, 0).await;
        images.push(site.machine.disks[0].1.clone());
    }
    source.replicate(&mut site.machine, 50).await;
    let newest = site.machine.disks[0].1.clone();
    cs.wait("/api/v1/items", |item| item["state"] == "protected");
    let to = |point: &str| json!({ "kind": "failover", "item": "web01", "point": point });
    let (cancel, commit) =
        (json!({ "kind": "cancel-failover", "item": "web01" }), json!({ "kind": "commit", "item": "web01" }));
    let disk = || fs::read(folder.path().join("disk0.img")).unwrap();

    let early = cs.end_of(&cs.order(TARGET, commit.clone()));
    assert!(early["report"]["failure"]["why"].as_str().unwrap().contains("not failed over"), "{early:#}");
    // The latest is always what came from the source last, and not what it was rolled back to.
    for (point, image) in [
        ("bookmark:one", &images[0]),
        ("bookmark:two", &images[1]),
        ("latest", &newest),
        ("bookmark:one", &images[0]),
        (&format!("time:{}", crate::source::now()), &newest),
    ] {
        let done = cs.end_of(&cs.order(TARGET, to(point)));
        assert_eq!(done["state"], "succeeded", "{done:#}");
        let outcome = done["report"]["outcome"].as_str().unwrap();
        assert!(outcome.contains("recovery point") && outcome.contains("commit it"), "{outcome}");
        assert!(disk() == *image, "the disks hold something else than {point}");
        cs.wait("/api/v1/items", |item| item["state"] == "failed-over");
    }
    assert_eq!(cs.end_of(&cs.order(TARGET, cancel))["state"], "succeeded");
    assert!(disk() == newest, "it did not go back");

    for order in [to("bookmark:one"), commit] {
        let id = cs.order(TARGET, order);
        let record = site.jobs().join(format!("{id}.json"));
        wait_for("the beginning", SOON, || {
            let text = fs::read_to_string(&record).unwrap_or_default();
            Ok(text.contains("\"attempts\":1").then_some(()))
        })
        .unwrap();
        site.target.process().kill().unwrap();
        site.target = Target::start(&site.rig, &site.options).unwrap();
        let done = cs.end_of(&id);
        assert_eq!(done["state"], "succeeded", "{done:#}");
        assert!(disk() == images[0]);
    }
    cs.wait("/api/v1/items", |item| item["state"] == "committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_goes_on_while_the_configuration_server_is_away() {
    let mut cs = ConfigurationServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::start(&cs, folder.path());
    let mut source = site.protect().await;
    cs.wait("/api/v1/hosts", |host| host["name"] == TARGET && host["state"] == "connected");
    cs.stop().await;
    wait_for("trouble", SOON, || Ok((!site.status()["link"]["problem"].is_null()).then_some(()))).unwrap();
    source.replicate(&mut site.machine, 50).await;
    let text = site.target.mtctl(&["status"]).unwrap();
    assert!(text.contains("not connected for") && text.contains("refuses connections"), "{text}");
    cs.start_again().await;
    wait_for("no trouble", SOON, || {
        let link = site.status()["link"].clone();
        Ok((link["problem"].is_null() && !link["connected_since"].is_null()).then_some(()))
    })
    .unwrap();
    let log = fs::read_to_string(site.rig.folder.join("target/mtd.log")).unwrap();
    let interrupted = log.matches("is interrupted, and is tried again by itself").count();
    assert!((1..=2).contains(&interrupted), "it is told once: {log}");
    source.replicate(&mut site.machine, 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_revoked_is_let_in_no_more() {
    let mut cs = ConfigurationServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::start(&cs, folder.path());
    let mut source = site.protect().await;
    cs.wait("/api/v1/hosts", |host| host["name"] == TARGET && host["state"] == "connected");
    let id = cs.host(SOURCE)["id"].as_str().unwrap().to_owned();
    assert_eq!(cs.send("DELETE", &format!("/api/v1/hosts/{id}"), None).0, 204);
    // Its connection is closed with the next heartbeat.
    let closed = async { while let Ok(Some(_)) = source.receive().await {} };
    tokio::time::timeout(SOON, closed).await.expect("the connection stays open");
    cs.stop().await;
    for restarted in [false, true] {
        if restarted {
            site.target.process().stop().unwrap();
            site.target = Target::start(&site.rig, &site.options).unwrap();
        }
        let mut source = site.connect().await;
        source.send(&site.machine.hello("web01")).await;
        match source.receive().await.unwrap() {
            Some(Frame::Refused { code: RefusalCode::NotAllowed, message }) => {
                assert!(message.contains("was revoked at the configuration server"), "{message}");
            }
            other => panic!("{restarted}: {other:?}"),
        }
    }
}
