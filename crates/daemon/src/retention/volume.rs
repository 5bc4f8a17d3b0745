//! What the rest of the daemon knows of the volume.

use control_api::{Alert, RetentionState};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

/// How long the kernel may take to notice that the disk of the volume is gone, and how often it is asked.
const NOTICED_WITHIN: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);

/// How the volume stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolumeState {
    pub(crate) folder: PathBuf,
    pub(crate) state: RetentionState,
    /// Why it cannot be used, and what to do or to wait for.
    pub(crate) detail: Option<String>,
    /// UUID of its file system.
    pub(crate) file_system: Option<String>,
    pub(crate) alerts: Vec<Alert>,
}

impl VolumeState {
    /// Whether items may be open.
    pub(crate) fn is_usable(&self) -> bool {
        matches!(self.state, RetentionState::Ready | RetentionState::Trial)
    }

    /// Why items may not be open.
    pub(crate) fn why(&self) -> String {
        let (folder, detail) = (self.folder.display(), self.detail.as_deref());
        format!("the retention volume {folder} is {}: {}", self.state, detail.unwrap_or("no more is known"))
    }
}

/// A request to look at once, and where the answer goes.
pub(super) type Request = oneshot::Sender<VolumeState>;

/// The rest of the daemon's end of the keeper.
#[derive(Clone)]
pub(crate) struct Volume {
    state: watch::Receiver<VolumeState>,
    requests: mpsc::Sender<Request>,
}

impl Volume {
    pub(super) fn new(state: watch::Receiver<VolumeState>, requests: mpsc::Sender<Request>) -> Volume {
        Volume { state, requests }
    }

    /// How it stood at the last look.
    pub(crate) fn now(&self) -> VolumeState {
        self.state.borrow().clone()
    }

    /// How it stands at a look that begins now.
    pub(crate) async fn look(&self) -> VolumeState {
        let (request, answer) = oneshot::channel();
        // A keeper that is gone looks no more.
        let _ = self.requests.send(request).await;
        answer.await.unwrap_or_else(|_| self.now())
    }

    /// Waits until it cannot be used.
    pub(crate) async fn becomes_unusable(&mut self) -> VolumeState {
        if let Ok(state) = self.state.wait_for(|state| !state.is_usable()).await {
            return state.clone();
        }
        // The daemon shuts down.
        std::future::pending().await
    }

    /// Waits until it stands otherwise than at the last call.
    pub(crate) async fn changes(&mut self) -> VolumeState {
        if self.state.changed().await.is_ok() {
            return self.state.borrow_and_update().clone();
        }
        std::future::pending().await
    }

    /// How it stands when it cannot be used: now, or as soon as the kernel has noticed.
    pub(crate) async fn found_unusable(&self) -> Option<VolumeState> {
        let found = async {
            loop {
                let state = self.look().await;
                if !state.is_usable() {
                    return state;
                }
                sleep(PAUSE).await;
            }
        };
        let found = timeout(NOTICED_WITHIN, found).await.ok();
        found.or_else(|| Some(self.now()).filter(|state| !state.is_usable()))
    }
}
