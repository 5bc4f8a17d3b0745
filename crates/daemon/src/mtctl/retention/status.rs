//! `mtctl retention status`: who uses how much of the volume, where that leads, and how large the next disk has to be.
//!
//! The daemon knows the rates. Where it does not run, the room is shown that can be seen without it.

use super::super::client::{Client, ClientError};
use super::super::disks::text::printable;
use super::super::run::Outcome;
use super::super::table::{alert, share_of, table};
use super::disks::Disks;
use super::targets::Known;
use crate::config::Config;
use crate::retention::journal_on_disk;
use block_device::System;
use control_api::time::{self, SECOND, Time};
use control_api::{Answer, Call, ItemStatus, RetentionStatus, Status};
use disk::Bytes;
use retention_volume::{Place, Space};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

/// Shows it.
pub(super) fn run(config: &Path, socket: &Path, json: bool) -> Outcome {
    let known = Known::read(config);
    match ask(socket) {
        Ok(status) => {
            let disks = look(&known, Path::new(&status.retention.folder));
            if json {
                println!("{}", as_json(&status, &disks, &notes(&known)));
            } else {
                print!("{}{}{}", as_text(&status), disks.as_text(), as_lines(&notes(&known)));
            }
            Outcome::Done
        }
        Err(error) => {
            eprintln!("mtctl: {error}");
            without_daemon(&known, json);
            Outcome::Failed
        }
    }
}

fn look(known: &Known, folder: &Path) -> Disks {
    Disks::look(&System::host(), &known.question(folder, &known.state_folder()))
}

/// What one should know of the list of disks.
fn notes(known: &Known) -> Vec<String> {
    known.notes.iter().cloned().chain(known.doubt().map(str::to_owned)).collect()
}

fn as_lines(notes: &[String]) -> String {
    notes.iter().map(|note| format!("NOTE {}\n", printable(note))).collect()
}

fn ask(socket: &Path) -> Result<Status, ClientError> {
    match Client::connect(socket)?.call(Call::Status, |_| {})? {
        Answer::Status(status) => Ok(*status),
        _ => Err(ClientError::Closed),
    }
}

/// How the room is divided, in bytes.
struct Division {
    used: Option<u64>,
    journals: u64,
    others: Option<u64>,
}

fn division(status: &Status) -> Division {
    let retention = &status.retention;
    let used =
        retention.capacity_bytes.zip(retention.available_bytes).map(|(all, free)| all.saturating_sub(free));
    let journals = status.items.iter().map(|item| item.journal_bytes).sum();
    Division { used, journals, others: used.map(|used| used.saturating_sub(journals)) }
}

/// How far back all items will reach at the present rate, when it is not the same for each: the least.
fn projected(items: &[ItemStatus]) -> Option<u64> {
    items.iter().filter_map(|item| item.window_projected).min()
}

fn as_json(status: &Status, disks: &Disks, notes: &[String]) -> Value {
    let division = division(status);
    let mut retention = json!(status.retention);
    if let Some(fields) = retention.as_object_mut() {
        fields.insert("used_bytes".into(), json!(division.used));
        fields.insert("journal_bytes".into(), json!(division.journals));
        fields.insert("other_bytes".into(), json!(division.others));
        fields.insert("window_projected".into(), json!(projected(&status.items)));
    }
    json!({
        "daemon": true,
        "now": status.now,
        "retention": retention,
        "items": status.items,
        "disks": disks.as_json(),
        "notes": notes,
    })
}

fn as_text(status: &Status) -> String {
    let retention = &status.retention;
    let mut text = format!("retention volume {}, {}", retention.folder, retention.state);
    if let Some(uuid) = &retention.file_system {
        let _ = write!(text, ", file system {uuid}");
    }
    text.push('\n');
    if let Some(detail) = &retention.detail {
        let _ = writeln!(text, "{detail}");
    }
    let _ = writeln!(text, "{}", volume(status));
    let _ = writeln!(text, "{}", items(status));
    let _ = writeln!(text, "{}", sizing(retention));
    if let Some(needed) = retention.needed_for_24_h_bytes {
        let _ = writeln!(text, "a window of 24 h for each of them would need {}", Bytes(needed));
    }
    for raised in &retention.alerts {
        let _ = writeln!(text, "{}", alert("retention volume", raised));
    }
    for item in &status.items {
        for raised in &item.alerts {
            let _ = writeln!(text, "{}", alert(&item.name, raised));
        }
    }
    text
}

fn volume(status: &Status) -> comfy_table::Table {
    let (retention, division) = (&status.retention, division(status));
    let header = [
        "capacity",
        "used",
        "available",
        "journals",
        "other files",
        "write rate",
        "full in",
        "window",
        "needed",
    ];
    let mut rows = table(&header, &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let used = division.used.map(|used| match retention.capacity_bytes {
        Some(capacity) => format!("{} ({})", Bytes(used), share_of(used, capacity)),
        None => Bytes(used).to_string(),
    });
    rows.add_row([
        bytes(retention.capacity_bytes),
        used.unwrap_or_else(unknown),
        bytes(retention.available_bytes),
        Bytes(division.journals).to_string(),
        bytes(division.others),
        rate(retention.journal_bytes_per_second),
        full_in(retention),
        projected(&status.items).map_or_else(unknown, time::format_duration),
        bytes(retention.needed_bytes),
    ]);
    rows
}

fn full_in(retention: &RetentionStatus) -> String {
    match retention.full_in_seconds {
        _ if retention.journal_bytes_per_second == 0 => unknown(),
        None => "never".into(),
        Some(0..60) => "now".into(),
        Some(seconds) => time::format_duration(seconds.saturating_mul(SECOND)),
    }
}

fn items(status: &Status) -> comfy_table::Table {
    let header =
        ["item", "used", "share", "min", "max", "oldest point", "age", "rate", "window", "projected"];
    let mut rows = table(&header, &[1, 2, 3, 4, 6, 7, 8, 9]);
    for item in &status.items {
        let oldest = item.oldest_point.as_ref().map(|point| point.source_time);
        let capacity = status.retention.capacity_bytes;
        rows.add_row([
            item.name.clone(),
            Bytes(item.journal_bytes).to_string(),
            capacity.map_or_else(unknown, |capacity| share_of(item.journal_bytes, capacity)),
            bytes(Some(item.min_journal_bytes).filter(|min| *min > 0)),
            bytes(item.max_journal_bytes),
            oldest.map_or_else(unknown, minute),
            item.window(status.now).map_or_else(unknown, time::format_duration),
            rate(item.journal_bytes_per_second),
            time::format_duration(item.window_wanted),
            item.window_projected.map_or_else(unknown, time::format_duration),
        ]);
    }
    rows
}

/// What the next disk needs, in a sentence.
fn sizing(retention: &RetentionStatus) -> String {
    let (Some(needed), Some(capacity)) = (retention.needed_bytes, retention.capacity_bytes) else {
        return "nothing is written now, so no need can be reckoned".to_owned();
    };
    let rate = rate(retention.journal_bytes_per_second);
    let fits = match needed <= capacity {
        true => format!("it fits on this volume of {}", Bytes(capacity)),
        false => format!("this volume of {} is too small for them", Bytes(capacity)),
    };
    format!("at the present {rate} the windows of all items need {}: {fits}", Bytes(needed))
}

fn bytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(unknown, |bytes| Bytes(bytes).to_string())
}

fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", Bytes(bytes_per_second))
}

/// To the minute: `2026-11-20 16:21`.
fn minute(at: Time) -> String {
    time::format(at).chars().take(16).map(|c| if c == 'T' { ' ' } else { c }).collect()
}

fn unknown() -> String {
    "–".to_owned()
}

/// What can be seen while nobody looks after the volume.
fn without_daemon(known: &Known, json: bool) {
    let config = known.config.as_ref();
    let trial = config.is_some_and(|config| config.retention.trial_folder);
    let place = Place { folder: known.mount_point(), trial };
    let disks = look(known, &place.folder);
    let (space, items) = (place.space(), journals(config, &place));
    if json {
        let value = json!({
            "daemon": false,
            "retention": {
                "folder": place.folder,
                "capacity_bytes": space.as_ref().ok().map(|space| space.capacity.0),
                "available_bytes": space.as_ref().ok().map(|space| space.available.0),
            },
            "items": items
                .iter()
                .map(|(name, bytes)| json!({ "name": name, "journal_bytes": bytes }))
                .collect::<Vec<_>>(),
            "disks": disks.as_json(),
            "notes": notes(known),
        });
        return println!("{value}");
    }
    match space {
        Ok(space) => print!("{}", room(&items, &place, space)),
        Err(error) => println!("{error}"),
    }
    print!("{}{}", disks.as_text(), as_lines(&notes(known)));
}

/// The journals of the items that are configured, with their sizes.
fn journals<'a>(config: Option<&'a Config>, place: &Place) -> Vec<(&'a str, u64)> {
    let items = config.iter().flat_map(|config| &config.items);
    items.map(|item| (item.name.as_str(), journal_on_disk(&place.folder, &item.name))).collect()
}

fn room(items: &[(&str, u64)], place: &Place, space: Space) -> String {
    let used = space.capacity.0.saturating_sub(space.available.0);
    let mut rows = table(&["item", "used", "share"], &[1, 2]);
    for (name, bytes) in items {
        rows.add_row([(*name).to_owned(), Bytes(*bytes).to_string(), share_of(*bytes, space.capacity.0)]);
    }
    format!(
        "retention volume {}, {} of {} used, {} available\n{rows}\n",
        place.folder.display(),
        share_of(used, space.capacity.0),
        space.capacity,
        space.available
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::table::tests::{NOW, sample};
    use super::*;
    use control_api::{Alert, AlertKind};

    const GIB: u64 = 1 << 30;

    fn status() -> Status {
        let mut status = sample();
        let first = &mut status.items[0];
        first.journal_bytes = 700 * GIB;
        first.journal_bytes_per_second = 9 << 20;
        first.max_journal_bytes = Some(800 * GIB);
        first.window_projected = Some(18 * 3600 * SECOND);
        first.alerts.clear();
        let mut second = first.clone();
        second.name = "db01".into();
        second.journal_bytes = 300 * GIB;
        second.min_journal_bytes = 100 * GIB;
        second.max_journal_bytes = None;
        second.window_projected = Some(86_400 * SECOND);
        status.items.push(second);
        let message = "it is filling".into();
        status.retention = RetentionStatus {
            capacity_bytes: Some(1500 * GIB),
            available_bytes: Some(480 * GIB),
            journal_bytes_per_second: 13 << 20,
            full_in_seconds: Some(7800),
            needed_bytes: Some(1331 * GIB),
            needed_for_24_h_bytes: Some(1200 * GIB),
            alerts: vec![Alert { kind: AlertKind::RetentionFilling, since: NOW, message }],
            ..status.retention
        };
        status
    }

    fn cells(text: &str, of: &str) -> Vec<String> {
        let row = text.lines().find(|line| line.contains(of)).unwrap_or_else(|| panic!("{of}: {text}"));
        row.split(['│', '┆']).map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).collect()
    }

    #[test]
    fn the_volume_and_its_items_are_two_tables_and_a_sentence() {
        let text = as_text(&status());
        assert!(text.starts_with("retention volume /mnt/retention, ready\n"), "{text}");
        let volume = cells(&text, "1.5 TiB ");
        let expected = [
            "1.5 TiB",
            "1020 GiB (68 %)",
            "480 GiB",
            "1000 GiB",
            "20 GiB",
            "13 MiB/s",
            "2 h 10 min",
            "18 h",
            "1.3 TiB",
        ];
        assert_eq!(volume, expected);
        let item = cells(&text, "db01");
        let expected =
            ["db01", "300 GiB", "20 %", "100 GiB", "–", "2023-11-14 20:13", "2 h", "9 MiB/s", "1 d", "1 d"];
        assert_eq!(item, expected);
        assert!(
            text.contains("the windows of all items need 1.3 TiB: it fits on this volume of 1.5 TiB\n"),
            "{text}"
        );
        assert!(text.contains("a window of 24 h for each of them would need 1.2 TiB\n"), "{text}");
        assert!(text.contains("ALERT retention volume: it is filling"), "{text}");
    }

    #[test]
    fn what_is_not_known_is_left_open() {
        let mut status = status();
        status.retention.capacity_bytes = None;
        status.retention.available_bytes = None;
        status.retention.journal_bytes_per_second = 0;
        status.retention.needed_bytes = None;
        status.retention.needed_for_24_h_bytes = None;
        status.items.iter_mut().for_each(|item| item.window_projected = None);
        let text = as_text(&status);
        assert_eq!(cells(&text, "1000 GiB"), ["–", "–", "–", "1000 GiB", "–", "0 B/s", "–", "–", "–"]);
        assert!(text.contains("nothing is written now"), "{text}");
    }

    #[test]
    fn programs_get_everything() {
        let disks = Disks::none();
        let json = as_json(&status(), &disks, &["a note".to_owned()]);
        assert_eq!(json["retention"]["used_bytes"], 1020 * GIB);
        assert_eq!(json["retention"]["journal_bytes"], 1000 * GIB);
        assert_eq!(json["retention"]["other_bytes"], 20 * GIB);
        assert_eq!(json["retention"]["full_in_seconds"], 7800);
        assert_eq!(json["retention"]["needed_for_24_h_bytes"], 1200 * GIB);
        assert_eq!(json["items"][1]["min_journal_bytes"], 100 * GIB);
        assert_eq!(json["notes"][0], "a note");
    }
}
