//! A certificate authority of its own, and what it signs.

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Certificate files in a folder: `ca.pem`, and for each name `NAME.pem` and `NAME.key`.
pub struct Certificates {
    folder: PathBuf,
    ca: CertificateParams,
    ca_key: KeyPair,
}

impl Certificates {
    /// A new authority, with certificates for `target.example` and `source.example`.
    pub fn make(folder: &Path) -> Result<Certificates> {
        std::fs::create_dir_all(folder)?;
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.distinguished_name.push(rcgen::DnType::CommonName, "trial authority");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let ca_key = KeyPair::generate()?;
        std::fs::write(folder.join("ca.pem"), ca.self_signed(&ca_key)?.pem())?;
        let certificates = Certificates { folder: folder.to_owned(), ca, ca_key };
        certificates.issue("target.example")?;
        certificates.issue("source.example")?;
        Ok(certificates)
    }

    /// Signs a certificate for this DNS name.
    pub fn issue(&self, name: &str) -> Result<()> {
        let mut params = CertificateParams::new(vec![name.to_owned(), "localhost".to_owned()])?;
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if name.starts_with("source") {
            params.subject_alt_names.truncate(1);
        }
        let key = KeyPair::generate()?;
        let issuer = Issuer::from_params(&self.ca, &self.ca_key);
        std::fs::write(self.certificate(name), params.signed_by(&key, &issuer)?.pem())?;
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(self.key(name))?;
        file.write_all(key.serialize_pem().as_bytes())?;
        Ok(())
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Certificate of a name.
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pem"))
    }

    /// Private key of a name.
    pub fn key(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.key"))
    }
}
