//! The configuration server: `mt-configserver`.
//!
//! It is the control plane: it knows which master targets and source agents there are, and signs the certificates that
//! they trust each other by. A host joins by a passphrase that this server made at its first start
//! ([`control_api::registration`] tells how), and is from then on known by its certificate, which lasts 90 days and is
//! renewed over mutual TLS.
//!
//! The parts: `config` is one small file. `state` and `authority` are what the first start makes and every later one
//! finds again: the passphrase, and the key that signs. `store` is SQLite on threads of its own: hosts, certificates,
//! failed attempts by address, and an audit of everything that was asked for. `rule` decides who a host is, without
//! looking anywhere: a new one, one that comes back, or a copy of another. `fleet` is what registered hosts tell, or that
//! they tell nothing any more: items, alerts, events. `notify` delivers events by mail and webhook. `server` is TLS, HTTP
//! and the routes, and [`commands`] what is typed on the server itself; those open the store by themselves and work while
//! the server does not run; while it does, it hears of them by what they write into the audit.
//!
//! What must hold: an answer that says "registered" is sent only after the host is on the disk. A certificate counts
//! only as long as the store says so, which is asked at each request. A guess at the passphrase costs one handshake,
//! and handshakes of an address that fails are rationed. Nothing that a peer sends makes memory grow: bodies,
//! connections, open handshakes, addresses that failed, and the audit all have limits.

mod access;
mod authority;
mod backup;
pub mod commands;
mod config;
mod fleet;
mod notify;
mod rule;
mod server;
mod state;
mod store;

pub use config::{Config, DEFAULT_PATH};
pub use notify::settings;
pub use server::{Environment, serve};
pub use state::PASSPHRASE_FILE;
