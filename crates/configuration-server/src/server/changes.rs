//! Tells who waits that something has changed.
//!
//! Pages that update live and agents that ask for jobs wait here instead of asking the store again and again. Nothing
//! but "look again" is told, so nobody who is slow misses anything.

use std::sync::Arc;
use tokio::sync::watch;

/// What may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// Hosts, their disks and volumes.
    Hosts,
    /// Replicated items.
    Items,
    /// Jobs.
    Jobs,
    /// Events and alerts.
    Events,
    /// Policies, groups and users.
    Settings,
}

/// How often each topic has changed since the server started.
pub(crate) type Counts = [u64; Topic::ALL.len()];

impl Topic {
    pub(crate) const ALL: [Topic; 5] =
        [Topic::Hosts, Topic::Items, Topic::Jobs, Topic::Events, Topic::Settings];

    /// What a page calls it.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Topic::Hosts => "hosts",
            Topic::Items => "items",
            Topic::Jobs => "jobs",
            Topic::Events => "events",
            Topic::Settings => "settings",
        }
    }
}

/// Where changes are told and waited for.
#[derive(Clone)]
pub(crate) struct Changes {
    counts: Arc<watch::Sender<Counts>>,
}

impl Default for Changes {
    fn default() -> Changes {
        Changes { counts: Arc::new(watch::Sender::new(Counts::default())) }
    }
}

impl Changes {
    /// Something of this topic has changed.
    pub(crate) fn tell(&self, topic: Topic) {
        self.counts.send_modify(|counts| counts[topic as usize] += 1);
    }

    /// How often each topic has changed by now.
    pub(crate) fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Waits for changes from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<Counts> {
        self.counts.subscribe()
    }
}
