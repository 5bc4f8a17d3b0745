//! The configuration of `mtd`: one TOML file, read once at start.
//!
//! Everything is checked before anything is opened, and the first thing wrong is told with its file, line, the
//! value found and the values possible. A key that does not exist is an error that names the nearest one which
//! does. `packaging/mtd.toml` documents every key; a test keeps it complete.

mod policy;
mod reader;
pub(crate) mod taken;
mod units;

pub(crate) use policy::AMOUNT;
pub use policy::{Amount, ApplicationConsistent, Policy};
pub use reader::ConfigError;
pub use registration::server::Server;
pub use taken::Unreadable;
pub(crate) use units::{duration, nearest, size};

use reader::{Found, Section, Source};
use registration::server::valid_address;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vmdk::{AdapterType, DiskUuid};

/// Where `mtd` looks for its configuration.
pub const DEFAULT_PATH: &str = "/etc/master-target/mtd.toml";

/// Where `mtctl` looks for the daemon.
pub const DEFAULT_SOCKET: &str = "/run/master-target/mtd.sock";

/// Where the daemon keeps its own state, unless the configuration says otherwise.
pub const DEFAULT_STATE: &str = "/var/lib/master-target";
/// Where the retention volume is, unless the configuration says otherwise.
pub(crate) const DEFAULT_RETENTION: &str = "/mnt/retention";

/// A master target serves at most so many disks in one item: more than a VMware machine can have attached.
const MAX_DISKS: usize = 60;

/// Port of a configuration server.
pub const CONTROL_PORT: u16 = 443;
/// Port that changes come to, at a master target or a process server.
pub const DATA_PORT: u16 = 9443;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const MIB: u64 = 1 << 20;

/// Everything that `mtd` is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file that this was read from.
    pub file: PathBuf,
    /// Address that sources connect to.
    pub listen: SocketAddr,
    /// Socket of the local API.
    pub socket: PathBuf,
    /// Folder of the daemon's own state.
    pub state_folder: PathBuf,
    /// Filter of the log, as `tracing` reads it.
    pub log: String,
    /// Certificate files.
    pub tls: Tls,
    /// The retention volume.
    pub retention: Retention,
    /// The folder that is proposed for new replicas.
    pub replicas: Option<PathBuf>,
    /// What a peer may take.
    pub limits: Limits,
    /// The configuration server, once this machine has one.
    pub configuration_server: Option<Server>,
    /// The process server, if changes come through one.
    pub process_server: Option<Server>,
    /// The policy of items that say nothing else.
    pub standard: Policy,
    /// The replicated items: those of this file, then those that were taken while the daemon ran.
    pub items: Vec<Item>,
    /// Items that were taken and whose files cannot be used.
    pub unreadable: Vec<Unreadable>,
}

/// Certificate files, in PEM.
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// Our certificate, with its chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority that signs the sources' certificates.
    pub ca: PathBuf,
}

/// The retention volume.
#[derive(Clone, Debug, PartialEq)]
pub struct Retention {
    /// Where it is mounted; each item has a folder in it.
    pub folder: PathBuf,
    /// True to take the folder as it is, mounted volume or not.
    pub trial_folder: bool,
}

/// What a peer may take.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Connections in all.
    pub connections: usize,
    /// Connections from one address.
    pub connections_per_address: usize,
    /// Time for the TLS handshake.
    pub handshake_timeout: Duration,
    /// Time for the first frame after it.
    pub hello_timeout: Duration,
    /// Jobs that run at once, over all items.
    pub jobs: usize,
}

/// A replicated item.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its name, also that of its folder on the retention volume.
    pub name: String,
    /// Name that the certificate of its source must carry.
    pub source: String,
    /// Its policy.
    pub policy: Policy,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Whether it was taken while the daemon ran, so that it stands in a file of its own.
    pub taken: bool,
}

/// A disk of an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Disk {
    /// Its id in the change stream.
    pub id: String,
    /// The VMDK, image or device that holds the replica.
    pub target: PathBuf,
    /// What the target is, or will be.
    pub format: Format,
    /// Its size: the target is created when it is missing. Without it, it must exist.
    pub size: Option<u64>,
    /// Adapter type of a VMDK that is created.
    pub adapter: AdapterType,
    /// Identity of a VMDK that is created; a new one when missing.
    pub uuid: Option<DiskUuid>,
}

/// What a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A device or an image without any header.
    Raw,
    /// A VMDK; its createType when it is created, `None` for one that exists.
    Vmdk(Option<vmdk::Format>),
}

/// The formats of VMDK that can hold a replica: all but the one that is written once, front to back.
fn replica_formats() -> impl Iterator<Item = vmdk::Format> {
    vmdk::Format::ALL.into_iter().filter(|format| *format != vmdk::Format::StreamOptimized)
}

type Result<T> = std::result::Result<T, ConfigError>;

impl Config {
    /// Reads and checks the file at `path`, and the items that were taken beside it.
    pub fn load(path: &Path) -> Result<Config> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
            file: file.clone(),
            line: None,
            message: format!("cannot read the configuration: {error}; name another file with --config"),
        })?;
        let mut config = Config::parse(&file, &text)?;
        config.add_taken();
        Ok(config)
    }

    /// Reads and checks `text`, calling it `file` in messages.
    pub fn parse(file: &str, text: &str) -> Result<Config> {
        let source = Source { file, text };
        let document = toml::de::DeTable::parse(text).map_err(|error| {
            source.error(&error.span().unwrap_or(0..0), format!("this is not TOML: {}", error.message()))
        })?;
        let mut root = Section::root(&source, document.get_ref());
        let (listen, socket) = (listen(&mut root)?, root.path_or("socket", Some(DEFAULT_SOCKET))?);
        let state_folder = root.path_or("state_folder", Some(DEFAULT_STATE))?;
        let mut config = Config {
            file: PathBuf::from(file),
            listen,
            socket,
            log: log(&mut root)?,
            tls: tls(root.table("tls")?, &state_folder)?,
            state_folder,
            retention: retention(root.table("retention")?)?,
            replicas: replicas(root.table("replicas")?)?,
            limits: limits(root.table("limits")?)?,
            configuration_server: server(root.table("configuration_server")?, CONTROL_PORT)?,
            process_server: server(root.table("process_server")?, DATA_PORT)?,
            standard: Policy::standard(),
            items: Vec::new(),
            unreadable: Vec::new(),
        };
        config.standard = Policy::read(root.table("policy")?, &config.standard)?;
        config.items = items(&mut root, &config.standard)?;
        root.finish()?;
        Ok(config)
    }
}

fn listen(root: &mut Section<'_>) -> Result<SocketAddr> {
    let expected = "an address and port such as \"0.0.0.0:9443\" or \"[::]:9443\"";
    let address = root.parsed("listen", expected, |text| text.parse().ok())?;
    Ok(address.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], DATA_PORT))))
}

fn log(root: &mut Section<'_>) -> Result<String> {
    let expected = "a level (error, warn, info, debug, trace) or a list such as \"info,daemon=debug\"";
    let valid = |text: &str| {
        text.parse::<tracing_subscriber::EnvFilter>()
            .ok()
            .filter(|_| !text.is_empty())
            .map(|_| text.to_string())
    };
    Ok(root.parsed("log", expected, valid)?.unwrap_or_else(|| "info".to_string()))
}

/// By default they are the identity that registering makes.
fn tls(mut section: Section<'_>, state_folder: &Path) -> Result<Tls> {
    let identity = state_folder.join(registration::IDENTITY);
    let mut file = |key, name| section.path_or(key, identity.join(name).to_str());
    let tls = Tls {
        certificate: file("certificate", registration::CERTIFICATE_FILE)?,
        key: file("key", registration::KEY_FILE)?,
        ca: file("ca", registration::CA_FILE)?,
    };
    section.finish()?;
    Ok(tls)
}

fn retention(mut section: Section<'_>) -> Result<Retention> {
    let retention = Retention {
        folder: section.path_or("folder", Some(DEFAULT_RETENTION))?,
        trial_folder: section.flag_or("trial_folder", false)?,
    };
    section.finish()?;
    Ok(retention)
}

fn replicas(mut section: Section<'_>) -> Result<Option<PathBuf>> {
    let folder = section.path_if_any("folder")?;
    section.finish()?;
    Ok(folder)
}

fn limits(mut section: Section<'_>) -> Result<Limits> {
    let timeouts = Duration::from_secs(1)..=10 * MINUTE;
    let limits = Limits {
        connections: section.number_or("connections", 256, 1..=4096)? as usize,
        connections_per_address: section.number_or("connections_per_address", 64, 1..=4096)? as usize,
        handshake_timeout: section.duration_or(
            "handshake_timeout",
            Duration::from_secs(10),
            timeouts.clone(),
        )?,
        hello_timeout: section.duration_or("hello_timeout", Duration::from_secs(10), timeouts)?,
        jobs: section.number_or("jobs", 32, 1..=256)? as usize,
    };
    section.finish()?;
    Ok(limits)
}

/// A server whose address is not given is none.
fn server(mut section: Section<'_>, port: u16) -> Result<Option<Server>> {
    let expected = "a DNS name or an IP address";
    let valid = |text: &str| valid_address(text).then(|| text.to_owned());
    let address = section.parsed("address", expected, valid)?;
    let port = section.number_or("port", port.into(), 1..=65_535)?;
    section.finish()?;
    let port = u16::try_from(port).unwrap_or(u16::MAX);
    Ok(address.map(|address| Server { address, port }))
}

fn items(root: &mut Section<'_>, standard: &Policy) -> Result<Vec<Item>> {
    let mut used = Used::default();
    let items = root.tables("item")?.into_iter().map(|section| item(section, standard, &mut used));
    let items: Vec<Item> = items.collect::<Result<_>>()?;
    policy::check_minima(root, &items)?;
    Ok(items)
}

/// Names that may be used only once, and by whom they are used.
#[derive(Default)]
struct Used {
    items: HashMap<String, ()>,
    targets: HashMap<PathBuf, String>,
}

impl Used {
    /// What these items use.
    fn by(items: &[Item]) -> Used {
        let targets = items.iter().flat_map(|item| {
            item.disks.iter().map(|disk| (disk.target.clone(), disk_name(&disk.id, &item.name)))
        });
        let names = items.iter().map(|item| (item.name.clone(), ()));
        Used { items: names.collect(), targets: targets.collect() }
    }
}

fn disk_name(id: &str, item: &str) -> String {
    format!("disk {id:?} of item {item:?}")
}

fn item(mut section: Section<'_>, standard: &Policy, used: &mut Used) -> Result<Item> {
    let name = section.required("name", "the name of the item")?;
    if !valid_item_name(&name.value) {
        let message = format!(
            "item.name {:?} must be 1 to 64 letters, digits, dots, dashes or underscores, a letter or digit first",
            name.value
        );
        return Err(section.error_at(&name.at, message));
    }
    if used.items.insert(name.value.clone(), ()).is_some() {
        return Err(section.error_at(&name.at, format!("there are two items called {:?}", name.value)));
    }
    let expected = "the name (DNS) that the certificate of its source carries";
    let source = section.required("source", expected)?;
    if !valid_source_name(&source.value) {
        return Err(
            section.error_at(&source.at, format!("item.source {:?} must be {expected}", source.value))
        );
    }
    let policy = Policy::read(section.table("policy")?, standard)?;
    let disks = disks(&mut section, &name.value, used)?;
    section.finish()?;
    Ok(Item { name: name.value, source: source.value, policy, disks, taken: false })
}

fn disks(section: &mut Section<'_>, item: &str, used: &mut Used) -> Result<Vec<Disk>> {
    let sections = section.tables("disks")?;
    if sections.is_empty() || sections.len() > MAX_DISKS {
        return Err(section.error(format!(
            "item {item:?} has {} disks: give it 1 to {MAX_DISKS}, as disks = [{{ id = \"…\", target = \"…\" }}]",
            sections.len()
        )));
    }
    let mut ids = HashMap::new();
    sections.into_iter().map(|section| disk(section, item, used, &mut ids)).collect()
}

fn disk(
    mut section: Section<'_>,
    item: &str,
    used: &mut Used,
    ids: &mut HashMap<String, ()>,
) -> Result<Disk> {
    let id = section.required("id", "the id of the disk in the change stream")?;
    if !valid_disk_id(&id.value) {
        let message =
            format!("disk id {:?} must be 1 to 64 printable characters without / and blanks", id.value);
        return Err(section.error_at(&id.at, message));
    }
    if ids.insert(id.value.clone(), ()).is_some() {
        return Err(
            section.error_at(&id.at, format!("item {item:?} has two disks with the id {:?}", id.value))
        );
    }
    let target = section.path_or("target", None)?;
    let what = disk_name(&id.value, item);
    if let Some(other) = used.targets.insert(target.clone(), what.clone()) {
        let message =
            format!("{what} and {other} have the same target {}: each needs its own", target.display());
        return Err(section.error(message));
    }
    let format = section.text("format", FORMATS_EXPECTED)?;
    let size = section.size("size", 512)?;
    let disk = Disk {
        format: format_of(&section, &what, format, &target, size)?,
        adapter: section
            .parsed("adapter", "lsilogic, buslogic, ide or legacyESX", |text| text.parse().ok())?
            .unwrap_or(AdapterType::LsiLogic),
        uuid: section.parsed("uuid", "16 bytes in hexadecimal", |text| text.parse().ok())?,
        id: id.value,
        target,
        size,
    };
    section.finish()?;
    Ok(disk)
}

const FORMATS_EXPECTED: &str =
    "raw, monolithicFlat, monolithicSparse, twoGbMaxExtentFlat, twoGbMaxExtentSparse, vmfs or vmfs-thin";

fn format_of(
    section: &Section<'_>,
    what: &str,
    format: Option<Found<String>>,
    target: &Path,
    size: Option<u64>,
) -> Result<Format> {
    if size.is_some_and(|size| !size.is_multiple_of(disk::SECTOR_SIZE)) {
        return Err(section.error(format!("the size of {what} must be a multiple of 512 bytes")));
    }
    let Some(format) = format else {
        let is_vmdk = target.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("vmdk"));
        return match (is_vmdk, size) {
            (true, Some(_)) => {
                Err(section.error(format!("{what} has a size but no format: give {FORMATS_EXPECTED}")))
            }
            (true, None) => Ok(Format::Vmdk(None)),
            (false, _) => Ok(Format::Raw),
        };
    };
    if format.value == "raw" {
        return Ok(Format::Raw);
    }
    if let Some(known) = replica_formats().find(|known| known.to_string() == format.value) {
        return Ok(Format::Vmdk(Some(known)));
    }
    let known: Vec<String> = replica_formats().map(|format| format.to_string()).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).chain(["raw"]).collect();
    let hint = match units::nearest(&format.value, &known) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => format!("give {FORMATS_EXPECTED}"),
    };
    let message = format!("the format {:?} of {what} cannot hold a replica: {hint}", format.value);
    Err(section.error_at(&format.at, message))
}

fn valid_item_name(name: &str) -> bool {
    let starts = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    starts && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn valid_source_name(name: &str) -> bool {
    let valid_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    name.len() <= 253 && name.split('.').all(valid_label)
}

fn valid_disk_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
}

#[cfg(test)]
mod tests;
