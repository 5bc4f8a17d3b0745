//! The handshake: three messages, and a key to seal what follows.
//!
//! ```text
//! host                                             configuration server
//! Client::start ── hello (96 bytes) ──────────▶    Server::start
//! Client::finish ◀── reply (320 bytes) ────────
//!    wrong passphrase, or another channel: it ends here, and nothing was given away
//!                ── proof (64 bytes) ──────────▶   Server::finish
//! Session ◀═══════════ sealed texts ═════════════▶ Session
//! ```
//!
//! This is OPAQUE-3DH of RFC 9807 with ristretto255 and SHA-512. OPAQUE lets a server know less than the password; ours
//! knows the passphrase, so it makes the record that OPAQUE wants anew for each handshake, and keeps nothing. There is
//! no stretching: passphrases are random, with more than 80 bits.
//!
//! What both must agree on beside the passphrase is the [`Binding`]; it goes into OPAQUE's context.

use super::{EXPORTER_LENGTH, Hex, Passphrase};
use opaque_ke::key_exchange::tripledh::TripleDh;
use opaque_ke::{
    CipherSuite, ClientLogin, ClientLoginFinishParameters, ClientRegistration,
    ClientRegistrationFinishParameters, CredentialFinalization, CredentialRequest, CredentialResponse,
    Ristretto255, ServerLogin, ServerLoginParameters, ServerRegistration, ServerSetup,
};
use rand_core::{CryptoRng, RngCore};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Length of the first message, in bytes.
pub const HELLO_LENGTH: usize = 96;
/// Length of the second.
pub const REPLY_LENGTH: usize = 320;
/// Length of the third.
pub const PROOF_LENGTH: usize = 64;

const CONTEXT: &[u8] = b"master-target registration 1";
const NAME: &[u8] = b"master-target";

struct Suite;

impl CipherSuite for Suite {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, sha2::Sha512>;
    type Ksf = opaque_ke::ksf::Identity;
}

/// Why a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// A message that cannot be one of the handshake: the peer's fault.
    #[error("{message} is not a message of the registration handshake")]
    Malformed {
        /// Which.
        message: &'static str,
    },
    /// The other side does not know the passphrase, or speaks over another connection, or announced another authority.
    #[error("the other side did not prove that it knows the passphrase and sees this same connection")]
    NotProved,
    /// A sealed text was changed.
    #[error("what was sent after the handshake has been changed on the way")]
    Changed,
}

type Result<T> = std::result::Result<T, HandshakeError>;

/// What a handshake is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// From the TLS connection: [`super::EXPORTER_LABEL`], no context.
    pub exporter: [u8; EXPORTER_LENGTH],
    /// Certificate of the configuration server's authority, in DER.
    pub ca: Vec<u8>,
}

impl Binding {
    fn context(&self) -> Vec<u8> {
        [CONTEXT, &self.exporter, blake3::hash(&self.ca).as_bytes()].concat()
    }
}

/// The host's side.
pub struct Client {
    passphrase: Passphrase,
    state: ClientLogin<Suite>,
}

impl Client {
    /// Begins; the bytes are the first message.
    pub fn start(
        random: &mut (impl RngCore + CryptoRng),
        passphrase: &Passphrase,
    ) -> Result<(Client, Vec<u8>)> {
        let started = ClientLogin::<Suite>::start(random, passphrase.reveal().as_bytes())
            .map_err(|_| HandshakeError::NotProved)?;
        let client = Client { passphrase: passphrase.clone(), state: started.state };
        Ok((client, started.message.serialize().to_vec()))
    }

    /// Takes the second message. When this succeeds, the server knows the passphrase and nobody is in between; the
    /// bytes are the third message.
    pub fn finish(
        self,
        random: &mut (impl RngCore + CryptoRng),
        reply: &[u8],
        binding: &Binding,
    ) -> Result<(Session, Vec<u8>)> {
        let reply = exactly(reply, REPLY_LENGTH)
            .and_then(|reply| CredentialResponse::deserialize(reply).ok())
            .ok_or(HandshakeError::Malformed { message: "the second message" })?;
        let context = binding.context();
        let parameters = ClientLoginFinishParameters { context: Some(&context), ..Default::default() };
        let finished = self
            .state
            .finish(random, self.passphrase.reveal().as_bytes(), reply, parameters)
            .map_err(|_| HandshakeError::NotProved)?;
        Ok((Session::new(&finished.session_key), finished.message.serialize().to_vec()))
    }
}

/// The configuration server's side, between the second and the third message.
pub struct Server {
    state: ServerLogin<Suite>,
    context: Vec<u8>,
}

impl Server {
    /// Takes the first message; the bytes are the second.
    pub fn start(
        random: &mut (impl RngCore + CryptoRng),
        passphrase: &Passphrase,
        hello: &[u8],
        binding: &Binding,
    ) -> Result<(Server, Vec<u8>)> {
        let hello = exactly(hello, HELLO_LENGTH)
            .and_then(|hello| CredentialRequest::deserialize(hello).ok())
            .ok_or(HandshakeError::Malformed { message: "the first message" })?;
        let context = binding.context();
        let parameters = ServerLoginParameters { context: Some(&context), ..Default::default() };
        let (setup, record) = record(random, passphrase).map_err(|_| HandshakeError::NotProved)?;
        let started = ServerLogin::start(random, &setup, Some(record), hello, NAME, parameters)
            .map_err(|_| HandshakeError::NotProved)?;
        let reply = started.message.serialize().to_vec();
        Ok((Server { state: started.state, context }, reply))
    }

    /// Takes the third message. When this succeeds, the host knows the passphrase and nobody is in between.
    pub fn finish(self, proof: &[u8]) -> Result<Session> {
        let proof = exactly(proof, PROOF_LENGTH)
            .and_then(|proof| CredentialFinalization::deserialize(proof).ok())
            .ok_or(HandshakeError::Malformed { message: "the third message" })?;
        let parameters = ServerLoginParameters { context: Some(&self.context), ..Default::default() };
        let finished = self.state.finish(proof, parameters).map_err(|_| HandshakeError::NotProved)?;
        Ok(Session::new(&finished.session_key))
    }
}

/// What OPAQUE's server keeps of a password, made from the passphrase itself.
fn record(
    random: &mut (impl RngCore + CryptoRng),
    passphrase: &Passphrase,
) -> std::result::Result<(ServerSetup<Suite>, ServerRegistration<Suite>), opaque_ke::errors::ProtocolError> {
    let password = passphrase.reveal().as_bytes();
    let setup = ServerSetup::<Suite>::new(random);
    let asked = ClientRegistration::<Suite>::start(random, password)?;
    let answered = ServerRegistration::start(&setup, asked.message, NAME)?;
    let parameters = ClientRegistrationFinishParameters::default();
    let finished = asked.state.finish(random, password, answered.message, parameters)?;
    Ok((setup, ServerRegistration::finish(finished.message)))
}

fn exactly(bytes: &[u8], length: usize) -> Option<&[u8]> {
    (bytes.len() == length).then_some(bytes)
}

/// Who sends a sealed text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The host.
    Host,
    /// The configuration server.
    Server,
}

/// A text under the key of a handshake. TLS hides it; the tag tells that it comes from who took part in the handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The text.
    pub text: String,
    /// 32 bytes.
    pub tag: Hex,
}

/// The key that a handshake made.
pub struct Session {
    host: Zeroizing<[u8; 32]>,
    server: Zeroizing<[u8; 32]>,
}

impl Session {
    fn new(key: &[u8]) -> Session {
        let derive = |sender| {
            Zeroizing::new(blake3::derive_key(&format!("master-target 2026 registration 1 {sender}"), key))
        };
        Session { host: derive("host"), server: derive("server") }
    }

    fn tag(&self, sender: Sender, text: &str) -> blake3::Hash {
        let key = match sender {
            Sender::Host => &self.host,
            Sender::Server => &self.server,
        };
        blake3::keyed_hash(key, text.as_bytes())
    }

    /// Seals a text.
    pub fn seal(&self, sender: Sender, text: String) -> Sealed {
        let tag = Hex::from(self.tag(sender, &text).as_bytes().as_slice());
        Sealed { text, tag }
    }

    /// The text, when it is what `sender` sealed.
    pub fn open<'a>(&self, sender: Sender, sealed: &'a Sealed) -> Result<&'a str> {
        let tag: [u8; 32] = sealed.tag.0.as_slice().try_into().map_err(|_| HandshakeError::Changed)?;
        // Comparing these takes the same time wherever they differ.
        match self.tag(sender, &sealed.text) == blake3::Hash::from_bytes(tag) {
            true => Ok(&sealed.text),
            false => Err(HandshakeError::Changed),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
