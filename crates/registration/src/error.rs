//! Everything that can go wrong, with what to do about it.

use crate::server::Failure;
use control_api::ApiError;
use control_api::registration::PassphraseError;
use std::io;
use std::path::PathBuf;

/// Why a machine was not registered, not renewed, or not known as registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file with the passphrase cannot be read.
    #[error(
        "{}: the passphrase cannot be read: {cause}; give a file that holds what mt-configserver passphrase show prints \
         on the configuration server",
        path.display()
    )]
    PassphraseFile {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// What is in that file is no passphrase.
    #[error(
        "{}: there is no passphrase in it: {cause}; give a file that holds what mt-configserver passphrase show prints on \
         the configuration server",
        path.display()
    )]
    NoPassphrase {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: PassphraseError,
    },
    /// The configuration server cannot be talked to.
    #[error("configuration server: {cause}; {}", cause.remedy())]
    Server {
        /// Why.
        cause: Failure,
    },
    /// TLS is older than 1.3, so nothing can be bound to it.
    #[error(
        "configuration server {server}: the connection is not TLS 1.3, which every configuration server speaks: something \
         in between opens it and speaks an older version; let this machine connect directly, without a proxy or a device \
         that looks into TLS"
    )]
    OldTls {
        /// Address and port.
        server: String,
    },
    /// This machine is newer than the configuration server.
    #[error(
        "configuration server {server}: this machine is newer: it has version {ours}, the configuration server {theirs}; \
         upgrade the configuration server first, or install release {release} here"
    )]
    VersionTooNew {
        /// Address and port.
        server: String,
        /// Version here.
        ours: String,
        /// Version there.
        theirs: String,
        /// The newest release that goes with that.
        release: String,
    },
    /// The other end did not prove that it knows the passphrase and that nobody is in between.
    #[error(
        "configuration server {server}: the passphrase is not the one that it has, or something in between opens the TLS \
         connection; nothing was given away. Copy the passphrase again (mt-configserver passphrase show, there). If it \
         is right, compare the authority that this prints with the one seen here, {seen}: another one means that a proxy \
         or a device in between looks into TLS, and has to let this machine through"
    )]
    NotProved {
        /// Address and port.
        server: String,
        /// SHA-256 of the authority's certificate that was seen.
        seen: String,
    },
    /// The machine is registered with another configuration server.
    #[error(
        "this machine is registered with another configuration server, {known} (authority {known_authority}), not with \
         {server} (authority {seen}); give that up first with the command unregister, or give --yes to do both"
    )]
    RegisteredElsewhere {
        /// Where it is registered.
        known: String,
        /// SHA-256 of the authority there.
        known_authority: String,
        /// Where it was to be registered.
        server: String,
        /// SHA-256 of the authority seen there.
        seen: String,
    },
    /// Under the same address there is another authority than at the last registration.
    #[error(
        "configuration server {server}: it shows another authority ({seen}) than at the last registration \
         ({known_authority}): either it was made anew, or another server has its address, or something in between opens \
         the TLS connection; compare with what mt-configserver passphrase show prints there, and give --yes if it is right"
    )]
    OtherAuthority {
        /// Address and port.
        server: String,
        /// SHA-256 of the authority at the last registration.
        known_authority: String,
        /// SHA-256 of the one seen now.
        seen: String,
    },
    /// The configuration server refuses.
    #[error("{0}")]
    Refused(Box<ApiError>),
    /// The configuration server answers something that cannot be.
    #[error(
        "configuration server {server}: its answer cannot be used: {why}; install the same release on both machines"
    )]
    BadAnswer {
        /// Address and port.
        server: String,
        /// What is wrong with it.
        why: String,
    },
    /// The identity cannot be written or removed.
    #[error("{}: {what}: {cause}; {}", path.display(), remedy(cause))]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was not done.
        what: &'static str,
        /// Why.
        cause: io::Error,
    },
    /// The identity that is there cannot be used.
    #[error("{}: the identity of this machine is damaged: {why}; register again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// There is no identity.
    #[error("{}: this machine is not registered; do so with the command register", folder.display())]
    NotRegistered {
        /// Where an identity would be.
        folder: PathBuf,
    },
    /// The machine does not say who it is.
    #[error("{object}: {why}; {next}")]
    Machine {
        /// What was looked at.
        object: &'static str,
        /// What was found.
        why: String,
        /// What to do.
        next: &'static str,
    },
    /// A key or a message could not be made.
    #[error(
        "the key of this machine could not be made or used: {0}; look whether /dev/urandom can be read, and try again"
    )]
    Crypto(String),
}

/// Each message is complete: none has a source, which would be shown a second time.
impl From<Failure> for Error {
    fn from(cause: Failure) -> Error {
        Error::Server { cause }
    }
}

/// What is wrong with writing files most of the time.
fn remedy(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full: make room there and do it again; what was there before is untouched"
        }
        io::ErrorKind::PermissionDenied => "do it as root",
        io::ErrorKind::ReadOnlyFilesystem => {
            "the file system is read-only: mount it writable and do it again"
        }
        _ => "look at the file system there and do it again; what was there before is untouched",
    }
}

/// What this crate's functions bring.
pub type Result<T> = std::result::Result<T, Error>;
