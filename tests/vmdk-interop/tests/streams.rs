//! Stream-optimised images, and what only ESXi makes.

use disk::{Access, Bytes, Disk};
use vmdk::{Format, StreamWriter};
use vmdk_interop::{Contents, NAME, Scratch, options};

/// Texts, noise and holes.
fn mixed(size: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let byte = |at: usize| match at >> 18 & 3 {
        0 => noise(),
        1 => b"the quick brown fox "[at % 20],
        _ => 0,
    };
    (0..size).map(byte).collect()
}

#[test]
fn qemu_reads_the_streams_that_we_write() {
    for size in [512, 65536, (5 << 20) + 512, (70 << 20) + 7 * 512] {
        let scratch = Scratch::new();
        let contents = mixed(size);
        let options = options(Format::StreamOptimized, size as u64);
        let mut writer = StreamWriter::create(&scratch.folder, NAME, &options).unwrap();
        for (number, chunk) in contents.chunks(1_000_000).enumerate() {
            writer.write(Bytes(number as u64 * 1_000_000), chunk).unwrap();
        }
        writer.finish().unwrap();
        std::fs::write(scratch.path("oracle.raw"), &contents).unwrap();
        scratch.run("qemu-img", &["compare", "-q", "-f", "vmdk", "-F", "raw", NAME, "oracle.raw"]);
        scratch.run("qemu-img", &["convert", "-f", "vmdk", "-O", "raw", NAME, "back.raw"]);
        assert!(std::fs::read(scratch.path("back.raw")).unwrap() == contents);
        scratch.assert_sound();
        let info = scratch.run("qemu-img", &["info", NAME]);
        assert!(info.contains("streamOptimized") && info.contains("compressed: true"), "{info}");
    }
}

#[test]
fn we_read_the_streams_that_qemu_writes() {
    for size in [65536, (5 << 20) + 512, (70 << 20) + 7 * 512] {
        let scratch = Scratch::new();
        let contents = mixed(size);
        std::fs::write(scratch.path("oracle.raw"), &contents).unwrap();
        let arguments =
            ["convert", "-O", "vmdk", "-o", "subformat=streamOptimized", "-f", "raw", "oracle.raw", NAME];
        scratch.run("qemu-img", &arguments);
        let image = scratch.open(Access::Read).unwrap();
        let mut seen = vec![0xee; size];
        image.read_at(Bytes(0), &mut seen).unwrap();
        assert!(seen == contents);
        drop(image);
        scratch.assert_sound();
    }
}

#[test]
fn a_disk_of_esxi_is_used_as_it_is() {
    let scratch = Scratch::new();
    let size = (3 << 30) + 512u64;
    let descriptor = format!(
        "# Disk DescriptorFile\r\nversion=1\r\nencoding=\"UTF-8\"\r\nCID=fe2b14c\r\nparentCID=ffffffff\r\n\
         createType=\"vmfs\"\r\n\r\n# Extent description\r\nRW {} VMFS \"exchange-flat.vmdk\"\r\n\r\n\
         # The Disk Data Base \r\n#DDB\r\n\r\nddb.adapterType = \"lsilogic\"\r\nddb.thinProvisioned = \"1\"\r\n\
         ddb.uuid = \"60 00 C2 93 61 6d 1e 7c-0c 5a 5b 93 cd d1 35 34\"\r\nddb.virtualHWVersion = \"14\"\r\n",
        size / 512
    );
    std::fs::write(scratch.path(NAME), descriptor).unwrap();
    let first = Contents::around_borders(size, 1);
    first.write_raw(&scratch, "exchange-flat.vmdk", size);
    let image = scratch.open(Access::Write).unwrap();
    assert_eq!(image.uuid().unwrap().wwid(), "36000c293616d1e7c0c5a5b93cdd13534");
    first.assert_on(&image);
    let second = Contents::around_borders(size, 101);
    second.write(&image);
    image.close().unwrap();
    drop(image);
    let kept = std::fs::read_to_string(scratch.path(NAME)).unwrap();
    assert!(kept.contains("CID=eed0001\r\n") && kept.contains("ddb.virtualHWVersion = \"14\"\r\n"), "{kept}");
    scratch.qemu_io(&first.then(&second).qemu_reads());
    assert!(vmdk::check(&*scratch.folder, NAME).unwrap().findings.is_empty());
}

#[test]
fn extents_that_are_zero_or_may_only_be_read_are_honoured() {
    let scratch = Scratch::new();
    let descriptor = "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n\
        createType=\"monolithicFlat\"\nRW 128 FLAT \"data.raw\" 64\nRW 64 ZERO\nRDONLY 64 FLAT \"data.raw\" 0\n";
    std::fs::write(scratch.path(NAME), descriptor).unwrap();
    std::fs::write(scratch.path("data.raw"), [vec![1; 64 * 512], vec![2; 128 * 512]].concat()).unwrap();
    let image = scratch.open(Access::Write).unwrap();
    let mut seen = vec![0xee; 256 * 512];
    image.read_at(Bytes(0), &mut seen).unwrap();
    assert!(seen == [vec![2; 128 * 512], vec![0; 64 * 512], vec![1; 64 * 512]].concat());
    for offset in [128 * 512, 192 * 512, 128 * 512 - 1] {
        let error = image.write_at(Bytes(offset), &[9; 2]).unwrap_err();
        assert!(matches!(error.cause(), disk::Cause::ReadOnly), "{error}");
    }
    image.write_at(Bytes(0), &[9; 512]).unwrap();
    image.sync().unwrap();
    let zero = disk::ByteRange::new(Bytes(128 * 512), Bytes(64 * 512)).unwrap();
    image.write_zeroes(zero).unwrap();
    assert_eq!(image.extent_at(Bytes(130 * 512)).unwrap().length, Bytes(62 * 512));
    drop(image);
    let file = std::fs::read(scratch.path("data.raw")).unwrap();
    assert!(file[..64 * 512].iter().all(|byte| *byte == 1) && file[64 * 512..65 * 512] == [9; 512]);
    scratch.open(Access::Read).unwrap();
}
