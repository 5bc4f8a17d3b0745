use super::*;
use crate::store::items;
use crate::store::testing::{NOW, item, register, store};
use control_api::ItemState;
use control_api::registration::HostKind;

#[test]
fn a_slot_keeps_the_worst_and_a_day_is_kept() {
    let (_folder, connection) = store();
    let host = register(&connection, HostKind::MasterTarget, 1).row;
    let id = items::put(&connection, host, &item("web01", ItemState::Protected), NOW, 0).unwrap();
    connection.execute("DELETE FROM sample", []).unwrap();
    let start = 1000 * SLOT;
    for (rpo, rate, after) in [(None, 5, 0), (Some(7), 3, 30), (Some(4), 4, 60), (None, 1, 90)] {
        add(&connection, id, rpo, rate, start + after * SECOND).unwrap();
    }
    add(&connection, id, None, 9, start + SLOT).unwrap();
    let first = Sample { slot: 1000, rpo_seconds: Some(7), bytes_per_second: 5 };
    let second = Sample { slot: 1001, rpo_seconds: None, bytes_per_second: 9 };
    assert_eq!(of(&connection, id, 0).unwrap(), [first, second]);
    assert_eq!(of(&connection, id, start + SLOT).unwrap(), [second]);
    for slot in 0..2 * KEPT {
        add(&connection, id, Some(slot), 0, start + slot * SLOT).unwrap();
    }
    let kept = of(&connection, id, 0).unwrap();
    assert_eq!((kept.len() as u64, kept[0].slot), (KEPT + 1, 1000 + KEPT - 1));
}
