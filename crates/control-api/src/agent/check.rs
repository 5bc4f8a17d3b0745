//! What a host tells has its form: lengths and counts are bounded, and each refusal names the field.
//!
//! The limits stand here once, for the server that refuses what is beyond them and for the host that leaves it out.

use super::{
    Datastore, Heartbeat, HostDisk, ItemPolicy, ItemReport, JobReport, JobStep, JobsRequest, Protection,
};
use crate::local::Failure;
use crate::point::Point;
use crate::registration::HostKind;
use crate::status::{Alert, DiskStatus, ItemStatus, RetentionStatus};
use std::collections::HashSet;

/// The longest name or id, in bytes.
pub(super) const MAX_NAME: usize = 255;
/// The longest text or path, in bytes.
pub(super) const MAX_TEXT: usize = 4096;

pub(super) const MAX_DISKS: usize = 256;
pub(super) const MAX_DATASTORES: usize = 64;
pub(super) const MAX_ITEMS: usize = 512;
pub(super) const MAX_ITEM_DISKS: usize = 64;
pub(super) const MAX_ALERTS: usize = 32;
/// Jobs that a host may say it is at.
const MAX_RUNNING: usize = 256;

pub(super) type Checked = Result<(), String>;

impl Heartbeat {
    /// Refuses what is too long or has another form, apart from its host, which has a check of its own.
    pub fn check(&self) -> Result<(), String> {
        let Heartbeat { host, health, disks, datastores, retention, items, protection, .. } = self;
        let numbers = [health.busy_percent, health.load[0], health.load[1], health.load[2]];
        if !numbers.iter().all(|number| number.is_finite() && *number >= 0.0) {
            return Err("health: busy_percent and load must be numbers from 0 on".into());
        }
        each("disks", disks, MAX_DISKS, disk)?;
        each("datastores", datastores, MAX_DATASTORES, datastore)?;
        each("items", items, MAX_ITEMS, item)?;
        let mut names = HashSet::new();
        if let Some(twice) = items.iter().find(|item| !names.insert(&item.status.name)) {
            return Err(format!("items: {} is there twice", twice.status.name));
        }
        let is_target = host.kind == HostKind::MasterTarget;
        if !is_target && (retention.is_some() || !items.is_empty()) {
            return Err("retention and items: only a master target has them".into());
        }
        if host.kind != HostKind::SourceAgent && protection.is_some() {
            return Err("protection: only a source agent has it".into());
        }
        retention.iter().try_for_each(self::retention).map_err(|why| format!("retention: {why}"))?;
        protection.iter().try_for_each(self::protection).map_err(|why| format!("protection: {why}"))
    }
}

impl JobsRequest {
    /// Refuses what is too long or has another form, apart from its host, which has a check of its own.
    pub fn check(&self) -> Result<(), String> {
        each("running", &self.running, MAX_RUNNING, |id| job_id(id))
    }
}

impl JobReport {
    /// Refuses what is too long or has another form.
    pub fn check(&self) -> Result<(), String> {
        job_id(&self.id)?;
        each("steps", &self.steps, JobReport::MAX_STEPS, step)?;
        text("outcome", self.outcome.as_deref())?;
        self.failure.iter().try_for_each(failure).map_err(|why| format!("failure: {why}"))
    }
}

/// Whether a text can be the id of a job: 32 hexadecimal digits in lower case. Hosts name files by it.
pub fn is_job_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn job_id(id: &str) -> Checked {
    match is_job_id(id) {
        true => Ok(()),
        false => Err("the id of a job must be 32 hexadecimal digits in lower case".into()),
    }
}

fn step(step: &JobStep) -> Checked {
    name("name", &step.name)?;
    text("detail", step.detail.as_deref())
}

fn failure(failure: &Failure) -> Checked {
    let Failure { object, what, why, next } = failure;
    [("object", object), ("what", what), ("why", why), ("next", next)]
        .into_iter()
        .try_for_each(|(field, value)| text(field, Some(value)))
}

fn disk(disk: &HostDisk) -> Checked {
    name("name", &disk.name)?;
    disk.id.iter().try_for_each(|id| name("id", id))?;
    text("used_for", Some(&disk.used_for))
}

fn datastore(datastore: &Datastore) -> Checked {
    text("folder", Some(&datastore.folder))?;
    name("file_system", &datastore.file_system)
}

fn retention(retention: &RetentionStatus) -> Checked {
    text("folder", Some(&retention.folder))?;
    text("detail", retention.detail.as_deref())?;
    text("file_system", retention.file_system.as_deref())?;
    each("alerts", &retention.alerts, MAX_ALERTS, alert)
}

fn protection(protection: &Protection) -> Checked {
    if protection.item.is_empty() != protection.target.is_empty() {
        return Err("item and target: an agent has both, or is not assigned and has neither".into());
    }
    if !protection.item.is_empty() {
        name("item", &protection.item)?;
    }
    text("target", Some(&protection.target))?;
    each("disks", &protection.disks, MAX_ITEM_DISKS, |disk| name("id", &disk.id))?;
    text("state", Some(&protection.state))?;
    each("alerts", &protection.alerts, MAX_ALERTS, alert)
}

fn item(report: &ItemReport) -> Checked {
    let ItemReport { status, points } = report;
    name("name", &status.name)?;
    self::status(status).map_err(|why| format!("{}: {why}", status.name))?;
    let Some(points) = points else { return Ok(()) };
    each("points", points, ItemReport::MAX_POINTS, point).map_err(|why| format!("{}: {why}", status.name))
}

fn status(status: &ItemStatus) -> Checked {
    status.policy.iter().try_for_each(ItemPolicy::check)?;
    text("detail", status.detail.as_deref())?;
    text("peer", status.peer.as_deref())?;
    status.newest_point.iter().chain(&status.oldest_point).try_for_each(point)?;
    each("disks", &status.disks, MAX_ITEM_DISKS, item_disk)?;
    each("alerts", &status.alerts, MAX_ALERTS, alert)?;
    status.start.iter().try_for_each(|start| text("summary", Some(&start.summary)))
}

fn item_disk(disk: &DiskStatus) -> Checked {
    name("id", &disk.id)?;
    text("target", Some(&disk.target))
}

fn point(point: &Point) -> Checked {
    let Some(bookmark) = &point.bookmark else { return Ok(()) };
    text("bookmark", Some(&bookmark.name))?;
    text("group", bookmark.group.as_deref())
}

fn alert(alert: &Alert) -> Checked {
    text("message", Some(&alert.message))
}

/// Checks each of several, of which there may be so many.
pub(super) fn each<T>(field: &str, all: &[T], limit: usize, check: impl Fn(&T) -> Checked) -> Checked {
    if all.len() > limit {
        return Err(format!("{field}: {} are more than the {limit} allowed", all.len()));
    }
    all.iter().enumerate().try_for_each(|(number, one)| {
        check(one).map_err(|why| format!("{field}: number {}: {why}", number + 1))
    })
}

pub(super) fn name(field: &str, value: &str) -> Checked {
    let good = !value.is_empty() && value.len() <= MAX_NAME && !value.contains(char::is_control);
    good.then_some(())
        .ok_or_else(|| format!("{field} must have from 1 to {MAX_NAME} bytes and no control characters"))
}

pub(super) fn text(field: &str, value: Option<&str>) -> Checked {
    let good = value.is_none_or(|value| value.len() <= MAX_TEXT);
    good.then_some(()).ok_or_else(|| format!("{field} is longer than {MAX_TEXT} bytes"))
}

#[cfg(test)]
mod tests;
