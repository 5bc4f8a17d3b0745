//! Secrets and certificates in files. They are read anew for each message, so a change holds at once.

use super::failure::Failure;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// Bytes of a secret.
const MAX_SECRET: u64 = 4096;
/// Bytes of a file of certificates.
const MAX_CERTIFICATES: u64 = 4 << 20;

/// The secret in a file that only its owner may read, without the line end. `key` names the file in the configuration.
pub(crate) fn secret(key: &str, path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let failed = |why: String, next: String| Failure::new(format!("{key} {shown}: {why}"), next);
    let make = format!(
        "write the secret into {shown}, and let only the user of mt-configserver read it (chmod 600)"
    );
    let file = File::open(path).map_err(|cause| failed(cause.to_string(), make.clone()))?;
    let mode = file.metadata().map_err(|cause| failed(cause.to_string(), make.clone()))?.mode();
    if mode & 0o077 != 0 {
        return Err(failed(
            format!("others may read it (its mode is {:03o})", mode & 0o777),
            format!("run chmod 600 {shown}, and change the secret if somebody may have read it"),
        ));
    }
    let text = read(file, MAX_SECRET).map_err(|why| failed(why, make.clone()))?;
    let text = String::from_utf8(text).map_err(|_| failed("it is not UTF-8".into(), make.clone()))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() || secret.contains(['\r', '\n', '\0']) {
        return Err(failed("there is not one line in it".into(), make));
    }
    Ok(secret.to_owned())
}

fn read(file: File, limit: u64) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content).map_err(|cause| cause.to_string())?;
    match content.len() as u64 > limit {
        true => Err(format!("it is longer than {limit} bytes")),
        false => Ok(content),
    }
}

/// The authorities that are believed: those in a file, or those of this machine.
pub(crate) fn authorities(ca_file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let Some(path) = ca_file else {
        let certificates = rustls_native_certs::load_native_certs().certs;
        return match certificates.is_empty() {
            true => Err(Failure::new(
                "this machine knows no authority for certificates",
                "install ca-certificates, or name the file of the right authority with ca_file",
            )),
            false => Ok(certificates),
        };
    };
    let failed = |why: String| {
        Failure::new(
            format!("ca_file {}: {why}", path.display()),
            "write the certificate of the authority into it, in PEM",
        )
    };
    let file = File::open(path).map_err(|cause| failed(cause.to_string()))?;
    let text = read(file, MAX_CERTIFICATES).map_err(failed)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certificates {
        Err(cause) => Err(failed(cause.to_string())),
        Ok(none) if none.is_empty() => Err(failed("there is no certificate in it".into())),
        Ok(certificates) => Ok(certificates),
    }
}

/// TLS towards a server that one of these authorities vouches for.
pub(crate) fn tls(authorities: Vec<CertificateDer<'static>>) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities);
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|cause| Failure::new(format!("TLS cannot be used: {cause}"), "report this"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_one_line_that_nobody_else_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let write = |content: &[u8], mode| {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            secret("password_file", &path)
        };
        assert_eq!(write(b"a b c\r\n", 0o600).unwrap(), "a b c");
        assert_eq!(write(b"abc", 0o400).unwrap(), "abc");
        let refused = |outcome: Result<String, Failure>, part: &str| {
            let failure = outcome.unwrap_err().to_string();
            assert!(failure.contains(part) && failure.contains("chmod 600"), "{failure}");
            assert!(!failure.contains("abc"), "{failure}");
        };
        refused(write(b"abc", 0o640), "others may read it (its mode is 640)");
        refused(write(b"abc\nabc\n", 0o600), "not one line");
        refused(write(b"\n", 0o600), "not one line");
        refused(write(&[b'a'; 5000], 0o600), "longer than 4096 bytes");
        refused(write(b"abc\xff", 0o600), "not UTF-8");
        refused(secret("password_file", &folder.path().join("none")), "No such file");
    }

    #[test]
    fn a_file_of_authorities_must_hold_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert!(authorities(Some(&path)).unwrap_err().why.contains("No such file"));
        std::fs::write(&path, "nothing").unwrap();
        assert!(authorities(Some(&path)).unwrap_err().why.contains("no certificate in it"));
    }
}
