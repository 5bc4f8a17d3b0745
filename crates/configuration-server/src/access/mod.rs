//! Who may do what: users and their roles, sessions, and what each answer tells browsers to forbid.
//!
//! A user logs in with a password, of which the store keeps an argon2id hash ([`password`]), and gets a token of 256 bits
//! ([`session`]); the store keeps its SHA-256, so who reads the store can use neither. The portal has the token in a
//! cookie, programs send it as `Authorization: Bearer`. Each route says whom it answers ([`guard::Access`]), and the
//! guard in front of it lets nobody else through, so a handler that forgets to ask gives nothing away. What comes with
//! the cookie and changes something must show that a page of the portal sent it ([`guard`]). [`headers`] are the same
//! for all answers.
//!
//! What must hold: guesses are rationed by address, over restarts, and cost the same whether the user exists or not. At
//! most one password is hashed at a time, and few wait, so memory is bounded. A password or token is in no log. A
//! session ends with the password or the role that it began with.

pub(crate) mod first;
mod guard;
mod headers;
mod password;
mod role;
mod session;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use guard::{Access, guard, refusal};
pub(crate) use headers::strict;
pub(crate) use password::{Password, hash};
pub(crate) use role::{Caller, Role};
pub(crate) use session::{LoggedIn, cookie, log_in, log_out, who};
