//! Who a program proves to be: a name, and the files that go with it.

use crate::Certificates;
use std::path::{Path, PathBuf};

/// A certificate with what belongs to it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// DNS name in the certificate.
    pub name: String,
    /// The certificate, in PEM.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority that signed it.
    pub ca: PathBuf,
}

impl Identity {
    /// One that was made by hand.
    pub(crate) fn made(certificates: &Certificates, name: &str) -> Identity {
        Identity {
            name: name.to_owned(),
            certificate: certificates.certificate(name),
            key: certificates.key(name),
            ca: certificates.ca(),
        }
    }

    /// What a registration leaves in a state folder.
    pub(crate) fn registered(state: &Path, name: &str) -> Identity {
        let folder = state.join("identity");
        Identity {
            name: name.to_owned(),
            certificate: folder.join("certificate.pem"),
            key: folder.join("key.pem"),
            ca: folder.join("ca.pem"),
        }
    }

    /// The section `[tls]` of a configuration.
    pub(crate) fn section(&self) -> String {
        format!("[tls]\ncertificate = {:?}\nkey = {:?}\nca = {:?}\n", self.certificate, self.key, self.ca)
    }
}
