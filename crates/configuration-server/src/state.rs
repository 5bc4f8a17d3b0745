//! The state folder: what the first start makes, and the passphrase.

use anyhow::{Context, Result, bail};
use block_device::durable_file;
use control_api::registration::Passphrase;
use rand_core::OsRng;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Name of the file that holds the passphrase.
pub const PASSPHRASE_FILE: &str = "connection.passphrase";

/// Name of the file that the server locks while it runs.
const LOCK_FILE: &str = "lock";

/// Longer than anybody has the lock who only looks.
const GLANCE: Duration = Duration::from_millis(500);

/// Makes the folder when it is missing.
pub(crate) fn make_folder(folder: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the state folder {}; change state_folder", folder.display()))
}

/// The passphrase in a state folder. It is read anew for each handshake, so a rotation holds at once.
pub(crate) fn passphrase(folder: &Path) -> Result<Passphrase> {
    let path = file(folder);
    let remedy = "mt-configserver passphrase rotate makes a new one";
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read the passphrase in {}; {remedy}", path.display()))?;
    Passphrase::parse(&text).with_context(|| format!("no passphrase in {}; {remedy}", path.display()))
}

/// Makes a passphrase when there is none yet; true when one was made.
pub(crate) fn ensure_passphrase(folder: &Path) -> Result<bool> {
    let missing = !file(folder).exists();
    if missing {
        rotate_passphrase(folder)?;
    }
    Ok(missing)
}

/// Replaces the passphrase. Who is registered stays registered.
pub(crate) fn rotate_passphrase(folder: &Path) -> Result<Passphrase> {
    let passphrase = Passphrase::generate(&mut OsRng);
    let path = file(folder);
    durable_file::replace(&path, format!("{}\n", passphrase.reveal()).as_bytes(), 0o600)
        .and_then(|()| give_to_owner_of(folder, &path))
        .with_context(|| format!("cannot write {}; the old passphrase still holds", path.display()))?;
    Ok(passphrase)
}

/// Root may type a command; the server, which runs as another user, has to read what it wrote.
pub(crate) fn give_to_owner_of(folder: &Path, path: &Path) -> std::io::Result<()> {
    let (owner, own) = (std::fs::metadata(folder)?, std::fs::metadata(path)?);
    match (owner.uid(), owner.gid()) == (own.uid(), own.gid()) {
        true => Ok(()),
        false => chown(path, Some(owner.uid()), Some(owner.gid())),
    }
}

/// The state folder of one program that serves or restores, for as long as this lives.
pub(crate) struct Lock {
    file: File,
}

impl Drop for Lock {
    /// A program that is being started at this moment may still have the file open, so closing it is not enough.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

impl Lock {
    /// Takes it, unless another program has it.
    pub(crate) fn take(folder: &Path) -> Result<Lock> {
        let path = folder.join(LOCK_FILE);
        let open = || {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)?;
            give_to_owner_of(folder, &path)?;
            Ok::<File, std::io::Error>(file)
        };
        let file = open().with_context(|| format!("cannot open {}; look at its owner", path.display()))?;
        let begun = Instant::now();
        let mut locked = file.try_lock();
        // A command that looks whether a server runs has it for a moment.
        while matches!(locked, Err(TryLockError::WouldBlock)) && begun.elapsed() < GLANCE {
            std::thread::sleep(GLANCE / 20);
            locked = file.try_lock();
        }
        match locked {
            Ok(()) => Ok(Lock { file }),
            Err(TryLockError::WouldBlock) => bail!(
                "{}: another mt-configserver works here; stop it first (systemctl stop master-target-configserver)",
                folder.display()
            ),
            Err(TryLockError::Error(cause)) => {
                Err(cause).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }
}

/// Whether a server runs in this folder. For a moment another one could not begin to, which [`Lock::take`] waits out.
pub(crate) fn is_served(folder: &Path) -> bool {
    let file = File::open(folder.join(LOCK_FILE));
    file.is_ok_and(|file| {
        let looked = file.try_lock_shared();
        // A program that is being started at this moment may still have the file open, so closing it is not enough.
        let _ = file.unlock();
        matches!(looked, Err(TryLockError::WouldBlock))
    })
}

fn file(folder: &Path) -> PathBuf {
    folder.join(PASSPHRASE_FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_passphrase_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        assert!(ensure_passphrase(folder.path()).unwrap());
        assert!(!ensure_passphrase(folder.path()).unwrap());
        let first = passphrase(folder.path()).unwrap();
        assert_eq!(std::fs::metadata(file(folder.path())).unwrap().mode() & 0o777, 0o600);
        assert_ne!(rotate_passphrase(folder.path()).unwrap(), first);
        assert_ne!(passphrase(folder.path()).unwrap(), first);
        assert_eq!(std::fs::metadata(file(folder.path())).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_state_folder_is_of_one_program_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(folder.path()).unwrap();
        let Err(error) = Lock::take(folder.path()) else { panic!("it was taken twice") };
        assert!(error.to_string().contains("systemctl stop"), "{error}");
        assert!(is_served(folder.path()));
        drop(lock);
        assert!(!is_served(folder.path()));
        Lock::take(folder.path()).unwrap();
    }

    #[test]
    fn a_passphrase_that_is_gone_is_named_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let error = format!("{:#}", passphrase(folder.path()).unwrap_err());
        assert!(error.contains("connection.passphrase") && error.contains("passphrase rotate"), "{error}");
    }
}
