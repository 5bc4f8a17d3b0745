//! What becomes of hosts that register, come back, are copied, renew and go.

use crate::support::{ConfigurationServer, command, folder, host};
use control_api::ErrorCode;
use control_api::registration::{Host, HostKind};
use registration::{Error, IDENTITY, Identity, KEY_FILE, renew, unregister};
use std::fs;
use std::path::Path;

fn code(error: Error) -> ErrorCode {
    match error {
        Error::Refused(refused) => refused.code,
        other => panic!("{other}"),
    }
}

/// What a copy of a machine's disk has.
fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status();
    assert!(status.unwrap().success());
}

#[test]
fn a_machine_registers_and_comes_back_as_the_same_host() {
    let (state, machine) = (folder(), folder());
    let cs = ConfigurationServer::start(state.path());
    let first = cs.register(&host(1, 1), machine.path()).unwrap();
    assert!(!first.known);
    // Installed anew, but it still has its key.
    let again = cs.register(&host(1, 2), machine.path()).unwrap();
    assert!(again.known && again.registration.host_id == first.registration.host_id);
    // The same installation, but the key was lost.
    let lost = folder();
    let third = cs.register(&host(1, 2), lost.path()).unwrap();
    assert_eq!(third.registration.host_id, first.registration.host_id);
    let hosts = cs.hosts();
    assert_eq!((hosts.len(), hosts[0]["name"].as_str()), (1, Some("mt01.example")));
    assert_eq!(cs.outcomes(), ["registered again", "registered again", "registered"]);
    // One machine may be a source agent as well.
    let agent = Host { kind: HostKind::SourceAgent, ..host(1, 2) };
    assert!(!cs.register(&agent, folder().path()).unwrap().known);
    assert_eq!(cs.hosts().len(), 2);
}

#[test]
fn a_machine_with_the_same_hardware_id_is_refused_until_the_old_one_is_revoked() {
    let (state, machine, other) = (folder(), folder(), folder());
    let cs = ConfigurationServer::start(state.path());
    let first = cs.register(&host(1, 1), machine.path()).unwrap();
    let refused = cs.register(&host(1, 2), other.path()).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("mt-configserver revoke mt01.example") && text.contains("uuid.bios"), "{text}");
    assert_eq!(code(refused), ErrorCode::Clone);
    assert_eq!(cs.outcomes()[0], "refused");
    // The host that is registered does not notice.
    renew(machine.path(), host(1, 1)).unwrap();
    cs.revoke("mt01.example");
    let second = cs.register(&host(1, 2), other.path()).unwrap();
    assert!(second.known && second.registration.host_id == first.registration.host_id);
    // What was revoked stays so, although the host is back.
    assert_eq!(code(renew(machine.path(), host(1, 1)).unwrap_err()), ErrorCode::NotRegistered);
}

#[test]
fn a_copy_of_a_disk_is_refused_and_cannot_end_the_originals_registration() {
    let (state, machine, copied) = (folder(), folder(), folder());
    let cs = ConfigurationServer::start(state.path());
    cs.register(&host(1, 1), machine.path()).unwrap();
    copy(machine.path(), copied.path());
    let clone = Host { name: "mt02.example".into(), ..host(2, 1) };
    let refused = cs.register(&clone, copied.path()).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("it holds the certificate of master target mt01.example"), "{text}");
    assert_eq!(code(refused), ErrorCode::Clone);
    assert_eq!(code(renew(copied.path(), clone.clone()).unwrap_err()), ErrorCode::Clone);
    let left = unregister(copied.path(), clone.clone()).unwrap();
    assert_eq!(code(left.not_told.unwrap()), ErrorCode::Clone);
    renew(machine.path(), host(1, 1)).unwrap();
    // Without the copied key it is a machine of its own.
    assert!(!cs.register(&clone, copied.path()).unwrap().known);
}

#[test]
fn a_name_belongs_to_one_machine() {
    let state = folder();
    let cs = ConfigurationServer::start(state.path());
    cs.register(&host(1, 1), folder().path()).unwrap();
    let other = Host { name: "MT01.example".into(), kind: HostKind::SourceAgent, ..host(2, 2) };
    let refused = cs.register(&other, folder().path()).unwrap_err();
    assert!(refused.to_string().contains("--name"), "{refused}");
    assert_eq!(code(refused), ErrorCode::NameTaken);
}

#[test]
fn a_certificate_is_renewed_with_a_new_key() {
    let (state, machine) = (folder(), folder());
    let cs = ConfigurationServer::start(state.path());
    let first = cs.register(&host(1, 1), machine.path()).unwrap().registration;
    let key = || fs::read(machine.path().join(IDENTITY).join(KEY_FILE)).unwrap();
    let old_key = key();
    let renewed = renew(machine.path(), host(1, 1)).unwrap();
    assert!(renewed.valid_until > first.valid_until && key() != old_key);
    assert_eq!((&renewed.host_id, &renewed.authority), (&first.host_id, &first.authority));
    renew(machine.path(), host(1, 1)).unwrap();
    assert_eq!(cs.outcomes()[..2], ["renewed", "renewed"]);
}

#[test]
fn a_registration_ends_with_and_without_the_configuration_server() {
    let (state, machine) = (folder(), folder());
    let cs = ConfigurationServer::start(state.path());
    cs.register(&host(1, 1), machine.path()).unwrap();
    let left = unregister(machine.path(), host(1, 1)).unwrap();
    assert!(left.not_told.is_none(), "{:?}", left.not_told);
    assert!(Identity::open(machine.path()).unwrap().is_none());
    assert!(!cs.hosts()[0]["revoked"].is_null());
    assert!(matches!(unregister(machine.path(), host(1, 1)), Err(Error::NotRegistered { .. })));
    cs.register(&host(1, 1), machine.path()).unwrap();
    drop(cs);
    let left = unregister(machine.path(), host(1, 1)).unwrap();
    let why = left.not_told.unwrap().to_string();
    assert!(why.contains("refuses connections"), "{why}");
    assert!(Identity::open(machine.path()).unwrap().is_none());
    assert_eq!(fs::read_dir(machine.path()).unwrap().count(), 0);
}

#[test]
fn a_damaged_identity_can_be_given_up_and_replaced() {
    let (state, machine) = (folder(), folder());
    let cs = ConfigurationServer::start(state.path());
    for round in 0..2 {
        cs.register(&host(1, 1), machine.path()).unwrap();
        fs::write(machine.path().join(IDENTITY).join("ca.pem"), "").unwrap();
        if round == 0 {
            cs.register(&host(1, 1), machine.path()).unwrap();
            assert!(Identity::open(machine.path()).unwrap().is_some());
        } else {
            let left = unregister(machine.path(), host(1, 1)).unwrap();
            assert!(matches!(left.not_told, Some(Error::Damaged { .. })));
        }
    }
    assert!(Identity::open(machine.path()).unwrap().is_none());
}

#[test]
fn a_new_passphrase_leaves_registered_hosts_alone() {
    let (state, machine) = (folder(), folder());
    let cs = ConfigurationServer::start(state.path());
    cs.register(&host(1, 1), machine.path()).unwrap();
    let old = cs.passphrase();
    let output = command(state.path(), &["passphrase", "rotate"]).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(shown.trim(), cs.passphrase().reveal());
    let refused = crate::support::register(&cs.server, &old, &host(2, 2), folder().path());
    assert!(matches!(refused, Err(Error::NotProved { .. })));
    cs.register(&host(2, 2), folder().path()).unwrap();
    renew(machine.path(), host(1, 1)).unwrap();
}
