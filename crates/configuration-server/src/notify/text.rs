//! What people read of events: one line each, whatever is in them.
//!
//! The texts of events hold what hosts tell of themselves, so they are hostile. Here they lose line ends, control
//! characters and what turns the direction of writing, and get an end.

use crate::store::deliveries::Due;
use crate::store::events::Event;
use control_api::Severity;
use control_api::time::{self, Time};
use std::fmt::Write;

/// Characters of a subject.
const SUBJECT: usize = 160;
/// Characters of a name.
const NAME: usize = 100;
/// Characters of what happened, its cause, and what to do.
const SENTENCE: usize = 600;
/// Events of a digest that are told in full; the others have a line.
const IN_FULL: usize = 25;
/// Characters of such a line.
const LINE: usize = 140;

/// One line of at most `limit` characters, with an ellipsis when something was left out.
pub(crate) fn clean(text: &str, limit: usize) -> String {
    let mut line = String::new();
    let mut length = 0;
    for character in text.chars() {
        let character = match character {
            // Marks that turn the direction of writing could make a text look like another one.
            '\u{200e}'
            | '\u{200f}'
            | '\u{061c}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}' => {
                continue;
            }
            '\u{2028}' | '\u{2029}' => ' ',
            other if other.is_control() => ' ',
            other => other,
        };
        if length == limit {
            line.pop();
            line.push('…');
            break;
        }
        line.push(character);
        length += 1;
    }
    line
}

/// A time in UTC, to the second.
pub(crate) fn moment(time: Time) -> String {
    let text = time::format(time);
    format!("{} UTC", text.split('.').next().unwrap_or_default().replace('T', " "))
}

/// An event, with nothing in it that could do harm.
pub(crate) fn tame(event: &Event) -> Event {
    Event {
        kind: clean(&event.kind, NAME),
        object: clean(&event.object, NAME),
        what: clean(&event.what, SENTENCE),
        cause: clean(&event.cause, SENTENCE),
        next: clean(&event.next, SENTENCE),
        ..event.clone()
    }
}

/// What a message is about, in one line: `[critical] mt01: it is not connected`.
pub(crate) fn subject(due: &[Due]) -> String {
    // Of several that are as bad, the first.
    let worst = due.iter().rev().max_by_key(|due| due.event.severity);
    let Some(Due { event, .. }) = worst else { return "no events".to_owned() };
    let severity = event.severity;
    let (object, what) = (clean(&event.object, NAME), clean(&event.what, SUBJECT));
    let subject = match due.len() {
        1 => format!("[{severity}] {object}: {what}"),
        count => format!("[{severity}] {count} events, the worst: {object}: {what}"),
    };
    clean(&subject, SUBJECT)
}

/// The text of a mail. `events` is the address of the page with all events.
pub(crate) fn body(due: &[Due], events: Option<&str>) -> String {
    let mut text = String::new();
    if due.len() > 1 {
        let _ = writeln!(text, "{}\n", counts(due));
    }
    // The worst first; those that are as bad in the order in which they came.
    let mut sorted: Vec<&Due> = due.iter().collect();
    sorted.sort_by_key(|due| std::cmp::Reverse(due.event.severity));
    let (full, short) = sorted.split_at(sorted.len().min(IN_FULL));
    full.iter().for_each(|due| in_full(&mut text, due));
    if !short.is_empty() {
        let _ = writeln!(text, "In short, {} more:\n", short.len());
        short.iter().for_each(|due| in_short(&mut text, due));
        text.push('\n');
    }
    if let Some(events) = events {
        let _ = writeln!(text, "All events: {events}");
    }
    text
}

fn counts(due: &[Due]) -> String {
    let of = |severity: Severity| match due.iter().filter(|due| due.event.severity == severity).count() {
        0 => None,
        count => Some(format!("{count} {severity}")),
    };
    let counts: Vec<String> =
        [Severity::Critical, Severity::Warning, Severity::Info].into_iter().filter_map(of).collect();
    format!("{} events: {}", due.len(), counts.join(", "))
}

fn in_full(text: &mut String, due: &Due) {
    let event = tame(&due.event);
    let _ = writeln!(text, "[{}] {}: {}", event.severity, event.object, event.what);
    for (name, value) in [("cause", &event.cause), ("next", &event.next)] {
        if !value.is_empty() {
            let _ = writeln!(text, "  {name:<6} {value}");
        }
    }
    let _ = writeln!(text, "  time   {}", moment(event.time));
    let _ = writeln!(text, "  event  {} ({})", event.id, event.kind);
    if let Some(ends) = due.ends {
        let _ = writeln!(text, "  ends   event {ends}");
    }
    text.push('\n');
}

fn in_short(text: &mut String, due: &Due) {
    let event = tame(&due.event);
    let line = format!(
        "{}  {}  [{}] {}: {}",
        event.id,
        moment(event.time),
        event.severity,
        event.object,
        event.what
    );
    let _ = writeln!(text, "{}", clean(&line, LINE));
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::notify) fn due(id: i64, severity: Severity, what: &str) -> Due {
        let event = Event {
            id,
            time: 1_764_123_456_789_000_000,
            severity,
            kind: "not-connected".into(),
            object: "mt01".into(),
            what: what.into(),
            cause: "no heartbeat came for 90 s".into(),
            next: "look at its network".into(),
            host: None,
            item: None,
        };
        Due { event, ends: None }
    }

    #[test]
    fn one_event_reads_like_this() {
        let due = [due(17, Severity::Critical, "it is not connected")];
        assert_eq!(subject(&due), "[critical] mt01: it is not connected");
        assert_eq!(
            body(&due, Some("https://cs.example/events")),
            "[critical] mt01: it is not connected\n  cause  no heartbeat came for 90 s\n  next   look at its network\n  \
             time   2025-11-26 02:17:36 UTC\n  event  17 (not-connected)\n\nAll events: https://cs.example/events\n"
        );
    }

    #[test]
    fn a_digest_tells_the_worst_first_and_each_event_at_least_in_a_line() {
        let mut all: Vec<Due> =
            (1..=250).map(|id| due(id, Severity::Warning, &format!("number {id};"))).collect();
        all[199] = due(200, Severity::Critical, "it burns");
        assert_eq!(subject(&all), "[critical] 250 events, the worst: mt01: it burns");
        let text = body(&all, None);
        assert!(
            text.starts_with("250 events: 1 critical, 249 warning\n\n[critical] mt01: it burns\n"),
            "{text}"
        );
        for id in (1..=250).filter(|id| *id != 200) {
            assert!(text.contains(&format!("number {id};")), "{id}");
        }
    }

    #[test]
    fn the_largest_digest_of_the_longest_texts_has_an_end() {
        let long = "\u{1f525}".repeat(100_000);
        let all: Vec<Due> = (1..=1000)
            .map(|id| {
                let mut due = due(id, Severity::Critical, &long);
                due.event.cause = long.clone();
                due.event.next = long.clone();
                due.event.object = long.clone();
                due
            })
            .collect();
        assert!(body(&all, None).len() < 800_000, "{}", body(&all, None).len());
        assert_eq!(subject(&all).chars().count(), SUBJECT);
    }

    #[test]
    fn a_text_is_one_line_and_looks_like_what_it_is() {
        assert_eq!(clean("a\r\nBcc: x@y\0\u{85}\u{2028}b", 100), "a  Bcc: x@y   b");
        assert_eq!(clean("\u{202e}dab\u{2066}", 100), "dab");
        assert_eq!(clean("größer", 6), "größer");
        assert_eq!(clean("größere", 6), "größe…");
        assert_eq!(clean("", 0), "");
    }
}
