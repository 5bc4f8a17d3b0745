//! One connection, from the moment it is accepted to its end.

use super::agent::{Begun, registration};
use super::limits::Place;
use super::tls::Identity;
use super::{ACCEPT_PAUSE, Shared};
use crate::backup;
use crate::store::hosts;
use axum::Router;
use control_api::registration::{EXPORTER_LABEL, EXPORTER_LENGTH};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::CertificateDer;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::Instrument;

/// Time for the TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(15);
/// Time that a request under way has when its connection is to end.
const FAREWELL: Duration = Duration::from_secs(60);

/// How long connections may last.
#[derive(Clone, Copy)]
struct Limits {
    /// In all; then the request under way is the last.
    all: Duration,
    /// Until the head of a request is there, also of the next one.
    head: Duration,
}

const STRANGER: Limits = Limits { all: Duration::from_secs(600), head: Duration::from_secs(15) };
/// A host says nothing between two heartbeats.
const HOST: Limits = Limits { all: Duration::from_secs(3600), head: Duration::from_secs(360) };

/// The other end of a connection.
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// What binds a handshake to this connection.
    pub(super) exporter: [u8; EXPORTER_LENGTH],
    /// SHA-256 of the certificate that it presented; our authority signed it.
    pub(crate) certificate: Option<Vec<u8>>,
    /// The registration that was begun.
    pub(super) begun: Mutex<Option<Begun>>,
}

impl Peer {
    /// One without a certificate.
    #[cfg(test)]
    pub(crate) fn test() -> Peer {
        let (address, exporter) = (IpAddr::from([127, 0, 0, 1]), [0; EXPORTER_LENGTH]);
        Peer { address, exporter, certificate: None, begun: Mutex::new(None) }
    }

    pub(super) fn take_begun(&self) -> Option<Begun> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Row of the host whose certificate it presented, if that counts now.
    pub(super) async fn host(&self, shared: &Shared) -> anyhow::Result<Option<i64>> {
        let (Some(presented), now) = (self.certificate.clone(), shared.now()) else { return Ok(None) };
        let holder = shared.store.read(move |connection| Ok(hosts::of_certificate(connection, &presented)?));
        Ok(holder.await?.filter(|holder| holder.is_live(now)).map(|holder| holder.known.row))
    }
}

/// Accepts connections as long as there is room.
pub(super) async fn accept(
    listener: TcpListener,
    identity: &Identity,
    shared: &Arc<Shared>,
    routes: &Router,
    connections: &mut JoinSet<()>,
) {
    loop {
        while connections.try_join_next().is_some() {}
        let (socket, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = shared.places.handshake(address.ip()) else {
            tracing::warn!(peer = %address, "connection closed: too many at once");
            continue;
        };
        let (acceptor, shared, routes) = (identity.acceptor(), shared.clone(), routes.clone());
        let span = tracing::info_span!("connection", peer = %address);
        let attended = attend(socket, address, acceptor, shared, routes, place);
        connections.spawn(attended.instrument(span));
    }
}

async fn attend(
    socket: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    shared: Arc<Shared>,
    routes: Router,
    handshake: Place<String>,
) {
    let _ = socket.set_nodelay(true);
    let stream = match timeout(HANDSHAKE_LIMIT, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!("no TLS: {error}"),
        Err(_) => return tracing::debug!("no TLS within {HANDSHAKE_LIMIT:?}"),
    };
    let peer = match peer(&stream, address) {
        Ok(peer) => Arc::new(peer),
        Err(error) => return tracing::warn!("closed: {error}"),
    };
    if let Some(certificate) = presented(&stream)
        && let Err(error) = backup::adopt(&shared, certificate, peer.address).await
    {
        return tracing::error!("closed: {error:#}");
    }
    let host = match peer.host(&shared).await {
        Ok(host) => host,
        Err(error) => return tracing::error!("closed: {error:#}"),
    };
    drop(handshake);
    let (place, limits): (Option<Box<dyn Send>>, Limits) = match host {
        Some(row) => (shared.places.host(row).map(|place| Box::new(place) as _), HOST),
        None => (shared.places.stranger(peer.address).map(|place| Box::new(place) as _), STRANGER),
    };
    let Some(_place) = place else { return tracing::warn!("connection closed: too many at once") };
    serve(stream, &peer, routes, limits, shared.stopped()).await;
    registration::left(&shared, &peer).await;
}

/// One request after the other.
async fn serve(
    stream: TlsStream<TcpStream>,
    peer: &Arc<Peer>,
    routes: Router,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
) {
    let routes = TowerToHyperService::new(routes);
    let at_the_other_end = peer.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(at_the_other_end.clone());
        routes.call(request)
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        served = connection.as_mut() => return ended(served),
        _ = stopped.wait_for(|stopped| *stopped) => {}
        () = tokio::time::sleep(limits.all) => {}
    }
    connection.as_mut().graceful_shutdown();
    if let Ok(served) = timeout(FAREWELL, connection).await {
        ended(served);
    }
}

fn ended(served: hyper::Result<()>) {
    if let Err(error) = served {
        tracing::debug!("{error}");
    }
}

fn presented(stream: &TlsStream<TcpStream>) -> Option<CertificateDer<'static>> {
    let chain = stream.get_ref().1.peer_certificates()?;
    Some(chain.first()?.clone().into_owned())
}

fn peer(stream: &TlsStream<TcpStream>, address: SocketAddr) -> Result<Peer, rustls::Error> {
    let (_, connection) = stream.get_ref();
    let exporter = connection.export_keying_material([0; EXPORTER_LENGTH], EXPORTER_LABEL, None)?;
    let certificate = connection.peer_certificates().and_then(|chain| chain.first());
    Ok(Peer {
        address: address.ip().to_canonical(),
        exporter,
        certificate: certificate.map(|der| crate::authority::fingerprint(der)),
        begun: Mutex::new(None),
    })
}
