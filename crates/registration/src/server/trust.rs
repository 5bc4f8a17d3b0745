//! Whom a connection believes: anyone, before a machine is registered, and afterwards its configuration server alone.
//!
//! A machine that is not registered has no certificate authority to trust: it gets that one by registering. The check
//! sends nothing secret over such a connection and believes nothing that it would act on, so whoever answers gains
//! nothing by it. Registration believes what comes over it only once the handshake has proved who is there, and that
//! nobody is in between. Nothing but those two may use [`anyone`].

use control_api::registration::SERVER_NAME;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};
use std::sync::Arc;

/// The client's end of a connection to `name`, whoever answers there; the error says why there is none.
pub(crate) fn anyone(name: &str) -> Result<ClientConnection, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|cause| cause.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).map_err(|cause| cause.to_string())?;
    ClientConnection::new(Arc::new(config), name).map_err(|cause| cause.to_string())
}

/// The client's end of a connection to the configuration server of this authority, wherever it is, with a certificate
/// of our own.
pub(crate) fn registered(
    ca: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConnection, String> {
    registered_with(Arc::new(registered_config(ca, certificate, key)?))
}

/// The same, with what such connections share: one that follows another takes up its TLS session.
pub(crate) fn registered_with(config: Arc<ClientConfig>) -> Result<ClientConnection, String> {
    let name = ServerName::try_from(SERVER_NAME).map_err(|cause| cause.to_string())?;
    ClientConnection::new(config, name).map_err(|cause| cause.to_string())
}

/// What the connections of a registered machine share.
pub(crate) fn registered_config(
    ca: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, String> {
    let text = |cause: Error| cause.to_string();
    let mut roots = RootCertStore::empty();
    roots.add(ca).map_err(text)?;
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(text)?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .map_err(text)
}

/// Whether a certificate was signed by an authority for a configuration server. Clocks that are wrong, and an authority
/// that cannot be read, leave that open: then it is said to be.
pub(crate) fn is_signed_by(certificate: &CertificateDer<'_>, ca: &[u8]) -> bool {
    let mut roots = RootCertStore::empty();
    if roots.add(CertificateDer::from(ca.to_vec())).is_err() {
        return true;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build() else {
        return true;
    };
    let Ok(name) = ServerName::try_from(SERVER_NAME) else { return true };
    match verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now()) {
        Ok(_) => true,
        Err(Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => true,
        Err(_) => false,
    }
}

/// Takes every certificate; the server must still have its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
