//! What ends a connection, and what cannot be exported.

use disk::Class;

/// Result of everything in this crate that does not touch a disk.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a connection has to be closed, or an export cannot be added.
///
/// A request that merely fails is not among these: it is answered with an error, and the connection goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The client does not speak fixed newstyle, or something newer.
    #[error(
        "its handshake flags are {found:#x}, of which only {known:#x} mean anything; is it an NBD client?"
    )]
    ClientFlags {
        /// The flags sent.
        found: u32,
        /// The flags that exist.
        known: u32,
    },
    /// An option or request does not begin as it must, so nothing after it can be understood.
    #[error("its {what} number {number} begins with {found:#x}, not with {expected:#x}")]
    Magic {
        /// "option" or "request".
        what: &'static str,
        /// Which one on this connection, from 1.
        number: u64,
        /// What it begins with.
        found: u64,
        /// What it has to begin with.
        expected: u64,
    },
    /// An option far longer than any can be.
    #[error("its option {option} is {length} bytes long, the limit is {limit}")]
    OptionTooLong {
        /// The option's number.
        option: u32,
        /// Its announced length.
        length: u32,
        /// The most that is read and thrown away.
        limit: u32,
    },
    /// A client that never gets to choose an export.
    #[error("it sent {limit} options without choosing an export")]
    TooManyOptions {
        /// The most that are answered.
        limit: u32,
    },
    /// `NBD_OPT_EXPORT_NAME`, which can be refused only by closing.
    #[error("it asked for the export `{name}`, and {why}")]
    Export {
        /// The name it asked for.
        name: String,
        /// Why it does not get it.
        why: &'static str,
    },
    /// An option that a client without fixed newstyle cannot send.
    #[error("it sent option {option} without the fixed newstyle flag")]
    OldClient {
        /// The option's number.
        option: u32,
    },
    /// Bytes in plain text behind the request for TLS: a client waits, a man in the middle does not.
    #[error(
        "it sent {bytes} bytes in plain text after asking for TLS; someone may be tampering with the connection"
    )]
    PlainTextAfterStartTls {
        /// How many.
        bytes: usize,
    },
    /// Two exports of one name.
    #[error("an export called `{name}` exists already; choose another name or remove that one first")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A name that no client could ask for.
    #[error("an export's name may be at most {limit} bytes long, and this one is {length}")]
    NameTooLong {
        /// Bytes of the name.
        length: usize,
        /// The most there may be.
        limit: usize,
    },
}

impl Error {
    /// What a caller should do about it.
    pub fn class(&self) -> Class {
        match self {
            Error::NameTaken { .. } | Error::NameTooLong { .. } => Class::Operator,
            _ => Class::Peer,
        }
    }
}
