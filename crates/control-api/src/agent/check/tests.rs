use super::*;
use crate::agent::tests::example;
use crate::agent::{JobState, ProtectedDisk, StepState};
use crate::point::Bookmark;
use crate::status::AlertKind;

fn told(name: &str) -> ItemReport {
    let mut item = example().items.remove(0);
    item.status.name = name.into();
    item
}

fn target(change: impl FnOnce(&mut Heartbeat)) -> Checked {
    let mut beat = Heartbeat { items: vec![told("web01"), told("db01")], ..example() };
    change(&mut beat);
    beat.check()
}

fn host_disk(name: &str) -> HostDisk {
    HostDisk { name: name.into(), id: None, size: 1, paths: 1, used_for: String::new() }
}

#[track_caller]
fn refused(outcome: Checked, part: &str) {
    let why = outcome.unwrap_err();
    assert!(why.contains(part), "{why}");
}

#[test]
fn every_length_and_count_of_a_heartbeat_is_bounded() {
    target(|_| {}).unwrap();
    target(|beat| beat.disks = vec![host_disk("sda"); MAX_DISKS]).unwrap();
    refused(
        target(|beat| beat.disks = vec![host_disk("sda"); MAX_DISKS + 1]),
        "disks: 257 are more than the 256",
    );
    refused(
        target(|beat| beat.disks = vec![host_disk("sda"), host_disk("")]),
        "disks: number 2: name must have",
    );
    let many = |beat: &mut Heartbeat| beat.items = vec![told("web01"); MAX_ITEMS + 1];
    refused(target(many), "items: 513 are more");
    refused(target(|beat| beat.items[1].status.name = "web01".into()), "web01 is there twice");
    refused(target(|beat| beat.items[1].status.name = "a\nb".into()), "items: number 2: name");
    refused(target(|beat| beat.items[0].status.name = "x".repeat(256)), "name must have from 1 to 255");
    let long = || "x".repeat(MAX_TEXT + 1);
    refused(
        target(|beat| beat.items[0].status.detail = Some(long())),
        "web01: detail is longer than 4096 bytes",
    );
    let alert = |message: String| Alert { kind: AlertKind::Fenced, since: 1, message };
    refused(target(|beat| beat.items[0].status.alerts = vec![alert(long())]), "alerts: number 1: message");
    refused(
        target(|beat| beat.items[0].status.alerts = vec![alert(String::new()); MAX_ALERTS + 1]),
        "alerts: 33",
    );
    let disk = DiskStatus { id: "0".into(), target: long(), size: 1 };
    refused(target(|beat| beat.items[0].status.disks = vec![disk.clone()]), "target is longer");
    let point = |name: String| Point {
        number: 1,
        source_time: 1,
        receive_time: 1,
        bookmark: Some(Bookmark { name, application_consistent: false, group: None }),
        tested: None,
        journal_bytes: 0,
    };
    refused(target(|beat| beat.items[0].points = Some(vec![point(long())])), "points: number 1: bookmark");
    refused(
        target(|beat| beat.items[0].points = Some(vec![point(String::new()); ItemReport::MAX_POINTS + 1])),
        "points: 101",
    );
    refused(target(|beat| beat.items[0].status.newest_point = Some(point(long()))), "bookmark is longer");
    refused(target(|beat| beat.health.load[1] = f64::INFINITY), "health");
    refused(target(|beat| beat.health.busy_percent = -1.0), "health");
    let datastore =
        Datastore { folder: long(), file_system: "ext4".into(), capacity_bytes: None, available_bytes: None };
    refused(target(|beat| beat.datastores = vec![datastore.clone()]), "datastores: number 1: folder");
}

#[test]
fn each_kind_of_host_tells_what_it_has() {
    let protection = || Protection {
        item: "web01".into(),
        target: "10.0.0.5:9443".into(),
        disks: vec![ProtectedDisk { id: "system".into(), size: 1 }],
        state: "sending".into(),
        ..Protection::default()
    };
    refused(target(|beat| beat.protection = Some(protection())), "only a source agent");
    refused(target(|beat| beat.host.kind = HostKind::SourceAgent), "only a master target");
    let relay = |beat: &mut Heartbeat| {
        beat.host.kind = HostKind::ProcessServer;
        beat.items.clear();
        beat.retention = None;
    };
    target(relay).unwrap();
    let relay_with = target(|beat| {
        relay(beat);
        beat.protection = Some(protection());
    });
    refused(relay_with, "only a source agent");
    refused(target(|beat| beat.host.kind = HostKind::ProcessServer), "only a master target");
    let agent = |beat: &mut Heartbeat| {
        beat.host.kind = HostKind::SourceAgent;
        beat.items.clear();
        beat.retention = None;
        beat.protection = Some(protection());
    };
    target(agent).unwrap();
    let with = |change: fn(&mut Protection)| {
        target(|beat| {
            agent(beat);
            beat.protection.iter_mut().for_each(change);
        })
    };
    with(|protection| (protection.item, protection.target) = Default::default()).unwrap();
    refused(with(|protection| protection.item.clear()), "protection: item and target");
    refused(with(|protection| protection.disks[0].id.clear()), "disks: number 1: id must have");
    refused(
        with(|protection| protection.disks = vec![protection.disks[0].clone(); 65]),
        "disks: 65 are more",
    );
}

#[test]
fn reports_and_requests_of_jobs_are_bounded() {
    let host = example().host;
    let ask = |running| JobsRequest { host: host.clone(), running, wait_seconds: 1 }.check();
    ask(vec!["0".repeat(32); MAX_RUNNING]).unwrap();
    refused(ask(vec!["0".repeat(32); MAX_RUNNING + 1]), "running: 257");
    refused(ask(vec!["0".repeat(31)]), "32 hexadecimal digits");
    refused(ask(vec!["G".repeat(32)]), "32 hexadecimal digits");
    let one =
        JobStep { name: "look".into(), state: StepState::Done, detail: None, started: None, ended: None };
    let good = JobReport {
        id: "0".repeat(32),
        state: JobState::Running,
        started: 1,
        ended: None,
        steps: vec![one.clone(); JobReport::MAX_STEPS],
        progress: None,
        seconds_left: None,
        can_cancel: true,
        outcome: None,
        failure: None,
    };
    good.check().unwrap();
    refused(
        JobReport { steps: vec![one.clone(); JobReport::MAX_STEPS + 1], ..good.clone() }.check(),
        "steps: 101",
    );
    let nameless = JobStep { name: String::new(), ..one };
    refused(JobReport { steps: vec![nameless], ..good.clone() }.check(), "steps: number 1: name");
    let long = || "x".repeat(MAX_TEXT + 1);
    refused(JobReport { outcome: Some(long()), ..good.clone() }.check(), "outcome");
    let failure = Failure::new("a", "b", long(), "c");
    refused(JobReport { failure: Some(failure), ..good }.check(), "failure: why");
}

#[test]
fn only_what_is_an_id_names_a_file() {
    assert!(is_job_id("0123456789abcdef0123456789abcdef"));
    for id in ["", "..", "0123456789ABCDEF0123456789abcdef", "../../../../../../../../etc/passw", "0"] {
        assert!(!is_job_id(id), "{id}");
    }
}
