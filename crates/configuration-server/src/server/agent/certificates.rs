//! What a registered host does with its certificate: renew it, or give it up. Both over mutual TLS.

use super::registration::{check_key, sign};
use crate::rule;
use crate::server::api::{Here, bad_request, internal};
use crate::server::changes::Topic;
use crate::server::{Peer, Shared};
use crate::store::hosts::{self, Known};
use control_api::registration::{Certificate, Host, RenewalRequest, UnregisterReply, UnregisterRequest};
use control_api::time::Time;
use control_api::{ApiError, ErrorCode};
use rusqlite::{Connection, TransactionBehavior};

/// The host whose certificate the other end presented. Whether that counts is asked of the store each time, so what is
/// revoked is refused at once.
pub(super) fn presenter(
    connection: &Connection,
    certificate: Option<&[u8]>,
    host: &Host,
    now: Time,
) -> anyhow::Result<Result<Known, ApiError>> {
    let refused = |why: &str| {
        let next = "register this host again";
        Ok(Err(ApiError::new(ErrorCode::NotRegistered, &*host.name, "it is not registered", why, next)))
    };
    let Some(certificate) = certificate else {
        return refused("it presented no certificate");
    };
    let Some(holder) = hosts::of_certificate(connection, certificate)? else {
        return refused(
            "the configuration server does not know its certificate; it may have been restored from a backup",
        );
    };
    if !holder.is_live(now) {
        return refused("its certificate was revoked, or has expired");
    }
    match holder.known.kind == host.kind && rule::is_machine(&holder.known, host) {
        true => Ok(Ok(holder.known)),
        false => Ok(Err(rule::copied_disk(host, &holder.known))),
    }
}

/// Signs a new key of a host that is registered.
pub(in crate::server) async fn renew(here: Here, request: RenewalRequest) -> Result<Certificate, ApiError> {
    let Here { shared, peer } = here;
    let now = shared.now();
    request.host.check().map_err(bad_request)?;
    rule::check_version(&request.host, &shared.environment.version)?;
    rule::check_clock(&request.host, request.time, now)?;
    check_key(&request.key, &peer.exporter)?;
    let (authority, presented) = (shared.authority.clone(), peer.certificate.clone());
    let (asked, address) = (request.clone(), peer.address.to_string());
    let renewed = shared
        .store
        .with(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let known = match presenter(&transaction, presented.as_deref(), &asked.host, now)? {
                Ok(known) => known,
                Err(refused) => return Ok(Err(refused)),
            };
            // The name is the one that was registered; another one takes another registration.
            let host = Host { name: known.name.clone(), ..asked.host };
            hosts::put(&transaction, Some(&known), &host, &known.id, &address, now)?;
            let signed = sign(&transaction, &authority, known.row, &host, &asked.key.public.0, now)?;
            transaction.commit()?;
            Ok(Ok(signed))
        })
        .await;
    let outcome = renewed.map_err(|error| internal(&error))?;
    note(&shared, &peer, &request.host, "renewed", outcome.as_ref().err()).await;
    outcome
}

/// Revokes the certificates of a host that gives up its registration.
pub(in crate::server) async fn end(
    here: Here,
    request: UnregisterRequest,
) -> Result<UnregisterReply, ApiError> {
    let Here { shared, peer } = here;
    let (now, presented, host) = (shared.now(), peer.certificate.clone(), request.host.clone());
    let ended = shared
        .store
        .with(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let known = match presenter(&transaction, presented.as_deref(), &host, now)? {
                Ok(known) => known,
                Err(refused) => return Ok(Err(refused)),
            };
            hosts::revoke(&transaction, &known, now)?;
            transaction.commit()?;
            Ok(Ok(UnregisterReply { name: known.name }))
        })
        .await;
    let outcome = ended.map_err(|error| internal(&error))?;
    // Its jobs have failed, its items are gone, and waiting pages and its own request for jobs want to know.
    Topic::ALL.into_iter().for_each(|topic| shared.changes.tell(topic));
    note(&shared, &peer, &request.host, "unregistered", outcome.as_ref().err()).await;
    outcome
}

async fn note(shared: &Shared, peer: &Peer, host: &Host, outcome: &'static str, refused: Option<&ApiError>) {
    let (outcome, detail) = match refused {
        None => (outcome, String::new()),
        Some(refused) => ("refused", refused.to_string()),
    };
    shared.note(peer.address.to_string(), host.name.chars().take(253).collect(), outcome, detail).await;
}
