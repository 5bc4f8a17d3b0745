//! The real `mtd` and `mtctl` against a source that is written by hand, judged by qemu-img and nbdcopy.

use crate::source::{Machine, SOON, Source, free_port};
use change_stream::{BookmarkKind, Frame, Need, RefusalCode};
use control_api::ItemState;
use rig::{Rig, Target, TargetDisk, TargetOptions};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const MIB: usize = 1 << 20;

struct Site {
    rig: Rig,
    options: TargetOptions,
    target: Target,
}

impl Site {
    fn new(folder: &Path) -> Site {
        let programs = Path::new(env!("CARGO_BIN_EXE_mtd")).parent().unwrap();
        let rig = Rig::new(folder, programs).unwrap();
        let disk = |id: &str, file: &str, format: &str, size: usize| TargetDisk {
            id: id.into(),
            path: rig.folder.join(file),
            format: format.into(),
            size: size as u64,
        };
        let disks = vec![
            disk("disk0", "disk0.vmdk", "monolithicSparse", 24 * MIB),
            disk("disk1", "disk1.img", "raw", 4 * MIB),
        ];
        let options = TargetOptions { port: free_port(), disks };
        let target = Target::start(&rig, &options).unwrap();
        Site { rig, options, target }
    }

    async fn connect(&self) -> Source {
        Source::connect(&self.rig.certificates, "source.example", self.options.port).await.unwrap()
    }

    fn mtctl(&self, line: &str) -> String {
        self.target.mtctl(&line.split(' ').collect::<Vec<_>>()).unwrap()
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.mtctl(&format!("{line} --json"))).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.rig.folder.join(name)
    }

    /// Compares an image with bytes, by qemu-img: a copy, since the master target holds the image itself.
    fn assert_equal(&self, image: &str, format: &str, bytes: &[u8]) {
        let wanted = self.file("wanted.raw");
        std::fs::write(&wanted, bytes).unwrap();
        let copy = self.file("copy-of-image");
        std::fs::copy(self.file(image), &copy).unwrap();
        let (copy, wanted) = (copy.display().to_string(), wanted.display().to_string());
        run("qemu-img", &["compare", "-f", format, "-F", "raw", &copy, &wanted]);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&said));
}

fn machine() -> Machine {
    Machine::new(&[("disk0", 24 * MIB), ("disk1", 4 * MIB)], 7)
}

/// Invariants 1, 3 and 7 by the processes themselves: sync, bookmarks, views, rollback, commit.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_replicated_rolled_back_and_committed() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path());
    let mut machine = machine();
    let mut source = site.connect().await;
    let (need, durable) = source.open(&machine.hello("web01")).await;
    assert_eq!((need, durable), (Need::InitialSync, 0));
    source.initial_sync(&mut machine).await;
    site.target.wait_for_state(ItemState::Protected, SOON).unwrap();
    site.assert_equal("disk0.vmdk", "vmdk", &machine.disks[0].1);

    source.replicate(&mut machine, 100).await;
    let bookmark = machine.bookmark("before", BookmarkKind::ApplicationConsistent);
    source.send(&bookmark).await;
    source.wait_durable(machine.sequence, 0).await;
    let before = machine.disks.clone();
    source.replicate(&mut machine, 100).await;

    let points = site.json("points web01 --bookmarks");
    assert_eq!(points["points"][0]["bookmark"]["name"], "before", "{points}");
    assert_eq!(points["points"][0]["bookmark"]["application_consistent"], true);

    test_failover(&site, &mut source, &mut machine, &before).await;
    export(&site, &before);
    failover_and_commit(&site, &machine, &before, &mut source).await;

    let peak = site.target.process().peak_memory().unwrap();
    assert!(peak < 128 << 20, "mtd held {peak} bytes");
    site.target.process().stop().unwrap();
}

async fn test_failover(
    site: &Site,
    source: &mut Source,
    machine: &mut Machine,
    before: &[(String, Vec<u8>)],
) {
    let started = site.json("test-failover start web01 --point before");
    let uri = |n: usize| started["exports"][n]["uri"].as_str().unwrap().to_string();
    // The view stays right while replication goes on, and what is written to it stays in it.
    source.replicate(machine, 50).await;
    for (n, (id, bytes)) in before.iter().enumerate() {
        let copy = site.file(&format!("{id}.copy")).display().to_string();
        run("nbdcopy", &[&uri(n), &copy]);
        site.assert_equal(&format!("{id}.copy"), "raw", bytes);
    }
    run("qemu-io", &["-f", "raw", "-c", "write -P 0xaa 4096 1M", "-c", "read -P 0xaa 4096 1M", &uri(0)]);
    assert_eq!(site.json("test-failover list")["test_failovers"][0]["id"], 1);
    site.mtctl("test-failover stop 1");
    assert_eq!(site.json("test-failover list")["test_failovers"].as_array().unwrap().len(), 0);
    site.assert_equal("disk0.vmdk", "vmdk", &machine.disks[0].1);
    several_at_once(site);
}

/// Those that start at the same moment get numbers of their own, and each serves until it is stopped.
fn several_at_once(site: &Site) {
    let started: Vec<_> = std::thread::scope(|scope| {
        let start = || site.json("test-failover start web01 --point before");
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(site.json("test-failover list")["test_failovers"].as_array().unwrap().len(), 6);
    for test in started {
        run("nbdinfo", &["--size", test["exports"][0]["uri"].as_str().unwrap()]);
        site.mtctl(&format!("test-failover stop {}", test["id"]));
    }
}

fn export(site: &Site, before: &[(String, Vec<u8>)]) {
    for (format, name, qemu) in [
        ("streamOptimized", "a.vmdk", "vmdk"),
        ("monolithicSparse", "b.vmdk", "vmdk"),
        ("raw", "c.raw", "raw"),
    ] {
        let to = site.file(name);
        site.mtctl(&format!(
            "export web01 --disk disk0 --point latest-app-consistent --format {format} --to {}",
            to.display()
        ));
        site.assert_equal(name, qemu, &before[0].1);
    }
}

async fn failover_and_commit(
    site: &Site,
    machine: &Machine,
    before: &[(String, Vec<u8>)],
    source: &mut Source,
) {
    site.mtctl("failover web01 --point before --yes");
    assert!(matches!(
        source.receive().await.unwrap(),
        Some(Frame::Refused { code: RefusalCode::FailedOver, .. })
    ));
    site.assert_equal("disk0.vmdk", "vmdk", &before[0].1);
    site.assert_equal("disk1.img", "raw", &before[1].1);
    site.mtctl("cancel-failover web01");
    site.assert_equal("disk0.vmdk", "vmdk", &machine.disks[0].1);
    let mut again = site.connect().await;
    let (need, durable) = again.open(&machine.hello("web01")).await;
    assert_eq!((need, durable), (Need::Nothing, machine.sequence));
    site.mtctl("failover web01 --point before --yes");
    // A view that is still open ends with the item's disks.
    site.mtctl("test-failover start web01 --point latest");
    site.mtctl("commit web01 --yes");
    rig::wait_for("the view to end", SOON, || {
        Ok(site.json("test-failover list")["test_failovers"].as_array().unwrap().is_empty().then_some(()))
    })
    .unwrap();
    let item = site.json("items web01");
    assert_eq!(item["items"][0]["state"], "committed", "{item}");
    site.assert_equal("disk0.vmdk", "vmdk", &before[0].1);
    site.assert_equal("disk1.img", "raw", &before[1].1);
    run("qemu-img", &["check", "-f", "vmdk", &site.file("disk0.vmdk").display().to_string()]);
    // The disks are released, and replicating onto them again starts by comparing.
    site.mtctl("resync web01");
    assert_eq!(site.json("items web01")["items"][0]["state"], "resync-required");
}

/// Invariants 1 and 2: `kill -9` under load, several times; nothing acknowledged is lost.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path());
    let mut machine = machine();
    let mut source = site.connect().await;
    source.open(&machine.hello("web01")).await;
    source.initial_sync(&mut machine).await;
    for round in 0..5 {
        let mut sent: Vec<Frame> = Vec::new();
        for _ in 0..200 {
            let change = machine.change();
            source.send(&change).await;
            sent.push(change);
        }
        let half = machine.sequence - 200 + machine.random(150) as u64;
        source.wait_durable(half, 0).await;
        let acknowledged = source.durable_sequence;
        site.target.process().kill().unwrap();
        site.target = Target::start(&site.rig, &site.options).unwrap();
        source = site.connect().await;
        let (need, durable) = source.open(&machine.hello("web01")).await;
        assert_eq!(need, Need::Nothing, "round {round}");
        assert!(durable >= acknowledged, "round {round}: {durable} < {acknowledged}");
        let first = machine.sequence - 200 + 1;
        for (_, change) in (first..).zip(&sent).filter(|(sequence, _)| *sequence > durable) {
            source.send(change).await;
        }
        source.wait_durable(machine.sequence, 0).await;
        site.assert_equal("disk0.vmdk", "vmdk", &machine.disks[0].1);
        site.assert_equal("disk1.img", "raw", &machine.disks[1].1);
    }
    site.target.process().stop().unwrap();
    site.assert_equal("disk0.vmdk", "vmdk", &machine.disks[0].1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_with_the_wrong_certificate_gets_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path());
    let machine = machine();
    site.rig.certificates.issue("source-other.example").unwrap();
    let port = site.options.port;
    let mut other = Source::connect(&site.rig.certificates, "source-other.example", port).await.unwrap();
    other.send(&machine.hello("web01")).await;
    match other.receive().await.unwrap() {
        Some(Frame::Refused { code: RefusalCode::NotAllowed, message }) => {
            assert!(message.contains("source.example") && message.contains("web01"), "{message}");
        }
        unexpected => panic!("{unexpected:?}"),
    }
    let mut lost = site.connect().await;
    lost.send(&machine.hello("nobody")).await;
    let refused = lost.receive().await.unwrap();
    assert!(matches!(refused, Some(Frame::Refused { code: RefusalCode::UnknownItem, .. })), "{refused:?}");

    // One that speaks no TLS is cut off, and neither it nor one that says nothing is in anyone's way.
    let mut garbage = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    garbage.write_all(&[b'x'; 4096]).unwrap();
    let mut answer = Vec::new();
    // Cut off by a reset where part of the garbage was not read.
    let _ = garbage.read_to_end(&mut answer);
    assert!(answer.len() < 64, "{answer:?}");
    let _silent = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();

    let foreign = rig::Certificates::make(&folder.path().join("foreign")).unwrap();
    std::fs::copy(site.rig.certificates.ca(), foreign.ca()).unwrap();
    let refused = async {
        let mut source = Source::connect(&foreign, "source.example", port).await?;
        source.send(&machine.hello("web01")).await;
        source.receive().await.map(|_| ())
    };
    let error = refused.await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    site.target.process().check_running().unwrap();
}

#[test]
fn mtctl_refuses_and_explains() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::new(folder.path());
    let socket = site.file("target/mtd.sock").display().to_string();
    let mtctl = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mtctl"));
        if !arguments.contains(&"--socket") {
            command.args(["--socket", &socket]);
        }
        let output = command.args(arguments).stdin(std::process::Stdio::null()).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = mtctl(&["failover", "web01", "--point", "latest"]);
    assert_eq!((code, said.contains("--yes")), (2, true), "{said}");
    let (code, said) = mtctl(&["failover", "web01"]);
    assert_eq!((code, said.contains("--point")), (2, true), "{said}");
    let (code, said) = mtctl(&["failover", "web01", "--point", "latest", "--yes"]);
    assert_eq!((code, said.contains("mtctl points web01")), (1, true), "{said}");
    let (code, said) = mtctl(&["commit", "web01", "--yes"]);
    assert_eq!((code, said.contains("it is not failed over")), (1, true), "{said}");
    let (code, said) = mtctl(&["points", "web02"]);
    assert_eq!((code, said.contains("the items are web01")), (1, true), "{said}");
    let (code, said) = mtctl(&["--socket", "/nonexistent", "status"]);
    assert_eq!((code, said.contains("systemctl start master-target")), (1, true), "{said}");
    assert_eq!(mtctl(&["version"]).0, 0);
}

#[test]
fn systemd_is_told_of_start_life_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path());
    site.target.process().stop().unwrap();
    let path = site.file("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mtd"));
    command.arg("--config").arg(site.file("target/mtd.toml"));
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000").env_remove("WATCHDOG_PID");
    let mut process = rig::Process::start(command, &site.file("mtd.log")).unwrap();
    // What is told comes in any order: the status may be there before the start is over.
    let mut told: Vec<String> = Vec::new();
    let mut wait = |wanted: &str, times: usize| {
        let begun = Instant::now();
        while told.iter().filter(|line| line.starts_with(wanted)).count() < times {
            assert!(begun.elapsed() < SOON, "no {wanted}: {told:?}");
            let mut buffer = [0; 4096];
            let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no {wanted}: {error}"));
            told.extend(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned));
        }
    };
    wait("READY=1", 1);
    wait("STATUS=1 items open", 1);
    wait("WATCHDOG=1", 3);
    process.stop().unwrap();
    wait("STOPPING=1", 1);
}
