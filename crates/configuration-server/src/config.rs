//! The configuration of `mt-configserver`: one TOML file, which need not exist.
//!
//! `packaging/configserver.toml` documents every key; a test keeps it complete.

use anyhow::{Context, Result, ensure};
use control_api::registration::valid_host_name;
use serde::Deserialize;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// Where the configuration is looked for.
pub const DEFAULT_PATH: &str = "/etc/master-target/configserver.toml";

/// Everything that `mt-configserver` is told.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port that hosts connect to.
    pub listen: SocketAddr,
    /// Folder of everything that the server remembers.
    pub state_folder: PathBuf,
    /// Names and addresses that stand in the server's certificate beside its host name.
    pub names: Vec<String>,
    /// Seconds between two heartbeats of a host.
    pub heartbeat_seconds: u64,
    /// Minutes after which a session that is not used ends.
    pub session_idle_minutes: u32,
    /// Filter of the log.
    pub log: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from(([0, 0, 0, 0], 443)),
            state_folder: "/var/lib/mt-configserver".into(),
            names: Vec::new(),
            heartbeat_seconds: 30,
            session_idle_minutes: 12 * 60,
            log: "info".into(),
        }
    }
}

impl Config {
    /// Reads and checks the file at `path`; without one at the default place, the defaults hold.
    pub fn load(path: &Path) -> Result<Config> {
        if path == Path::new(DEFAULT_PATH) && !path.exists() {
            return Ok(Config::default());
        }
        let text = std::fs::read_to_string(path).with_context(|| {
            format!("cannot read the configuration {}; name another file with --config", path.display())
        })?;
        Config::parse(&text).with_context(|| path.display().to_string())
    }

    /// Reads and checks a text.
    pub fn parse(text: &str) -> Result<Config> {
        let config: Config = toml::from_str(text)?;
        ensure!(config.state_folder.is_absolute(), "state_folder must be an absolute path");
        for name in &config.names {
            let good = valid_host_name(name) || name.parse::<IpAddr>().is_ok();
            ensure!(good, "names: {name:?} is neither a DNS name nor an IP address");
        }
        ensure!(
            (1..=300).contains(&config.heartbeat_seconds),
            "heartbeat_seconds must be from 1 to 300, not {}",
            config.heartbeat_seconds
        );
        ensure!(
            (1..=10_080).contains(&config.session_idle_minutes),
            "session_idle_minutes must be from 1 to 10080 (7 days), not {}",
            config.session_idle_minutes
        );
        let log = config.log.parse::<tracing_subscriber::EnvFilter>();
        ensure!(
            log.is_ok() && !config.log.is_empty(),
            "log must be a level (error, warn, info, debug, trace) or a list such as \"info,hyper=warn\", not {:?}",
            config.log
        );
        Ok(config)
    }

    /// The database.
    pub(crate) fn store(&self) -> PathBuf {
        self.state_folder.join("store.sqlite")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_shows_every_key_with_its_default() {
        let sample = include_str!("../../../packaging/configserver.toml");
        assert_eq!(Config::parse(sample).unwrap(), Config::default());
        let uncomment = |line: &str| {
            line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned()
        };
        let shown: Vec<String> = sample.lines().map(uncomment).collect();
        let mut full = Config::parse(&shown.join("\n")).unwrap();
        assert_eq!(full.names.len(), 2);
        full.names.clear();
        assert_eq!(full, Config::default());
        for key in ["listen", "state_folder", "names", "heartbeat_seconds", "session_idle_minutes", "log"] {
            assert!(sample.contains(&format!("\n#{key} = ")), "{key}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |text| format!("{:#}", Config::parse(text).unwrap_err());
        assert!(refused("lisen = 1").contains("lisen"), "{}", refused("lisen = 1"));
        assert!(refused("listen = \"443\"").contains("line 1"));
        assert!(refused("state_folder = \"x\"").contains("absolute"));
        assert!(refused("names = [\"a b\"]").contains("\"a b\""));
        assert!(refused("session_idle_minutes = 0").contains("from 1 to 10080"));
        assert!(refused("heartbeat_seconds = 0").contains("from 1 to 300, not 0"));
        assert!(refused("heartbeat_seconds = 301").contains("from 1 to 300"));
        assert!(refused("log = \"=\"").contains("log must be a level"));
    }
}
