//! Somebody in between, who relays everything.

use crate::support::{ConfigurationServer, folder, host, register};
use registration::Error;
use registration::server::Server;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Believes everybody.
#[derive(Debug)]
pub(crate) struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Ends the TLS of whoever connects, with a certificate of its own, and begins another to the server: what a proxy that
/// looks into TLS does. It shows the server's authority, and relays each byte as it is.
pub(crate) fn interceptor(to: &Server, authority: CertificateDer<'static>) -> Server {
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec!["cs.example".into()]).unwrap().self_signed(&key).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    intercepted(to, vec![own.der().clone(), authority], key, rustls::ALL_VERSIONS, |answer| answer)
}

/// The same with this chain and key, speaking these versions of TLS, and with each answer of the server, all of it, going
/// through `changed`.
pub(crate) fn intercepted(
    to: &Server,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    versions: &[&'static rustls::SupportedProtocolVersion],
    changed: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static,
) -> Server {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    let (acceptor, connector) = (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)));
    let changed = Arc::new(changed);
    relay(to, move |near, far| {
        let (acceptor, connector, changed) = (acceptor.clone(), connector.clone(), changed.clone());
        async move {
            let name = ServerName::try_from("cs.example").unwrap();
            let (Ok(near), Ok(far)) = (acceptor.accept(near).await, connector.connect(name, far).await)
            else {
                return;
            };
            let ((mut read_near, mut write_near), (mut read_far, mut write_far)) =
                (tokio::io::split(near), tokio::io::split(far));
            let forth = async {
                let _ = tokio::io::copy(&mut read_near, &mut write_far).await;
            };
            let back = async {
                while let Some(answer) = whole_answer(&mut read_far).await {
                    if write_near.write_all(&changed(answer)).await.is_err()
                        || write_near.flush().await.is_err()
                    {
                        return;
                    }
                }
            };
            tokio::select! { () = forth => {}, () = back => {} }
        }
    })
}

/// An answer up to the end of its body; `None` when there is none any more.
async fn whole_answer(from: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let count = from.read(&mut part).await.ok().filter(|count| *count > 0)?;
        answer.extend_from_slice(&part[..count]);
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
        if answer.len() - end - 4 >= length.unwrap_or(0) {
            return Some(answer);
        }
    }
}

/// Hands each connection, with another one to the server, to `carry`.
pub(crate) fn relay<F: Future<Output = ()> + Send + 'static>(
    to: &Server,
    carry: impl Fn(TcpStream, TcpStream) -> F + Send + 'static,
) -> Server {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = (to.address.clone(), to.port);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect((to.0.as_str(), to.1)).await.unwrap();
                tokio::spawn(carry(near, far));
            }
        });
    });
    Server { address: "127.0.0.1".into(), port }
}

pub(crate) fn authority(cs: &ConfigurationServer) -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_file(cs.state.join("ca.pem")).unwrap()
}

#[test]
fn whoever_opens_the_tls_in_between_is_found_however_faithfully_he_relays() {
    let (state, machine) = (folder(), folder());
    let cs = ConfigurationServer::start(state.path());
    let between = interceptor(&cs.server, authority(&cs));
    // He passes for the server up to here.
    assert!(registration::server::ask(&between).version.is_ok());
    let outcome = register(&between, &cs.passphrase(), &host(1, 1), machine.path());
    let Err(error @ Error::InBetween { .. }) = outcome else { panic!("{outcome:?}") };
    assert!(error.to_string().contains("opens the TLS connection"), "{error}");
    assert!(cs.hosts().is_empty());
    let outcomes =
        crate::support::wait_for("the audit", || Some(cs.outcomes()).filter(|all| !all.is_empty()));
    assert_eq!(outcomes, ["not proved"]);
    assert_eq!(std::fs::read_dir(machine.path()).unwrap().count(), 0);
}

#[test]
fn who_relays_tls_as_it_is_does_no_harm() {
    let (state, machine) = (folder(), folder());
    let cs = ConfigurationServer::start(state.path());
    let between = relay(&cs.server, |mut near, mut far| async move {
        let _ = copy_bidirectional(&mut near, &mut far).await;
    });
    register(&between, &cs.passphrase(), &host(1, 1), machine.path()).unwrap();
    registration::renew(machine.path(), host(1, 1)).unwrap();
}

#[test]
fn a_registered_machine_talks_to_no_other_server() {
    let (state, machine) = (folder(), folder());
    let cs = ConfigurationServer::start(state.path());
    let between = interceptor(&cs.server, authority(&cs));
    cs.register(&host(1, 1), machine.path()).unwrap();
    let path = machine.path().join("identity/registration.json");
    let kept = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, kept.replace(&cs.server.port.to_string(), &between.port.to_string())).unwrap();
    let error = registration::renew(machine.path(), host(1, 1)).unwrap_err().to_string();
    assert!(error.contains("shows a certificate that is not of the configuration server"), "{error}");
}
