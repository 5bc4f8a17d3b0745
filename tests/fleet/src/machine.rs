//! What the machine and the server use, as the kernel tells it.

use anyhow::{Context, Result};
use std::time::Duration;

/// Clock ticks of a second: the same on every Linux that matters.
const TICKS: u64 = 100;

/// Time that a process has had on the processors.
pub fn processor_time(process: u32) -> Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path)?;
    // The name, in parentheses, may hold anything.
    let rest = text.rsplit_once(')').context("no name")?.1;
    let field = |n: usize| rest.split_whitespace().nth(n).and_then(|number| number.parse::<u64>().ok());
    // Fields 14 and 15: utime and stime.
    let ticks = field(11).zip(field(12)).map(|(user, system)| user + system);
    Ok(Duration::from_millis(ticks.with_context(|| format!("{path} is not understood"))? * 1000 / TICKS))
}

/// Time that all processors were busy, or taken by other machines on the same hardware, and time in all.
#[derive(Clone, Copy)]
pub struct Processors {
    busy: u64,
    all: u64,
}

impl Processors {
    /// Now.
    pub fn now() -> Result<Processors> {
        let text = std::fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().context("/proc/stat is empty")?;
        let fields: Vec<u64> =
            line.split_whitespace().skip(1).take(8).filter_map(|number| number.parse().ok()).collect();
        let &[user, nice, system, idle, waiting, interrupts, soft, stolen] = fields.as_slice() else {
            anyhow::bail!("/proc/stat is not understood");
        };
        let busy = user + nice + system + interrupts + soft + stolen;
        Ok(Processors { busy, all: busy + idle + waiting })
    }

    /// Share of the machine that others than `ours` took since then: 0 to 1.
    pub fn taken_by_others(&self, ours: Duration) -> Result<f64> {
        let now = Processors::now()?;
        let (busy, all) = ((now.busy - self.busy) as f64, (now.all - self.all).max(1) as f64);
        let ours = ours.as_secs_f64() * TICKS as f64;
        Ok(((busy - ours) / all).clamp(0.0, 1.0))
    }
}

/// Processor, cores, memory, kernel.
pub fn description() -> Result<String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cores = std::thread::available_parallelism()?;
    Ok(format!("{}, {cores} cores, Linux {}", model.trim_start_matches([':', ' ', '\t']), kernel.trim()))
}
