//! Items that are taken, changed and let go of while the real `mtd` runs.

use crate::configuration_server::ConfigurationServer;
use crate::source::{Machine, SOON, Source, free_port};
use change_stream::{BookmarkKind, Need};
use control_api::ItemState;
use control_api::registration::HostKind;
use rig::{Identity, Rig, Target, TargetOptions, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use transport::tls::TlsFiles;

const MIB: usize = 1 << 20;
const TARGET: &str = "mt01.example";
const SOURCE: &str = "web01.example";

/// A master target without an item.
struct Site {
    rig: Rig,
    options: TargetOptions,
    target: Target,
    machine: Machine,
}

impl Site {
    fn new(folder: &Path) -> Site {
        Site::with(folder, |_| {})
    }

    fn registered(cs: &ConfigurationServer, folder: &Path) -> Site {
        Site::with(folder, |rig| {
            rig.target = cs.register(HostKind::MasterTarget, TARGET, &rig.folder.join("target/state"));
            rig.source = cs.register(HostKind::SourceAgent, SOURCE, &rig.folder.join("source/state"));
        })
    }

    fn with(folder: &Path, prepare: impl FnOnce(&mut Rig)) -> Site {
        let programs = Path::new(env!("CARGO_BIN_EXE_mtd")).parent().unwrap();
        let mut rig = Rig::new(folder, programs).unwrap();
        prepare(&mut rig);
        fs::create_dir(rig.folder.join("datastore")).unwrap();
        let options = TargetOptions { port: free_port(), disks: Vec::new() };
        let target = Target::start(&rig, &options).unwrap();
        let machine = Machine::new(&[("disk0", 4 * MIB), ("disk1", 2 * MIB)], 5);
        Site { rig, options, target, machine }
    }

    fn restart(&mut self) {
        self.target.process().kill().unwrap();
        self.target = Target::start(&self.rig, &self.options).unwrap();
    }

    async fn connect(&self) -> Source {
        let Identity { certificate, key, ca, .. } = self.rig.source.clone();
        let files = TlsFiles { certificate, key, ca };
        Source::connect_with(&files, &self.rig.target.name, self.options.port).await.unwrap()
    }

    fn datastore(&self) -> PathBuf {
        self.rig.folder.join("datastore")
    }

    /// One disk into an image that exists, one into a new VMDK.
    fn item(&self) -> Value {
        let existing = self.datastore().join("disk0.img");
        fs::File::create(&existing).unwrap().set_len(4 * MIB as u64).unwrap();
        json!({
            "name": "web01",
            "source": self.rig.source.name,
            "policy": { "window_seconds": 86_400, "rpo_threshold_seconds": 900 },
            "disks": [
                { "id": "disk0", "size": 4 * MIB, "target": { "kind": "existing", "target": existing } },
                { "id": "disk1", "size": 2 * MIB, "target": { "kind": "new", "folder": self.datastore(),
                  "format": "monolithicSparse", "adapter": "lsilogic" } },
            ],
        })
    }

    fn protect(&self) {
        let _ = self.item();
        let folder = self.datastore().display().to_string();
        let (first, second) = (
            format!("disk0={folder}/disk0.img,size={}", 4 * MIB),
            format!("disk1={folder},size={},format=monolithicSparse", 2 * MIB),
        );
        let source = self.rig.source.name.as_str();
        let words = ["protect", "web01", "--source", source, "--disk", &first, "--disk", &second];
        let said = self.target.mtctl(&words).unwrap();
        assert!(said.contains("web01 is taken"), "{said}");
    }

    async fn replicate(&mut self) -> Source {
        let mut source = self.connect().await;
        source.open(&self.machine.hello("web01")).await;
        source.initial_sync(&mut self.machine).await;
        self.target.wait_for_state(ItemState::Protected, SOON).unwrap();
        source
    }

    fn items(&self) -> usize {
        self.target.status().unwrap().items.len()
    }

    fn state(&self, name: &str) -> PathBuf {
        self.rig.folder.join("target/state/items").join(name)
    }

    fn journal(&self) -> PathBuf {
        self.rig.folder.join("target/retention/items/web01")
    }

    fn failure(&self, words: &[&str]) -> String {
        format!("{:#}", self.target.mtctl(words).unwrap_err())
    }

    /// What the state folder has of items; a file that a crash kept from getting its name is written over some day.
    fn left(&self) -> Vec<String> {
        let files = fs::read_dir(self.state("")).into_iter().flatten().flatten();
        let names = files.map(|file| file.file_name().into_string().unwrap());
        names.filter(|name| !name.starts_with('.')).collect()
    }

    /// Nothing of the item is left but the disks.
    fn assert_gone(&self) {
        assert_eq!(self.items(), 0);
        let left: Vec<_> =
            fs::read_dir(self.state("")).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(!self.journal().exists());
    }

    fn assert_disks(&self, wanted: &[(String, Vec<u8>)]) {
        assert!(fs::read(self.datastore().join("disk0.img")).unwrap() == wanted[0].1, "disk0 differs");
        let raw = self.rig.folder.join("wanted.raw");
        fs::write(&raw, &wanted[1].1).unwrap();
        let image = self.datastore().join("web01-disk1.vmdk").display().to_string();
        rig::tools::compare(&image, "vmdk", &raw.display().to_string(), "raw").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_is_taken_replicated_committed_and_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path());
    site.protect();
    let mut source = site.replicate().await;
    source.replicate(&mut site.machine, 50).await;
    let bookmark = site.machine.bookmark("before", BookmarkKind::CrashConsistent);
    source.send(&bookmark).await;
    source.wait_durable(site.machine.sequence, 0).await;
    let before = site.machine.disks.clone();
    source.replicate(&mut site.machine, 50).await;
    drop(source);
    // It is there after a crash, by its file.
    site.restart();
    site.target.wait_for_state(ItemState::Protected, SOON).unwrap();
    site.target.mtctl(&["failover", "web01", "--point", "before", "--yes"]).unwrap();
    let said = site.target.mtctl(&["commit", "web01", "--yes"]).unwrap();
    assert!(said.contains("committed"), "{said}");
    site.assert_gone();
    site.assert_disks(&before);
    site.restart();
    site.assert_gone();
    // The same disks can be taken again.
    let again = format!("disk0={}/disk0.img,size={}", site.datastore().display(), 4 * MIB);
    site.target.mtctl(&["protect", "web01", "--source", "source.example", "--disk", &again]).unwrap();
    assert_eq!(site.items(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_is_released_and_its_disks_stay() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path());
    site.protect();
    let source = site.replicate().await;
    let started = site.target.mtctl(&["test-failover", "start", "web01", "--point", "latest"]).unwrap();
    let said = site.failure(&["release", "web01", "--yes"]);
    assert!(said.contains("test failover 1 shows one of its recovery points"), "{started} {said}");
    site.target.mtctl(&["test-failover", "stop", "1"]).unwrap();
    let said = site.target.mtctl(&["release", "web01", "--yes"]).unwrap();
    assert!(said.contains("web01 is released"), "{said}");
    site.assert_gone();
    site.assert_disks(&site.machine.disks);
    drop(source);
    let said = site.failure(&["release", "web01", "--yes"]);
    assert!(said.contains("there is no such item"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_changes_at_once_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path());
    site.protect();
    let source = site.replicate().await;
    let said = site.target.mtctl(&["policy", "web01", "--window", "48h", "--rpo", "1s"]).unwrap();
    assert!(said.contains("a window of 2 d, an RPO of at most 1 s"), "{said}");
    assert_eq!(site.target.item().unwrap().window_wanted, 172_800_000_000_000);
    // The source says nothing more.
    drop(source);
    wait_for("the alert of the new threshold", SOON, || {
        let alerts = site.target.item()?.alerts;
        Ok(alerts.iter().any(|alert| alert.message.contains("threshold of 1 s")).then_some(()))
    })
    .unwrap();
    // Its part of the volume is the administrator's; what the volume has of it is not known beforehand.
    let said =
        site.target.mtctl(&["policy", "web01", "--min-journal", "64MiB", "--max-journal", "20%"]).unwrap();
    assert!(said.contains("at least 64 MiB and at most 20 %"), "{said}");
    let said = site.failure(&["policy", "web01", "--min-journal", "30%"]);
    assert!(said.contains("is more than max_journal"), "{said}");
    wait_for("the share", SOON, || {
        let item = site.target.item()?;
        Ok((item.min_journal_bytes == 64 << 20 && item.max_journal_bytes.is_some()).then_some(()))
    })
    .unwrap();
    let said = site.failure(&["policy", "web01", "--window", "1s"]);
    assert!(said.contains("window must be a duration between 1 min and"), "{said}");
    site.restart();
    assert_eq!(site.target.item().unwrap().window_wanted, 172_800_000_000_000);
    let text = fs::read_to_string(site.state("web01.toml")).unwrap();
    assert!(text.contains("policy.application_consistent_every = \"3600 s\""), "{text}");
    assert!(text.contains("policy.max_journal = \"20 %\""), "{text}");
    let said = site.target.mtctl(&["policy", "web01", "--max-journal", "standard"]).unwrap();
    assert!(said.contains("its journal has at least 64 MiB of") && !said.contains("at most 20 %"), "{said}");
    wait_for("no maximum", SOON, || {
        let item = site.target.item()?;
        Ok((item.min_journal_bytes == 64 << 20 && item.max_journal_bytes.is_none()).then_some(()))
    })
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn items_of_the_configuration_and_damaged_ones_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path());
    fs::create_dir_all(site.state("")).unwrap();
    fs::write(site.state("db01.toml"), "[[item]]\nname = \"db01\"\nsou").unwrap();
    site.target.process().stop().unwrap();
    let image = site.datastore().join("file.img");
    let more = format!(
        "[[item]]\nname = \"file01\"\nsource = \"s\"\ndisks = [{{ id = \"d\", target = {image:?}, size = \"1 MiB\" }}]\n"
    );
    site.target = Target::start_with(&site.rig, &site.options, &more).unwrap();
    let status = site.target.status().unwrap();
    let states: Vec<_> = status.items.iter().map(|item| (item.name.as_str(), item.state)).collect();
    assert_eq!(states, [("file01", ItemState::InitialSyncRequired), ("db01", ItemState::Fenced)]);
    let detail = status.items[1].detail.as_deref().unwrap();
    assert!(detail.contains("db01.toml, line 3") && detail.contains("remove the file"), "{detail}");
    for words in [&["release", "file01", "--yes"][..], &["policy", "file01", "--window", "2d"]] {
        let said = site.failure(words);
        assert!(said.contains("it stands in") && said.contains("mtd.toml"), "{said}");
    }
    let said = site.failure(&["release", "db01", "--yes"]);
    assert!(said.contains("left alone"), "{said}");
    for (item, target, expected) in [
        ("file01", "x.img", "there is an item of this name already"),
        ("db01", "x.img", "left alone"),
        ("web01", "file.img", "it is the target of d of file01"),
    ] {
        let disk = format!("d={}/{target},size=1MiB", site.datastore().display());
        let said = site.failure(&["protect", item, "--source", "s", "--disk", &disk]);
        assert!(said.contains(expected), "{said}");
    }
    assert!(site.state("db01.toml").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_server_has_an_item_taken_changed_and_released() {
    let cs = ConfigurationServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let site = Site::registered(&cs, folder.path());
    let done = cs.end_of(&cs.order(TARGET, json!({ "kind": "protect", "item": site.item() })));
    assert_eq!(done["state"], "succeeded", "{done:#}");
    let steps = done["report"]["steps"].as_array().unwrap();
    let steps: Vec<_> =
        steps.iter().map(|step| (step["name"].as_str().unwrap(), step["state"].as_str())).collect();
    let names = ["Check", "Make the disks", "Open the item"];
    assert_eq!(steps, names.map(|name| (name, Some("done"))));
    let mut source = site.connect().await;
    let (need, _) = source.open(&site.machine.hello("web01")).await;
    assert!(matches!(need, Need::Resync { .. }), "what is on a disk that existed is compared: {need:?}");
    drop(source);
    cs.wait("/api/v1/items", |item| item["name"] == "web01" && item["gone"].is_null());
    let again = cs.end_of(&cs.order(TARGET, json!({ "kind": "protect", "item": site.item() })));
    let why = again["report"]["failure"]["why"].as_str().unwrap();
    assert_eq!((&again["state"], why), (&json!("failed"), "there is an item of this name already"));
    let done = cs.end_of(&cs.order(TARGET, json!({ "kind": "release", "item": "web01" })));
    assert_eq!(done["state"], "succeeded", "{done:#}");
    site.assert_gone();
    assert!(site.datastore().join("web01-disk1.vmdk").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_follows_the_policy_that_the_configuration_server_gives_it() {
    let cs = ConfigurationServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::registered(&cs, folder.path());
    let mut item = site.item();
    item["policy"] = json!({ "window_seconds": 172_800, "rpo_threshold_seconds": 900 });
    let done = cs.end_of(&cs.order(TARGET, json!({ "kind": "protect", "item": item })));
    assert_eq!(done["state"], "succeeded", "{done:#}");
    let told = cs.wait("/api/v1/items", |item| item["name"] == "web01");
    assert_eq!(told["follows_policy"], false, "no policy says what it was taken with");
    let detail = cs.get(&format!("/api/v1/items/{}", told["id"]));
    assert_eq!(detail["status"]["policy"]["window_seconds"], 172_800, "{detail:#}");
    site.target.mtctl(&["policy", "web01", "--window", "24h", "--application-consistent", "60min"]).unwrap();

    let days = |site: &Site| site.target.item().unwrap().window_wanted / 86_400_000_000_000;
    let send = |method: &str, path: &str, body| {
        let (status, answer) = cs.send(method, path, Some(body));
        assert!(status < 300, "{answer:#}");
        answer["id"].clone()
    };
    let week = |days: u64| {
        json!({
            "name": "Week", "window_seconds": days * 86_400, "rpo_threshold_seconds": 60,
            "application_consistent_every_seconds": null,
        })
    };
    let policy = send("POST", "/api/v1/policies", week(7));
    send("PATCH", &format!("/api/v1/items/{}", told["id"]), json!({ "policy": policy }));
    let follows = |wanted: u64, site: &Site| {
        wait_for("the policy to be followed", SOON, || Ok((days(site) == wanted).then_some(()))).unwrap();
    };
    follows(7, &site);
    let said = site.failure(&["policy", "web01", "--window", "24h"]);
    assert!(said.contains("the configuration server gives it its policy"), "{said}");
    let said = site.target.mtctl(&["policy", "web01", "--max-journal", "40GiB"]).unwrap();
    assert!(said.contains("a window of 1 w") || said.contains("a window of 7 d"), "{said}");
    assert!(said.contains("at most 40 GiB of the retention volume"), "{said}");
    site.restart();
    assert_eq!(days(&site), 7, "it is kept");
    send("PUT", &format!("/api/v1/policies/{policy}"), week(3));
    follows(3, &site);
    cs.wait("/api/v1/items", |item| item["follows_policy"] == true);
}

/// Killed at any moment, the daemon has the item wholly or not at all, and the job ends as if nothing had happened.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_leaves_an_item_wholly_there_or_wholly_not_and_its_job_ends_well() {
    let cs = ConfigurationServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::registered(&cs, folder.path());
    for (round, pause) in [0, 1, 3, 6, 10, 15, 25, 40, 80].into_iter().enumerate() {
        let protect = cs.order(TARGET, json!({ "kind": "protect", "item": site.item() }));
        let record = site.rig.folder.join(format!("target/state/jobs/{protect}.json"));
        kill_after(&mut site, &record, pause);
        let done = cs.end_of(&protect);
        assert_eq!(done["state"], "succeeded", "{round}: {done:#}");
        assert_eq!(site.items(), 1, "{round}");
        assert!(site.state("web01.toml").exists() && !site.state("web01.taking").exists(), "{round}");
        cs.wait("/api/v1/items", |item| item["name"] == "web01" && item["gone"].is_null());
        let release = cs.order(TARGET, json!({ "kind": "release", "item": "web01" }));
        let record = site.rig.folder.join(format!("target/state/jobs/{release}.json"));
        kill_after(&mut site, &record, pause);
        let done = cs.end_of(&release);
        assert_eq!(done["state"], "succeeded", "{round}: {done:#}");
        // What a crash left is removed beside the job.
        wait_for("the remains to go", SOON, || {
            Ok((site.left().is_empty() && !site.journal().exists()).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{round}: {error}: {:?}", site.left()));
        site.assert_gone();
        let image = site.datastore().join("web01-disk1.vmdk");
        assert!(image.exists(), "{round}");
        fs::remove_file(image).unwrap();
    }
}

/// Kills the daemon so many milliseconds after it has taken a job, and starts it again.
fn kill_after(site: &mut Site, record: &Path, milliseconds: u64) {
    wait_for("the job to be taken", SOON, || Ok(record.exists().then_some(()))).unwrap();
    std::thread::sleep(Duration::from_millis(milliseconds));
    site.restart();
}
