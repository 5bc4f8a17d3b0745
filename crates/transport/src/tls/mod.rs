//! TLS 1.3 with certificates on both ends.

mod credentials;
mod problem;

pub use credentials::CredentialProblem;
pub use problem::HandshakeProblem;

use crate::{Error, Result};
use credentials::Credentials;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// An established TLS connection of a server.
pub type ServerStream<S> = tokio_rustls::server::TlsStream<S>;
/// An established TLS connection of a client.
pub type ClientStream<S> = tokio_rustls::client::TlsStream<S>;

const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(15);

/// The one place that chooses who does the cryptography.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Where the identity of one end, and whom it trusts, are kept. All three files are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our certificate, followed by those between it and the CA, if any.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The certificate, or certificates, that the other end's must be signed by.
    pub ca: PathBuf,
}

/// The server's end: presents a certificate and demands one of every client.
#[derive(Clone)]
pub struct ServerTls {
    acceptor: TlsAcceptor,
    files: Arc<TlsFiles>,
    warnings: Vec<String>,
}

impl ServerTls {
    /// Reads and checks the files.
    pub fn load(files: &TlsFiles) -> Result<ServerTls> {
        let Credentials { chain, key, roots, warnings } = Credentials::load(files)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|cause| credentials::unusable_ca(files, cause))?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .and_then(|builder| builder.with_client_cert_verifier(verifier).with_single_cert(chain, key))
            .map_err(|cause| credentials::unusable_pair(files, cause))?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(ServerTls { acceptor, files: Arc::new(files.clone()), warnings })
    }

    /// What works but should be changed, such as a key that others can read.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Performs the handshake with a client that has just connected; `peer` is what to call it in a message.
    pub async fn accept<S>(&self, socket: S, peer: &str) -> Result<ServerStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        finish(self.acceptor.accept(socket), peer, &self.files).await
    }
}

/// The client's end: verifies the server's name and presents a certificate.
#[derive(Clone)]
pub struct ClientTls {
    connector: TlsConnector,
    files: Arc<TlsFiles>,
    warnings: Vec<String>,
}

impl ClientTls {
    /// Reads and checks the files.
    pub fn load(files: &TlsFiles) -> Result<ClientTls> {
        let Credentials { chain, key, roots, warnings } = Credentials::load(files)?;
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .and_then(|builder| builder.with_root_certificates(roots).with_client_auth_cert(chain, key))
            .map_err(|cause| credentials::unusable_pair(files, cause))?;
        let connector = TlsConnector::from(Arc::new(config));
        Ok(ClientTls { connector, files: Arc::new(files.clone()), warnings })
    }

    /// What works but should be changed, such as a key that others can read.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Performs the handshake over a connected socket. `server_name` is the host name or IP address that the
    /// server's certificate must be for.
    pub async fn connect<S>(&self, socket: S, server_name: &str) -> Result<ClientStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Ok(name) = ServerName::try_from(server_name.to_owned()) else {
            let problem = HandshakeProblem::BadServerName;
            return Err(Error::Handshake { peer: server_name.to_owned(), problem });
        };
        finish(self.connector.connect(name, socket), server_name, &self.files).await
    }
}

async fn finish<T>(
    handshake: impl Future<Output = std::io::Result<T>>,
    peer: &str,
    files: &TlsFiles,
) -> Result<T> {
    match timeout(HANDSHAKE_LIMIT, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(cause)) => {
            let problem = HandshakeProblem::of(&cause, files);
            Err(Error::Handshake { peer: peer.to_owned(), problem })
        }
        Err(_) => {
            Err(Error::Silent { peer: peer.to_owned(), what: "the TLS handshake", after: HANDSHAKE_LIMIT })
        }
    }
}

/// The certificate that a client presented; it has been verified against the CA.
pub fn peer_certificate<S>(stream: &ServerStream<S>) -> Option<CertificateDer<'static>> {
    let (_, connection) = stream.get_ref();
    connection.peer_certificates()?.first().map(|certificate| certificate.clone().into_owned())
}

/// True when the certificate is for `name`: one of its subject alternative names says so. This does not verify
/// who signed it.
pub fn peer_is(certificate: &CertificateDer<'_>, name: &str) -> bool {
    let Ok(name) = ServerName::try_from(name) else {
        return false;
    };
    webpki::EndEntityCert::try_from(certificate)
        .is_ok_and(|certificate| certificate.verify_is_valid_for_subject_name(&name).is_ok())
}

#[cfg(test)]
mod tests;
