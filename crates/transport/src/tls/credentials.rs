//! Certificates and keys out of PEM files.

use super::TlsFiles;
use crate::{Error, Result};
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::VerifierBuilderError;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// No identity needs more; a larger file is something else.
const MAX_PEM_FILE: u64 = 1 << 20;

const CERTIFICATE: &str = "the certificate";
const KEY: &str = "the private key";
const CA: &str = "the CA";

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialProblem {
    /// It is not there.
    #[error("there is no such file; check the path in the configuration")]
    Missing,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    /// It is far larger than any certificate.
    #[error(
        "it is {size} bytes long, which no PEM file of this kind is; check the path in the configuration"
    )]
    TooLarge {
        /// Its size.
        size: u64,
    },
    /// No PEM block of the needed kind is in it.
    #[error("there is no `BEGIN {expected}` block in it; is it the right file, and PEM rather than DER?")]
    Empty {
        /// The label that was looked for.
        expected: &'static str,
    },
    /// The PEM or DER is broken.
    #[error("its contents are damaged: {0}")]
    Malformed(String),
    /// The key is not the certificate's.
    #[error(
        "this key does not belong to the certificate in {certificate}; configure the two that were made together"
    )]
    KeyMismatch {
        /// The certificate's file.
        certificate: String,
    },
    /// The pair cannot be used for another reason.
    #[error("it cannot be used with the certificate: {0}")]
    Unusable(rustls::Error),
}

pub(super) struct Credentials {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) roots: RootCertStore,
    pub(super) warnings: Vec<String>,
}

impl Credentials {
    pub(super) fn load(files: &TlsFiles) -> Result<Credentials> {
        let chain = certificates(&files.certificate, CERTIFICATE)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&files.key, KEY)?)
            .map_err(|cause| failed(&files.key, KEY, of_pem(cause, "PRIVATE KEY")))?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&files.ca, CA)? {
            let malformed = |cause: rustls::Error| CredentialProblem::Malformed(cause.to_string());
            roots.add(certificate).map_err(|cause| failed(&files.ca, CA, malformed(cause)))?;
        }
        Ok(Credentials { chain, key, roots, warnings: warnings(&files.key) })
    }
}

fn certificates(path: &Path, role: &'static str) -> Result<Vec<CertificateDer<'static>>> {
    let text = read(path, role)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<std::result::Result<_, _>>()
        .map_err(|cause| failed(path, role, of_pem(cause, "CERTIFICATE")))?;
    if found.is_empty() {
        return Err(failed(path, role, CredentialProblem::Empty { expected: "CERTIFICATE" }));
    }
    Ok(found)
}

fn read(path: &Path, role: &'static str) -> Result<Vec<u8>> {
    let of_io = |cause: io::Error| match cause.kind() {
        io::ErrorKind::NotFound => failed(path, role, CredentialProblem::Missing),
        _ => failed(path, role, CredentialProblem::Unreadable(cause)),
    };
    let size = std::fs::metadata(path).map_err(of_io)?.len();
    if size > MAX_PEM_FILE {
        return Err(failed(path, role, CredentialProblem::TooLarge { size }));
    }
    std::fs::read(path).map_err(of_io)
}

fn of_pem(cause: pem::Error, expected: &'static str) -> CredentialProblem {
    match cause {
        pem::Error::NoItemsFound => CredentialProblem::Empty { expected },
        other => CredentialProblem::Malformed(other.to_string()),
    }
}

fn warnings(key: &Path) -> Vec<String> {
    let others = std::fs::metadata(key).map(|found| found.permissions().mode() & 0o077).unwrap_or(0);
    if others == 0 {
        return Vec::new();
    }
    let shown = key.display();
    vec![format!("the private key {shown} can be read or changed by other users; run: chmod 600 {shown}")]
}

fn failed(path: &Path, role: &'static str, problem: CredentialProblem) -> Error {
    Error::Credential { role, path: path.to_owned(), problem }
}

pub(super) fn unusable_ca(files: &TlsFiles, cause: VerifierBuilderError) -> Error {
    failed(&files.ca, CA, CredentialProblem::Malformed(cause.to_string()))
}

/// What rustls says of a certificate and a key that it was given together.
pub(super) fn unusable_pair(files: &TlsFiles, cause: rustls::Error) -> Error {
    match cause {
        rustls::Error::InconsistentKeys(_) => {
            let certificate = files.certificate.display().to_string();
            failed(&files.key, KEY, CredentialProblem::KeyMismatch { certificate })
        }
        rustls::Error::InvalidCertificate(_) => {
            failed(&files.certificate, CERTIFICATE, CredentialProblem::Malformed(cause.to_string()))
        }
        _ => failed(&files.key, KEY, CredentialProblem::Unusable(cause)),
    }
}
