//! Runs a master target, a source agent and a configuration server on this machine, as the processes that users run.
//!
//! The demo, the benchmarks and the tests with real processes share this crate. A [`Rig`] is a folder with
//! certificates made for it and the programs to start; [`Target`] is a running `mtd`, [`Source`] a running
//! `mt-source`, [`ConfigurationServer`] a running `mt-configserver`, [`Site`] all three. All are stopped when dropped, can be killed with
//! SIGKILL and started again, and tell their peak memory. What `mtd` and `mt-source` prove to each other is made by
//! hand, until they were registered with a configuration server. [`tools`] runs the programs of other people that judge
//! the results: qemu-img, fio, nbdcopy.

mod build;
mod certificates;
mod clocks;
mod configuration_server;
mod identity;
mod machine;
mod nbd_client;
mod old_kernel;
mod process;
mod site;
mod source;
mod target;
pub mod tools;

pub use build::build;
pub use certificates::Certificates;
pub use clocks::Clocks;
pub use configuration_server::ConfigurationServer;
pub use identity::Identity;
pub use nbd_client::NbdClient;
pub use old_kernel::OldKernel;
pub use process::Process;
pub use site::Site;
pub use source::{Source, SourceOptions};
pub use target::{Target, TargetDisk, TargetOptions};

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A folder in which a master target and a source agent run, and the programs to run there.
pub struct Rig {
    /// Everything is kept in here.
    pub folder: PathBuf,
    /// Where `mtd`, `mtctl`, `mt-source` and `mt-configserver` are.
    pub programs: PathBuf,
    /// An authority made by hand, for those that are not registered.
    pub certificates: Certificates,
    /// Who `mtd` proves to be.
    pub target: Identity,
    /// Who `mt-source` proves to be.
    pub source: Identity,
    /// Name of the item that is replicated.
    pub item: String,
    /// Whether the retention volume may be a plain folder.
    pub trial_folder: bool,
    /// The id of another machine that `mtd` and `mt-source` are to take this one for, 32 hexadecimal digits: two hosts of a
    /// kind on one machine are one to a configuration server.
    pub other_machine: Option<String>,
}

impl Rig {
    /// Makes the folder, if it is missing, and the certificates.
    pub fn new(folder: &Path, programs: &Path) -> Result<Rig> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        let certificates = Certificates::make(&folder.join("certificates"))?;
        Ok(Rig {
            folder,
            programs: programs.canonicalize()?,
            target: Identity::made(&certificates, "target.example"),
            source: Identity::made(&certificates, "source.example"),
            certificates,
            item: "web01".into(),
            trial_folder: true,
            other_machine: None,
        })
    }

    /// Path of one of our programs.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let path = self.programs.join(name);
        if !path.exists() {
            bail!("{} does not exist; build it with `cargo build --release --bins`", path.display());
        }
        Ok(path)
    }
}

/// A port on the loopback interface that nobody listens at.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits until `probe` gives a value, and says what was waited for when it never does.
pub fn wait_for<T>(what: &str, longest: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if start.elapsed() > longest {
            bail!("waited {} s in vain for {what}", longest.as_secs());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
