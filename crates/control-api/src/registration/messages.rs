//! The JSON of registration, renewal and its end.

use super::handshake::Sealed;
use super::{Hex, Host};
use crate::time::Time;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The longest body of a request or an answer, in bytes.
pub const MAX_BODY: usize = 64 << 10;

/// Begins a registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartRequest {
    /// First message of the handshake.
    pub hello: Hex,
}

/// The configuration server's part of the handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartReply {
    /// Second message of the handshake.
    pub reply: Hex,
    /// Certificate of its authority, in DER. It is to be believed only after the second message has proved it.
    pub ca: Hex,
}

/// The host's proof, and what it wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinishRequest {
    /// Third message of the handshake.
    pub proof: Hex,
    /// A [`RegistrationRequest`].
    pub request: Sealed,
}

/// The configuration server's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishReply {
    /// A [`RegistrationAnswer`].
    pub answer: Sealed,
}

/// A key that a certificate is wanted for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostKey {
    /// The public key: a point of NIST P-256, uncompressed, 65 bytes.
    pub public: Hex,
    /// ECDSA signature with SHA-256, in DER, by the private key over [`host_key_text`].
    pub signature: Hex,
}

/// Proof that a host holds the key of a certificate that it was given earlier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlierKey {
    /// SHA-256 of the certificate in DER.
    pub certificate: Hex,
    /// ECDSA signature with SHA-256, in DER, by its private key over [`earlier_key_text`].
    pub signature: Hex,
}

/// What a host asks for when it registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrationRequest {
    /// Who it is.
    pub host: Host,
    /// Its clock.
    pub time: Time,
    /// Its key.
    pub key: HostKey,
    /// When it has a certificate of this configuration server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<EarlierKey>,
}

/// A certificate that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// In DER.
    pub der: Hex,
    /// Until when it is valid.
    pub valid_until: Time,
}

/// What a host gets when it has registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationAnswer {
    /// Its id at the configuration server; it stays the same when the host registers again.
    pub host_id: String,
    /// True when the configuration server knew it before.
    pub known: bool,
    /// Its certificate.
    pub certificate: Certificate,
    /// Version of the configuration server.
    pub version: String,
}

/// Exchanges a certificate for a newer one. The answer is a [`Certificate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewalRequest {
    /// Who asks.
    pub host: Host,
    /// Its clock.
    pub time: Time,
    /// Its new key.
    pub key: HostKey,
}

/// Gives up a registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnregisterRequest {
    /// Who asks.
    pub host: Host,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnregisterReply {
    /// Name of the host whose certificates are revoked.
    pub name: String,
}

/// Reads the JSON of a body. Its length is looked at first; why it cannot be read is told in words.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    if body.len() > MAX_BODY {
        return Err(format!("it is longer than {MAX_BODY} bytes"));
    }
    serde_json::from_slice(body).map_err(|cause| cause.to_string())
}

/// What the owner of a new key signs: that it is the one of this key, on this connection (its exporter).
pub fn host_key_text(exporter: &[u8], public_key: &[u8]) -> Vec<u8> {
    [b"master-target host key 1\0", exporter, public_key].concat()
}

/// What the owner of an earlier key signs, on this connection (its exporter).
pub fn earlier_key_text(exporter: &[u8]) -> Vec<u8> {
    [b"master-target earlier key 1\0", exporter].concat()
}
