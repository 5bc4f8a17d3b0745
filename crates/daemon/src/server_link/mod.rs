//! The conversation with the configuration server, from the master target's side.
//!
//! `registration::link` has the threads that talk; this module says what they talk about. `report` puts heartbeats
//! together, `surroundings` knows disks and datastores without asking the machine each time, `jobs`, `item_jobs`, `resync`
//! and `failover` carry out what is ordered, by the same code as the local API, and `revoked` keeps the list of certificates
//! by which no source is let in. Nothing of the data path waits for any of it.

mod failover;
mod item_jobs;
mod jobs;
mod report;
mod resync;
mod revoked;
mod surroundings;

pub(crate) use revoked::Revoked;

use crate::master_target::MasterTarget;
use control_api::agent::{Heartbeat, HeartbeatReply};
use control_api::registration::Host;
use registration::link::{Embedder, End, HealthMeter, Job, Link, Surroundings};
use report::Reports;
use std::sync::Arc;
use std::time::Duration;
use surroundings::Wanted;
use tokio::runtime::Handle;

/// How often it is looked whether something changed that is told at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the link asks.
struct Teller {
    target: Arc<MasterTarget>,
    runtime: Handle,
    meter: HealthMeter,
    surroundings: Surroundings,
    reports: Reports,
}

/// Begins the conversation; it waits until this machine is registered.
pub(crate) fn start(target: Arc<MasterTarget>) -> Link {
    let (state, hub) = (target.config.state_folder.clone(), target.hub.clone());
    let teller = Teller {
        runtime: Handle::current(),
        meter: HealthMeter::new(target.clock.started()),
        surroundings: Surroundings::watch(Wanted::new(&target), hub.clone()),
        reports: Reports::default(),
        target,
    };
    Link::start(&state, hub, Arc::new(teller))
}

impl Embedder for Teller {
    fn host(&self, name: &str) -> registration::Result<Host> {
        crate::identity::this_host(Some(name))
    }

    fn heartbeat(&self, host: Host) -> Heartbeat {
        let (disks, datastores) = self.surroundings.found();
        let (retention, items) = self.reports.collect(&self.target, &self.runtime);
        Heartbeat {
            host,
            time: self.target.clock.now(),
            health: self.meter.read(),
            disks,
            datastores,
            data_port: Some(self.target.listen.port()),
            retention,
            items,
            protection: None,
        }
    }

    fn answered(&self, sent: &Heartbeat, reply: &HeartbeatReply) {
        if let Some(authority) = self.target.hub.authority() {
            self.target.revoked.replace(&authority, &reply.revoked);
        }
        self.runtime.spawn({
            let (target, given) = (self.target.clone(), reply.policies.clone());
            async move { target.follow(given).await }
        });
        if self.reports.answered(&sent.items, reply.want_points) {
            self.target.hub.hurry();
        }
    }

    fn run(&self, job: &Job) -> Result<String, End> {
        jobs::run(self, job)
    }
}

/// Has what people wait for told at once: an item in another state, an alert that came or went, a volume that is lost.
pub(crate) async fn tell_changes(target: Arc<MasterTarget>) {
    let mut told = report::gist(&target);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = report::gist(&target);
        if now != told {
            told = now;
            target.hub.hurry();
        }
    }
}
