//! Our server, and disks to serve.

use block_device::{Caching, FileDisk};
use disk::{Access, Disk, MemoryDisk};
use nbd::Export;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use transport::nbd_server::{self, Limits, Listener, Security, Served};
use transport::tls::{ServerTls, TlsFiles};

/// What the server listens at.
pub enum Transport {
    /// A Unix socket.
    Unix,
    /// A TCP port, in plain text.
    Tcp,
    /// A TCP port, with TLS for all.
    Tls,
}

/// A running server; it shuts down when dropped.
pub struct Server {
    /// What it serves.
    pub exports: Served,
    /// Its socket and certificates, and room for a test's own files.
    pub folder: TempDir,
    address: String,
    stop: Option<oneshot::Sender<()>>,
    runtime: Option<Runtime>,
}

impl Server {
    /// Starts a server without exports.
    pub fn start(transport: Transport) -> Server {
        let folder = TempDir::new().unwrap();
        let runtime = Runtime::new().unwrap();
        let security = match transport {
            Transport::Tls => Security::Required(ServerTls::load(&write_identity(folder.path())).unwrap()),
            _ => Security::Off,
        };
        let listener = runtime.block_on(async {
            match transport {
                Transport::Unix => Listener::unix(&folder.path().join("nbd.sock")),
                _ => Listener::tcp("127.0.0.1:0").await,
            }
        });
        let listener = listener.unwrap();
        let address = listener.address().unwrap();
        let exports = Served::new();
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async { stopped.await.unwrap_or(()) };
        runtime.spawn(nbd_server::serve(listener, exports.clone(), security, Limits::default(), until));
        Server { exports, folder, address, stop: Some(stop), runtime: Some(runtime) }
    }

    /// A server on a Unix socket with one writable export called `disk`.
    pub fn with_disk(disk: Arc<dyn Disk>) -> Server {
        let server = Server::start(Transport::Unix);
        server.exports.add(Export::new("disk", disk, false)).unwrap();
        server
    }

    /// The URI of an export, as all clients take it.
    pub fn uri(&self, export: &str) -> String {
        match self.address.strip_prefix('/') {
            Some(_) => format!("nbd+unix:///{export}?socket={}", self.address),
            None => format!("nbd://{}/{export}", self.address),
        }
    }

    /// The same with TLS, using the certificates of [`write_identity`].
    pub fn tls_uri(&self, export: &str) -> String {
        let certificates = self.folder.path().display();
        format!("nbds://{}/{export}?tls-certificates={certificates}", self.address)
    }

    /// A path for a test's own file.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(std::time::Duration::from_secs(5));
        }
    }
}

/// A disk in memory whose bytes differ from place to place.
pub fn pattern(size: usize) -> Arc<MemoryDisk> {
    Arc::new(MemoryDisk::with_contents("pattern", pattern_bytes(size)))
}

fn pattern_bytes(size: usize) -> Vec<u8> {
    let mut state = 1u64;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    });
    words.flat_map(u32::to_le_bytes).take(size).collect()
}

/// A raw image of `size` bytes with data in `data` (offset and length of each) and holes elsewhere.
pub fn sparse_file(path: &Path, size: u64, data: &[(u64, usize)]) -> Arc<FileDisk> {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    for (offset, length) in data {
        file.write_all_at(&pattern_bytes(*length), *offset).unwrap();
    }
    file.sync_all().unwrap();
    drop(file);
    Arc::new(FileDisk::open(path, Access::Write, Caching::PageCache).unwrap())
}

/// Makes a CA and certificates for both ends in a folder, under the names that libnbd and QEMU look for.
pub fn write_identity(folder: &Path) -> TlsFiles {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let at = |name: &str| folder.join(name);
    std::fs::write(at("ca-cert.pem"), ca.pem()).unwrap();
    for end in ["server", "client"] {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, end);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        std::fs::write(at(&format!("{end}-cert.pem")), certificate.pem()).unwrap();
        std::fs::write(at(&format!("{end}-key.pem")), key.serialize_pem()).unwrap();
    }
    TlsFiles { certificate: at("server-cert.pem"), key: at("server-key.pem"), ca: at("ca-cert.pem") }
}
