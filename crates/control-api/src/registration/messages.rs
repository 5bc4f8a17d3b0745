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
    decode_within(body, MAX_BODY)
}

/// The same, for a body that may have so many bytes.
pub fn decode_within<T: DeserializeOwned>(body: &[u8], limit: usize) -> Result<T, String> {
    if body.len() > limit {
        return Err(format!("it is longer than {limit} bytes"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::HostKind;
    use std::fmt::Debug;

    fn host() -> Host {
        Host {
            kind: HostKind::MasterTarget,
            name: "mt01.example".into(),
            dmi_uuid: None,
            machine_id: "0123456789abcdef0123456789abcdef".into(),
            version: "9.4.0".into(),
            addresses: vec!["10.0.0.5".parse().unwrap()],
        }
    }

    const HOST: &str = r#"{"kind":"master-target","name":"mt01.example","dmi_uuid":null,"machine_id":"0123456789abcdef0123456789abcdef","version":"9.4.0","addresses":["10.0.0.5"]}"#;

    fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(message: &T, text: &str) {
        assert_eq!(serde_json::to_string(message).unwrap(), text);
        assert_eq!(&decode::<T>(text.as_bytes()).unwrap(), message);
    }

    /// The forms stay: hosts and servers of different versions have to understand each other.
    #[test]
    fn each_message_is_as_documented() {
        let bytes = |byte| Hex(vec![byte; 2]);
        let sealed = || Sealed { text: "{}".into(), tag: bytes(9) };
        golden(&StartRequest { hello: bytes(1) }, r#"{"hello":"0101"}"#);
        golden(&StartReply { reply: bytes(1), ca: bytes(2) }, r#"{"reply":"0101","ca":"0202"}"#);
        golden(
            &FinishRequest { proof: bytes(3), request: sealed() },
            r#"{"proof":"0303","request":{"text":"{}","tag":"0909"}}"#,
        );
        golden(&FinishReply { answer: sealed() }, r#"{"answer":{"text":"{}","tag":"0909"}}"#);
        let key = || HostKey { public: bytes(4), signature: bytes(5) };
        let earlier = Some(EarlierKey { certificate: bytes(6), signature: bytes(7) });
        let request = RegistrationRequest { host: host(), time: 17, key: key(), earlier };
        let key_text = r#""key":{"public":"0404","signature":"0505"}"#;
        golden(
            &request,
            &format!(
                r#"{{"host":{HOST},"time":17,{key_text},"earlier":{{"certificate":"0606","signature":"0707"}}}}"#
            ),
        );
        let without = RegistrationRequest { earlier: None, ..request };
        golden(&without, &format!(r#"{{"host":{HOST},"time":17,{key_text}}}"#));
        let renewal = RenewalRequest { host: host(), time: 17, key: key() };
        golden(&renewal, &format!(r#"{{"host":{HOST},"time":17,{key_text}}}"#));
        let certificate = Certificate { der: bytes(8), valid_until: 18 };
        let answer =
            RegistrationAnswer { host_id: "id".into(), known: false, certificate, version: "9.4.0".into() };
        golden(
            &answer,
            r#"{"host_id":"id","known":false,"certificate":{"der":"0808","valid_until":18},"version":"9.4.0"}"#,
        );
        golden(&UnregisterRequest { host: host() }, &format!(r#"{{"host":{HOST}}}"#));
        golden(&UnregisterReply { name: "mt01".into() }, r#"{"name":"mt01"}"#);
    }

    #[test]
    fn requests_are_strict_and_bodies_limited() {
        assert!(decode::<StartRequest>(br#"{"hello":"01","more":1}"#).is_err());
        assert!(decode::<StartReply>(br#"{"reply":"01","ca":"02","more":1}"#).is_ok());
        let long = format!(r#"{{"hello":"{}"}}"#, "00".repeat(MAX_BODY));
        assert!(decode::<StartRequest>(long.as_bytes()).unwrap_err().contains("longer than"));
    }

    #[test]
    fn what_is_signed_for_one_purpose_is_nothing_for_another() {
        assert_ne!(host_key_text(&[1; 32], &[]), earlier_key_text(&[1; 32]));
        assert_ne!(host_key_text(&[1; 32], &[2]), host_key_text(&[2; 32], &[2]));
    }
}
