//! Orders: what changes where the agent replicates to.
//!
//! They come as jobs of the configuration server and as commands on the control socket, and are carried out here for both;
//! whoever gave one is told by [`Told`]. How each goes on after the agent was stopped or killed in the middle:
//!
//! | order | goes on by |
//! |---|---|
//! | replicate | looking where the agent replicates to: the start has taken up what was kept; if nothing was, keeping it |
//! | stop replicating | forgetting the assignment, if it is still there |
//! | quiesce | looking what the start made of it (see `quiescence`): it is under way again, with writes refused all the time, or has ended; if it had only begun, it begins anew |
//! | unquiesce | letting writes through, if they are still refused |
//!
//! A command goes on in the same way, though nobody is told: what it had kept is taken up by the start. Only a quiesce that had
//! not stopped writes yet is given up.

mod quiesce;
mod replicate;
mod socket;

pub(crate) use socket::{follow, ordered_here};

use super::control::Control;
use control_api::Failure;
use control_api::agent::JobKind;
use registration::link::{End, Job};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::MutexGuard;
use tokio::time::timeout;

/// How long an order waits for the one before it.
const TURN_WITHIN: Duration = Duration::from_secs(60);

/// Whoever gave an order.
pub(crate) trait Told: Send + Sync {
    /// What steps there will be.
    fn plan(&self, steps: &[&str]);
    /// This step begins; the one before it is done.
    fn begin(&self, step: &str);
    /// What there is to say of the step that runs.
    fn detail(&self, text: &str);
    /// Whether it was begun before, by an agent that was stopped or killed while it was at it.
    fn is_continued(&self) -> bool;
    /// Whether somebody wants it to be given up.
    fn is_cancelled(&self) -> bool;
    /// From now on it is not given up any more; false when it has to be given up now.
    fn commit(&self) -> bool;
    /// Whether the agent stops, and the order is to end with [`End::Stopped`].
    fn is_stopping(&self) -> bool;
}

impl Told for Job {
    fn plan(&self, steps: &[&str]) {
        Job::plan(self, steps);
    }

    fn begin(&self, step: &str) {
        Job::begin(self, step);
    }

    fn detail(&self, text: &str) {
        Job::detail(self, text);
    }

    fn is_continued(&self) -> bool {
        Job::is_continued(self)
    }

    fn is_cancelled(&self) -> bool {
        Job::is_cancelled(self)
    }

    fn commit(&self) -> bool {
        Job::commit(self)
    }

    fn is_stopping(&self) -> bool {
        Job::is_stopping(self)
    }
}

/// An order that is carried out, on a thread that may block.
pub(crate) struct Order<'a> {
    pub(crate) control: &'a Arc<Control>,
    pub(crate) runtime: &'a Handle,
    pub(crate) told: &'a dyn Told,
}

impl Order<'_> {
    /// Carries it out; the text says what came of it. `None` when it is none of these orders.
    pub(crate) fn run(&self, job: &JobKind) -> Option<Result<String, End>> {
        Some(match job {
            JobKind::Replicate { item, target, server_name } => {
                self.hurry();
                self.replicate(item, target, server_name.as_deref())
            }
            JobKind::StopReplicating => self.stop_replicating(),
            JobKind::Quiesce { bookmark } => {
                self.hurry();
                self.quiesce(bookmark)
            }
            JobKind::Unquiesce => {
                self.hurry();
                self.unquiesce()
            }
            _ => return None,
        })
    }

    /// Whoever gives an order has seen to it that the master target lets the agent in, most likely.
    fn hurry(&self) {
        self.runtime.block_on(self.control.replication.hurry());
    }

    /// One order at a time.
    fn turn(&self) -> Result<MutexGuard<'_, ()>, End> {
        let turn = self.runtime.block_on(async { timeout(TURN_WITHIN, self.control.turn.lock()).await });
        turn.map_err(|_| {
            let why = format!("another order has not ended for {} s", TURN_WITHIN.as_secs());
            End::Failed(Failure::new("mt-source", "the order is not carried out", why, "give it again later"))
        })
    }
}
