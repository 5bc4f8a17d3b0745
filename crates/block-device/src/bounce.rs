//! Aligned memory for direct I/O.

use std::sync::Mutex;

/// Offsets, lengths and memory of direct I/O are multiples of this: it suits every logical block size in use, and
/// it is the size of a page, so direct and cached I/O never share one.
pub(crate) const ALIGNMENT: usize = 4096;

/// Bytes that one bounce buffer holds.
const BUFFER_BYTES: usize = 1 << 20;

/// Buffers kept for the next user; more are made when more threads are at it, and dropped afterwards.
const KEPT: usize = 8;

static POOL: Mutex<Vec<Buffer>> = Mutex::new(Vec::new());

struct Buffer {
    memory: Vec<u8>,
    start: usize,
}

impl Buffer {
    fn new() -> Buffer {
        let memory = vec![0; BUFFER_BYTES + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Buffer { memory, start }
    }
}

/// Lends an aligned buffer of one mebibyte, whose contents are arbitrary.
pub(crate) fn with_buffer<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    let pooled = POOL.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop();
    let mut buffer = pooled.unwrap_or_else(Buffer::new);
    let start = buffer.start;
    let result = work(&mut buffer.memory[start..start + BUFFER_BYTES]);
    let mut pool = POOL.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if pool.len() < KEPT {
        pool.push(buffer);
    }
    result
}

/// True for memory that direct I/O can use as it is.
pub(crate) fn is_aligned(memory: &[u8]) -> bool {
    memory.as_ptr().align_offset(ALIGNMENT) == 0
}

/// Zeroes to write where the file system cannot zero by itself.
#[repr(align(4096))]
struct Zeroes([u8; BUFFER_BYTES]);

static ZEROES: Zeroes = Zeroes([0; BUFFER_BYTES]);

/// One mebibyte of zeroes, aligned.
pub(crate) fn zeroes() -> &'static [u8] {
    &ZEROES.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lent_memory_and_zeroes_are_aligned() {
        with_buffer(|first| {
            with_buffer(|second| {
                assert!(is_aligned(first) && is_aligned(second));
                assert_ne!(first.as_ptr(), second.as_ptr());
            });
        });
        assert!(is_aligned(zeroes()));
        assert!(!is_aligned(&zeroes()[1..]));
    }
}
