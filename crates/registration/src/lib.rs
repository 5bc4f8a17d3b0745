//! The host's side of registration: it talks to a configuration server, and keeps the identity that comes of it.
//!
//! Master targets and source agents register in the same way, so both have it from here. [`register`] goes the whole way:
//! it makes a key, opens a TLS connection in which it believes nothing yet, compares versions, runs the handshake of
//! [`control_api::registration`] bound to that connection, and only when the configuration server has proved that it
//! knows the passphrase sends its public key, believes the authority and writes down the certificate. [`renew`] and
//! [`unregister`] go over mutual TLS. Each tells its steps as it goes, and each thing that can go wrong has an [`Error`]
//! of its own that says what to do, in the parts of an [`Explanation`].
//!
//! [`command`] is what the commands of the programs have in common. [`link`] is the conversation that a registered machine keeps up: heartbeats and jobs.
//!
//! [`server`] is how a server is reached and what it is asked before anything is trusted; `mtctl check` uses it too.
//! [`Identity`] is what lies on the disk: a crash leaves the old one or the new one, never half of each. [`host`] and
//! [`passphrase`] read the machine. Everything blocks, with time limits; it is called from command lines and from
//! threads of their own.

pub mod command;
mod error;
mod explain;
mod identity;
mod layout;
pub mod link;
mod machine;
mod register;
mod registered;
pub mod server;

pub use error::{Error, Result};
pub use explain::Explanation;
pub use identity::{CA_FILE, CERTIFICATE_FILE, IDENTITY, Identity, KEY_FILE, Registration, fingerprint};
pub use machine::{host, passphrase};
pub use register::{Order, Registered, Step, register};
pub use registered::{Unregistered, renew, renew_if_due, unregister};
