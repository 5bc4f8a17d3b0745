//! TLS 1.3. A client may present a certificate of our authority, and none of another.

use crate::authority::Authority;
use anyhow::{Context, Result};
use control_api::time::Time;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio_rustls::TlsAcceptor;

/// The server's certificate is made anew so often; it is valid three times as long.
const RENEW_EVERY: Duration = Duration::from_secs(30 * 86_400);

/// Who the server is to those who connect now.
#[derive(Clone)]
pub(super) struct Identity {
    authority: Arc<Authority>,
    names: Vec<String>,
    current: Arc<RwLock<TlsAcceptor>>,
}

impl Identity {
    /// Makes a key and a certificate for the host's own name, the configured names, and the name that hosts look for.
    pub(super) fn make(authority: Arc<Authority>, names: &[String], now: Time) -> Result<Identity> {
        let mut names = names.to_vec();
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        if control_api::registration::valid_host_name(&own) && !names.contains(&own) {
            names.push(own);
        }
        let acceptor = acceptor(&authority, &names, now)?;
        Ok(Identity { authority, names, current: Arc::new(RwLock::new(acceptor)) })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Makes a new key and certificate long before the old one ends, for as long as the server runs.
    pub(super) async fn keep_new(self, clock: fn() -> Time) {
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            match acceptor(&self.authority, &self.names, clock()) {
                Ok(acceptor) => {
                    *self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = acceptor;
                    tracing::info!("the server has a new certificate");
                }
                Err(error) => tracing::error!("cannot make a new certificate for the server: {error:#}"),
            }
        }
    }
}

fn acceptor(authority: &Authority, names: &[String], now: Time) -> Result<TlsAcceptor> {
    let (certificate, key) = authority.identity(names, now)?;
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).context("the authority's certificate cannot be used")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .context("the authority's certificate cannot be used")?;
    let chain = vec![certificate, authority.certificate().clone()];
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| builder.with_client_cert_verifier(verifier).with_single_cert(chain, key))
        .context("the server's certificate cannot be used")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
