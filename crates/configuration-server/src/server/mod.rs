//! The server: connections, TLS, HTTP.
//!
//! Each connection is a task ([`connection`]): TLS handshake, then one HTTP request after the other, each answered by the
//! same routes ([`api`]). What belongs to a connection, its exporter, the client's certificate and the registration that
//! was begun on it, is in its [`Peer`], which goes with each request. Hosts are answered by [`agent`], programs of people
//! by [`rest`], their browsers by [`portal`]; what either changes is in [`actions`]. Nothing blocks: what needs the database waits for the store's threads.

pub(crate) mod actions;
mod agent;
mod api;
pub(crate) mod changes;
mod connection;
mod limits;
pub(crate) mod portal;
mod rest;
mod routes;
mod session;
mod tls;

pub(crate) use actions::group_workflows::order_regularly as order_group_bookmark;
pub(crate) use api::{answer, bad_request, internal, request};
pub(crate) use connection::Peer;
pub(crate) use portal::{progress_text, took_text};
pub(crate) use rest::{
    EVERY, Entry, MAX_GROUP_BOOKMARK, MAX_NAME, THRESHOLD, WINDOW, is_disk, is_item, is_name,
};

use crate::authority::Authority;
use crate::config::Config;
use crate::fleet::{self, Attendance, Meetings};
use crate::store::{Store, schema};
use crate::{access, backup, notify, state, store};
use agent::heartbeat;
use anyhow::{Context, Result};
use changes::Changes;
use control_api::registration::Hex;
use control_api::time::{SECOND, Time};
use limits::Places;
use service::NotifyState;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tls::Identity;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

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
    places: Places,
    pub(crate) changes: Changes,
    pub(crate) attendance: Attendance,
    pub(crate) meetings: Meetings,
    /// Turns of heartbeats that are taken.
    heartbeats: Semaphore,
    /// True when the server stops, so that nothing waits any more.
    stopping: watch::Sender<bool>,
}

impl Shared {
    fn new(config: Config, environment: Environment, store: Store, authority: Authority) -> Arc<Shared> {
        Arc::new(Shared {
            config,
            environment,
            store,
            authority: Arc::new(authority),
            places: Places::default(),
            changes: Changes::default(),
            attendance: Attendance::default(),
            meetings: Meetings::default(),
            heartbeats: Semaphore::new(heartbeat::AT_ONCE),
            stopping: watch::Sender::new(false),
        })
    }

    /// What serves this folder, and the routes to it.
    #[cfg(test)]
    pub(crate) fn test(folder: &std::path::Path) -> (Arc<Shared>, axum::Router) {
        let config = Config { state_folder: folder.to_owned(), ..Config::default() };
        let (store, authority) =
            (Store::open(&config.store()).unwrap(), Authority::open(folder, now()).unwrap());
        let shared = Shared::new(config, Environment::host(), store, authority);
        let routes = api::router(shared.clone());
        (shared, routes)
    }

    /// What tells that the server stops.
    pub(crate) fn stopped(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
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

/// Serves `listener` until `stop` completes. The first start makes authority and passphrase.
pub async fn serve(
    config: Config,
    environment: Environment,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    state::make_folder(&config.state_folder)?;
    let now = (environment.clock)();
    let lock = state::Lock::take(&config.state_folder)?;
    if backup::complete(&config.state_folder, &lock, now)?.is_some() {
        tracing::warn!("a restore that was cut short is complete now");
    }
    let authority = Authority::open(&config.state_folder, now)?;
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
    let address = listener.local_addr().context("the socket has no address")?;
    let fingerprint = Hex(authority.fingerprint());
    tracing::info!(%address, authority = %fingerprint, version = environment.version, "started");
    let shared = Shared::new(config, environment, store, authority);
    let identity = Identity::make(shared.authority.clone(), &shared.config.names, now)?;
    let routes = api::router(shared.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(identity.clone().keep_new(shared.environment.clock));
    tasks.spawn(service::pet_watchdog());
    tasks.spawn(fleet::watch(shared.clone()));
    tasks.spawn(fleet::dispatch(shared.clone()));
    tasks.spawn(fleet::keep_rhythm(shared.clone()));
    tasks.spawn(fleet::listen(shared.clone()));
    notify::start(&shared, &mut tasks).await?;
    let mut connections = JoinSet::new();
    service::notify(NotifyState::Ready);
    tokio::select! {
        () = stop => {}
        () = connection::accept(listener, &identity, &shared, &routes, &mut connections) => {}
    }
    service::notify(NotifyState::Stopping);
    tasks.abort_all();
    shared.stopping.send_replace(true);
    let _ = timeout(STOP_LIMIT, async { while connections.join_next().await.is_some() {} }).await;
    tracing::info!("stopped");
    drop(lock);
    Ok(())
}
