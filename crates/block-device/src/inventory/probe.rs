//! Reading what disks hold, without waiting for one that does not answer.
//!
//! A read from a dead disk, or from a multipath map that queues while it has no path, can wait for ever and cannot be
//! called off. So threads read, a few at a time, and what has not come after a while is unreadable. A device on which
//! a thread still waits is not read again, so that looking often does not pile up threads.

use super::Signature;
use crate::signature::{OpenDevice, detect};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Disks that are read at once.
const READERS: usize = 8;

/// After so long without any answer, the rest is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// What threads are reading, of this and other looks, and since when.
static UNDER_WAY: Mutex<BTreeMap<PathBuf, Instant>> = Mutex::new(BTreeMap::new());

/// A device to read, and its size.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    /// False where an ordinary file stands for the device.
    pub(super) must_be_device: bool,
}

/// What each holds, in the order of the probes.
pub(super) fn signatures(probes: Vec<Probe>) -> Vec<Option<Signature>> {
    let mut found = vec![Some(Signature::Unreadable); probes.len()];
    let queue = Arc::new(Mutex::new(probes.into_iter().enumerate()));
    let (sender, receiver) = mpsc::channel();
    for _ in 0..READERS.min(found.len()) {
        let (queue, sender) = (Arc::clone(&queue), sender.clone());
        // Where no thread can be had, what the others cannot do is unreadable.
        let _ = thread::Builder::new().name("probe".into()).spawn(move || {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((n, probe)) = next else { return };
                if sender.send((n, signature(&probe))).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    while let Ok((n, signature)) = receiver.recv_timeout(PATIENCE) {
        found[n] = signature;
    }
    found
}

fn signature(probe: &Probe) -> Option<Signature> {
    let under_way = || UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
    let since = *under_way().entry(probe.path.clone()).or_insert_with(Instant::now);
    if since.elapsed() > PATIENCE {
        return Some(Signature::Unreadable);
    }
    let found = read(probe).unwrap_or(Some(Signature::Unreadable));
    under_way().remove(&probe.path);
    found
}

fn read(probe: &Probe) -> std::io::Result<Option<Signature>> {
    // Neither a pipe nor a drive without a medium may hold the open up.
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(&probe.path)?;
    if probe.must_be_device && !file.metadata()?.file_type().is_block_device() {
        return Ok(Some(Signature::Unreadable));
    }
    Ok(detect(&OpenDevice { file, size: probe.size }))
}
