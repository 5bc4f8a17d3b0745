//! Registering, step by step.

use crate::error::{Error, Result};
use crate::identity::{Draft, Identity, Registration, fingerprint};
use crate::server::connection::{Connection, connect};
use crate::server::http::Reply;
use crate::server::{Server, shown, trust, version};
use control_api::registration::handshake::{Binding, Client, Sender, Session};
use control_api::registration::{
    EXPORTER_LENGTH, EarlierKey, FINISH_PATH, FinishReply, FinishRequest, Hex, Host, HostKey, Passphrase,
    RegistrationAnswer, RegistrationRequest, START_PATH, StartReply, StartRequest, decode, earlier_key_text,
    host_key_text,
};
use control_api::time::{SECOND, Time};
use control_api::{ApiError, Release};
use rand_core::OsRng;
use rcgen::{KeyPair, SigningKey};
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// A registration that is wanted.
pub struct Order<'a> {
    /// The configuration server.
    pub server: &'a Server,
    /// What both know.
    pub passphrase: &'a Passphrase,
    /// Who this machine is.
    pub host: Host,
    /// Where its identity is kept.
    pub state: &'a Path,
    /// Take the place of a registration with another configuration server.
    pub replace: bool,
}

/// What goes on, for people to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// This begins now.
    Begins(&'static str),
    /// It is done; what came of it.
    Done(String),
}

/// What came of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// What was written down.
    pub registration: Registration,
    /// True when the configuration server knew the machine before.
    pub known: bool,
}

/// Registers this machine.
pub fn register(order: &Order<'_>, told: &mut dyn FnMut(Step)) -> Result<Registered> {
    told(Step::Begins("New key, and room for the identity"));
    // An identity that is damaged is replaced like one that was lost.
    let earlier = Identity::open(order.state).unwrap_or(None);
    let draft = Draft::make(order.state)?;
    told(Step::Done(order.state.display().to_string()));

    let mut talk = Talk::open(order, told)?;
    if let Some(ca) = talk.connection.chain().get(1) {
        check_authority(order, earlier.as_ref(), &fingerprint(ca))?;
    }

    told(Step::Begins("Both know the passphrase"));
    let (session, proof, ca) = talk.prove(order)?;
    let authority = fingerprint(&ca.0);
    check_authority(order, earlier.as_ref(), &authority)?;
    told(Step::Done(format!("authority {}", short(&authority))));

    told(Step::Begins("Certificate"));
    let earlier = earlier.filter(|earlier| earlier.registration.authority == authority);
    let request = talk.request(order, &draft.key, earlier.as_ref())?;
    let answer = talk.finish(&session, proof, request)?;
    check_certificate(&talk.server, &answer, &draft.key)?;
    told(Step::Done(format!("valid until {}", control_api::time::format(answer.certificate.valid_until))));

    told(Step::Begins("Identity written"));
    let registration = Registration {
        server: order.server.address.clone(),
        port: order.server.port,
        authority,
        host_id: answer.host_id,
        name: order.host.name.clone(),
        kind: order.host.kind,
        issued: now(),
        valid_until: answer.certificate.valid_until,
    };
    draft.complete(&answer.certificate.der.0, &ca.0, &registration)?;
    told(Step::Done(order.state.join(crate::IDENTITY).display().to_string()));
    Ok(Registered { registration, known: answer.known })
}

/// The first digits of a fingerprint.
fn short(fingerprint: &Hex) -> String {
    fingerprint.to_string().chars().take(16).collect()
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() * SECOND + u64::from(since.subsec_nanos())
}

/// Refuses another authority than at the last registration, unless it is to take its place.
fn check_authority(order: &Order<'_>, earlier: Option<&Identity>, seen: &Hex) -> Result<()> {
    let Some(known) = earlier.map(|earlier| &earlier.registration) else { return Ok(()) };
    if order.replace || known.authority == *seen {
        return Ok(());
    }
    let (server, known_authority, seen) =
        (shown(order.server), known.authority.to_string(), seen.to_string());
    let there = Server { address: known.server.clone(), port: known.port };
    Err(match there == *order.server {
        true => Error::OtherAuthority { server, known_authority, seen },
        false => Error::RegisteredElsewhere { known: shown(&there), known_authority, server, seen },
    })
}

/// A certificate that is for another key would only fail later.
fn check_certificate(server: &str, answer: &RegistrationAnswer, key: &KeyPair) -> Result<()> {
    let (der, public) = (&answer.certificate.der.0, key.public_key_raw());
    match der.windows(public.len()).any(|window| window == public) {
        true => Ok(()),
        false => Err(bad_answer(server, "the certificate is for another key")),
    }
}

pub(crate) fn bad_answer(server: &str, why: impl ToString) -> Error {
    Error::BadAnswer { server: server.to_owned(), why: why.to_string() }
}

/// A connection on which a registration goes on.
struct Talk {
    server: String,
    connection: Connection,
    exporter: [u8; EXPORTER_LENGTH],
}

impl Talk {
    /// Connects, and looks who is there as far as that can be seen.
    fn open(order: &Order<'_>, told: &mut dyn FnMut(Step)) -> Result<Talk> {
        let server = shown(order.server);
        told(Step::Begins("Connection"));
        let stream = connect(order.server)?;
        let address = stream.peer_addr().map_or_else(|_| server.clone(), |address| address.to_string());
        told(Step::Done(address));
        told(Step::Begins("TLS"));
        let client = trust::anyone(&order.server.address);
        let mut connection = Connection::open(order.server, stream, client)?;
        let exporter = connection.exporter().ok_or_else(|| Error::OldTls { server: server.clone() })?;
        told(Step::Done("1.3; nothing is believed yet".into()));
        told(Step::Begins("Version"));
        let theirs = version(order.server, &mut connection, false, &mut None)?.version;
        check_version(&server, &order.host.version, &theirs)?;
        told(Step::Done(format!("{theirs}; here {}", order.host.version)));
        Ok(Talk { server, connection, exporter })
    }

    /// The handshake: when this succeeds, the server knows the passphrase, nobody is in between, and the authority is
    /// the server's.
    fn prove(&mut self, order: &Order<'_>) -> Result<(Session, Vec<u8>, Hex)> {
        let failed =
            |cause: control_api::registration::handshake::HandshakeError| Error::Crypto(cause.to_string());
        let (client, hello) = Client::start(&mut OsRng, order.passphrase).map_err(failed)?;
        let reply: StartReply = self.post(START_PATH, &StartRequest { hello: Hex(hello) })?;
        let binding = Binding { exporter: self.exporter, ca: reply.ca.0.clone() };
        let (session, proof) =
            client.finish(&mut OsRng, &reply.reply.0, &binding).map_err(|_| self.not_proved(&reply.ca.0))?;
        Ok((session, proof, reply.ca))
    }

    /// Why the handshake failed, as far as that can be seen. Who relays what the server says cannot show a certificate
    /// that the server's authority signed.
    fn not_proved(&self, ca: &[u8]) -> Error {
        let (server, chain) = (self.server.clone(), self.connection.chain());
        let print = |der: Option<&CertificateDer<'_>>| fingerprint(der.map_or(&[], |der| der)).to_string();
        match chain.first() {
            Some(shown) if !trust::is_signed_by(shown, ca) => {
                Error::InBetween { server, shown: print(Some(shown)) }
            }
            _ => Error::NotProved { server, seen: fingerprint(ca).to_string() },
        }
    }

    fn request(
        &self,
        order: &Order<'_>,
        key: &KeyPair,
        earlier: Option<&Identity>,
    ) -> Result<RegistrationRequest> {
        let earlier = match earlier {
            Some(earlier) => {
                let signature = sign(&earlier.key()?, &earlier_key_text(&self.exporter))?;
                Some(EarlierKey { certificate: fingerprint(&earlier.certificate), signature })
            }
            None => None,
        };
        Ok(RegistrationRequest {
            host: order.host.clone(),
            time: now(),
            key: host_key(key, &self.exporter)?,
            earlier,
        })
    }

    fn finish(
        &mut self,
        session: &Session,
        proof: Vec<u8>,
        request: RegistrationRequest,
    ) -> Result<RegistrationAnswer> {
        let text = serde_json::to_string(&request).map_err(|cause| Error::Crypto(cause.to_string()))?;
        let request = FinishRequest { proof: Hex(proof), request: session.seal(Sender::Host, text) };
        let reply: FinishReply = self.post(FINISH_PATH, &request)?;
        let text =
            session.open(Sender::Server, &reply.answer).map_err(|cause| bad_answer(&self.server, cause))?;
        decode(text.as_bytes()).map_err(|why| bad_answer(&self.server, why))
    }

    fn post<T: DeserializeOwned>(&mut self, path: &str, request: &impl Serialize) -> Result<T> {
        post(&self.server, &mut self.connection, path, request)
    }
}

fn check_version(server: &str, ours: &str, theirs: &str) -> Result<()> {
    let (Some(our_release), Some(their_release)) = (Release::parse(ours), Release::parse(theirs)) else {
        return Err(bad_answer(server, format!("the versions {ours} and {theirs} cannot be compared")));
    };
    match our_release <= their_release {
        true => Ok(()),
        false => Err(Error::VersionTooNew {
            server: server.to_owned(),
            ours: ours.to_owned(),
            theirs: theirs.to_owned(),
            release: their_release.to_string(),
        }),
    }
}

/// Sends a request and reads its answer, or why it is refused.
pub(crate) fn post<T: DeserializeOwned>(
    server: &str,
    connection: &mut Connection,
    path: &str,
    request: &impl Serialize,
) -> Result<T> {
    let body = serde_json::to_vec(request).map_err(|cause| Error::Crypto(cause.to_string()))?;
    understood(server, path, &connection.exchange(path, Some(&body), false)?)
}

/// What an answer says, or why the request is refused.
pub(crate) fn understood<T: DeserializeOwned>(server: &str, path: &str, reply: &Reply) -> Result<T> {
    let Reply { status, body, .. } = reply;
    if *status == 200 {
        return decode(body).map_err(|why| bad_answer(server, why));
    }
    match decode::<ApiError>(body) {
        Ok(refused) => Err(Error::Refused(Box::new(refused))),
        Err(_) => Err(bad_answer(server, format!("status {status} to {path}"))),
    }
}

/// The public half of a key, with the proof that we hold the other.
pub(crate) fn host_key(key: &KeyPair, exporter: &[u8]) -> Result<HostKey> {
    let public = Hex::from(key.public_key_raw());
    let signature = sign(key, &host_key_text(exporter, &public.0))?;
    Ok(HostKey { public, signature })
}

fn sign(key: &KeyPair, text: &[u8]) -> Result<Hex> {
    key.sign(text).map(Hex).map_err(|cause| Error::Crypto(cause.to_string()))
}
