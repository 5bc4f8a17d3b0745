//! The exact bytes of one frame of each type: a changed layout needs a new version.

use change_stream::{
    BookmarkKind, Compression, DiskDescription, Frame, FrameType, HEADER_SIZE, Limits, Need, Position,
    RefusalCode, StreamId, SyncMode, encode,
};

const AT: Position = Position { sequence: 0x0102, time: 0x0304 };
const STREAM: StreamId = StreamId(*b"0123456789abcdef");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn golden(frame: Frame, compression: Compression, expected: &str) {
    let mut bytes = Vec::new();
    encode(&frame, compression, &mut bytes).unwrap();
    let expected: String = expected.split_whitespace().collect();
    assert_eq!(hex(&bytes), expected, "{frame:?}");
    let mut decoder = change_stream::Decoder::new();
    assert_eq!(decoder.feed(&bytes), bytes.len());
    assert_eq!(decoder.next().unwrap().unwrap(), frame);
}

#[test]
fn hello() {
    golden(
        Frame::Hello {
            version: 1,
            item: "web01".into(),
            stream: STREAM,
            disks: vec![DiskDescription { id: "d0".into(), size: 4096 }],
            oldest_held: 5,
            next_sequence: 9,
            agent: "a".into(),
        },
        Compression::None,
        "4d54435301000100 3a00000000000000 0f57ff6f8abe0a3f \
         0100303132333435363738396162636465660500000000000000090000000000 \
         0000050077656230310100610100001000000000000002006430",
    );
}

#[test]
fn bulk_hello() {
    golden(
        Frame::BulkHello { version: 1, item: "web01".into(), stream: STREAM, session: 7 },
        Compression::None,
        "4d54435301000200 2100000000000000 64c83e265ea1a476 \
         0100303132333435363738396162636465660700000000000000050077656230 \
         31",
    );
}

#[test]
fn write() {
    golden(
        Frame::Write { at: AT, disk: 2, offset: 512, data: b"data".to_vec() },
        Compression::None,
        "4d54435301000300 1e00000004000000 35baba33dfbd7e26 \
         020100000000000004030000000000000200000200000000000064617461",
    );
}

#[test]
fn write_lz4() {
    golden(
        Frame::Write { at: AT, disk: 2, offset: 512, data: vec![0x55; 64] },
        Compression::Lz4,
        "4d54435301000301 2600000040000000 f35c27a9d6e82d34 \
         02010000000000000403000000000000020000020000000000001f5501002660 \
         555555555555",
    );
}

#[test]
fn write_zstd() {
    golden(
        Frame::Write { at: AT, disk: 2, offset: 512, data: vec![0x55; 64] },
        Compression::Zstd,
        "4d54435301000302 2b00000040000000 096176ac20b542e5 \
         020100000000000004030000000000000200000200000000000028b52ffd2040 \
         4500001055550100930016",
    );
}

#[test]
fn write_zeroes() {
    golden(
        Frame::WriteZeroes { at: AT, disk: 2, offset: 512, length: 1024 },
        Compression::None,
        "4d54435301000400 2200000000000000 24f222ceea420510 \
         0201000000000000040300000000000002000002000000000000000400000000 \
         0000",
    );
}

#[test]
fn discard() {
    golden(
        Frame::Discard { at: AT, disk: 2, offset: 512, length: 1024 },
        Compression::None,
        "4d54435301000500 2200000000000000 24f222ceac170244 \
         0201000000000000040300000000000002000002000000000000000400000000 \
         0000",
    );
}

#[test]
fn flush() {
    golden(
        Frame::Flush { at: AT },
        Compression::None,
        "4d54435301000600 1000000000000000 d3fd125d5be4c2a2 \
         02010000000000000403000000000000",
    );
}

#[test]
fn bookmark() {
    golden(
        Frame::Bookmark {
            at: AT,
            kind: BookmarkKind::ApplicationConsistent,
            name: "n".into(),
            group: Some("g".into()),
        },
        Compression::None,
        "4d54435301000700 1800000000000000 f36f027b94b2b122 \
         020100000000000004030000000000000101006e01010067",
    );
}

#[test]
fn bookmark_without_group() {
    golden(
        Frame::Bookmark { at: AT, kind: BookmarkKind::CrashConsistent, name: "n".into(), group: None },
        Compression::None,
        "4d54435301000700 1500000000000000 06ecd5da9ccc1049 \
         020100000000000004030000000000000001006e00",
    );
}

#[test]
fn heartbeat() {
    golden(
        Frame::Heartbeat { time: 3, newest_sequence: 4 },
        Compression::None,
        "4d54435301000800 1000000000000000 7478957004ffd9c6 \
         03000000000000000400000000000000",
    );
}

#[test]
fn sync_begin() {
    golden(
        Frame::SyncBegin { mode: SyncMode::Resync, stream: STREAM, base_sequence: 8 },
        Compression::None,
        "4d54435301000900 1900000000000000 cbb9d36dc867c57e \
         01303132333435363738396162636465660800000000000000",
    );
}

#[test]
fn sync_data() {
    golden(
        Frame::SyncData { disk: 2, offset: 512, data: b"data".to_vec() },
        Compression::None,
        "4d54435301000a00 0e00000004000000 1832d513dd739ab3 \
         0200000200000000000064617461",
    );
}

#[test]
fn sync_zeroes() {
    golden(
        Frame::SyncZeroes { disk: 2, offset: 512, length: 1024 },
        Compression::None,
        "4d54435301000b00 1200000000000000 a1f60abd03c02bd3 \
         020000020000000000000004000000000000",
    );
}

#[test]
fn sync_reference() {
    golden(
        Frame::SyncReference { disk: 2, offset: 512, length: 4, bulk: 6 },
        Compression::None,
        "4d54435301000c00 1600000000000000 916c638bc75f8615 \
         02000002000000000000040000000600000000000000",
    );
}

#[test]
fn sync_end() {
    golden(
        Frame::SyncEnd { time: 3, consistent: true },
        Compression::None,
        "4d54435301000d00 0900000000000000 89e7215027ceef94 \
         030000000000000001",
    );
}

#[test]
fn bulk_data() {
    golden(
        Frame::BulkData { bulk: 6, data: b"data".to_vec() },
        Compression::None,
        "4d54435301000e00 0c00000004000000 eb7bfb6a2890e2f9 \
         060000000000000064617461",
    );
}

#[test]
fn hash_blocks() {
    golden(
        Frame::HashBlocks {
            request: 1,
            disk: 2,
            offset: 512,
            block_size: 4096,
            length: 5000,
            hashes: vec![[0xaa; 32], [0xbb; 32]],
        },
        Compression::None,
        "4d54435301000f00 5e00000000000000 01ce7dc1e7e7057c \
         010000000000000002000002000000000000001000008813000000000000aaaa \
         aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbb \
         bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    );
}

#[test]
fn goodbye() {
    golden(
        Frame::Goodbye { reason: "bye".into() },
        Compression::None,
        "4d54435301001000 0500000000000000 37e7d7013fba8df7 \
         0300627965",
    );
}

#[test]
fn welcome() {
    golden(
        Frame::Welcome {
            version: 1,
            session: 7,
            durable_sequence: 8,
            need: Need::Resync { reason: "why".into() },
            limits: Limits { bulk_window: 16, hash_requests: 4, heartbeat_seconds: 10 },
        },
        Compression::None,
        "4d54435301004000 2800000000000000 e0a8011010ae2092 \
         0100070000000000000008000000000000001000000000000000040000000a00 \
         0000020300776879",
    );
}

#[test]
fn ack() {
    golden(
        Frame::Ack { durable_sequence: 8, durable_sync: 9 },
        Compression::None,
        "4d54435301004100 1000000000000000 30cc92c06afe90e8 \
         08000000000000000900000000000000",
    );
}

#[test]
fn hash_reply() {
    golden(
        Frame::HashReply { request: 1, differs: vec![0b101] },
        Compression::None,
        "4d54435301004200 0900000000000000 f7aa2a7a09085b5a \
         010000000000000005",
    );
}

#[test]
fn refused() {
    golden(
        Frame::Refused { code: RefusalCode::Busy, message: "no".into() },
        Compression::None,
        "4d54435301004300 0500000000000000 629cd36914082fd1 \
         0502006e6f",
    );
}

#[test]
fn codes_are_fixed() {
    let frames: Vec<u8> = FrameType::ALL.iter().map(|frame| *frame as u8).collect();
    assert_eq!(frames, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 64, 65, 66, 67]);
    let refusals: Vec<u8> = RefusalCode::ALL.iter().map(|code| *code as u8).collect();
    assert_eq!(refusals, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(HEADER_SIZE, 24);
}
