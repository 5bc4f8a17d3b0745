//! Small pieces of HTML that many pages show: times, states, bars, numbers with units.
//!
//! Each is a type that displays as HTML which is safe to put into a page as it stands; whatever text goes into one is
//! escaped here.

use askama::Template;
use askama::filters::HtmlSafe;
use control_api::agent::JobState;
use control_api::time::{self, SECOND, Time};
use control_api::{ItemState, RetentionState, Severity};
use std::fmt::{self, Display, Formatter};

/// How long ago something was, with the moment in UTC for those who want to know.
#[derive(Clone, Copy)]
pub(super) struct Ago {
    pub(super) time: Time,
    pub(super) now: Time,
}

impl Display for Ago {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (iso, utc) = (time::format(self.time), utc(self.time));
        let said = ago(self.time, self.now);
        write!(f, r#"<time class="ago" datetime="{iso}" title="{utc}">{said}</time>"#)
    }
}

impl HtmlSafe for Ago {}

/// A moment in UTC.
#[derive(Clone, Copy)]
pub(super) struct Moment(pub(super) Time);

impl Display for Moment {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, r#"<time class="nowrap" datetime="{}">{}</time>"#, time::format(self.0), utc(self.0))
    }
}

impl HtmlSafe for Moment {}

/// As people read a moment: `2026-11-26 01:54:01 UTC`.
pub(super) fn utc(moment: Time) -> String {
    let text = time::format(moment);
    let (date, clock) = text.split_once('T').unwrap_or((&text, ""));
    format!("{date} {} UTC", clock.get(..8).unwrap_or(clock))
}

fn ago(then: Time, now: Time) -> String {
    let seconds = now.saturating_sub(then) / SECOND;
    match seconds {
        0..5 => "just now".into(),
        _ => format!("{} ago", one_unit(seconds)),
    }
}

fn one_unit(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A duration in seconds, in two units at most.
pub(super) fn seconds(seconds: u64) -> String {
    time::format_duration(seconds.saturating_mul(SECOND))
}

/// A number of bytes, with one digit after the point where there is room.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value < 99.95 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// Bytes a second.
pub(super) fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", bytes(bytes_per_second))
}

/// How good or bad something is; each has a colour and a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Ok,
    Info,
    Warning,
    Critical,
    Idle,
}

impl Tone {
    /// Its class, and the name of its shape.
    pub(super) fn id(self) -> &'static str {
        match self {
            Tone::Ok => "ok",
            Tone::Info => "info",
            Tone::Warning => "warning",
            Tone::Critical => "critical",
            Tone::Idle => "idle",
        }
    }
}

impl From<Severity> for Tone {
    fn from(severity: Severity) -> Tone {
        match severity {
            Severity::Info => Tone::Info,
            Severity::Warning => Tone::Warning,
            Severity::Critical => Tone::Critical,
        }
    }
}

/// A state, as shape, colour and word.
#[derive(Clone, Template)]
#[template(
    source = r##"<span class="badge {{ tone.id() }}"><svg class="icon" aria-hidden="true"><use href="#i-{{ icon }}"/></svg>{{ text }}</span>"##,
    ext = "html"
)]
pub(super) struct Badge {
    tone: Tone,
    icon: &'static str,
    text: String,
}

impl HtmlSafe for Badge {}

impl Badge {
    pub(super) fn new(tone: Tone, text: impl Into<String>) -> Badge {
        Badge { tone, icon: tone.id(), text: text.into() }
    }

    /// Of an event.
    pub(super) fn severity(severity: Severity) -> Badge {
        Badge::new(severity.into(), severity.id())
    }

    /// Of something that alerts are raised for.
    pub(super) fn health(health: Severity) -> Badge {
        match health {
            Severity::Info => Badge::new(Tone::Ok, "healthy"),
            worse => Badge::new(worse.into(), worse.id()),
        }
    }

    pub(super) fn item(state: ItemState) -> Badge {
        let tone = match state {
            ItemState::Protected => Tone::Ok,
            ItemState::Fenced | ItemState::ResyncRequired => Tone::Critical,
            ItemState::InitialSyncRequired => Tone::Warning,
            ItemState::FailedOver | ItemState::Committed => Tone::Idle,
            _ => Tone::Info,
        };
        let icon = match tone {
            Tone::Info => "running",
            other => other.id(),
        };
        Badge { tone, icon, text: state.to_string() }
    }

    pub(super) fn job(state: JobState) -> Badge {
        let (tone, icon) = match state {
            JobState::Queued => (Tone::Idle, "waiting"),
            JobState::Running => (Tone::Info, "running"),
            JobState::Succeeded => (Tone::Ok, "ok"),
            JobState::Failed => (Tone::Critical, "critical"),
            _ => (Tone::Idle, "idle"),
        };
        Badge { tone, icon, text: state.to_string() }
    }

    pub(super) fn retention(state: RetentionState) -> Badge {
        let tone = match state {
            RetentionState::Ready => Tone::Ok,
            RetentionState::Trial => Tone::Warning,
            _ => Tone::Critical,
        };
        Badge::new(tone, state.to_string())
    }

    /// Whether a host is there.
    pub(super) fn connected(connected: bool) -> Badge {
        if connected {
            Badge::new(Tone::Ok, "connected")
        } else {
            Badge::new(Tone::Critical, "not connected")
        }
    }
}

/// A part of a whole as a bar, with what it means beside it as text.
#[derive(Clone, Template)]
#[template(
    source = r##"<div class="meter"><div class="line"><span>{{ text }}</span></div><svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="{{ role }}"{% if role == "progressbar" %} aria-valuemin="0" aria-valuemax="100" aria-valuenow="{{ percent }}"{% endif %} aria-label="{{ label }}: {{ percent }} %"><rect class="track" width="100" height="8"/><rect class="fill {{ class }}" width="{{ percent }}" height="8"/></svg></div>"##,
    ext = "html"
)]
pub(super) struct Bar {
    role: &'static str,
    class: &'static str,
    label: String,
    text: String,
    percent: u64,
}

impl HtmlSafe for Bar {}

/// Shares, in percent, from which on something is worth a look, and is bad.
const BUSY: (u64, u64) = (80, 95);

impl Bar {
    /// How far work has come.
    pub(super) fn progress(label: impl Into<String>, done: u64, total: u64, text: impl Into<String>) -> Bar {
        let percent = percent(done, total);
        Bar { role: "progressbar", class: "", label: label.into(), text: text.into(), percent }
    }

    /// How much of something is taken.
    pub(super) fn usage(label: impl Into<String>, used: u64, all: u64, text: impl Into<String>) -> Bar {
        let percent = percent(used, all);
        let class = match percent {
            bad if bad >= BUSY.1 => "critical",
            much if much >= BUSY.0 => "warning",
            _ => "ok",
        };
        Bar { role: "img", class, label: label.into(), text: text.into(), percent }
    }
}

/// A text as HTML.
pub(super) fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            other => html.push(other),
        }
    }
    html
}

/// Rounded down, so that 100 says that all is done.
pub(super) fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 { 100 } else { (u128::from(part.min(whole)) * 100 / u128::from(whole)) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let shown = [0, 1023, 1024, 1536, 102_348, 1 << 20, 5 << 30, u64::MAX].map(bytes);
        assert_eq!(
            shown,
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "99.9 KiB", "1.0 MiB", "5.0 GiB", "16384 PiB"]
        );
        assert_eq!(rate(2048), "2.0 KiB/s");
        assert_eq!(
            [percent(1, 3), percent(999, 1000), percent(5, 5), percent(9, 5), percent(0, 0)],
            [33, 99, 100, 100, 100]
        );
    }

    #[test]
    fn times_are_told_for_people_and_for_programs() {
        let ago = Ago { time: 0, now: 200 * SECOND };
        let shown = r#"<time class="ago" datetime="1970-01-01T00:00:00.000Z" title="1970-01-01 00:00:00 UTC">3 min ago</time>"#;
        assert_eq!(ago.to_string(), shown);
        assert!(Ago { time: 9, now: 0 }.to_string().contains(">just now<"));
        assert!(Moment(0).to_string().contains(">1970-01-01 00:00:00 UTC<"));
    }

    #[test]
    fn what_others_wrote_is_escaped() {
        let badge = Badge::new(Tone::Ok, "<script>").to_string();
        assert!(badge.contains("&#60;script&#62;") && !badge.contains("<script>"), "{badge}");
        let bar = Bar::usage("\" onload=\"x", 1, 2, "<b>").to_string();
        assert!(!bar.contains("\" onload") && !bar.contains("<b>"), "{bar}");
    }
}
