//! A daemon in this process, with items that fail: what happens to one stops no other.

use crate::source::{Machine, SOON, Source, free_port};
use control_api::{AlertKind, Answer, Call, ItemState, ItemStatus, PointSelector};
use daemon::config::Config;
use daemon::mtctl::{Client, ClientError};
use rig::{Certificates, wait_for};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const MIB: usize = 1 << 20;

pub(crate) struct Daemon {
    folder: PathBuf,
    pub(crate) port: u16,
    pub(crate) certificates: Certificates,
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Daemon {
    fn start(folder: &Path) -> Daemon {
        Daemon::start_with(folder, "trial_folder = true", BAD)
    }

    /// With lines for the retention volume, which is mounted at `retention`, and other items than the good one.
    pub(crate) fn start_with(folder: &Path, retention: &str, items: &str) -> Daemon {
        let certificates = Certificates::make(&folder.join("certificates")).unwrap();
        let port = free_port();
        let text = configuration(folder, port, &certificates)
            .replace("@RETENTION@", retention)
            .replace("@ITEMS@", items)
            .replace("@FOLDER@", &folder.display().to_string());
        let config = Config::parse("test.toml", &text).unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(daemon::run_until(config, async move {
            let _ = stopped.await;
        }));
        let daemon = Daemon { folder: folder.to_path_buf(), port, certificates, stop, task };
        wait_for("the daemon", SOON, || Ok(Client::connect(&daemon.socket()).ok())).unwrap();
        daemon
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("run/mtd.sock")
    }

    pub(crate) fn call(&self, call: Call) -> Result<Answer, ClientError> {
        Client::connect(&self.socket()).unwrap().call(call, |_| {})
    }

    pub(crate) fn item(&self, name: &str) -> ItemStatus {
        match self.call(Call::Items { item: Some(name.into()) }).unwrap() {
            Answer::Items(mut items) => items.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn wait_for(&self, name: &str, state: ItemState) -> ItemStatus {
        wait_for(&format!("{name} to be {state}"), SOON, || {
            Ok(Some(self.item(name)).filter(|item| item.state == state))
        })
        .unwrap()
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

const BAD: &str = r#"
        [[item]]
        name = "bad"
        source = "source.example"
        disks = [{ id = "d", target = "@FOLDER@/missing.vmdk" }]
"#;

fn configuration(folder: &Path, port: u16, certificates: &Certificates) -> String {
    let shown = folder.display();
    format!(
        r#"
        listen = "127.0.0.1:{port}"
        socket = "{shown}/run/mtd.sock"
        state_folder = "{shown}/state"
        [tls]
        certificate = "{certificate}"
        key = "{key}"
        ca = "{ca}"
        [retention]
        folder = "{shown}/retention"
        @RETENTION@
        [policy]
        rpo_threshold = "1 s"
        [[item]]
        name = "good"
        source = "source.example"
        disks = [{{ id = "d", target = "{shown}/good.img", format = "raw", size = "4 MiB" }}]
        @ITEMS@
        "#,
        certificate = certificates.certificate("target.example").display(),
        key = certificates.key("target.example").display(),
        ca = certificates.ca().display(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_disk_fences_its_item_only_and_is_found_when_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("retention")).unwrap();
    let daemon = Daemon::start(folder.path());
    let bad = daemon.wait_for("bad", ItemState::Fenced);
    let detail = bad.detail.unwrap();
    assert!(detail.contains("missing.vmdk") && detail.contains("it is opened again at"), "{detail}");
    assert_eq!(bad.alerts[0].kind, AlertKind::Fenced);

    let mut machine = Machine::new(&[("d", 4 * MIB)], 3);
    let mut source = Source::connect(&daemon.certificates, "source.example", daemon.port).await.unwrap();
    source.open(&machine.hello("good")).await;
    source.initial_sync(&mut machine).await;
    source.replicate(&mut machine, 20).await;
    daemon.wait_for("good", ItemState::Protected);

    // Made elsewhere and moved there whole: half an image would be damage, which waits for an order.
    let made_at = folder.path().join("made").join("missing.vmdk");
    std::fs::create_dir(folder.path().join("made")).unwrap();
    let made = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "vmdk", &made_at.display().to_string(), "4M"])
        .status();
    assert!(made.unwrap().success());
    std::fs::rename(made_at, folder.path().join("missing.vmdk")).unwrap();
    // Whatever the disk held is unknown, so its source has to compare.
    let bad = daemon.wait_for("bad", ItemState::ResyncRequired);
    assert!(bad.alerts.iter().any(|alert| alert.kind == AlertKind::ResyncRequired), "{:?}", bad.alerts);

    // No source is heard any more: the newest point grows older than the threshold.
    drop(source);
    let alerted = |item: ItemStatus| item.alerts.iter().any(|alert| alert.kind == AlertKind::RpoExceeded);
    wait_for("the alert", SOON, || Ok(alerted(daemon.item("good")).then_some(()))).unwrap();
    daemon.stop().await;
    assert_eq!(std::fs::read(folder.path().join("good.img")).unwrap(), machine.disks[0].1);
}

/// Invariant 6: a journal that is lost is never replaced in silence.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_journal_is_told_and_replaced_only_by_order() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("retention")).unwrap();
    let daemon = Daemon::start(folder.path());
    daemon.wait_for("good", ItemState::InitialSyncRequired);
    daemon.stop().await;
    std::fs::rename(folder.path().join("retention"), folder.path().join("unmounted")).unwrap();
    std::fs::create_dir(folder.path().join("retention")).unwrap();
    let daemon = Daemon::start(folder.path());
    let detail = daemon.wait_for("good", ItemState::Fenced).detail.unwrap();
    assert!(detail.contains("no marker file"), "{detail}");
    assert_eq!(std::fs::read_dir(folder.path().join("retention")).unwrap().count(), 0);
    // The volume comes back, and the item with it.
    std::fs::remove_dir(folder.path().join("retention")).unwrap();
    std::fs::rename(folder.path().join("unmounted"), folder.path().join("retention")).unwrap();
    daemon.wait_for("good", ItemState::ResyncRequired);
    daemon.stop().await;
    std::fs::remove_dir_all(folder.path().join("retention")).unwrap();
    std::fs::create_dir(folder.path().join("retention")).unwrap();
    let daemon = Daemon::start(folder.path());
    daemon.wait_for("good", ItemState::Fenced);
    daemon.call(Call::Resync { item: "good".into() }).unwrap();
    daemon.wait_for("good", ItemState::ResyncRequired);
    daemon.stop().await;
}

/// Invariant 5: damage is found and told, and a new journal is made only by order.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_fences_and_a_resync_makes_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("retention")).unwrap();
    let daemon = Daemon::start(folder.path());
    daemon.wait_for("good", ItemState::InitialSyncRequired);
    daemon.stop().await;
    let journal = folder.path().join("retention/items/good");
    let segment = std::fs::read_dir(&journal).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let daemon = Daemon::start(folder.path());
    let detail = daemon.wait_for("good", ItemState::Fenced).detail.unwrap();
    assert!(detail.contains("is damaged at byte") && detail.contains("mtctl resync good"), "{detail}");
    daemon.call(Call::Resync { item: "good".into() }).unwrap();
    daemon.wait_for("good", ItemState::ResyncRequired);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_local_api_refuses_what_it_cannot_do_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("retention")).unwrap();
    let daemon = Daemon::start(folder.path());
    daemon.wait_for("good", ItemState::InitialSyncRequired);
    let mode = std::fs::metadata(daemon.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let refused = |call| match daemon.call(call).unwrap_err() {
        ClientError::Failed(failure) => failure.to_string(),
        other => panic!("{other}"),
    };
    let item = || "good".to_string();
    let cases = [
        (
            Call::Points { item: "x".into(), from: None, to: None, bookmarks: false, limit: 1 },
            "the items are good, bad",
        ),
        (Call::Failover { item: item(), point: PointSelector::Latest }, "there is none of this kind"),
        (Call::CancelFailover { item: item() }, "it is not failed over"),
        (Call::Commit { item: item() }, "it is not failed over"),
        (Call::Resume { item: item() }, "it is not fenced"),
        (Call::TestFailoverStop { id: 9 }, "there is none of this number"),
        (
            Call::TestFailoverStart { item: item(), point: PointSelector::Number(5), listen: None },
            "recovery point 5",
        ),
        (
            Call::Export {
                item: item(),
                disk: "e".into(),
                point: PointSelector::Latest,
                format: "raw".into(),
                to: "/tmp/x".into(),
            },
            "has the disks d",
        ),
    ];
    for (call, expected) in cases {
        let said = refused(call);
        assert!(said.contains(expected), "{said}");
    }
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.write_all(b"{\"api\":1,\"call\":\"statsu\"}\n").unwrap();
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    assert!(line.contains("unknown variant `statsu`"), "{line}");
    assert!(matches!(daemon.call(Call::Version).unwrap(), Answer::Version(_)));
    daemon.stop().await;
}
