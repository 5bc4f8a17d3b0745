//! Everything that can go wrong.

use crate::explain::Explanation;
use crate::server::{Failure, direct};
use control_api::ApiError;
use control_api::registration::PassphraseError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a machine was not registered, not renewed, or not known as registered. Each message is complete and says what to
/// do: none has a source, which would be shown a second time.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The file with the passphrase cannot be read.
    PassphraseFile {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// What is in that file is no passphrase.
    NoPassphrase {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: PassphraseError,
    },
    /// The configuration server cannot be talked to.
    Server {
        /// Why.
        cause: Failure,
    },
    /// TLS is older than 1.3, so nothing can be bound to it.
    OldTls {
        /// Address and port.
        server: String,
    },
    /// This machine is newer than the configuration server.
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
    /// The other end did not prove that it knows the passphrase, over the connection that this machine sees.
    NotProved {
        /// Address and port.
        server: String,
        /// SHA-256 of the authority's certificate that was seen.
        seen: String,
    },
    /// The same, and the certificate that the connection was opened with is not of the configuration server.
    InBetween {
        /// Address and port.
        server: String,
        /// SHA-256 of the certificate that was shown.
        shown: String,
    },
    /// The machine is registered with another configuration server.
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
    OtherAuthority {
        /// Address and port.
        server: String,
        /// SHA-256 of the authority at the last registration.
        known_authority: String,
        /// SHA-256 of the one seen now.
        seen: String,
    },
    /// The configuration server refuses.
    Refused(Box<ApiError>),
    /// The configuration server answers something that cannot be.
    BadAnswer {
        /// Address and port.
        server: String,
        /// What is wrong with it.
        why: String,
    },
    /// The identity cannot be written or removed.
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was not done.
        what: &'static str,
        /// Why.
        cause: io::Error,
    },
    /// The identity that is there cannot be used.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The certificate has expired.
    Expired {
        /// Until when it was valid, in words.
        until: String,
    },
    /// There is no identity.
    NotRegistered {
        /// Where an identity would be.
        folder: PathBuf,
    },
    /// The machine does not say who it is.
    Machine {
        /// What was looked at.
        object: &'static str,
        /// What was found.
        why: String,
        /// What to do.
        next: &'static str,
    },
    /// A key or a message could not be made.
    Crypto(String),
}

impl From<Failure> for Error {
    fn from(cause: Failure) -> Error {
        Error::Server { cause }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explain().fmt(f)
    }
}

impl std::error::Error for Error {}

const COPY_PASSPHRASE: [&str; 2] = [
    "on the configuration server: `mt-configserver passphrase show > passphrase.txt`",
    "copy that file to this machine, and name it with `-P`",
];

impl Error {
    /// What went wrong, why, and what to do.
    pub fn explain(&self) -> Explanation {
        match self {
            Error::PassphraseFile { path, cause } => Explanation::new(
                "passphrase-file",
                format!("{}: the passphrase cannot be read", path.display()),
                cause.to_string(),
                COPY_PASSPHRASE,
            ),
            Error::NoPassphrase { path, cause } => Explanation::new(
                "no-passphrase",
                format!("{}: there is no passphrase in it", path.display()),
                cause.to_string(),
                COPY_PASSPHRASE,
            ),
            Error::Server { cause } => cause.explain(),
            Error::OldTls { server } => old_tls(server),
            Error::VersionTooNew { server, ours, theirs, release } => {
                version_too_new(server, ours, theirs, release)
            }
            Error::NotProved { server, seen } => not_proved(server, seen),
            Error::InBetween { server, shown } => in_between(server, shown),
            Error::RegisteredElsewhere { known, known_authority, server, seen } => {
                registered_elsewhere(known, known_authority, server, seen)
            }
            Error::OtherAuthority { server, known_authority, seen } => {
                other_authority(server, known_authority, seen)
            }
            Error::Refused(refused) => Explanation::from(&**refused),
            Error::BadAnswer { server, why } => Explanation::new(
                "bad-answer",
                format!("{server}: its answer cannot be used"),
                why.as_str(),
                ["install the same release on both machines"],
            ),
            Error::File { path, what, cause } => Explanation::new(
                "file",
                format!("{}: {what}", path.display()),
                cause.to_string(),
                remedy(path, cause),
            ),
            Error::Damaged { path, why } => Explanation::new(
                "damaged",
                format!("{}: the identity of this machine is damaged", path.display()),
                why.as_str(),
                ["register again: that replaces it"],
            ),
            Error::Expired { until } => Explanation::new(
                "expired",
                "this machine is not let in any more: its certificate has expired",
                format!(
                    "it was valid until {until}, and for a third of its time it could not be renewed: the machine was \
                     off, or did not reach the configuration server"
                ),
                [
                    "look whether the clock is right: `date -u`",
                    "register it again, with the passphrase: it stays the same host, with its items",
                ],
            ),
            Error::NotRegistered { folder } => Explanation::new(
                "not-registered",
                format!("{}: this machine is not registered", folder.display()),
                "there is no identity",
                ["register it, with the command register"],
            ),
            Error::Machine { object, why, next } => {
                Explanation::new("machine", *object, why.as_str(), [*next])
            }
            Error::Crypto(why) => Explanation::new(
                "crypto",
                "the key of this machine could not be made or used",
                why.as_str(),
                ["look whether /dev/urandom can be read, and try again"],
            ),
        }
    }
}

fn old_tls(server: &str) -> Explanation {
    Explanation::new(
        "old-tls",
        format!("{server} speaks an older TLS than 1.3"),
        "every configuration server speaks TLS 1.3, so something in between opens the connection, or another server has \
         this address; the old product's word for it was (35) SSL connect error",
        direct(server),
    )
}

fn version_too_new(server: &str, ours: &str, theirs: &str, release: &str) -> Explanation {
    Explanation::new(
        "version-too-new",
        format!("this machine is newer than the configuration server {server}"),
        format!(
            "it has version {ours}, the configuration server {theirs}, and must not be of a later release"
        ),
        [
            "upgrade the configuration server first, then register again".to_owned(),
            format!("or install release {release} on this machine"),
        ],
    )
}

fn not_proved(server: &str, seen: &str) -> Explanation {
    Explanation::new(
        "not-proved",
        format!("{server} and this machine do not have the same passphrase"),
        "neither could prove to the other that it knows it; nothing was given away. It is a wrong passphrase, or not the \
         configuration server that answers there",
        [
            "on the configuration server: `mt-configserver passphrase show`. Copy what that prints into the file given \
             with `-P`, and register again"
                .to_owned(),
            format!(
                "if it was right, compare the authority that the same command prints with the one that answered here, \
                 {seen}: when they differ, another machine answers, or a device that looks into TLS; see that this \
                 machine reaches the configuration server directly"
            ),
            "do not try too often: after five failures this machine's address has to wait".to_owned(),
        ],
    )
}

fn in_between(server: &str, shown: &str) -> Explanation {
    let mut next = direct(server);
    next.push("do not register over this connection: whoever opens it could read what follows".to_owned());
    Explanation::new(
        "in-between",
        format!("something between this machine and {server} opens the TLS connection"),
        format!(
            "the certificate that it shows (SHA-256 {shown}) was not signed by the configuration server's authority. \
             Registration was given up before anything was given away"
        ),
        next,
    )
}

fn registered_elsewhere(known: &str, known_authority: &str, server: &str, seen: &str) -> Explanation {
    Explanation::new(
        "registered-elsewhere",
        format!("this machine is registered with another configuration server, {known}"),
        format!("the authority there is {known_authority}; {server} shows {seen}"),
        [
            format!("to leave it with {known}, do nothing: that registration holds"),
            format!(
                "to move it to {server}: give up the old registration (the command `unregister`), then register again"
            ),
            format!(
                "if {known} is gone for good, or is the same server under another name: register again with `--yes`"
            ),
        ],
    )
}

fn other_authority(server: &str, known_authority: &str, seen: &str) -> Explanation {
    Explanation::new(
        "other-authority",
        format!("{server} is not the configuration server that it was at the last registration"),
        format!(
            "it shows the authority {seen}; it was {known_authority}. The server was made anew, another one has its \
             address now, or something in between opens the TLS connection"
        ),
        [
            "on the configuration server: `mt-configserver passphrase show`, which prints its authority too".to_owned(),
            format!("if that is {seen}, the server is the right one: register again with `--yes`"),
            "if it is the other one, do not: find out who answers at this address".to_owned(),
            "if the server was made anew by accident, restore it from its backup: then nothing has to register again"
                .to_owned(),
        ],
    )
}

/// What is wrong with writing files most of the time.
fn remedy(path: &Path, cause: &io::Error) -> Vec<String> {
    let first = match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("the disk is full: make room there; `df -h {}` shows how much there is", path.display())
        }
        io::ErrorKind::PermissionDenied => return vec!["do it as root".to_owned()],
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only: mount it writable".to_owned(),
        _ => "look at the file system there".to_owned(),
    };
    vec![first, "then do it again; what was there before is untouched".to_owned()]
}

/// What this crate's functions bring.
pub type Result<T> = std::result::Result<T, Error>;
