//! The identity of a registered machine, on the disk.
//!
//! ```text
//! STATE/identity -> identity-1f00ba47…     a link, replaced in one step
//! STATE/identity-1f00ba47…/key.pem         private key, 0600
//!                          certificate.pem what the configuration server signed
//!                          ca.pem          its authority
//!                          registration.json
//! ```
//!
//! A new identity is written into a folder of its own, synced, and then the link is turned to it. So whenever a crash
//! comes, the link leads to the whole old identity or to the whole new one; a folder that no link leads to is rubbish,
//! and the next one that is written sweeps it away.

use crate::error::{Error, Result};
use block_device::durable_file;
use control_api::registration::{Hex, HostKind};
use control_api::time::Time;
use pem::{EncodeConfig, LineEnding, Pem};
use rcgen::KeyPair;
use ring::digest::{SHA256, digest};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The link in a state folder that leads to the identity.
pub const IDENTITY: &str = "identity";
/// The private key.
pub const KEY_FILE: &str = "key.pem";
/// The certificate.
pub const CERTIFICATE_FILE: &str = "certificate.pem";
/// The certificate of the configuration server's authority.
pub const CA_FILE: &str = "ca.pem";
const REGISTRATION_FILE: &str = "registration.json";
/// Takes the room that the other files need until they are written.
const ROOM_FILE: &str = "room";
/// Bytes for them, with what a file system takes for each.
const ROOM: usize = 16 << 10;

/// What is kept about a registration beside key and certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Name or address of the configuration server, as it was given.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// SHA-256 of its authority's certificate.
    pub authority: Hex,
    /// Id of this host there.
    pub host_id: String,
    /// Name of this host.
    pub name: String,
    /// What it is.
    pub kind: HostKind,
    /// When the certificate was made.
    pub issued: Time,
    /// Until when it is valid.
    pub valid_until: Time,
}

/// An identity.
pub struct Identity {
    /// What it was registered as.
    pub registration: Registration,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) ca: CertificateDer<'static>,
    key: String,
    key_path: PathBuf,
}

impl Identity {
    /// The identity in a state folder; `None` when the machine is not registered.
    pub fn open(state: &Path) -> Result<Option<Identity>> {
        let folder = state.join(IDENTITY);
        let damaged = |name: &str, why: String| Error::Damaged { path: folder.join(name), why };
        let text = match fs::read(folder.join(REGISTRATION_FILE)) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            outcome => outcome.map_err(|cause| damaged(REGISTRATION_FILE, cause.to_string()))?,
        };
        let registration = serde_json::from_slice(&text)
            .map_err(|cause| damaged(REGISTRATION_FILE, format!("it cannot be read: {cause}")))?;
        let certificate = |name: &str| {
            CertificateDer::from_pem_file(folder.join(name))
                .map_err(|cause| damaged(name, format!("there is no certificate in it: {cause}")))
        };
        let key = fs::read_to_string(folder.join(KEY_FILE))
            .map_err(|cause| damaged(KEY_FILE, cause.to_string()))?;
        let (own, ca) = (certificate(CERTIFICATE_FILE)?, certificate(CA_FILE)?);
        let key_path = folder.join(KEY_FILE);
        Ok(Some(Identity { registration, certificate: own, ca, key, key_path }))
    }

    pub(crate) fn key(&self) -> Result<KeyPair> {
        KeyPair::from_pem(&self.key).map_err(|cause| self.bad_key(cause.to_string()))
    }

    pub(crate) fn tls_key(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|cause| self.bad_key(cause.to_string()))
    }

    fn bad_key(&self, why: String) -> Error {
        Error::Damaged { path: self.key_path.clone(), why }
    }
}

/// SHA-256 of a certificate in DER.
pub fn fingerprint(certificate: &[u8]) -> Hex {
    Hex::from(digest(&SHA256, certificate).as_ref())
}

/// A new identity, with its key on the disk already: a disk without room for it is noticed before anybody is asked for
/// a certificate. One that is not completed is removed.
pub(crate) struct Draft {
    state: PathBuf,
    folder: PathBuf,
    pub(crate) key: KeyPair,
    complete: bool,
}

impl Draft {
    pub(crate) fn make(state: &Path) -> Result<Draft> {
        let key = KeyPair::generate().map_err(|cause| Error::Crypto(cause.to_string()))?;
        let make = |path: &Path, recursive| {
            let made = fs::DirBuilder::new().recursive(recursive).mode(0o700).create(path);
            made.map_err(|cause| file(path, "the folder cannot be made", cause))
        };
        make(state, true)?;
        let name = fingerprint(key.public_key_raw()).to_string();
        let folder = state.join(format!("{IDENTITY}-{}", &name[..16]));
        make(&folder, false)?;
        let draft = Draft { state: state.to_owned(), folder, key, complete: false };
        draft.write(KEY_FILE, draft.key.serialize_pem().as_bytes(), 0o600)?;
        draft.write(ROOM_FILE, &[0; ROOM], 0o600)?;
        Ok(draft)
    }

    fn write(&self, name: &str, content: &[u8], mode: u32) -> Result<()> {
        let path = self.folder.join(name);
        durable_file::replace(&path, content, mode)
            .map_err(|cause| file(&self.state, "the identity of this machine cannot be written", cause))
    }

    /// Writes the rest and turns the link; afterwards this is the machine's identity.
    pub(crate) fn complete(
        mut self,
        certificate: &[u8],
        ca: &[u8],
        registration: &Registration,
    ) -> Result<()> {
        let room = self.folder.join(ROOM_FILE);
        durable_file::remove(&room)
            .map_err(|cause| file(&room, "the room for the identity is not free", cause))?;
        self.write(CERTIFICATE_FILE, pem(certificate).as_bytes(), 0o644)?;
        self.write(CA_FILE, pem(ca).as_bytes(), 0o644)?;
        let text =
            serde_json::to_vec_pretty(registration).map_err(|cause| Error::Crypto(cause.to_string()))?;
        self.write(REGISTRATION_FILE, &text, 0o600)?;
        let (link, new) = (self.state.join(IDENTITY), self.state.join(format!(".{IDENTITY}.new")));
        let target = self.folder.file_name().unwrap_or_default();
        let turned = match fs::remove_file(&new) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
            _ => std::os::unix::fs::symlink(target, &new)
                .and_then(|()| fs::rename(&new, &link))
                .and_then(|()| durable_file::sync_folder(&self.state)),
        };
        turned
            .map_err(|cause| file(&link, "the new identity cannot take the place of the old one", cause))?;
        self.complete = true;
        sweep(&self.state, Some(&self.folder));
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.complete {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Removes the identity in a state folder; durable when this returns.
pub(crate) fn remove(state: &Path) -> Result<()> {
    let link = state.join(IDENTITY);
    durable_file::remove(&link).map_err(|cause| file(&link, "the identity cannot be removed", cause))?;
    sweep(state, None);
    Ok(())
}

/// Removes the folders of identities but one. What stays behind is swept away next time.
fn sweep(state: &Path, kept: Option<&Path>) {
    let prefix = format!("{IDENTITY}-");
    for entry in fs::read_dir(state).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(&prefix);
        if ours && Some(entry.path().as_path()) != kept {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn pem(certificate: &[u8]) -> String {
    let block = Pem::new("CERTIFICATE", certificate);
    pem::encode_config(&block, EncodeConfig::new().set_line_ending(LineEnding::LF))
}

fn file(path: &Path, what: &'static str, cause: io::Error) -> Error {
    Error::File { path: path.to_owned(), what, cause }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn registration(name: &str) -> Registration {
        Registration {
            server: "cs.example".into(),
            port: 443,
            authority: Hex(vec![1; 32]),
            host_id: "id".into(),
            name: name.into(),
            kind: HostKind::MasterTarget,
            issued: 1,
            valid_until: 2,
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_identity_takes_the_place_of_the_old_one_whole() {
        let state = tempfile::tempdir().unwrap();
        assert!(Identity::open(state.path()).unwrap().is_none());
        for name in ["one", "two"] {
            let draft = Draft::make(state.path()).unwrap();
            draft.complete(b"certificate", b"authority", &registration(name)).unwrap();
            let found = Identity::open(state.path()).unwrap().unwrap();
            assert_eq!(found.registration, registration(name));
            assert_eq!((&*found.certificate, &*found.ca), (&b"certificate"[..], &b"authority"[..]));
            found.key().unwrap();
            assert_eq!(names(state.path()).len(), 2);
        }
        let key = state.path().join(IDENTITY).join(KEY_FILE);
        assert_eq!(fs::metadata(key).unwrap().mode() & 0o777, 0o600);
        remove(state.path()).unwrap();
        assert!(names(state.path()).is_empty());
        remove(state.path()).unwrap();
    }

    /// What a crash at each step leaves behind is the old identity, and the next registration sweeps it away.
    #[test]
    fn a_crash_before_the_link_is_turned_leaves_the_old_identity() {
        let state = tempfile::tempdir().unwrap();
        Draft::make(state.path()).unwrap().complete(b"c", b"a", &registration("old")).unwrap();
        let crashed = Draft::make(state.path()).unwrap();
        std::mem::forget(crashed);
        std::os::unix::fs::symlink("nowhere", state.path().join(".identity.new")).unwrap();
        assert_eq!(Identity::open(state.path()).unwrap().unwrap().registration.name, "old");
        assert_eq!(names(state.path()).len(), 4);
        Draft::make(state.path()).unwrap().complete(b"c", b"a", &registration("new")).unwrap();
        assert_eq!(Identity::open(state.path()).unwrap().unwrap().registration.name, "new");
        assert_eq!(names(state.path()).len(), 2);
    }

    #[test]
    fn a_draft_that_is_given_up_leaves_nothing() {
        let state = tempfile::tempdir().unwrap();
        drop(Draft::make(state.path()).unwrap());
        assert!(names(state.path()).is_empty());
    }

    #[test]
    fn damage_is_named() {
        let state = tempfile::tempdir().unwrap();
        Draft::make(state.path()).unwrap().complete(b"c", b"a", &registration("one")).unwrap();
        fs::write(state.path().join(IDENTITY).join(CA_FILE), "").unwrap();
        let Err(error) = Identity::open(state.path()) else { panic!("it was opened") };
        let error = error.to_string();
        assert!(error.contains("identity/ca.pem: the identity of this machine is damaged"), "{error}");
    }
}
