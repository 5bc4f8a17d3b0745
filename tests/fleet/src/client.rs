//! HTTP over TLS, as hosts and browsers speak it to the configuration server.

use anyhow::{Context, Result, bail, ensure};
use control_api::registration::SERVER_NAME;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Time for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// Whose client it is: the authority that it believes, and the certificate that it presents.
pub fn identity(folder: &Path, presents: bool) -> Result<Arc<ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join(registration::CA_FILE))?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let config = match presents {
        false => builder.with_no_client_auth(),
        true => {
            let chain = vec![CertificateDer::from_pem_file(folder.join(registration::CERTIFICATE_FILE))?];
            let key = PrivateKeyDer::from_pem_file(folder.join(registration::KEY_FILE))?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    Ok(Arc::new(config))
}

/// How a server is reached.
#[derive(Clone)]
pub struct Way {
    /// Where it listens.
    pub to: SocketAddr,
    /// An address of the loopback network that stands for a machine of its own.
    pub from: IpAddr,
    /// Whom the client believes and what it presents.
    pub tls: Arc<ClientConfig>,
}

/// One connection.
pub struct Connection {
    requests: SendRequest<Full<Bytes>>,
}

/// An answer.
pub struct Answer {
    /// Status of HTTP.
    pub status: u16,
    /// The headers.
    pub headers: hyper::HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body, when the status is a good one.
    pub fn good(self) -> Result<Bytes> {
        ensure!(
            (200..300).contains(&self.status),
            "status {}: {}",
            self.status,
            String::from_utf8_lossy(&self.body[..self.body.len().min(500)])
        );
        Ok(self.body)
    }

    /// What the body says in JSON, when the status is a good one.
    pub fn json<T: serde::de::DeserializeOwned>(self) -> Result<T> {
        let body = self.good()?;
        serde_json::from_slice(&body).with_context(|| {
            format!(
                "this is not what was expected: {}",
                String::from_utf8_lossy(&body[..body.len().min(500)])
            )
        })
    }
}

impl Connection {
    /// Connects, with TLS.
    pub async fn open(way: &Way) -> Result<Connection> {
        timeout(CONNECT_LIMIT, Connection::reach(way)).await.context("no connection in time")?
    }

    async fn reach(way: &Way) -> Result<Connection> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((way.from, 0).into())?;
        let stream = socket.connect(way.to).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(SERVER_NAME)?;
        let stream = TlsConnector::from(way.tls.clone()).connect(name, stream).await?;
        let (requests, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends when the connection does, or when nobody sends requests any more.
        tokio::spawn(connection);
        Ok(Connection { requests })
    }

    /// Whether the other side has closed it.
    pub fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    /// Sends a request and gives the head of its answer; the body is still to come.
    pub async fn begin(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        self.requests.ready().await?;
        Ok(self.requests.send_request(request).await?)
    }

    /// Sends a request and waits for its whole answer.
    pub async fn exchange(&mut self, request: Request<Full<Bytes>>, patience: Duration) -> Result<Answer> {
        let answer = timeout(patience, async {
            let (head, body) = self.begin(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
        });
        match answer.await {
            Ok(answer) => answer,
            Err(_) => bail!("no answer within {} s", patience.as_secs()),
        }
    }
}

/// A request with JSON in it.
pub fn post(path: &str, body: Vec<u8>) -> Result<Request<Full<Bytes>>> {
    let request = Request::post(path).header("host", SERVER_NAME).header("content-type", "application/json");
    Ok(request.body(Full::from(body))?)
}
