//! Several items on one retention volume that is far too small for them.

use crate::source::{Machine, SOON, Source, free_port, now};
use change_stream::{Frame, Need};
use control_api::{AlertKind, Answer, Call, ItemState, ItemStatus, Status};
use daemon::config::Config;
use daemon::mtctl::Client;
use rig::tools::run;
use rig::{Certificates, wait_for};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const MIB: usize = 1 << 20;
const DISK: usize = 24 * MIB;
const NAMES: [&str; 3] = ["fast", "slow", "spared"];
/// What the spared item keeps.
const MIN: u64 = 64 << 20;

/// An ext4 of its own, unmounted when dropped.
struct Volume {
    at: PathBuf,
}

impl Volume {
    /// `None`, loudly, where nothing can be mounted; a failure where runs must be complete.
    fn new(folder: &Path, mib: usize) -> Option<Volume> {
        let root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        if !root {
            assert!(std::env::var_os("MASTER_TARGET_NO_SKIPS").is_none(), "a small file system needs root");
            // Written past the test harness, which keeps back what passing tests print.
            let _ = writeln!(std::io::stderr(), "SKIPPED: a small retention volume, which needs root");
            return None;
        }
        let (image, at) = (folder.join("volume.img"), folder.join("retention"));
        std::fs::File::create(&image).unwrap().set_len((mib * MIB) as u64).unwrap();
        std::fs::create_dir(&at).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &image.display().to_string()]).unwrap();
        run("mount", &["-o", "loop", &image.display().to_string(), &at.display().to_string()]).unwrap();
        Some(Volume { at })
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let place = self.at.display().to_string();
        let unmounted = wait_for("the volume to be free", SOON, || Ok(run("umount", &[&place]).ok()));
        if let Err(error) = unmounted {
            eprintln!("{place} stays mounted: {error}");
        }
    }
}

fn configuration(folder: &Path, port: u16, certificates: &Certificates) -> String {
    let shown = folder.display();
    let mut text = format!(
        "listen = \"127.0.0.1:{port}\"\nsocket = \"{shown}/mtd.sock\"\nstate_folder = \"{shown}/state\"\n\
         [tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\nca = \"{ca}\"\n\
         [retention]\nfolder = \"{shown}/retention\"\ntrial_folder = true\n",
        certificate = certificates.certificate("target.example").display(),
        key = certificates.key("target.example").display(),
        ca = certificates.ca().display(),
    );
    for name in NAMES {
        text += &format!(
            "[[item]]\nname = \"{name}\"\nsource = \"source.example\"\n\
             disks = [{{ id = \"d\", target = \"{shown}/{name}.img\", format = \"raw\", size = \"{DISK} B\" }}]\n"
        );
    }
    text + "[item.policy]\nmin_journal = \"64 MiB\"\n"
}

/// Random bytes, which no compression makes smaller.
fn fill(seed: &mut u64, bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(8) {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        chunk.copy_from_slice(&seed.to_le_bytes()[..chunk.len()]);
    }
}

/// Overwrites the disk of an item at so many MiB a second until it is told to stop.
async fn write_on(mut source: Source, mut machine: Machine, rate: usize, stop: Arc<AtomicBool>) -> Machine {
    const PIECE: usize = 128 << 10;
    let mut seed = 0x9e37_79b9_7f4a_7c15 ^ rate as u64;
    let start = Instant::now();
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..8 {
            let offset = machine.random(DISK / PIECE) * PIECE;
            let data = &mut machine.disks[0].1[offset..offset + PIECE];
            fill(&mut seed, data);
            let data = data.to_vec();
            let at = machine.next();
            source.send(&Frame::Write { at, disk: 0, offset: offset as u64, data }).await;
        }
        source.wait_durable(machine.sequence.saturating_sub(64), 0).await;
        written += 8 * PIECE;
        let due = Duration::from_secs_f64(written as f64 / (rate * MIB) as f64);
        tokio::time::sleep_until((start + due).into()).await;
    }
    source.wait_durable(machine.sequence, 0).await;
    machine
}

struct Site {
    folder: PathBuf,
    port: u16,
    certificates: Certificates,
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Site {
    fn start(folder: &Path) -> Site {
        let certificates = Certificates::make(&folder.join("certificates")).unwrap();
        let port = free_port();
        let text = configuration(folder, port, &certificates);
        std::fs::write(folder.join("mtd.toml"), &text).unwrap();
        let config = Config::parse("mtd.toml", &text).unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(daemon::run_until(config, async move {
            let _ = stopped.await;
        }));
        let site = Site { folder: folder.to_owned(), port, certificates, stop, task };
        wait_for("the daemon", SOON, || Ok(Client::connect(&site.socket()).ok())).unwrap();
        site
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("mtd.sock")
    }

    fn status(&self) -> Status {
        match Client::connect(&self.socket()).unwrap().call(Call::Status, |_| {}).unwrap() {
            Answer::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// Starts to write to an item.
    async fn write(&self, name: &str, rate: usize, stop: &Arc<AtomicBool>) -> JoinHandle<Machine> {
        let mut machine = Machine::new(&[("d", DISK)], rate as u64);
        let mut source = Source::connect(&self.certificates, "source.example", self.port).await.unwrap();
        let (need, _) = source.open(&machine.hello(name)).await;
        assert_eq!(need, Need::InitialSync);
        source.initial_sync(&mut machine).await;
        tokio::spawn(write_on(source, machine, rate, stop.clone()))
    }

    fn mtctl(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_mtctl"))
            .arg("--socket")
            .arg(self.socket())
            .args(arguments)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    }
}

/// How far back the points of an item reach.
fn reach(item: &ItemStatus) -> f64 {
    let (newest, oldest) = (item.newest_point.as_ref().unwrap(), item.oldest_point.as_ref().unwrap());
    (newest.receive_time - oldest.receive_time) as f64 / 1e9
}

/// Invariant 4: three items write many times what the volume holds. The windows of those without a minimum shrink
/// alike, the third keeps its own, nobody is fenced or loses its newest point, and people are told.
#[tokio::test(flavor = "multi_thread")]
async fn invariant_4_items_that_write_more_than_the_volume_holds_share_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::new(folder.path(), 300) else { return };
    let site = Site::start(folder.path());
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for (name, rate) in NAMES.into_iter().zip([9, 3, 4]) {
        writers.push(site.write(name, rate, &stop).await);
    }
    let (mut least_free, mut seen_filling) = (u64::MAX, false);
    let (mut fast, mut slow, mut spared) = (Vec::new(), Vec::new(), Vec::new());
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let status = site.status();
        for item in &status.items {
            assert_eq!(item.state, ItemState::Protected, "{}: {:?}", item.name, item.detail);
            let newest = item.newest_point.as_ref().unwrap();
            assert!(now() - newest.receive_time < 5_000_000_000, "{} stands still", item.name);
        }
        least_free = least_free.min(status.retention.available_bytes.unwrap());
        seen_filling |= status.retention.alerts.iter().any(|alert| alert.message.contains("is filling"));
        // From when the item that is spared has what it keeps, and all others have given for it.
        if start.elapsed() > Duration::from_secs(35) {
            fast.push(reach(&status.items[0]));
            slow.push(reach(&status.items[1]));
            spared.push(status.items[2].journal_bytes);
        }
    }
    println!("{}", site.mtctl(&["retention", "status"]).1);
    println!("{}", site.mtctl(&["status"]).1);
    let status = site.status();
    stop.store(true, Ordering::Relaxed);
    for (name, writer) in NAMES.into_iter().zip(writers) {
        let machine = writer.await.unwrap();
        // All of it arrived, or the source would have waited for ever.
        assert!(machine.sequence > 1000, "{name} wrote {}", machine.sequence);
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let ratio = mean(&fast) / mean(&slow);
    assert!((0.5..2.0).contains(&ratio), "windows differ: {fast:?} {slow:?}");
    assert!(spared.iter().all(|bytes| *bytes >= MIN), "the minimum was not kept: {spared:?}");
    assert!(least_free > 0, "the volume was full to the last byte");
    assert!(seen_filling, "nobody was told that it was filling");
    let full = &status.retention.alerts[0];
    assert_eq!(full.kind, AlertKind::RetentionFilling);
    for part in ["fast ", "windows are shortened from their old end", "give it a disk of at least"] {
        assert!(full.message.contains(part), "{part}: {}", full.message);
    }
    let shrunk = status.items[0].alerts.iter().find(|alert| alert.kind == AlertKind::WindowShrunk).unwrap();
    assert!(shrunk.message.contains("the retention volume is short of room"), "{}", shrunk.message);
    let fast = &status.items[0];
    assert!((5..12).contains(&(fast.journal_bytes_per_second >> 20)), "{fast:?}");
    assert!(fast.window_projected.unwrap() < fast.window_wanted);
    assert!(status.retention.needed_bytes > Some(500 << 30), "{:?}", status.retention);
    site.stop.send(()).unwrap();
    site.task.await.unwrap().unwrap();
    drop(volume);
}

#[test]
fn the_room_is_shown_without_a_daemon_too() {
    let folder = tempfile::tempdir().unwrap();
    let shown = folder.path().display().to_string();
    let journal = folder.path().join("retention/items/fast");
    std::fs::create_dir_all(&journal).unwrap();
    std::fs::write(journal.join("segment-00000000000000000001.journal"), vec![1; 3 * MIB]).unwrap();
    let certificates = Certificates::make(&folder.path().join("certificates")).unwrap();
    let text = configuration(folder.path(), 1, &certificates);
    std::fs::write(folder.path().join("mtd.toml"), text).unwrap();
    let config = format!("{shown}/mtd.toml");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_mtctl"))
        .args(["--socket", "/nonexistent", "retention", "status", "--config", &config])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let (said, shown) =
        (String::from_utf8(output.stderr).unwrap(), String::from_utf8(output.stdout).unwrap());
    assert!(said.contains("cannot reach the daemon"), "{said}");
    assert!(shown.contains("retention volume") && shown.contains("available"), "{shown}");
    assert!(shown.lines().any(|line| line.contains("fast") && line.contains("3 MiB")), "{shown}");
}
