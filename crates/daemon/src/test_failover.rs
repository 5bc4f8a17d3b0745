//! Test failovers: writable views of recovery points, served over NBD while replication goes on.

use crate::item::ItemHandle;
use crate::tested::Tested;
use crate::views::{HeldView, resolve};
use block_device::{Caching, HostFolder, durable_file};
use control_api::time::{self, Time};
use control_api::{Alert, AlertKind, Failure, NbdExport, PointSelector, TestFailover};
use disk::{Disk, Folder};
use nbd::{Export, Overlay};
use replication_receiver::Storage;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use transport::nbd_server::{self, Limits, Listener, Security, Served};

/// Test failovers at once: each holds memory for its map of what was written.
const MOST: usize = 32;
/// One that runs for longer is reminded of, in nanoseconds.
const LONG: u64 = 4 * 3600 * time::SECOND;
/// The file with the number of the last one.
const LAST_ID: &str = "last-id";

/// All test failovers of the daemon.
pub(crate) struct TestFailovers {
    scratch_folder: PathBuf,
    socket_folder: PathBuf,
    /// The number of the last one. None is used twice, over restarts too, so an order to end one never ends another.
    last_id: Mutex<Option<u64>>,
    places: Arc<Semaphore>,
    pub(crate) tested: Tested,
    list: Mutex<BTreeMap<u64, Running>>,
}

struct Running {
    about: TestFailover,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

/// Reminds of test failovers of an item that have been running for long.
pub(crate) fn reminder(item: &str, tests: &[TestFailover], now: Time) -> Option<Alert> {
    let left: Vec<&TestFailover> =
        tests.iter().filter(|test| test.item == item && now.saturating_sub(test.started) > LONG).collect();
    let first = left.iter().map(|test| test.started).min()?;
    let numbers: Vec<String> = left.iter().map(|test| test.id.to_string()).collect();
    let message = format!(
        "running since {}: test failover {}; recovery points from what one shows on are kept for it, so end those that \
         nobody needs: mtctl test-failover stop {}",
        time::format(first),
        numbers.join(", "),
        numbers[0]
    );
    Some(Alert { kind: AlertKind::TestFailoverLeft, since: first + LONG, message })
}

/// What a view needs from a blocking thread: the point and its exports.
struct Prepared {
    point: control_api::Point,
    exports: Vec<(Export, u64)>,
}

impl TestFailovers {
    /// None yet. What is written to them goes to the state folder; their sockets stand beside the daemon's own.
    pub(crate) fn new(state_folder: &Path, socket_folder: &Path) -> TestFailovers {
        let scratch_folder = state_folder.join("test-failover");
        TestFailovers {
            tested: Tested::load(&scratch_folder),
            scratch_folder,
            socket_folder: socket_folder.to_path_buf(),
            last_id: Mutex::default(),
            places: Arc::new(Semaphore::new(MOST)),
            list: Mutex::default(),
        }
    }

    /// Starts one.
    pub(crate) async fn start(
        self: &Arc<Self>,
        item: &ItemHandle,
        selector: PointSelector,
        listen: Option<String>,
        now: Time,
    ) -> Result<TestFailover, Failure> {
        let failed = |why: &dyn std::fmt::Display, next: &str| {
            Failure::new(item.name(), "cannot start a test failover", why, next)
        };
        let storage = item.storage()?;
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            failed(&format!("{MOST} are under way already"), "stop one first: mtctl test-failover list")
        })?;
        let registry = self.clone();
        let prepare = move || {
            let item = &storage.identity().item;
            let id = registry.new_id().map_err(|error| {
                let next = "make room on the volume of the state folder";
                Failure::new(item, "cannot start a test failover", error, next)
            })?;
            let prepared = prepare(&storage, &selector, &registry.scratch_folder, id)?;
            registry.tested.note(item, &prepared.point, now);
            Ok::<_, Failure>((id, prepared))
        };
        let (id, prepared) =
            tokio::task::spawn_blocking(prepare).await.map_err(|error| failed(&error, "see the log"))??;
        let (listener, address) = self
            .listen(id, listen)
            .await
            .map_err(|why| failed(&why, "give another address: --listen unix:PATH or tcp:ADDRESS:PORT"))?;
        let served = Served::new();
        let mut exports = Vec::new();
        for (export, size) in prepared.exports {
            let disk = export.name().to_string();
            exports.push(NbdExport { uri: address.uri(&disk), disk, size });
            served.add(export).map_err(|error| failed(&error, "give the disks of the item different ids"))?;
        }
        let about =
            TestFailover { id, item: item.name().to_string(), point: prepared.point, started: now, exports };
        self.run(about.clone(), item, listener, served, address, place);
        Ok(about)
    }

    fn list(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Running>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that none has had; durable when this returns.
    fn new_id(&self) -> std::io::Result<u64> {
        let mut last = self.last_id.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.scratch_folder.join(LAST_ID);
        let known = match *last {
            Some(known) => known,
            None => {
                std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
            }
        };
        let id = known + 1;
        std::fs::create_dir_all(&self.scratch_folder)?;
        durable_file::replace(&path, format!("{id}\n").as_bytes(), 0o600)?;
        *last = Some(id);
        Ok(id)
    }

    async fn listen(&self, id: u64, listen: Option<String>) -> Result<(Listener, Address), String> {
        let listen = listen.unwrap_or_else(|| {
            format!("unix:{}", self.socket_folder.join(format!("test-failover-{id}.sock")).display())
        });
        match listen.split_once(':') {
            Some(("unix", path)) if path.starts_with('/') => {
                let path = PathBuf::from(path);
                let listener = Listener::unix(&path).map_err(|error| error.to_string())?;
                Ok((listener, Address::Unix(path)))
            }
            Some(("tcp", address)) => {
                let listener = Listener::tcp(address).await.map_err(|error| error.to_string())?;
                let address = listener.address().map_err(|error| error.to_string())?;
                Ok((listener, Address::Tcp(address)))
            }
            _ => Err(format!("{listen:?} is no address to listen at")),
        }
    }

    /// Serves until it is stopped, or the item is closed.
    fn run(
        self: &Arc<Self>,
        about: TestFailover,
        item: &ItemHandle,
        listener: Listener,
        served: Served,
        address: Address,
        place: OwnedSemaphorePermit,
    ) {
        let (stop, mut stopped) = watch::channel(false);
        let (id, name) = (about.id, about.item.clone());
        tracing::info!(item = %name, id, point = about.point.number, "test failover started");
        self.list().insert(id, Running { about, stop, task: None });
        let mut snapshot = item.watch();
        let registry = self.clone();
        let task = tokio::spawn(async move {
            let shutdown = async move {
                tokio::select! {
                    _ = stopped.wait_for(|stop| *stop) => {}
                    _ = snapshot.wait_for(|snapshot| snapshot.storage.is_none()) => {}
                }
            };
            nbd_server::serve(listener, served, Security::Off, Limits::default(), shutdown).await;
            address.clean_up();
            registry.list().remove(&id);
            drop(place);
            tracing::info!(item = %name, id, "test failover ended");
        });
        if let Some(running) = self.list().get_mut(&id) {
            running.task = Some(task);
        }
    }

    /// Ends one; it is gone when this returns.
    pub(crate) async fn stop(&self, id: u64) -> Result<(), Failure> {
        let task = match self.list().get_mut(&id) {
            None => {
                return Err(Failure::new(
                    format!("test failover {id}"),
                    "cannot be stopped",
                    "there is none of this number",
                    "mtctl test-failover list shows those there are",
                ));
            }
            Some(running) => {
                running.stop.send_replace(true);
                running.task.take()
            }
        };
        if let Some(task) = task {
            let _ = task.await;
        }
        Ok(())
    }

    /// Ends all.
    pub(crate) async fn stop_all(&self) {
        let ids: Vec<u64> = self.list().keys().copied().collect();
        for id in ids {
            let _ = self.stop(id).await;
        }
    }

    /// Those that are under way.
    pub(crate) fn all(&self) -> Vec<TestFailover> {
        self.list().values().map(|running| running.about.clone()).collect()
    }
}

fn prepare(
    storage: &Arc<Storage>,
    selector: &PointSelector,
    scratch: &Path,
    id: u64,
) -> Result<Prepared, Failure> {
    let point = resolve(storage, selector)?;
    let failed = |why: &dyn std::fmt::Display| {
        let next = "check the state folder and the item: mtctl items";
        Failure::new(&storage.identity().item, "cannot start a test failover", why, next)
    };
    let folder = HostFolder::open(scratch, Caching::PageCache).map_err(|error| failed(&error))?;
    let views = HeldView::all(storage, point.number).map_err(|error| failed(&error))?;
    let mut exports = Vec::new();
    for (n, (view, identity)) in views.into_iter().zip(&storage.identity().disks).enumerate() {
        let overlay = overlay(&folder, view, &format!("{id}-{n}")).map_err(|error| failed(&error))?;
        exports.push((Export::new(&identity.id, Arc::new(overlay), false), identity.size.0));
    }
    Ok(Prepared { point: crate::item::point(point), exports })
}

/// The scratch file has no name from the start on: it goes away with its last user, even after a crash.
fn overlay(folder: &HostFolder, view: HeldView, name: &str) -> disk::Result<Overlay> {
    if folder.list()?.iter().any(|existing| existing == name) {
        folder.remove(name)?;
    }
    let scratch = folder.create(name)?;
    folder.remove(name)?;
    let base: Arc<dyn Disk> = Arc::new(view);
    Overlay::new(base, scratch)
}

/// Where clients find a test failover.
enum Address {
    Unix(PathBuf),
    Tcp(String),
}

impl Address {
    fn uri(&self, export: &str) -> String {
        match self {
            Address::Unix(path) => {
                format!("nbd+unix:///{}?socket={}", escaped(export), escaped(&path.display().to_string()))
            }
            Address::Tcp(address) => format!("nbd://{address}/{}", escaped(export)),
        }
    }

    fn clean_up(&self) {
        if let Address::Unix(path) = self {
            // Whoever comes next replaces a socket that nobody listens at.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Percent-encoded, as a part of a URI.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_used_twice() {
        let state = tempfile::tempdir().unwrap();
        let numbers = |count| {
            let registry = TestFailovers::new(state.path(), Path::new("/run"));
            (0..count).map(|_| registry.new_id().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!((numbers(2), numbers(1)), (vec![1, 2], vec![3]));
    }

    #[test]
    fn one_that_runs_for_long_is_reminded_of() {
        const HOUR: Time = 3600 * time::SECOND;
        let point = control_api::Point {
            number: 7,
            source_time: 1,
            receive_time: 1,
            bookmark: None,
            tested: None,
            journal_bytes: 0,
        };
        let test = |id, item: &str, started| TestFailover {
            id,
            item: item.into(),
            point: point.clone(),
            started,
            exports: Vec::new(),
        };
        let tests = [test(1, "web01", HOUR), test(2, "db01", HOUR), test(3, "web01", 2 * HOUR)];
        assert_eq!(reminder("web01", &tests, 5 * HOUR), None);
        let one = reminder("web01", &tests, 5 * HOUR + 1).unwrap();
        assert_eq!((one.kind, one.since), (AlertKind::TestFailoverLeft, 5 * HOUR));
        assert!(
            one.message.contains("test failover 1;") && one.message.contains("stop 1"),
            "{}",
            one.message
        );
        let both = reminder("web01", &tests, 7 * HOUR).unwrap();
        assert!(both.message.contains("test failover 1, 3;"), "{}", both.message);
        assert_eq!(reminder("app01", &tests, 7 * HOUR), None);
    }

    #[test]
    fn uris_name_export_and_place() {
        let unix = Address::Unix("/run/a b.sock".into());
        assert_eq!(unix.uri("disk#0"), "nbd+unix:///disk%230?socket=/run/a%20b.sock");
        assert_eq!(Address::Tcp("127.0.0.1:10809".into()).uri("d"), "nbd://127.0.0.1:10809/d");
    }
}
