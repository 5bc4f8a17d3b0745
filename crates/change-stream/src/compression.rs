//! Compression of the data at the end of a frame.

use crate::Fault;

/// How the data of a frame is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// An LZ4 block: cheap.
    Lz4 = 1,
    /// A Zstandard frame: smaller.
    Zstd = 2,
}

/// The fastest level whose ratio is still far better than LZ4's.
const ZSTD_LEVEL: i32 = 1;

impl Compression {
    pub(crate) fn from_code(code: u8) -> Option<Compression> {
        match code {
            0 => Some(Compression::None),
            1 => Some(Compression::Lz4),
            2 => Some(Compression::Zstd),
            _ => None,
        }
    }
}

/// Compresses with contexts that are kept from frame to frame.
#[derive(Default)]
pub(crate) struct Compressor {
    zstd: Option<zstd::bulk::Compressor<'static>>,
    scratch: Vec<u8>,
}

impl Compressor {
    /// The compressed form of `data`, or `None` where it would not be shorter.
    pub(crate) fn compress(&mut self, compression: Compression, data: &[u8]) -> Result<Option<&[u8]>, Fault> {
        let bound = match compression {
            Compression::None => return Ok(None),
            Compression::Lz4 => lz4_flex::block::get_maximum_output_size(data.len()),
            Compression::Zstd => zstd::zstd_safe::compress_bound(data.len()),
        };
        if self.scratch.len() < bound {
            self.scratch.resize(bound, 0);
        }
        let length = match compression {
            Compression::Zstd => self.zstd(data)?,
            _ => lz4_flex::block::compress_into(data, &mut self.scratch).map_err(failed)?,
        };
        Ok((length < data.len()).then(|| &self.scratch[..length]))
    }

    fn zstd(&mut self, data: &[u8]) -> Result<usize, Fault> {
        let compressor = match &mut self.zstd {
            Some(compressor) => compressor,
            none => none.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(failed)?),
        };
        compressor.compress_to_buffer(data, &mut self.scratch[..]).map_err(failed)
    }
}

fn failed(cause: impl std::fmt::Display) -> Fault {
    Fault::Compression { cause: cause.to_string() }
}

/// Decompresses with a context that is kept from frame to frame.
#[derive(Default)]
pub(crate) struct Decompressor {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl Decompressor {
    /// Exactly `length` bytes out of `stored`; the caller has limited `length`.
    pub(crate) fn decompress(
        &mut self,
        compression: Compression,
        stored: &[u8],
        length: usize,
    ) -> Result<Vec<u8>, Fault> {
        if compression == Compression::None {
            let (expected, found) = (length as u64, stored.len() as u64);
            return match expected == found {
                true => Ok(stored.to_vec()),
                false => Err(Fault::Unexpected { field: "data length", expected, found }),
            };
        }
        let mut data = vec![0; length];
        let failed = |cause: String| Fault::Decompression { expected: length as u64, cause };
        let got = match compression {
            Compression::Zstd => self.zstd(stored, &mut data).map_err(failed)?,
            _ => lz4_flex::block::decompress_into(stored, &mut data).map_err(|e| failed(e.to_string()))?,
        };
        if got != length {
            return Err(failed(format!("only {got} bytes came out")));
        }
        Ok(data)
    }

    fn zstd(&mut self, stored: &[u8], data: &mut [u8]) -> Result<usize, String> {
        let decompressor = match &mut self.zstd {
            Some(decompressor) => decompressor,
            none => none.insert(zstd::bulk::Decompressor::new().map_err(|e| e.to_string())?),
        };
        decompressor.decompress_to_buffer(stored, data).map_err(|e| e.to_string())
    }
}
