//! The process around the state machine: sockets, threads, files, signals.
//!
//! One task, the driver, owns the [`Sender`](crate::Sender) and does what it says; each connection is a task of its own;
//! jobs run on blocking threads; NBD clients are served by `transport`. The writers of the disks meet the driver only in
//! the tracker's lock. There is a driver as long as the agent is told where to replicate to ([`assignment`]).

pub mod assignment;
pub mod config;
mod connection;
pub mod control;
mod disks;
mod driver;
mod hooks;
mod host;
mod orders;
mod progress;
mod quiesce;
pub mod quiescence;
mod replication;
mod rhythm;
mod server_link;
pub mod status;
mod systemd;

use crate::{BacklogLimits, Found, Gate, Notice, Scan, SplitterDisk, Tracker, TrackerConfig};
use anyhow::{Context, Result, bail};
use block_device::{Caching, HostFolder};
use change_stream::BookmarkKind;
use config::{Config, Nbd};
use control::Control;
use disk::{Access, Bytes, Disk};
use disks::OpenDisks;
use host::SteadyClock;
use quiescence::Rest;
use replication::{Parts, Replication};
use rhythm::Rhythm;
use service::NotifyState;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, Notify, mpsc, watch};
use transport::nbd_server::{self, Listener, Security, Served};
use transport::tls::ClientTls;

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
    replication: Arc<Replication>,
    rest: Arc<Rest>,
    clock: SteadyClock,
}

/// Serves the disks and replicates what is written to them, until SIGTERM or SIGINT.
pub async fn replicate(config: Config) -> Result<()> {
    let (opened, notices) = Opened::open(config, Access::Write)?;
    let mut signals = Signals::new()?;
    let listener = listen_nbd(&opened.config.nbd).await?;
    let nbd = listener.address().context("the NBD socket has no address")?;
    let local = control::listen(&opened.config.socket)?;
    let served = opened.exports()?;
    opened.replication.take_up()?;
    let (stopper, stop) = watch::channel(false);
    let control = Arc::new(opened.control(Some(nbd.clone()), stop.clone()));
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
    // Hooks may need the disks, and orders have to find what became of those before.
    quiesce::carry_on(&control).await?;
    let local = tokio::spawn(control::serve(local, control.clone()));
    let watching = tokio::spawn(progress::watch(notices, control.clone()));
    let renewing =
        tokio::spawn(service::keep_valid(opened.config.state_folder.clone(), crate::register::this_host));
    let (link, telling) = server_link::start(control.clone());
    let regularly = tokio::spawn(rhythm::keep(control.clone()));
    service::notify(NotifyState::Ready);
    let living = tokio::spawn(service::pet_watchdog());
    let informing = tokio::spawn(systemd::tell_status(control.clone()));
    signals.recv().await;
    tracing::info!("stopping");
    service::notify(NotifyState::Stopping);
    informing.abort();
    // A job is not ended by what follows, but goes on at the next start.
    link.begin_stop();
    stopper.send_replace(true);
    // It lets go of what is held, or what was quiesced is thawed.
    let rest = control.rest.clone();
    let _ = tokio::task::spawn_blocking(move || rest.wait()).await;
    nbd_task.await.context("the NBD server failed")?;
    // A bookmark under way thaws what it froze first.
    drop(control.bookmarks.lock().await);
    let _ = regularly.await;
    telling.abort();
    let _ = tokio::task::spawn_blocking(move || link.stop()).await;
    // An order under way has done what it wrote down; a new one finds that the agent stops.
    let turn = control.turn.lock().await;
    opened.replication.stop("the source agent stops").await;
    drop(turn);
    local.abort();
    watching.abort();
    renewing.abort();
    living.abort();
    let _ = std::fs::remove_file(&opened.config.socket);
    opened.close()
}

/// Compares the disks with the target, pass by pass, and sends what differs.
pub async fn scan(config: Config, options: &ScanOptions) -> Result<()> {
    let (opened, mut notices) = Opened::open(config, Access::Read)?;
    let mut signals = Signals::new()?;
    let mut result = Ok(());
    for pass in 1..=options.passes {
        let began = tokio::time::Instant::now();
        let quiet = options.quiet && pass == options.passes;
        tracing::info!("pass {pass} of {}", options.passes);
        opened.replication.begin_scan(Scan { quiet })?;
        result = tokio::select! {
            result = opened.pass(&mut notices, quiet.then_some(options.bookmark.as_str())) => result,
            () = signals.recv() => Err(anyhow::anyhow!("stopped by a signal; the pass is not finished")),
        };
        opened.replication.stop("the pass ends").await;
        while notices.try_recv().is_ok() {}
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
    fn open(config: Config, access: Access) -> Result<(Opened, mpsc::UnboundedReceiver<Notice>)> {
        look_at_certificates(&config)?;
        let disks = OpenDisks::open(&config.disks, access)?;
        let clock = SteadyClock::start();
        let changed = Arc::new(Notify::new());
        let tracker = open_tracker(&config, &disks, changed.clone())?;
        let time: crate::Clock = Arc::new(move || clock.now());
        let numbered = disks.disks.iter().zip(0u16..);
        let gate = Arc::new(Gate::default());
        let rest = Arc::new(Rest::open(&config.state_folder, gate.clone())?);
        let splitters: Vec<_> = numbered
            .map(|(disk, number)| {
                let splitter = SplitterDisk::new(disk.clone(), number, tracker.clone(), time.clone());
                Arc::new(splitter.behind_gate(gate.clone()))
            })
            .collect();
        let parts = Parts {
            config: config.clone(),
            tracker: tracker.clone(),
            splitters: splitters.clone(),
            clock,
            changed,
        };
        let (replication, notices) = Replication::new(parts);
        Ok((Opened { config, disks, tracker, splitters, replication, rest, clock }, notices))
    }

    fn exports(&self) -> Result<Served> {
        let served = Served::new();
        for (config, splitter) in self.config.disks.iter().zip(&self.splitters) {
            let disk: Arc<dyn Disk> = splitter.clone();
            served.add(nbd::Export::new(config.id.clone(), disk, false))?;
        }
        Ok(served)
    }

    fn control(&self, nbd: Option<String>, stop: watch::Receiver<bool>) -> Control {
        Control {
            config: self.config.clone(),
            tracker: self.tracker.clone(),
            splitters: self.splitters.clone(),
            replication: self.replication.clone(),
            rest: self.rest.clone(),
            rhythm: Rhythm::new(self.config.hooks.every()),
            clock: self.clock,
            nbd,
            stop,
            bookmarks: Mutex::new(()),
            turn: Mutex::new(()),
        }
    }

    /// One pass of a scan, to its end; with a bookmark, until that is durable.
    async fn pass(
        &self,
        notices: &mut mpsc::UnboundedReceiver<Notice>,
        bookmark: Option<&str>,
    ) -> Result<()> {
        let (_stopper, stop) = watch::channel(false);
        progress::until_pass_ends(notices, &self.control(None, stop)).await?;
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

/// Files that the configuration names must be there; an identity comes when the machine is registered.
fn look_at_certificates(config: &Config) -> Result<()> {
    match ClientTls::load(&config.tls_files()) {
        Ok(tls) => tls.warnings().iter().for_each(|warning| tracing::warn!("{warning}")),
        Err(error) if config.tls.is_some() => return Err(error.into()),
        Err(error) => {
            tracing::warn!("no master target can be reached before this machine is registered: {error}")
        }
    }
    Ok(())
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
