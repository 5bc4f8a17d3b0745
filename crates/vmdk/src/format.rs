//! The kinds of images, and what their descriptors say about the virtual disk.

use std::fmt;
use std::str::FromStr;

/// A kind of image, named as `createType` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// A descriptor and one raw extent.
    MonolithicFlat,
    /// One file that grows, with its descriptor inside.
    MonolithicSparse,
    /// A descriptor and raw extents of at most 2 GiB.
    TwoGbMaxExtentFlat,
    /// A descriptor and growing extents of at most 2 GiB.
    TwoGbMaxExtentSparse,
    /// A descriptor and one raw extent, as ESXi runs it, which takes all its room when it is made.
    Vmfs,
    /// The same, marked as thin-provisioned.
    VmfsThin,
    /// One compressed file, written once from front to back.
    StreamOptimized,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 7] = [
        Format::MonolithicFlat,
        Format::MonolithicSparse,
        Format::TwoGbMaxExtentFlat,
        Format::TwoGbMaxExtentSparse,
        Format::Vmfs,
        Format::VmfsThin,
        Format::StreamOptimized,
    ];

    /// The descriptor's `createType`.
    pub fn create_type(self) -> &'static str {
        match self {
            Format::MonolithicFlat => "monolithicFlat",
            Format::MonolithicSparse => "monolithicSparse",
            Format::TwoGbMaxExtentFlat => "twoGbMaxExtentFlat",
            Format::TwoGbMaxExtentSparse => "twoGbMaxExtentSparse",
            Format::Vmfs | Format::VmfsThin => "vmfs",
            Format::StreamOptimized => "streamOptimized",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::VmfsThin => "vmfs-thin",
            other => other.create_type(),
        })
    }
}

/// A name that is not one of a fixed list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not one of {known}")]
pub struct UnknownName {
    found: String,
    known: String,
}

fn by_name<T: Copy + fmt::Display>(found: &str, all: &[T]) -> Result<T, UnknownName> {
    let same = |one: &&T| one.to_string().eq_ignore_ascii_case(found);
    all.iter().find(same).copied().ok_or_else(|| {
        let known: Vec<String> = all.iter().map(T::to_string).collect();
        UnknownName { found: found.to_owned(), known: known.join(", ") }
    })
}

impl FromStr for Format {
    type Err = UnknownName;

    /// By the name that it displays as, in any case.
    fn from_str(name: &str) -> Result<Format, UnknownName> {
        by_name(name, &Format::ALL)
    }
}

/// The virtual controller that a descriptor names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AdapterType {
    /// IDE.
    Ide,
    /// BusLogic SCSI.
    BusLogic,
    /// LSI Logic SCSI.
    LsiLogic,
    /// What old ESX versions wrote.
    LegacyEsx,
}

impl AdapterType {
    /// All of them.
    pub const ALL: [AdapterType; 4] =
        [AdapterType::Ide, AdapterType::BusLogic, AdapterType::LsiLogic, AdapterType::LegacyEsx];

    /// Heads of the geometry that goes with it.
    pub(crate) fn heads(self) -> u64 {
        match self {
            AdapterType::Ide => 16,
            _ => 255,
        }
    }
}

impl fmt::Display for AdapterType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AdapterType::Ide => "ide",
            AdapterType::BusLogic => "buslogic",
            AdapterType::LsiLogic => "lsilogic",
            AdapterType::LegacyEsx => "legacyESX",
        })
    }
}

impl FromStr for AdapterType {
    type Err = UnknownName;

    /// By the name that it displays as, in any case.
    fn from_str(name: &str) -> Result<AdapterType, UnknownName> {
        by_name(name, &AdapterType::ALL)
    }
}

/// A virtual disk's `ddb.uuid`, which a guest with disk.EnableUUID sees as its SCSI id.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DiskUuid(pub [u8; 16]);

impl DiskUuid {
    /// The SCSI id (WWID) that a guest derives from it: `3` and the bytes in hexadecimal.
    pub fn wwid(&self) -> String {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("3{digits}")
    }
}

impl fmt::Display for DiskUuid {
    /// As descriptors write it: `60 00 C2 9f 00 11 22 33-44 55 66 77 88 99 aa bb`, all in lower case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let separator = match index {
                0 => "",
                8 => "-",
                _ => " ",
            };
            write!(f, "{separator}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for DiskUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskUuid({self})")
    }
}

/// Text that is not 16 bytes in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a disk UUID: 32 hexadecimal digits, with or without blanks and dashes")]
pub struct BadUuid {
    found: String,
}

impl FromStr for DiskUuid {
    type Err = BadUuid;

    fn from_str(text: &str) -> Result<DiskUuid, BadUuid> {
        let bad = || BadUuid { found: text.chars().take(100).collect() };
        let digits: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b' ' | b'-')).collect();
        let digits: &[u8; 32] = digits.as_slice().try_into().map_err(|_| bad())?;
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16).ok_or_else(bad);
            *byte = (digit(0)? * 16 + digit(1)?) as u8;
        }
        Ok(DiskUuid(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_in_any_case() {
        for format in Format::ALL {
            assert_eq!(format.to_string().to_uppercase().parse(), Ok(format));
        }
        for adapter in AdapterType::ALL {
            assert_eq!(adapter.to_string().parse(), Ok(adapter));
        }
        let error = "vhdx".parse::<Format>().unwrap_err();
        assert!(error.to_string().starts_with("\"vhdx\" is not one of monolithicFlat, "));
    }

    #[test]
    fn a_uuid_is_read_with_or_without_separators() {
        let uuid: DiskUuid = "60 00 C2 9f 00 11 22 33-44 55 66 77 88 99 aa bb".parse().unwrap();
        assert_eq!(uuid.to_string().parse(), Ok(uuid));
        assert_eq!(uuid.wwid(), "36000c29f00112233445566778899aabb");
        assert_eq!("6000c29f00112233445566778899aabb".parse(), Ok(uuid));
        assert!("6000c29f".parse::<DiskUuid>().is_err());
    }
}
