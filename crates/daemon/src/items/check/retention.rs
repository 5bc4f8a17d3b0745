//! Whether the retention volume can hold one more item.

use crate::retention::{Report, VolumeState};
use control_api::Failure;
use disk::Bytes;

/// The least that a journal is good for.
const LEAST_JOURNAL: u64 = 64 << 20;

/// What an item will write nobody knows before it writes; what can be judged is whether the items that there are have
/// their windows, and whether there is room for any journal at all.
pub(super) fn check(volume: &VolumeState, report: &Report, items: usize) -> Result<(), Failure> {
    let folder = volume.folder.display().to_string();
    if !volume.is_usable() {
        let next = "mend that first: mtctl retention status tells how, mtctl retention prepare makes one";
        return Err(Failure::new(folder, "no item can be taken", volume.why(), next));
    }
    let Some(space) = report.space else { return Ok(()) };
    let least = LEAST_JOURNAL.saturating_mul(items as u64 + 1);
    let (needed, why) = match report.needed_bytes {
        Some(needed) if needed > space.capacity.0 => {
            (needed, "the windows of the items that there are already")
        }
        _ => (least, "the journals of one item more, however little is written,"),
    };
    if needed <= space.capacity.0 {
        return Ok(());
    }
    Err(Failure::new(
        folder,
        "no item can be taken",
        format!("{why} need a retention volume of {}, and it has {}", Bytes(needed), space.capacity),
        "give it a larger disk, or shorten a window: mtctl retention status",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use control_api::RetentionState;
    use retention_volume::Space;

    fn volume(state: RetentionState) -> VolumeState {
        let detail = Some("its disk is gone".to_owned());
        VolumeState { folder: "/mnt/retention".into(), state, detail, file_system: None, alerts: Vec::new() }
    }

    fn report(capacity: u64, needed_bytes: Option<u64>) -> Report {
        let space = Some(Space { capacity: Bytes(capacity), available: Bytes(capacity) });
        Report { space, needed_bytes, ..Report::default() }
    }

    #[test]
    fn a_volume_that_cannot_be_used_or_is_too_small_is_named() {
        const GIB: u64 = 1 << 30;
        let ready = volume(RetentionState::Ready);
        check(&ready, &Report::default(), 5).unwrap();
        check(&ready, &report(GIB, None), 5).unwrap();
        check(&ready, &report(GIB, Some(GIB)), 5).unwrap();
        for state in [RetentionState::Lost, RetentionState::NotMounted, RetentionState::NotOurs] {
            let failure = check(&volume(state), &report(GIB, None), 0).unwrap_err();
            assert!(failure.why.contains("its disk is gone"), "{failure}");
            assert!(failure.next.contains("mtctl retention"), "{failure}");
        }
        let failure = check(&ready, &report(GIB, Some(3 * GIB)), 1).unwrap_err();
        assert!(failure.why.contains("windows of the items") && failure.why.contains("3 GiB"), "{failure}");
        let failure = check(&ready, &report(GIB, None), 16).unwrap_err();
        assert!(failure.why.contains("one item more"), "{failure}");
        assert_eq!(failure.object, "/mnt/retention");
    }
}
