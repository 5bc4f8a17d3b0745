//! docs/checks.md, made of the checks themselves, so that it is complete.
//!
//! `UPDATE_DOCS=1 cargo test -p daemon --lib preflight::page` writes it anew.

use super::{Severity, all, find};
use std::fmt::Write;
use std::path::Path;

/// The symptoms of the old product, from docs of those who suffered them, and the checks that look for their causes.
/// One that no check of this machine can see has the reason instead.
const SYMPTOMS: [(&str, &[&str], &str); 17] = [
    ("(35) SSL connect error at registration", &["proxy", "configuration-server"], ""),
    ("(7) could not connect", &["configuration-server"], ""),
    (
        "(60) peer certificate cannot be authenticated",
        &["cs-certificate", "clock-skew", "clock-synchronised", "configuration-server"],
        "",
    ),
    ("\"No valid IP address found\"", &["ipv4-address", "hosts-file", "adapters-at-boot"], ""),
    ("reprotect succeeds, replication fails", &["version"], ""),
    (
        "retention drive not listed",
        &["retention-disk", "retention-mounted", "retention-eligible", "retention-fstab", "multipath-disks"],
        "",
    ),
    ("datastore list empty", &["vmware-tools", "packages"], "rights in vCenter are seen in vCenter only"),
    ("95226: VM not able to reach the configuration server", &["configuration-server", "service"], ""),
    (
        "78052, 78093, 8061, 8038: duplicate name, source hung, datastore unreachable, host memory short",
        &["memory"],
        "the others are seen by the configuration server and by vCenter only",
    ),
    ("an extra disk appears and holds the data", &["scsi-ids"], ""),
    ("reprotect fails for machines made of templates", &["duplicate-scsi-ids"], ""),
    ("reprotect fails", &["snapshots", "controllers", "disk-count"], ""),
    (
        "detach fails, disks not found",
        &["storage-vmotion", "lvm-filter", "raid-assembly", "multipath-disks"],
        "",
    ),
    (
        "the master target misbehaves or will not install",
        &[
            "operating-system",
            "kernel",
            "kernel-pinned",
            "automatic-updates",
            "root-not-on-lvm",
            "installation",
            "vmware-vm",
            "cores",
            "memory",
            "system-disk",
            "state-folders",
            "configuration",
        ],
        "",
    ),
    (
        "\"agent is not installed\"",
        &["service"],
        "the wait for the next registration is shown by mtctl status",
    ),
    ("a process server shows a heartbeat, and nothing arrives", &["process-server"], ""),
    (
        "the machine does not start, or a disk's name has changed after a restart",
        &["retention-fstab", "multipath-root-disk", "multipath-running", "multipath-paths"],
        "",
    ),
];

fn page() -> String {
    let mut text = String::from(INTRODUCTION);
    text.push_str("## The checks\n\n| id | when broken | rule | `--fix` |\n|---|---|---|---|\n");
    for check in all() {
        let severity = match check.severity {
            Severity::Failure => "failure",
            Severity::Warning => "warning",
        };
        let fix = if check.fixable() { "yes" } else { "" };
        let _ = writeln!(text, "| `{}` | {severity} | {} | {fix} |", check.id, check.needed);
    }
    text.push_str("\n## Symptoms of the old product, and the checks that look for their causes\n\n");
    text.push_str("| symptom | checks | not seen from here |\n|---|---|---|\n");
    for (symptom, ids, unseen) in SYMPTOMS {
        let ids: Vec<String> = ids.iter().map(|id| format!("`{id}`")).collect();
        let _ = writeln!(text, "| {symptom} | {} | {unseen} |", ids.join(", "));
    }
    text.push_str("\n## Why\n");
    for check in all() {
        let _ = write!(text, "\n### {} (`{}`)\n\n{}\n", check.title, check.id, check.why);
    }
    text
}

const INTRODUCTION: &str = "\
# Checks of a master target

`mtctl check` looks whether a machine is ready to be a master target. It changes nothing, needs no daemon, and ends
with status 3 when a check fails. This page is made of the checks themselves
(`UPDATE_DOCS=1 cargo test -p daemon --lib preflight::page`).

- `--only ID` looks at some of it, `--explain ID` tells why there is a rule, `--json` is for programs:
  `{\"checks\":[{\"id\",\"title\",\"verdict\",\"found\",\"needed\",\"remedy\",\"fixable\"}],\"failed\":n,\"warnings\":n}` with the verdicts
  `passed`, `failed`, `warning` and `cannot-tell`. Ids and verdicts never change.
- `cannot-tell` says why: a file that is missing or rubbish, a program that hangs, a server that is not known yet. It is
  no failure.
- `--cs ADDRESS[:PORT]` asks a configuration server before this machine is registered with it. The question is
  `GET /api/v1/version`, unverified, and nothing secret is sent.
- `--fix` mends what can be mended without a restart, each after a question (`--yes` answers). Every change is written
  into `/var/lib/master-target/fixes.json` before it is made, so `--undo` takes back each one, the last first, also
  after a crash. Packages that were installed stay.
- `--attest ID --by NAME` answers what a virtual machine cannot see of itself. The answer is kept in
  `/var/lib/master-target/attestations.json` and holds for 30 days.
- The kernels that are supported stand in `crates/daemon/src/preflight/kernels.toml`.

";

#[test]
fn the_page_is_complete() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/checks.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page(), "docs/checks.md is not up to date: see the first lines of preflight/page.rs");
}

#[test]
fn every_check_looks_for_the_cause_of_a_symptom() {
    for (symptom, ids, unseen) in SYMPTOMS {
        assert!(!ids.is_empty() || !unseen.is_empty(), "{symptom}");
        ids.iter().for_each(|id| assert!(find(id).is_ok(), "{id}"));
    }
    for check in all() {
        assert!(SYMPTOMS.iter().any(|(_, ids, _)| ids.contains(&check.id)), "{}", check.id);
    }
}

#[test]
fn every_check_is_explained_in_sentences() {
    for check in all() {
        assert!(check.why.ends_with(['.', ')', '"']) && check.why.len() > 80, "{}", check.id);
        let kebab =
            check.id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        assert!(kebab && !check.needed.ends_with('.') && !check.title.is_empty(), "{}", check.id);
    }
    assert_eq!(find("kernal").unwrap_err(), "there is no check \"kernal\": did you mean kernel?");
}
