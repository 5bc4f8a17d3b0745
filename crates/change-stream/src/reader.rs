//! The one bounded reader that payloads are parsed with.

use crate::{Fault, MAX_TEXT};

pub(crate) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Reader<'a> {
        Reader { left: payload }
    }

    pub(crate) fn take(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], Fault> {
        let Some((taken, left)) = self.left.split_at_checked(length) else {
            return Err(Fault::Short { field, expected: length as u64, found: self.left.len() as u64 });
        };
        self.left = left;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Fault> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(field, N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, Fault> {
        Ok(self.array::<1>(field)?[0])
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, Fault> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, Fault> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, Fault> {
        self.array(field).map(u64::from_le_bytes)
    }

    pub(crate) fn flag(&mut self, field: &'static str) -> Result<bool, Fault> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            code => Err(Fault::Unknown { field, found: u64::from(code) }),
        }
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<String, Fault> {
        let length = usize::from(self.u16(field)?);
        if length > MAX_TEXT {
            return Err(Fault::TooLarge { field, found: length as u64, limit: MAX_TEXT as u64 });
        }
        let bytes = self.take(field, length)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Fault::NotText { field })
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.left)
    }

    /// Refuses bytes that nobody asked for.
    pub(crate) fn finish(self) -> Result<(), Fault> {
        match self.left.len() as u64 {
            0 => Ok(()),
            found => Err(Fault::Trailing { found }),
        }
    }
}
