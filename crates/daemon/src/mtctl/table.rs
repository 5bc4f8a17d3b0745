//! What people get to see: tables and a few lines.

use comfy_table::{CellAlignment, Table, presets};
use control_api::time::{self, Time};
use control_api::{Alert, AlertKind, ItemStatus, LinkStatus, Point, RetentionStatus, Status, TestFailover};
use disk::Bytes;
use std::fmt::Write;

/// Seconds that the clocks may differ before it is worth a line.
const CLOCKS_DIFFER: u64 = 30;

pub(super) fn table(header: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_header(header);
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Everything at a glance.
pub(super) fn status(status: &Status) -> String {
    let mut text = format!(
        "master target {}, up {}, listening on {}\n",
        status.version,
        time::format_duration(status.now.saturating_sub(status.started)),
        status.listen
    );
    link(status, &mut text);
    retention(&status.retention, &mut text);
    if status.items.is_empty() {
        text.push_str("no item is configured\n");
        return text;
    }
    let mut rows = table(&["item", "state", "progress", "RPO", "window", "journal", "rate"], &[3, 4, 5, 6]);
    for item in &status.items {
        rows.add_row([
            item.name.clone(),
            item.state.to_string(),
            progress(item),
            age(item.rpo(status.now)),
            age(item.window(status.now)),
            Bytes(item.journal_bytes).to_string(),
            format!("{}/s", Bytes(item.bytes_per_second)),
        ]);
    }
    let _ = writeln!(text, "{rows}");
    for item in &status.items {
        notes(item, &mut text);
    }
    text
}

/// How the conversation with the configuration server goes.
fn link(status: &Status, text: &mut String) {
    let ago = |time: Time| time::format_duration(status.now.saturating_sub(time));
    let Some(link) = &status.link else {
        text.push_str("not registered with a configuration server (mtctl register)\n");
        return;
    };
    let LinkStatus { server, name, .. } = link;
    let _ = write!(text, "configuration server {server}: ");
    let _ = match (&link.problem, link.connected_since, link.last_heartbeat) {
        (Some(problem), _, last) => {
            let since = link.problem_since.map_or_else(String::new, |since| format!(" for {}", ago(since)));
            let last = last.map_or_else(String::new, |last| format!(", last heartbeat {} ago", ago(last)));
            writeln!(text, "not connected{since}{last}: {problem}")
        }
        (None, Some(since), Some(last)) => {
            writeln!(text, "connected for {} as {name}, last heartbeat {} ago", ago(since), ago(last))
        }
        _ => writeln!(text, "not connected yet"),
    };
    let difference = link.clock_ahead_seconds.unsigned_abs();
    if difference > CLOCKS_DIFFER {
        let way = if link.clock_ahead_seconds < 0 { "ahead of" } else { "behind" };
        let _ = writeln!(
            text,
            "this machine's clock is {} {way} the configuration server's; look at its time service (timedatectl)",
            time::format_duration(difference * time::SECOND)
        );
    }
}

/// How full the retention volume is, and what needs attention of it.
fn retention(retention: &RetentionStatus, text: &mut String) {
    let _ = write!(text, "retention volume {}", retention.folder);
    let room = retention.capacity_bytes.zip(retention.available_bytes);
    let _ = match (&retention.detail, room) {
        (Some(detail), _) => writeln!(text, ": {}: {detail}", retention.state),
        (None, None) => writeln!(text, ", its room is unknown"),
        (None, Some((capacity, available))) => {
            let used = share_of(capacity.saturating_sub(available), capacity);
            writeln!(text, ", {used} of {} used, {} available", Bytes(capacity), Bytes(available))
        }
    };
    // That it cannot be used has been said.
    for raised in retention.alerts.iter().filter(|raised| raised.kind != AlertKind::RetentionLost) {
        let _ = writeln!(text, "{}", alert("retention volume", raised));
    }
}

/// An alert of an object, as a line.
pub(super) fn alert(object: &str, alert: &Alert) -> String {
    format!("ALERT {object}: {} (since {})", alert.message, time::format(alert.since))
}

/// A part of a whole: `12 %`, and with a decimal below ten.
pub(super) fn share_of(part: u64, whole: u64) -> String {
    let percent = part as f64 * 100.0 / whole.max(1) as f64;
    if percent < 9.95 && percent > 0.0 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

fn progress(item: &ItemStatus) -> String {
    let Some(progress) = item.progress else { return String::new() };
    let Some(total) = progress.total.filter(|total| *total > 0) else { return "starting".into() };
    let percent = (progress.done.min(total) as f64 / total as f64 * 100.0).floor();
    let left = item.seconds_left.map(|seconds| format!(", {} left", age(Some(seconds * time::SECOND))));
    format!("{percent} % of {}{}", Bytes(total), left.unwrap_or_default())
}

fn age(nanos: Option<u64>) -> String {
    nanos.map_or("–".to_string(), time::format_duration)
}

fn notes(item: &ItemStatus, text: &mut String) {
    if let Some(detail) = &item.detail {
        let _ = writeln!(text, "{}: {detail}", item.name);
    }
    for raised in &item.alerts {
        let _ = writeln!(text, "{}", alert(&item.name, raised));
    }
}

/// The items with their disks.
pub(super) fn items(items: &[ItemStatus]) -> String {
    let mut rows = table(&["item", "state", "source", "disk", "size", "target"], &[4]);
    for item in items {
        for (n, disk) in item.disks.iter().enumerate() {
            let first = n == 0;
            rows.add_row([
                if first { item.name.clone() } else { String::new() },
                if first { item.state.to_string() } else { String::new() },
                if first { item.peer.clone().unwrap_or("not connected".into()) } else { String::new() },
                disk.id.clone(),
                if disk.size == 0 { "?".into() } else { Bytes(disk.size).to_string() },
                disk.target.clone(),
            ]);
        }
    }
    let mut text = format!("{rows}\n");
    for item in items {
        if let Some(start) = &item.start {
            let _ = writeln!(text, "{}: opened {}: {}", item.name, time::format(start.time), start.summary);
        }
        notes(item, &mut text);
    }
    text
}

/// Recovery points.
pub(super) fn points(points: &[Point]) -> String {
    if points.is_empty() {
        return "no recovery point matches\n".to_string();
    }
    let mut rows = table(&["point", "source time", "bookmark", "consistent", "tested", "journal"], &[0, 5]);
    for point in points {
        let bookmark = point.bookmark.as_ref();
        let application = bookmark.is_some_and(|bookmark| bookmark.application_consistent);
        rows.add_row([
            point.number.to_string(),
            time::format(point.source_time),
            bookmark.map_or(String::new(), |bookmark| bookmark.name.clone()),
            if application { "application" } else { "crash" }.to_string(),
            point.tested.map_or(String::new(), time::format),
            Bytes(point.journal_bytes).to_string(),
        ]);
    }
    format!("{rows}\n")
}

/// Test failovers with their exports.
pub(super) fn test_failovers(list: &[TestFailover], now: Time) -> String {
    if list.is_empty() {
        return "no test failover is under way\n".to_string();
    }
    let mut rows = table(&["id", "item", "point", "age", "disk", "size", "URI"], &[0, 5]);
    for test in list {
        for export in &test.exports {
            rows.add_row([
                test.id.to_string(),
                test.item.clone(),
                format!("{} ({})", test.point.number, time::format(test.point.source_time)),
                time::format_duration(now.saturating_sub(test.started)),
                export.disk.clone(),
                Bytes(export.size).to_string(),
                export.uri.clone(),
            ]);
        }
    }
    format!("{rows}\n")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use control_api::{Bookmark, DiskStatus, ItemState, Progress, RetentionState, StartReport, Work};

    pub(in crate::mtctl) const NOW: Time = 1_700_000_000 * time::SECOND;

    fn point(number: u64, age: u64) -> Point {
        let at = NOW - age * time::SECOND;
        Point { number, source_time: at, receive_time: at, bookmark: None, tested: None, journal_bytes: 4096 }
    }

    fn item() -> ItemStatus {
        ItemStatus {
            name: "web01".into(),
            state: ItemState::InitialSync,
            detail: None,
            peer: Some("10.0.0.7".into()),
            progress: Some(Progress { work: Work::InitialSync, done: 1 << 30, total: Some(4 << 30) }),
            seconds_left: Some(600),
            protected_until: Some(NOW - 12 * time::SECOND),
            newest_point: Some(point(9, 12)),
            oldest_point: Some(point(2, 7200)),
            journal_bytes: 3 << 20,
            journal_bytes_per_second: 0,
            min_journal_bytes: 0,
            max_journal_bytes: None,
            holds_point: None,
            policy: None,
            taken: false,
            window_wanted: 86_400 * time::SECOND,
            window_projected: None,
            received_bytes: 0,
            bytes_per_second: 5 << 20,
            disks: vec![DiskStatus { id: "disk0".into(), target: "/x/web01.vmdk".into(), size: 4 << 30 }],
            alerts: vec![Alert { kind: AlertKind::RpoExceeded, since: NOW, message: "RPO is 1 h".into() }],
            start: Some(StartReport { time: NOW, recovered: true, summary: "1 batch undone".into() }),
        }
    }

    pub(in crate::mtctl) fn sample() -> Status {
        Status {
            version: "0.1.0".into(),
            started: NOW - 3600 * time::SECOND,
            now: NOW,
            listen: "0.0.0.0:9443".into(),
            link: None,
            retention: RetentionStatus {
                folder: "/mnt/retention".into(),
                state: RetentionState::Ready,
                detail: None,
                file_system: None,
                capacity_bytes: Some(2 << 40),
                available_bytes: Some(1 << 40),
                journal_bytes_per_second: 0,
                full_in_seconds: None,
                needed_bytes: None,
                needed_for_24_h_bytes: None,
                alerts: Vec::new(),
            },
            items: vec![item()],
        }
    }

    #[test]
    fn the_status_shows_what_matters_on_one_screen() {
        let text = status(&sample());
        assert!(text.starts_with("master target 0.1.0, up 1 h, listening on 0.0.0.0:9443\n"), "{text}");
        assert!(
            text.contains("retention volume /mnt/retention, 50 % of 2 TiB used, 1 TiB available\n"),
            "{text}"
        );
        let row = text.lines().find(|line| line.contains("web01")).unwrap();
        let cells: Vec<&str> = row.split(['│', '┆']).map(str::trim).filter(|cell| !cell.is_empty()).collect();
        let expected =
            ["web01", "initial sync", "25 % of 4 GiB, 10 min left", "12 s", "2 h", "3 MiB", "5 MiB/s"];
        assert_eq!(cells, expected);
        assert!(text.ends_with("ALERT web01: RPO is 1 h (since 2023-11-14T22:13:20.000Z)\n"), "{text}");
    }

    #[test]
    fn the_configuration_server_has_a_line() {
        assert!(
            status(&sample()).contains("\nnot registered with a configuration server (mtctl register)\n")
        );
        let good = LinkStatus {
            server: "cs.example:443".into(),
            name: "mt01".into(),
            connected_since: Some(NOW - 7200 * time::SECOND),
            last_heartbeat: Some(NOW - 12 * time::SECOND),
            problem: None,
            problem_since: None,
            clock_ahead_seconds: 2,
        };
        let text = |link: LinkStatus| status(&Status { link: Some(link), ..sample() });
        let expected = "\nconfiguration server cs.example:443: connected for 2 h as mt01, last heartbeat 12 s ago\nretention";
        assert!(text(good.clone()).contains(expected), "{}", text(good));
        let bad = LinkStatus {
            connected_since: None,
            problem: Some("cs.example:443 refuses connections".into()),
            problem_since: Some(NOW - 60 * time::SECOND),
            clock_ahead_seconds: -90,
            ..good
        };
        let text = text(bad);
        assert!(
            text.contains(
                "not connected for 1 min, last heartbeat 12 s ago: cs.example:443 refuses connections\n"
            ),
            "{text}"
        );
        assert!(text.contains("clock is 1 min 30 s ahead of the configuration server's"), "{text}");
    }

    #[test]
    fn a_retention_volume_that_cannot_be_used_says_why() {
        let mut sample = sample();
        sample.retention.state = RetentionState::NotMounted;
        sample.retention.detail = Some("waiting for its disk /dev/mapper/36000c29a".into());
        let expected =
            "\nretention volume /mnt/retention: not mounted: waiting for its disk /dev/mapper/36000c29a\n";
        assert!(status(&sample).contains(expected), "{}", status(&sample));
    }

    #[test]
    fn no_items_is_said_in_words() {
        assert!(status(&Status { items: Vec::new(), ..sample() }).ends_with("no item is configured\n"));
        assert_eq!(points(&[]), "no recovery point matches\n");
        assert_eq!(test_failovers(&[], NOW), "no test failover is under way\n");
    }

    #[test]
    fn points_tell_bookmarks_apart() {
        let mut marked = point(9, 0);
        marked.bookmark =
            Some(Bookmark { name: "nightly".into(), application_consistent: true, group: None });
        marked.tested = Some(NOW - 3600 * time::SECOND);
        let text = points(&[marked, point(8, 60)]);
        assert!(text.lines().any(|line| line.contains("nightly") && line.contains("21:13:20")), "{text}");
        assert!(text.lines().any(|line| line.contains("nightly") && line.contains("application")), "{text}");
        assert!(text.lines().any(|line| line.contains("22:12:20") && line.contains("crash")), "{text}");
    }

    #[test]
    fn items_show_their_disks_and_how_they_were_opened() {
        let text = items(&[item()]);
        assert!(text.contains("/x/web01.vmdk") && text.contains("4 GiB"), "{text}");
        assert!(text.contains("web01: opened 2023-11-14T22:13:20.000Z: 1 batch undone"), "{text}");
    }
}
