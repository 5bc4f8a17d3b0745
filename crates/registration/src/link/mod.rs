//! The conversation that a registered machine keeps up with its configuration server.
//!
//! ```text
//!  thread      does                                                   connection
//!  identity    looks each second who this machine is registered as    –
//!  heartbeats  tells how it is, each half minute                      one, kept
//!  jobs        asks for jobs; the answer waits until there is one     one, kept
//!  reports     tells what becomes of them, until that is confirmed    one, kept
//!  job         runs one, at most eight at once                        – (one, kept, for a meeting)
//! ```
//!
//! All of them are threads of their own that block, with time limits, and nothing that replicates waits for them. When
//! the configuration server is away they try again by themselves, after pauses that grow to five minutes and that chance
//! spreads ([`pause`]): hundreds of hosts that lost it at one moment do not come back at one moment. As soon as one of
//! them gets through, the others stop waiting. Trouble is written into the log when it begins, when its kind changes, and
//! when it ends.
//!
//! Who the machine is registered as is read from the disk, so registering, renewing, giving up and registering elsewhere
//! take effect within seconds, in whichever program they are done.
//!
//! A job runs exactly once. Its order is written into the ledger durably before it begins, and so is what came of it
//! before that is told. An order that is known is answered with that. A job that a crash or a restart stopped is given to the [`Embedder`] again, which is told so by [`Job::is_continued`] and by what it had noted
//! ([`Job::note`]): it knows for each kind how to find out whether the effect is there already.

mod disks;
mod health;
mod heartbeats;
mod hub;
mod job;
mod jobs;
mod ledger;
mod line;
mod meeting;
mod pauses;
mod reports;
mod session;
mod surroundings;
#[cfg(test)]
mod tests;
mod turns;
mod work;

pub use disks::{datastores, host_disks};
pub use health::HealthMeter;
pub use hub::Hub;
pub use job::{End, Job};
pub use meeting::Meeting;
pub use pauses::pause;
pub use surroundings::{Look, Surroundings};

use crate::error::Result;
use control_api::agent::{Heartbeat, HeartbeatReply};
use control_api::registration::Host;
use ledger::Ledger;
use session::Session;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use work::Work;

/// What the conversation is about. Its functions are called on threads of the link, and may block for a few seconds.
pub trait Embedder: Send + Sync + 'static {
    /// This machine, under the name that it was registered by.
    fn host(&self, name: &str) -> Result<Host>;
    /// How the machine is now.
    fn heartbeat(&self, host: Host) -> Heartbeat;
    /// A heartbeat was answered.
    fn answered(&self, sent: &Heartbeat, reply: &HeartbeatReply);
    /// Carries out a job; the text says what came of it. It may take hours, and ends soon when the job
    /// [stops](Job::is_stopping).
    fn run(&self, job: &Job) -> std::result::Result<String, End>;
}

/// How often it is looked who this machine is registered as.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a description of the machine is taken for true.
const HOST_LASTS: Duration = Duration::from_secs(60);
/// How long stopping waits for threads; one that waits for the network is left alone then.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// What all threads share.
struct Shared {
    state: PathBuf,
    hub: Hub,
    embedder: Arc<dyn Embedder>,
    ledger: Mutex<Ledger>,
    work: Mutex<Work>,
    described: Mutex<Option<(Instant, Host)>>,
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This machine, as it describes itself.
    fn host(&self, session: &Session) -> Result<Host> {
        let name = &session.registration.name;
        let mut described = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, host)) = described.as_ref()
            && since.elapsed() < HOST_LASTS
            && host.name == *name
        {
            return Ok(host.clone());
        }
        let host = self.embedder.host(name)?;
        *described = Some((Instant::now(), host.clone()));
        Ok(host)
    }
}

/// A running conversation.
pub struct Link {
    shared: Arc<Shared>,
}

impl Link {
    /// Begins it, by the identity in a state folder, as soon as there is one. Jobs that were stopped go on at once.
    pub fn start(state: &Path, hub: Hub, embedder: Arc<dyn Embedder>) -> Link {
        let (ledger, open) = Ledger::open(state);
        let shared = Arc::new(Shared {
            state: state.to_owned(),
            hub,
            embedder,
            ledger: Mutex::new(ledger),
            work: Mutex::default(),
            described: Mutex::new(None),
        });
        jobs::continue_open(&shared, open);
        spawn(&shared, "identity", follow_identity);
        spawn(&shared, "heartbeats", heartbeats::run);
        spawn(&shared, "jobs", jobs::run);
        spawn(&shared, "reports", reports::run);
        Link { shared }
    }

    /// Has it end soon: jobs are told to stop, and nothing new begins.
    pub fn begin_stop(&self) {
        self.shared.hub.stop(Duration::ZERO);
    }

    /// Ends it. Jobs are told to stop, and go on at the next start.
    pub fn stop(self) {
        self.shared.hub.stop(STOP_LIMIT);
    }
}

/// Starts a thread that the hub counts.
fn spawn(shared: &Arc<Shared>, name: &str, run: impl FnOnce(&Arc<Shared>) + Send + 'static) {
    let (shared, alive) = (shared.clone(), shared.hub.thread_begins());
    let started = std::thread::Builder::new().name(format!("link {name}")).spawn(move || {
        run(&shared);
        drop(shared);
        drop(alive);
    });
    if let Err(error) = started {
        tracing::error!("the conversation with the configuration server lacks a thread ({name}): {error}");
    }
}

/// Watches the identity on the disk.
fn follow_identity(shared: &Arc<Shared>) {
    let mut looked_at = None;
    let mut damaged = false;
    loop {
        let lies_in = session::lies_in(&shared.state);
        if looked_at.as_ref() != Some(&lies_in) {
            match Session::open(&shared.state) {
                Ok(session) => {
                    damaged = false;
                    shared.hub.set_session(session);
                    looked_at = Some(lies_in);
                }
                // It may have been looked at while it was being replaced, so it is looked at again.
                Err(error) => {
                    if !std::mem::replace(&mut damaged, true) {
                        tracing::warn!("no conversation with the configuration server: {error}");
                    }
                    shared.hub.set_session(None);
                    looked_at = None;
                }
            }
        }
        if !shared.hub.sleep(LOOK_EVERY) {
            return;
        }
    }
}
