//! Backups: everything that a configuration server is, in one file.
//!
//! An archive is a short header with a checksum ([`archive`]), and then a SQLite database: a copy of the store, made
//! while the server may run, with one more table that holds the other files of the state folder: key and certificate of
//! the authority, and the passphrase. Hosts know their server by its authority, so a server that was restored under the
//! same address is the one that they registered with. Nobody is logged in there.
//!
//! A restore ([`restore`]) first makes the whole new state in a folder beside the old one, and looks at it closely. Then
//! one rename decides; what is left to do after it can be done again and again, and is completed by the next start or
//! restore if this one was cut short. So a crash leaves the old state or the new one.

mod adopt;
mod archive;
mod create;
mod restore;

pub(crate) use adopt::adopt;
pub(crate) use create::create;
pub(crate) use restore::{complete, is_pending, prepare};

use crate::state::PASSPHRASE_FILE;

/// The table of files in the database of an archive.
const TABLE: &str = "backup_file";

/// The files that are in a backup beside the store, and their modes.
pub(crate) const FILES: [(&str, u32); 3] = [("ca.key", 0o600), ("ca.pem", 0o644), (PASSPHRASE_FILE, 0o600)];

/// The longest of these files, in bytes.
const MAX_FILE: u64 = 65_536;

#[cfg(test)]
mod tests;
