//! The configuration of `mt-configserver`: one TOML file, which need not exist.
//!
//! `packaging/configserver.toml` documents every key; a test keeps it complete.

use crate::notify::settings::{self, Mail, Url, Webhook};
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
    /// Minutes from one bookmark of a group to the next that is ordered by itself; 0 for never.
    pub group_bookmark_minutes: u32,
    /// Minutes after which a session that is not used ends.
    pub session_idle_minutes: u32,
    /// Filter of the log.
    pub log: String,
    /// Where people find the portal, for links in messages.
    pub portal_url: Option<Url>,
    /// Delivery of events by e-mail.
    pub mail: Option<Mail>,
    /// Delivery of events to programs.
    pub webhook: Vec<Webhook>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from(([0, 0, 0, 0], 443)),
            state_folder: "/var/lib/mt-configserver".into(),
            names: Vec::new(),
            heartbeat_seconds: 30,
            group_bookmark_minutes: 15,
            session_idle_minutes: 12 * 60,
            log: "info".into(),
            portal_url: None,
            mail: None,
            webhook: Vec::new(),
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
            config.group_bookmark_minutes <= 1440,
            "group_bookmark_minutes must be from 0 to 1440 (1 day), not {}",
            config.group_bookmark_minutes
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
        settings::check(config.mail.as_ref(), &config.webhook, config.portal_url.as_ref())
            .map_err(anyhow::Error::msg)?;
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
        assert_eq!((full.names.len(), full.webhook.len()), (2, 1));
        assert!(full.mail.is_some() && full.portal_url.is_some());
        full.names.clear();
        full.webhook.clear();
        (full.mail, full.portal_url) = (None, None);
        assert_eq!(full, Config::default());
        let keys = [
            "listen",
            "state_folder",
            "names",
            "heartbeat_seconds",
            "group_bookmark_minutes",
            "session_idle_minutes",
            "log",
            "portal_url",
        ];
        for key in keys {
            assert!(sample.contains(&format!("\n#{key} = ")), "{key}");
        }
        // The keys of the two tables; what is needed there is named when it is missing.
        for (table, keys) in [
            (
                "\n#[mail]\n",
                &["server", "encryption", "allow_unencrypted", "from", "to", "user", "password_file"][..],
            ),
            ("\n#[[webhook]]\n", &["name", "url", "allow_unencrypted", "secret_file"]),
        ] {
            let (_, rest) = sample.split_once(table).unwrap();
            for key in keys.iter().chain(&["ca_file", "at_least"]) {
                assert!(rest.contains(&format!("\n#{key} = ")), "{table}{key}");
            }
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
        assert!(refused("group_bookmark_minutes = 1441").contains("from 0 to 1440"));
        assert!(refused("log = \"=\"").contains("log must be a level"));
    }

    #[test]
    fn what_is_wrong_with_a_channel_is_named() {
        let refused = |text: &str| format!("{:#}", Config::parse(text).unwrap_err());
        let mail = |more: &str| {
            let needed = if more.contains("server = ") { "" } else { "server = \"mail.example:587\"\n" };
            format!("[mail]\n{needed}from = \"mt@example.com\"\nto = [\"ops@example.com\"]\n{more}\n")
        };
        let hook = |name: &str, more: &str| format!("[[webhook]]\nname = {name:?}\n{more}\n");
        let url = "url = \"https://hooks.example/x\"";
        for good in [
            mail(""),
            mail("server = \"[::1]:25\"\nencryption = \"none\""),
            mail("encryption = \"none\"\nallow_unencrypted = true"),
            mail("user = \"mt\"\npassword_file = \"/x\"\nat_least = \"critical\""),
            hook("ops", url) + &hook("ops-2", "url = \"http://127.0.0.1:1/\""),
            hook("ops", "url = \"http://hooks.example/\"\nallow_unencrypted = true"),
        ] {
            Config::parse(&good).unwrap_or_else(|error| panic!("{good}{error:#}"));
        }
        for (bad, part) in [
            (mail("server = \"mail.example\""), "server must be name or address and port"),
            (mail("server = \"a b:1\""), "server must be name or address and port"),
            (mail("encryption = \"ssl\""), "encryption"),
            (mail("encryption = \"none\""), "[mail]: encryption = \"none\" would let everybody"),
            (
                mail("encryption = \"none\"\nallow_unencrypted = true\nuser = \"a\"\npassword_file = \"/x\""),
                "a password is not sent unencrypted",
            ),
            (mail("user = \"a\""), "user and password_file go together"),
            (mail("password = \"a\""), "password"),
            (mail("user = \"a\"\npassword_file = \"x\""), "password_file must be an absolute path"),
            (mail("at_least = \"bad\""), "at_least"),
            (mail("").replace("ops@example.com", "ops"), "\"ops\" is no mail address"),
            (mail("").replace("ops@example.com", "a@b.c\\r\\nBcc: d@e.f"), "is no mail address"),
            (mail("").replace("\"ops@example.com\"", ""), "to must hold 1 to 50 addresses"),
            (hook("mail", url), "name \"mail\" must"),
            (hook("a b", url), "name \"a b\" must"),
            (hook("ops", url) + &hook("ops", url), "name \"ops\" must"),
            (hook("ops", "url = \"ftp://x\""), "a URL begins with https://"),
            (hook("ops", "url = \"https://a:b@x/\""), "a password does not belong into the URL"),
            (hook("ops", "url = \"http://hooks.example\""), "[[webhook]] ops: url with http:// would let"),
            (hook("ops", &format!("{url}\nca_file = \"x\"")), "ca_file must be an absolute path"),
            ("portal_url = \"http://cs.example\"".to_owned(), "portal_url must begin with https://"),
        ] {
            assert!(refused(&bad).contains(part), "{bad}{}", refused(&bad));
        }
    }
}
