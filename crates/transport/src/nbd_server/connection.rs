//! One client, from the greeting to the last answer.

use super::lane::{Answer, Lane, Load, charge};
use super::{GRACE, Limits, Security, Served};
use crate::{Error, Result};
use nbd::{Export, Handshake, Incoming, Request, Step, Transmission};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

/// How long a client may take to choose an export.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(60);
/// Answers that are sent in one write.
const MAX_SLICES: usize = 64;

/// What a connection has of its server.
pub(super) struct Shared {
    pub(super) served: Served,
    pub(super) security: Security,
    pub(super) limits: Limits,
    pub(super) removed: watch::Receiver<()>,
    pub(super) stop: watch::Receiver<()>,
}

/// Serves one client, and logs how it ended.
pub(super) async fn run<S, R, W>(socket: S, split: fn(S) -> (R, W), peer: String, shared: Shared)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    match converse(socket, split, &peer, shared).await {
        Ok(()) => tracing::debug!(peer, "NBD client left"),
        Err(error) => tracing::warn!(%error, "NBD connection closed"),
    }
}

async fn converse<S, R, W>(mut socket: S, split: fn(S) -> (R, W), peer: &str, shared: Shared) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let mut handshake = Handshake::new(shared.served.exports.clone(), shared.security.mode());
    match negotiate(&mut socket, &mut handshake, peer, &shared).await? {
        Outcome::Ended => Ok(()),
        Outcome::Ready(transmission) => {
            let (reader, writer) = split(socket);
            serve(reader, writer, transmission, peer, shared).await
        }
        Outcome::StartTls => encrypted(socket, handshake, peer, shared).await,
    }
}

async fn encrypted<S>(socket: S, mut handshake: Handshake, peer: &str, shared: Shared) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (Security::Allowed(tls) | Security::Required(tls)) = &shared.security else {
        return Ok(());
    };
    let mut stream = tls.accept(socket, peer).await?;
    handshake.tls_started();
    match negotiate(&mut stream, &mut handshake, peer, &shared).await? {
        Outcome::Ready(transmission) => {
            let (reader, writer) = tokio::io::split(stream);
            serve(reader, writer, transmission, peer, shared).await
        }
        Outcome::Ended | Outcome::StartTls => Ok(()),
    }
}

enum Outcome {
    Ready(Transmission),
    StartTls,
    Ended,
}

async fn negotiate<S>(
    socket: &mut S,
    handshake: &mut Handshake,
    peer: &str,
    shared: &Shared,
) -> Result<Outcome>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stop = shared.stop.clone();
    tokio::select! {
        _ = stop.changed() => Ok(Outcome::Ended),
        finished = timeout(HANDSHAKE_LIMIT, shake(socket, handshake, peer)) => finished.unwrap_or_else(|_| {
            Err(Error::Silent { peer: peer.to_owned(), what: "choosing an export", after: HANDSHAKE_LIMIT })
        }),
    }
}

async fn shake<S>(socket: &mut S, handshake: &mut Handshake, peer: &str) -> Result<Outcome>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let step = handshake.step().map_err(|cause| Error::Nbd { peer: peer.to_owned(), cause })?;
        let output = handshake.take_output();
        let sent = async {
            socket.write_all(&output).await?;
            socket.flush().await
        };
        sent.await.map_err(|cause| Error::broken(peer, "sending", cause))?;
        match step {
            Step::Send => {}
            Step::Read => {
                let read = socket.read(handshake.read_buffer()).await;
                match read.map_err(|cause| Error::broken(peer, "receiving", cause))? {
                    0 => return Ok(Outcome::Ended),
                    length => handshake.advance(length),
                }
            }
            Step::StartTls => return Ok(Outcome::StartTls),
            Step::Ready(transmission) => return Ok(Outcome::Ready(transmission)),
            Step::Ended => return Ok(Outcome::Ended),
        }
    }
}

async fn serve<R, W>(
    reader: R,
    writer: W,
    transmission: Transmission,
    peer: &str,
    mut shared: Shared,
) -> Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let export = transmission.export().clone();
    tracing::info!(
        peer,
        export = export.name(),
        read_only = export.is_read_only(),
        "NBD client opened an export"
    );
    let load = Arc::new(Load::default());
    let (lane, answers) = Lane::new(shared.limits.workers, load.clone());
    // A set of one task, because a set ends its tasks when it is dropped.
    let mut sending = JoinSet::new();
    sending.spawn(send(writer, answers, load.clone()));
    let limits = shared.limits;
    let received = tokio::select! {
        received = receive(reader, transmission, peer, &lane, &load, limits) => received,
        () = withdrawn(&mut shared, &export) => Ok(()),
        sent = sending.join_next() => {
            lane.abandon();
            return outcome(sent, peer);
        }
    };
    lane.close();
    // From here on only the threads hold it: the answers end with the last of them.
    drop((lane, export));
    match timeout(GRACE, sending.join_next()).await {
        Ok(sent) => received.and(outcome(sent, peer)),
        Err(_) => received.and(Err(Error::Silent {
            peer: peer.to_owned(),
            what: "taking its answers",
            after: GRACE,
        })),
    }
}

fn outcome(sent: Option<std::result::Result<io::Result<()>, JoinError>>, peer: &str) -> Result<()> {
    match sent {
        Some(Ok(Err(cause))) => Err(Error::broken(peer, "sending", cause)),
        _ => Ok(()),
    }
}

/// Completes when the server shuts down or the export is removed.
async fn withdrawn(shared: &mut Shared, export: &Export) {
    loop {
        tokio::select! {
            _ = shared.stop.changed() => return,
            _ = shared.removed.changed() => if export.is_withdrawn() {
                return;
            },
        }
    }
}

async fn receive<R: AsyncRead + Unpin>(
    mut reader: R,
    mut transmission: Transmission,
    peer: &str,
    lane: &Arc<Lane>,
    load: &Load,
    limits: Limits,
) -> Result<()> {
    let mut requests = Vec::new();
    loop {
        let more = parse(&mut transmission, &mut requests, load, limits);
        if !requests.is_empty() {
            lane.push(&mut requests);
        }
        match more.map_err(|cause| Error::Nbd { peer: peer.to_owned(), cause })? {
            More::Never => return Ok(()),
            More::AfterAnswers => load.below(limits.bytes_in_flight).await,
            More::AfterRead => {
                load.below(limits.bytes_in_flight).await;
                let read = reader.read(transmission.read_buffer()).await;
                match read.map_err(|cause| Error::broken(peer, "receiving", cause))? {
                    0 => return Ok(()),
                    length => transmission.advance(length),
                }
            }
        }
    }
}

/// When there may be more requests.
enum More {
    AfterRead,
    AfterAnswers,
    Never,
}

/// Collects the requests that have arrived, as many as may be held.
fn parse(
    transmission: &mut Transmission,
    requests: &mut Vec<Request>,
    load: &Load,
    limits: Limits,
) -> nbd::Result<More> {
    let mut held = load.held();
    while held < limits.bytes_in_flight {
        match transmission.next()? {
            Incoming::Request(request) => {
                held += charge(&request);
                requests.push(request);
            }
            Incoming::Nothing => return Ok(More::AfterRead),
            Incoming::Disconnect => return Ok(More::Never),
        }
    }
    Ok(More::AfterAnswers)
}

/// Sends answers as they come, as many as there are in one write, and ends the connection after the last one.
async fn send<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut answers: mpsc::UnboundedReceiver<Answer>,
    load: Arc<Load>,
) -> io::Result<()> {
    let mut batch: Vec<Answer> = Vec::with_capacity(MAX_SLICES);
    while answers.recv_many(&mut batch, MAX_SLICES).await > 0 {
        write_all(&mut writer, &batch).await?;
        writer.flush().await?;
        load.release(batch.drain(..).map(|answer| answer.charge).sum());
    }
    writer.shutdown().await
}

async fn write_all<W: AsyncWrite + Unpin>(writer: &mut W, batch: &[Answer]) -> io::Result<()> {
    let mut slices: Vec<_> = batch.iter().map(|answer| IoSlice::new(&answer.bytes)).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        let length = writer.write_vectored(left).await?;
        if length == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut left, length);
    }
    Ok(())
}
