//! Replication through a process server, with the real `mtd` and `mt-source`.

use crate::support::{LONGEST, ProcessServer};
use anyhow::{Context, Result, ensure};
use control_api::ItemState;
use rig::{NbdClient, Rig, Source, SourceOptions, Target, TargetDisk, TargetOptions, free_port, wait_for};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SIZE: u64 = 64 << 20;

/// A source behind a process server.
struct Site {
    source: Source,
    target: Target,
    relay: ProcessServer,
    rig: Rig,
    replica: PathBuf,
    disk: PathBuf,
}

impl Site {
    fn start(folder: &Path, more: &str) -> Result<Site> {
        let rig = Rig::new(folder, &rig::build()?)?;
        let (replica, disk) = (rig.folder.join("replica.img"), rig.folder.join("disk.img"));
        std::fs::write(&disk, noise(1, SIZE as usize / 4))?;
        std::fs::File::options().write(true).open(&disk)?.set_len(SIZE)?;
        let (id, format) = ("system".to_owned(), "raw".to_owned());
        let wanted = TargetDisk { id: id.clone(), path: replica.clone(), format, size: SIZE };
        let port = free_port()?;
        let target = Target::start(&rig, &TargetOptions { port, disks: vec![wanted] })?;
        let relay = ProcessServer::start(&rig.folder.join("relay"), more, &[(&rig.target.name, port)])?;
        let options = SourceOptions {
            port: relay.port,
            disks: vec![(id, disk.clone())],
            backlog_mib: 256,
            more: String::new(),
        };
        let source = Source::start(&rig, &options)?;
        Ok(Site { source, target, relay, rig, replica, disk })
    }

    /// Waits until the master target has everything, and compares.
    fn level(&mut self) -> Result<()> {
        wait_for("the master target to have everything", LONGEST, || {
            self.relay.process.check_running()?;
            let level = self.source.status()?["state"] == "level";
            let done = self.source.durable_sequence()? == self.source.newest_sequence()?;
            let dirty = self.source.status()?["dirty_bytes"].as_u64();
            Ok((level && done && dirty == Some(0)).then_some(()))
        })?;
        self.target.wait_for_state(ItemState::Protected, LONGEST)?;
        let same = std::fs::read(&self.disk)? == std::fs::read(&self.replica)?;
        ensure!(same, "the replica is not what the disk is");
        Ok(())
    }
}

/// Bytes that do not repeat.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Everything of a disk arrives, also what is written while the process server is killed, away and back.
#[test]
fn a_process_server_that_is_killed_costs_no_write() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut site = Site::start(folder.path(), "limit_mib_per_second = 4\n")?;
    let mut client = NbdClient::connect(site.source.nbd(), "system")?;
    let mut write = |seed: u64| client.write(seed * 40_961 % (SIZE - 65_536), &noise(seed, 65_536));
    // In the middle of the initial sync.
    site.relay.wait_for("the sync to be under way", |status| {
        status.master_targets[0].bytes_to_target > 4 << 20 && !status.connections.is_empty()
    })?;
    (1..10).try_for_each(&mut write)?;
    ensure!(site.source.status()?["state"] != "level", "the sync is over before it was disturbed");
    site.relay.process.kill()?;
    (10..20).try_for_each(&mut write)?;
    wait_for("the source to notice", LONGEST, || {
        Ok((site.source.status()?["state"] == "offline").then_some(()))
    })?;
    (20..30).try_for_each(&mut write)?;
    site.relay.start_again()?;
    (30..40).try_for_each(&mut write)?;
    site.level()?;
    // And in the middle of a change stream.
    let lots = |seeds: std::ops::Range<u64>, write: &mut dyn FnMut(u64) -> std::io::Result<()>| {
        seeds.into_iter().try_for_each(write)
    };
    lots(100..160, &mut write)?;
    site.relay.process.kill()?;
    site.relay.start_again()?;
    lots(160..220, &mut write)?;
    site.level()?;
    // A stop is no crash, and is over soon although sources are connected.
    site.relay.process.stop()?;
    let left = std::fs::exists(folder.path().join("relay/ps.sock"))?;
    ensure!(!left, "it leaves its socket behind");
    site.source.process().stop()?;
    site.target.process().stop()
}

/// The bandwidth holds, and so does what mtd shows to others: its own certificate, which the process server has not.
#[test]
fn the_bandwidth_is_shared_and_tls_is_end_to_end() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let began = std::time::Instant::now();
    let mut site = Site::start(folder.path(), "limit_mib_per_second = 4\n")?;
    site.level()?;
    let took = began.elapsed().as_secs_f64();
    let status = site.relay.status()?;
    let sent = status.master_targets[0].bytes_to_target as f64 / f64::from(1 << 20);
    ensure!(sent > 16.0, "{sent} MiB were relayed");
    ensure!(sent / took < 4.2, "{sent} MiB in {took} s are more than 4 MiB/s");
    ensure!(status.connections.iter().all(|one| one.target == site.rig.target.name), "{status}");

    let seen = certificate_at(site.relay.port, &site.rig.target.name)?;
    let own = pem(&std::fs::read_to_string(&site.rig.target.certificate)?)?.to_owned();
    ensure!(pem(&seen)? == own, "another certificate is seen through the process server: {seen}");
    let refused = certificate_at(site.relay.port, "other.example")?;
    ensure!(!refused.contains("BEGIN CERTIFICATE"), "{refused}");
    ensure!(refused.contains("unrecognized name"), "{refused}");
    let status = site.relay.wait_for("the refusal to be counted", |status| !status.refused.is_empty())?;
    ensure!(status.refused.get("unknown-name") == Some(&1), "{status}");

    // A source that was told a wrong name says so.
    let (item, target) = (site.rig.item.clone(), format!("127.0.0.1:{}", site.relay.port));
    site.source.process().stop()?;
    let options = SourceOptions {
        port: site.relay.port,
        disks: vec![("system".into(), site.disk.clone())],
        backlog_mib: 64,
        more: String::new(),
    };
    site.source = Source::start_unassigned(&site.rig, &options)?;
    let words = ["replicate", "--item", &item, "--target", &target, "--server-name"];
    let source = &site.source;
    std::thread::scope(|scope| -> Result<()> {
        // It goes on trying until another order comes.
        let wrong = scope.spawn(|| source.command(&[&words[..], &["other.example"]].concat()));
        let told = wait_for("the source to say what is wrong", LONGEST, || {
            let why = source.status()?["why"].as_str().unwrap_or_default().to_owned();
            Ok(why.contains("nobody of this name is known there").then_some(()))
        });
        source.command(&[&words[..], &[&site.rig.target.name]].concat())?;
        ensure!(wrong.join().is_ok_and(|outcome| outcome.is_err()), "the wrong order was carried out");
        told
    })?;
    site.level()
}

/// What openssl says of whoever answers there by this name.
fn certificate_at(port: u16, name: &str) -> Result<String> {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", name])
        .stdin(Stdio::null())
        .output()
        .context("cannot run openssl")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

/// The first certificate in a text.
fn pem(text: &str) -> Result<&str> {
    let begin = text.find("-----BEGIN CERTIFICATE-----").context("there is no certificate")?;
    let end = text[begin..].find("-----END CERTIFICATE-----").context("it does not end")?;
    Ok(&text[begin..begin + end])
}
