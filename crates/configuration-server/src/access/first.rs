//! The administrator that the first start makes.
//!
//! Its password stands in one file that only the server's user can read, until an administrator has logged in. The log
//! says where, and never what: logs are read by more people, and kept for longer, than a password should be.

use super::{Password, Role};
use crate::store::users;
use anyhow::{Context, Result, anyhow};
use block_device::durable_file;
use control_api::registration::Passphrase;
use control_api::time::Time;
use rand_core::OsRng;
use rusqlite::{Connection, TransactionBehavior};
use std::path::{Path, PathBuf};

/// Name of the first administrator.
pub(crate) const NAME: &str = "admin";
/// Name of the file with its password.
pub(crate) const FILE: &str = "administrator.password";

/// A password that nobody guesses: of the form of a passphrase.
pub(crate) fn generated() -> Passphrase {
    Passphrase::generate(&mut OsRng)
}

/// Makes an administrator when there is no user at all; the file with its password when one was made.
pub(crate) fn ensure_administrator(
    connection: &mut Connection,
    folder: &Path,
    now: Time,
) -> Result<Option<PathBuf>> {
    if !users::list(connection)?.is_empty() {
        return Ok(None);
    }
    let (password, path) = (generated(), folder.join(FILE));
    let hash = Password::from(password.reveal().to_owned()).hashed()?;
    // The file first: a user whose password nobody knows would be the worse half of it.
    durable_file::replace(&path, format!("{}\n", password.reveal()).as_bytes(), 0o600)
        .with_context(|| format!("cannot write {}; make room there", path.display()))?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if !users::list(&transaction)?.is_empty() {
        return Ok(None);
    }
    users::add(&transaction, NAME, Role::Administrator, &hash, now)?
        .map_err(|refused| anyhow!("{refused}"))?;
    transaction.commit()?;
    Ok(Some(path))
}

/// Removes the file with the password, once somebody has got in.
pub(crate) fn forget(folder: &Path) -> Result<()> {
    let path = folder.join(FILE);
    if !path.exists() {
        return Ok(());
    }
    durable_file::remove(&path)
        .with_context(|| format!("cannot remove {}; remove it by hand", path.display()))?;
    tracing::info!("{} was removed, since an administrator has logged in", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_administrator_is_made_once_also_when_a_start_was_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let mut connection = crate::store::schema::open(&folder.path().join("store.sqlite")).unwrap();
        std::fs::write(folder.path().join(FILE), "of a start that did not get on").unwrap();
        let path = ensure_administrator(&mut connection, folder.path(), 1).unwrap().unwrap();
        assert_eq!(ensure_administrator(&mut connection, folder.path(), 1).unwrap(), None);
        let password = std::fs::read_to_string(&path).unwrap();
        assert_eq!(password.len(), 21);
        let hash = users::credentials(&connection, "admin").unwrap().unwrap().password;
        assert!(Password::from(password.trim().to_owned()).is(Some(&hash)).unwrap());
        forget(folder.path()).unwrap();
        forget(folder.path()).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn only_the_owner_reads_the_password() {
        let folder = tempfile::tempdir().unwrap();
        let mut connection = crate::store::schema::open(&folder.path().join("store.sqlite")).unwrap();
        let path = ensure_administrator(&mut connection, folder.path(), 1).unwrap().unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o777, 0o600);
    }
}
