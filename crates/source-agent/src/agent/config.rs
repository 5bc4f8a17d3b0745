//! The configuration file.

use super::assignment::Assignment;
use anyhow::{Context, Result, bail, ensure};
use change_stream::{Compression, MAX_DISKS};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use transport::tls::TlsFiles;

/// Where `mt-source` looks for its configuration.
pub const DEFAULT_PATH: &str = "/etc/master-target/mt-source.toml";
/// Where the running agent listens for the other commands.
pub const DEFAULT_SOCKET: &str = "/run/mt-source/mt-source.sock";
/// Folder of the agent's own state, unless the configuration says another.
pub const DEFAULT_STATE: &str = "/var/lib/mt-source";

/// The shortest time from one regular bookmark to the next that others may ask for, in seconds.
pub(crate) const MIN_EVERY: u64 = 60;
/// The longest time from one regular bookmark to the next, in seconds.
pub(crate) const MAX_EVERY: u64 = 7 * 86_400;

/// Everything that `mt-source` is told. `packaging/mt-source.toml` documents every key.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// The replicated item, as the master target knows it; without it the agent waits for an assignment.
    pub item: Option<String>,
    /// Host and port of the master target; goes with `item`.
    pub target: Option<String>,
    /// Name that the master target's certificate is for; the host of `target` when missing.
    pub server_name: Option<String>,
    /// Folder of the agent's own state.
    #[serde(default = "default_state")]
    pub state_folder: PathBuf,
    /// Socket of the running agent.
    #[serde(default = "default_socket")]
    pub socket: PathBuf,
    /// Filter of the log.
    #[serde(default = "default_log")]
    pub log: String,
    /// How data is compressed on the wire.
    #[serde(default)]
    pub compression: CompressionName,
    /// Certificate files; those of the identity in the state folder when missing.
    pub tls: Option<Tls>,
    /// Where the disks are served.
    #[serde(default)]
    pub nbd: Nbd,
    /// How much the agent takes.
    #[serde(default)]
    pub limits: Limits,
    /// Commands around bookmarks.
    #[serde(default)]
    pub hooks: Hooks,
    /// The item's disks.
    #[serde(default)]
    pub disks: Vec<DiskConfig>,
}

/// Certificate files, in PEM.
#[derive(Clone, Debug, Deserialize)]
pub struct Tls {
    /// Our certificate, with its chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority that signs the master target's certificate.
    pub ca: PathBuf,
}

/// Where the disks are served over NBD.
#[derive(Clone, Debug, Deserialize)]
pub struct Nbd {
    /// `unix:PATH`, or host and port.
    #[serde(default = "default_nbd")]
    pub listen: String,
}

impl Default for Nbd {
    fn default() -> Nbd {
        Nbd { listen: default_nbd() }
    }
}

/// How much the agent takes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Megabytes (MiB) of changes kept while the target does not take them.
    pub backlog_mib: u64,
    /// Extra connections for a sync.
    pub bulk_connections: usize,
    /// Threads that read, hash and compress.
    pub jobs: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { backlog_mib: 1024, bulk_connections: 2, jobs: 3 }
    }
}

/// Commands around application-consistent bookmarks.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Hooks {
    /// Run before the bookmark: quiesce. Program and arguments.
    pub pre: Vec<String>,
    /// Run after it, whatever happened before: thaw.
    pub post: Vec<String>,
    /// Time for each of them.
    pub timeout_seconds: u64,
    /// How often a bookmark is set between them, where the configuration server does not say; 0 for never.
    pub every_seconds: u64,
}

impl Default for Hooks {
    fn default() -> Hooks {
        Hooks { pre: Vec::new(), post: Vec::new(), timeout_seconds: 30, every_seconds: 3600 }
    }
}

impl Hooks {
    /// Time for each of them.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }

    /// How often a bookmark is set between them; zero for never.
    pub fn every(&self) -> Duration {
        Duration::from_secs(self.every_seconds)
    }
}

/// A disk of the item.
#[derive(Clone, Debug, Deserialize)]
pub struct DiskConfig {
    /// Its id in the change stream, and its name for NBD clients.
    pub id: String,
    /// File, block device or VMDK.
    pub path: PathBuf,
    /// What it is; told by the name when missing.
    pub format: Option<DiskFormat>,
}

/// What a disk is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// A device, or an image without a header.
    Raw,
    /// A VMDK.
    Vmdk,
}

/// How data is compressed on the wire.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum CompressionName {
    /// Not at all.
    #[default]
    None,
    /// Cheaply.
    Lz4,
    /// Well.
    Zstd,
}

impl CompressionName {
    /// The same for the change stream.
    pub fn compression(self) -> Compression {
        match self {
            CompressionName::None => Compression::None,
            CompressionName::Lz4 => Compression::Lz4,
            CompressionName::Zstd => Compression::Zstd,
        }
    }
}

impl DiskConfig {
    /// What it is, by configuration or by its name.
    pub fn format(&self) -> DiskFormat {
        let is_vmdk = self.path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("vmdk"));
        self.format.unwrap_or(if is_vmdk { DiskFormat::Vmdk } else { DiskFormat::Raw })
    }
}

fn default_state() -> PathBuf {
    DEFAULT_STATE.into()
}

fn default_socket() -> PathBuf {
    DEFAULT_SOCKET.into()
}

fn default_log() -> String {
    "info".to_owned()
}

fn default_nbd() -> String {
    "unix:/run/mt-source/nbd.sock".to_owned()
}

/// The keys that exist, by section.
const KEYS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "item",
            "target",
            "server_name",
            "state_folder",
            "socket",
            "log",
            "compression",
            "tls",
            "nbd",
            "limits",
            "hooks",
            "disks",
        ],
    ),
    ("tls", &["certificate", "key", "ca"]),
    ("nbd", &["listen"]),
    ("limits", &["backlog_mib", "bulk_connections", "jobs"]),
    ("hooks", &["pre", "post", "timeout_seconds", "every_seconds"]),
    ("disks", &["id", "path", "format"]),
];

impl Config {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path) -> Result<Config> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!("cannot read the configuration {}; name another file with --config", path.display())
        })?;
        Config::parse(&text).with_context(|| format!("the configuration {} is not usable", path.display()))
    }

    /// Reads and checks `text`.
    pub fn parse(text: &str) -> Result<Config> {
        let table: toml::Table = text.parse()?;
        refuse_unknown_keys("", &table)?;
        let config: Config = toml::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    /// Refuses what contradicts itself or is out of bounds.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.item.is_some() == self.target.is_some(),
            "item and target go together; give both, or neither for an agent that waits for its assignment"
        );
        ensure!(
            self.server_name.is_none() || self.target.is_some(),
            "server_name is set without target; it is a name of that"
        );
        self.assignment().map_or(Ok(()), |assignment| assignment.check())?;
        let count = self.disks.len();
        ensure!(
            (1..=MAX_DISKS).contains(&count),
            "{count} disks are configured; an item has 1 to {MAX_DISKS}, one [[disks]] section each"
        );
        for (number, disk) in self.disks.iter().enumerate() {
            ensure!(!disk.id.is_empty(), "the id of disk {} is empty", disk.path.display());
            let twice = self.disks[..number].iter().any(|other| other.id == disk.id);
            ensure!(!twice, "two disks have the id {:?}; ids must differ", disk.id);
        }
        let Limits { backlog_mib, bulk_connections, jobs } = self.limits;
        ensure!(backlog_mib >= 32, "limits.backlog_mib is {backlog_mib}; the least is 32");
        ensure!(bulk_connections <= 8, "limits.bulk_connections is {bulk_connections}; the most is 8");
        ensure!((1..=16).contains(&jobs), "limits.jobs is {jobs}; possible are 1 to 16");
        ensure!(self.hooks.timeout_seconds > 0, "hooks.timeout_seconds is 0; the least is 1");
        ensure!(
            self.hooks.every_seconds <= MAX_EVERY,
            "hooks.every_seconds is {}; the most is {MAX_EVERY}, a week",
            self.hooks.every_seconds
        );
        ensure!(
            self.hooks.pre.is_empty() || !self.hooks.post.is_empty(),
            "hooks.pre is set without hooks.post: nothing would thaw what it freezes"
        );
        Ok(())
    }

    /// Where the file says that the disks are replicated to.
    pub fn assignment(&self) -> Option<Assignment> {
        let (item, target) = self.item.clone().zip(self.target.clone())?;
        Some(Assignment { item, target, server_name: self.server_name.clone() })
    }

    /// The certificate files: by default those that registering makes.
    pub fn tls_files(&self) -> TlsFiles {
        let identity = self.state_folder.join(registration::IDENTITY);
        match &self.tls {
            Some(Tls { certificate, key, ca }) => {
                TlsFiles { certificate: certificate.clone(), key: key.clone(), ca: ca.clone() }
            }
            None => TlsFiles {
                certificate: identity.join(registration::CERTIFICATE_FILE),
                key: identity.join(registration::KEY_FILE),
                ca: identity.join(registration::CA_FILE),
            },
        }
    }
}

fn refuse_unknown_keys(section: &str, table: &toml::Table) -> Result<()> {
    let Some((_, known)) = KEYS.iter().find(|(name, _)| *name == section) else { return Ok(()) };
    for (key, value) in table {
        if !known.contains(&key.as_str()) {
            let place = if section.is_empty() { String::new() } else { format!(" in [{section}]") };
            let nearest = known.iter().min_by_key(|known| distance(known, key)).unwrap_or(&"");
            bail!("there is no key {key:?}{place}; the nearest one that exists is {nearest:?}");
        }
        match value {
            toml::Value::Table(table) => refuse_unknown_keys(key, table)?,
            toml::Value::Array(entries) => {
                for table in entries.iter().filter_map(toml::Value::as_table) {
                    refuse_unknown_keys(key, table)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// How many letters have to be inserted, removed or replaced.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../../../packaging/mt-source.toml");

    /// The sample with all that it switches off.
    fn full() -> String {
        let line = |line: &str| {
            let rest = line.strip_prefix('#').filter(|rest| !rest.starts_with(' ') && !rest.is_empty());
            format!("{}\n", rest.unwrap_or(line))
        };
        SAMPLE.lines().map(line).collect()
    }

    #[test]
    fn the_sample_is_valid_and_documents_every_key() {
        assert!(
            SAMPLE.lines().all(|line| line.is_empty() || line.starts_with('#')),
            "it says nothing of its own"
        );
        let config = Config::parse(&full()).unwrap();
        assert_eq!(config.assignment().unwrap().server_name(), "mt.example.com");
        for (section, keys) in KEYS {
            for key in *keys {
                let shown = SAMPLE.lines().any(|line| {
                    let line = line.trim_start_matches(['#', ' ', '[']);
                    line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(['=', ']']))
                });
                assert!(shown, "{section}.{key} is not in the sample");
            }
        }
    }

    #[test]
    fn an_unknown_key_names_the_nearest_one() {
        let error = Config::parse(&full().replace("bulk_connections =", "bulk_conections =")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no key \"bulk_conections\" in [limits]; the nearest one that exists is \"bulk_connections\""
        );
    }

    #[test]
    fn an_agent_that_is_to_be_assigned_needs_disks_alone() {
        let config = Config::parse("[[disks]]\nid = \"system\"\npath = \"/dev/sdb\"").unwrap();
        assert_eq!(config.assignment(), None);
        let key = config.tls_files().key;
        assert_eq!(key, Path::new(DEFAULT_STATE).join("identity/key.pem"));
        let error = Config::parse("server_name = \"mt\"\n[[disks]]\nid = \"a\"\npath = \"/b\"").unwrap_err();
        assert!(error.to_string().contains("without target"), "{error}");
    }

    #[test]
    fn as_it_is_installed_it_says_what_must_be_named() {
        let error = Config::parse(SAMPLE).unwrap_err().to_string();
        assert!(error.contains("0 disks are configured") && error.contains("[[disks]]"), "{error}");
    }

    #[test]
    fn contradictions_are_refused() {
        for (from, to, expected) in [
            ("mt.example.com:9443", "mt.example.com", "host and port"),
            ("item = \"web01\"", "", "item and target go together"),
            ("item = \"web01\"", "item = \"\"", "item is \"\""),
            ("backlog_mib = 1024", "backlog_mib = 1", "the least is 32"),
            ("id = \"data\"", "id = \"system\"", "ids must differ"),
        ] {
            let error = Config::parse(&full().replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
