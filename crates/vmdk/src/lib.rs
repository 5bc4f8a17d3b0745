//! VMDK images as disks.
//!
//! A VMDK is a text, the *descriptor*, and one or more *extents* that hold the bytes. An extent is flat (its bytes
//! as they are in a file), sparse (a file that grows by *grains* of 64 KiB, found through tables), compressed
//! (sparse, written once from front to back, for transport), or zero (no file at all). [`Image`] joins the extents
//! of a descriptor into one [`disk::Disk`]; [`StreamWriter`] writes the compressed form; [`check`] looks for all
//! that can be wrong with an image and [`repair`] mends what can be mended without guessing.
//!
//! What an image is kept safe from:
//!
//! - **Loss of power.** A sync of a sparse extent makes new grains durable before it writes a table entry that
//!   points to them, so at every moment the tables on the medium point to whole grains. Of the two copies of a
//!   table that a crash leaves different, the one that knows of a grain is right, and opening the image makes
//!   them equal again. A descriptor of its own is replaced by renaming; one inside an extent changes by a few
//!   digits in place, of which any mixture still reads well.
//! - **Other programs.** Files are opened through [`disk::Folder`], which locks them. A disk with a parent, or one
//!   that another descriptor in the folder names as its parent, is refused, because writing it would break a
//!   snapshot. A new content id at the first write after each open tells other programs that they missed a change.
//! - **Damage.** Every number is checked before it is used, copies of tables are compared when they are loaded,
//!   and compressed grains carry their address and checksum. What contradicts itself is reported with its
//!   place, never read or written.
//! - **Failed writes.** After one, the image takes no more of them until it is opened again.
//!
//! The crate draws no random numbers: content ids come from the caller.

mod check;
mod create;
mod descriptor;
mod error;
mod flat;
mod format;
mod header;
mod image;
mod open;
mod repair;
mod sparse;
mod stream_reader;
mod stream_writer;
mod sync_gate;
mod tables;

pub use check::{Finding, Report, Severity, check};
pub use create::CreateOptions;
pub use error::{Directory, Error, OptionProblem, Problem, Refusal, Result};
pub use format::{AdapterType, BadUuid, DiskUuid, Format, UnknownName};
pub use image::Image;
pub use repair::{Repaired, repair};
pub use stream_writer::StreamWriter;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; a panic elsewhere leaves nothing half done that this crate's locks guard.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
