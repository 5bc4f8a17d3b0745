//! The `mt-source` process: real disks, TLS, NBD, signals; killed and stopped.

use crate::support::Target;
use change_stream::{Compression, Frame};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rig::NbdClient;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testkit::Rng;
use tokio::net::TcpListener;
use transport::tls::{ServerTls, TlsFiles};
use transport::{FrameReader, FrameWriter};

const SIZE: usize = 9 << 20;
const PROGRAM: &str = env!("CARGO_BIN_EXE_mt-source");

pub(crate) struct Setup {
    folder: tempfile::TempDir,
    pub(crate) target: Arc<Mutex<Target>>,
    _runtime: tokio::runtime::Runtime,
}

impl Setup {
    pub(crate) fn new(compression: &str) -> Setup {
        let folder = tempfile::tempdir().unwrap();
        certificates(folder.path());
        let mut content = vec![0; SIZE];
        Rng::new(7).fill(&mut content[1 << 20..4 << 20]);
        std::fs::write(folder.path().join("disk.img"), content).unwrap();
        let target = Arc::new(Mutex::new(Target::new(&[SIZE])));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let port = runtime.block_on(serve(target.clone(), files(folder.path(), "server")));
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "item = \"web01\"\ntarget = \"127.0.0.1:{port}\"\nstate_folder = {:?}\nsocket = {:?}\n\
             compression = {compression:?}\n[tls]\ncertificate = {:?}\nkey = {:?}\nca = {:?}\n\
             [nbd]\nlisten = \"unix:{}\"\n[hooks]\npre = [\"touch\", {:?}]\npost = [\"rm\", {:?}]\n\
             [[disks]]\nid = \"system\"\npath = {:?}\n",
            path("state"),
            path("control.sock"),
            path("client.pem"),
            path("client.key"),
            path("ca.pem"),
            path("nbd.sock"),
            path("frozen"),
            path("frozen"),
            path("disk.img"),
        );
        std::fs::write(folder.path().join("mt-source.toml"), config).unwrap();
        Setup { folder, target, _runtime: runtime }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn start(&self) -> Running {
        self.start_with(&[])
    }

    /// The same, with variables in its environment.
    pub(crate) fn start_with(&self, variables: &[(&str, &str)]) -> Running {
        let child = Command::new(PROGRAM)
            .envs(variables.iter().copied())
            .args(["replicate", "--config"])
            .arg(self.path("mt-source.toml"))
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Running(child)
    }

    pub(crate) fn ask(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(PROGRAM)
            .args(arguments)
            .arg("--config")
            .arg(self.path("mt-source.toml"))
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    }

    /// Has the target take everything and acknowledge nothing.
    pub(crate) fn hold_acknowledgements(&self, held: bool) {
        self.target.lock().unwrap().is_mute = held;
    }

    pub(crate) fn client(&self) -> NbdClient {
        wait_for("the NBD server", || NbdClient::connect(&self.path("nbd.sock"), "system").ok())
    }

    /// Waits until the target has everything, and compares.
    pub(crate) fn wait_level(&self) {
        wait_for("the target to be level", || {
            let (_, answer) = self.ask(&["status", "--json"]);
            let status: serde_json::Value = serde_json::from_str(&answer).ok()?;
            let report = &status;
            let next = report["next_sequence"].as_u64()?;
            let done = report["state"] == "level"
                && report["dirty_bytes"] == 0
                && report["acknowledged_sequence"].as_u64()? + 1 == next;
            done.then_some(())
        });
        let source = std::fs::read(self.path("disk.img")).unwrap();
        assert!(source == self.target.lock().unwrap().disks[0], "the target is not what the source is");
    }
}

/// Killed when dropped.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn stop(mut self) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").arg(id).status().unwrap().success());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn certificates(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

fn files(folder: &Path, name: &str) -> TlsFiles {
    TlsFiles {
        certificate: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
        ca: folder.join("ca.pem"),
    }
}

/// Serves the oracle to whoever connects; everything is durable as soon as it is there.
async fn serve(target: Arc<Mutex<Target>>, files: TlsFiles) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = ServerTls::load(&files).unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (tls, target) = (tls.clone(), target.clone());
            tokio::spawn(async move {
                let Ok(stream) = tls.accept(socket, "source").await else { return };
                let (read, write) = tokio::io::split(stream);
                let reader = FrameReader::new(read, "source");
                let writer = FrameWriter::new(write, "source", Compression::None);
                // A source that is killed breaks its connection.
                let _ = converse(reader, writer, target).await;
            });
        }
    });
    port
}

async fn converse<R, W>(
    mut reader: FrameReader<R>,
    mut writer: FrameWriter<W>,
    target: Arc<Mutex<Target>>,
) -> transport::Result<()>
where
    R: tokio::io::AsyncRead + Unpin,
    W: tokio::io::AsyncWrite + Unpin,
{
    let Some(first) = reader.next().await? else { return Ok(()) };
    let is_main = matches!(first, Frame::Hello { .. });
    let mut session = None;
    let mut frame = Some(first);
    while let Some(current) = frame {
        // What a killed process left on the way does not count once its successor is there.
        if session.is_some_and(|session| session != target.lock().unwrap().sessions) {
            return Ok(());
        }
        let reply = match is_main {
            true => {
                let mut target = target.lock().unwrap();
                let reply = target.frame(current);
                session = Some(target.sessions);
                reply
            }
            false => {
                target.lock().unwrap().bulk(current);
                None
            }
        };
        if let Some(reply) = reply {
            writer.queue(&reply)?;
        }
        frame = reader.buffered()?;
        if frame.is_none() {
            let ack = if is_main { target.lock().unwrap().acknowledge() } else { None };
            if let Some(ack) = ack {
                writer.queue(&ack)?;
            }
            writer.flush().await?;
            // Bulk data may make more of the order durable without a frame on this connection.
            frame = loop {
                match tokio::time::timeout(Duration::from_millis(50), reader.next()).await {
                    Ok(frame) => break frame?,
                    Err(_) if is_main => {
                        let ack = target.lock().unwrap().acknowledge();
                        if let Some(ack) = ack {
                            writer.send(&ack).await?;
                            writer.flush().await?;
                        }
                    }
                    Err(_) => {}
                }
            };
        }
    }
    Ok(())
}

#[test]
fn application_consistent_bookmarks_are_set_from_time_to_time() {
    let setup = Setup::new("none");
    let file = setup.path("mt-source.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace("[hooks]\n", "[hooks]\nevery_seconds = 1\n")).unwrap();
    // A planned failover that was given up before keeps nobody from it.
    std::fs::create_dir_all(setup.path("state")).unwrap();
    let given_up = r#"{"state":"given-up","bookmark":"b","why":"w","cancelled":false,"thawed":true}"#;
    std::fs::write(setup.path("state/quiescence.json"), given_up).unwrap();
    let agent = setup.start();
    wait_for("three bookmarks", || {
        let target = setup.target.lock().unwrap();
        let regular = target.bookmarks_taken.iter().filter(|name| name.starts_with("regular 2"));
        (regular.count() >= 3).then_some(())
    });
    agent.stop();
    assert!(!setup.path("frozen").exists(), "what was quiesced is thawed");
}

#[test]
fn a_disk_is_replicated_through_kill_and_restart() {
    let setup = Setup::new("lz4");
    let mut rng = Rng::new(1);
    let agent = setup.start();
    let mut client = setup.client();
    let mut write = |client: &mut NbdClient, times: u64| {
        for _ in 0..times {
            let mut data = vec![0; 512 * (1 + rng.below(16)) as usize];
            rng.fill(&mut data);
            client.write(rng.below((SIZE - data.len()) as u64), &data).unwrap();
        }
    };
    write(&mut client, 200);
    setup.wait_level();
    write(&mut client, 100);
    client.flush().unwrap();
    setup.wait_level();
    let before = std::fs::read(setup.path("disk.img")).unwrap();
    let (set, answer) = setup.ask(&["bookmark", "monday", "--app-consistent"]);
    assert!(set, "{answer}");
    assert!(!setup.path("frozen").exists(), "the post hook ran");
    write(&mut client, 100);
    setup.wait_level();
    assert!(setup.target.lock().unwrap().bookmarks["monday"][0] == before);

    write(&mut client, 300);
    drop(agent);
    let agent = setup.start();
    let mut client = setup.client();
    write(&mut client, 100);
    setup.wait_level();
    let syncs = setup.target.lock().unwrap().sync_begins.len();

    agent.stop();
    let agent = setup.start();
    let mut client = setup.client();
    write(&mut client, 100);
    setup.wait_level();
    assert_eq!(setup.target.lock().unwrap().sync_begins.len(), syncs, "a clean restart needs no sync");
    drop(client);
    agent.stop();
    let (answered, answer) = setup.ask(&["status"]);
    assert!(!answered && answer.contains("no mt-source answers"), "{answer}");
}

#[test]
fn a_scan_sends_what_differs_and_ends_level_with_a_bookmark() {
    let setup = Setup::new("zstd");
    let scan = |bookmark: &str| {
        let status = Command::new(PROGRAM)
            .args(["scan", "--quiet", "--bookmark", bookmark, "--config"])
            .arg(setup.path("mt-source.toml"))
            .status()
            .unwrap();
        assert!(status.success());
    };
    scan("first");
    let mut content = std::fs::read(setup.path("disk.img")).unwrap();
    content[5_000_000..5_000_100].fill(1);
    std::fs::write(setup.path("disk.img"), &content).unwrap();
    let before = setup.target.lock().unwrap().sync_bytes;
    scan("second");
    let target = setup.target.lock().unwrap();
    assert!(target.disks[0] == content);
    assert_eq!(target.sync_bytes - before, 16 << 10, "only the part that differs was sent");
    assert!(target.bookmarks["second"][0] == content);
    assert!(target.bookmarks["first"][0] != content);
}
