//! Who this machine is registered as, and what connections by that identity share.

use crate::error::{Error, Result};
use crate::identity::{IDENTITY, Identity, Registration};
use crate::server::connection::{Connection, connect};
use crate::server::{Server, shown, trust};
use rustls::ClientConfig;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An identity in use.
pub(super) struct Session {
    pub(super) registration: Registration,
    lies_in: Option<PathBuf>,
    server: Server,
    client: Arc<ClientConfig>,
}

/// The folder that the identity lies in: each identity has one of its own.
pub(super) fn lies_in(state: &Path) -> Option<PathBuf> {
    std::fs::read_link(state.join(IDENTITY)).ok()
}

impl Session {
    /// By the identity in a state folder; `None` when there is none.
    pub(super) fn open(state: &Path) -> Result<Option<Session>> {
        let lies_in = lies_in(state);
        let Some(identity) = Identity::open(state)? else { return Ok(None) };
        let (ca, certificate) = (identity.ca.clone(), identity.certificate.clone());
        let client = trust::registered_config(ca, certificate, identity.tls_key()?).map_err(|why| {
            Error::Damaged { path: state.join(IDENTITY), why: format!("it cannot be used for TLS: {why}") }
        })?;
        let registration = identity.registration;
        let server = Server { address: registration.server.clone(), port: registration.port };
        Ok(Some(Session { registration, lies_in, server, client: Arc::new(client) }))
    }

    /// The configuration server, as messages call it.
    pub(super) fn server(&self) -> String {
        shown(&self.server)
    }

    pub(super) fn is(&self, other: &Session) -> bool {
        self.lies_in == other.lies_in && self.registration == other.registration
    }

    /// Whether both speak to the same configuration server.
    pub(super) fn same_server(&self, other: &Session) -> bool {
        self.registration.authority == other.registration.authority && self.server == other.server
    }

    /// A connection to the configuration server that this machine is registered with, and to no other.
    pub(super) fn connect(&self) -> Result<Connection> {
        let client = trust::registered_with(self.client.clone());
        Ok(Connection::open(&self.server, connect(&self.server)?, client)?)
    }
}
