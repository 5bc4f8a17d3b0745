//! How long a failover to an earlier point takes.

use crate::Bench;
use crate::data;
use crate::measure::{median, quiet, timed};
use crate::replication::{GIB, Pair, dd, text};
use crate::result::{Good, Measured};
use anyhow::Result;
use rig::tools::run;

/// Rolls back 1 GiB of scattered changes of 64 KiB, against `dd` of 1 GiB from file to file.
pub(crate) fn rollback(bench: &Bench) -> Result<Vec<Measured>> {
    let (raw, before) = (bench.dir.join("source.img"), bench.dir.join("before.img"));
    let size = 4 * GIB / bench.shrink;
    data::random(&raw, size, 4)?;
    let (mut ours, mut peer, mut peak) = (Vec::new(), Vec::new(), [0; 2]);
    for _ in 0..bench.rounds {
        let mut pair = Pair::start(bench, &raw, "monolithicFlat")?;
        pair.synced()?;
        pair.source.bookmark("before")?;
        run("cp", &["--sparse=always", text(&raw), text(&before)])?;
        let amount = format!("--io_size={}", size / 4);
        let whole = format!("--size={size}");
        pair.fio(&bench.dir, &["--rw=randwrite", "--bs=64k", "--iodepth=16", &whole, &amount])?;
        pair.drained()?;
        quiet()?;
        let took =
            timed(|| pair.target.mtctl(&["failover", "web01", "--point", "before", "--yes"]).map(|_| ()))?;
        ours.push(took.as_secs_f64());
        let memory = pair.stop()?;
        peak = [peak[0].max(memory[0]), peak[1].max(memory[1])];
        let replica = bench.dir.join("run/replica.vmdk");
        run("qemu-img", &["compare", "-f", "vmdk", "-F", "raw", text(&replica), text(&before)])?;
        quiet()?;
        let copy = bench.dir.join("copy.img");
        let count = format!("count={}", size / 4 / (1 << 20));
        peer.push(
            timed(|| dd(&raw, &copy, &[&count, "iflag=direct", "oflag=direct", "conv=fsync"]))?.as_secs_f64(),
        );
        std::fs::remove_file(&copy)?;
    }
    let ratios = ours.iter().zip(&peer).map(|(ours, peer)| ours / peer).collect();
    Ok(vec![Measured {
        name: "rollback",
        value: median(ratios),
        unit: "x the time",
        good: Good::AtMost,
        must: Some(2.0),
        aim: 1.0,
        detail: format!("{:.2} s; dd {:.2} s", median(ours), median(peer)),
        memory: Some(peak),
    }])
}
