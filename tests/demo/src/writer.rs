//! A real NBD client that keeps writing to the disk while it is replicated: fio's nbd engine.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running fio.
pub(crate) struct Writer {
    child: Child,
    output: PathBuf,
}

impl Writer {
    /// Writes random blocks of 4 KiB to 64 KiB into `range`, at a moderate pace, for `time`.
    pub(crate) fn start(
        uri: &str,
        range: std::ops::Range<u64>,
        time: Duration,
        seed: u32,
        folder: &Path,
    ) -> Result<Writer> {
        let output = folder.join(format!("fio-{seed}.json"));
        let range = range.start.next_multiple_of(4096)..range.end / 4096 * 4096;
        let child = Command::new("fio")
            .args(["--name=writer", "--ioengine=nbd", "--rw=randwrite", "--bsrange=4k-64k", "--iodepth=16"])
            .args(["--rate=40m", "--time_based", "--output-format=json", "--norandommap", "--refill_buffers"])
            .arg(format!("--uri={uri}"))
            .arg(format!("--offset={}", range.start))
            .arg(format!("--size={}", range.end - range.start))
            .arg(format!("--runtime={}ms", time.as_millis()))
            .arg(format!("--randseed={seed}"))
            .arg(format!("--output={}", output.display()))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run fio; `cargo xtask setup` installs it")?;
        Ok(Writer { child, output })
    }

    /// Waits for its end; gives how many bytes it wrote.
    pub(crate) fn finish(self) -> Result<u64> {
        let output = self.child.wait_with_output()?;
        if !output.status.success() {
            bail!("fio ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        let text = std::fs::read_to_string(&self.output)?;
        let json: serde_json::Value =
            serde_json::from_str(text.get(text.find('{').unwrap_or(0)..).unwrap_or(""))?;
        json["jobs"][0]["write"]["io_bytes"].as_u64().context("fio told no number of bytes")
    }
}
