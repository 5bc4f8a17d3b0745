//! The certificate authority: it signs the certificates of hosts and of the configuration server itself.
//!
//! Its key and certificate are made at the first start and last. The key of the server's own certificate is made anew
//! at each start and never written down: hosts know the server by the authority and by a name that only a
//! configuration server is given ([`SERVER_NAME`]), not by a certificate that they remember.

use anyhow::{Context, Result, ensure};
use block_device::durable_file;
use control_api::registration::{Host, HostKind, SERVER_NAME};
use control_api::time::{SECOND, Time};
use rand_core::{OsRng, RngCore};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use ring::digest::{SHA256, digest};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::net::IpAddr;
use std::path::Path;
use time::OffsetDateTime;

const DAY: u64 = 86_400 * SECOND;
/// How long the authority lasts.
const AUTHORITY_LIFE: u64 = 20 * 365 * DAY;
/// How long the certificate of a host is valid; it is renewed when a third of that is left.
pub(crate) const HOST_LIFE: u64 = 90 * DAY;
/// How long the server's own certificate is valid.
const SERVER_LIFE: u64 = 90 * DAY;
/// A certificate is valid from a little earlier on, for hosts whose clock is behind.
const EARLIER: u64 = 3600 * SECOND;

const NAME: &str = "Master target configuration server authority";
const KEY_FILE: &str = "ca.key";
const CERTIFICATE_FILE: &str = "ca.pem";

/// The authority of this configuration server.
pub(crate) struct Authority {
    key: KeyPair,
    certificate: CertificateDer<'static>,
}

/// A certificate that was signed.
pub(crate) struct Issued {
    pub(crate) der: Vec<u8>,
    /// In hexadecimal.
    pub(crate) serial: String,
    pub(crate) fingerprint: Vec<u8>,
    pub(crate) valid_until: Time,
}

impl Authority {
    /// The authority in a folder; a new one when there is none.
    pub(crate) fn open(folder: &Path, now: Time) -> Result<Authority> {
        let (key_path, certificate_path) = (folder.join(KEY_FILE), folder.join(CERTIFICATE_FILE));
        let remedy = "restore the state folder from a backup; with another authority every host would have to \
                      register again";
        if !certificate_path.exists() {
            // Without a certificate nothing was ever signed, so a key that a crash left behind is worth nothing.
            return Authority::make(&key_path, &certificate_path, now);
        }
        let key = std::fs::read_to_string(&key_path)
            .with_context(|| format!("cannot read {}; {remedy}", key_path.display()))?;
        let key = KeyPair::from_pem(&key)
            .with_context(|| format!("{} holds no private key; {remedy}", key_path.display()))?;
        let certificate = CertificateDer::from_pem_file(&certificate_path)
            .with_context(|| format!("{} holds no certificate; {remedy}", certificate_path.display()))?;
        let authority = Authority { key, certificate };
        let goes_with = contains(&authority.certificate, authority.key.der_bytes());
        ensure!(
            goes_with,
            "{} and {} were not made together; {remedy}",
            key_path.display(),
            certificate_path.display()
        );
        Ok(authority)
    }

    fn make(key_path: &Path, certificate_path: &Path, now: Time) -> Result<Authority> {
        let key = KeyPair::generate().context("cannot make the key of the authority")?;
        let mut params = params(now, AUTHORITY_LIFE);
        params.serial_number = Some(serial());
        let certificate = params.self_signed(&key).context("cannot sign the authority")?;
        let write = |path: &Path, content: String, mode| {
            durable_file::replace(path, content.as_bytes(), mode)
                .with_context(|| format!("cannot write {}; make room there", path.display()))
        };
        write(key_path, key.serialize_pem(), 0o600)?;
        write(certificate_path, certificate.pem(), 0o644)?;
        Ok(Authority { key, certificate: certificate.der().clone() })
    }

    /// Its certificate.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of its certificate.
    pub(crate) fn fingerprint(&self) -> Vec<u8> {
        fingerprint(&self.certificate)
    }

    /// A certificate for a host's key. A source agent can only be a client with it.
    pub(crate) fn issue(&self, host: &Host, public_key: &[u8], now: Time) -> Result<Issued> {
        let is_target = host.kind == HostKind::MasterTarget;
        let mut names = vec![dns_name(&host.name)?];
        let mut usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if is_target {
            names.extend(host.addresses.iter().copied().map(SanType::IpAddress));
            usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        self.sign(&host.name, names, usages, &HostPublicKey(public_key), now, HOST_LIFE)
    }

    /// A certificate for the server itself, and the key that belongs to it.
    pub(crate) fn identity(
        &self,
        names: &[String],
        now: Time,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
        let key = KeyPair::generate().context("cannot make the key of the server")?;
        let name = |name: &String| match name.parse::<IpAddr>() {
            Ok(address) => Ok(SanType::IpAddress(address)),
            Err(_) => dns_name(name),
        };
        let mut all = vec![dns_name(SERVER_NAME)?];
        all.extend(names.iter().map(name).collect::<Result<Vec<_>>>()?);
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let issued = self.sign(SERVER_NAME, all, usages, &key, now, SERVER_LIFE)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok((CertificateDer::from(issued.der), key))
    }

    fn sign(
        &self,
        common_name: &str,
        names: Vec<SanType>,
        usages: Vec<ExtendedKeyUsagePurpose>,
        key: &impl PublicKeyData,
        now: Time,
        life: u64,
    ) -> Result<Issued> {
        let serial = serial();
        let mut params = params(now, life);
        params.distinguished_name = DistinguishedName::new();
        // What is longer than X.509 lets a common name be stands among the alternative names only.
        params.distinguished_name.push(DnType::CommonName, common_name.chars().take(64).collect::<String>());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.subject_alt_names = names;
        params.extended_key_usages = usages;
        params.serial_number = Some(serial.clone());
        params.use_authority_key_identifier_extension = true;
        let issuer = self::params(now, AUTHORITY_LIFE);
        let issuer = Issuer::from_params(&issuer, &self.key);
        let certificate = params.signed_by(key, &issuer).context("cannot sign a certificate")?;
        Ok(Issued {
            der: certificate.der().to_vec(),
            serial: serial.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect(),
            fingerprint: fingerprint(certificate.der()),
            valid_until: now + life,
        })
    }
}

/// What an authority's certificate holds. The name and the use of the key are also what rcgen wants to know of whoever
/// signs.
fn params(now: Time, life: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = date(now.saturating_sub(EARLIER));
    params.not_after = date(now.saturating_add(life));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn date(time: Time) -> OffsetDateTime {
    let seconds = i64::try_from(time / SECOND).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// 16 random bytes, positive as X.509 wants it.
fn serial() -> SerialNumber {
    let mut bytes = [0; 16];
    OsRng.fill_bytes(&mut bytes);
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn dns_name(name: &str) -> Result<SanType> {
    let text = name.to_owned().try_into().with_context(|| format!("{name} cannot stand in a certificate"))?;
    Ok(SanType::DnsName(text))
}

/// SHA-256 of a certificate, as it is shown everywhere.
pub(crate) fn fingerprint(certificate: &[u8]) -> Vec<u8> {
    digest(&SHA256, certificate).as_ref().to_vec()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// A point of P-256 that a host has proved to be its own.
struct HostPublicKey<'a>(&'a [u8]);

impl PublicKeyData for HostPublicKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    const NOW: Time = 1_790_000_000 * SECOND;

    #[test]
    fn the_authority_is_made_once_and_its_key_is_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let made = Authority::open(folder.path(), NOW).unwrap();
        let again = Authority::open(folder.path(), NOW + DAY).unwrap();
        assert_eq!(made.fingerprint(), again.fingerprint());
        assert_eq!(std::fs::metadata(folder.path().join(KEY_FILE)).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_key_of_another_authority_is_noticed() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Authority::open(one.path(), NOW).unwrap();
        Authority::open(other.path(), NOW).unwrap();
        std::fs::copy(other.path().join(KEY_FILE), one.path().join(KEY_FILE)).unwrap();
        let Err(error) = Authority::open(one.path(), NOW) else { panic!("it was opened") };
        assert!(error.to_string().contains("were not made together"), "{error}");
        std::fs::remove_file(one.path().join(KEY_FILE)).unwrap();
        let Err(error) = Authority::open(one.path(), NOW) else { panic!("it was opened") };
        assert!(error.to_string().contains("restore the state folder"), "{error}");
    }

    #[test]
    fn a_crash_before_the_certificate_was_written_is_made_good() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(KEY_FILE), "half").unwrap();
        Authority::open(folder.path(), NOW).unwrap();
        Authority::open(folder.path(), NOW).unwrap();
    }
}
