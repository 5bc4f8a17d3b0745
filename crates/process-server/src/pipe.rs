//! Bytes both ways between two sockets, until both ends have closed.
//!
//! Each way has one buffer that is filled and emptied in turn, so a connection takes the same memory whatever is sent, and
//! an end that does not read is felt by the other one as TCP makes it felt. When one end has said all it wants to say, the
//! other is told so, and may go on talking.

use crate::bandwidth::Bandwidth;
use crate::book::Relayed;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::sleep;

/// Bytes of a buffer towards the master target, and back: what comes back is acknowledgements, and hashes in a resync.
const TO_TARGET: usize = 64 << 10;
const TO_SOURCE: usize = 16 << 10;

/// How often it is looked whether anything moved, in the time that nothing may.
const LOOKS: u32 = 4;

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Both ends had said everything, or the process server stops.
    Closed,
    /// One end broke it off.
    Broken(io::Error),
    /// Nothing moved for too long.
    Idle,
}

/// What the two ways of all connections have in common.
#[derive(Clone)]
pub(crate) struct Pipe<'a> {
    /// What it may take towards the master target.
    pub(crate) bandwidth: Option<&'a Bandwidth>,
    /// How long nothing may move.
    pub(crate) idle: Duration,
    /// True once no more is to be read.
    pub(crate) stop: watch::Receiver<bool>,
}

impl Pipe<'_> {
    /// Relays until the end; `first` is what the source has said already.
    pub(crate) async fn run(
        &self,
        mut source: TcpStream,
        mut target: TcpStream,
        first: Vec<u8>,
        relayed: &Relayed,
    ) -> End {
        let (from_source, to_source) = source.split();
        let (from_target, to_target) = target.split();
        let (own, all) = (&relayed.meter, &relayed.target.meter);
        let there = Way {
            counts: [&own.to_target, &all.to_target],
            bandwidth: self.bandwidth,
            stop: self.stop.clone(),
        };
        let back = Way { counts: [&own.to_source, &all.to_source], bandwidth: None, stop: self.stop.clone() };
        let there = there.run(from_source, to_target, first, TO_TARGET);
        let back = back.run(from_target, to_source, Vec::new(), TO_SOURCE);
        tokio::select! {
            ended = async { tokio::try_join!(there, back) } => match ended {
                Ok(_) => End::Closed,
                Err(error) => End::Broken(error),
            },
            () = idles(self.idle, [&own.to_target, &own.to_source]) => End::Idle,
        }
    }
}

/// Returns once the process server is to stop.
pub(crate) async fn told(stop: &mut watch::Receiver<bool>) {
    // Whoever would tell is gone only when it has stopped.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Returns once nothing was counted for so long.
async fn idles(longest: Duration, counts: [&AtomicU64; 2]) {
    let (mut seen, mut looks) = (u64::MAX, 0);
    while looks < LOOKS {
        let now = counts.iter().map(|count| count.load(Ordering::Relaxed)).fold(0, u64::wrapping_add);
        looks = if now == seen { looks + 1 } else { 0 };
        seen = now;
        sleep(longest / LOOKS).await;
    }
}

/// One way.
struct Way<'a> {
    /// What is counted.
    counts: [&'a AtomicU64; 2],
    bandwidth: Option<&'a Bandwidth>,
    stop: watch::Receiver<bool>,
}

impl Way<'_> {
    /// `first` goes before what is read.
    async fn run(
        mut self,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        first: Vec<u8>,
        size: usize,
    ) -> io::Result<()> {
        self.pass(&first, &mut to).await?;
        drop(first);
        let mut buffer = vec![0; size];
        loop {
            let length = tokio::select! {
                length = from.read(&mut buffer) => length?,
                () = told(&mut self.stop) => 0,
            };
            if length == 0 {
                return to.shutdown().await;
            }
            self.pass(&buffer[..length], &mut to).await?;
        }
    }

    async fn pass(&self, bytes: &[u8], to: &mut WriteHalf<'_>) -> io::Result<()> {
        if let Some(bandwidth) = self.bandwidth {
            bandwidth.take(bytes.len()).await;
        }
        to.write_all(bytes).await?;
        for count in self.counts {
            count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}
