//! Initial sync, random writes, and what they cost in the journal.

use crate::Bench;
use crate::data;
use crate::measure::{drop_caches, median, quiet, timed};
use crate::result::{Good, Measured};
use anyhow::{Context, Result};
use control_api::ItemState;
use rig::tools::run;
use rig::{Process, Rig, Source, SourceOptions, Target, TargetDisk, TargetOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) const GIB: u64 = 1 << 30;
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);
const DISK: &str = "disk0";

/// A master target and a source agent that replicate one disk.
pub(crate) struct Pair {
    pub(crate) target: Target,
    pub(crate) source: Source,
    /// When the source agent was started, the master target running already.
    pub(crate) started: Instant,
}

impl Pair {
    /// Starts both; the source image is `raw`, the replica a new image of this format beside it.
    pub(crate) fn start(bench: &Bench, raw: &Path, format: &str) -> Result<Pair> {
        let replica = bench.dir.join("run/replica.vmdk");
        if bench.dir.join("run").exists() {
            std::fs::remove_dir_all(bench.dir.join("run"))?;
        }
        Pair::start_with(bench, raw, &replica, format)
    }

    /// The same with a replica that may exist already.
    pub(crate) fn start_with(bench: &Bench, raw: &Path, replica: &Path, format: &str) -> Result<Pair> {
        let rig = Rig::new(&bench.dir.join("run"), &bench.programs)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let size = std::fs::metadata(raw)?.len();
        let disk = TargetDisk { id: DISK.into(), path: replica.into(), format: format.into(), size };
        let target = Target::start(&rig, &TargetOptions { port, disks: vec![disk] })?;
        let started = Instant::now();
        let source = Source::start(
            &rig,
            &SourceOptions {
                port,
                disks: vec![(DISK.into(), raw.into())],
                backlog_mib: 4096,
                more: String::new(),
            },
        )?;
        Ok(Pair { target, source, started })
    }

    /// Waits until the replica is level with its source.
    pub(crate) fn synced(&mut self) -> Result<()> {
        self.target.wait_for_state(ItemState::Protected, LONGEST)?;
        rig::wait_for("the source agent to be level", LONGEST, || {
            Ok((self.source.status()?["state"] == "level").then_some(()))
        })
    }

    /// Waits until all that was written is durable at the target.
    pub(crate) fn drained(&mut self) -> Result<()> {
        let newest = self.source.newest_sequence()?;
        rig::wait_for("the target to have everything", LONGEST, || {
            self.source.process().check_running()?;
            Ok((self.source.durable_sequence()? >= newest).then_some(()))
        })
    }

    /// Runs fio's nbd engine on the splitter.
    pub(crate) fn fio(&self, dir: &Path, arguments: &[&str]) -> Result<serde_json::Value> {
        let uri = format!("--uri={}", self.source.uri(DISK));
        fio(dir, &[&["--ioengine=nbd", &uri], arguments].concat())
    }

    /// Stops both and gives their peak memory.
    pub(crate) fn stop(mut self) -> Result<[u64; 2]> {
        let memory = [self.target.process().peak_memory()?, self.source.process().peak_memory()?];
        self.source.process().stop()?;
        self.target.process().stop()?;
        Ok(memory)
    }
}

/// Runs fio and gives the `write` part of its result.
pub(crate) fn fio(dir: &Path, arguments: &[&str]) -> Result<serde_json::Value> {
    let output = dir.join("fio.json");
    let output_flag = format!("--output={}", output.display());
    run(
        "fio",
        &[&["--name=bench", "--output-format=json", &output_flag, "--randrepeat=0"], arguments].concat(),
    )?;
    let text = std::fs::read_to_string(&output)?;
    let json = text.get(text.find('{').unwrap_or(0)..).unwrap_or("");
    let json: serde_json::Value = serde_json::from_str(json)?;
    Ok(json["jobs"][0]["write"].clone())
}

struct Sync {
    ours: Vec<f64>,
    peer: Vec<f64>,
    memory: [u64; 2],
}

impl Sync {
    fn run(bench: &Bench, format: &str, peer: impl Fn(&Path, &Path) -> Result<Duration>) -> Result<Sync> {
        let raw = bench.dir.join("source.img");
        data::mixed(&raw, 2 * GIB / bench.shrink, 1)?;
        let mut sync = Sync { ours: Vec::new(), peer: Vec::new(), memory: [0; 2] };
        for _ in 0..bench.rounds {
            let copy = bench.dir.join("peer.img");
            drop_caches()?;
            sync.peer.push(peer(&raw, &copy)?.as_secs_f64());
            std::fs::remove_file(&copy)?;
            drop_caches()?;
            let mut pair = Pair::start(bench, &raw, format)?;
            pair.synced()?;
            sync.ours.push(pair.started.elapsed().as_secs_f64());
            let memory = pair.stop()?;
            sync.memory = [sync.memory[0].max(memory[0]), sync.memory[1].max(memory[1])];
            let replica = bench.dir.join("run/replica.vmdk");
            run("qemu-img", &["compare", "-f", "vmdk", "-F", "raw", text(&replica), text(&raw)])?;
        }
        Ok(sync)
    }

    fn detail(&self, peer: &str) -> String {
        format!("{:.2} s; {peer} {:.2} s", median(self.ours.clone()), median(self.peer.clone()))
    }

    fn ratios(&self, ratio: impl Fn(f64, f64) -> f64) -> f64 {
        median(self.ours.iter().zip(&self.peer).map(|(ours, peer)| ratio(*ours, *peer)).collect())
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("the folder was made here")
}

/// Speed of an initial sync into a sparse VMDK against `nbdcopy --flush` into `qemu-nbd`.
pub(crate) fn initial_sync_sparse(bench: &Bench) -> Result<Vec<Measured>> {
    let sync = Sync::run(bench, "monolithicSparse", |raw, copy| nbdcopy(bench, raw, copy))?;
    let convert = convert(bench)?;
    Ok(vec![
        Measured {
            name: "initial-sync-sparse",
            value: sync.ratios(|ours, peer| peer / ours),
            unit: "x",
            good: Good::AtLeast,
            must: Some(5.0),
            aim: 10.0,
            detail: sync.detail("nbdcopy into qemu-nbd"),
            memory: Some(sync.memory),
        },
        Measured {
            name: "initial-sync-sparse-convert",
            value: median(sync.ours.clone()) / convert,
            unit: "x the time",
            good: Good::AtMost,
            must: None,
            aim: 1.5,
            detail: sync.detail(&format!("qemu-img convert {convert:.2} s; nbdcopy")),
            memory: None,
        },
    ])
}

fn nbdcopy(bench: &Bench, raw: &Path, copy: &Path) -> Result<Duration> {
    let size = std::fs::metadata(raw)?.len().to_string();
    run("qemu-img", &["create", "-q", "-f", "vmdk", "-o", "subformat=monolithicSparse", text(copy), &size])?;
    let socket = bench.dir.join("peer.sock");
    let mut command = Command::new("qemu-nbd");
    command.args(["-f", "vmdk", "--cache=none", "--aio=native", "-k", text(&socket), text(copy)]);
    // It ends, and removes its socket, when its first client is gone.
    let _server = Process::start(command, &bench.dir.join("qemu-nbd.log"))?;
    rig::wait_for("qemu-nbd", Duration::from_secs(10), || Ok(socket.exists().then_some(())))?;
    let uri = format!("nbd+unix:///?socket={}", text(&socket));
    timed(|| run("nbdcopy", &["--flush", text(raw), &uri]).map(|_| ()))
}

/// Seconds of a local `qemu-img convert` into a sparse VMDK, durable.
fn convert(bench: &Bench) -> Result<f64> {
    let (raw, copy) = (bench.dir.join("source.img"), bench.dir.join("converted.vmdk"));
    let mut times = Vec::new();
    for _ in 0..bench.rounds {
        drop_caches()?;
        let took = timed(|| {
            run("qemu-img", &["convert", "-f", "raw", "-O", "vmdk", text(&raw), text(&copy)])?;
            run("sync", &[text(&copy)]).map(|_| ())
        })?;
        times.push(took.as_secs_f64());
    }
    Ok(median(times))
}

/// Time of an initial sync into a flat VMDK against `dd` with direct I/O.
pub(crate) fn initial_sync_flat(bench: &Bench) -> Result<Vec<Measured>> {
    let sync = Sync::run(bench, "monolithicFlat", |raw, copy| {
        timed(|| dd(raw, copy, &["iflag=direct", "oflag=direct", "conv=fsync"]))
    })?;
    Ok(vec![Measured {
        name: "initial-sync-flat",
        value: sync.ratios(|ours, peer| ours / peer),
        unit: "x the time",
        good: Good::AtMost,
        must: Some(2.0),
        aim: 1.2,
        detail: sync.detail("dd"),
        memory: Some(sync.memory),
    }])
}

pub(crate) fn dd(from: &Path, to: &Path, flags: &[&str]) -> Result<()> {
    let (from, to) = (format!("if={}", text(from)), format!("of={}", text(to)));
    run("dd", &[&[from.as_str(), to.as_str(), "bs=1M"], flags].concat()).map(|_| ())
}

/// Random 4 KiB writes through the splitter until the target has them durably, against fio on the file system.
pub(crate) fn random_4k(bench: &Bench) -> Result<Vec<Measured>> {
    let raw = bench.dir.join("source.img");
    data::random(&raw, 2 * GIB / bench.shrink, 2)?;
    let size = format!("--size={}", std::fs::metadata(&raw)?.len());
    let load = ["--rw=randwrite", "--bs=4k", "--iodepth=32", "--time_based", "--runtime=10", &size];
    let (mut ours, mut peer, mut ratios, mut peak) = (Vec::new(), Vec::new(), Vec::new(), [0; 2]);
    for _ in 0..bench.rounds {
        let mut pair = Pair::start(bench, &raw, "monolithicFlat")?;
        pair.synced()?;
        quiet()?;
        let started = Instant::now();
        let writes = total_ios(&pair.fio(&bench.dir, &load)?)?;
        pair.drained()?;
        let rate = writes / started.elapsed().as_secs_f64();
        let memory = pair.stop()?;
        peak = [peak[0].max(memory[0]), peak[1].max(memory[1])];
        quiet()?;
        let file = format!("--filename={}", text(&raw));
        let direct = fio(&bench.dir, &[&["--ioengine=libaio", "--direct=1", &file][..], &load].concat())?;
        let direct = direct["iops"].as_f64().context("fio told no rate")?;
        ours.push(rate);
        peer.push(direct);
        ratios.push(rate / direct);
    }
    Ok(vec![Measured {
        name: "random-4k",
        value: median(ratios),
        unit: "x",
        good: Good::AtLeast,
        must: Some(0.3),
        aim: 1.0,
        detail: format!("{:.0}/s; fio {:.0}/s", median(ours), median(peer)),
        memory: Some(peak),
    }])
}

fn total_ios(write: &serde_json::Value) -> Result<f64> {
    write["total_ios"].as_f64().context("fio told no number of writes")
}

/// Journal bytes for each overwritten byte, for random data and for text, in blocks of 4 KiB.
pub(crate) fn journal_bytes(bench: &Bench) -> Result<Vec<Measured>> {
    let size = GIB / 4 / bench.shrink;
    let raw = bench.dir.join("source.img");
    let mut measured = Vec::new();
    for (name, must, aim) in [("journal-bytes", Some(1.05), 1.0), ("journal-bytes-text", Some(0.5), 0.5)] {
        if name == "journal-bytes" {
            data::random(&raw, size, 3)?
        } else {
            data::prose(&raw, size, 3)?
        }
        let (value, detail, memory) = journal_bytes_of(bench, &raw)?;
        let (unit, good, memory) = ("bytes a byte", Good::AtMost, Some(memory));
        measured.push(Measured { name, value, unit, good, must, aim, detail, memory });
    }
    Ok(measured)
}

fn journal_bytes_of(bench: &Bench, raw: &PathBuf) -> Result<(f64, String, [u64; 2])> {
    let mut pair = Pair::start(bench, raw, "monolithicFlat")?;
    pair.synced()?;
    let before = pair.target.item()?.journal_bytes;
    let size = std::fs::metadata(raw)?.len();
    // Without a time limit fio writes each block of the disk once, in random order.
    pair.fio(&bench.dir, &["--rw=randwrite", "--bs=4k", "--iodepth=32", &format!("--size={size}")])?;
    pair.drained()?;
    let journal = pair.target.item()?.journal_bytes - before;
    let memory = pair.stop()?;
    Ok((journal as f64 / size as f64, format!("{journal} bytes for {size}"), memory))
}
