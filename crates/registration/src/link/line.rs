//! A connection that is kept from one request to the next.

use super::hub::{Hub, Wire};
use super::session::Session;
use crate::error::{Error, Result};
use crate::register::{bad_answer, understood};
use crate::server::Failure;
use crate::server::connection::{Allowed, Connection, WORK_PATIENCE};
use crate::server::http::Reply;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the configuration server may answer a registered host, in bytes: its list of revoked certificates is the longest.
const MAX_ANSWER: usize = 4 << 20;
/// A connection on which nothing was said for so long has been closed by the server, most likely.
const KEPT: Duration = Duration::from_secs(120);

/// How late the answer may be to what is worth nothing when it comes late.
const SOON: Duration = Duration::from_secs(2);

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
        let body = written(request)?;
        let allowed = Allowed { pause: wait + WORK_PATIENCE, answer: MAX_ANSWER };
        let kept = self.take_kept(session).and_then(|mut connection| {
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
        self.keep(connection, session);
        answered(&session.server(), path, &reply)
    }

    /// The same for what is worth nothing when it comes late: on the connection that is kept, once, and the answer may be
    /// late by [`SOON`] at most.
    pub(super) fn post_in_time<T: DeserializeOwned>(
        &mut self,
        session: &Arc<Session>,
        path: &str,
        request: &impl Serialize,
        wait: Duration,
    ) -> Result<T> {
        let (body, server) = (written(request)?, session.server());
        let Some(mut connection) = self.take_kept(session) else {
            let why = "no connection is open that could be quick enough".to_owned();
            return Err(Failure::NotHttp { address: server, why }.into());
        };
        let allowed = Allowed { pause: wait + SOON, answer: MAX_ANSWER };
        let reply = connection.exchange_within(path, Some(&body), false, allowed)?;
        self.keep(connection, session);
        answered(&server, path, &reply)
    }

    /// The connection that is kept, where it is of this session and most likely still open.
    fn take_kept(&mut self, session: &Arc<Session>) -> Option<Connection> {
        let kept = self.kept.take().filter(|kept| kept.session.is(session) && kept.used.elapsed() < KEPT);
        kept.map(|kept| kept.connection)
    }

    fn keep(&mut self, connection: Connection, session: &Arc<Session>) {
        self.kept = Some(Kept { connection, session: session.clone(), used: Instant::now() });
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

fn written(request: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(request).map_err(|cause| Error::Crypto(cause.to_string()))
}

/// What an answer says, or why the request was refused.
fn answered<T: DeserializeOwned>(server: &str, path: &str, reply: &Reply) -> Result<T> {
    if reply.status == 200 {
        return serde_json::from_slice(&reply.body).map_err(|cause| bad_answer(server, cause.to_string()));
    }
    understood(server, path, reply)
}
