//! Whatever a disk holds, it is known for something or not, without a read outside of it.
//!
//! The input is a list of patches to a medium of zeroes: length of the medium, then where, how many, and bytes.

#![no_main]

use block_device::fuzzing::{Medium, detect};
use libfuzzer_sys::fuzz_target;

/// Longer than any place that is looked at, and not a multiple of anything.
const LONGEST: usize = (256 << 10) + 777;

/// What one look may read at once.
const MOST_AT_ONCE: usize = 68 << 10;

struct Checked<'a>(&'a [u8]);

impl Medium for Checked<'_> {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        assert!(length <= MOST_AT_ONCE, "{length} bytes at once");
        self.0.read(offset, length)
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((length, mut patches)) = input.split_at_checked(3) else { return };
    let length = u32::from_le_bytes([length[0], length[1], length[2], 0]) as usize % LONGEST;
    let mut medium = vec![0; length];
    while let Some((header, rest)) = patches.split_at_checked(4) {
        let at = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
        let count = usize::from(header[3]).min(rest.len());
        let (bytes, rest) = rest.split_at(count);
        // What does not fit is cut off.
        for (place, byte) in medium.iter_mut().skip(at).zip(bytes) {
            *place = *byte;
        }
        patches = rest;
    }
    let _ = detect(&Checked(&medium)).map(|signature| signature.to_string());
});
