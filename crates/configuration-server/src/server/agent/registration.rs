//! Registration: the handshake, then who the host is, then its certificate.

use crate::authority::Authority;
use crate::rule::{self, Facts};
use crate::server::api::{Here, bad_request, internal};
use crate::server::changes::Topic;
use crate::server::{Peer, Shared};
use crate::state;
use crate::store::hosts::{self, Known, Signed};
use crate::store::{attempts, audit};
use anyhow::Result;
use control_api::registration::handshake::{Binding, Sender, Server, Session};
use control_api::registration::{
    Certificate, EarlierKey, FinishReply, FinishRequest, Hex, Host, HostKey, RegistrationAnswer,
    RegistrationRequest, StartReply, StartRequest, decode, earlier_key_text, host_key_text,
};
use control_api::time::Time;
use control_api::{ApiError, ErrorCode};
use rand_core::{OsRng, RngCore};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rusqlite::{Connection, TransactionBehavior};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// Time between the first and the third message.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(60);

/// A handshake that was begun on a connection.
pub(in crate::server) struct Begun {
    server: Server,
    since: Instant,
}

/// The first message: answered unless the address is locked out.
pub(in crate::server) async fn start(here: Here, request: StartRequest) -> Result<StartReply, ApiError> {
    let Here { shared, peer } = here;
    let (now, address, folder) =
        (shared.now(), attempts::counted(peer.address), shared.config.state_folder.clone());
    let counted = address.clone();
    let admitted = shared
        .store
        .with(move |connection| {
            let admitted = attempts::begin(connection, now, &counted)?;
            let passphrase = state::passphrase(&folder)?;
            Ok(admitted.map(|()| passphrase))
        })
        .await;
    let passphrase = match admitted.map_err(|error| internal(&error))? {
        Ok(passphrase) => passphrase,
        Err(locked) => {
            if locked.first {
                let detail = format!("for {} s more", locked.seconds);
                shared.note(address.clone(), String::new(), "locked out", detail).await;
            }
            return Err(locked_out(&address, locked.seconds));
        }
    };
    let binding = Binding { exporter: peer.exporter, ca: shared.authority.certificate().to_vec() };
    let (server, reply) = match Server::start(&mut OsRng, &passphrase, &request.hello.0, &binding) {
        Ok(started) => started,
        Err(cause) => {
            shared.note(address, String::new(), "refused", cause.to_string()).await;
            return Err(bad_request(cause));
        }
    };
    let begun = Begun { server, since: Instant::now() };
    let replaced = peer.begun.lock().unwrap_or_else(PoisonError::into_inner).replace(begun);
    if replaced.is_some() {
        note_given_up(&shared, &peer).await;
    }
    Ok(StartReply { reply: Hex(reply), ca: Hex(binding.ca) })
}

fn locked_out(address: &str, seconds: u64) -> ApiError {
    let mut refused = ApiError::new(
        ErrorCode::LockedOut,
        address,
        "this address is locked out",
        "too many registrations from it failed, most likely by a wrong passphrase",
        format!(
            "copy the passphrase again: `mt-configserver passphrase show`, on the configuration server; try again in \
             {seconds} s: nobody has to let this address in, but each further failure doubles the time"
        ),
    );
    refused.retry_after = Some(seconds);
    refused
}

/// The third message, and what the host wants.
pub(in crate::server) async fn finish(here: Here, request: FinishRequest) -> Result<FinishReply, ApiError> {
    let Here { shared, peer } = here;
    let Some(begun) = peer.take_begun() else {
        return Err(bad_request("no handshake was begun on this connection"));
    };
    if begun.since.elapsed() > HANDSHAKE_LIMIT {
        note_given_up(&shared, &peer).await;
        return Err(bad_request("the handshake was begun more than a minute ago"));
    }
    let Ok(session) = begun.server.finish(&request.proof.0) else {
        let detail = "the third message of the handshake is wrong".to_owned();
        shared.note(peer.address.to_string(), String::new(), "not proved", detail).await;
        return Err(not_proved());
    };
    let (name, outcome) = match opened(&session, &request) {
        Ok(wanted) => (wanted.host.name.clone(), register(&shared, &peer, wanted).await),
        Err(why) => (String::new(), Err(bad_request(why))),
    };
    match &outcome {
        // That was written down with the host, in one transaction.
        Ok(answer) => tracing::info!(host = name, id = answer.host_id, known = answer.known, "registered"),
        Err(refused) => {
            let name = name.chars().take(253).collect();
            shared.note(peer.address.to_string(), name, "refused", refused.to_string()).await;
        }
    }
    let text = serde_json::to_string(&outcome?).map_err(|cause| internal(&cause.into()))?;
    Ok(FinishReply { answer: session.seal(Sender::Server, text) })
}

/// What is in the sealed text, once it is known whose it is.
fn opened(session: &Session, request: &FinishRequest) -> Result<RegistrationRequest, String> {
    let text = session.open(Sender::Host, &request.request).map_err(|cause| cause.to_string())?;
    decode(text.as_bytes())
}

fn not_proved() -> ApiError {
    ApiError::new(
        ErrorCode::WrongPassphrase,
        "the registration",
        "the passphrase was not proved",
        "the passphrase is another one, or something between the two machines opens the TLS connection",
        "copy the passphrase again: `mt-configserver passphrase show`, on the configuration server",
    )
}

/// A connection has ended: a handshake that was begun on it and not completed was a guess, or a host that lost its way.
pub(in crate::server) async fn left(shared: &Shared, peer: &Peer) {
    if peer.take_begun().is_some() {
        note_given_up(shared, peer).await;
    }
}

async fn note_given_up(shared: &Shared, peer: &Peer) {
    let detail = "the host gave up after the second message, as with a wrong passphrase".to_owned();
    shared.note(peer.address.to_string(), String::new(), "not proved", detail).await;
}

async fn register(
    shared: &Shared,
    peer: &Peer,
    wanted: RegistrationRequest,
) -> Result<RegistrationAnswer, ApiError> {
    let (now, address) = (shared.now(), peer.address.to_string());
    let counted = attempts::counted(peer.address);
    // It knew the passphrase, whatever else may be wrong.
    let forgiven = shared.store.with(move |connection| Ok(attempts::succeeded(connection, &counted)?)).await;
    forgiven.map_err(|error| internal(&error))?;
    wanted.host.check().map_err(bad_request)?;
    rule::check_version(&wanted.host, &shared.environment.version)?;
    rule::check_clock(&wanted.host, wanted.time, now)?;
    check_key(&wanted.key, &peer.exporter)?;
    let (authority, exporter) = (shared.authority.clone(), peer.exporter);
    let accepted = shared
        .store
        .with(move |connection| accept(connection, &authority, &wanted, &exporter, &address, now))
        .await;
    let (id, known, certificate) = accepted.map_err(|error| internal(&error))??;
    shared.changes.tell(Topic::Hosts);
    Ok(RegistrationAnswer { host_id: id, known, certificate, version: shared.environment.version.clone() })
}

/// Whether the host holds the private key that belongs to the public one.
pub(super) fn check_key(key: &HostKey, exporter: &[u8]) -> Result<(), ApiError> {
    let text = host_key_text(exporter, &key.public.0);
    verified(&key.public.0, &text, &key.signature.0)
        .then_some(())
        .ok_or_else(|| bad_request("key: it does not prove that the host holds its private key"))
}

fn verified(public_key: &[u8], text: &[u8], signature: &[u8]) -> bool {
    // 65 bytes are the uncompressed form, the only one that certificates carry here.
    public_key.len() == 65
        && UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public_key).verify(text, signature).is_ok()
}

type Accepted = Result<(String, bool, Certificate), ApiError>;

/// Decides who the host is and writes it down, all in one transaction.
fn accept(
    connection: &mut Connection,
    authority: &Authority,
    wanted: &RegistrationRequest,
    exporter: &[u8],
    address: &str,
    now: Time,
) -> Result<Accepted> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let host = &wanted.host;
    let holder = match &wanted.earlier {
        Some(earlier) => holder(&transaction, earlier, exporter, host, now)?,
        None => None,
    };
    let (same, named) = (hosts::of_machine(&transaction, host)?, hosts::named(&transaction, &host.name)?);
    let facts = Facts { host, holder: holder.as_ref(), same: same.as_ref(), named: &named };
    let known = match facts.decide(now) {
        Ok(known) => known,
        Err(refused) => return Ok(Err(refused)),
    };
    let id = known.map_or_else(new_id, |known| known.id.clone());
    let row = hosts::put(&transaction, known, host, &id, address, now)?;
    let certificate = sign(&transaction, authority, row, host, &wanted.key.public.0, now)?;
    let outcome = if known.is_some() { "registered again" } else { "registered" };
    let entry = audit::Entry {
        time: now,
        address: address.to_owned(),
        host: host.name.clone(),
        outcome: outcome.to_owned(),
        detail: format!("{} {id}, version {}", host.kind, host.version),
    };
    audit::add(&transaction, &entry)?;
    let known = known.is_some();
    transaction.commit()?;
    Ok(Ok((id, known, certificate)))
}

/// The host of the same kind whose earlier key this one holds, if that counts.
fn holder(
    connection: &Connection,
    earlier: &EarlierKey,
    exporter: &[u8],
    host: &Host,
    now: Time,
) -> Result<Option<Known>> {
    let found = hosts::of_certificate(connection, &earlier.certificate.0)?;
    let proved = found.filter(|holder| {
        holder.is_live(now)
            && holder.known.kind == host.kind
            && verified(&holder.public_key, &earlier_key_text(exporter), &earlier.signature.0)
    });
    Ok(proved.map(|holder| holder.known))
}

/// Signs a certificate and writes it down.
pub(super) fn sign(
    connection: &Connection,
    authority: &Authority,
    row: i64,
    host: &Host,
    public_key: &[u8],
    now: Time,
) -> Result<Certificate> {
    let issued = authority.issue(host, public_key, now)?;
    let signed = Signed {
        serial: &issued.serial,
        fingerprint: &issued.fingerprint,
        public_key,
        issued: now,
        valid_until: issued.valid_until,
    };
    hosts::add_certificate(connection, row, &signed)?;
    Ok(Certificate { der: Hex(issued.der), valid_until: issued.valid_until })
}

fn new_id() -> String {
    let mut bytes = [0; 16];
    OsRng.fill_bytes(&mut bytes);
    Hex::from(bytes.as_slice()).to_string()
}
