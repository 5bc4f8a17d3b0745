//! The daemon as a whole: what its parts share.

use crate::clock::Clock;
use crate::config::Config;
use crate::item::{ItemHandle, Place, Surroundings};
use crate::items::Items;
use crate::retention::{self, Volume};
use crate::server_link::Revoked;
use crate::test_failover::TestFailovers;
use control_api::Failure;
use registration::link::Hub;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// What runs until the master target is shut down.
pub(crate) struct Tasks {
    keeper: JoinHandle<()>,
}

/// A running master target.
pub(crate) struct MasterTarget {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    /// Where sources connect: the port is known only now when the configuration left it open.
    pub(crate) listen: SocketAddr,
    pub(crate) volume: Volume,
    pub(crate) items: Arc<Items>,
    /// The retention volume, as the steward last saw it.
    pub(crate) retention: watch::Sender<retention::Report>,
    pub(crate) test_failovers: Arc<TestFailovers>,
    /// The conversation with the configuration server.
    pub(crate) hub: Hub,
    /// Certificates by which no source is let in.
    pub(crate) revoked: Revoked,
}

impl MasterTarget {
    /// Starts the watch over the retention volume, then every item.
    pub(crate) async fn start(config: Config, listen: SocketAddr) -> (MasterTarget, Tasks) {
        let clock = Clock::start();
        let place = Arc::new(Place::new(&config));
        let (volume, keeper) = retention::keep(place.clone(), clock).await;
        let jobs = Arc::new(Semaphore::new(config.limits.jobs));
        let surroundings = Surroundings { clock, jobs, place, volume: volume.clone() };
        let items = Arc::new(Items::start(&config, surroundings));
        let socket_folder = config.socket.parent().unwrap_or(Path::new("/"));
        let test_failovers = Arc::new(TestFailovers::new(&config.state_folder, socket_folder));
        let retention = watch::Sender::default();
        let revoked = Revoked::load(&config.state_folder);
        let hub = Hub::new();
        let target =
            MasterTarget { config, clock, listen, volume, items, retention, test_failovers, hub, revoked };
        (target, Tasks { keeper })
    }

    /// Has every item finish what is in flight and close, all at the same time.
    pub(crate) async fn shut_down(&self, tasks: Tasks) {
        self.test_failovers.stop_all().await;
        let _closed = self.items.shut_down().await;
        tasks.keeper.abort();
    }

    /// The item of this name, which somebody wants something of.
    pub(crate) fn item(&self, name: &str) -> Result<Arc<ItemHandle>, Failure> {
        self.items.get(name)
    }

    /// One line for systemd.
    pub(crate) fn summary(&self) -> String {
        let all = self.items.all();
        let closed = all.iter().filter(|item| item.snapshot().storage.is_none()).count();
        let items = match (all.len(), closed) {
            (0, _) => "there are no items".to_string(),
            (all, 0) => format!("{all} items open"),
            (all, closed) => format!("{} items open, {closed} not; see mtctl status", all - closed),
        };
        let volume = self.volume.now();
        if volume.is_usable() { items } else { format!("{items}; {}", volume.why()) }
    }
}
