//! The conversation with the configuration server, from the source agent's side.
//!
//! `registration::link` has the threads that talk; this module says what they talk about: how the machine is, what it
//! protects, and what it is ordered to do, which is done by the same code as on the control socket. Nothing that
//! replicates waits for it.

mod bookmark;
mod drain;
mod gauge;
mod group_bookmark;

use super::config::{DiskFormat, MAX_EVERY, MIN_EVERY};
use super::control::Control;
use super::orders::Order;
use super::quiescence::Quiescence;
use super::replication::Replication;
use super::status::StatusReport;
use block_device::inventory::AttachedDisk;
use block_device::{Inventory, System, is_device};
use control_api::agent::{
    Datastore, Heartbeat, HeartbeatReply, HostDisk, JobKind, ProtectedDisk, Protection,
};
use control_api::registration::Host;
use control_api::time::Time;
use control_api::{Alert, AlertKind, Failure};
use drain::Drain;
use gauge::Gauge;
use registration::link::{Embedder, End, HealthMeter, Hub, Job, Link, Look, Surroundings, host_disks};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long the driver is asked; then what it told last is told again.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked what the agent does.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the link asks.
struct Teller {
    control: Arc<Control>,
    runtime: Handle,
    meter: HealthMeter,
    surroundings: Surroundings,
    gauge: Arc<Gauge>,
    drain: Arc<Mutex<Drain>>,
    last: Mutex<Option<StatusReport>>,
    overflowed: Mutex<Option<Time>>,
}

/// Begins the conversation; it waits until this machine is registered. The task has what people wait for told at once.
pub(super) fn start(control: Arc<Control>) -> (Link, JoinHandle<()>) {
    let (hub, gauge) = (Hub::new(), Arc::new(Gauge::default()));
    let drain = Arc::new(Mutex::new(Drain::default()));
    let state = control.config.state_folder.clone();
    let telling = tokio::spawn(tell_changes(control.clone(), gauge.clone(), drain.clone(), hub.clone()));
    let teller = Teller {
        runtime: Handle::current(),
        meter: HealthMeter::new(control.clock.now()),
        surroundings: Surroundings::watch(Protected::new(&control), hub.clone()),
        gauge,
        drain,
        last: Mutex::default(),
        overflowed: Mutex::default(),
        control,
    };
    (Link::start(&state, hub, Arc::new(teller)), telling)
}

async fn tell_changes(control: Arc<Control>, gauge: Arc<Gauge>, drain: Arc<Mutex<Drain>>, hub: Hub) {
    let mut told = None;
    loop {
        gauge.note(control.replication.sent_bytes());
        let standing = control.tracker.standing();
        drain.lock().unwrap_or_else(PoisonError::into_inner).second(standing.backlog, standing.settled);
        if let Ok(Ok(report)) = timeout(PATIENCE, control.report()).await {
            let now =
                (report.item, report.target, report.state, report.why, report.overflows, report.quiescence);
            if told.as_ref() != Some(&now) {
                told = Some(now);
                hub.hurry();
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl Embedder for Teller {
    fn host(&self, name: &str) -> registration::Result<Host> {
        crate::register::this_host(Some(name))
    }

    fn heartbeat(&self, host: Host) -> Heartbeat {
        let (disks, datastores) = self.surroundings.found();
        Heartbeat {
            host,
            time: self.control.clock.now(),
            health: self.meter.read(),
            disks,
            datastores,
            data_port: None,
            retention: None,
            items: Vec::new(),
            protection: self.protection(),
        }
    }

    fn answered(&self, _: &Heartbeat, reply: &HeartbeatReply) {
        if let Some(every) = reply.application_consistent_every_seconds {
            // Applications must not be brought to rest all the time, whoever says so.
            let every = if every == 0 { 0 } else { every.clamp(MIN_EVERY, MAX_EVERY) };
            self.control.rhythm.set(Duration::from_secs(every));
        }
    }

    fn run(&self, job: &Job) -> Result<String, End> {
        match &job.order().job {
            JobKind::Bookmark { name, application_consistent } => {
                bookmark::run(self, job, name, *application_consistent)
            }
            JobKind::GroupBookmark { name, group, meeting, application_consistent } => {
                let at_rest = *application_consistent;
                group_bookmark::run(self, job, group_bookmark::Wanted { name, group, meeting, at_rest })
            }
            other => {
                let order = Order { control: &self.control, runtime: &self.runtime, told: job };
                order.run(other).unwrap_or_else(|| {
                    Err(End::Failed(Failure::new(
                        other.title(),
                        "it is not carried out",
                        "a source agent does nothing of this kind",
                        "order it from the master target",
                    )))
                })
            }
        }
    }
}

impl Teller {
    fn protection(&self) -> Option<Protection> {
        let asked = self.runtime.block_on(async { timeout(PATIENCE, self.control.report()).await });
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(Ok(report)) = asked {
            *last = Some(report);
        }
        let report = last.as_ref()?;
        let mut protection = Protection {
            item: report.item.clone().unwrap_or_default(),
            target: report.target.clone().unwrap_or_default(),
            disks: self.disks(),
            quiesced: report.quiescence.as_ref().is_some_and(Quiescence::is_quiesced),
            state: in_words(report),
            backlog_bytes: report.backlog_bytes,
            drain_seconds: None,
            bytes_per_second: self.gauge.rate(),
            alerts: self.alerts(report),
        };
        // A comparison says itself how long it takes.
        if report.item.is_some() && report.sync.is_none() {
            let mut drain = self.drain.lock().unwrap_or_else(PoisonError::into_inner);
            drain.tell(&mut protection, self.control.clock.now());
        }
        Some(protection)
    }

    fn disks(&self) -> Vec<ProtectedDisk> {
        let disks = self.control.tracker.disks().iter();
        disks.map(|disk| ProtectedDisk { id: disk.id.clone(), size: disk.size }).collect()
    }

    fn alerts(&self, report: &StatusReport) -> Vec<Alert> {
        let mut since = self.overflowed.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = report.item.is_some() && report.sync.is_none();
        if report.overflows == 0 || report.dirty_bytes == 0 || !waits {
            *since = None;
            return Vec::new();
        }
        let message = "the backlog was given up because it was full or could not be written; what it held is compared \
                       as soon as the master target is reached; raise limits.backlog_mib if this happens often";
        let since = *since.get_or_insert(self.control.clock.now());
        vec![Alert { kind: AlertKind::ResyncRequired, since, message: message.to_owned() }]
    }
}

/// What the agent is doing.
fn in_words(report: &StatusReport) -> String {
    let mut words = report.state.replace('-', " ");
    if let Some(sync) = &report.sync {
        let share = sync.done_bytes.saturating_mul(100).checked_div(sync.total_bytes).unwrap_or(0);
        words += &format!(", {share} %");
    }
    match &report.quiescence {
        Some(found) if found.is_quiesced() => words += ", quiesced",
        Some(found) if found.is_under_way() => words += ", coming to rest",
        _ => {}
    }
    match &report.why {
        Some(why) => format!("{words}: {why}"),
        None => words,
    }
}

/// The disks that the agent protects: path and id of each.
struct Protected {
    devices: Vec<(String, String)>,
    images: Vec<(String, String)>,
    replication: Arc<Replication>,
}

impl Protected {
    fn new(control: &Control) -> Protected {
        let (mut devices, mut images) = (Vec::new(), Vec::new());
        for disk in &control.config.disks {
            let entry = (disk.path.display().to_string(), disk.id.clone());
            match disk.format() == DiskFormat::Raw && is_device(&disk.path) {
                true => devices.push(entry),
                false => images.push(entry),
            }
        }
        Protected { devices, images, replication: control.replication.clone() }
    }
}

impl Look for Protected {
    /// Images come after the disks of the machine: to whom looks, they are what is protected.
    fn disks(&self, system: &System) -> Vec<HostDisk> {
        let inventory = Inventory::read(system);
        let item = self.replication.assignment().map(|assignment| assignment.item);
        let use_of = |disk: &str| match &item {
            Some(item) => format!("source: {disk} of {item}"),
            None => format!("source: {disk}, of no item"),
        };
        let named: Vec<(String, &str)> = self
            .devices
            .iter()
            .filter_map(|(path, id)| Some((inventory.find(system, path).ok()?.name.clone(), id.as_str())))
            .collect();
        let known =
            |disk: &AttachedDisk| named.iter().find(|(name, _)| *name == disk.name).map(|(_, id)| use_of(id));
        let image = |(path, id): &(String, String)| HostDisk {
            name: path.clone(),
            id: None,
            size: std::fs::metadata(path).map_or(0, |found| found.len()),
            paths: 1,
            used_for: use_of(id),
        };
        let mut disks = host_disks(&inventory, known);
        disks.extend(self.images.iter().map(image));
        disks
    }

    fn datastores(&self, _: &System) -> Vec<Datastore> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::status::SyncReport;

    #[test]
    fn the_state_is_told_in_words() {
        let sync = SyncReport {
            done_bytes: 1,
            total_bytes: 4,
            sent_bytes: 1,
            bytes_per_second: 1,
            eta_seconds: None,
        };
        let report = StatusReport {
            item: Some("web01".into()),
            target: Some("mt:9443".into()),
            assigned_by: None,
            state: "initial-sync".into(),
            why: None,
            stream: String::new(),
            next_sequence: 1,
            acknowledged_sequence: 0,
            backlog_bytes: 0,
            dirty_bytes: 0,
            overflows: 0,
            sync: Some(sync),
            quiescence: None,
            nbd: None,
        };
        assert_eq!(in_words(&report), "initial sync, 25 %");
        let quiescence = Some(Quiescence::Quiesced { bookmark: "move".into(), since: 1 });
        let at_rest = StatusReport { state: "level".into(), sync: None, quiescence, ..report.clone() };
        assert_eq!(in_words(&at_rest), "level, quiesced");
        let offline =
            StatusReport { state: "offline".into(), why: Some("refused".into()), sync: None, ..report };
        assert_eq!(in_words(&offline), "offline: refused");
    }
}
