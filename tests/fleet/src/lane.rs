//! One of the ways by which a host speaks to the configuration server: a connection that is kept, and opened anew
//! whenever it is gone.

use crate::agent::Deeds;
use crate::client::{Answer, Connection, Way, post};
use anyhow::Result;
use std::sync::Arc;
use std::time::Duration;
use testkit::Rng;
use tokio::time::Instant;

/// A connection, and what is known of those before it.
pub(crate) struct Lane {
    way: Way,
    deeds: Arc<Deeds>,
    connection: Option<Connection>,
    failures: u32,
    /// When the next try was meant to be.
    due: Option<Instant>,
    /// Waiting is shortened so many times.
    haste: u32,
    pub(crate) rng: Rng,
}

impl Lane {
    pub(crate) fn new(way: &Way, deeds: &Arc<Deeds>, haste: u32, rng: Rng) -> Lane {
        Lane { way: way.clone(), deeds: deeds.clone(), connection: None, failures: 0, due: None, haste, rng }
    }

    /// Sends a request that may arrive twice: the server may close a connection that is kept at any moment.
    pub(crate) async fn post(&mut self, path: &str, body: Vec<u8>, patience: Duration) -> Result<Answer> {
        if let Some(mut connection) = self.connection.take().filter(|connection| !connection.is_closed())
            && let Ok(answer) = connection.exchange(post(path, body.clone())?, patience).await
        {
            self.connection = Some(connection);
            return Ok(answer);
        }
        let mut connection = Connection::open(&self.way).await?;
        self.deeds.connected(self.due.take().unwrap_or_else(Instant::now));
        let answer = connection.exchange(post(path, body)?, patience).await?;
        self.connection = Some(connection);
        Ok(answer)
    }

    /// What was sent got through.
    pub(crate) fn well(&mut self) {
        self.failures = 0;
    }

    /// Notes a failure, and gives the time to wait before the next try: as long as real hosts do.
    pub(crate) fn trouble(&mut self, error: &anyhow::Error) -> Duration {
        self.deeds.failed(error);
        self.connection = None;
        self.failures += 1;
        let pause = registration::link::pause(self.failures, self.rng.next_u64()) / self.haste;
        self.due = Some(Instant::now() + pause);
        pause
    }
}
