//! QEMU's control protocol: commands, their answers, and events in between.

use super::lines::Lines;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// QEMU answers at once, except when the whole machine is busy.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Qmp {
    lines: Lines,
    /// Events that came while something else was awaited.
    events: Vec<Value>,
}

impl Qmp {
    pub(super) fn connect(socket: &Path) -> Result<Qmp> {
        let mut qmp = Qmp { lines: Lines::connect(socket)?, events: Vec::new() };
        qmp.message(Instant::now() + LIMIT).context("QEMU did not greet")?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    pub(super) fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let text = json!({"execute": command, "arguments": arguments}).to_string();
        self.lines.send(&text)?;
        let deadline = Instant::now() + LIMIT;
        loop {
            let mut message =
                self.message(deadline).with_context(|| format!("QEMU did not answer {command}"))?;
            if message.get("event").is_some() {
                self.events.push(message);
            } else if let Some(error) = message.get("error") {
                bail!("{command} failed: {}", error["desc"].as_str().unwrap_or("QEMU does not say why"));
            } else {
                return Ok(message["return"].take());
            }
        }
    }

    /// Waits for an event, which may have come already, of which `is_it` holds.
    pub(super) fn wait_for(
        &mut self,
        what: &str,
        limit: Duration,
        is_it: impl Fn(&Value) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(place) = self.events.iter().position(&is_it) {
                self.events.remove(place);
                return Ok(());
            }
            let event = self.message(deadline).with_context(|| format!("{what} did not happen"))?;
            self.events.push(event);
        }
    }

    /// Drops the events so far: those that are awaited from now on are new ones.
    pub(super) fn forget_events(&mut self) {
        while let Ok(Some(_)) = self.lines.receive(Duration::ZERO) {}
        self.events.clear();
    }

    fn message(&mut self, deadline: Instant) -> Result<Value> {
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(line) = self.lines.receive(left)? else { bail!("it took too long") };
        serde_json::from_str(&line).with_context(|| format!("QEMU wrote no JSON: {line}"))
    }
}
