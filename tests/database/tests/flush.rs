//! What the other tests stand on: an fsync on the block device is a flush at the server, after the writes before it.

use anyhow::{Context, Result, ensure};
use chaos::is_root;
use database::BlockDevice;
use std::io::Write;

const SIZE: u64 = 8 << 20;

#[test]
fn an_fsync_is_a_flush_at_the_server_after_all_that_was_written() -> Result<()> {
    if !is_root("a loop device") {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("nbdkit.log");
    let log_file = format!("logfile={}", log.display());
    let size = SIZE.to_string();
    let words = ["[", "nbdkit", "--exit-with-parent", "--filter=log", "memory", &size, &log_file, "]"];
    let device = BlockDevice::attach(&folder.path().join("disk"), &words, SIZE)?;
    let mut file = std::fs::File::options().write(true).open(device.path())?;
    file.write_all(&[7; 64 << 10])?;
    file.sync_all()?;
    let said = std::fs::read_to_string(&log)?;
    let written = said.rfind("...Write").with_context(|| format!("nothing was written: {said}"))?;
    let flushed = said.rfind("...Flush").with_context(|| format!("nothing was flushed: {said}"))?;
    ensure!(written < flushed && !said[flushed..].contains("Write"), "{said}");
    Ok(())
}
