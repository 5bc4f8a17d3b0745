//! Whatever arrives on a connection is a frame or an error; what is a frame encodes and decodes to itself.
//!
//! The first byte decides whether checksums are mended, so that the payload parsers are reached too.

#![no_main]

use change_stream::{Compression, Decoder, HEADER_SIZE, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((mend, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if *mend & 1 == 1 {
        mend_checksums(&mut bytes);
    }
    let mut decoder = Decoder::new();
    let mut left = &bytes[..];
    while !left.is_empty() {
        let piece = left.len().min(1 + usize::from(*mend) * 16);
        let taken = decoder.feed(&left[..piece]);
        left = &left[taken..];
        loop {
            match decoder.next() {
                Ok(Some(frame)) => {
                    let mut again = Vec::new();
                    encode(&frame, Compression::Lz4, &mut again).expect("a decoded frame may be sent");
                    let mut second = Decoder::new();
                    assert_eq!(second.feed(&again), again.len());
                    assert_eq!(second.next(), Ok(Some(frame)));
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});

/// Makes the input a sequence of frames with good magic, lengths within it, and good checksums.
fn mend_checksums(bytes: &mut [u8]) {
    let mut at = 0;
    while at + HEADER_SIZE <= bytes.len() {
        let (header, rest) = bytes[at..].split_at_mut(HEADER_SIZE);
        header[0..6].copy_from_slice(b"MTCS\x01\0");
        let length = (u16::from_le_bytes([header[8], header[9]]) as usize).min(rest.len());
        header[8..12].copy_from_slice(&(length as u32).to_le_bytes());
        header[16..20].copy_from_slice(&crc32c::crc32c(&rest[..length]).to_le_bytes());
        let checksum = crc32c::crc32c(&header[..20]);
        header[20..24].copy_from_slice(&checksum.to_le_bytes());
        at += HEADER_SIZE + length;
    }
}
