//! Leaves out of a heartbeat what is too much. The configuration server refuses one that holds more as a whole, so a host
//! with one text that is too long would not be heard at all.

use super::check::{MAX_ALERTS, MAX_DATASTORES, MAX_DISKS, MAX_ITEM_DISKS, MAX_ITEMS, MAX_NAME, MAX_TEXT};
use super::{Health, Heartbeat, ItemReport};
use crate::point::Point;
use crate::status::{Alert, ItemStatus};

impl Heartbeat {
    /// Cuts texts and lists to what [`Heartbeat::check`] lets through. Names that are cut alike, and parts that do not
    /// belong to this kind of host, stay as they are: they are no matter of length.
    pub fn fit(&mut self) {
        health(&mut self.health);
        self.disks.truncate(MAX_DISKS);
        for disk in &mut self.disks {
            name(&mut disk.name);
            disk.id.iter_mut().for_each(name);
            text(&mut disk.used_for);
        }
        self.datastores.truncate(MAX_DATASTORES);
        for datastore in &mut self.datastores {
            text(&mut datastore.folder);
            name(&mut datastore.file_system);
        }
        if let Some(retention) = &mut self.retention {
            text(&mut retention.folder);
            retention.detail.iter_mut().for_each(text);
            retention.file_system.iter_mut().for_each(text);
            alerts(&mut retention.alerts);
        }
        self.items.truncate(MAX_ITEMS);
        self.items.iter_mut().for_each(item);
        if let Some(protection) = &mut self.protection {
            if !protection.item.is_empty() {
                name(&mut protection.item);
            }
            text(&mut protection.target);
            protection.disks.truncate(MAX_ITEM_DISKS);
            protection.disks.iter_mut().for_each(|disk| name(&mut disk.id));
            text(&mut protection.state);
            alerts(&mut protection.alerts);
        }
    }
}

fn health(health: &mut Health) {
    for number in health.load.iter_mut().chain([&mut health.busy_percent]) {
        if !number.is_finite() || *number < 0.0 {
            *number = 0.0;
        }
    }
}

fn item(report: &mut ItemReport) {
    status(&mut report.status);
    if let Some(points) = &mut report.points {
        points.truncate(ItemReport::MAX_POINTS);
        points.iter_mut().for_each(point);
    }
}

fn status(status: &mut ItemStatus) {
    name(&mut status.name);
    status.detail.iter_mut().for_each(text);
    status.peer.iter_mut().for_each(text);
    status.policy = status.policy.filter(|policy| policy.check().is_ok());
    status.newest_point.iter_mut().chain(&mut status.oldest_point).for_each(point);
    status.disks.truncate(MAX_ITEM_DISKS);
    for disk in &mut status.disks {
        name(&mut disk.id);
        text(&mut disk.target);
    }
    alerts(&mut status.alerts);
    if let Some(start) = &mut status.start {
        text(&mut start.summary);
    }
}

fn point(point: &mut Point) {
    if let Some(bookmark) = &mut point.bookmark {
        text(&mut bookmark.name);
        bookmark.group.iter_mut().for_each(text);
    }
}

fn alerts(alerts: &mut Vec<Alert>) {
    alerts.truncate(MAX_ALERTS);
    alerts.iter_mut().for_each(|alert| text(&mut alert.message));
}

/// One line that is not empty.
fn name(value: &mut String) {
    cut(value, MAX_NAME);
    if value.contains(char::is_control) {
        *value = value.replace(char::is_control, " ");
    }
    if value.is_empty() {
        value.push('?');
    }
}

fn text(value: &mut String) {
    cut(value, MAX_TEXT);
}

fn cut(value: &mut String, bytes: usize) {
    if value.len() > bytes {
        value.truncate(value.floor_char_boundary(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::tests::example;
    use crate::agent::{ProtectedDisk, Protection};
    use crate::registration::HostKind;
    use serde_json::Value;

    #[test]
    fn texts_are_cut_between_characters() {
        let mut long = "ä".repeat(3000);
        text(&mut long);
        assert_eq!((long.len(), long.chars().count()), (4096, 2048));
        for (before, after) in [("", "?"), ("a\nb", "a b"), ("sda", "sda")] {
            let mut value = before.to_owned();
            name(&mut value);
            assert_eq!(value, after);
        }
        let mut value = format!("{}ä", "x".repeat(254));
        name(&mut value);
        assert_eq!(value, "x".repeat(254));
    }

    /// Makes each list of a heartbeat too long, and in the first of each every text that is free.
    fn overdone(value: &mut Value, key: &str) {
        match value {
            Value::Object(fields) if key != "host" => {
                fields.iter_mut().for_each(|(key, value)| overdone(value, key));
            }
            Value::Array(all) if key != "load" => {
                let Some(first) = all.first().cloned() else { return };
                overdone(&mut all[0], key);
                for number in 0..600 {
                    let mut another = first.clone();
                    if let Some(name) = another.pointer_mut("/status/name") {
                        *name = format!("item {number}").into();
                    }
                    all.push(another);
                }
            }
            Value::String(text) if !["state", "kind", "work"].contains(&key) => *text = "ä\n".repeat(2000),
            _ => {}
        }
    }

    #[test]
    fn what_a_source_agent_tells_is_fitted_too() {
        let disk = ProtectedDisk { id: "ä".repeat(200), size: 1 };
        let protection = Protection {
            item: String::new(),
            target: String::new(),
            disks: vec![disk; MAX_ITEM_DISKS + 1],
            state: "x".repeat(5000),
            ..Protection::default()
        };
        let mut heartbeat = Heartbeat { items: Vec::new(), protection: Some(protection), ..example() };
        heartbeat.host.kind = HostKind::SourceAgent;
        assert!(heartbeat.check().is_err());
        heartbeat.fit();
        heartbeat.check().unwrap();
        assert_eq!(heartbeat.protection.unwrap().item, "", "one that is not assigned stays so");
    }

    #[test]
    fn what_was_fitted_passes_the_check() {
        let mut value = serde_json::to_value(example()).unwrap();
        overdone(&mut value, "");
        let mut heartbeat: Heartbeat = serde_json::from_value(value).unwrap();
        heartbeat.health.busy_percent = f64::NAN;
        heartbeat.health.load[2] = -1.0;
        heartbeat.items[0].status.policy.as_mut().unwrap().application_consistent_every_seconds =
            Some(u64::MAX);
        assert!(heartbeat.check().is_err());
        heartbeat.fit();
        heartbeat.check().unwrap();
        assert_eq!(heartbeat.items[0].status.policy, None, "it is no policy");
        let before = example();
        let mut after = before.clone();
        after.fit();
        assert_eq!(after, before);
    }
}
