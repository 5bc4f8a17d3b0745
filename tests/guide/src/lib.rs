//! What the test of `docs/guide` stands on: the pages, and machines on which their commands are typed as they stand there.
//!
//! [`pages`] reads fenced blocks and inline commands out of the markdown. A [`Machine`] is this computer under another name,
//! with an address, files and mounts of its own: what is installed, configured or made there is gone with it. A [`Unit`] is
//! a systemd unit that was installed there, started as systemd does where there is none.

mod machine;
mod pages;
mod unit;

pub use machine::{HERE, Machine};
pub use pages::{Block, commands_within, pages};
pub use unit::Unit;
