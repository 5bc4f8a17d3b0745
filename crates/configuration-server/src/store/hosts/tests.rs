use super::*;
use crate::store::testing::{NOW, register, store};
use control_api::time::SECOND;

const DAY: u64 = 86_400 * SECOND;

#[test]
fn a_host_is_found_by_its_id() {
    let (_folder, connection) = store();
    let known = register(&connection, HostKind::MasterTarget, 1);
    assert_eq!(by_uuid(&connection, &known.id).unwrap(), Some(known.clone()));
    assert_eq!(by_uuid(&connection, "x").unwrap(), None);
    set_version(&connection, known.row, "9.4.1").unwrap();
    assert_eq!(by_uuid(&connection, &known.id).unwrap().unwrap().version, "9.4.1");
}

#[test]
fn certificates_of_source_agents_that_were_revoked_are_told_until_they_expire() {
    let (_folder, connection) = store();
    let (target, agent) =
        (register(&connection, HostKind::MasterTarget, 1), register(&connection, HostKind::SourceAgent, 2));
    assert!(revoked(&connection, NOW).unwrap().is_empty());
    revoke(&connection, &target, NOW).unwrap();
    revoke(&connection, &agent, NOW).unwrap();
    assert_eq!(revoked(&connection, NOW).unwrap(), [Hex(vec![b'b', 2, 1])]);
    // What was revoked stays so when the host is back.
    let back = register(&connection, HostKind::SourceAgent, 2);
    assert!(back.is_live(NOW) && back.row == agent.row);
    assert_eq!(revoked(&connection, NOW + 89 * DAY).unwrap(), [Hex(vec![b'b', 2, 1])]);
    let holds = |number| of_certificate(&connection, &[b'b', 2, number]).unwrap().unwrap().is_live(NOW);
    assert!(!holds(1) && holds(2));
    assert!(revoked(&connection, NOW + 90 * DAY).unwrap().is_empty());
}

#[test]
fn the_list_of_revoked_certificates_is_bounded() {
    let (_folder, connection) = store();
    let agent = register(&connection, HostKind::SourceAgent, 1);
    for number in 0..MAX_REVOKED + 5 {
        connection
            .execute(
                "INSERT INTO certificate (host, serial, fingerprint, public_key, issued, valid_until, revoked) \
                 VALUES (?, ?, ?, x'04', 0, ?, ?)",
                params![agent.row, format!("s{number}"), number.to_be_bytes(), NOW + DAY, number],
            )
            .unwrap();
    }
    let told = revoked(&connection, NOW).unwrap();
    assert_eq!(told.len(), MAX_REVOKED as usize);
    assert_eq!(told[0], Hex((MAX_REVOKED + 4).to_be_bytes().to_vec()));
}
