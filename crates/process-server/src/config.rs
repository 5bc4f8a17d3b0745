//! The configuration of `mt-process-server`: one TOML file.
//!
//! `packaging/process-server.toml` documents every key; a test keeps it complete.

use anyhow::{Context, Result, ensure};
use control_api::agent::is_target;
use control_api::registration::valid_host_name;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the configuration is looked for.
pub const DEFAULT_PATH: &str = "/etc/master-target/process-server.toml";
/// Folder of the process server's own state, unless the configuration says another.
pub const DEFAULT_STATE: &str = "/var/lib/mt-process-server";

/// The most master targets that one process server relays to.
const MAX_TARGETS: usize = 1024;

/// Everything that `mt-process-server` is told.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port that source agents connect to.
    pub listen: SocketAddr,
    /// Folder of its identity.
    pub state_folder: PathBuf,
    /// Socket of the running process server.
    pub socket: PathBuf,
    /// Filter of the log.
    pub log: String,
    /// Mebibytes a second that go to all master targets together; 0 for as many as there are.
    pub limit_mib_per_second: u64,
    /// How much it takes.
    pub limits: Limits,
    /// Whom it relays to.
    pub master_targets: Vec<MasterTarget>,
}

/// How much a process server takes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one address.
    pub connections_per_address: usize,
    /// Seconds within which a client has said whom it wants.
    pub hello_seconds: u64,
    /// Minutes after which a connection is ended that carries nothing.
    pub idle_minutes: u64,
}

/// A master target.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MasterTarget {
    /// The name that its certificate is for.
    pub name: String,
    /// Host and port.
    pub address: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from(([0, 0, 0, 0], 9443)),
            state_folder: DEFAULT_STATE.into(),
            socket: "/run/mt-process-server/mt-process-server.sock".into(),
            log: "info".into(),
            limit_mib_per_second: 0,
            limits: Limits::default(),
            master_targets: Vec::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { connections: 512, connections_per_address: 64, hello_seconds: 10, idle_minutes: 60 }
    }
}

impl Limits {
    /// How long a client is waited for.
    pub(crate) fn hello(&self) -> Duration {
        Duration::from_secs(self.hello_seconds)
    }

    /// How long a connection may carry nothing.
    pub(crate) fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_minutes * 60)
    }
}

impl Config {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path) -> Result<Config> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!("cannot read the configuration {}; name another file with --config", path.display())
        })?;
        Config::parse(&text).with_context(|| format!("the configuration {} is not usable", path.display()))
    }

    /// Reads and checks a text.
    pub fn parse(text: &str) -> Result<Config> {
        let config: Config = toml::from_str(text)?;
        for (key, path) in [("state_folder", &config.state_folder), ("socket", &config.socket)] {
            ensure!(path.is_absolute(), "{key} must be an absolute path, not {}", path.display());
        }
        ensure!(
            service::is_filter(&config.log) && !config.log.is_empty(),
            "log must be a level (error, warn, info, debug, trace), not {:?}",
            config.log
        );
        let Limits { connections, connections_per_address, hello_seconds, idle_minutes } = &config.limits;
        for (key, value, least, most) in [
            ("limit_mib_per_second", config.limit_mib_per_second, 0, 1 << 20),
            ("limits.connections", *connections as u64, 1, 16_384),
            ("limits.connections_per_address", *connections_per_address as u64, 1, 16_384),
            ("limits.hello_seconds", *hello_seconds, 1, 60),
            ("limits.idle_minutes", *idle_minutes, 1, 1440),
        ] {
            ensure!((least..=most).contains(&value), "{key} must be from {least} to {most}, not {value}");
        }
        config.check_targets()?;
        Ok(config)
    }

    fn check_targets(&self) -> Result<()> {
        let targets = &self.master_targets;
        ensure!(
            targets.len() <= MAX_TARGETS,
            "{} master targets are configured; the most is {MAX_TARGETS}",
            targets.len()
        );
        for (number, MasterTarget { name, address }) in targets.iter().enumerate() {
            ensure!(
                valid_host_name(name),
                "master_targets: the name {name:?} is no DNS name; give the one that the master target is registered by"
            );
            ensure!(
                is_target(address),
                "master_targets: the address {address:?} of {name} is not host and port"
            );
            let twice = targets[..number].iter().any(|other| other.name.eq_ignore_ascii_case(name));
            ensure!(!twice, "master_targets: two have the name {name}; names must differ");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../../packaging/process-server.toml");

    /// The sample with everything that is switched off in it switched on.
    fn all() -> String {
        let on = |line: &str| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => rest.to_owned(),
            _ => line.to_owned(),
        };
        SAMPLE.lines().map(on).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_sample_shows_every_key_with_its_default() {
        assert_eq!(Config::parse(SAMPLE).unwrap(), Config::default());
        let all = Config::parse(&all()).unwrap();
        assert_eq!(all.master_targets.len(), 1);
        assert_eq!(Config { master_targets: Vec::new(), ..all }, Config::default());
        let Err(error) = toml::from_str::<Config>("unknown = 1") else { panic!("it is unknown") };
        let keys = |error: String| {
            let list = error.split("expected one of").nth(1).unwrap().to_owned();
            list.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
        };
        let of_limits = toml::from_str::<Limits>("unknown = 1").unwrap_err().to_string();
        for key in keys(error.to_string()).into_iter().chain(keys(of_limits)) {
            let shown = SAMPLE.lines().any(|line| {
                let line = line.trim_start_matches(['#', '[']);
                line.strip_prefix(&key).is_some_and(|rest| rest.starts_with([' ', ']']))
            });
            assert!(shown, "{key} is not in the sample");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let again = "\n[[master_targets]]\nname = \"MT01.example\"\naddress = \"10.0.0.6:9443\"\n";
        for (text, expected) in [
            (all() + again, "names must differ"),
            (all().replace("mt01.example", "10.0.0.5"), "is no DNS name"),
            (all().replace("10.0.0.5:9443", "10.0.0.5"), "is not host and port"),
            (all().replace("connections = 512", "connections = 0"), "from 1 to 16384, not 0"),
            (all().replace("/var/lib", "lib"), "state_folder must be an absolute path"),
            (all().replace("log = \"info\"", "log = \"\""), "log must be a level"),
            (all().replace("listen =", "listens ="), "unknown field `listens`"),
        ] {
            let error = format!("{:#}", Config::parse(&text).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
