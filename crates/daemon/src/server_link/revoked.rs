//! Certificates that the configuration server has revoked.
//!
//! The list comes with each answered heartbeat and is kept in the state folder, so a source that was revoked stays out
//! while the configuration server is down, and after a restart.

use block_device::durable_file;
use control_api::registration::Hex;
use registration::fingerprint;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// The file in the state folder.
const FILE: &str = "revoked.json";
/// Certificates that are kept at most.
const MOST: usize = 50_000;
/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// The list, and a way to wait for one to be on it.
pub(crate) struct Revoked {
    path: PathBuf,
    list: watch::Sender<Arc<List>>,
}

#[derive(Default, PartialEq)]
struct List {
    /// Whose list it is: SHA-256 of the authority's certificate.
    authority: Vec<u8>,
    certificates: BTreeSet<Vec<u8>>,
    /// Whether it is on the disk.
    written: bool,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    authority: Hex,
    certificates: Vec<Hex>,
}

impl Revoked {
    /// The list that was kept; empty when there is none.
    pub(crate) fn load(state: &Path) -> Revoked {
        let path = state.join(FILE);
        let list = match read(&path) {
            Ok(list) => list,
            Err(error) => {
                tracing::error!(
                    "{}: the list of revoked certificates cannot be read, so until the configuration server answers \
                     revoked sources are let in: {error}",
                    path.display()
                );
                List::default()
            }
        };
        Revoked { path, list: watch::Sender::new(Arc::new(list)) }
    }

    /// Takes the list of the configuration server with this authority.
    pub(crate) fn replace(&self, authority: &Hex, revoked: &[Hex]) {
        let certificates = revoked.iter().take(MOST).map(|hex| hex.0.clone()).collect();
        let known = self.list.borrow().clone();
        let same = known.authority == authority.0 && known.certificates == certificates;
        if same && known.written {
            return;
        }
        let mut list = List { authority: authority.0.clone(), certificates, written: true };
        // It counts from now on, whether it can be kept or not.
        if let Err(error) = self.write(&list) {
            list.written = false;
            if known.written || !same {
                tracing::error!(
                    "{}: the list of revoked certificates cannot be written: {error}; it is lost at the next restart",
                    self.path.display()
                );
            }
        }
        self.list.send_replace(Arc::new(list));
    }

    fn write(&self, list: &List) -> std::io::Result<()> {
        let certificates = list.certificates.iter().map(|certificate| Hex(certificate.clone())).collect();
        let kept = Kept { authority: Hex(list.authority.clone()), certificates };
        let text = serde_json::to_vec(&kept).map_err(std::io::Error::other)?;
        durable_file::replace(&self.path, &text, 0o600)
    }

    /// Whether a certificate was revoked.
    pub(crate) fn contains(&self, certificate: &CertificateDer<'_>) -> bool {
        self.list.borrow().certificates.contains(&fingerprint(certificate).0)
    }

    /// Waits until a certificate is revoked.
    pub(crate) fn becomes_revoked(
        &self,
        certificate: &CertificateDer<'_>,
    ) -> impl Future<Output = ()> + use<> {
        let (mut list, fingerprint) = (self.list.subscribe(), fingerprint(certificate).0);
        async move {
            let found = list.wait_for(|list| list.certificates.contains(&fingerprint)).await.is_ok();
            if !found {
                std::future::pending::<()>().await;
            }
        }
    }
}

fn read(path: &Path) -> std::io::Result<List> {
    let found = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(List::default()),
        found => found?,
    };
    if found.len() > MAX_FILE {
        return Err(std::io::Error::other("it is too long"));
    }
    let kept: Kept = serde_json::from_slice(&std::fs::read(path)?).map_err(std::io::Error::other)?;
    let certificates = kept.certificates.into_iter().map(|hex| hex.0).collect();
    Ok(List { authority: kept.authority.0, certificates, written: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(number: u8) -> CertificateDer<'static> {
        CertificateDer::from(vec![number; 10])
    }

    #[tokio::test]
    async fn the_list_outlives_a_restart_and_is_waited_for() {
        let state = tempfile::tempdir().unwrap();
        let revoked = Revoked::load(state.path());
        let authority = Hex(vec![9; 32]);
        let one = fingerprint(&certificate(1));
        let waiting = tokio::spawn(revoked.becomes_revoked(&certificate(1)));
        assert!(!revoked.contains(&certificate(1)));
        revoked.replace(&authority, &[one]);
        waiting.await.unwrap();
        let after = Revoked::load(state.path());
        assert!(after.contains(&certificate(1)) && !after.contains(&certificate(2)));
        after.replace(&authority, &[]);
        assert!(!after.contains(&certificate(1)) && !Revoked::load(state.path()).contains(&certificate(1)));
    }

    #[test]
    fn a_list_that_cannot_be_kept_counts_all_the_same() {
        let state = tempfile::tempdir().unwrap();
        let gone = state.path().join("gone");
        let revoked = Revoked::load(&gone);
        revoked.replace(&Hex(vec![9; 32]), &[fingerprint(&certificate(1))]);
        assert!(revoked.contains(&certificate(1)));
        std::fs::create_dir(&gone).unwrap();
        revoked.replace(&Hex(vec![9; 32]), &[fingerprint(&certificate(1))]);
        assert!(Revoked::load(&gone).contains(&certificate(1)), "it is written as soon as it can be");
        std::fs::write(gone.join(FILE), "rubbish").unwrap();
        assert!(!Revoked::load(&gone).contains(&certificate(1)));
    }
}
