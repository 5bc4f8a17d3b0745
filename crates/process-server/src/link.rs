//! The conversation with the configuration server, from the process server's side: it tells that it lives, and is ordered
//! nothing.

use crate::book::now;
use crate::register::this_host;
use control_api::Failure;
use control_api::agent::{Heartbeat, HeartbeatReply};
use control_api::registration::Host;
use control_api::time::Time;
use registration::link::{Embedder, End, HealthMeter, Hub, Job, Link};
use std::path::Path;
use std::sync::Arc;

/// What the link asks.
struct Alive {
    meter: HealthMeter,
}

/// Begins the conversation; it waits until this machine is registered.
pub(crate) fn start(state: &Path, hub: Hub, started: Time) -> Link {
    Link::start(state, hub, Arc::new(Alive { meter: HealthMeter::new(started) }))
}

impl Embedder for Alive {
    fn host(&self, name: &str) -> registration::Result<Host> {
        this_host(Some(name))
    }

    fn heartbeat(&self, host: Host) -> Heartbeat {
        Heartbeat {
            host,
            time: now(),
            health: self.meter.read(),
            disks: Vec::new(),
            datastores: Vec::new(),
            data_port: None,
            retention: None,
            items: Vec::new(),
            protection: None,
        }
    }

    fn answered(&self, _: &Heartbeat, _: &HeartbeatReply) {}

    fn run(&self, job: &Job) -> Result<String, End> {
        Err(End::Failed(Failure::new(
            job.order().job.title(),
            "it is not carried out",
            "a process server does nothing of this kind",
            "order it from another host",
        )))
    }
}
