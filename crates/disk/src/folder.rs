//! Named files whose names are durable only after the folder's own sync.

use crate::{Bytes, Disk, Result};
use std::sync::Arc;

/// A disk that is a file: it can change its size.
///
/// A write that reaches past the end makes the file longer, and what lies between reads as zeroes. A changed size
/// is durable after [`Disk::sync`].
pub trait File: Disk {
    /// Cuts the file off at `size`, or extends it with zeroes.
    fn set_size(&self, size: Bytes) -> Result<()>;

    /// Extends it with zeroes to `size`, and takes the room for all of it now, so that no later write within it finds the
    /// volume full. A file system that cannot do so only extends it.
    fn allocate(&self, size: Bytes) -> Result<()>;

    /// From now on zeroes that are written to it give no room back.
    fn keep_room(&self);
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading; others may read it too, nobody may write it.
    Read,
    /// For reading and writing; nobody else may have it open.
    Write,
}

/// A folder of files, without subfolders.
///
/// Creating, renaming and removing take effect at once and are durable after [`Folder::sync`]; the contents of a
/// file are made durable by the file's own sync. An open file is locked against other openers as [`Access`] says,
/// until its last handle is dropped.
pub trait Folder: Send + Sync {
    /// What to call this folder in a message.
    fn name(&self) -> &str;

    /// Opens a file that exists.
    fn open(&self, name: &str, access: Access) -> Result<Arc<dyn File>>;

    /// Creates an empty file and opens it for writing; an existing one is an error.
    fn create(&self, name: &str) -> Result<Arc<dyn File>>;

    /// Gives a file a new name, replacing the file that had it. Handles stay valid.
    fn rename(&self, from: &str, to: &str) -> Result<()>;

    /// Removes a file. Handles stay valid until dropped.
    fn remove(&self, name: &str) -> Result<()>;

    /// The names of all files, in no particular order.
    fn list(&self) -> Result<Vec<String>>;

    /// Makes every change of names that returned before this call durable.
    fn sync(&self) -> Result<()>;

    /// Bytes that can still be written to the volume behind the folder.
    fn available(&self) -> Result<Bytes>;
}

/// True for a name that a folder can hold: not empty, at most 255 bytes, no separator, not `.` or `..`, no NUL.
/// Names out of files that someone else wrote are checked by this before they are opened.
pub fn valid_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && name != "." && name != ".." && !name.contains(['/', '\0'])
}
