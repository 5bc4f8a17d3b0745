//! How a host is, and what it has.

use super::ItemPolicy;
use crate::point::Point;
use crate::registration::{Hex, Host};
use crate::status::{Alert, ItemStatus, RetentionStatus};
use crate::time::Time;
use serde::{Deserialize, Serialize};

/// The longest heartbeat, in bytes.
pub const MAX_HEARTBEAT: usize = 1 << 20;

/// A sign of life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Who sends it.
    pub host: Host,
    /// Its clock.
    pub time: Time,
    /// How the machine is.
    pub health: Health,
    /// Its disks.
    pub disks: Vec<HostDisk>,
    /// Folders in which it may keep replicas as VMDK files, with the file systems that they are on.
    #[serde(default)]
    pub datastores: Vec<Datastore>,
    /// The port at which a master target takes change streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_port: Option<u16>,
    /// The retention volume of a master target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionStatus>,
    /// The replicated items of a master target.
    #[serde(default)]
    pub items: Vec<ItemReport>,
    /// What a source agent protects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protection: Option<Protection>,
}

/// How a machine is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// When its daemon started.
    pub started: Time,
    /// Seconds since the machine started.
    pub uptime_seconds: u64,
    /// Processors.
    pub processors: u32,
    /// Share of them that was busy since the last heartbeat, in percent.
    pub busy_percent: f64,
    /// Load averages over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of it that are in use.
    pub memory_used_bytes: u64,
}

/// A disk of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDisk {
    /// What the kernel calls it; a multipath disk is named by its map.
    pub name: String,
    /// Its SCSI id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Size in bytes.
    pub size: u64,
    /// Paths that lead to it.
    pub paths: u32,
    /// What it is used for, in words, such as `target of web01`, `retention volume` or [`HostDisk::FREE`].
    pub used_for: String,
}

impl HostDisk {
    /// What is told of a disk that nothing uses.
    pub const FREE: &str = "free";
}

/// A folder for replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Datastore {
    /// The folder.
    pub folder: String,
    /// Kind of the file system, such as `ext4`.
    pub file_system: String,
    /// Size in bytes; `None` when it cannot be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_bytes: Option<u64>,
    /// Bytes that can still be written; `None` when it cannot be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_bytes: Option<u64>,
}

/// An item, as its master target sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemReport {
    /// Where it stands.
    pub status: ItemStatus,
    /// Its newest bookmarks, the newest first, at most [`ItemReport::MAX_POINTS`]; `None` when they are as in the last
    /// heartbeat that was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<Vec<Point>>,
}

impl ItemReport {
    /// Bookmarks that are reported.
    pub const MAX_POINTS: usize = 100;
}

/// What a source agent does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    /// The item at the master target; empty while the agent is not assigned to one.
    pub item: String,
    /// Host and port of the master target; empty likewise.
    pub target: String,
    /// The disks of the item, or that an item of this agent would have, in their order.
    #[serde(default)]
    pub disks: Vec<ProtectedDisk>,
    /// The disks are at rest: everything that would change them is refused.
    #[serde(default)]
    pub quiesced: bool,
    /// What it is doing, in words.
    pub state: String,
    /// Bytes that changed and are not yet at the master target.
    pub backlog_bytes: u64,
    /// Seconds until they are there, at the rate of the last minutes in which there were any; `None` when that is not
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_seconds: Option<u64>,
    /// Bytes sent a second, over the last few seconds.
    pub bytes_per_second: u64,
    /// What needs attention.
    #[serde(default)]
    pub alerts: Vec<Alert>,
}

/// A disk that a source agent serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtectedDisk {
    /// Its id in the change stream.
    pub id: String,
    /// Size in bytes.
    pub size: u64,
}

/// The configuration server's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatReply {
    /// The configuration server's clock.
    pub time: Time,
    /// Seconds until the next heartbeat is expected.
    pub interval_seconds: u64,
    /// True when the next heartbeat should tell the points of every item, because some are not known here.
    pub want_points: bool,
    /// SHA-256 of each certificate that was revoked and has not expired: a master target lets no source in by it.
    #[serde(default)]
    pub revoked: Vec<Hex>,
    /// What a master target's items are to follow; those that are not here keep the policy they have.
    #[serde(default)]
    pub policies: Vec<GivenPolicy>,
    /// Seconds from one application-consistent recovery point to the next that a source agent is to set, 0 for none;
    /// `None` when nothing is known of its item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_consistent_every_seconds: Option<u64>,
}

/// The policy that the configuration server gives an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenPolicy {
    /// The item, by its name.
    pub item: String,
    /// What it is to follow.
    pub policy: ItemPolicy,
}
