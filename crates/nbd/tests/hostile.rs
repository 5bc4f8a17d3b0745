//! Whatever arrives, the server neither panics nor stalls, and holds no more than it should.

use disk::{Bytes, MemoryDisk};
use nbd::{Export, Exports, Handshake, Incoming, Step, TlsMode};
use proptest::prelude::*;
use std::sync::Arc;

/// Runs a whole connection over `bytes`, in pieces of `piece`, and returns how many bytes were answered.
fn connection(bytes: &[u8], piece: usize, tls: TlsMode) -> usize {
    let exports = Exports::new();
    exports.add(Export::new("d", Arc::new(MemoryDisk::new("m", Bytes(65_536))), false)).unwrap();
    let mut handshake = Handshake::new(Arc::new(exports), tls);
    let mut pieces = bytes.chunks(piece.max(1));
    let mut answered = 0;
    let mut transmission = loop {
        let Ok(step) = handshake.step() else { return answered };
        answered += handshake.take_output().len();
        match step {
            Step::Send => {}
            Step::Ready(transmission) => break transmission,
            Step::Ended => return answered,
            Step::StartTls => handshake.tls_started(),
            Step::Read => {
                let Some(piece) = pieces.next() else { return answered };
                let buffer = handshake.read_buffer();
                assert!(buffer.len() >= piece.len(), "no room to read into");
                buffer[..piece.len()].copy_from_slice(piece);
                handshake.advance(piece.len());
            }
        }
    };
    let mut answer = Vec::new();
    loop {
        match transmission.next() {
            Ok(Incoming::Request(request)) => request.run(&mut answer),
            Ok(Incoming::Disconnect) | Err(_) => return answered + answer.len(),
            Ok(Incoming::Nothing) => {
                let Some(mut piece) = pieces.next() else { return answered + answer.len() };
                while !piece.is_empty() {
                    let buffer = transmission.read_buffer();
                    assert!(!buffer.is_empty(), "no room to read into");
                    let length = buffer.len().min(piece.len());
                    buffer[..length].copy_from_slice(&piece[..length]);
                    transmission.advance(length);
                    piece = &piece[length..];
                    if !piece.is_empty() && transmission.next().is_err() {
                        return answered + answer.len();
                    }
                }
            }
        }
    }
}

fn option() -> impl Strategy<Value = Vec<u8>> {
    let data = prop_oneof![
        Just(Vec::new()),
        Just(b"\0\0\0\x01d\0\0".to_vec()),
        Just(b"\0\0\0\x01d\0\0\0\x01\0\0\0\x0fbase:allocation".to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    (0u32..13, data).prop_map(|(number, data)| {
        let length = data.len() as u32;
        [b"IHAVEOPT".as_slice(), &number.to_be_bytes(), &length.to_be_bytes(), &data].concat()
    })
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let offset = prop_oneof![0u64..70_000, any::<u64>()];
    let length = prop_oneof![0u32..70_000, any::<u32>()];
    (0u16..32, 0u16..10, offset, length).prop_map(|(flags, command, offset, length)| {
        let mut bytes = [
            0x2560_9513_u32.to_be_bytes().as_slice(),
            &flags.to_be_bytes(),
            &command.to_be_bytes(),
            &[7; 8],
            &offset.to_be_bytes(),
            &length.to_be_bytes(),
        ]
        .concat();
        if command == 1 {
            bytes.resize(bytes.len() + (length as usize).min(70_000), 1);
        }
        bytes
    })
}

#[test]
fn the_harness_reaches_the_requests() {
    let opened = b"\0\0\0\x03IHAVEOPT\0\0\0\x07\0\0\0\x07\0\0\0\x01d\0\0".to_vec();
    let mut read = vec![0x25, 0x60, 0x95, 0x13];
    read.resize(26, 0);
    let bytes = [opened.clone(), read, vec![0x10, 0]].concat();
    assert_eq!(connection(&bytes, 5, TlsMode::Off), connection(&opened, 5, TlsMode::Off) + 16 + 4096);
}

proptest! {
    #[test]
    fn random_conversations(
        garbage in prop::collection::vec(any::<u8>(), 0..60),
        options in prop::collection::vec(option(), 0..8),
        requests in prop::collection::vec(request(), 0..8),
        piece in 1usize..70_000,
        tls in prop_oneof![Just(TlsMode::Off), Just(TlsMode::Allowed), Just(TlsMode::Required)],
    ) {
        let go = b"IHAVEOPT\0\0\0\x07\0\0\0\x07\0\0\0\x01d\0\0".to_vec();
        let bytes = [vec![0, 0, 0, 3], options.concat(), go, requests.concat(), garbage].concat();
        connection(&bytes, piece, tls);
    }

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), piece in 1usize..200) {
        connection(&bytes, piece, TlsMode::Allowed);
        connection(&[&[0, 0, 0, 3], bytes.as_slice()].concat(), piece, TlsMode::Off);
    }
}
