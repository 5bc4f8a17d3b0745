//! What the process server is doing, for people and programs: told on a local socket to whoever connects, as one line of
//! JSON. Nothing is read there.

use crate::book::now;
use crate::relay::Relay;
use anyhow::{Context, Result, bail};
use control_api::LinkStatus;
use control_api::time::{Time, format, format_duration};
use registration::link::Hub;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

/// How long an answer is waited for, and a client that does not read.
const PATIENCE: Duration = Duration::from_secs(10);

/// The answer to `mt-process-server status --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// When it started.
    pub started: Time,
    /// The moment all of this was true.
    pub now: Time,
    /// Address that source agents connect to.
    pub listen: String,
    /// The conversation with the configuration server; `None` while this machine is not registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkStatus>,
    /// Bytes a second that may go to all master targets together; `None` for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes_per_second: Option<u64>,
    /// Whom it relays to, by name.
    pub master_targets: Vec<TargetStatus>,
    /// What is relayed now, the oldest first.
    pub connections: Vec<ConnectionStatus>,
    /// How many clients were refused since the start, by reason.
    pub refused: BTreeMap<String, u64>,
}

/// A master target, and what went there since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetStatus {
    /// The name that its certificate is for.
    pub name: String,
    /// Host and port.
    pub address: String,
    /// Connections there are now.
    pub open: usize,
    /// Connections there were.
    pub connections: u64,
    /// Bytes that went there.
    pub bytes_to_target: u64,
    /// Bytes that came back.
    pub bytes_to_source: u64,
    /// Why it could not be reached when that was tried last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem_since: Option<Time>,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// Where it comes from.
    pub peer: String,
    /// Name of the master target.
    pub target: String,
    /// Since when.
    pub since: Time,
    /// Bytes that went there.
    pub bytes_to_target: u64,
    /// Bytes that came back.
    pub bytes_to_source: u64,
}

/// What is told beside the relay itself.
pub(crate) struct Teller {
    pub(crate) relay: Arc<Relay>,
    pub(crate) hub: Hub,
    pub(crate) started: Time,
    pub(crate) listen: String,
}

impl Teller {
    pub(crate) fn status(&self) -> Status {
        let (book, limit) = (&self.relay.book, self.relay.config.limit_mib_per_second << 20);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            now: now(),
            listen: self.listen.clone(),
            link: self.hub.status(),
            limit_bytes_per_second: (limit > 0).then_some(limit),
            master_targets: book.targets(),
            connections: book.connections(),
            refused: book.refused(),
        }
    }

    /// In a few words, for systemd.
    pub(crate) fn summary(&self) -> String {
        let targets = self.relay.book.targets();
        let open: usize = targets.iter().map(|target| target.open).sum();
        let unreached = targets.iter().filter(|target| target.problem.is_some()).count();
        let more = if unreached == 0 { String::new() } else { format!(", {unreached} not reached") };
        format!("{open} connections, {} master targets{more}", targets.len())
    }
}

/// Listens where nobody else does; a socket left over by a killed process server is replaced.
pub(crate) fn listen(path: &Path) -> Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        bail!(
            "another mt-process-server listens at {}; stop it first, or set another socket",
            path.display()
        );
    }
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)
        .with_context(|| format!("cannot listen at {}; change socket", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot restrict access to {}", path.display()))?;
    Ok(listener)
}

/// Tells whoever connects, for ever.
pub(crate) async fn serve(listener: UnixListener, teller: Arc<Teller>) {
    loop {
        match listener.accept().await {
            Ok((mut socket, _)) => {
                let mut line = serde_json::to_vec(&teller.status()).unwrap_or_default();
                line.push(b'\n');
                // The client may have gone.
                let _ = tokio::time::timeout(PATIENCE, socket.write_all(&line)).await;
            }
            Err(error) => {
                tracing::warn!("a local client could not be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Asks the running process server.
pub fn ask(socket: &Path) -> Result<Status> {
    let mut stream = UnixStream::connect(socket).with_context(|| {
        format!(
            "no mt-process-server answers at {}; start it (systemctl start mt-process-server), or name its \
             configuration with --config",
            socket.display()
        )
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text).context("the process server does not answer; see its log")?;
    serde_json::from_str(&text).context("the process server ended before it answered; see its log")
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = format_duration(self.now.saturating_sub(self.started));
        writeln!(f, "listening at {} for {since}, version {}", self.listen, self.version)?;
        write_link(self.link.as_ref(), self.now, f)?;
        match self.limit_bytes_per_second {
            Some(limit) => writeln!(f, "at most {}/s go to all master targets together", bytes(limit))?,
            None => writeln!(f, "no limit of bandwidth")?,
        }
        if self.master_targets.is_empty() {
            writeln!(f, "no master targets: everybody is refused until some are in the configuration")?;
        }
        for target in &self.master_targets {
            write!(
                f,
                "{} at {}: {} connections now, {} in all, {} there, {} back",
                target.name,
                target.address,
                target.open,
                target.connections,
                bytes(target.bytes_to_target),
                bytes(target.bytes_to_source)
            )?;
            match (&target.problem, target.problem_since) {
                (Some(problem), Some(since)) => writeln!(f, "; not reached at {}: {problem}", format(since))?,
                _ => writeln!(f)?,
            }
        }
        for connection in &self.connections {
            let since = format_duration(self.now.saturating_sub(connection.since));
            let (there, back) = (bytes(connection.bytes_to_target), bytes(connection.bytes_to_source));
            writeln!(
                f,
                "  {} to {} for {since}: {there} there, {back} back",
                connection.peer, connection.target
            )?;
        }
        let refused: Vec<String> =
            self.refused.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        match refused.is_empty() {
            true => write!(f, "nobody was refused"),
            false => write!(f, "refused: {}", refused.join(", ")),
        }
    }
}

/// How the conversation with the configuration server goes, in the words of `mtctl status`.
fn write_link(link: Option<&LinkStatus>, now: Time, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let ago = |time: Time| format_duration(now.saturating_sub(time));
    let Some(link) = link else {
        return writeln!(f, "not registered with a configuration server (mt-process-server register)");
    };
    write!(f, "configuration server {}: ", link.server)?;
    match (&link.problem, link.connected_since) {
        (Some(problem), _) => {
            let since = link.problem_since.map_or_else(String::new, |since| format!(" for {}", ago(since)));
            writeln!(f, "not connected{since}: {problem}")
        }
        (None, Some(since)) => writeln!(f, "connected for {} as {}", ago(since), link.name),
        (None, None) => writeln!(f, "not connected yet"),
    }
}

/// Bytes as people read them.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (count as f64, "B");
    for larger in UNITS {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_in_words() {
        let target = TargetStatus {
            name: "mt01.example".into(),
            address: "10.0.0.5:9443".into(),
            open: 1,
            connections: 3,
            bytes_to_target: 3 << 30,
            bytes_to_source: 1000,
            problem: Some("connection refused".into()),
            problem_since: Some(0),
        };
        let connection = ConnectionStatus {
            peer: "10.0.0.8:4711".into(),
            target: "mt01.example".into(),
            since: 60_000_000_000,
            bytes_to_target: 1 << 20,
            bytes_to_source: 0,
        };
        let status = Status {
            version: "9.4.0".into(),
            started: 0,
            now: 120_000_000_000,
            listen: "0.0.0.0:9443".into(),
            link: None,
            limit_bytes_per_second: Some(50 << 20),
            master_targets: vec![target],
            connections: vec![connection],
            refused: BTreeMap::from([("not-tls".into(), 2), ("unknown-name".into(), 1)]),
        };
        let expected = "listening at 0.0.0.0:9443 for 2 min, version 9.4.0\n\
             not registered with a configuration server (mt-process-server register)\n\
             at most 50.0 MiB/s go to all master targets together\n\
             mt01.example at 10.0.0.5:9443: 1 connections now, 3 in all, 3.0 GiB there, 1000 B back; \
             not reached at 1970-01-01T00:00:00.000Z: connection refused\n  \
             10.0.0.8:4711 to mt01.example for 1 min: 1.0 MiB there, 0 B back\n\
             refused: not-tls 2, unknown-name 1";
        assert_eq!(status.to_string(), expected);
    }
}
