//! The server: connections, TLS, HTTP.
//!
//! Each connection is a task: TLS handshake, then one HTTP request after the other, each answered by the same routes.
//! What belongs to a connection, its exporter, the client's certificate and the registration that was begun on it, is
//! in its [`Peer`], which goes with each request. Nothing blocks: what needs the database waits for the store's thread.

mod api;
mod certificates;
pub(crate) mod changes;
mod limits;
pub(crate) mod portal;
mod registration;
mod rest;
mod routes;
mod session;
mod tls;

pub(crate) use api::{answer, bad_request, internal, request};

use crate::authority::Authority;
use crate::config::Config;
use crate::store::{Store, schema};
use crate::{access, state, store};
use anyhow::{Context, Result};
use axum::Router;
use changes::Changes;
use control_api::registration::{EXPORTER_LABEL, EXPORTER_LENGTH, Hex};
use control_api::time::{SECOND, Time};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use limits::Places;
use registration::Begun;
use sd_notify::NotifyState;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tls::Identity;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::Instrument;

/// Time for the TLS handshake, and for the head of each request.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(15);
/// How long a connection may last.
const CONNECTION_LIMIT: Duration = Duration::from_secs(600);
/// Time that requests under way have when the server stops.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted, most likely for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the server takes from around it.
#[derive(Clone)]
pub struct Environment {
    /// Nanoseconds since the Unix epoch.
    pub clock: fn() -> Time,
    /// Version that it says it has.
    pub version: String,
}

impl Environment {
    /// The machine's clock, and the version of this program.
    pub fn host() -> Environment {
        Environment { clock: now, version: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

/// Nanoseconds since the Unix epoch, by this machine's clock.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() * SECOND + u64::from(since.subsec_nanos())
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) environment: Environment,
    pub(crate) store: Store,
    pub(crate) authority: Arc<Authority>,
    places: Arc<Places>,
    pub(crate) changes: Changes,
}

impl Shared {
    /// What serves this folder, and the routes to it.
    #[cfg(test)]
    pub(crate) fn test(folder: &std::path::Path) -> (Arc<Shared>, Router) {
        let config = Config { state_folder: folder.to_owned(), ..Config::default() };
        let (store, environment) = (Store::open(&config.store()).unwrap(), Environment::host());
        let authority = Arc::new(Authority::open(folder, now()).unwrap());
        let (places, changes) = (Arc::new(Places::default()), Changes::default());
        let shared = Arc::new(Shared { config, environment, store, authority, places, changes });
        let routes = api::router(shared.clone());
        (shared, routes)
    }

    /// Nanoseconds since the Unix epoch.
    pub(crate) fn now(&self) -> Time {
        (self.environment.clock)()
    }

    /// Writes down what was asked for and what came of it; a store that cannot is worth a line in the log.
    pub(crate) async fn note(&self, address: String, host: String, outcome: &'static str, detail: String) {
        tracing::info!(address, host, outcome, "{detail}");
        let entry =
            store::audit::Entry { time: self.now(), address, host, outcome: outcome.to_owned(), detail };
        let noted = self.store.with(move |connection| Ok(store::audit::add(connection, &entry)?)).await;
        if let Err(error) = noted {
            tracing::error!("cannot write the audit: {error:#}");
        }
    }
}

/// The other end of a connection.
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// What binds a handshake to this connection.
    exporter: [u8; EXPORTER_LENGTH],
    /// SHA-256 of the certificate that it presented; our authority signed it.
    pub(crate) certificate: Option<Vec<u8>>,
    /// The registration that was begun.
    begun: Mutex<Option<Begun>>,
}

impl Peer {
    /// One without a certificate.
    #[cfg(test)]
    pub(crate) fn test() -> Peer {
        let (address, exporter) = (IpAddr::from([127, 0, 0, 1]), [0; EXPORTER_LENGTH]);
        Peer { address, exporter, certificate: None, begun: Mutex::new(None) }
    }

    fn take_begun(&self) -> Option<Begun> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Serves `listener` until `stop` completes. The first start makes authority and passphrase.
pub async fn serve(
    config: Config,
    environment: Environment,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    state::make_folder(&config.state_folder)?;
    let now = (environment.clock)();
    let authority = Arc::new(Authority::open(&config.state_folder, now)?);
    if state::ensure_passphrase(&config.state_folder)? {
        tracing::info!("a passphrase was made; mt-configserver passphrase show prints it");
    }
    let mut first = schema::open(&config.store())?;
    if let Some(path) = access::first::ensure_administrator(&mut first, &config.state_folder, now)? {
        let (name, path) = (access::first::NAME, path.display());
        tracing::info!("an administrator was made: user {name}, password in {path} until the first log-in");
    }
    drop(first);
    let store = Store::open(&config.store())?;
    let identity = Identity::make(authority.clone(), &config.names, now)?;
    let address = listener.local_addr().context("the socket has no address")?;
    let fingerprint = Hex(authority.fingerprint());
    tracing::info!(%address, authority = %fingerprint, version = environment.version, "started");
    let shared = Arc::new(Shared {
        config,
        environment,
        store,
        authority,
        places: Arc::new(Places::default()),
        changes: Changes::default(),
    });
    let routes = api::router(shared.clone());
    let renewing = tokio::spawn(identity.clone().keep_new(shared.environment.clock));
    let watchdog = tokio::spawn(keep_systemd_informed());
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    notify(&[NotifyState::Ready]);
    tokio::select! {
        () = stop => {}
        () = accept(listener, &identity, &shared, &routes, &stopped, &mut connections) => {}
    }
    notify(&[NotifyState::Stopping]);
    renewing.abort();
    watchdog.abort();
    let _ = stopping.send(true);
    let _ = timeout(STOP_LIMIT, async { while connections.join_next().await.is_some() {} }).await;
    tracing::info!("stopped");
    Ok(())
}

async fn accept(
    listener: TcpListener,
    identity: &Identity,
    shared: &Arc<Shared>,
    routes: &Router,
    stopped: &watch::Receiver<bool>,
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
        let Some(place) = shared.places.take(address.ip()) else {
            tracing::warn!(peer = %address, "connection closed: too many at once");
            continue;
        };
        let (acceptor, stopped) = (identity.acceptor(), stopped.clone());
        let (shared, routes) = (shared.clone(), routes.clone());
        let span = tracing::info_span!("connection", peer = %address);
        connections.spawn(
            async move {
                attend(socket, address, acceptor, shared, routes, stopped).await;
                drop(place);
            }
            .instrument(span),
        );
    }
}

/// One connection, from the TLS handshake to its end.
async fn attend(
    socket: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    shared: Arc<Shared>,
    routes: Router,
    mut stopped: watch::Receiver<bool>,
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
    let routes = TowerToHyperService::new(routes);
    let at_the_other_end = peer.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(at_the_other_end.clone());
        routes.call(request)
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HANDSHAKE_LIMIT);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let served = timeout(CONNECTION_LIMIT, async {
        tokio::select! {
            served = connection.as_mut() => return served,
            _ = stopped.wait_for(|stopped| *stopped) => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    });
    if let Ok(Err(error)) = served.await {
        tracing::debug!("{error}");
    }
    registration::left(&shared, &peer).await;
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

async fn keep_systemd_informed() {
    let Some(interval) = sd_notify::watchdog_enabled() else { return };
    loop {
        notify(&[NotifyState::Watchdog]);
        tokio::time::sleep(interval / 3).await;
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("cannot tell systemd: {error}");
    }
}
