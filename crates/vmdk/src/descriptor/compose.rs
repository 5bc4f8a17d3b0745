//! Writing the descriptor of a new image.

use super::NO_PARENT;
use crate::{AdapterType, DiskUuid, Format};
use disk::{Bytes, SECTOR_SIZE, Sectors};
use std::fmt::Write;

/// Sectors of a track, in every geometry.
const SECTORS_PER_TRACK: u64 = 63;

/// What a new descriptor is to say.
pub(crate) struct NewDescriptor<'a> {
    pub(crate) format: Format,
    pub(crate) cid: u32,
    pub(crate) adapter: AdapterType,
    pub(crate) uuid: Option<DiskUuid>,
    pub(crate) extents: &'a [NewExtent],
}

/// An extent of a new image.
pub(crate) struct NewExtent {
    pub(crate) file: String,
    pub(crate) size: Bytes,
}

/// The text of a new descriptor.
///
/// No blank line stands right before an extent line: one makes qemu count that extent twice.
pub(crate) fn compose(new: &NewDescriptor<'_>) -> String {
    let mut text = format!(
        "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID={:08x}\nparentCID={NO_PARENT:08x}\n\
         createType=\"{}\"\n\n# Extent description\n",
        new.cid,
        new.format.create_type(),
    );
    let mut sectors = 0;
    for extent in new.extents {
        let size = extent.size.0 / SECTOR_SIZE;
        sectors += size;
        let (kind, offset) = match new.format {
            Format::MonolithicFlat | Format::TwoGbMaxExtentFlat => ("FLAT", " 0"),
            Format::Vmfs | Format::VmfsThin => ("VMFS", ""),
            Format::MonolithicSparse | Format::TwoGbMaxExtentSparse | Format::StreamOptimized => {
                ("SPARSE", "")
            }
        };
        append(&mut text, format_args!("RW {size} {kind} \"{}\"{offset}\n", extent.file));
    }
    append_database(&mut text, new, Sectors(sectors));
    text
}

fn append_database(text: &mut String, new: &NewDescriptor<'_>, capacity: Sectors) {
    let heads = new.adapter.heads();
    let cylinders = capacity.0 / (heads * SECTORS_PER_TRACK);
    text.push_str("\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\n");
    append(text, format_args!("ddb.geometry.cylinders = \"{cylinders}\"\n"));
    append(text, format_args!("ddb.geometry.heads = \"{heads}\"\n"));
    append(text, format_args!("ddb.geometry.sectors = \"{SECTORS_PER_TRACK}\"\n"));
    append(text, format_args!("ddb.adapterType = \"{}\"\n", new.adapter));
    if let Some(uuid) = new.uuid {
        append(text, format_args!("ddb.uuid = \"{uuid}\"\n"));
    }
    if new.format == Format::VmfsThin {
        text.push_str("ddb.thinProvisioned = \"1\"\n");
    }
}

fn append(text: &mut String, piece: std::fmt::Arguments<'_>) {
    text.write_fmt(piece).expect("memory takes any text");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_descriptor_reads_as_drawn() {
        let extents = [NewExtent { file: "web01-flat.vmdk".to_owned(), size: Bytes(1 << 30) }];
        let new = NewDescriptor {
            format: Format::VmfsThin,
            cid: 0xab_cdef,
            adapter: AdapterType::LsiLogic,
            uuid: Some(DiskUuid([0x60; 16])),
            extents: &extents,
        };
        let expected = "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=00abcdef\n\
            parentCID=ffffffff\ncreateType=\"vmfs\"\n\n# Extent description\n\
            RW 2097152 VMFS \"web01-flat.vmdk\"\n\n# The Disk Data Base\n#DDB\n\n\
            ddb.virtualHWVersion = \"4\"\nddb.geometry.cylinders = \"130\"\nddb.geometry.heads = \"255\"\n\
            ddb.geometry.sectors = \"63\"\nddb.adapterType = \"lsilogic\"\n\
            ddb.uuid = \"60 60 60 60 60 60 60 60-60 60 60 60 60 60 60 60\"\nddb.thinProvisioned = \"1\"\n";
        assert_eq!(compose(&new), expected);
    }
}
