//! Hosts that renewed their certificate after the backup that this server was restored from was made.
//!
//! The store knows only their earlier certificates, and they have only the new one. A certificate that the store does
//! not know and that our authority signed was signed after the backup was made, for there is nowhere else that its key
//! is. So it counts for the host of its name, if the store knows that and it is not revoked. One of a host that the
//! store does not know counts for nothing: that host has to register again.

use crate::authority::{HOST_LIFE, fingerprint};
use crate::server::Shared;
use crate::store::audit;
use crate::store::hosts::{self, Known, Signed};
use anyhow::{Context, Result, anyhow};
use control_api::registration::{Hex, HostKind};
use control_api::time::Time;
use rusqlite::{Connection, TransactionBehavior};
use rustls::pki_types::CertificateDer;
use std::net::IpAddr;
use webpki::EndEntityCert;

/// In DER, that a certificate is for a server: only those of master targets are.
const SERVER_AUTHENTICATION: [u8; 10] = [0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// The uncompressed point of P-256 at the end of a public key.
const POINT: usize = 65;

/// Writes down a certificate that was presented, when it is one that a restore has made the store forget. TLS has
/// verified that our authority signed it and that it has not expired.
pub(crate) async fn adopt(
    shared: &Shared,
    certificate: CertificateDer<'static>,
    address: IpAddr,
) -> Result<()> {
    let key = fingerprint(&certificate);
    let forgotten = shared.store.read(move |connection| Ok(is_forgotten(connection, &key)?));
    if !forgotten.await? {
        return Ok(());
    }
    let now = shared.now();
    let adopted = shared.store.with(move |connection| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let adopted = add(&transaction, &certificate, address, now)?;
        transaction.commit()?;
        Ok(adopted)
    });
    if let Some(host) = adopted.await? {
        tracing::info!(host, %address, "known again by a certificate of after the backup");
    }
    Ok(())
}

/// Whether this store was restored, and does not know this certificate.
fn is_forgotten(connection: &Connection, fingerprint: &[u8]) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM restored) \
               AND NOT EXISTS (SELECT 1 FROM certificate WHERE fingerprint = ?)";
    connection.prepare_cached(sql)?.query_row([fingerprint], |row| row.get(0))
}

/// Gives a certificate back to the host that it was signed for; the name of that.
fn add(
    connection: &Connection,
    certificate: &CertificateDer<'_>,
    address: IpAddr,
    now: Time,
) -> Result<Option<String>> {
    let fingerprint = fingerprint(certificate);
    if !is_forgotten(connection, &fingerprint)? {
        return Ok(None);
    }
    let parsed = EndEntityCert::try_from(certificate)
        .map_err(|cause| anyhow!("a certificate of ours cannot be read: {cause}"))?;
    let Some(host) = signed_for(connection, &parsed, certificate)? else { return Ok(None) };
    let key = parsed.subject_public_key_info();
    let public_key = key.last_chunk::<POINT>().context("a certificate of ours has a key of another form")?;
    let signed = Signed {
        serial: &Hex::from(parsed.serial()).to_string(),
        fingerprint: &fingerprint,
        public_key,
        issued: now,
        // At the latest; it is TLS that looks at the certificate's own end.
        valid_until: now.saturating_add(HOST_LIFE),
    };
    hosts::add_certificate(connection, host.row, &signed)?;
    let entry = audit::Entry {
        time: now,
        address: address.to_string(),
        host: host.name.clone(),
        outcome: "known again".into(),
        detail: "by a certificate that was signed after the backup".into(),
    };
    audit::add(connection, &entry)?;
    Ok(Some(host.name))
}

fn signed_for(
    connection: &Connection,
    parsed: &EndEntityCert<'_>,
    certificate: &[u8],
) -> Result<Option<Known>> {
    let is_target =
        certificate.windows(SERVER_AUTHENTICATION.len()).any(|window| window == SERVER_AUTHENTICATION);
    let kind = if is_target { HostKind::MasterTarget } else { HostKind::SourceAgent };
    for name in parsed.valid_dns_names() {
        let mut known = hosts::named(connection, name)?.into_iter();
        if let Some(host) = known.find(|host| host.kind == kind && host.revoked.is_none()) {
            return Ok(Some(host));
        }
    }
    Ok(None)
}
