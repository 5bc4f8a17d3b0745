//! Time, medians, and the machine.

use anyhow::Result;
use std::time::{Duration, Instant};

/// How long something takes.
pub(crate) fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Processor, cores, memory, kernel.
pub(crate) fn machine() -> Result<String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let kib: u64 = memory.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "{}, {} cores, {} GiB, Linux {}",
        model.trim_start_matches([':', ' ', '\t']),
        std::thread::available_parallelism()?,
        kib.div_ceil(1 << 20),
        kernel.trim()
    ))
}

/// Lets what earlier work left behind reach the disk, so that nobody pays for somebody else.
pub(crate) fn quiet() -> Result<()> {
    rig::tools::run("sync", &[]).map(|_| ())
}

/// Forgets what is cached of a file, so that reading it means reading the disk.
pub(crate) fn drop_caches() -> Result<()> {
    quiet()?;
    // Only root may; others measure with a warm cache, and so does their peer.
    let _ = std::fs::write("/proc/sys/vm/drop_caches", "3");
    Ok(())
}
