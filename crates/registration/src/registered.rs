//! What a registered machine does with its identity: renew it, or give it up.

use crate::error::{Error, Result};
use crate::identity::{self, Draft, Identity, Registration};
use crate::register::{host_key, now, post};
use crate::server::connection::{Connection, connect};
use crate::server::{Server, shown, trust};
use control_api::registration::{
    Certificate, Host, RENEW_PATH, RenewalRequest, UNREGISTER_PATH, UnregisterReply, UnregisterRequest,
};
use control_api::time::Time;
use std::path::Path;

/// What became of a registration that was given up.
#[derive(Debug)]
pub struct Unregistered {
    /// What it had been; `None` when that could not be read any more.
    pub registration: Option<Registration>,
    /// Why the configuration server was not told; `None` when it was.
    pub not_told: Option<Error>,
}

/// Whether a certificate should be renewed now: a third of its life is left.
fn is_due(registration: &Registration, now: Time) -> bool {
    let life = registration.valid_until.saturating_sub(registration.issued);
    now >= registration.valid_until.saturating_sub(life / 3)
}

/// [Renews](renew) the certificate, if there is one and a third of its life is left; tells whether it did. `host` describes
/// this machine under the name that it is registered by.
///
/// # Errors
/// When the identity is damaged, or a renewal fails.
pub fn renew_if_due(state: &Path, host: impl FnOnce(&str) -> Result<Host>) -> Result<bool> {
    let Some(identity) = Identity::open(state)? else { return Ok(false) };
    if !is_due(&identity.registration, now()) {
        return Ok(false);
    }
    renew(state, host(&identity.registration.name)?).map(|_| true)
}

/// Exchanges the certificate for a newer one, with a new key.
pub fn renew(state: &Path, host: Host) -> Result<Registration> {
    let identity = Identity::open(state)?.ok_or_else(|| Error::NotRegistered { folder: state.to_owned() })?;
    let draft = Draft::make(state)?;
    let (server, mut connection) = open(&identity)?;
    let exporter = connection.exporter().ok_or_else(|| Error::OldTls { server: server.clone() })?;
    let request = RenewalRequest { host, time: now(), key: host_key(&draft.key, &exporter)? };
    let certificate: Certificate = post(&server, &mut connection, RENEW_PATH, &request)?;
    let registration =
        Registration { issued: now(), valid_until: certificate.valid_until, ..identity.registration };
    draft.complete(&certificate.der.0, &identity.ca, &registration)?;
    Ok(registration)
}

/// Gives up the registration: tells the configuration server if it can be reached, then removes the identity.
pub fn unregister(state: &Path, host: Host) -> Result<Unregistered> {
    let (registration, told) = match Identity::open(state) {
        Ok(None) => return Err(Error::NotRegistered { folder: state.to_owned() }),
        Ok(Some(identity)) => (Some(identity.registration.clone()), tell(&identity, host)),
        // What is damaged can be given up all the same.
        Err(damaged) => (None, Err(damaged)),
    };
    identity::remove(state)?;
    Ok(Unregistered { registration, not_told: told.err() })
}

fn tell(identity: &Identity, host: Host) -> Result<UnregisterReply> {
    let (server, mut connection) = open(identity)?;
    post(&server, &mut connection, UNREGISTER_PATH, &UnregisterRequest { host })
}

/// A connection to the configuration server that this machine is registered with, and to no other.
fn open(identity: &Identity) -> Result<(String, Connection)> {
    let Registration { server, port, valid_until, .. } = &identity.registration;
    if *valid_until <= now() {
        return Err(Error::Expired { until: control_api::time::format(*valid_until) });
    }
    let server = Server { address: server.clone(), port: *port };
    let key = identity.tls_key()?;
    let client = trust::registered(identity.ca.clone(), identity.certificate.clone(), key);
    let connection = Connection::open(&server, connect(&server)?, client)?;
    Ok((shown(&server), connection))
}

#[cfg(test)]
mod tests {
    use super::*;
    use control_api::registration::{Hex, HostKind};

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
        let registration = Registration {
            server: "cs".into(),
            port: 443,
            authority: Hex::default(),
            host_id: "id".into(),
            name: "mt01".into(),
            kind: HostKind::MasterTarget,
            issued: 1000,
            valid_until: 1090,
        };
        assert!(!is_due(&registration, 1059) && is_due(&registration, 1060) && is_due(&registration, 2000));
    }
}
