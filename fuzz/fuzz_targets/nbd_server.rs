//! A whole connection of an NBD client that sends anything: no panic, no stall, no answer longer than was asked for.
//! The first byte chooses the TLS mode and whether the client begins inside the transmission phase.

#![no_main]

use disk::{Bytes, MemoryDisk};
use libfuzzer_sys::fuzz_target;
use nbd::{Export, Exports, Handshake, Incoming, Step, TlsMode, Transmission};
use std::sync::Arc;

const SIZE: u64 = 1 << 16;
/// Fixed newstyle, then `NBD_OPT_GO` of the export `d`, after structured replies where bit 2 says so.
const HELLO: &[u8] = b"\0\0\0\x03";
const STRUCTURED: &[u8] = b"IHAVEOPT\0\0\0\x08\0\0\0\0";
const STATUS: &[u8] = b"IHAVEOPT\0\0\0\x0a\0\0\0\x1c\0\0\0\x01d\0\0\0\x01\0\0\0\x0fbase:allocation";
const GO: &[u8] = b"IHAVEOPT\0\0\0\x07\0\0\0\x07\0\0\0\x01d\0\0";

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, rest)) = bytes.split_first() else { return };
    let tls = [TlsMode::Off, TlsMode::Allowed, TlsMode::Required, TlsMode::Off][usize::from(choice & 3)];
    let mut sent = Vec::new();
    if choice & 4 != 0 {
        sent.extend_from_slice(HELLO);
    }
    if choice & 8 != 0 {
        sent.extend([STRUCTURED, STATUS].concat());
    }
    if choice & 16 != 0 {
        sent.extend_from_slice(GO);
    }
    sent.extend_from_slice(rest);
    if let Some((transmission, arrived)) = shake(tls, &sent) {
        transmit(transmission, &sent[arrived..]);
    }
});

fn shake(tls: TlsMode, sent: &[u8]) -> Option<(Transmission, usize)> {
    let exports = Exports::new();
    exports.add(Export::new("d", Arc::new(MemoryDisk::new("m", Bytes(SIZE))), false)).ok()?;
    let mut handshake = Handshake::new(Arc::new(exports), tls);
    let mut arrived = 0;
    loop {
        let step = handshake.step().ok()?;
        handshake.take_output();
        match step {
            Step::Send => {}
            Step::StartTls => handshake.tls_started(),
            Step::Ended => return None,
            Step::Ready(transmission) => return Some((transmission, arrived)),
            Step::Read if arrived == sent.len() => return None,
            Step::Read => {
                let buffer = handshake.read_buffer();
                assert!(!buffer.is_empty());
                let length = buffer.len().min(sent.len() - arrived).min(13);
                buffer[..length].copy_from_slice(&sent[arrived..arrived + length]);
                handshake.advance(length);
                arrived += length;
            }
        }
    }
}

fn transmit(mut transmission: Transmission, mut sent: &[u8]) {
    let mut answer = Vec::new();
    while let Ok(incoming) = transmission.next() {
        match incoming {
            Incoming::Disconnect => return,
            Incoming::Request(request) => {
                let most = request.bytes() + 4096;
                answer.clear();
                request.run(&mut answer);
                assert!(!answer.is_empty() && answer.len() <= most);
            }
            Incoming::Nothing if sent.is_empty() => return,
            Incoming::Nothing => {
                let buffer = transmission.read_buffer();
                assert!(!buffer.is_empty());
                let length = buffer.len().min(sent.len()).min(997);
                buffer[..length].copy_from_slice(&sent[..length]);
                transmission.advance(length);
                sent = &sent[length..];
            }
        }
    }
}
