//! An NBD server for any [`disk::Disk`], without sockets.
//!
//! NBD is how other programs read and write our disks: a recovery point is opened for a test failover, a source
//! agent stands between a hypervisor and its disk, an image is exported by `nbdcopy` or `qemu-img`. The clients
//! are not ours, so this crate follows the published protocol to the letter (which subset, see
//! `docs/formats/nbd.md`) and distrusts every byte that it is sent.
//!
//! A connection is two machines, one after the other. [`Handshake`] takes the bytes of the client from the
//! greeting until it has chosen an export, and says when to send, when to read and when to start TLS. It ends in
//! a [`Transmission`], which only turns bytes into [`Request`]s. A request owns all that it needs and can be run on
//! any thread: it calls the disk and appends its answer to a buffer. Which thread, how many at once, and in what
//! order answers leave is up to the caller; the protocol allows any order, because a flush covers only those
//! writes that were answered before the flush was sent.
//!
//! A request that fails gets an error answer and the connection goes on. Only what makes the rest of the connection
//! unintelligible is an [`Error`]. Lengths are limited before anything is allocated: options to 64 KiB, payloads to
//! [`MAX_PAYLOAD`]; a longer payload is read and thrown away, then refused.
//!
//! [`Overlay`] makes a read-only disk writable without touching it, for an export that may be scribbled on.

mod error;
mod export;
mod handshake;
mod input;
mod overlay;
mod reply;
mod request;
mod transmission;
mod wire;

pub use error::{Error, Result};
pub use export::{Export, Exports};
pub use handshake::{Handshake, Step, TlsMode};
pub use overlay::Overlay;
pub use request::Request;
pub use transmission::{Incoming, Transmission};

/// Most bytes that one request reads or writes; clients are told so.
pub const MAX_PAYLOAD: u32 = 32 << 20;
/// Longest name of an export, in bytes, as the protocol has it.
pub const MAX_NAME: usize = 4096;
