//! Taking connections: whom each wants, and a connection there.

use crate::bandwidth::Bandwidth;
use crate::book::{Book, Place, Refusal, Target};
use crate::config::Config;
use crate::hello::{MAX_HELLO, Problem, server_name};
use crate::pipe::{End, Pipe, told};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A master target that has not answered for so long is not reached.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long a stop waits for what is on its way through.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Pause after a connection could not be accepted, most likely for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A fatal alert that says "unrecognized name": the client tells its user more than that somebody hung up.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// The relay of one process server.
pub(crate) struct Relay {
    pub(crate) config: Config,
    pub(crate) book: Arc<Book>,
    bandwidth: Option<Bandwidth>,
}

impl Relay {
    pub(crate) fn new(config: Config) -> Relay {
        let limit = config.limit_mib_per_second << 20;
        Relay {
            book: Arc::new(Book::new(config.limits.clone(), &config.master_targets)),
            bandwidth: (limit > 0).then(|| Bandwidth::new(limit)),
            config,
        }
    }

    /// Takes connections until `stop` turns true; then lets through what is on its way, and ends them.
    pub(crate) async fn serve(self: Arc<Relay>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        let mut visits = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((source, peer)) => match self.book.place(peer) {
                        Some(place) => {
                            let visit = self.clone().visit(source, place, stop.clone());
                            visits.spawn(visit);
                        }
                        None => self.book.refuse(Refusal::TooMany, peer, "too many at once (limits)"),
                    },
                    Err(error) => {
                        tracing::warn!("cannot accept a connection: {error}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = visits.join_next() => {}
                () = told(&mut stop) => break,
            }
        }
        let ended = async { while visits.join_next().await.is_some() {} };
        if timeout(STOP_LIMIT, ended).await.is_err() {
            tracing::warn!("connections that did not end in {STOP_LIMIT:?} are broken off");
        }
    }

    async fn visit(self: Arc<Relay>, mut source: TcpStream, place: Place, mut stop: watch::Receiver<bool>) {
        let met = tokio::select! {
            met = self.meet(&mut source) => met,
            () = told(&mut stop) => return,
        };
        let peer = place.peer;
        let (first, target, connection) = match met {
            Ok(met) => met,
            Err(Miss::Gone) => return tracing::debug!(%peer, "it went away before it said whom it wants"),
            Err(Miss::Refused(refusal, why)) => {
                self.book.refuse(refusal, peer, why);
                if matches!(refusal, Refusal::NoName | Refusal::UnknownName) {
                    // It need not want to know.
                    let _ = timeout(ACCEPT_PAUSE, source.write_all(&UNRECOGNIZED_NAME)).await;
                }
                return;
            }
        };
        let relayed = place.relayed(&target);
        let name = &target.config.name;
        tracing::debug!(%peer, target = %name, "relaying");
        let idle = self.config.limits.idle();
        let pipe = Pipe { bandwidth: self.bandwidth.as_ref(), idle, stop };
        match pipe.run(source, connection, first, &relayed).await {
            End::Closed => tracing::debug!(%peer, target = %name, "closed"),
            End::Broken(error) => tracing::debug!(%peer, target = %name, "broken off: {error}"),
            End::Idle => tracing::info!(%peer, target = %name, "ended: nothing was sent for {idle:?}"),
        }
    }

    /// What the client has said, whom it wants, and a connection there.
    async fn meet(&self, source: &mut TcpStream) -> Result<(Vec<u8>, Arc<Target>, TcpStream), Miss> {
        if let Err(error) = transport::set_up(source) {
            tracing::debug!("cannot set up a socket: {error}");
        }
        let limit = self.config.limits.hello();
        let silent = || format!("it did not say within {limit:?} whom it wants");
        let greeted = timeout(limit, hello(source)).await;
        let (first, name) = greeted.map_err(|_| Miss::Refused(Refusal::Silent, silent()))??;
        let Some(target) = self.book.target(&name) else {
            let why = format!("it wants {name}, which is none of master_targets in the configuration");
            return Err(Miss::Refused(Refusal::UnknownName, why));
        };
        match transport::connect(&target.config.address, CONNECT_LIMIT).await {
            Ok(connection) => {
                target.reached(None);
                Ok((first, target.clone(), connection))
            }
            Err(error) => {
                target.reached(Some(error.to_string()));
                Err(Miss::Refused(Refusal::Unreachable, format!("it wants {name}: {error}")))
            }
        }
    }
}

/// Why a client is not relayed.
enum Miss {
    /// It went away by itself, as whoever looks whether somebody listens does.
    Gone,
    Refused(Refusal, String),
}

/// Reads until the name is there; gives all that was read.
async fn hello(source: &mut TcpStream) -> Result<(Vec<u8>, String), Miss> {
    let mut first = Vec::with_capacity(2 << 10);
    loop {
        let room = MAX_HELLO - first.len();
        match (&mut *source).take(room as u64).read_buf(&mut first).await {
            Ok(0) | Err(_) => return Err(Miss::Gone),
            Ok(_) => {}
        }
        if let Some(name) = server_name(&first).map_err(refusal)? {
            return Ok((first, name));
        }
    }
}

fn refusal(problem: Problem) -> Miss {
    let (refusal, why) = match problem {
        Problem::NotTls => (Refusal::NotTls, "it does not speak TLS"),
        Problem::TooLong => (Refusal::NotTls, "its TLS hello is too long"),
        Problem::Malformed => (Refusal::NotTls, "its TLS hello is malformed"),
        Problem::NoName => (Refusal::NoName, "it names no master target (SNI); give it a server_name"),
    };
    Miss::Refused(refusal, why.to_owned())
}
