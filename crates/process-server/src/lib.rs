//! The process server: an optional relay between source agents and master targets.
//!
//! Sources that may not or cannot reach a master target directly connect to a process server, which takes what they send
//! in one place and hands it on, if wanted within a bandwidth that all of them share. It does not open what it relays: the
//! TLS session between source agent and master target stays end to end, so a process server can neither read nor change
//! a change stream, holds no key of one, and whoever takes it over has gained nothing but a place on the way.
//!
//! ```text
//!  source agent ── TLS 1.3 ──┐                                   ┌──▶ master target
//!                            │  hello: which name does it want?  │
//!                            └──▶ relay ──▶ pipe ◀──▶ bandwidth ─┘
//! ```
//!
//! [`hello`] reads the one thing that a TLS client says in the clear, the name of whom it wants; `relay` takes
//! connections, looks that name up in the [`config`] and connects there; `pipe` carries bytes both ways through buffers
//! of fixed size, so that a slow master target is felt by its sources and not kept in memory; `bandwidth` makes them wait
//! for each other; `book` keeps who is connected, within limits, and whom was refused. [`status`] tells of all that on a
//! local socket, [`run`] is the life of the process. [`register`] makes the machine known to a configuration server, which
//! `link` then tells that it lives; nothing that is relayed needs either.
//!
//! Nothing that is relayed is parsed beyond the hello, and nothing is kept: after a crash or a restart, sources connect
//! again and go on after what the master target has durably.

mod bandwidth;
mod book;
pub mod config;
pub mod hello;
mod link;
mod pipe;
pub mod register;
mod relay;
mod service;
pub mod status;

pub use service::run;
