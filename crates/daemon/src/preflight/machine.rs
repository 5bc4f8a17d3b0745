//! What the checks may ask of the machine. Each thing is read once, when first asked for.
//!
//! The first functions are the only ones that reach into `block-device` beyond its `System`.

use super::facts::packages::{self, Packages};
use super::server::{self, Answer, Failure};
use super::{Unknown, attestation::Attestations};
use crate::config::{Config, Server};
use block_device::inventory::{AttachedDisk, Duplicates, Look, Use};
use block_device::mounts::{self, Mount};
use block_device::multipath::{self, Conflict};
use block_device::{Inventory, PROGRAM_TIMEOUT, System};
use retention_volume::fstab::Fstab;
use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The disks of the machine, with those that items write to marked.
fn read_inventory(system: &System, retention: &str, targets: &[String]) -> Inventory {
    let look = Look { retention: PathBuf::from(retention), ..Look::default() };
    let mut inventory = Inventory::read_with(system, &look);
    inventory.mark_targets(system, targets);
    inventory
}

/// SCSI ids of the disks that multipath is told to map.
pub(super) fn wanted_disks(system: &System) -> Result<Vec<String>, Unknown> {
    Ok(multipath::wanted(system)?.iter().map(|id| id.as_str().to_owned()).collect())
}

/// Settings elsewhere that keep multipath from mapping them.
pub(super) fn multipath_conflicts(system: &System) -> Vec<Conflict> {
    multipath::conflicts(system)
}

/// Makes the multipath map of a disk, and keeps it over restarts.
pub(super) fn map_disk(system: &System, id: &str) -> block_device::Result<()> {
    system.run_well("mtctl", &["disks", id, "--map", "--yes"], MAP_TIMEOUT).map(drop)
}

/// Takes back what [`map_disk`] did; a disk that is not mapped is as good.
pub(super) fn unmap_disk(system: &System, id: &str) -> block_device::Result<()> {
    system.run_well("mtctl", &["disks", id, "--unmap", "--yes"], MAP_TIMEOUT).map(drop)
}

const MAP_TIMEOUT: Duration = Duration::from_secs(120);

/// Time for `systemctl`, which waits for a bus that may be gone.
const SERVICE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the checks look, and what they cannot find there.
#[derive(Clone, Debug)]
pub struct MachineOptions {
    /// The machine's files and programs.
    pub system: System,
    /// The daemon's configuration, a path of the machine.
    pub config: PathBuf,
    /// The configuration server, if another than the configuration's is meant.
    pub configuration_server: Option<Server>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// The program that runs.
    pub program: Option<PathBuf>,
    /// Version of this product.
    pub version: String,
    /// Seconds since the epoch.
    pub now: u64,
}

impl MachineOptions {
    /// The machine that this program runs on.
    pub fn host(config: &Path, configuration_server: Option<Server>) -> MachineOptions {
        let variables = std::env::vars_os();
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        };
        MachineOptions {
            system: System::host(),
            config: std::path::absolute(config).unwrap_or_else(|_| config.to_owned()),
            configuration_server,
            environment: variables.filter_map(text).collect(),
            program: std::env::current_exe().ok(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now: server::seconds_now(),
        }
    }
}

/// The machine, as far as it was looked at.
#[derive(Debug)]
pub struct Machine {
    pub(super) options: MachineOptions,
    /// The configuration; `None` when there is no file.
    pub(super) config: Result<Option<Config>, Unknown>,
    pub(super) inventory: OnceCell<Result<Inventory, Unknown>>,
    pub(super) configuration_server: OnceCell<Answer>,
    pub(super) process_server: OnceCell<Result<(), Failure>>,
    packages: OnceCell<Result<Packages, Unknown>>,
    mounts: OnceCell<Result<Vec<Mount>, Unknown>>,
    fstab: OnceCell<Result<Fstab, Unknown>>,
    apt: OnceCell<Result<String, Unknown>>,
}

impl Machine {
    /// Reads the configuration, nothing else yet.
    pub fn new(options: MachineOptions) -> Machine {
        let path = options.system.path(&options.config);
        let config = match path.exists() {
            false => Ok(None),
            true => Config::load(&path).map(Some).map_err(|error| Unknown::because(error.to_string())),
        };
        Machine {
            options,
            config,
            inventory: OnceCell::new(),
            configuration_server: OnceCell::new(),
            process_server: OnceCell::new(),
            packages: OnceCell::new(),
            mounts: OnceCell::new(),
            fstab: OnceCell::new(),
            apt: OnceCell::new(),
        }
    }

    /// Where the state folder really lies.
    pub fn state_path(&self) -> PathBuf {
        self.system().path(self.state_folder())
    }

    /// Seconds since the epoch, when the checks began.
    pub fn now(&self) -> u64 {
        self.options.now
    }

    pub(super) fn system(&self) -> &System {
        &self.options.system
    }

    /// The configuration that holds, when there is a good one.
    pub(super) fn config(&self) -> Option<&Config> {
        self.config.as_ref().ok()?.as_ref()
    }

    pub(super) fn state_folder(&self) -> PathBuf {
        let default = || PathBuf::from("/var/lib/master-target");
        self.config().map_or_else(default, |config| config.state_folder.clone())
    }

    pub(super) fn retention_folder(&self) -> String {
        let configured = self.config().map(|config| config.retention.folder.display().to_string());
        let folder = configured.unwrap_or_else(|| "/mnt/retention".to_owned());
        folder.trim_end_matches('/').to_owned()
    }

    /// The disks of the machine; a machine without any cannot have been looked at.
    pub(super) fn attached(&self) -> Result<&Inventory, Unknown> {
        known(self.inventory.get_or_init(|| {
            let items = self.config().map(|config| config.items.as_slice()).unwrap_or_default();
            let targets = items.iter().flat_map(|item| &item.disks);
            let targets: Vec<String> = targets.map(|disk| disk.target.display().to_string()).collect();
            let inventory = read_inventory(self.system(), &self.retention_folder(), &targets);
            match inventory.disks.is_empty() {
                true => Err(Unknown::because("the kernel lists no disk")),
                false => Ok(inventory),
            }
        }))
    }

    pub(super) fn disks(&self) -> Result<&[AttachedDisk], Unknown> {
        Ok(&self.attached()?.disks)
    }

    /// SCSI ids that several disks have and should not.
    pub(super) fn duplicates(&self) -> Result<Vec<Duplicates>, Unknown> {
        Ok(self.attached()?.duplicates())
    }

    /// The disk that `/` lies on.
    pub(super) fn system_disk(&self) -> Result<&AttachedDisk, Unknown> {
        let at_root = |place: &str| place == "/";
        let carries = |disk: &&AttachedDisk| {
            disk.uses.iter().any(|one| match one {
                Use::System { place } | Use::Mounted { place, .. } => at_root(place),
                _ => false,
            })
        };
        self.disks()?.iter().find(carries).ok_or_else(|| Unknown::because("no disk is known to hold /"))
    }

    pub(super) fn packages(&self) -> Result<&Packages, Unknown> {
        known(self.packages.get_or_init(|| {
            let text = self.system().run_well("dpkg-query", &packages::QUERY, PROGRAM_TIMEOUT)?;
            let packages = Packages::parse(&text);
            match packages.is_empty() {
                true => Err(Unknown::because("dpkg-query lists no package that is installed")),
                false => Ok(packages),
            }
        }))
    }

    pub(super) fn mounts(&self) -> Result<&[Mount], Unknown> {
        let read = || Ok(mounts::read(self.system())?);
        known(self.mounts.get_or_init(read)).map(Vec::as_slice)
    }

    pub(super) fn fstab(&self) -> Result<&Fstab, Unknown> {
        let read = || Fstab::read(self.system()).map_err(|error| Unknown::because(error.to_string()));
        known(self.fstab.get_or_init(read))
    }

    /// What `apt-config dump` prints.
    pub(super) fn apt_settings(&self) -> Result<&str, Unknown> {
        let read = || Ok(self.system().run_well("apt-config", &["dump"], PROGRAM_TIMEOUT)?);
        known(self.apt.get_or_init(read)).map(String::as_str)
    }

    pub(super) fn kernel_release(&self) -> Result<String, Unknown> {
        Ok(self.system().text("/proc/sys/kernel/osrelease")?.trim().to_owned())
    }

    pub(super) fn attestations(&self) -> Result<Attestations, Unknown> {
        Attestations::load(&self.system().path(self.state_folder())).map_err(Unknown::because)
    }

    /// Whether systemd runs one of these units.
    pub(super) fn active(&self, units: &[&str]) -> Result<bool, Unknown> {
        Ok(self.unit_states("is-active", units)?.iter().any(|state| state == "active"))
    }

    /// Whether systemd starts one of these units at boot.
    pub(super) fn enabled(&self, units: &[&str]) -> Result<bool, Unknown> {
        let states = self.unit_states("is-enabled", units)?;
        Ok(states
            .iter()
            .any(|state| state.starts_with("enabled") || state == "static" || state == "generated"))
    }

    /// One state for each unit; the exit status only repeats them.
    fn unit_states(&self, question: &str, units: &[&str]) -> Result<Vec<String>, Unknown> {
        let words: Vec<&str> = std::iter::once(question).chain(units.iter().copied()).collect();
        let output = self.system().run("systemctl", &words, SERVICE_TIMEOUT)?;
        let states: Vec<String> = output.stdout.lines().map(|line| line.trim().to_owned()).collect();
        let silent = states.is_empty() && !output.stderr.contains("No such file");
        match silent && !output.stderr.trim().is_empty() {
            true => Err(Unknown::because(format!("systemctl says: {}", output.stderr.trim()))),
            false => Ok(states),
        }
    }

    /// Whether a process of this name runs.
    pub(super) fn runs(&self, name: &str) -> bool {
        let is_number = |entry: &String| entry.bytes().all(|byte| byte.is_ascii_digit());
        let mut processes = self.system().names("/proc").into_iter().filter(is_number);
        processes.any(|process| {
            self.system().attribute(format!("/proc/{process}/comm")).is_some_and(|comm| comm == name)
        })
    }

    /// The configuration server to ask.
    pub(super) fn configuration_server(&self) -> Result<Server, Unknown> {
        let configured = || self.config()?.configuration_server.clone();
        let registered = || {
            let identity = registration::Identity::open(&self.state_path()).ok()??;
            Some(Server { address: identity.registration.server, port: identity.registration.port })
        };
        let given = self.options.configuration_server.clone();
        given
            .or_else(configured)
            .or_else(registered)
            .ok_or_else(|| Unknown::because("no configuration server is known: not registered yet"))
    }

    /// What the configuration server answers.
    pub(super) fn asked(&self) -> Result<(Server, &Answer), Unknown> {
        let server = self.configuration_server()?;
        let answer = self.configuration_server.get_or_init(|| server::ask(&server));
        Ok((server, answer))
    }
}

fn known<T>(outcome: &Result<T, Unknown>) -> Result<&T, Unknown> {
    outcome.as_ref().map_err(Unknown::clone)
}
