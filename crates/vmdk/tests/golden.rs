//! What we write, byte by byte.

mod common;

use common::{NAME, contents, create, folder, open, options};
use disk::{Access, Bytes, Disk};
use testkit::SimFolder;
use vmdk::{Format, StreamWriter};

const DATABASE: &str = "\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\n\
    ddb.geometry.cylinders = \"6\"\nddb.geometry.heads = \"255\"\nddb.geometry.sectors = \"63\"\n\
    ddb.adapterType = \"lsilogic\"\nddb.uuid = \"60 00 c2 9f 00 11 22 33-44 55 66 77 88 99 aa bb\"\n";

fn descriptor(create_type: &str, extents: &str) -> String {
    format!(
        "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=12345678\nparentCID=ffffffff\n\
         createType=\"{create_type}\"\n\n# Extent description\n{extents}{DATABASE}"
    )
}

/// Sectors of the numbers that a table or directory holds.
fn entries(file: &[u8], sector: usize, count: usize) -> Vec<u32> {
    let bytes = &file[sector * 512..sector * 512 + count * 4];
    bytes.chunks(4).map(|four| u32::from_le_bytes(four.try_into().unwrap())).collect()
}

fn text(file: &[u8], at: usize) -> String {
    let end = file[at..].iter().position(|byte| *byte == 0).map_or(file.len(), |length| at + length);
    String::from_utf8(file[at..end].to_vec()).unwrap()
}

/// 50 MiB and a sector: two tables.
const CAPACITY: u64 = (50 << 20) + 512;

#[test]
fn monolithic_sparse() {
    let sim = SimFolder::new("sim");
    let image = create(&sim, Format::MonolithicSparse, CAPACITY);
    let file = contents(&sim, NAME);
    assert_eq!(file.len(), 128 * 512);
    let expected: &[u8; 79] = b"KDMV\x01\0\0\0\x03\0\0\0\x01\x90\x01\0\0\0\0\0\x80\0\0\0\0\0\0\0\
        \x01\0\0\0\0\0\0\0\x14\0\0\0\0\0\0\0\0\x02\0\0\x18\0\0\0\0\0\0\0\x28\0\0\0\0\0\0\0\
        \x80\0\0\0\0\0\0\0\0\n \r\n\0\0";
    assert_eq!(&file[..79], expected);
    assert_eq!(text(&file, 512), descriptor("monolithicSparse", "RW 102401 SPARSE \"web01.vmdk\"\n"));
    assert_eq!(entries(&file, 24, 3), [32, 36, 0]);
    assert_eq!(entries(&file, 40, 3), [48, 52, 0]);
    image.write_at(Bytes(3 << 16), &[7; 2 << 16]).unwrap();
    image.write_at(Bytes(CAPACITY - 1), &[8]).unwrap();
    image.close().unwrap();
    let file = contents(&sim, NAME);
    assert_eq!(file.len(), (128 + 3 * 128) * 512);
    for table in [32, 48] {
        assert_eq!(entries(&file, table, 6), [0, 0, 0, 128, 256, 0]);
    }
    // Grain 800 is entry 288 of the second table.
    for table in [36, 52] {
        assert_eq!(entries(&file, table, 512)[286..290], [0, 0, 384, 0]);
    }
    assert!(file[128 * 512..384 * 512].iter().all(|byte| *byte == 7));
    assert_eq!(file[384 * 512 + 510..384 * 512 + 513], [0, 8, 0]);
}

#[test]
fn descriptors_of_flat_and_split_formats() {
    for (format, extents) in [
        (Format::MonolithicFlat, "RW 102401 FLAT \"web01-flat.vmdk\" 0\n"),
        (Format::Vmfs, "RW 102401 VMFS \"web01-flat.vmdk\"\n"),
        (Format::TwoGbMaxExtentFlat, "RW 102401 FLAT \"web01-f001.vmdk\" 0\n"),
        (Format::TwoGbMaxExtentSparse, "RW 102401 SPARSE \"web01-s001.vmdk\"\n"),
    ] {
        let sim = SimFolder::new("sim");
        drop(create(&sim, format, CAPACITY));
        let written = String::from_utf8(contents(&sim, NAME)).unwrap();
        assert_eq!(written, descriptor(format.create_type(), extents));
    }
}

#[test]
fn stream_optimized() {
    let sim = SimFolder::new("sim");
    let mut writer =
        StreamWriter::create(&folder(&sim), NAME, &options(Format::StreamOptimized, CAPACITY)).unwrap();
    writer.write(Bytes(CAPACITY - 1), &[8]).unwrap();
    writer.finish().unwrap();
    let file = contents(&sim, NAME);
    let head: &[u8; 79] = b"KDMV\x03\0\0\0\x01\0\x03\0\x01\x90\x01\0\0\0\0\0\x80\0\0\0\0\0\0\0\
        \x01\0\0\0\0\0\0\0\x14\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\
        \x80\0\0\0\0\0\0\0\0\n \r\n\x01\0";
    assert_eq!(&file[..79], head);
    assert_eq!(text(&file, 512), descriptor("streamOptimized", "RW 102401 SPARSE \"web01.vmdk\"\n"));
    // Grain 800 starts at sector 102400; its data takes less than a sector.
    assert_eq!(file[128 * 512..128 * 512 + 8], 102_400u64.to_le_bytes());
    assert_eq!(file[128 * 512 + 12], 0x78, "a zlib stream");
    let marker = |sector: usize| {
        let at = sector * 512;
        (entries(&file, sector, 4), file[at + 16..at + 512].iter().all(|byte| *byte == 0))
    };
    assert_eq!(marker(129), (vec![4, 0, 0, 1], true));
    assert_eq!(entries(&file, 130, 512)[287..290], [0, 128, 0]);
    assert_eq!(marker(134), (vec![1, 0, 0, 2], true));
    assert_eq!(entries(&file, 135, 3), [0, 130, 0]);
    assert_eq!(marker(136), (vec![1, 0, 0, 3], true));
    let mut footer = file[..512].to_vec();
    footer[56..64].copy_from_slice(&135u64.to_le_bytes());
    assert_eq!(file[137 * 512..138 * 512], footer);
    assert_eq!(file[138 * 512..], [0; 512]);
    assert_eq!(open(&sim, Access::Read).unwrap().create_type(), "streamOptimized");
}
