//! How long it takes to bring a replica level that differs a little.

use crate::Bench;
use crate::data;
use crate::measure::{drop_caches, median, timed};
use crate::replication::{GIB, Pair, text};
use crate::result::{Good, Measured};
use anyhow::Result;
use rig::tools::run;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use testkit::Rng;

const CHANGED: u64 = 64 << 10;

/// Resync of a disk of which one part in a hundred differs: against `dd` that reads it once, against two that read both
/// disks, which is the least that has to be read, and against rsync.
pub(crate) fn resync(bench: &Bench) -> Result<Vec<Measured>> {
    let (raw, old) = (bench.dir.join("source.img"), bench.dir.join("old.img"));
    let size = 8 * GIB / bench.shrink;
    data::random(&raw, size, 5)?;
    run("cp", &[text(&raw), text(&old)])?;
    change_one_percent(&raw, size)?;
    let (mut ours, mut read, mut both, mut rsync) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut peak = [0; 2];
    for _ in 0..bench.rounds {
        let replica = bench.dir.join("replica.raw");
        run("cp", &[text(&old), text(&replica)])?;
        drop_caches()?;
        read.push(timed(|| read_once(&raw))?.as_secs_f64());
        both.push(timed(|| read_both(&raw, &replica))?.as_secs_f64());
        drop_caches()?;
        let mut pair = Pair::start_with(bench, &raw, &replica, "raw")?;
        pair.synced()?;
        ours.push(pair.started.elapsed().as_secs_f64());
        let memory = pair.stop()?;
        peak = [peak[0].max(memory[0]), peak[1].max(memory[1])];
        std::fs::remove_dir_all(bench.dir.join("run"))?;
        run("cmp", &[text(&raw), text(&replica)])?;
        run("cp", &[text(&old), text(&replica)])?;
        drop_caches()?;
        let copy = ["-I", "--inplace", "--no-whole-file", "--fsync", text(&raw), text(&replica)];
        rsync.push(timed(|| run("rsync", &copy).map(|_| ()))?.as_secs_f64());
    }
    let ratio = |of: &[f64], to: &[f64]| median(of.iter().zip(to).map(|(a, b)| a / b).collect());
    let took = median(ours.clone());
    Ok(vec![
        Measured {
            name: "resync-read",
            value: ratio(&ours, &read),
            unit: "x the time",
            good: Good::AtMost,
            must: Some(1.5),
            aim: 1.1,
            detail: format!("{took:.2} s; dd reads the source in {:.2} s", median(read)),
            memory: Some(peak),
        },
        Measured {
            name: "resync-read-both",
            value: ratio(&ours, &both),
            unit: "x the time",
            good: Good::AtMost,
            must: None,
            aim: 1.1,
            detail: format!("{took:.2} s; two dd read source and replica in {:.2} s", median(both)),
            memory: None,
        },
        Measured {
            name: "resync-rsync",
            value: ratio(&rsync, &ours),
            unit: "x",
            good: Good::AtLeast,
            must: Some(5.0),
            aim: 10.0,
            detail: format!("{took:.2} s; rsync {:.2} s", median(rsync)),
            memory: None,
        },
    ])
}

fn read_once(path: &Path) -> Result<()> {
    let input = format!("if={}", text(path));
    run("dd", &[&input, "of=/dev/null", "bs=1M", "iflag=direct"]).map(|_| ())
}

fn read_both(one: &Path, other: &Path) -> Result<()> {
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| read_once(one));
        read_once(other)?;
        reading.join().expect("it does not panic")
    })
}

fn change_one_percent(path: &Path, size: u64) -> Result<()> {
    let file = File::options().write(true).open(path)?;
    let mut rng = Rng::new(6);
    let mut data = vec![0; CHANGED as usize];
    for _ in 0..size / 100 / CHANGED {
        rng.fill(&mut data);
        file.write_all_at(&data, rng.below(size / CHANGED) * CHANGED)?;
    }
    Ok(file.sync_all()?)
}
