//! The volume that holds the journals.
//!
//! A journal on the wrong volume is worse than none. When a mount is missing at boot, its mount-point folder is still
//! there, on the system disk: a journal begun in it would fill that disk and split the history in two. So a folder
//! becomes a [`RetentionVolume`] only when something is mounted there (or the configuration allows to try things
//! out in a plain folder) that was prepared as one: it carries a marker file with an id, made once, and with the UUID of
//! its file system. Whoever knew the volume before hands the id in, and every use checks the marker, and the file system,
//! of what is there at that moment.
//!
//! Nothing is held open between uses. So a volume that goes away can be unmounted, and one that comes back is the
//! same one when its marker says so. [`Sight`] is what one look at the machine shows of it, mounted or not;
//! [`bring_back`] mounts it again after its disk was gone.
//!
//! ```text
//! /mnt/retention/
//!     retention-volume            marker: format, id, UUID of the file system
//!     items/
//!         web01/                  the journal of one item
//! ```
//!
//! How a disk becomes such a volume is the other half: [`eligibility`] tells which disks can and why others cannot,
//! [`fstab`] edits one line of /etc/fstab, and [`prepare`] does all that is missing, step by step.

mod contents;
pub mod eligibility;
mod error;
mod ext4;
pub mod fstab;
mod marker;
pub mod prepare;
mod restore;
mod sight;
mod volume;

pub use error::{Error, Result};
pub use marker::{FileSystemUuid, VolumeId};
pub use restore::bring_back;
pub use sight::{Access, Mounted, Sight, Wanted};
pub use volume::{Place, RetentionVolume, Space};
