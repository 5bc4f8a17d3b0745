//! Connections of sources: TLS, the first frame, then frames to and from the item's actor.
//!
//! A connection has two tasks. The reader hands frames to the actor in lots of about a mebibyte, and stops reading
//! while the actor does not want them, so that a source that runs ahead is held back by TCP. The writer sends
//! what the actor queues. Whoever drops its end first ends the other.

use crate::config::Limits;
use crate::item::{ConnectionId, Input, ItemHandle, Link, OUTGOING_QUEUE};
use crate::master_target::MasterTarget;
use change_stream::{Compression, Frame, RefusalCode};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::Instrument;
use transport::tls::{ServerTls, peer_certificate, peer_is};
use transport::{FrameReader, FrameWriter};

/// Frames, and bytes of data in them, that the reader hands over at once.
const LOT_FRAMES: usize = 256;
const LOT_BYTES: usize = 1 << 20;
/// A peer that does not take what it is sent for so long is given up.
const WRITE_LIMIT: Duration = Duration::from_secs(60);
/// Pause after a connection could not be accepted, most likely for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts sources for ever, by the newest identity of this machine; while it has none, nobody is let in.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Option<ServerTls>>,
    target: Arc<MasterTarget>,
) {
    let places = Arc::new(Places::default());
    let ids = Arc::new(AtomicU64::new(1));
    loop {
        let (socket, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(tls) = tls.borrow().clone() else {
            tracing::debug!(peer = %address, "connection closed: this machine is not registered");
            continue;
        };
        let Some(place) = places.take(address.ip(), &target.config.limits) else {
            tracing::warn!(peer = %address, "connection closed: too many at once (limits.connections)");
            continue;
        };
        let visit = Visit { address, tls, target: target.clone(), ids: ids.clone() };
        let span = tracing::info_span!("connection", peer = %address, item = tracing::field::Empty);
        tokio::spawn(
            async move {
                visit.run(socket).await;
                drop(place);
            }
            .instrument(span),
        );
    }
}

/// Counts connections, in all and by address.
#[derive(Default)]
struct Places {
    taken: Mutex<HashMap<IpAddr, usize>>,
}

struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    fn take(self: &Arc<Places>, address: IpAddr, limits: &Limits) -> Option<Place> {
        let mut taken = self.lock();
        let from_here = taken.get(&address).copied().unwrap_or(0);
        if taken.values().sum::<usize>() >= limits.connections || from_here >= limits.connections_per_address
        {
            return None;
        }
        taken.insert(address, from_here + 1);
        Some(Place { places: self.clone(), address })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        match taken.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.address)),
        }
    }
}

/// One connection.
struct Visit {
    address: SocketAddr,
    tls: ServerTls,
    target: Arc<MasterTarget>,
    ids: Arc<AtomicU64>,
}

impl Visit {
    async fn run(self, socket: TcpStream) {
        let peer = self.address.to_string();
        if let Err(error) = transport::set_up(&socket) {
            tracing::debug!("cannot set up the socket: {error}");
        }
        let limits = self.target.config.limits.clone();
        let stream = match timeout(limits.handshake_timeout, self.tls.accept(socket, &peer)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::warn!("{error}"),
            Err(_) => return tracing::warn!("no TLS handshake within {:?}", limits.handshake_timeout),
        };
        let Some(certificate) = peer_certificate(&stream) else {
            return tracing::warn!("closed: it presented no certificate");
        };
        let (read, write) = tokio::io::split(stream);
        let mut reader = FrameReader::new(read, &peer);
        let mut writer = FrameWriter::new(write, &peer, Compression::None);
        let hello = match timeout(limits.hello_timeout, reader.next()).await {
            Ok(Ok(Some(hello))) => hello,
            Ok(Ok(None)) => return tracing::debug!("closed before it said which item it is"),
            Ok(Err(error)) => return tracing::warn!("{error}"),
            Err(_) => return tracing::warn!("no first frame within {:?}", limits.hello_timeout),
        };
        let revoked = self.target.revoked.becomes_revoked(&certificate);
        let welcome = match self.target.revoked.contains(&certificate) {
            true => Err((RefusalCode::NotAllowed, revoked_message())),
            false => self.welcome(&hello, |name| peer_is(&certificate, name)),
        };
        match welcome {
            Ok(item) => {
                tracing::Span::current().record("item", item.name());
                let connection = self.ids.fetch_add(1, Ordering::Relaxed);
                attend(&item, connection, hello, reader, writer, revoked).await;
            }
            Err((code, message)) => {
                tracing::warn!("refused: {message}");
                let refuse = async {
                    writer.send(&Frame::Refused { code, message }).await?;
                    writer.close().await
                };
                let _ = timeout(WRITE_LIMIT, refuse).await;
            }
        }
    }

    /// The item that a first frame names, if the peer may replicate it.
    fn welcome(
        &self,
        hello: &Frame,
        is: impl Fn(&str) -> bool,
    ) -> Result<Arc<ItemHandle>, (RefusalCode, String)> {
        let (Frame::Hello { item: name, .. } | Frame::BulkHello { item: name, .. }) = hello else {
            return Err((RefusalCode::Protocol, "the first frame must be Hello or BulkHello".into()));
        };
        let Some(item) = self.target.items.find(name) else {
            let message = format!(
                "item {name} is not configured on this master target; have it taken, or add it to its mtd.toml"
            );
            return Err((RefusalCode::UnknownItem, message));
        };
        let source = &item.config().source;
        if !is(source) {
            let message = format!(
                "the certificate is not for {source}, which is the source of item {name}; use that one's \
                 certificate, or give the item another source on the master target"
            );
            return Err((RefusalCode::NotAllowed, message));
        }
        Ok(item)
    }
}

fn revoked_message() -> String {
    "the certificate was revoked at the configuration server; register this machine there again: mt-source register"
        .to_owned()
}

/// Carries frames both ways until one end closes, or the peer is not to be let in any more.
async fn attend<R, W>(
    item: &ItemHandle,
    connection: ConnectionId,
    hello: Frame,
    reader: FrameReader<R>,
    writer: FrameWriter<W>,
    revoked: impl Future<Output = ()>,
) where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let (frames, outgoing) = mpsc::channel(OUTGOING_QUEUE);
    let (gate, open) = watch::channel(false);
    let link = Link::new(frames, gate);
    if item.input.send(Input::Connected { connection, hello, link }).await.is_err() {
        return;
    }
    let writing = write_frames(writer, outgoing);
    let reading = read_frames(item, connection, reader, open);
    tokio::pin!(writing, reading, revoked);
    tokio::select! {
        // The actor closed the connection, and everything it had sent is written.
        () = &mut writing => {}
        () = &mut revoked => tracing::warn!("closed: {}", revoked_message()),
        () = &mut reading => {
            // The actor drops its end now, which lets the writer finish.
            let _ = item.input.send(Input::Disconnected { connection }).await;
            writing.await;
            return;
        }
    }
    let _ = item.input.send(Input::Disconnected { connection }).await;
}

async fn write_frames<W: AsyncWrite + Unpin>(
    mut writer: FrameWriter<W>,
    mut outgoing: mpsc::Receiver<Frame>,
) {
    let send_all = async {
        while let Some(frame) = outgoing.recv().await {
            writer.queue(&frame)?;
            while !writer.is_full()
                && let Ok(frame) = outgoing.try_recv()
            {
                writer.queue(&frame)?;
            }
            match timeout(WRITE_LIMIT, writer.flush()).await {
                Ok(flushed) => flushed?,
                Err(_) => {
                    tracing::warn!("closed: the source did not read for {WRITE_LIMIT:?}");
                    return Ok(());
                }
            }
        }
        match timeout(WRITE_LIMIT, writer.close()).await {
            Ok(closed) => closed,
            Err(_) => Ok(()),
        }
    };
    let result: transport::Result<()> = send_all.await;
    if let Err(error) = result {
        tracing::debug!("{error}");
    }
}

async fn read_frames<R: AsyncRead + Unpin>(
    item: &ItemHandle,
    connection: ConnectionId,
    mut reader: FrameReader<R>,
    mut open: watch::Receiver<bool>,
) {
    // After a lot that was full, the next one may turn out empty: only then is it known that nothing followed.
    let mut wait = true;
    loop {
        if open.wait_for(|open| *open).await.is_err() {
            return;
        }
        let mut lot = Lot::default();
        let end = lot.fill(&mut reader, wait).await;
        wait = lot.drained;
        if let Err(error) = &end {
            tracing::warn!("{error}");
        }
        let ended = !matches!(end, Ok(true));
        let Lot { frames, drained, .. } = lot;
        let sent = item.input.send(Input::Frames { connection, frames, drained }).await;
        if ended || sent.is_err() {
            return;
        }
    }
}

/// Frames that are handed over together.
#[derive(Default)]
struct Lot {
    frames: Vec<Frame>,
    bytes: usize,
    /// Nothing had arrived behind the last frame.
    drained: bool,
}

impl Lot {
    /// Takes the frames that have arrived, up to the size of a lot; waits for the first one when `wait` says so.
    /// False at the end of the connection.
    async fn fill<R: AsyncRead + Unpin>(
        &mut self,
        reader: &mut FrameReader<R>,
        wait: bool,
    ) -> transport::Result<bool> {
        while self.frames.len() < LOT_FRAMES && self.bytes < LOT_BYTES {
            let next = tokio::select! {
                biased;
                next = reader.next() => next?,
                () = std::future::ready(()), if !(wait && self.frames.is_empty()) => {
                    self.drained = true;
                    return Ok(true);
                }
            };
            match next {
                None => return Ok(false),
                Some(frame) => self.push(frame),
            }
        }
        Ok(true)
    }

    fn push(&mut self, frame: Frame) {
        self.bytes += match &frame {
            Frame::Write { data, .. } | Frame::SyncData { data, .. } | Frame::BulkData { data, .. } => {
                data.len()
            }
            Frame::HashBlocks { hashes, .. } => hashes.len() * 32,
            _ => 0,
        };
        self.frames.push(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_address_and_in_all() {
        let second = Duration::from_secs(1);
        let limits = Limits {
            connections: 3,
            connections_per_address: 2,
            handshake_timeout: second,
            hello_timeout: second,
            jobs: 1,
        };
        let places = Arc::new(Places::default());
        let (a, b): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let first = places.take(a, &limits).unwrap();
        let _second = places.take(a, &limits).unwrap();
        assert!(places.take(a, &limits).is_none(), "two from one address");
        let _third = places.take(b, &limits).unwrap();
        assert!(places.take(b, &limits).is_none(), "three in all");
        drop(first);
        assert!(places.take(b, &limits).is_some());
        assert_eq!(places.lock().len(), 2);
    }
}
