//! What the configuration server remembers, in SQLite.
//!
//! Three threads own a connection each and do one piece of work after the other, so the tasks of the server never wait
//! for a disk. `with` writes what must survive a loss of power, and returns when it is durable. `note` writes what the
//! next heartbeat tells anew: it survives the end of the program, and is not waited for on the disk, so that hundreds of
//! hosts do not cost hundreds of syncs. `read` only reads, and waits for neither. Commands that are typed open the same
//! file by themselves; SQLite keeps them apart.

pub(crate) mod attempts;
pub(crate) mod audit;
pub(crate) mod deliveries;
pub(crate) mod events;
pub(crate) mod groups;
pub(crate) mod hosts;
pub(crate) mod inventory;
pub(crate) mod items;
pub(crate) mod jobs;
mod json;
pub(crate) mod overview;
pub(crate) mod policies;
pub(crate) mod reports;
pub(crate) mod samples;
pub(crate) mod schema;
pub(crate) mod sessions;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod users;
pub(crate) mod workflows;

use anyhow::{Context, Result};
use rusqlite::Connection;
use std::path::Path;
use tokio::sync::{mpsc, oneshot};

/// Pieces of work that may wait.
const QUEUE: usize = 64;

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// The ways to the threads that own the database; they end when the last of these is dropped.
#[derive(Clone)]
pub(crate) struct Store {
    durable: Thread,
    quick: Thread,
    reader: Thread,
}

impl Store {
    /// Opens the database at `path`.
    pub(crate) fn open(path: &Path) -> Result<Store> {
        let durable = schema::open(path)?;
        let quick = schema::open(path)?;
        quick.pragma_update(None, "synchronous", "NORMAL")?;
        let reader = schema::open(path)?;
        reader.pragma_update(None, "query_only", true)?;
        Ok(Store {
            durable: Thread::start("store", durable)?,
            quick: Thread::start("store-notes", quick)?,
            reader: Thread::start("store-reader", reader)?,
        })
    }

    /// Has the database changed; what was written is durable when this returns.
    pub(crate) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.durable.run(work).await
    }

    /// Has the database changed by what can be told again; a loss of power may take the last of it.
    pub(crate) async fn note<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.quick.run(work).await
    }

    /// Reads.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.reader.run(work).await
    }
}

/// The way to one thread.
#[derive(Clone)]
struct Thread {
    queue: mpsc::Sender<Work>,
}

impl Thread {
    fn start(name: &str, mut connection: Connection) -> Result<Thread> {
        let (queue, mut work) = mpsc::channel::<Work>(QUEUE);
        std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                while let Some(work) = work.blocking_recv() {
                    work(&mut connection);
                }
            })
            .context("cannot start a thread of the store")?;
        Ok(Thread { queue })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, outcome) = oneshot::channel();
        let work: Work = Box::new(move |connection| drop(sender.send(work(connection))));
        self.queue.send(work).await.ok().context("a thread of the store has ended")?;
        outcome.await.context("a thread of the store has ended")?
    }
}
