//! Application-consistent bookmarks from time to time.
//!
//! How often, the configuration server says, by the policy that is in effect for the item; until it does, and without one,
//! the configuration file does. They are set while there are hooks, since without any they would promise what nobody saw
//! to; a bookmark that is requested is the requester's own word. While the master target lacks something, a bookmark would
//! mark no recovery point, and while the disks are at rest there is nothing new to mark: then it is tried again soon.

use super::control::Control;
use super::hooks::is_there;
use anyhow::Result;
use control_api::time;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// One that could not be set is tried again after so long.
const AGAIN: Duration = Duration::from_secs(60);

/// How often one is set; zero for never.
pub(crate) struct Rhythm(watch::Sender<Duration>);

impl Rhythm {
    pub(crate) fn new(every: Duration) -> Rhythm {
        Rhythm(watch::Sender::new(every))
    }

    /// From now on, so often.
    pub(crate) fn set(&self, every: Duration) {
        self.0.send_if_modified(|known| std::mem::replace(known, every) != every);
    }
}

/// Sets them until the agent stops, and ends between two of them: what was brought to rest is thawed first. The first one is
/// due when the first interval is over.
pub(super) async fn keep(control: Arc<Control>) {
    let (mut rhythm, mut stop) = (control.rhythm.0.subscribe(), control.stop.clone());
    let (mut since, mut again) = (Instant::now(), None);
    loop {
        let every = *rhythm.borrow_and_update();
        let due = again.unwrap_or(since + every);
        tokio::select! {
            changed = rhythm.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            _ = stop.wait_for(|stop| *stop) => return,
            () = sleep_until(due), if !every.is_zero() => {}
        }
        match set(&control).await {
            Ok(true) => (since, again) = (Instant::now(), None),
            Ok(false) => again = Some(Instant::now() + AGAIN.min(every)),
            Err(error) => {
                tracing::error!("the application-consistent bookmark that was due is not set: {error:#}");
                again = Some(Instant::now() + AGAIN.min(every));
            }
        }
    }
}

/// False when it has to wait.
async fn set(control: &Control) -> Result<bool> {
    // A quiesce that is under way holds it, and one that begins now waits for it.
    let Ok(_alone) = control.bookmarks.try_lock() else { return Ok(false) };
    let at_rest = control.rest.state().is_some_and(|found| found.is_under_way() || found.is_quiesced());
    let is_level = control.tracker.standing().is_level();
    let is_assigned = control.replication.assignment().is_some();
    if !is_there(&control.config.hooks) || !is_level || !is_assigned || at_rest {
        return Ok(false);
    }
    let name = format!("regular {}", time::format(control.clock.now() / time::SECOND * time::SECOND));
    control.bookmark_alone(&name, true, || Ok(())).await?;
    tracing::info!("bookmark {name:?} is set, with the applications at rest");
    Ok(true)
}
