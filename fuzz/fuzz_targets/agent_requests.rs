//! A registered host may send anything as a heartbeat, as a question for jobs, as a report and to a meeting: it is taken or
//! refused.
//!
//! The input changes parts of requests that would be taken: each change names one of their values and what takes its
//! place. So most of what is sent is understood, and gets as far as the store.

#![no_main]

use control_api::agent::{HEARTBEAT_PATH, JOBS_PATH, MEET_PATH, REPORT_PATH};
use fuzz::{SERVER, Sender, check, host};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// Changes of one request.
const MOST: usize = 6;

fuzz_target!(|input: &[u8]| {
    let Some((kind, mut rest)) = input.split_first() else { return };
    let (path, mut body) = match kind % 5 {
        0 | 1 => (HEARTBEAT_PATH, heartbeat()),
        2 => (JOBS_PATH, json!({"host": host(), "running": [], "wait_seconds": 0})),
        3 => (MEET_PATH, json!({"host": host(), "meeting": "0f".repeat(16), "at": {"stage": "held", "round": "0123abcd"}})),
        _ => (REPORT_PATH, report()),
    };
    for _ in 0..MOST {
        let Some(after) = change(&mut body, rest) else { break };
        rest = after;
    }
    // Nobody waits for jobs here.
    if body["wait_seconds"].as_u64().is_some_and(|seconds| seconds > 0) {
        body["wait_seconds"] = json!(0);
    }
    let body = body.to_string();
    let answer = SERVER.send(Sender::Host, "POST", path, &[("content-type", b"application/json")], body.as_bytes());
    check(&answer, path);
    if kind % 16 == 15 {
        // What is no JSON at all.
        check(&SERVER.send(Sender::Host, "POST", path, &[], rest), path);
    }
});

/// Replaces one value. The first byte chooses it, the second what takes its place, the third how long that is.
fn change<'a>(body: &mut Value, bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (&[place, kind, length], rest) = bytes.split_first_chunk::<3>()?;
    let (text, rest) = rest.split_at(rest.len().min(usize::from(length)));
    let pointers = pointers(body);
    let pointer = pointers[usize::from(place) % pointers.len()].clone();
    let text = String::from_utf8_lossy(text).into_owned();
    let there = body.pointer_mut(&pointer)?;
    *there = match kind % 14 {
        0 => Value::Null,
        1 => json!(u64::MAX),
        2 => json!(-1),
        3 => json!(1e300),
        4 => json!(text),
        5 => json!(text.repeat(usize::from(place) + 1)),
        6 => json!([]),
        7 => json!({}),
        8 => json!(vec![there.take(); usize::from(place) * 4]),
        9 => json!(text.bytes().fold(0u64, |number, byte| number << 8 | u64::from(byte))),
        10 => json!(true),
        11 => serde_json::from_str(&text).unwrap_or(Value::Null),
        12 => {
            if let Some(entries) = there.as_object_mut() {
                entries.insert(text, json!(1));
            }
            return Some(rest);
        }
        _ => {
            if let Some(entries) = there.as_object_mut() {
                let key = entries.keys().nth(usize::from(length) % entries.len().max(1)).cloned();
                key.and_then(|key| entries.remove(&key));
            }
            return Some(rest);
        }
    };
    Some(rest)
}

/// Where each value is.
fn pointers(value: &Value) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), vec![(String::new(), value)]);
    while let Some((pointer, value)) = open.pop() {
        match value {
            Value::Object(entries) => open.extend(entries.iter().map(|(key, value)| {
                (format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1")), value)
            })),
            Value::Array(entries) => {
                open.extend(entries.iter().enumerate().map(|(number, value)| (format!("{pointer}/{number}"), value)))
            }
            _ => {}
        }
        found.push(pointer);
    }
    found
}

const ALERT: &str = r#"{"kind": "rpo-exceeded", "since": 1790000000000000000, "message": "it is old"}"#;

fn point() -> Value {
    json!({"number": 17, "source_time": 1790000000000000000u64, "receive_time": 1790000000000000000u64,
           "bookmark": {"name": "a", "application_consistent": true, "group": "g"}, "journal_bytes": 5})
}

fn heartbeat() -> Value {
    let alert: Value = serde_json::from_str(ALERT).expect("an alert");
    json!({
        "host": host(), "time": 1790000000000000000u64,
        "health": {"started": 1, "uptime_seconds": 2, "processors": 4, "busy_percent": 12.5, "load": [0.1, 0.2, 0.3],
                   "memory_bytes": 1u64 << 34, "memory_used_bytes": 1u64 << 33},
        "disks": [{"name": "sda", "id": "36000c29", "size": 5, "paths": 2, "used_for": "free"}],
        "datastores": [{"folder": "/d", "file_system": "ext4", "capacity_bytes": 5, "available_bytes": 4}],
        "retention": {"folder": "/mnt/retention", "state": "ready", "detail": "d", "file_system": "f",
                      "capacity_bytes": 5, "available_bytes": 4, "journal_bytes_per_second": 3, "full_in_seconds": 9,
                      "needed_bytes": 1, "alerts": [alert]},
        "items": [{"status": {
            "name": "web01", "state": "resync", "detail": "d", "peer": "p",
            "progress": {"work": "resync", "done": 1, "total": 2}, "seconds_left": 9,
            "protected_until": 1790000000000000000u64, "newest_point": point(), "oldest_point": point(),
            "journal_bytes": 1, "journal_bytes_per_second": 1, "min_journal_bytes": 1, "max_journal_bytes": 2,
            "window_wanted": 86400000000000u64, "window_projected": 1, "received_bytes": 1, "bytes_per_second": 1,
            "disks": [{"id": "disk0", "target": "/dev/mapper/x", "size": 5}], "alerts": [alert],
            "start": {"time": 1, "recovered": true, "summary": "s"}}, "points": [point(), point()]}],
        "protection": null,
    })
}

fn report() -> Value {
    json!({"host": host(), "report": {
        "id": "0123456789abcdef0123456789abcdef", "state": "running", "started": 1, "ended": 2,
        "steps": [{"name": "n", "state": "done", "detail": "d", "started": 1, "ended": 2}],
        "progress": {"work": "export", "done": 1, "total": null}, "seconds_left": 3, "can_cancel": true,
        "outcome": "o", "failure": {"object": "o", "what": "w", "why": "y", "next": "n"}}})
}
