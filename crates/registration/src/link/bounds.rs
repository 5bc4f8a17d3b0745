//! What a heartbeat may hold. The configuration server refuses one that holds more as a whole, so what is too much is left
//! out here: a host with one text that is too long is heard all the same.

use control_api::agent::Heartbeat;
use control_api::{Alert, ItemStatus};

const DISKS: usize = 256;
const DATASTORES: usize = 64;
const ITEMS: usize = 512;
const ALERTS: usize = 32;
/// Bytes of a name, and of any other text.
const NAME: usize = 255;
const TEXT: usize = 4096;

/// Leaves out what is too much.
pub(super) fn fit(heartbeat: &mut Heartbeat) {
    heartbeat.disks.truncate(DISKS);
    for disk in &mut heartbeat.disks {
        name(&mut disk.name);
        disk.id.iter_mut().for_each(name);
        text(&mut disk.used_for);
    }
    heartbeat.datastores.truncate(DATASTORES);
    for datastore in &mut heartbeat.datastores {
        text(&mut datastore.folder);
        name(&mut datastore.file_system);
    }
    if let Some(retention) = &mut heartbeat.retention {
        text(&mut retention.folder);
        retention.detail.iter_mut().for_each(text);
        alerts(&mut retention.alerts);
    }
    heartbeat.items.truncate(ITEMS);
    heartbeat.items.iter_mut().for_each(|item| status(&mut item.status));
    if let Some(protection) = &mut heartbeat.protection {
        name(&mut protection.item);
        text(&mut protection.target);
        text(&mut protection.state);
        alerts(&mut protection.alerts);
    }
}

fn status(status: &mut ItemStatus) {
    status.detail.iter_mut().for_each(text);
    status.peer.iter_mut().for_each(text);
    alerts(&mut status.alerts);
    for disk in &mut status.disks {
        text(&mut disk.target);
    }
    if let Some(start) = &mut status.start {
        text(&mut start.summary);
    }
}

fn alerts(alerts: &mut Vec<Alert>) {
    alerts.truncate(ALERTS);
    alerts.iter_mut().for_each(|alert| text(&mut alert.message));
}

/// One line that is not empty.
fn name(value: &mut String) {
    cut(value, NAME);
    if value.contains(char::is_control) {
        *value = value.replace(char::is_control, " ");
    }
    if value.is_empty() {
        value.push('?');
    }
}

fn text(value: &mut String) {
    cut(value, TEXT);
}

fn cut(value: &mut String, bytes: usize) {
    if value.len() > bytes {
        value.truncate(value.floor_char_boundary(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
