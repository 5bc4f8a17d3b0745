//! The process around the state machine: sockets, threads, files, signals.
//!
//! One task, the driver, owns the [`Sender`] and does what it says; each connection is a task of its own;
//! jobs run on blocking threads; NBD clients are served by `transport`. The writers of the disks meet the driver only in
//! the tracker's lock.

pub mod config;
mod connection;
pub mod control;
mod disks;
mod driver;
mod hooks;
mod host;
mod progress;
mod server_link;
pub mod status;

use crate::{BacklogLimits, Found, Notice, Scan, Sender, SenderConfig, SplitterDisk, Tracker, TrackerConfig};
use anyhow::{Context, Result, bail};
use block_device::{Caching, HostFolder};
use change_stream::BookmarkKind;
use config::{Config, Nbd};
use connection::Peer;
use control::Control;
use disk::{Access, Bytes, Disk};
use disks::OpenDisks;
use driver::DriverHandle;
use host::SteadyClock;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, Notify, mpsc, watch};
use transport::nbd_server::{self, Listener, Security, Served};
use transport::tls::{ClientTls, TlsFiles};

/// Most bytes of sync data that are read and not acknowledged.
const WINDOW: u64 = 32 << 20;
/// Bytes of one segment of the backlog, and bytes of it that are kept in memory.
const SEGMENT: u64 = 16 << 20;
const CACHE: usize = 8 << 20;

/// What a scan does.
#[derive(Clone, Debug)]
pub struct ScanOptions {
    /// Nothing writes to the disks: the last pass ends level, with a bookmark.
    pub quiet: bool,
    /// How many passes.
    pub passes: u64,
    /// Time between the beginnings of two passes.
    pub interval: Duration,
    /// Name of the bookmark.
    pub bookmark: String,
}

/// Everything open, before anything runs.
struct Opened {
    config: Config,
    disks: OpenDisks,
    tracker: Arc<Tracker>,
    splitters: Vec<Arc<SplitterDisk>>,
    peer: Arc<Peer>,
    clock: SteadyClock,
    changed: Arc<Notify>,
}

/// Serves the disks and replicates what is written to them, until SIGTERM or SIGINT.
pub async fn replicate(config: Config) -> Result<()> {
    let opened = Opened::open(config, Access::Write)?;
    let mut signals = Signals::new()?;
    let listener = listen_nbd(&opened.config.nbd).await?;
    let nbd = listener.address().context("the NBD socket has no address")?;
    let local = control::listen(&opened.config.socket)?;
    let served = opened.exports()?;
    let (driver, notices) = opened.start(None);
    let (stopper, stop) = watch::channel(false);
    let control = Arc::new(opened.control(driver.clone(), Some(nbd.clone()), stop.clone()));
    let local = tokio::spawn(control::serve(local, control.clone()));
    let watching = tokio::spawn(progress::watch(notices, control.clone()));
    let renewing = tokio::spawn(crate::register::keep_valid(opened.config.state_folder.clone()));
    let (link, telling) = server_link::start(control.clone());
    let stopped = async move {
        let mut stop = stop;
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let nbd_task = tokio::spawn(nbd_server::serve(
        listener,
        served,
        Security::Off,
        nbd_server::Limits { workers: 4, bytes_in_flight: 8 << 20, ..nbd_server::Limits::default() },
        stopped,
    ));
    tracing::info!("serving {} disks over NBD at {nbd}", opened.splitters.len());
    // Without systemd there is nobody to notify.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    signals.recv().await;
    tracing::info!("stopping");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    // A job is not ended by what follows, but goes on at the next start.
    link.begin_stop();
    stopper.send_replace(true);
    nbd_task.await.context("the NBD server failed")?;
    // A bookmark under way thaws what it froze first.
    drop(control.bookmarks.lock().await);
    telling.abort();
    let _ = tokio::task::spawn_blocking(move || link.stop()).await;
    driver.stop("the source agent stops").await;
    local.abort();
    watching.abort();
    renewing.abort();
    let _ = std::fs::remove_file(&opened.config.socket);
    opened.close()
}

/// Compares the disks with the target, pass by pass, and sends what differs.
pub async fn scan(config: Config, options: &ScanOptions) -> Result<()> {
    let opened = Opened::open(config, Access::Read)?;
    let mut signals = Signals::new()?;
    let mut result = Ok(());
    for pass in 1..=options.passes {
        let began = tokio::time::Instant::now();
        let quiet = options.quiet && pass == options.passes;
        tracing::info!("pass {pass} of {}", options.passes);
        let (driver, notices) = opened.start(Some(Scan { quiet }));
        result = tokio::select! {
            result = opened.pass(&driver, notices, quiet.then_some(options.bookmark.as_str())) => result,
            () = signals.recv() => Err(anyhow::anyhow!("stopped by a signal; the pass is not finished")),
        };
        driver.stop("the pass ends").await;
        if result.is_err() {
            break;
        }
        if pass < options.passes {
            tokio::select! {
                () = tokio::time::sleep_until(began + options.interval) => {}
                () = signals.recv() => break,
            }
        }
    }
    opened.close()?;
    result
}

impl Opened {
    fn open(config: Config, access: Access) -> Result<Opened> {
        let files = TlsFiles {
            certificate: config.tls.certificate.clone(),
            key: config.tls.key.clone(),
            ca: config.tls.ca.clone(),
        };
        ClientTls::load(&files)?.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
        let disks = OpenDisks::open(&config.disks, access)?;
        let clock = SteadyClock::start();
        let changed = Arc::new(Notify::new());
        let tracker = open_tracker(&config, &disks, changed.clone())?;
        let time: crate::Clock = Arc::new(move || clock.now());
        let numbered = disks.disks.iter().zip(0u16..);
        let splitters = numbered
            .map(|(disk, number)| {
                Arc::new(SplitterDisk::new(disk.clone(), number, tracker.clone(), time.clone()))
            })
            .collect();
        let peer = Arc::new(Peer {
            target: config.target.clone(),
            server_name: config.server_name().to_owned(),
            files,
            compression: config.compression.compression(),
        });
        Ok(Opened { config, disks, tracker, splitters, peer, clock, changed })
    }

    fn exports(&self) -> Result<Served> {
        let served = Served::new();
        for (config, splitter) in self.config.disks.iter().zip(&self.splitters) {
            let disk: Arc<dyn Disk> = splitter.clone();
            served.add(nbd::Export::new(config.id.clone(), disk, false))?;
        }
        Ok(served)
    }

    fn start(&self, scan: Option<Scan>) -> (DriverHandle, mpsc::UnboundedReceiver<Notice>) {
        let config = SenderConfig {
            item: self.config.item.clone(),
            agent: concat!("mt-source ", env!("CARGO_PKG_VERSION")).to_owned(),
            compression: self.config.compression.compression(),
            bulk_connections: self.config.limits.bulk_connections,
            jobs: self.config.limits.jobs,
            window: WINDOW,
            scan,
        };
        let sender = Sender::new(config, self.tracker.clone(), self.splitters.clone());
        driver::start(sender, self.peer.clone(), self.clock, self.changed.clone())
    }

    fn control(&self, driver: DriverHandle, nbd: Option<String>, stop: watch::Receiver<bool>) -> Control {
        Control {
            config: self.config.clone(),
            tracker: self.tracker.clone(),
            driver,
            clock: self.clock,
            nbd,
            stop,
            bookmarks: Mutex::new(()),
        }
    }

    /// One pass of a scan, to its end; with a bookmark, until that is durable.
    async fn pass(
        &self,
        driver: &DriverHandle,
        notices: mpsc::UnboundedReceiver<Notice>,
        bookmark: Option<&str>,
    ) -> Result<()> {
        let (_stopper, stop) = watch::channel(false);
        let control = Arc::new(self.control(driver.clone(), None, stop));
        progress::until_pass_ends(notices, control).await?;
        let Some(name) = bookmark else { return Ok(()) };
        let sequence = self.tracker.bookmark(self.clock.now(), BookmarkKind::CrashConsistent, name, None)?;
        while self.tracker.standing().acknowledged < sequence {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tracing::info!("bookmark {name:?} is set and durable");
        Ok(())
    }

    /// Leaves disks and state as a clean shutdown does.
    fn close(&self) -> Result<()> {
        for disk in &self.disks.disks {
            disk.sync().context("the disk could not be made durable at the end")?;
        }
        self.tracker
            .close()
            .context("the state could not be closed cleanly; the next start compares more")?;
        self.disks.close()
    }
}

fn open_tracker(config: &Config, disks: &OpenDisks, changed: Arc<Notify>) -> Result<Arc<Tracker>> {
    let folder = &config.state_folder;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create the state folder {}", folder.display()))?;
    let state = HostFolder::open(folder, Caching::PageCache)
        .with_context(|| format!("cannot use the state folder {}", folder.display()))?;
    let tracker_config = TrackerConfig {
        disks: disks.descriptions(&config.disks),
        backlog: BacklogLimits { bytes: config.limits.backlog_mib << 20, segment: SEGMENT, cache: CACHE },
        boot: host::boot_id()?,
        fresh_stream: host::random_stream()?,
        on_change: Box::new(move || changed.notify_one()),
    };
    let (tracker, found) = Tracker::open(Arc::new(state), tracker_config)
        .with_context(|| format!("cannot open the state in {}", folder.display()))?;
    match found {
        Found::Nothing => tracing::info!("no earlier state of these disks: everything will be synced"),
        Found::Clean => tracing::info!("going on where the agent was stopped"),
        Found::Killed { uncertain } => {
            tracing::warn!("the agent was killed; {} are uncertain and will be compared", Bytes(uncertain))
        }
        Found::PowerLost => tracing::warn!("the machine went down; everything will be compared"),
        Found::Damaged => tracing::warn!("the state is damaged; everything will be compared"),
    }
    Ok(tracker)
}

async fn listen_nbd(config: &Nbd) -> Result<Listener> {
    let Some(path) = config.listen.strip_prefix("unix:") else {
        return Ok(Listener::tcp(&config.listen).await?);
    };
    let path = Path::new(path);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder of the NBD socket {}", path.display()))?;
    }
    Ok(Listener::unix(path)?)
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Signals> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Refuses to run as a scan what would not end well.
pub fn check_scan(options: &ScanOptions) -> Result<()> {
    if options.passes == 0 {
        bail!("0 passes do nothing; ask for at least 1");
    }
    Ok(())
}
