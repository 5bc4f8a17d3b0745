//! What hosts ask for: to be registered, and, once they are, everything else, over mutual TLS.
//!
//! [`registration`] and [`certificates`] make and end an identity. [`heartbeat`] takes what a host tells of itself, and
//! [`jobs`] hands out orders and takes what becomes of them; at [`meet`] hosts wait for each other. Whether a certificate
//! counts is asked of the store at each request ([`certificates::presenter`]).

pub(super) mod certificates;
pub(super) mod heartbeat;
pub(super) mod jobs;
pub(super) mod meet;
pub(super) mod registration;

pub(super) use registration::Begun;
