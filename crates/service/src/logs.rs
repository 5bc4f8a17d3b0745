//! `logs`: what a service has written into the journal.

use block_device::System;
use clap::{Args, ValueEnum};
use control_api::time;
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

const JOURNALCTL: &str = "journalctl";
/// Where journald keeps what it was told: until the next boot, or for good.
const KEPT_IN: [&str; 2] = ["/run/log/journal", "/var/log/journal"];

/// How urgent an entry is at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Priority {
    /// Something does not work.
    Error,
    /// Something may need someone.
    Warning,
    /// What happens.
    Info,
    /// Everything.
    Debug,
}

impl Priority {
    fn word(self) -> &'static str {
        match self {
            Priority::Error => "err",
            Priority::Warning => "warning",
            Priority::Info => "info",
            Priority::Debug => "debug",
        }
    }
}

/// Which part of the log.
#[derive(Clone, Debug, Default, Args)]
pub struct LogsArguments {
    /// Only from then on: a time (RFC 3339), or how long ago, such as 24h or 15min, or what journalctl knows: yesterday.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Go on with what comes, until Ctrl-C.
    #[arg(long, short = 'f')]
    pub follow: bool,
    /// Only what is at least so urgent.
    #[arg(long, short = 'p', value_enum)]
    pub priority: Option<Priority>,
    /// Only the last so many entries.
    #[arg(long, short = 'n', value_name = "N")]
    pub lines: Option<u32>,
}

/// Why there is nothing to look into.
#[derive(Debug)]
pub enum LogsError {
    /// There is no journal.
    NoJournal {
        /// What is missing.
        missing: String,
    },
    /// The program cannot be run.
    NotRun {
        /// Why.
        cause: io::Error,
    },
}

impl fmt::Display for LogsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogsError::NoJournal { missing } => write!(
                f,
                "this machine has no journal of systemd: {missing}; a daemon that systemd does not run writes its log to \
                 its standard error: look where that goes"
            ),
            LogsError::NotRun { cause } => write!(f, "journalctl cannot be run: {cause}"),
        }
    }
}

impl std::error::Error for LogsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LogsError::NoJournal { .. } => None,
            LogsError::NotRun { cause } => Some(cause),
        }
    }
}

impl LogsArguments {
    /// What `journalctl` is to be told to show of a unit; `fields` are names and values that entries must have.
    pub fn words(&self, unit: &str, fields: &[(&str, &str)], json: bool) -> Vec<String> {
        let mut words = vec![format!("--unit={unit}")];
        words.extend(self.since.as_deref().map(|since| format!("--since={}", as_journalctl_knows(since))));
        words.extend(self.priority.map(|priority| format!("--priority={}", priority.word())));
        words.extend(self.lines.map(|lines| format!("--lines={lines}")));
        words.extend(self.follow.then(|| "--follow".to_owned()));
        words.extend(json.then(|| "--output=json".to_owned()));
        words.extend(fields.iter().map(|(name, value)| format!("{name}={value}")));
        words
    }

    /// Becomes `journalctl`; returns only when that cannot be.
    pub fn show(&self, unit: &str, fields: &[(&str, &str)], json: bool) -> LogsError {
        let system = System::host();
        let Some(program) = system.program(JOURNALCTL) else {
            return LogsError::NoJournal { missing: "journalctl is not installed".to_owned() };
        };
        if !KEPT_IN.iter().any(|folder| system.path(folder).is_dir()) {
            let missing = format!("there is neither {} nor {}", KEPT_IN[0], KEPT_IN[1]);
            return LogsError::NoJournal { missing };
        }
        let cause = Command::new(program).env("LC_ALL", "C").args(self.words(unit, fields, json)).exec();
        LogsError::NotRun { cause }
    }
}

/// Times as we write them become those of journalctl, which 16.04 has no RFC 3339 for; anything else is its own.
fn as_journalctl_knows(since: &str) -> String {
    if let Some(time) = time::parse(since) {
        // Always with a Z, and perhaps with a fraction.
        let text = time::format(time).replace('T', " ");
        let seconds = text.split(['.', 'Z']).next().unwrap_or(&text);
        return format!("{seconds} UTC");
    }
    let is_length = since.starts_with(|c: char| c.is_ascii_digit())
        && since.ends_with(|c: char| c.is_ascii_alphabetic())
        && since.chars().all(|c| c.is_ascii_alphanumeric());
    if is_length { format!("-{since}") } else { since.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_what_journalctl_is_told() {
        let arguments = LogsArguments {
            since: Some("2026-11-20T16:21:24Z".into()),
            follow: true,
            priority: Some(Priority::Warning),
            lines: Some(7),
        };
        let words = arguments.words("master-target.service", &[("ITEM", "web01")], true);
        let wanted = [
            "--unit=master-target.service",
            "--since=2026-11-20 16:21:24 UTC",
            "--priority=warning",
            "--lines=7",
            "--follow",
            "--output=json",
            "ITEM=web01",
        ];
        assert_eq!(words, wanted);
        assert_eq!(
            LogsArguments::default().words("mt-source.service", &[], false),
            ["--unit=mt-source.service"]
        );
    }

    #[test]
    fn times_are_told_as_journalctl_of_16_04_knows_them() {
        for (ours, told) in [
            ("2026-11-20T16:21:24.5Z", "2026-11-20 16:21:24 UTC"),
            ("2026-11-20T16:21:24+02:00", "2026-11-20 14:21:24 UTC"),
            ("15min", "-15min"),
            ("24h", "-24h"),
            ("yesterday", "yesterday"),
            ("-1h", "-1h"),
            ("2026-11-20", "2026-11-20"),
            ("16:21", "16:21"),
        ] {
            assert_eq!(as_journalctl_knows(ours), told, "{ours}");
        }
    }
}
