//! Disks for NBD clients, over TCP or a Unix socket.
//!
//! Each connection has a reading task that parses requests, a few threads that run them, and a writing task that
//! sends the answers; see [`serve`]. Threads are woken for batches of requests, not for each: how many requests one
//! thread takes at once follows from how long they took lately. On a fast disk a single thread answers dozens in a
//! row and the answers leave in one write, while on a slow one every thread waits for a request of its own.

mod connection;
mod lane;

use crate::tls::ServerTls;
use crate::{Error, Result, set_up};
use nbd::{Export, Exports, TlsMode};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long connections may take to finish what they have begun when the server shuts down.
const GRACE: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted, most likely for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where clients connect.
pub enum Listener {
    /// A TCP port.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl Listener {
    /// Listens at `address`, `host:port`; an IPv6 address stands in brackets.
    pub async fn tcp(address: &str) -> Result<Listener> {
        let failed = |cause| Error::Listen { address: address.to_owned(), cause };
        TcpListener::bind(address).await.map(Listener::Tcp).map_err(failed)
    }

    /// Listens at a socket in the file system. One that is left over from a process that no longer listens is
    /// replaced; the caller restricts access by the folder's mode.
    pub fn unix(path: &Path) -> Result<Listener> {
        let failed = |cause| Error::Listen { address: path.display().to_string(), cause };
        let left_over = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
            && std::os::unix::net::UnixStream::connect(path).is_err();
        if left_over {
            std::fs::remove_file(path).map_err(failed)?;
        }
        UnixListener::bind(path).map(Listener::Unix).map_err(failed)
    }

    /// The port or path, as clients name it; useful where port 0 asked for any free one.
    pub fn address(&self) -> io::Result<String> {
        match self {
            Listener::Tcp(listener) => Ok(listener.local_addr()?.to_string()),
            Listener::Unix(listener) => {
                let address = listener.local_addr()?;
                Ok(address.as_pathname().map(PathBuf::from).unwrap_or_default().display().to_string())
            }
        }
    }
}

/// Whether clients use TLS.
#[derive(Clone)]
pub enum Security {
    /// Nobody does: for a Unix socket, or the machine itself.
    Off,
    /// Those who ask for it.
    Allowed(ServerTls),
    /// All: nothing is served before.
    Required(ServerTls),
}

impl Security {
    fn mode(&self) -> TlsMode {
        match self {
            Security::Off => TlsMode::Off,
            Security::Allowed(_) => TlsMode::Allowed,
            Security::Required(_) => TlsMode::Required,
        }
    }
}

/// What a server allows its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; further ones are closed right away.
    pub connections: usize,
    /// Threads that run requests of one connection at the same time.
    pub workers: usize,
    /// Bytes of requests and answers that one connection may hold before it is read on. One more request, of at
    /// most [`nbd::MAX_PAYLOAD`] bytes, may be held on top.
    pub bytes_in_flight: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { connections: 64, workers: 8, bytes_in_flight: 4 << 20 }
    }
}

/// The exports of a server, shared with it: they can be added and removed while it runs. Clones are the same set.
#[derive(Clone)]
pub struct Served {
    exports: Arc<Exports>,
    removed: watch::Sender<()>,
}

impl Default for Served {
    fn default() -> Served {
        Served { exports: Arc::default(), removed: watch::Sender::new(()) }
    }
}

impl Served {
    /// No exports yet.
    pub fn new() -> Served {
        Served::default()
    }

    /// Adds an export under a name that none has yet.
    pub fn add(&self, export: Export) -> nbd::Result<Arc<Export>> {
        self.exports.add(export)
    }

    /// Removes an export and closes the connections that have it open, after what they have begun is done. The
    /// disk is let go with the last of them.
    pub fn remove(&self, name: &str) -> Option<Arc<Export>> {
        let export = self.exports.remove(name);
        self.removed.send_replace(());
        export
    }

    /// All exports, in the order in which they were added.
    pub fn list(&self) -> Vec<Arc<Export>> {
        self.exports.list()
    }
}

/// Serves NBD clients until `shutdown` completes; then finishes the requests that have begun and closes all
/// connections. What a single client does wrong is logged and ends its connection only.
pub async fn serve(
    listener: Listener,
    served: Served,
    security: Security,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let (stop, _) = watch::channel(());
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        while connections.try_join_next().is_some() {}
        let full = connections.len() >= limits.connections;
        let shared = || connection::Shared {
            served: served.clone(),
            security: security.clone(),
            limits,
            removed: served.removed.subscribe(),
            stop: stop.subscribe(),
        };
        tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener) => match accepted {
                Ok((_, peer)) if full => {
                    tracing::warn!(peer, limit = limits.connections, "NBD client turned away: too many connections");
                }
                Ok((Socket::Tcp(socket), peer)) => {
                    connections.spawn(connection::run(socket, |s| s.into_split(), peer, shared()));
                }
                Ok((Socket::Unix(socket), peer)) => {
                    connections.spawn(connection::run(socket, |s| s.into_split(), peer, shared()));
                }
                Err(cause) => {
                    tracing::warn!(%cause, "an NBD client could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(stop);
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, finished).await.is_err() {
        tracing::warn!("NBD clients that do not take their answers are cut off");
        connections.shutdown().await;
    }
}

enum Socket {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

async fn accept(listener: &Listener) -> io::Result<(Socket, String)> {
    match listener {
        Listener::Tcp(listener) => {
            let (socket, peer) = listener.accept().await?;
            set_up(&socket)?;
            Ok((Socket::Tcp(socket), peer.to_string()))
        }
        Listener::Unix(listener) => {
            let (socket, _) = listener.accept().await?;
            let peer = match socket.peer_cred()?.pid() {
                Some(process) => format!("process {process}"),
                None => "a local process".to_owned(),
            };
            Ok((Socket::Unix(socket), peer))
        }
    }
}
