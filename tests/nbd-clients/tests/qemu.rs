//! qemu-img, qemu-io and fio.

use disk::{Bytes, Disk, MemoryDisk};
use nbd::Export;
use nbd_clients::{Server, Transport, pattern, run, sparse_file, try_run};
use std::sync::Arc;

const MIB: usize = 1 << 20;

#[test]
fn qemu_img_reads_converts_and_compares() {
    let server = Server::start(Transport::Unix);
    let path = server.folder.path().join("image");
    let image = sparse_file(&path, (32 << 20) + 512, &[(0, MIB), (17 << 20, 5 * MIB + 512)]);
    server.exports.add(Export::new("disk", image, true)).unwrap();
    let (uri, copy) = (server.uri("disk"), server.path("copy.vmdk"));
    let info = run("qemu-img", &["info", "-f", "raw", &uri]);
    assert!(info.contains("33554944 bytes"), "{info}");
    run("qemu-img", &["convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=monolithicSparse", &uri, &copy]);
    run("qemu-img", &["compare", "-f", "raw", "-F", "vmdk", &uri, &copy]);
    let map = run("qemu-img", &["map", "-f", "raw", "--output=json", &uri]);
    assert!(map.contains(r#""start": 1048576, "length": 16777216"#), "{map}");
}

#[test]
fn qemu_img_converts_into_an_export() {
    let source = Server::start(Transport::Unix);
    let path = source.folder.path().join("image");
    let image = sparse_file(&path, 16 << 20, &[(3 << 20, 2 * MIB)]);
    source.exports.add(Export::new("disk", image, true)).unwrap();
    let target = Arc::new(MemoryDisk::with_contents("target", vec![0xee; 16 * MIB]));
    let sink = Server::with_disk(target.clone());
    run(
        "qemu-img",
        &["convert", "-n", "-W", "-f", "raw", "-O", "raw", &source.uri("disk"), &sink.uri("disk")],
    );
    assert!(target.contents() == std::fs::read(path).unwrap());
    target.write_at(Bytes(5 << 20), b"different").unwrap();
    let compared =
        try_run("qemu-img", &["compare", "-f", "raw", "-F", "raw", &source.uri("disk"), &sink.uri("disk")]);
    assert!(
        !compared.succeeded && compared.output.contains("Content mismatch at offset"),
        "{}",
        compared.output
    );
}

#[test]
fn qemu_io_writes_zeroes_discards_and_reads_back() {
    let disk = pattern(4 * MIB);
    let server = Server::with_disk(disk.clone());
    let output = run(
        "qemu-io",
        &[
            "-f",
            "raw",
            "--discard=unmap",
            "-c",
            "write -P 0xab 1M 64k",
            "-c",
            "write -f -P 0xcd 1234 4321",
            "-c",
            "write -z 2M 128k",
            "-c",
            "write -z -u 3M 128k",
            "-c",
            "discard 2560k 64k",
            "-c",
            "flush",
            "-c",
            "read -P 0xab 1M 64k",
            "-c",
            "read -P 0xcd 1234 4321",
            "-c",
            "read -P 0 2M 128k",
            "-c",
            "read -P 0 3M 128k",
            "-c",
            "read -P 0 2560k 64k",
            &server.uri("disk"),
        ],
    );
    assert!(!output.contains("failed"), "{output}");
    let seen = disk.contents();
    assert!(seen[MIB..MIB + 65536].iter().all(|byte| *byte == 0xab));
    assert!(seen[1234..5555].iter().all(|byte| *byte == 0xcd));
    assert!(seen[5555..MIB] == pattern(MIB).contents()[5555..]);
}

#[test]
fn fio_verifies_what_it_wrote() {
    let server = Server::with_disk(Arc::new(MemoryDisk::new("memory", Bytes(64 << 20))));
    for (pattern, blocks) in [("randwrite", "4k"), ("randrw", "512-128k"), ("write", "1m")] {
        run(
            "fio",
            &[
                "--name=verify",
                "--ioengine=nbd",
                &format!("--uri={}", server.uri("disk")),
                &format!("--rw={pattern}"),
                &format!(
                    "--bsrange={}",
                    if blocks.contains('-') { blocks.to_owned() } else { format!("{blocks}-{blocks}") }
                ),
                "--iodepth=32",
                "--size=64m",
                "--io_size=32m",
                "--verify=crc32c",
                "--verify_state_save=0",
                "--verify_fatal=1",
                "--fsync=64",
                "--randseed=3",
            ],
        );
    }
}
