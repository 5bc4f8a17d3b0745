//! Installing what this machine lacks.

use crate::command::{find_program, is_root, run as run_command, target};
use crate::{deny, python};
use anyhow::{Result, bail};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::Command;

/// Debian packages, and a program of each by which it is known to be there.
const PACKAGES: [(&str, &str); 31] = [
    ("btrfs-progs", "mkfs.btrfs"),
    ("build-essential", "cc"),
    ("chromium", "chromium"),
    ("chromium-driver", "chromedriver"),
    ("dosfstools", "mkfs.vfat"),
    ("e2fsprogs", "mkfs.ext4"),
    ("faketime", "faketime"),
    ("fdisk", "sfdisk"),
    ("fio", "fio"),
    ("git", "git"),
    ("gnupg", "gpg"),
    ("gpgv1", "gpgv1"),
    ("iproute2", "ip"),
    ("kpartx", "kpartx"),
    ("libnbd-bin", "nbdcopy"),
    ("lintian", "lintian"),
    ("mmdebstrap", "mmdebstrap"),
    ("nbdkit", "nbdkit"),
    ("openssl", "openssl"),
    ("postgresql", "pg_ctlcluster"),
    ("python3-aiosmtpd", "aiosmtpd"),
    ("python3-libnbd", "nbdsh"),
    ("python3-pip", "pip3"),
    ("qemu-system-x86", "qemu-system-x86_64"),
    ("qemu-utils", "qemu-img"),
    ("rsync", "rsync"),
    ("socat", "socat"),
    ("squashfs-tools", "mksquashfs"),
    ("strace", "strace"),
    ("xfsprogs", "mkfs.xfs"),
    ("xz-utils", "xz"),
];

/// What holds the configuration server's API against its document.
const SCHEMATHESIS: &str = "crates/configuration-server/tests/schemathesis-requirements.txt";

/// What bills of materials are held against, by a part of schemathesis.
const CYCLONEDX: &str = "xtask/cyclonedx-requirements.txt";

/// Installs what is missing; with all there it only looks.
pub(crate) fn run() -> Result<()> {
    packages()?;
    machine_id()?;
    schemathesis()?;
    cyclonedx()?;
    deny::install().map(drop)
}

/// Its test looks for it there.
pub(crate) fn schemathesis() -> Result<PathBuf> {
    python::install("schemathesis", SCHEMATHESIS, &target())
}

/// The schemas of bills of materials.
pub(crate) fn cyclonedx() -> Result<PathBuf> {
    python::install("cyclonedx", CYCLONEDX, &target())
}

/// A host is known by it to a configuration server, and a container may have none.
fn machine_id() -> Result<()> {
    let is_there = |path: &&str| std::fs::read_to_string(path).is_ok_and(|text| !text.trim().is_empty());
    if ["/etc/machine-id", "/var/lib/dbus/machine-id"].iter().any(is_there) {
        return Ok(());
    }
    let Some(privilege) = privilege() else {
        bail!("this machine has no id: run systemd-machine-id-setup as root, then try again")
    };
    println!("making /etc/machine-id");
    let script = "tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id";
    let words: Vec<&str> = privilege.iter().copied().chain(["sh", "-c", script]).collect();
    run_command(Command::new(words[0]).args(&words[1..]))
}

fn packages() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let Some(privilege) = privilege() else { bail!(advice(&missing)) };
    // The package lists may be absent or stale: fetch them only when it does not work without.
    if install(privilege, &missing).is_err() {
        run_command(&mut apt_get(privilege, &["update", "-q"]))?;
        install(privilege, &missing)?;
    }
    // Where one of ours was there in a version that another one does not go with, apt-get has removed it.
    let removed = self::missing();
    if !removed.is_empty() {
        install(privilege, &removed)?;
    }
    match self::missing().as_slice() {
        [] => Ok(()),
        absent => bail!("apt-get installed them, but these are still not usable: {}", absent.join(" ")),
    }
}

fn missing() -> Vec<&'static str> {
    PACKAGES
        .iter()
        .filter(|(_, program)| find_program(program).is_none())
        .map(|(package, _)| *package)
        .collect()
}

fn advice(packages: &[&str]) -> String {
    format!(
        "these packages are missing, and this user may not install them: run\n    apt-get install -y {}\nas root, \
         then try again",
        packages.join(" ")
    )
}

/// The words before a command that make it run as root; `None` where there is no way.
fn privilege() -> Option<&'static [&'static str]> {
    find_program("apt-get")?;
    match (is_root().ok()?, find_program("sudo")) {
        (true, _) => Some(&[]),
        (false, Some(_)) if std::io::stdin().is_terminal() => Some(&["sudo"]),
        (false, Some(_)) => Some(&["sudo", "--non-interactive"]),
        (false, None) => None,
    }
}

fn install(privilege: &[&str], packages: &[&str]) -> Result<()> {
    println!("installing {}", packages.join(" "));
    run_command(apt_get(privilege, &["install", "-qy", "--no-install-recommends"]).args(packages))
}

fn apt_get(privilege: &[&str], arguments: &[&str]) -> Command {
    let words: Vec<&str> =
        privilege.iter().copied().chain(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(arguments);
    command
}
