//! Images that one side makes and the other one uses, for every format and for odd sizes.

use disk::{Access, ByteRange, Bytes, Disk};
use vmdk::Format;
use vmdk_interop::{Contents, NAME, Scratch};

const SMALL: u64 = (10 << 20) + 5 * 512;
const OVER_2_GIB: u64 = (5 << 30) + 3 * 512;
const OVER_2_TIB: u64 = (2 << 40) + (7 << 30) + 512;

/// QEMU makes and writes; we read, write over it; QEMU checks and reads.
fn qemu_first(subformat: &str, size: u64) {
    let scratch = Scratch::new();
    scratch.qemu_create(subformat, size);
    let first = Contents::around_borders(size, 1);
    scratch.qemu_io(&first.qemu_writes());
    let image = scratch.open(Access::Write).unwrap();
    assert_eq!(image.size(), Bytes(size));
    assert_eq!(image.create_type(), subformat);
    first.assert_on(&image);
    let second = Contents::around_borders(size, 101);
    second.write(&image);
    image.sync().unwrap();
    image.close().unwrap();
    drop(image);
    scratch.assert_sound();
    let both = first.then(&second);
    scratch.qemu_io(&both.qemu_reads());
    compare_small(&scratch, &both, size);
    both.assert_on(&scratch.open(Access::Read).unwrap());
}

/// We make and write; QEMU checks, reads and writes over it; we read.
fn we_first(format: Format, size: u64) {
    let scratch = Scratch::new();
    let image = scratch.create(format, size);
    let first = Contents::around_borders(size, 1);
    first.write(&image);
    image.close().unwrap();
    drop(image);
    scratch.assert_sound();
    let info = scratch.run("qemu-img", &["info", "--output=json", NAME]);
    assert!(info.contains(&format!("\"virtual-size\": {size},")), "{info}");
    assert!(info.contains(&format!("\"create-type\": \"{}\"", format.create_type())), "{info}");
    scratch.qemu_io(&first.qemu_reads());
    let second = Contents::around_borders(size, 101);
    scratch.qemu_io(&second.qemu_writes());
    let both = first.then(&second);
    compare_small(&scratch, &both, size);
    both.assert_on(&scratch.open(Access::Read).unwrap());
    scratch.assert_sound();
}

/// Compares every byte, and converts to every other format, where that takes no time.
fn compare_small(scratch: &Scratch, contents: &Contents, size: u64) {
    if size > SMALL {
        return;
    }
    contents.write_raw(scratch, "oracle.raw", size);
    scratch.run("qemu-img", &["compare", "-q", "-f", "vmdk", "-F", "raw", NAME, "oracle.raw"]);
    scratch.run("qemu-img", &["convert", "-f", "vmdk", "-O", "qcow2", NAME, "converted.qcow2"]);
    scratch.run("qemu-img", &["compare", "-q", "-f", "qcow2", "-F", "raw", "converted.qcow2", "oracle.raw"]);
}

fn all_sizes(run: impl Fn(u64)) {
    [65536 * 4, SMALL, OVER_2_GIB, OVER_2_TIB].into_iter().for_each(run);
}

#[test]
fn qemu_makes_monolithic_sparse() {
    all_sizes(|size| qemu_first("monolithicSparse", size));
}

#[test]
fn qemu_makes_monolithic_flat() {
    all_sizes(|size| qemu_first("monolithicFlat", size));
}

#[test]
fn qemu_makes_split_sparse() {
    [SMALL, OVER_2_GIB].into_iter().for_each(|size| qemu_first("twoGbMaxExtentSparse", size));
}

#[test]
fn qemu_makes_split_flat() {
    [SMALL, OVER_2_GIB].into_iter().for_each(|size| qemu_first("twoGbMaxExtentFlat", size));
}

#[test]
fn we_make_monolithic_sparse() {
    all_sizes(|size| we_first(Format::MonolithicSparse, size));
}

#[test]
fn we_make_flat_formats() {
    for format in [Format::MonolithicFlat, Format::VmfsThin] {
        all_sizes(|size| we_first(format, size));
    }
    // It takes all its room at once.
    we_first(Format::Vmfs, SMALL);
}

#[test]
fn we_make_split_formats() {
    for format in [Format::TwoGbMaxExtentFlat, Format::TwoGbMaxExtentSparse] {
        [SMALL, OVER_2_GIB].into_iter().for_each(|size| we_first(format, size));
    }
}

#[test]
fn zeroed_grains_of_qemu_read_as_zeroes_and_are_written_over() {
    let scratch = Scratch::new();
    let options = "subformat=monolithicSparse,zeroed_grain=on";
    scratch.run("qemu-img", &["create", "-q", "-f", "vmdk", "-o", options, NAME, "8M"]);
    scratch.qemu_io(&["write -P 7 0 1M".to_owned(), "write -z 64k 128k".to_owned()]);
    let image = scratch.open(Access::Write).unwrap();
    let mut seen = vec![0xee; 1 << 20];
    image.read_at(Bytes(0), &mut seen).unwrap();
    let zero = 65536..3 * 65536;
    assert!(seen.iter().enumerate().all(|(at, byte)| *byte == if zero.contains(&at) { 0 } else { 7 }));
    image.write_at(Bytes(70000), &[9; 1000]).unwrap();
    image.write_zeroes(ByteRange::new(Bytes(512 << 10), Bytes(1 << 20)).unwrap()).unwrap();
    image.close().unwrap();
    drop(image);
    let reads =
        ["read -P 0 65536 4464", "read -P 9 70000 1000", "read -P 0 71000 125608", "read -P 7 196608 320k"];
    scratch.qemu_io(&reads.map(str::to_owned));
    scratch.qemu_io(&["read -P 0 512k 1M".to_owned()]);
}

#[test]
fn a_new_format_holds_what_a_raw_disk_held_when_qemu_converts() {
    for format in [
        "monolithicSparse",
        "monolithicFlat",
        "twoGbMaxExtentSparse",
        "twoGbMaxExtentFlat",
        "streamOptimized",
    ] {
        let scratch = Scratch::new();
        let contents = Contents::around_borders(SMALL, 1);
        contents.write_raw(&scratch, "source.raw", SMALL);
        let options = format!("subformat={format}");
        scratch.run("qemu-img", &["convert", "-f", "raw", "-O", "vmdk", "-o", &options, "source.raw", NAME]);
        contents.assert_on(&scratch.open(Access::Read).unwrap());
        scratch.assert_sound();
    }
}

/// One write into each of more tables than stay in memory, changed or not.
#[test]
fn more_tables_than_memory_holds() {
    let scratch = Scratch::new();
    let tables = 4500;
    let table = 32 << 20;
    let image = scratch.create(Format::MonolithicSparse, tables * table);
    for index in 0..tables {
        image.write_at(Bytes(index * table + 70_000), &index.to_le_bytes()).unwrap();
    }
    image.sync().unwrap();
    for index in (0..tables).rev() {
        let mut seen = [0; 8];
        image.read_at(Bytes(index * table + 70_000), &mut seen).unwrap();
        assert_eq!(u64::from_le_bytes(seen), index);
    }
    image.close().unwrap();
    drop(image);
    scratch.assert_sound();
}
