//! The REST API held against the document that describes it.
//!
//! schemathesis reads the document, makes requests that go by it and requests that do not, and looks at each answer:
//! whether its status, its headers and its body are as described, whether what is wrong is refused and what is right is
//! not, and whether anybody gets in without a token. Before it sees the document, each object of it is closed, so an
//! answer with a field that is not described is found as well.

use crate::program::{AUTHORITY, Program, add_user};
use crate::support::{ConfigurationServer, folder, host};
use configuration_server::Environment;
use control_api::registration::{Host, HostKind};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const SEED: u32 = 20_261_126;
/// A reader is refused most of it, so little is tried: that the server never fails, and answers as described.
const READER: [&str; 6] = [
    "--phases",
    "examples,fuzzing",
    "--max-examples",
    "5",
    "--checks",
    "not_a_server_error,status_code_conformance,response_schema_conformance,ignored_auth",
];
const ADMINISTRATOR: [&str; 4] = ["--max-examples", "5", "--checks", "all"];
const PYTHON: &str = include_str!("../schemathesis-requirements.txt");
const CONFIGURATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis.toml");

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}

/// Where `cargo xtask setup` has installed schemathesis: beside the folder that this program was built in.
fn schemathesis() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let folder = program.ancestors().nth(3).unwrap().join("schemathesis");
    let installed = fs::read_to_string(folder.join("installed.txt")).unwrap_or_default();
    assert!(
        installed.ends_with(PYTHON),
        "{} is missing or of another version: run cargo xtask setup",
        folder.display()
    );
    folder
}

fn status(name: &str, state: &str) -> Value {
    let now = now();
    let point = json!({"number": 417, "source_time": now, "receive_time": now, "journal_bytes": 4096,
        "bookmark": {"name": "nightly", "application_consistent": true}});
    json!({
        "name": name, "state": state, "detail": "as it should be", "peer": "10.0.0.9:40000",
        "progress": {"work": "initial-sync", "done": 1 << 20, "total": 1 << 30}, "seconds_left": 60,
        "protected_until": now, "newest_point": point, "oldest_point": point, "holds_point": 417, "journal_bytes": 4096,
        "journal_bytes_per_second": 100, "min_journal_bytes": 1 << 26, "max_journal_bytes": 1 << 30,
        "window_wanted": 86_400_000_000_000u64, "window_projected": 86_400_000_000_000u64,
        "received_bytes": 1 << 20, "bytes_per_second": 100,
        "disks": [{"id": "disk0", "target": "/replicas/web01.vmdk", "size": 1 << 30}],
        "alerts": [{"kind": "rpo-exceeded", "since": now, "message": "look at the source"}],
        "start": {"time": now, "recovered": true, "summary": "it was completed"}
    })
}

fn heartbeat(host: &Host, items: &[&str]) -> Value {
    let now = now();
    let point = json!({"number": 417, "source_time": now, "receive_time": now, "journal_bytes": 4096,
        "bookmark": {"name": "nightly", "application_consistent": true, "group": "shop"}});
    let mut heartbeat = json!({
        "host": host, "time": now,
        "health": {"started": now, "uptime_seconds": 60, "processors": 2, "busy_percent": 12.5,
            "load": [0.5, 0.25, 0.125], "memory_bytes": 1u64 << 32, "memory_used_bytes": 1 << 30},
        "disks": [{"name": "sdb", "id": "36000c290", "size": 1u64 << 40, "paths": 2, "used_for": "retention volume"}],
        "datastores": [{"folder": "/replicas", "file_system": "ext4", "capacity_bytes": 1u64 << 40}],
        "items": items.iter().map(|name| json!({"status": status(name, "protected"), "points": [point]}))
            .collect::<Vec<_>>(),
    });
    match host.kind {
        HostKind::MasterTarget => {
            heartbeat["retention"] = json!({"folder": "/mnt/retention", "state": "ready", "capacity_bytes": 1u64 << 40,
                "available_bytes": null, "journal_bytes_per_second": 100, "full_in_seconds": 4000, "alerts": []});
        }
        _ => {
            let protects = host.name.starts_with("mt02");
            heartbeat["protection"] = json!({"item": if protects { "web01" } else { "" },
                "target": if protects { "10.0.0.5:9443" } else { "" }, "state": "serving",
                "disks": [{"id": "disk0", "size": 1 << 30}, {"id": "disk1", "size": 1 << 30}],
                "backlog_bytes": 0, "bytes_per_second": 100, "alerts": []});
        }
    }
    heartbeat
}

/// What a site has: hosts of both kinds that tell of themselves, one that never did and one that is revoked, items,
/// policies, groups, jobs. Gives the ids of a master target, a source agent, and one that protects nothing.
fn furnish(cs: &ConfigurationServer, machines: &Path) -> (String, String, String) {
    let administrator = Program::of_user(cs, "ann");
    let mut ids = Vec::new();
    for number in 1..=6 {
        let kind = if number % 2 == 1 { HostKind::MasterTarget } else { HostKind::SourceAgent };
        let host = Host { kind, ..host(number, number) };
        let machine = machines.join(&host.name);
        ids.push(cs.register(&host, &machine).unwrap().registration.host_id);
        if number <= 4 {
            let items: &[&str] =
                if kind == HostKind::MasterTarget { &["web01", "db01", "db02"] } else { &[] };
            let body = heartbeat(&host, items);
            Program::of_host(cs, &machine).ask("POST", "/api/v1/agent/heartbeat", Some(&body));
        }
    }
    let revoked = administrator.send("DELETE", &format!("/api/v1/hosts/{}", ids[5]), None);
    assert_eq!(revoked.0, 204);
    let gold = json!({"name": "Gold", "window_seconds": 172_800, "rpo_threshold_seconds": 300,
        "application_consistent_every_seconds": null});
    let gold = administrator.ask("POST", "/api/v1/policies", Some(&gold));
    let shop = administrator.ask("POST", "/api/v1/groups", Some(&json!({"name": "Shop"})));
    let items = administrator.ask("GET", &format!("/api/v1/items?host={}", ids[0]), None);
    assert_eq!(items["total"], 3);
    let change = json!({"policy": gold["id"], "group": shop["id"]});
    administrator.ask("PATCH", &format!("/api/v1/items/{}", items["entries"][0]["id"]), Some(&change));
    // Two that share the point which both tell of.
    let change = json!({"group": shop["id"]});
    administrator.ask("PATCH", &format!("/api/v1/items/{}", items["entries"][1]["id"]), Some(&change));
    let shared = administrator.ask("GET", &format!("/api/v1/groups/{}/points", shop["id"]), None);
    assert_eq!((&shared["total"], &shared["entries"][0]["name"]), (&json!(1), &json!("nightly")));
    for job in [json!({"kind": "check"}), json!({"kind": "resync", "item": "web01"})] {
        let order = json!({"host": ids[0], "job": job});
        let ordered = administrator.ask("POST", "/api/v1/jobs", Some(&order));
        assert_eq!(ordered["state"], "queued");
    }
    (ids[0].clone(), ids[1].clone(), ids[3].clone())
}

/// Closes each object that says which fields it has.
fn close(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.contains_key("properties") && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".into(), false.into());
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(values) => values.iter_mut().for_each(close),
        _ => {}
    }
}

/// An item that no master target has yet.
fn new_item() -> Value {
    let new = json!({"kind": "new", "folder": "/vmfs/web03", "format": "vmfs-thin", "adapter": "lsilogic"});
    json!({
        "name": "web03",
        "source": "web03.example",
        "policy": {"window_seconds": 86400, "rpo_threshold_seconds": 900},
        "disks": [
            {"id": "disk0", "size": 1 << 30, "target": {"kind": "existing", "target": "/vmfs/web03.vmdk"}},
            {"id": "disk1", "size": 1 << 30, "target": new}
        ]
    })
}

/// The document as the server tells it, with every object closed, and orders that this site can carry out.
fn document(cs: &ConfigurationServer, target: &str, source: &str, free: &str) -> Value {
    let mut document = Program::of_user(cs, "bob").ask("GET", "/api/v1/openapi.json", None);
    close(&mut document);
    let orders = [
        (target, json!({"kind": "check"})),
        (target, json!({"kind": "resync", "item": "web01"})),
        (target, json!({"kind": "resume", "item": "db01"})),
        (target, json!({"kind": "test-failover-start", "item": "db02", "point": "latest"})),
        (target, json!({"kind": "test-failover-stop", "item": "db02", "id": 7})),
        (target, json!({"kind": "failover", "item": "db02", "point": "417"})),
        (target, json!({"kind": "cancel-failover", "item": "db02"})),
        (target, json!({"kind": "commit", "item": "db02"})),
        (target, json!({"kind": "protect", "item": new_item()})),
        (target, json!({"kind": "release", "item": "db02"})),
        (source, json!({"kind": "bookmark", "name": "before the upgrade", "application_consistent": false})),
        (source, json!({"kind": "replicate", "item": "web03", "target": "mt01.example:9443"})),
        (source, json!({"kind": "quiesce", "bookmark": "the last"})),
        (source, json!({"kind": "unquiesce"})),
        (source, json!({"kind": "stop-replicating"})),
    ];
    let examples = orders.iter().enumerate().map(|(number, (host, job))| {
        (format!("order{number}"), json!({"value": {"host": host, "job": job}}))
    });
    let content =
        &mut document["paths"]["/api/v1/jobs"]["post"]["requestBody"]["content"]["application/json"];
    content["examples"] = Value::Object(examples.collect());
    // One item has a source; the others have none at hand, which is refused.
    let items = Program::of_user(cs, "bob").ask("GET", &format!("/api/v1/items?host={target}"), None);
    let item = |number: usize| items["entries"][number]["id"].clone();
    let groups = Program::of_user(cs, "bob").ask("GET", "/api/v1/groups", None);
    let group = groups["entries"][0]["id"].clone();
    let workflows = [
        json!({"workflow": "group-failover", "group": group, "bookmark": "nightly"}),
        json!({"workflow": "group-bookmark", "group": group, "name": "weekly", "application_consistent": true}),
        json!({"workflow": "group-planned-failover", "group": group}),
        json!({"workflow": "group-cancel-failover", "group": group}),
        json!({"workflow": "group-commit", "group": group}),
        json!({"workflow": "planned-failover", "item": item(2)}),
        json!({"workflow": "commit", "item": item(2)}),
        json!({"workflow": "cancel-failover", "item": item(1)}),
        json!({"workflow": "reprotect", "source": free, "target": target, "name": "web04", "policy": 1,
            "disks": new_item()["disks"].as_array().unwrap().iter()
                .map(|disk| json!({"id": disk["id"], "target": disk["target"]})).collect::<Vec<_>>()}),
    ];
    let examples = workflows.iter().enumerate();
    let examples = examples.map(|(number, body)| (format!("workflow{number}"), json!({"value": body})));
    let content =
        &mut document["paths"]["/api/v1/workflows"]["post"]["requestBody"]["content"]["application/json"];
    content["examples"] = Value::Object(examples.collect());
    let jobs = Program::of_user(cs, "bob").ask("GET", "/api/v1/jobs", None);
    let job = |number: usize| jobs["entries"][number]["id"].clone();
    for (method, path, id) in [
        ("get", "/api/v1/jobs/{id}", job(0)),
        ("post", "/api/v1/jobs/{id}/cancel", job(1)),
        ("get", "/api/v1/hosts/{id}", json!(target)),
    ] {
        let mut parameter = document["components"]["parameters"]["HexId"].clone();
        parameter["example"] = id;
        document["paths"][path][method]["parameters"] = json!([parameter]);
    }
    document
}

/// Has schemathesis try everything with a token; what it finds is a failure of the test.
fn try_everything(cs: &ConfigurationServer, document: &Path, token: &str, more: &[&str]) {
    let installed = schemathesis();
    let mut command = Command::new("python3");
    command.arg(installed.join("bin/schemathesis")).env("PYTHONPATH", &installed);
    command.args(["--config-file", CONFIGURATION, "run"]).arg(document).args(["--url", &cs.url()]);
    command.arg("--tls-verify").arg(cs.state.join(AUTHORITY));
    command.args(["--header", &format!("Authorization: Bearer {token}"), "--seed", &SEED.to_string()]);
    // It may think longer about what to try next than the server keeps a connection that says nothing, and takes it for a
    // finding when one is closed as it says something.
    command.args(["--header", "Connection: close", "--request-retries", "3"]);
    command.args(["--no-color", "--warnings", "off"]).args(more);
    command.current_dir(document.parent().unwrap());
    println!("schemathesis, seed {SEED}");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "schemathesis, seed {SEED}:\n{said}\n{complaint}");
    println!("{said}");
    // It must have been let in: with a token that counts no more, everything would be refused as described.
    assert!(said.contains("Test cases:"), "{said}");
}

#[test]
fn schemathesis_finds_nothing() {
    let (state, machines, site) = (folder(), folder(), folder());
    let names = "names = [\"127.0.0.1\"]\n";
    let cs = ConfigurationServer::configured(state.path(), 0, Environment::host(), names);
    add_user(&cs, "ann", "administrator");
    add_user(&cs, "bob", "reader");
    let (target, source, free) = furnish(&cs, machines.path());
    let file = site.path().join("openapi.json");
    fs::write(&file, document(&cs, &target, &source, &free).to_string()).unwrap();
    let (administrator, reader) = (Program::of_user(&cs, "ann"), Program::of_user(&cs, "bob"));
    // A reader changes nothing, so everything is still there for the administrator afterwards.
    let before = administrator.ask("GET", "/api/v1/overview", None);
    try_everything(&cs, &file, reader.token(), &READER);
    let after = administrator.ask("GET", "/api/v1/overview", None);
    for part in ["master_targets", "source_agents", "items", "jobs"] {
        assert_eq!(before[part], after[part], "a reader changed {part}");
    }
    reader.ask("GET", "/api/v1/session", None);
    try_everything(&cs, &file, administrator.token(), &ADMINISTRATOR);
    administrator.ask("GET", "/api/v1/session", None);
}
