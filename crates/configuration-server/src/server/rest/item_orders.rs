//! Items that master targets are ordered to take, in the form that the document describes.
//!
//! Whether a master target can do it, it finds out itself; what no master target could do is refused here.

use super::fields::refused;
use super::jobs::{is_item, is_text};
use control_api::ApiError;
use control_api::agent::{DiskOrder, ItemOrder, TargetOrder};

/// Characters that a path may have.
const MAX_PATH: usize = 1000;
/// Characters of the id of a disk.
const MAX_ID: usize = 64;
/// What a VMDK that is made can be.
const FORMATS: [&str; 6] =
    ["monolithicFlat", "monolithicSparse", "twoGbMaxExtentFlat", "twoGbMaxExtentSparse", "vmfs", "vmfs-thin"];
const ADAPTERS: [&str; 4] = ["lsilogic", "buslogic", "ide", "legacyESX"];

/// Refuses an item that no master target could take.
pub(super) fn check(item: &ItemOrder) -> Result<(), ApiError> {
    item.check().map_err(|why| refused("job.item", "an item as it is described", &why))?;
    if !is_item(&item.name) {
        return Err(refused("job.item.name", "the name of an item", &format!("{:?}", item.name)));
    }
    if !is_name_of_certificate(&item.source) {
        let expected = "the name in the certificate of a source agent";
        return Err(refused("job.item.source", expected, &format!("{:?}", item.source)));
    }
    item.disks.iter().try_for_each(disk)
}

fn disk(disk: &DiskOrder) -> Result<(), ApiError> {
    let good = is_disk(&disk.id, &disk.target) && disk.size <= i64::MAX as u64;
    let shown = || serde_json::to_string(disk).unwrap_or_default();
    good.then_some(()).ok_or_else(|| refused("job.item.disks", "disks as they are described", &shown()))
}

/// Whether some master target could put a disk with this id there.
pub(crate) fn is_disk(id: &str, target: &TargetOrder) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
    let path = |path: &str| is_text(path, MAX_PATH);
    let good = match target {
        TargetOrder::Existing { target } => path(target),
        TargetOrder::New { folder, format, adapter, uuid } => {
            path(folder)
                && FORMATS.contains(&format.as_str())
                && ADAPTERS.contains(&adapter.as_str())
                && uuid.as_deref().is_none_or(is_uuid)
        }
        _ => false,
    };
    good && (1..=MAX_ID).contains(&id.len()) && id.bytes().all(fits)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn is_name_of_certificate(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(good);
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(change: impl FnOnce(&mut Value)) -> Option<String> {
        let new = json!({"kind": "new", "folder": "/vmfs/Süd", "format": "vmfs-thin", "adapter": "lsilogic"});
        let mut item = json!({
            "name": "web01", "source": "web01.example",
            "policy": {"window_seconds": 86400, "rpo_threshold_seconds": 900},
            "disks": [
                {"id": "disk0", "size": 1024, "target": {"kind": "existing", "target": "/vmfs/web01.vmdk"}},
                {"id": "disk1", "size": 1024, "target": new}
            ]
        });
        change(&mut item);
        let order: ItemOrder = serde_json::from_value(item).unwrap();
        check(&order).err().map(|refused| refused.failure.object)
    }

    #[test]
    fn what_no_master_target_could_take_is_refused() {
        assert_eq!(object(|_| {}), None);
        assert_eq!(
            object(|item| item["disks"][1]["target"]["uuid"] = json!("6000c29a0123456789abcdef01234567")),
            None
        );
        for (pointer, value, expected) in [
            ("/name", json!("../web01"), "job.item.name"),
            ("/source", json!("web01..example"), "job.item.source"),
            ("/policy/window_seconds", json!(1), "job.item"),
            ("/disks/0/size", json!(1000), "job.item"),
            ("/disks/0/size", json!(1u64 << 63), "job.item.disks"),
            ("/disks/0/id", json!("a/b"), "job.item.disks"),
            ("/disks/0/target/target", json!("x".repeat(1001)), "job.item.disks"),
            ("/disks/1/target/format", json!("raw"), "job.item.disks"),
            ("/disks/1/target/adapter", json!("scsi"), "job.item.disks"),
            ("/disks/1/target/uuid", json!("6000C29a"), "job.item.disks"),
        ] {
            let refused = object(|item| {
                let target = pointer.rsplit_once('/').and_then(|(parent, key)| {
                    item.pointer_mut(parent)
                        .and_then(|parent| parent.as_object_mut())
                        .map(|parent| (parent, key))
                });
                let (parent, key) = target.unwrap();
                parent.insert(key.into(), value);
            });
            assert_eq!(refused.as_deref(), Some(expected), "{pointer}");
        }
    }
}
