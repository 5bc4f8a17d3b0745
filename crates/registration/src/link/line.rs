//! A connection that is kept from one request to the next.

use super::hub::{Hub, Wire};
use super::session::Session;
use crate::error::{Error, Result};
use crate::register::{bad_answer, understood};
use crate::server::Failure;
use crate::server::connection::{Allowed, Connection, WORK_PATIENCE};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the configuration server may answer a registered host, in bytes: its list of revoked certificates is the longest.
const MAX_ANSWER: usize = 4 << 20;
/// A connection on which nothing was said for so long has been closed by the server, most likely.
const KEPT: Duration = Duration::from_secs(120);

/// Requests of one thread, one after the other. Each may be sent twice, so it must do no harm to be sent twice: the server
/// may close a connection that is kept at any moment.
pub(super) struct Line {
    kept: Option<Kept>,
    hub: Hub,
    wire: Arc<Wire>,
}

struct Kept {
    connection: Connection,
    session: Arc<Session>,
    used: Instant,
}

impl Line {
    pub(super) fn new(hub: &Hub) -> Line {
        Line { kept: None, hub: hub.clone(), wire: hub.wire() }
    }

    /// Sends a request and reads its answer, or why it is refused. `wait` is how long the server was asked to take.
    pub(super) fn post<T: DeserializeOwned>(
        &mut self,
        session: &Arc<Session>,
        path: &str,
        request: &impl Serialize,
        wait: Duration,
    ) -> Result<T> {
        let body = serde_json::to_vec(request).map_err(|cause| Error::Crypto(cause.to_string()))?;
        let allowed = Allowed { pause: wait + WORK_PATIENCE, answer: MAX_ANSWER };
        let kept = self.kept.take().filter(|kept| kept.session.is(session) && kept.used.elapsed() < KEPT);
        let kept = kept.and_then(|kept| {
            let Kept { mut connection, .. } = kept;
            let reply = connection.exchange_within(path, Some(&body), false, allowed).ok()?;
            Some((connection, reply))
        });
        let (connection, reply) = match kept {
            Some(answered) => answered,
            None => {
                self.go_on(session)?;
                let mut connection = session.connect()?;
                self.wire.set(connection.socket().ok());
                // Whoever cuts wires from here on cuts this one.
                self.go_on(session)?;
                let reply = connection.exchange_within(path, Some(&body), false, allowed)?;
                (connection, reply)
            }
        };
        self.kept = Some(Kept { connection, session: session.clone(), used: Instant::now() });
        let server = session.server();
        if reply.status == 200 {
            return serde_json::from_slice(&reply.body)
                .map_err(|cause| bad_answer(&server, cause.to_string()));
        }
        understood(&server, path, &reply)
    }

    /// An error when nothing is to be said for this session any more.
    fn go_on(&self, session: &Arc<Session>) -> Result<()> {
        let why = "the conversation ends".to_owned();
        match self.hub.is_over(session) {
            true => Err(Failure::NotHttp { address: session.server(), why }.into()),
            false => Ok(()),
        }
    }
}
