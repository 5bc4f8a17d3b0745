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

/// Resync of a disk of which one part in a hundred differs: against `dd` that reads it once, and against rsync.
pub(crate) fn resync(bench: &Bench) -> Result<Vec<Measured>> {
    let (raw, old) = (bench.dir.join("source.img"), bench.dir.join("old.img"));
    let size = 8 * GIB / bench.shrink;
    data::random(&raw, size, 5)?;
    run("cp", &[text(&raw), text(&old)])?;
    change_one_percent(&raw, size)?;
    let (mut ours, mut read, mut rsync, mut peak) = (Vec::new(), Vec::new(), Vec::new(), [0; 2]);
    for _ in 0..bench.rounds {
        let replica = bench.dir.join("replica.raw");
        run("cp", &[text(&old), text(&replica)])?;
        drop_caches()?;
        let input = format!("if={}", text(&raw));
        read.push(
            timed(|| run("dd", &[&input, "of=/dev/null", "bs=1M", "iflag=direct"]).map(|_| ()))?
                .as_secs_f64(),
        );
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
            must: 1.5,
            aim: 1.1,
            detail: format!("{took:.2} s; dd reads the source in {:.2} s", median(read)),
            memory: Some(peak),
        },
        Measured {
            name: "resync-rsync",
            value: ratio(&rsync, &ours),
            unit: "x",
            good: Good::AtLeast,
            must: 5.0,
            aim: 10.0,
            detail: format!("{took:.2} s; rsync {:.2} s", median(rsync)),
            memory: None,
        },
    ])
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
