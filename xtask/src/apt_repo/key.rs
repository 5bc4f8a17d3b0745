//! The key that signs a repository, used by gpg in a folder of its own, which is gone afterwards.

use super::write;
use crate::command::output;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

const NAME: &str = "Master target releases";

/// A secret key, in a folder that gpg takes for a home.
pub(super) struct Key {
    home: Home,
}

/// The agent that gpg starts for it ends with it.
struct Home(tempfile::TempDir);

impl Key {
    /// The key of a file.
    pub(super) fn of(file: &Path) -> Result<Key> {
        ensure!(file.is_file(), "there is no key {}: --make-key makes one", file.display());
        let home = Home::new()?;
        output(home.gpg().arg("--import").arg(file))
            .with_context(|| format!("{} has no key that gpg can use", file.display()))?;
        Ok(Key { home })
    }

    /// Signs a file in the way of `how`, an option of gpg's.
    pub(super) fn sign(&self, file: &Path, how: &str, signature: &Path) -> Result<()> {
        let mut gpg = self.home.gpg();
        gpg.args(["--digest-algo", "SHA512", "--armor", how, "--output"]).arg(signature).arg(file);
        output(&mut gpg).map(drop)
    }

    /// Writes the public key, for apt and for people, into a folder.
    pub(super) fn export(&self, folder: &Path) -> Result<()> {
        for (options, name) in
            [(["--export"].as_slice(), "master-target.gpg"), (&["--armor", "--export"], "master-target.asc")]
        {
            output(self.home.gpg().arg("--output").arg(folder.join(name)).args(options))?;
        }
        Ok(())
    }
}

/// Makes a key and writes it into a file that only its owner can read.
pub(super) fn make(file: &Path, bits: u32) -> Result<()> {
    let home = Home::new()?;
    let parameters = format!(
        "%no-protection\nKey-Type: RSA\nKey-Length: {bits}\nKey-Usage: sign\nName-Real: {NAME}\nExpire-Date: 0\n%commit\n"
    );
    let wanted = home.0.path().join("parameters");
    write(&wanted, parameters.as_bytes())?;
    output(home.gpg().args(["--cert-digest-algo", "SHA512", "--generate-key"]).arg(&wanted))?;
    let secret = output(home.gpg().args(["--armor", "--export-secret-keys"]))?;
    let mut key = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .with_context(|| format!("cannot make {}", file.display()))?;
    key.write_all(secret.as_bytes()).with_context(|| format!("cannot write {}", file.display()))
}

impl Home {
    fn new() -> Result<Home> {
        let folder =
            tempfile::Builder::new().prefix("gpg").tempdir().context("cannot make a folder for gpg")?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700))?;
        Ok(Home(folder))
    }

    fn gpg(&self) -> Command {
        let mut gpg = Command::new("gpg");
        gpg.arg("--homedir").arg(self.0.path()).args(["--batch", "--quiet", "--no-tty"]);
        gpg
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // It would go by itself, but later.
        let mut gpgconf = Command::new("gpgconf");
        let _ = output(gpgconf.arg("--homedir").arg(self.0.path()).args(["--kill", "all"]));
    }
}
