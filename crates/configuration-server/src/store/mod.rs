//! What the configuration server remembers, in SQLite.
//!
//! One thread owns the connection and does one piece of work after the other, so the tasks of the server never wait
//! for a disk. Commands that are typed open the same file by themselves; SQLite keeps the two apart.

pub(crate) mod attempts;
pub(crate) mod audit;
pub(crate) mod hosts;
pub(crate) mod schema;

use anyhow::{Context, Result};
use rusqlite::Connection;
use std::path::Path;
use tokio::sync::{mpsc, oneshot};

/// Pieces of work that may wait.
const QUEUE: usize = 64;

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// The way to the thread that owns the database; it ends when the last of these is dropped.
#[derive(Clone)]
pub(crate) struct Store {
    queue: mpsc::Sender<Work>,
}

impl Store {
    /// Opens the database at `path` on a thread of its own.
    pub(crate) fn open(path: &Path) -> Result<Store> {
        let mut connection = schema::open(path)?;
        let (queue, mut work) = mpsc::channel::<Work>(QUEUE);
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                while let Some(work) = work.blocking_recv() {
                    work(&mut connection);
                }
            })
            .context("cannot start the thread of the store")?;
        Ok(Store { queue })
    }

    /// Has the thread do something with the database; what it wrote is durable when this returns.
    pub(crate) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, outcome) = oneshot::channel();
        let work: Work = Box::new(move |connection| drop(sender.send(work(connection))));
        self.queue.send(work).await.ok().context("the thread of the store has ended")?;
        outcome.await.context("the thread of the store has ended")?
    }
}
