//! The identity of a SCSI disk, and how it belongs to the identity of a VMDK.
//!
//! A SCSI id (WWID) is what `scsi_id` prints and multipath calls a disk: one digit for the kind of identifier (or `S`
//! for a serial number), then the identifier that the disk tells in its vital product data. VMware makes it from the
//! VMDK: with disk.EnableUUID the guest sees the 16 bytes of `ddb.uuid` as an NAA identifier, so the id is `3` and 32
//! digits.

use serde::{Serialize, Serializer};
use std::fmt;

/// The SCSI id (WWID) of a disk: 2 to 128 characters that are safe as a file name, the ones that
/// udev keeps in `ID_SERIAL` and device-mapper in a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScsiId(String);

impl ScsiId {
    /// The id in a text; `None` for what cannot be one.
    pub fn parse(text: &str) -> Option<ScsiId> {
        let kind = |c: char| c.is_ascii_hexdigit() || c == 'S';
        let plausible = (2..=128).contains(&text.len()) && text.starts_with(kind);
        (plausible && text.bytes().all(ScsiId::has)).then(|| ScsiId(text.to_owned()))
    }

    /// Whether an id can have this byte.
    pub(crate) fn has(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&byte)
    }

    /// The id of the disk that a guest sees of a VMDK with this `ddb.uuid`.
    pub fn of_vmdk(uuid: [u8; 16]) -> ScsiId {
        let digits: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
        ScsiId(format!("3{digits}"))
    }

    /// The same for a `ddb.uuid` as a descriptor writes it, `60 00 C2 9a 01 23 45 67-89 ab cd ef 01 23 45 67`; `None` for
    /// what is none.
    pub fn of_vmdk_text(text: &str) -> Option<ScsiId> {
        let digits: String =
            text.chars().filter(|c| !matches!(c, ' ' | '-')).collect::<String>().to_ascii_lowercase();
        let id = (digits.len() == 32).then(|| ScsiId(format!("3{digits}")))?;
        id.vmdk_uuid().map(|_| id)
    }

    /// The `ddb.uuid` of the VMDK that a disk with this id is made of; `None` when the id is not made of one.
    pub fn vmdk_uuid(&self) -> Option<[u8; 16]> {
        let digits = self.0.strip_prefix('3').filter(|digits| digits.len() == 32)?;
        let mut uuid = [0; 16];
        for (byte, pair) in uuid.iter_mut().zip(digits.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(uuid)
    }

    /// Whether it is one that VMware gives its disks: `36000c29…`, 33 characters.
    pub fn is_vmware(&self) -> bool {
        self.0.starts_with("36000c29") && self.vmdk_uuid().is_some()
    }

    /// Whether it is made of an NAA identifier, as the ids of all disks are that tell one: `3` and 16 or 32 digits.
    pub fn is_naa(&self) -> bool {
        let digits = self.0.strip_prefix('3').unwrap_or_default();
        matches!(digits.len(), 16 | 32) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    }

    /// As `scsi_id` and multipath show it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ScsiId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ScsiId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vmdk_and_its_disk_are_known_by_each_other() {
        let uuid = [0x60, 0, 0xc2, 0x9a, 1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 1, 0x23, 0x45, 0x67];
        let id = ScsiId::of_vmdk(uuid);
        assert_eq!(id.as_str(), "36000c29a0123456789abcdef01234567");
        assert_eq!((id.vmdk_uuid(), id.is_vmware()), (Some(uuid), true));
        assert_eq!(ScsiId::parse("36000c29000000001").unwrap().vmdk_uuid(), None);
        let text = "60 00 C2 9a 01 23 45 67-89 AB cd ef 01 23 45 67";
        assert_eq!(ScsiId::of_vmdk_text(text), Some(id));
        for other in ["", "60 00", &text.replace('C', "x"), &text.replace("67", "6é")] {
            assert_eq!(ScsiId::of_vmdk_text(other), None, "{other}");
        }
    }

    #[test]
    fn what_cannot_be_an_id_is_none() {
        assert!(ScsiId::parse("1ACME_#+-.:=@_").is_some());
        for text in ["", "3", "/etc", "3 6", "3\n", "..", &"3".repeat(129)] {
            assert_eq!(ScsiId::parse(text), None, "{text:?}");
        }
    }
}
