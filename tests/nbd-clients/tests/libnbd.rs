//! nbdinfo, nbdcopy and nbdsh.

use disk::{Bytes, Disk};
use nbd::{Export, Overlay};
use nbd_clients::{Server, Transport, nbdsh, pattern, run, sparse_file, try_run};
use std::sync::Arc;

const MIB: usize = 1 << 20;

#[test]
fn nbdinfo_sees_every_export_and_what_it_can_do() {
    let server = Server::start(Transport::Tcp);
    server.exports.add(Export::new("web01 disk 0", pattern(MIB), true)).unwrap();
    server.exports.add(Export::new("scratch", pattern(2 * MIB), false)).unwrap();
    let listed = run("nbdinfo", &["--list", &server.uri("")]);
    for expected in [
        "protocol: newstyle-fixed without TLS, using structured packets",
        "export=\"web01 disk 0\"",
        "export=\"scratch\"",
        "export-size: 1048576 (1M)",
        "base:allocation",
        "is_read_only: true",
        "can_multi_conn: true",
        "can_flush: true",
        "can_fua: true",
        "can_trim: true",
        "can_zero: true",
        "can_df: true",
        "can_fast_zero: false",
        "block_size_minimum: 1",
        "block_size_preferred: 4096",
        "block_size_maximum: 33554432",
    ] {
        assert!(listed.contains(expected), "no `{expected}` in:\n{listed}");
    }
    let unknown = try_run("nbdinfo", &[&server.uri("absent")]);
    assert!(!unknown.succeeded && unknown.errors.contains("No such file or directory"), "{}", unknown.errors);
}

#[test]
fn nbdinfo_maps_holes() {
    let server = Server::start(Transport::Unix);
    let path = server.folder.path().join("image");
    let image = sparse_file(&path, 8 << 20, &[(MIB as u64, MIB), (5 << 20, MIB)]);
    server.exports.add(Export::new("disk", image, true)).unwrap();
    let map = run("nbdinfo", &["--map", &server.uri("disk")]);
    let rows: Vec<Vec<_>> = map.lines().map(|row| row.split_whitespace().take(3).collect()).collect();
    let expected = [
        ["0", "1048576", "3"],
        ["1048576", "1048576", "0"],
        ["2097152", "3145728", "3"],
        ["5242880", "1048576", "0"],
        ["6291456", "2097152", "3"],
    ];
    assert_eq!(rows, expected);
}

#[test]
fn nbdcopy_copies_both_ways_over_several_connections() {
    const SIZE: usize = 48 * MIB + 512;
    let source = Server::with_disk(pattern(SIZE));
    let target = pattern(SIZE);
    target.write_zeroes(disk::ByteRange::of_buffer(Bytes(0), SIZE)).unwrap();
    let sink = Server::with_disk(target.clone());
    run("nbdcopy", &["--connections=4", "--flush", &source.uri("disk"), &sink.uri("disk")]);
    assert!(target.contents() == pattern(SIZE).contents());
    let file = source.path("copy");
    run("nbdcopy", &[&sink.uri("disk"), &file]);
    assert!(std::fs::read(&file).unwrap() == target.contents());
    let back = Server::with_disk(Arc::new(disk::MemoryDisk::new("blank", Bytes(SIZE as u64))));
    run("nbdcopy", &["--request-size=33554432", "--requests=4", &file, &back.uri("disk")]);
    run("nbdcopy", &["--no-extents", "--request-size=4096", &back.uri("disk"), &file]);
    assert!(std::fs::read(&file).unwrap() == target.contents());
}

#[test]
fn nbdcopy_keeps_holes() {
    let server = Server::start(Transport::Unix);
    let at = |name: &str| server.folder.path().join(name);
    let image = sparse_file(&at("image"), 64 << 20, &[(0, MIB), (40 << 20, 3 * MIB + 7)]);
    server.exports.add(Export::new("disk", image, true)).unwrap();
    run("nbdcopy", &[&server.uri("disk"), &server.path("copy")]);
    assert!(std::fs::read(at("image")).unwrap() == std::fs::read(at("copy")).unwrap());
    let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(at("copy")).unwrap());
    assert!(blocks * 512 < 8 << 20, "the copy takes {blocks} sectors");
}

#[test]
fn nbdsh_structured_reads_and_block_status() {
    let server = Server::start(Transport::Unix);
    let path = server.folder.path().join("image");
    let image = sparse_file(&path, 1 << 20, &[(0, 65536), (512 << 10, 65536)]);
    server.exports.add(Export::new("disk", image, false)).unwrap();
    nbdsh(
        &server.uri("disk"),
        r#"
h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
h.connect_uri(uri)
assert h.get_structured_replies_negotiated() and h.get_size() == 1 << 20
pieces = []
def chunk(data, offset, status, error):
    pieces.append((offset, len(data), status))
h.pread_structured(1 << 20, 0, chunk)
D, H = nbd.READ_DATA, nbd.READ_HOLE
assert pieces == [(0, 65536, D), (65536, 458752, H), (524288, 65536, D), (589824, 458752, H)], pieces
pieces.clear()
h.pread_structured(1 << 20, 0, chunk, nbd.CMD_FLAG_DF)
assert pieces == [(0, 1 << 20, D)], pieces
seen = []
def extents(context, offset, entries, error):
    assert context == "base:allocation"
    seen.append(entries)
h.block_status(1 << 20, 0, extents)
assert seen == [[65536, 0, 458752, 3, 65536, 0, 458752, 3]], seen
seen.clear()
h.block_status(1 << 19, 1000, extents, nbd.CMD_FLAG_REQ_ONE)
assert seen == [[64536, 0]], seen
"#,
    );
}

#[test]
fn nbdsh_writes_zeroes_trims_and_flushes() {
    let disk = pattern(2 * MIB);
    let server = Server::with_disk(disk.clone());
    nbdsh(
        &server.uri("disk"),
        r#"
h.connect_uri(uri)
h.pwrite(b"x" * 1000, 500, nbd.CMD_FLAG_FUA)
h.zero(4096, 8192)
h.zero(4097, 100001, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
h.trim(512, 1024)
h.flush()
assert h.pread(3, 499)[1:] == b"xx"
assert h.pread(512, 1024) == bytes(512)
"#,
    );
    let mut expected = pattern(2 * MIB).contents();
    expected[500..1500].fill(b'x');
    expected[1024..1536].fill(0);
    expected[8192..12288].fill(0);
    expected[100_001..104_098].fill(0);
    assert!(disk.contents() == expected);
}

#[test]
fn nbdsh_every_refusal_has_its_error_and_leaves_the_connection_usable() {
    let server = Server::start(Transport::Unix);
    server.exports.add(Export::new("ro", pattern(MIB), true)).unwrap();
    server.exports.add(Export::new("rw", pattern(MIB), false)).unwrap();
    nbdsh(
        &server.uri("ro"),
        r#"
h.connect_uri(uri)
assert h.is_read_only()
refused(errno.EPERM, h.pwrite, b"x" * 512, 0)
refused(errno.EPERM, h.zero, 512, 0)
refused(errno.EPERM, h.trim, 512, 0)
refused(errno.EINVAL, h.block_status, 512, 0, lambda *a: 0)
assert len(h.pread(512, 0)) == 512
h.flush()
"#,
    );
    nbdsh(
        &server.uri("rw"),
        r#"
h.connect_uri(uri)
refused(errno.ENOSPC, h.pwrite, b"x" * 512, (1 << 20) - 511)
refused(errno.ENOSPC, h.zero, 1, 1 << 20)
refused(errno.EINVAL, h.trim, 2, (1 << 20) - 1)
refused(errno.EINVAL, h.pread, 512, (1 << 63) + 5)
refused(errno.EINVAL, h.pread, 1, 1 << 20)
refused(errno.EINVAL, h.cache, 512, 0)
refused(errno.EINVAL, h.zero, 512, 0, nbd.CMD_FLAG_FAST_ZERO)
refused(errno.EINVAL, h.pwrite, b"x", 0, nbd.CMD_FLAG_DF)
before = h.pread(1 << 20, 0)
h.pwrite(b"", 0)
assert h.pread(1 << 20, 0) == before
"#,
    );
}

#[test]
fn nbdsh_without_structured_replies() {
    let disk = pattern(MIB);
    let server = Server::with_disk(disk.clone());
    nbdsh(
        &server.uri("disk"),
        r#"
h.set_request_structured_replies(False)
h.connect_uri(uri)
assert not h.get_structured_replies_negotiated()
h.pwrite(h.pread(65536, 0), 65536)
refused(errno.EINVAL, h.pread, 1, 1 << 20)
"#,
    );
    assert!(disk.contents()[65536..131_072] == pattern(65536).contents());
    nbdsh(
        &server.uri("disk"),
        r#"
h.set_handshake_flags(0)
h.connect_uri(uri)
assert h.get_protocol() == "newstyle" and h.get_size() == 1 << 20
assert len(h.pread(65536, 0)) == 65536
"#,
    );
}

#[test]
fn several_clients_write_one_disk_at_once() {
    const CLIENTS: usize = 4;
    let disk = pattern(CLIENTS * MIB);
    let server = Server::with_disk(disk.clone());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let uri = server.uri("disk");
            scope.spawn(move || {
                nbdsh(
                    &uri,
                    &format!(
                        r#"
h.connect_uri(uri)
for at in range({client} << 20, {client} + 1 << 20, 1 << 13):
    h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray([{client} + 1] * (1 << 13))), at)
while h.aio_in_flight() > 0:
    h.poll(-1)
h.flush()
"#
                    ),
                );
            });
        }
    });
    let seen = disk.contents();
    assert!(seen.chunks(MIB).enumerate().all(|(client, bytes)| bytes.iter().all(|b| *b == client as u8 + 1)));
}

#[test]
fn an_overlay_takes_the_writes_of_all_clients_and_its_base_none() {
    use disk::Folder;
    let base = pattern(8 * MIB);
    let server = Server::start(Transport::Unix);
    let folder =
        block_device::HostFolder::open(server.folder.path(), block_device::Caching::PageCache).unwrap();
    let overlay = Overlay::new(base.clone(), folder.create("scratch").unwrap()).unwrap();
    server.exports.add(Export::new("test", Arc::new(overlay), false)).unwrap();
    let uri = server.uri("test");
    run(
        "fio",
        &[
            "--name=overlay",
            "--ioengine=nbd",
            &format!("--uri={uri}"),
            "--rw=randrw",
            "--bsrange=512-64k",
            "--bs_unaligned",
            "--iodepth=16",
            "--size=8m",
            "--verify=crc32c",
            "--verify_state_save=0",
            "--randseed=7",
        ],
    );
    run("nbdcopy", &[&uri, &server.path("changed")]);
    assert!(base.contents() == pattern(8 * MIB).contents());
    assert!(std::fs::read(server.path("changed")).unwrap() != base.contents());
}

#[test]
fn a_removed_export_is_let_go_although_a_client_is_connected() {
    let disk: Arc<dyn Disk> = pattern(MIB);
    let server = Server::with_disk(disk.clone());
    std::thread::scope(|scope| {
        let uri = server.uri("disk");
        let client = scope.spawn(move || {
            nbdsh(
                &uri,
                r#"
import time
h.connect_uri(uri)
refused_at_last = False
for _ in range(1000):
    try:
        h.pread(512, 0)
        time.sleep(0.01)
    except nbd.Error:
        refused_at_last = True
        break
assert refused_at_last
"#,
            );
        });
        let opened = || server.exports.list().iter().any(|export| Arc::strong_count(export) > 2);
        while !opened() && !client.is_finished() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        drop(server.exports.remove("disk"));
        client.join().unwrap();
    });
    let gone = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        Arc::strong_count(&disk) == 1
    });
    assert!(gone, "the disk is still held");
    assert!(!try_run("nbdinfo", &[&server.uri("disk")]).succeeded);
}

#[test]
fn clients_with_a_certificate_are_served_over_tls_and_others_are_not() {
    let server = Server::start(Transport::Tls);
    let disk = pattern(4 * MIB);
    server.exports.add(Export::new("disk", disk.clone(), false)).unwrap();
    let info = run("nbdinfo", &[&server.tls_uri("disk")]);
    assert!(info.contains("newstyle-fixed with TLS"), "{info}");
    run("nbdcopy", &[&server.tls_uri("disk"), &server.path("copy")]);
    assert!(std::fs::read(server.path("copy")).unwrap() == disk.contents());
    run("nbdcopy", &["--connections=2", &server.path("copy"), &server.tls_uri("disk")]);
    let plain = try_run("nbdinfo", &[&server.uri("disk")]);
    assert!(!plain.succeeded && plain.errors.contains("not supported"), "{}", plain.errors);
    let stranger = Server::start(Transport::Tls);
    let foreign = server
        .tls_uri("disk")
        .replace(&server.folder.path().display().to_string(), &stranger.folder.path().display().to_string());
    assert!(!try_run("nbdinfo", &[&foreign]).succeeded);
}
