//! The format of the daemon's own state, below `state_folder`: which one is there, and how an older one becomes today's.
//!
//! A number in the file `state-format` tells it. A version brings the state of each earlier one to its own format when it
//! starts, one step after the other. It does not touch the state of a later one, which it could misread: the package
//! refuses to be installed over that, and the daemon to start on it.

use block_device::durable_file;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// What brings the state of format `n` to format `n + 1`, by `n`. Each may have been cut off, and begun again.
const STEPS: [fn(&Path) -> io::Result<()>; 1] = [number];

/// The format that this version writes.
pub const STATE_FORMAT: u32 = STEPS.len() as u32;

const FILE: &str = "state-format";

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read or written.
    #[error("the state folder {}: {cause}; see that it can be written, or name another one by state_folder in mtd.toml", folder.display())]
    Unusable {
        /// The state folder.
        folder: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// It was written by a later version.
    #[error(
        "the state in {} has format {found}, and this version reads formats up to {STATE_FORMAT}: install the version \
         that wrote it, or a later one; nothing was changed", folder.display()
    )]
    Newer {
        /// The state folder.
        folder: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// Makes the state folder if there is none, and brings what is in it to today's format.
///
/// # Errors
///
/// When it is of a later version, or cannot be written.
pub(crate) fn open(folder: &Path) -> Result<(), StateError> {
    let unusable = |cause| StateError::Unusable { folder: folder.to_owned(), cause };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unusable)?;
    let found = read(folder).map_err(unusable)?;
    if found > STATE_FORMAT {
        return Err(StateError::Newer { folder: folder.to_owned(), found });
    }
    for (format, step) in (1..).zip(STEPS).skip(found as usize) {
        step(folder).and_then(|()| write(folder, format)).map_err(unusable)?;
    }
    Ok(())
}

/// The first versions wrote no number.
fn read(folder: &Path) -> io::Result<u32> {
    let path = folder.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| io::Error::other(format!("{FILE} is no number"))),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(cause) => Err(cause),
    }
}

fn write(folder: &Path, format: u32) -> io::Result<()> {
    durable_file::replace(&folder.join(FILE), format!("{format}\n").as_bytes(), 0o600)
}

/// Format 1 is what there was before, with its number.
fn number(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_without_a_number_gets_one_and_keeps_the_rest() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("state");
        open(&folder).unwrap();
        assert_eq!(fs::read_to_string(folder.join(FILE)).unwrap(), format!("{STATE_FORMAT}\n"));
        fs::remove_file(folder.join(FILE)).unwrap();
        fs::write(folder.join("identity"), "kept").unwrap();
        open(&folder).unwrap();
        open(&folder).unwrap();
        assert_eq!(read(&folder).unwrap(), STATE_FORMAT);
        assert_eq!(fs::read_to_string(folder.join("identity")).unwrap(), "kept");
    }

    #[test]
    fn the_state_of_a_later_version_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let later = format!("{}\n", STATE_FORMAT + 1);
        fs::write(folder.path().join(FILE), &later).unwrap();
        let error = open(folder.path()).unwrap_err();
        assert!(matches!(error, StateError::Newer { found, .. } if found == STATE_FORMAT + 1), "{error}");
        assert_eq!(fs::read_to_string(folder.path().join(FILE)).unwrap(), later);
        fs::write(folder.path().join(FILE), "soon").unwrap();
        let error = open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("state-format is no number"), "{error}");
    }
}
