//! A replicated item that a master target is to take.

use super::check::{Checked, each, name, text};
use serde::{Deserialize, Serialize};

/// A replicated item, as it is ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemOrder {
    /// Its name.
    pub name: String,
    /// Name that the certificate of its source carries.
    pub source: String,
    /// How it is protected.
    pub policy: ItemPolicy,
    /// Its disks, at least one.
    pub disks: Vec<DiskOrder>,
}

/// How far back recovery points reach, and when there is an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemPolicy {
    /// Seconds that recovery points are to reach back.
    pub window_seconds: u64,
    /// Seconds of RPO above which there is an alert.
    pub rpo_threshold_seconds: u64,
    /// Seconds from one application-consistent recovery point to the next; `None` when none are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_consistent_every_seconds: Option<u64>,
}

/// A disk of an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskOrder {
    /// Its id in the change stream.
    pub id: String,
    /// Bytes of the source disk.
    pub size: u64,
    /// Where the replica is to be.
    pub target: TargetOrder,
}

/// Where a replica is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum TargetOrder {
    /// A disk that exists, of the same size. What is on it is compared with the source, and only differences travel.
    Existing {
        /// Path of a VMDK or image, or an attached disk by its SCSI id or as `/dev/mapper/ID`.
        target: String,
    },
    /// A VMDK that is made, named after item and disk.
    New {
        /// The folder, on a datastore that the master target has mounted.
        folder: String,
        /// Its createType, such as `vmfs`, `vmfs-thin` or `monolithicSparse`.
        format: String,
        /// Adapter type, such as `lsilogic`.
        adapter: String,
        /// Its identity, 16 bytes in hexadecimal; a new one when missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uuid: Option<String>,
    },
}

impl ItemOrder {
    /// The most disks that an item may have.
    pub const MAX_DISKS: usize = 60;

    /// Refuses what is too long, too many or has another form. Whether the master target can do it, it finds out itself.
    pub fn check(&self) -> Result<(), String> {
        name("name", &self.name)?;
        name("source", &self.source)?;
        self.policy.check()?;
        if self.disks.is_empty() {
            return Err("disks: an item has at least one".into());
        }
        each("disks", &self.disks, ItemOrder::MAX_DISKS, disk)
    }
}

impl ItemPolicy {
    /// Refuses durations that no policy may have.
    pub fn check(&self) -> Result<(), String> {
        const MINUTE: u64 = 60;
        const DAY: u64 = 86_400;
        let within =
            |field: &str, seconds: u64, least: u64, most: u64| match (least..=most).contains(&seconds) {
                true => Ok(()),
                false => Err(format!("policy: {field} must be from {least} to {most}, not {seconds}")),
            };
        within("window_seconds", self.window_seconds, MINUTE, 365 * DAY)?;
        within("rpo_threshold_seconds", self.rpo_threshold_seconds, 1, 7 * DAY)?;
        self.application_consistent_every_seconds
            .iter()
            .try_for_each(|seconds| within("application_consistent_every_seconds", *seconds, MINUTE, 7 * DAY))
    }
}

fn disk(disk: &DiskOrder) -> Checked {
    name("id", &disk.id)?;
    if disk.size == 0 || !disk.size.is_multiple_of(512) {
        return Err(format!("size must be a multiple of 512 bytes and not 0, not {}", disk.size));
    }
    match &disk.target {
        TargetOrder::Existing { target } => path("target", target),
        TargetOrder::New { folder, format, adapter, uuid } => {
            path("folder", folder)?;
            name("format", format)?;
            name("adapter", adapter)?;
            uuid.iter().try_for_each(|uuid| name("uuid", uuid))
        }
    }
}

fn path(field: &str, value: &str) -> Checked {
    text(field, Some(value))?;
    let good = !value.is_empty() && !value.contains(char::is_control);
    good.then_some(()).ok_or_else(|| format!("{field} must not be empty or have control characters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> ItemOrder {
        let new = TargetOrder::New {
            folder: "/vmfs".into(),
            format: "vmfs".into(),
            adapter: "lsilogic".into(),
            uuid: None,
        };
        let existing = TargetOrder::Existing { target: "/vmfs/web01.vmdk".into() };
        ItemOrder {
            name: "web01".into(),
            source: "web01.example".into(),
            policy: ItemPolicy {
                window_seconds: 86_400,
                rpo_threshold_seconds: 900,
                application_consistent_every_seconds: Some(3600),
            },
            disks: vec![
                DiskOrder { id: "disk0".into(), size: 1 << 30, target: existing },
                DiskOrder { id: "disk1".into(), size: 1 << 30, target: new },
            ],
        }
    }

    #[test]
    fn what_is_too_much_is_refused_by_the_name_of_its_field() {
        order().check().unwrap();
        type Change = fn(&mut ItemOrder);
        let cases: [(Change, &str); 12] = [
            (|order| order.name.clear(), "name must have from 1 to 255 bytes"),
            (|order| order.source = "a\nb".into(), "source must have"),
            (|order| order.disks.clear(), "disks: an item has at least one"),
            (|order| order.disks = vec![order.disks[0].clone(); 61], "61 are more than the 60 allowed"),
            (|order| order.disks[1].id.clear(), "disks: number 2: id must have"),
            (|order| order.disks[0].size = 0, "size must be a multiple of 512"),
            (|order| order.disks[0].size = 513, "size must be a multiple of 512"),
            (
                |order| order.disks[0].target = TargetOrder::Existing { target: "/a\n".into() },
                "target must not be empty or have control",
            ),
            (
                |order| order.disks[0].target = TargetOrder::Existing { target: "x".repeat(5000) },
                "target is longer than 4096",
            ),
            (|order| order.policy.window_seconds = 59, "window_seconds must be from 60 to 31536000, not 59"),
            (|order| order.policy.rpo_threshold_seconds = 0, "rpo_threshold_seconds must be"),
            (
                |order| order.policy.application_consistent_every_seconds = Some(7 * 86_400 + 1),
                "application_consistent_every_seconds must be",
            ),
        ];
        for (change, expected) in cases {
            let mut changed = order();
            change(&mut changed);
            let why = changed.check().unwrap_err();
            assert!(why.contains(expected), "{expected:?}: {why}");
        }
    }
}
