//! Every frame survives encoding and decoding; nothing else does.

use change_stream::{
    BookmarkKind, Compression, Decoder, DiskDescription, Encoder, Fault, Frame, FrameType, HEADER_SIZE,
    Limits, MAX_DATA, Need, Position, RefusalCode, StreamId, SyncMode, encode,
};
use proptest::prelude::*;

fn compression() -> impl Strategy<Value = Compression> {
    prop::sample::select(vec![Compression::None, Compression::Lz4, Compression::Zstd])
}

fn text() -> impl Strategy<Value = String> {
    ".{0,40}"
}

fn stream() -> impl Strategy<Value = StreamId> {
    any::<[u8; 16]>().prop_map(StreamId)
}

fn at() -> impl Strategy<Value = Position> {
    (1u64.., any::<u64>()).prop_map(|(sequence, time)| Position { sequence, time })
}

/// Data that compresses sometimes.
fn data() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 1..600),
        (any::<u8>(), 1usize..9000).prop_map(|(byte, n)| vec![byte; n])
    ]
}

fn place() -> impl Strategy<Value = (u16, u64)> {
    (0u16..256, 0..u64::MAX / 2)
}

fn session() -> impl Strategy<Value = Frame> {
    let disks = prop::collection::vec(
        (text(), any::<u64>()).prop_map(|(id, size)| DiskDescription { id, size }),
        1..5,
    );
    let need = prop_oneof![
        Just(Need::Nothing),
        Just(Need::InitialSync),
        text().prop_map(|reason| Need::Resync { reason })
    ];
    let limits = (any::<u64>(), any::<u32>(), any::<u32>()).prop_map(
        |(bulk_window, hash_requests, heartbeat_seconds)| Limits {
            bulk_window,
            hash_requests,
            heartbeat_seconds,
        },
    );
    prop_oneof![
        (any::<u16>(), text(), stream(), disks, 1u64..1000, 0u64..1000, text()).prop_map(
            |(version, item, stream, disks, oldest_held, more, agent)| Frame::Hello {
                version,
                item,
                stream,
                disks,
                oldest_held,
                next_sequence: oldest_held + more,
                agent
            }
        ),
        (any::<u16>(), text(), stream(), any::<u64>())
            .prop_map(|(version, item, stream, session)| Frame::BulkHello { version, item, stream, session }),
        (any::<u16>(), any::<u64>(), any::<u64>(), need, limits).prop_map(
            |(version, session, durable_sequence, need, limits)| Frame::Welcome {
                version,
                session,
                durable_sequence,
                need,
                limits
            }
        ),
        text().prop_map(|reason| Frame::Goodbye { reason }),
        (prop::sample::select(RefusalCode::ALL), text())
            .prop_map(|(code, message)| Frame::Refused { code, message }),
    ]
}

fn differential() -> impl Strategy<Value = Frame> {
    let kind = prop::sample::select(vec![BookmarkKind::CrashConsistent, BookmarkKind::ApplicationConsistent]);
    prop_oneof![
        (at(), place(), data()).prop_map(|(at, (disk, offset), data)| Frame::Write {
            at,
            disk,
            offset,
            data
        }),
        (at(), place(), 1..u64::MAX / 2).prop_map(|(at, (disk, offset), length)| Frame::WriteZeroes {
            at,
            disk,
            offset,
            length
        }),
        (at(), place(), 1..u64::MAX / 2).prop_map(|(at, (disk, offset), length)| Frame::Discard {
            at,
            disk,
            offset,
            length
        }),
        at().prop_map(|at| Frame::Flush { at }),
        (at(), kind, text(), prop::option::of(text())).prop_map(|(at, kind, name, group)| Frame::Bookmark {
            at,
            kind,
            name,
            group
        }),
        (any::<u64>(), any::<u64>())
            .prop_map(|(time, newest_sequence)| Frame::Heartbeat { time, newest_sequence }),
        (any::<u64>(), any::<u64>())
            .prop_map(|(durable_sequence, durable_sync)| Frame::Ack { durable_sequence, durable_sync }),
    ]
}

fn sync() -> impl Strategy<Value = Frame> {
    let mode = prop::sample::select(vec![SyncMode::Initial, SyncMode::Resync]);
    let hashes = prop::collection::vec(any::<[u8; 32]>(), 1..20);
    prop_oneof![
        (mode, stream(), any::<u64>()).prop_map(|(mode, stream, base_sequence)| Frame::SyncBegin {
            mode,
            stream,
            base_sequence
        }),
        (place(), data()).prop_map(|((disk, offset), data)| Frame::SyncData { disk, offset, data }),
        (place(), 1..u64::MAX / 2).prop_map(|((disk, offset), length)| Frame::SyncZeroes {
            disk,
            offset,
            length
        }),
        (place(), 1..=MAX_DATA as u32, any::<u64>()).prop_map(|((disk, offset), length, bulk)| {
            Frame::SyncReference { disk, offset, length, bulk }
        }),
        (any::<u64>(), any::<bool>()).prop_map(|(time, consistent)| Frame::SyncEnd { time, consistent }),
        (any::<u64>(), data()).prop_map(|(bulk, data)| Frame::BulkData { bulk, data }),
        (any::<u64>(), place(), 2u32..1 << 24, hashes).prop_map(
            |(request, (disk, offset), block_size, hashes)| Frame::HashBlocks {
                request,
                disk,
                offset,
                block_size,
                length: u64::from(block_size) * hashes.len() as u64 - 1,
                hashes
            }
        ),
        (any::<u64>(), prop::collection::vec(any::<u8>(), 0..50))
            .prop_map(|(request, differs)| Frame::HashReply { request, differs }),
    ]
}

fn any_frame() -> impl Strategy<Value = Frame> {
    prop_oneof![session(), differential(), sync()]
}

fn decode_all(bytes: &[u8]) -> Result<Vec<Frame>, change_stream::DecodeError> {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        at += decoder.feed(&bytes[at..]);
        while let Some(frame) = decoder.next()? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

proptest! {
    #[test]
    fn frames_survive_whatever_pieces_they_arrive_in(
        frames in prop::collection::vec(any_frame(), 1..12),
        compression in compression(),
        pieces in prop::collection::vec(1usize..4000, 1..8),
    ) {
        let mut encoder = Encoder::new(compression);
        let mut bytes = Vec::new();
        for frame in &frames {
            encoder.encode(frame, &mut bytes).unwrap();
        }
        let mut decoder = Decoder::new();
        let mut got = Vec::new();
        let mut left = &bytes[..];
        for piece in pieces.iter().cycle() {
            if left.is_empty() {
                break;
            }
            let (now, later) = left.split_at((*piece).min(left.len()));
            let taken = decoder.feed(now);
            prop_assert_eq!(taken, now.len());
            left = later;
            while let Some(frame) = decoder.next().unwrap() {
                got.push(frame);
            }
        }
        prop_assert_eq!(got, frames);
        prop_assert_eq!(decoder.pending(), 0);
    }

    #[test]
    fn borrowed_data_encodes_as_owned_data_does(
        at in at(), place in place(), data in data(), bulk in any::<u64>(), compression in compression(),
    ) {
        let mut encoder = Encoder::new(compression);
        let (mut owned, mut borrowed) = (Vec::new(), Vec::new());
        let (disk, offset) = place;
        encoder.encode(&Frame::Write { at, disk, offset, data: data.clone() }, &mut owned).unwrap();
        encoder.encode(&Frame::SyncData { disk, offset, data: data.clone() }, &mut owned).unwrap();
        encoder.encode(&Frame::BulkData { bulk, data: data.clone() }, &mut owned).unwrap();
        encoder.encode_write(at, disk, offset, &data, &mut borrowed).unwrap();
        encoder.encode_sync_data(disk, offset, &data, &mut borrowed).unwrap();
        encoder.encode_bulk_data(bulk, &data, &mut borrowed).unwrap();
        prop_assert_eq!(owned, borrowed);
    }

    #[test]
    fn an_encoded_frame_compresses_as_it_would_have_at_once(frame in any_frame(), compression in compression()) {
        let mut encoder = Encoder::new(compression);
        let (mut plain, mut at_once, mut later) = (Vec::new(), Vec::new(), Vec::new());
        encode(&frame, Compression::None, &mut plain).unwrap();
        encoder.encode(&frame, &mut at_once).unwrap();
        encoder.append_encoded(&plain, &mut later).unwrap();
        prop_assert_eq!(at_once, later);
    }

    #[test]
    fn invariant_5_a_flipped_bit_anywhere_in_a_frame_is_found(
        frame in any_frame(), compression in compression(), place in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let mut bytes = Vec::new();
        encode(&frame, compression, &mut bytes).unwrap();
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let error = decode_all(&bytes).unwrap_err();
        prop_assert_eq!(error.class(), change_stream::Class::Peer);
    }

    #[test]
    fn whatever_payload_arrives_is_a_frame_or_an_error(
        frame_type in prop::sample::select(FrameType::ALL),
        compression in 0u8..4,
        payload in prop::collection::vec(any::<u8>(), 0..300),
        data_length in prop_oneof![Just(0u32), 0u32..400, any::<u32>()],
    ) {
        let bytes = raw_frame(frame_type as u8, compression, &payload, data_length);
        if let Ok(frames) = decode_all(&bytes) {
            let mut again = Vec::new();
            encode(&frames[0], Compression::None, &mut again).unwrap();
            prop_assert_eq!(decode_all(&again).unwrap(), frames);
        }
    }

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), HEADER_SIZE..500)) {
        prop_assert!(decode_all(&bytes).is_err());
    }
}

/// A frame whose checksums are right, whatever else is wrong.
fn raw_frame(frame_type: u8, compression: u8, payload: &[u8], data_length: u32) -> Vec<u8> {
    let mut bytes = b"MTCS\x01\0".to_vec();
    bytes.extend([frame_type, compression]);
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend(data_length.to_le_bytes());
    bytes.extend(crc32c::crc32c(payload).to_le_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes.extend(payload);
    bytes
}

#[test]
fn invariant_5_every_bit_of_a_compressed_write_matters() {
    let at = Position { sequence: 7, time: 9 };
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let mut bytes = Vec::new();
        encode(&Frame::Write { at, disk: 1, offset: 4096, data: vec![3; 300] }, compression, &mut bytes)
            .unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_all(&flipped).is_err(), "bit {bit} of {compression:?}");
        }
    }
}

#[test]
fn invariant_9_a_header_cannot_make_the_decoder_allocate_past_its_limits() {
    let header = |length: u32| {
        let mut bytes = b"MTCS\x01\0\x03\0".to_vec();
        bytes.extend(length.to_le_bytes());
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    };
    let error = decode_all(&header(u32::MAX)).unwrap_err();
    assert!(matches!(error.fault, Fault::TooLarge { field: "payload length", .. }), "{error}");

    let mut decoder = Decoder::new();
    assert_eq!(decoder.feed(&header(change_stream::MAX_PAYLOAD as u32)), HEADER_SIZE);
    assert!(decoder.next().unwrap().is_none());
    assert!(decoder.read_buffer().len() <= change_stream::MAX_PAYLOAD + (64 << 10));

    let bomb = lz4_flex::block::compress(&vec![0; 2 << 20]);
    let mut payload = vec![0; 26];
    payload[0] = 1;
    payload.extend(&bomb);
    let error = decode_all(&raw_frame(3, 1, &payload, 2 << 20)).unwrap_err();
    assert!(matches!(error.fault, Fault::TooLarge { field: "data length", .. }), "{error}");
    let error = decode_all(&raw_frame(3, 1, &payload, 1 << 20)).unwrap_err();
    assert!(matches!(error.fault, Fault::Decompression { .. }), "{error}");
}

#[test]
fn errors_name_frame_place_and_both_values() {
    let mut bytes = Vec::new();
    encode(&Frame::Goodbye { reason: "moved".into() }, Compression::None, &mut bytes).unwrap();
    let start = bytes.len();
    bytes.extend(raw_frame(6, 0, &[1; 17], 0));
    let mut decoder = Decoder::new();
    assert_eq!(decoder.feed(&bytes), bytes.len());
    assert!(decoder.next().unwrap().is_some());
    let error = decoder.next().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("bad Flush frame at byte {start} of the stream: its payload has 1 bytes too many")
    );
    assert_eq!(decoder.next().unwrap_err(), error, "an error stays");

    let error = decode_all(&raw_frame(5, 0, &[1; 20], 0)).unwrap_err().to_string();
    assert!(error.contains("ends inside its offset: 8 bytes expected, 2 left"), "{error}");
    let error = decode_all(&raw_frame(99, 0, &[], 0)).unwrap_err().to_string();
    assert!(error.contains("its type is 99"), "{error}");
    let error = decode_all(b"GET / HTTP/1.1\r\nHost: target").unwrap_err().to_string();
    assert!(error.contains("bad frame header at byte 0"), "{error}");
}

#[test]
fn what_must_not_be_sent_is_refused_and_leaves_the_buffer_alone() {
    let at = Position { sequence: 1, time: 0 };
    let bad = [
        Frame::Write { at, disk: 0, offset: 0, data: vec![] },
        Frame::Write { at, disk: 0, offset: 0, data: vec![0; MAX_DATA + 1] },
        Frame::Write { at, disk: 0, offset: u64::MAX, data: vec![0] },
        Frame::Write { at, disk: 256, offset: 0, data: vec![0] },
        Frame::Discard { at, disk: 0, offset: 0, length: 0 },
        Frame::Flush { at: Position { sequence: 0, time: 0 } },
        Frame::Goodbye { reason: "x".repeat(change_stream::MAX_TEXT + 1) },
        Frame::HashBlocks {
            request: 0,
            disk: 0,
            offset: 0,
            block_size: 512,
            length: 513,
            hashes: vec![[0; 32]],
        },
    ];
    for frame in bad {
        let mut out = b"before".to_vec();
        let error = encode(&frame, Compression::Lz4, &mut out).unwrap_err();
        assert_eq!(error.frame, frame.frame_type());
        assert_eq!(out, b"before", "{error}");
    }
}

#[test]
fn the_longest_write_fits() {
    let at = Position { sequence: 1, time: 0 };
    let frames: Vec<Frame> =
        (0..3).map(|n| Frame::Write { at, disk: n, offset: 0, data: vec![n as u8; MAX_DATA] }).collect();
    let mut bytes = Vec::new();
    for frame in &frames {
        encode(frame, Compression::None, &mut bytes).unwrap();
    }
    assert_eq!(decode_all(&bytes).unwrap(), frames);
}
