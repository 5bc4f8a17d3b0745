//! The socket that the other commands reach the running agent by: one line of JSON each way, and more than one back while
//! an order is carried out.

use super::config::Config;
use super::hooks;
use super::host::SteadyClock;
use super::orders;
use super::quiescence::Rest;
use super::replication::Replication;
use super::rhythm::Rhythm;
use super::status::StatusReport;
use crate::{SplitterDisk, Tracker};
use anyhow::{Context, Result, bail};
use change_stream::{BookmarkKind, MAX_TEXT};
use control_api::agent::JobKind;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, watch};

/// Longest line that is read.
const MAX_LINE: u64 = 64 << 10;
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// What can be asked.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// What the agent is doing.
    Status,
    /// Set a bookmark.
    Bookmark {
        /// Its name.
        name: String,
        /// Run the hooks, and call it application-consistent.
        #[serde(default)]
        app_consistent: bool,
    },
    /// Do what the configuration server orders by a job of this kind.
    Order {
        /// The kind; one that is about where the agent replicates to.
        job: JobKind,
    },
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "answer", rename_all = "lowercase")]
pub enum Answer {
    /// To `Status`.
    Status(Box<StatusReport>),
    /// To `Bookmark`.
    Bookmark {
        /// Its number in the stream.
        sequence: u64,
    },
    /// To `Order`, before the last answer: a step begins.
    Step {
        /// What it does.
        name: String,
    },
    /// To `Order`, likewise: something there is to say of the step.
    Detail {
        /// What.
        text: String,
    },
    /// To `Order`.
    Done {
        /// What came of it.
        outcome: String,
    },
    /// To anything.
    Error {
        /// What went wrong and what to do.
        message: String,
    },
}

/// What answering takes.
pub(crate) struct Control {
    pub(crate) config: Config,
    pub(crate) tracker: Arc<Tracker>,
    pub(crate) splitters: Vec<Arc<SplitterDisk>>,
    pub(crate) replication: Arc<Replication>,
    pub(crate) rest: Arc<Rest>,
    pub(crate) rhythm: Rhythm,
    pub(crate) clock: SteadyClock,
    pub(crate) nbd: Option<String>,
    /// True once the agent stops.
    pub(crate) stop: watch::Receiver<bool>,
    /// One bookmark at a time: hooks of two must not mix.
    pub(crate) bookmarks: Mutex<()>,
    /// One order at a time.
    pub(crate) turn: Mutex<()>,
}

impl Control {
    pub(crate) async fn report(&self) -> Result<StatusReport> {
        let assignment = self.replication.assignment();
        let status = match &assignment {
            Some(_) => {
                Some(self.replication.status().await.context("the agent is stopping, or being moved")?)
            }
            None => None,
        };
        let standing = status.as_ref().map_or_else(|| self.tracker.standing(), |status| status.standing);
        let mut report = StatusReport::new(status.map(|status| status.stage), &standing, self.clock.now());
        report.place(assignment, self.replication.is_fixed());
        report.quiescence = self.rest.state();
        report.nbd.clone_from(&self.nbd);
        Ok(report)
    }

    /// Sets a bookmark; the hooks run for an application-consistent one.
    pub(crate) async fn bookmark(&self, name: &str, app_consistent: bool) -> Result<u64> {
        self.bookmark_after(name, app_consistent, || Ok(())).await
    }

    /// The same; `before` is called right before it is set, while applications are at rest.
    pub(crate) async fn bookmark_after(
        &self,
        name: &str,
        app_consistent: bool,
        before: impl FnOnce() -> Result<()>,
    ) -> Result<u64> {
        if name.is_empty() || name.len() > MAX_TEXT {
            bail!("a bookmark's name has 1 to {MAX_TEXT} bytes");
        }
        let _alone = self.bookmarks.lock().await;
        self.bookmark_alone(name, app_consistent, before).await
    }

    /// The same, for whoever holds [`Control::bookmarks`].
    pub(crate) async fn bookmark_alone(
        &self,
        name: &str,
        app_consistent: bool,
        before: impl FnOnce() -> Result<()>,
    ) -> Result<u64> {
        let set = |kind| {
            before()?;
            Ok(self.tracker.bookmark(self.clock.now(), kind, name, None)?)
        };
        if !app_consistent {
            return set(BookmarkKind::CrashConsistent);
        }
        let quiesced = || set(BookmarkKind::ApplicationConsistent);
        hooks::between(&self.config.hooks, self.stop.clone(), quiesced).await
    }

    async fn answer(&self, request: Request) -> Answer {
        let result = match request {
            Request::Status => self.report().await.map(|report| Answer::Status(Box::new(report))),
            Request::Bookmark { name, app_consistent } => {
                let set = self.bookmark(&name, app_consistent).await;
                set.map(|sequence| Answer::Bookmark { sequence })
            }
            Request::Order { job } => Err(anyhow::anyhow!("to {} is no order for mt-source", job.title())),
        };
        result.unwrap_or_else(|error| Answer::Error { message: format!("{error:#}") })
    }
}

/// Listens where nobody else does; a socket left over by a killed agent is replaced.
pub(crate) fn listen(path: &Path) -> Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder of the socket {}", path.display()))?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!("another mt-source listens at {}; stop it first, or set another socket", path.display());
    }
    let _ = std::fs::remove_file(path);
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen at {}", path.display()))?;
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot restrict access to {}", path.display()))?;
    Ok(listener)
}

/// Answers requests for ever. A request goes on when its client goes away: what was quiesced is thawed.
pub(crate) async fn serve(listener: UnixListener, control: Arc<Control>) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                tokio::spawn(serve_one(socket, control.clone()));
            }
            Err(error) => {
                tracing::warn!("a local client could not be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_one(mut socket: UnixStream, control: Arc<Control>) {
    let (read, mut write) = socket.split();
    let mut line = String::new();
    let mut limited = BufReader::new(read.take(MAX_LINE));
    let Ok(Ok(_)) = tokio::time::timeout(REQUEST_LIMIT, limited.read_line(&mut line)).await else { return };
    let answer = match serde_json::from_str(&line) {
        Ok(Request::Order { job }) if orders::ordered_here(&job) => {
            let mut told = orders::follow(control, job);
            while let Some(answer) = told.recv().await {
                send(&mut write, &answer).await;
            }
            return;
        }
        Ok(request) => control.answer(request).await,
        Err(error) => Answer::Error { message: format!("this is no request: {error}") },
    };
    send(&mut write, &answer).await;
}

async fn send(write: &mut (impl AsyncWriteExt + Unpin), answer: &Answer) {
    if let Ok(mut json) = serde_json::to_vec(answer) {
        json.push(b'\n');
        // The client may have gone.
        let _ = write.write_all(&json).await;
    }
}

/// Asks the running agent; `told` gets what it says before its last answer.
pub async fn ask(socket: &Path, request: &Request, mut told: impl FnMut(&Answer)) -> Result<Answer> {
    let mut stream = UnixStream::connect(socket).await.with_context(|| {
        format!(
            "no mt-source answers at {}; start `mt-source replicate`, or name its socket with --socket",
            socket.display()
        )
    })?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await.context("the agent does not take the request")?;
    let mut stream = BufReader::new(stream);
    loop {
        let mut answer = String::new();
        (&mut stream).take(MAX_LINE).read_line(&mut answer).await.context("the agent does not answer")?;
        match serde_json::from_str(&answer).context("the agent ended before it answered; see its log")? {
            Answer::Error { message } => bail!(message),
            answer @ (Answer::Step { .. } | Answer::Detail { .. }) => told(&answer),
            answer => return Ok(answer),
        }
    }
}
