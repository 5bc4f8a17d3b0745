//! A real NBD client that keeps writing to the protected disk: fio's nbd engine.

use crate::LONGEST;
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rig::wait_for;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it is waited until it is asked once more to end.
const AGAIN: Duration = Duration::from_secs(1);

/// fio, writing random blocks of 4 KiB to 64 KiB at a moderate pace until it is stopped or the disk goes away.
pub struct Load {
    child: Child,
}

impl Load {
    /// Starts to write into `range` of the disk at `uri`; `rate` is in MiB a second.
    pub fn start(
        uri: &str,
        range: std::ops::Range<u64>,
        rate: u64,
        seed: u64,
        folder: &Path,
    ) -> Result<Load> {
        let child = Command::new("fio")
            .args(["--name=load", "--ioengine=nbd", "--rw=randwrite", "--bsrange=4k-64k", "--iodepth=16"])
            .args(["--thread", "--time_based", "--runtime=1h", "--norandommap", "--refill_buffers"])
            .arg(format!("--uri={uri}"))
            .arg(format!("--offset={}", range.start))
            .arg(format!("--size={}", range.end - range.start))
            .arg(format!("--rate={rate}m"))
            .arg(format!("--randseed={}", seed >> 1))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run fio; `cargo xtask setup` installs it")?;
        Ok(Load { child })
    }

    /// Ends it as Ctrl-C does: when this returns, no write is under way any more.
    pub fn stop(mut self) -> Result<()> {
        let fio = Pid::from_raw(self.child.id() as i32);
        let mut asked: Option<Instant> = None;
        wait_for("fio to end", LONGEST, || {
            if self.child.try_wait()?.is_some() {
                return Ok(Some(()));
            }
            // One that is asked while it begins forgets it.
            if asked.is_none_or(|at| at.elapsed() > AGAIN) {
                kill(fio, Signal::SIGINT)?;
                asked = Some(Instant::now());
            }
            Ok(None)
        })
    }

    /// False when it has ended by itself.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Nothing to be done about a process that cannot be killed, and nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
