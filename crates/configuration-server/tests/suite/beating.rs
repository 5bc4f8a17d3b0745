//! A host whose heart beats: the real conversation, about a machine without disks.

use control_api::agent::{Health, Heartbeat, HeartbeatReply};
use control_api::registration::Host;
use registration::Error;
use registration::link::{Embedder, End, Hub, Job, Link};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A conversation that goes on until this is dropped.
pub(crate) struct Beating {
    hub: Hub,
    machine: Arc<Machine>,
    link: Option<Link>,
}

struct Machine {
    host: Host,
    answered: AtomicU32,
}

impl Embedder for Machine {
    fn host(&self, name: &str) -> Result<Host, Error> {
        Ok(Host { name: name.to_owned(), ..self.host.clone() })
    }

    fn heartbeat(&self, host: Host) -> Heartbeat {
        let health = Health {
            started: 1,
            uptime_seconds: 1,
            processors: 1,
            busy_percent: 1.0,
            load: [0.0; 3],
            memory_bytes: 1,
            memory_used_bytes: 1,
        };
        let (disks, datastores, items) = (Vec::new(), Vec::new(), Vec::new());
        let time = crate::support::now();
        Heartbeat {
            host,
            time,
            health,
            disks,
            datastores,
            data_port: None,
            retention: None,
            items,
            protection: None,
        }
    }

    fn answered(&self, _sent: &Heartbeat, _reply: &HeartbeatReply) {
        self.answered.fetch_add(1, Ordering::SeqCst);
    }

    fn run(&self, _job: &Job) -> Result<String, End> {
        Ok(String::new())
    }
}

impl Beating {
    /// Begins, by the identity in this folder.
    pub(crate) fn start(state: &Path, host: Host) -> Beating {
        let (hub, machine) = (Hub::new(), Arc::new(Machine { host, answered: AtomicU32::new(0) }));
        let link = Link::start(state, hub.clone(), machine.clone());
        Beating { hub, machine, link: Some(link) }
    }

    /// Waits until a heartbeat is answered from now on.
    pub(crate) fn wait(&self) {
        let before = self.machine.answered.load(Ordering::SeqCst);
        crate::support::wait_for("a heartbeat", || {
            self.hub.hurry();
            (self.machine.answered.load(Ordering::SeqCst) > before).then_some(())
        });
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            link.stop();
        }
    }
}
