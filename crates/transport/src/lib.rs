//! Connections: what turns the plain protocol crates into bytes on a wire.
//!
//! `change-stream` and `nbd` know their protocols but no socket; this crate knows sockets, TLS and tokio but no
//! protocol. The daemon and the source agent share it, so that both ends of a connection are set up by one hand.
//!
//! [`tls`] makes server and client configurations from PEM files: TLS 1.3 only, both ends with a certificate, one
//! cryptographic provider chosen in one place. Whatever is wrong with a file, or with what the other end presents,
//! becomes a message that says which file or peer it is and what to do.
//!
//! [`connect`] and [`set_up`] give a socket the options that both protocols want. [`FrameReader`] and
//! [`FrameWriter`] carry a change stream: bytes go from the socket straight into the decoder's buffer, and many
//! small frames leave in one write. [`nbd_server`] serves disks to NBD clients: an async task reads and parses, a
//! few threads do the blocking disk calls, another task sends the replies, and the bytes on their way between
//! them are bounded.

mod error;
mod frames;
pub mod nbd_server;
mod socket;
pub mod tls;

pub use error::{Error, Result};
pub use frames::{FrameReader, FrameWriter};
pub use socket::{connect, set_up};
