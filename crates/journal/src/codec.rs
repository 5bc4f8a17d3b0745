//! One bounded reader for everything that is parsed, and the writer that goes with it. Numbers are little endian.

/// Result of parsing: the error says what is wrong.
pub(crate) type Parsed<T> = std::result::Result<T, &'static str>;

/// A position in bytes that someone else wrote; it never reads past their end.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Parsed<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or("it ends too early")?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or("it ends too early")?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Parsed<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Parsed<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Parsed<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Parsed<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A text of a length that was limited before.
    pub(crate) fn text(&mut self, length: usize) -> Parsed<String> {
        let bytes = self.bytes(length)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "a name is not UTF-8")
    }

    /// A count of entries of `size` bytes each, which the rest of the bytes can really hold.
    pub(crate) fn count(&mut self, size: usize) -> Parsed<usize> {
        let count = self.u32()? as usize;
        if count > self.rest.len() / size {
            return Err("a count is larger than what follows it");
        }
        Ok(count)
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Trailing bytes are an error.
    pub(crate) fn finish(self) -> Parsed<()> {
        if self.is_empty() { Ok(()) } else { Err("bytes follow where none should") }
    }
}

/// Appends numbers and texts.
pub(crate) trait Put {
    fn put(&mut self, bytes: &[u8]);

    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// The unit in which the medium writes whole or not at all: records start at its multiples and share none.
pub(crate) const SECTOR: u64 = disk::SECTOR_SIZE;

/// `length`, rounded up to whole sectors.
pub(crate) fn padded(length: u64) -> u64 {
    length.next_multiple_of(SECTOR)
}
