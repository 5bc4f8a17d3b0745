//! How a host becomes known to a configuration server: the handshake, and the JSON that goes with it.
//!
//! A host that registers trusts nobody yet, and nobody trusts it. All that both have is a passphrase, so each proves to
//! the other that it knows it, by a PAKE (OPAQUE, RFC 9807): nothing that is sent lets anybody who does not know the
//! passphrase try guesses, except one guess for each handshake that he takes part in. The proof covers the TLS
//! connection that it is made over (its exporter, RFC 8446 section 7.5) and the authority that the configuration server
//! announced; so whoever opens the TLS in between, however faithfully he relays, makes the proof fail on both sides.
//!
//! Three things follow one another on one connection: [`StartRequest`] and [`StartReply`], which let the host decide
//! whether the server knows the passphrase; [`FinishRequest`], by which the host proves the same and hands over its
//! public key; [`FinishReply`] with its certificate. What the last two carry is sealed under the key that the handshake
//! made. The private key never leaves the host. From then on there is mutual TLS, and nothing unverified.
//!
//! [`handshake`] is plain functions of bytes: it opens no socket, reads no clock, and takes its randomness from the
//! caller. `docs/formats/registration.md` draws what goes over the wire.

pub mod handshake;
mod hex;
mod host;
mod messages;
mod passphrase;

pub use hex::{Hex, MAX_HEX};
pub use host::{FieldError, Host, HostKind, MAX_ADDRESSES, RESERVED_DOMAIN, SERVER_NAME, valid_host_name};
pub use messages::{
    Certificate, EarlierKey, FinishReply, FinishRequest, HostKey, MAX_BODY, RegistrationAnswer,
    RegistrationRequest, RenewalRequest, StartReply, StartRequest, UnregisterReply, UnregisterRequest,
    decode, decode_within, earlier_key_text, host_key_text,
};
pub use passphrase::{PASSPHRASE_LENGTH, Passphrase, PassphraseError};
/// What a source of randomness has to be.
pub use rand_core;

/// Begins a registration.
pub const START_PATH: &str = "/api/v1/registration/start";
/// Completes it, on the same connection.
pub const FINISH_PATH: &str = "/api/v1/registration/finish";
/// Exchanges a certificate for a newer one; over mutual TLS.
pub const RENEW_PATH: &str = "/api/v1/certificate/renew";
/// Gives up a registration; over mutual TLS.
pub const UNREGISTER_PATH: &str = "/api/v1/registration/end";

/// Label of the TLS exporter that registrations and key proofs are bound to; there is no context.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-master-target-registration";
/// Bytes that are taken from the exporter.
pub const EXPORTER_LENGTH: usize = 32;

/// How far the clocks of a host and its configuration server may be apart, in nanoseconds: five minutes.
pub const MAX_CLOCK_SKEW: u64 = 300 * crate::time::SECOND;
