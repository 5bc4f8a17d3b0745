//! The disks of this machine: files and block devices as [`disk::Disk`], directories as [`disk::Folder`].
//!
//! Everything above this crate is written against two traits and never sees a path or a descriptor. Here they meet
//! Linux. [`FileDisk`] is a raw image or a block device of fixed size; [`HostFolder`] is a directory whose files can
//! grow, in which VMDKs and journals live. Both go through one handle that keeps four promises:
//!
//! - *Locked.* A file opened for writing is held by one opener, one opened for reading by readers only. The locks are
//!   the ones that QEMU takes on its images (open-file-description locks on agreed bytes), so a virtual machine that
//!   runs from a VMDK and a master target that writes it exclude each other. They belong to the open file and go away
//!   with it, even after `kill -9`. A block device opened for writing is also claimed from the kernel, which refuses
//!   one that is mounted, swapped on or part of another device. A refusal names the holder where the system tells it.
//! - *Fenced.* Linux reports a lost write once, and a later `fsync` succeeds as if nothing had been lost. So after
//!   one failed write or sync every further one on the handle is refused, and syncs of a handle run one after the
//!   other, lest the error be reported to one caller and success to the next. A full volume does not fence: such a
//!   write says that it was not done.
//! - *Names stay inside.* Files of a folder are opened relative to the directory's own descriptor, by plain names,
//!   without following symbolic links. What a hostile VMDK descriptor names is never a file elsewhere.
//! - *Old kernels.* The baseline is Linux 4.4. What is newer or missing on a file system (punching holes, zeroing,
//!   direct I/O, seeking data) has a plainer way to the same result, chosen when the call is refused.
//!
//! With [`Caching::Direct`] the aligned middle of every read and write bypasses the page cache; unaligned edges go
//! through it. The kernel keeps both views coherent, since pages on either side of the boundary are never shared.

mod bounce;
pub mod device_mapper;
mod disk_file;
pub mod durable_file;
mod error;
#[cfg(test)]
mod fake_machine;
mod folder;
mod handle;
mod holder;
pub mod inventory;
mod lock;
pub mod mounts;
pub mod multipath;
pub mod partition_table;
pub mod partitions;
mod paths;
mod scsi_id;
mod signature;
mod system;
mod target_disk;
mod usage;
mod vpd;

pub use disk_file::FileDisk;
pub use error::{Error, Result};
pub use folder::HostFolder;
pub use handle::Caching;
pub use holder::opened_by;
pub use inventory::Inventory;
pub use paths::has_path;
pub use scsi_id::ScsiId;
pub use system::{Output, PROGRAM_TIMEOUT, System};
pub use target_disk::{TargetDisk, is_device};

/// Parsers of what others wrote, for fuzzers.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::inventory::text::{fstab, linear_starts, open_counts, swaps, udev_properties, unescape};
    pub use crate::signature::{Medium, detect};
    pub use crate::vpd::{Page, id_of_page_83, id_of_serial, serial_of_page_80};
}
