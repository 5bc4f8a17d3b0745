//! A host that has what a test wants, and talks with its configuration server as every host does.

use anyhow::{Context, Result, anyhow};
use control_api::agent::{Heartbeat, HeartbeatReply, JobKind};
use control_api::registration::Host;
use control_api::{Failure, Progress, Work};
use registration::link::{Embedder, End, Hub, Job, Link};
use registration::server::Server;
use rig::ConfigurationServer;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Parts of a step, and how long each takes.
const PARTS: u64 = 8;
const PART: Duration = Duration::from_millis(250);

/// A registered host.
pub struct Machine {
    link: Option<Link>,
    _state: TempDir,
}

/// What its conversation is about.
struct Told {
    host: Host,
    heartbeat: Box<dyn Fn(Host) -> Heartbeat + Send + Sync>,
}

impl Machine {
    /// Registers a host, and keeps it connected.
    pub fn register(
        server: &ConfigurationServer,
        host: Host,
        heartbeat: impl Fn(Host) -> Heartbeat + Send + Sync + 'static,
    ) -> Result<Machine> {
        let state = tempfile::tempdir()?;
        let (passphrase, _) = registration::passphrase(&server.passphrase())?;
        let address = Server { address: "127.0.0.1".into(), port: server.port() };
        let order = registration::Order {
            server: &address,
            passphrase: &passphrase,
            host: host.clone(),
            state: state.path(),
            replace: false,
        };
        registration::register(&order, &mut |_| {})
            .map_err(|error| anyhow!("{error}"))
            .with_context(|| format!("{} was not registered", host.name))?;
        let told = Told { host, heartbeat: Box::new(heartbeat) };
        let link = Link::start(state.path(), Hub::new(), Arc::new(told));
        Ok(Machine { link: Some(link), _state: state })
    }

    /// Falls silent.
    pub fn stop(&mut self) {
        if let Some(link) = self.link.take() {
            link.stop();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Embedder for Told {
    fn host(&self, _name: &str) -> registration::Result<Host> {
        Ok(self.host.clone())
    }

    fn heartbeat(&self, host: Host) -> Heartbeat {
        (self.heartbeat)(host)
    }

    fn answered(&self, _sent: &Heartbeat, _reply: &HeartbeatReply) {}

    /// A resync goes well, in a few seconds; a test failover and a failover fail; all else is done at once.
    fn run(&self, job: &Job) -> Result<String, End> {
        match &job.order().job {
            JobKind::Resync { item } => resync(job, item),
            JobKind::TestFailoverStart { item, point } => {
                job.plan(&["find the recovery point", "serve the view"]);
                job.begin("find the recovery point");
                std::thread::sleep(PART);
                Err(End::Failed(Failure::new(
                    item.clone(),
                    format!("no view of {point} was served"),
                    "the point lies before the retention window",
                    "choose a newer point: the page of the item shows which there are",
                )))
            }
            JobKind::Failover { item, point } => {
                job.plan(&["choose the recovery point", "write it to the disks"]);
                job.begin("write it to the disks");
                std::thread::sleep(PART);
                Err(End::Failed(Failure::new(
                    item.clone(),
                    format!("{point} was not written to its disks"),
                    "disk1: reading at 73014444032 failed: Input/output error",
                    "look at the disk and its paths, and order it again",
                )))
            }
            JobKind::Quiesce { bookmark } => Ok(format!(
                "the disks are at rest, and the master target has everything up to bookmark {bookmark}"
            )),
            JobKind::Unquiesce => Ok("writes are let through again".into()),
            _ => Ok("nothing was to be done".into()),
        }
    }
}

fn resync(job: &Job, item: &str) -> Result<String, End> {
    job.plan(&["ask the source", "compare all disks", "level"]);
    job.begin("ask the source");
    job.detail("web01.example answers");
    std::thread::sleep(PART);
    job.begin("compare all disks");
    let total = 40 << 30;
    for part in 1..=PARTS {
        let progress = Progress { work: Work::Resync, done: total / PARTS * part, total: Some(total) };
        job.progress(Some(progress), Some((PARTS - part) * PART.as_millis() as u64 / 1000));
        std::thread::sleep(PART);
        if job.is_cancelled() {
            return Err(End::Cancelled);
        }
        if job.is_stopping() {
            return Err(End::Stopped);
        }
    }
    job.begin("level");
    std::thread::sleep(PART);
    Ok(format!("{item} follows its source again"))
}
