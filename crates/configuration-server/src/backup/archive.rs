//! The form of an archive: 64 bytes, then a database. Everything is covered by the checksum.
//!
//! ```text
//!  0   8  magic "MTCSBAK\n"
//!  8   4  version, little-endian: 1
//! 12   4  0
//! 16   8  length of the database, little-endian
//! 24   8  when it was made, nanoseconds since the Unix epoch, little-endian
//! 32  32  SHA-256 of bytes 0 to 32 and of the database
//! 64      the database
//! ```

use anyhow::{Context, Result, bail, ensure};
use control_api::time::Time;
use ring::digest::{self, SHA256};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

const MAGIC: &[u8; 8] = b"MTCSBAK\n";
const VERSION: u32 = 1;
const HEADER: usize = 64;
/// Where the checksum begins.
const COVERED: usize = 32;

/// What an archive says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Length of the database, in bytes.
    pub(super) length: u64,
    pub(super) made: Time,
    checksum: [u8; 32],
}

impl Header {
    /// Takes a header apart; the checksum is not looked at.
    fn parse(bytes: &[u8; HEADER]) -> Result<Header> {
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]));
        let version = u32::from_le_bytes(std::array::from_fn(|index| bytes[8 + index]));
        ensure!(bytes[..8] == *MAGIC, "it is no backup of a configuration server");
        ensure!(
            version == VERSION,
            "it is in version {version} of the format, this mt-configserver reads version {VERSION}; use the release \
             that made it"
        );
        let checksum = std::array::from_fn(|index| bytes[COVERED + index]);
        Ok(Header { length: number(16), made: number(24), checksum })
    }

    /// The bytes that the checksum covers.
    fn covered(length: u64, made: Time) -> [u8; COVERED] {
        let mut bytes = [0; COVERED];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&length.to_le_bytes());
        bytes[24..].copy_from_slice(&made.to_le_bytes());
        bytes
    }
}

/// Writes an archive of a database.
pub(super) fn write(
    mut database: impl Read,
    length: u64,
    made: Time,
    mut archive: impl Write + Seek,
) -> Result<()> {
    let covered = Header::covered(length, made);
    let mut checksum = digest::Context::new(&SHA256);
    checksum.update(&covered);
    archive.write_all(&covered)?;
    archive.write_all(&[0; HEADER - COVERED])?;
    let copied = copy(&mut database, length, &mut checksum, |piece| archive.write_all(piece))?;
    ensure!(copied == length, "the copy of the store became shorter");
    archive.seek(SeekFrom::Start(COVERED as u64))?;
    archive.write_all(checksum.finish().as_ref())?;
    Ok(())
}

/// Reads an archive through, and tells what it says of itself, when the checksum is right.
pub(super) fn verify(mut archive: impl Read) -> Result<Header> {
    let mut bytes = [0; HEADER];
    archive.read_exact(&mut bytes).context("it is too short for a backup")?;
    let header = Header::parse(&bytes)?;
    let mut checksum = digest::Context::new(&SHA256);
    checksum.update(&bytes[..COVERED]);
    let length = copy(&mut archive, header.length, &mut checksum, |_| Ok(()))?;
    let more = archive.read(&mut [0])?;
    match length == header.length && more == 0 && checksum.finish().as_ref() == header.checksum {
        true => Ok(header),
        false => bail!("it is damaged or incomplete: its checksum is wrong; use another backup"),
    }
}

/// Copies the database out of an archive that was verified, and verifies it once more: it may have changed meanwhile.
pub(super) fn extract(mut archive: File, header: &Header, mut database: impl Write) -> Result<()> {
    archive.seek(SeekFrom::Start(HEADER as u64))?;
    let mut checksum = digest::Context::new(&SHA256);
    checksum.update(&Header::covered(header.length, header.made));
    copy(&mut archive, header.length, &mut checksum, |piece| database.write_all(piece))?;
    ensure!(checksum.finish().as_ref() == header.checksum, "it changes while it is read; try again");
    Ok(())
}

/// Hands at most so many bytes to the checksum and to `take`, piece by piece; how many there were.
fn copy(
    from: &mut impl Read,
    length: u64,
    checksum: &mut digest::Context,
    mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<u64> {
    let (mut piece, mut from) = (vec![0; 65_536], from.take(length));
    let mut copied = 0;
    loop {
        let got = match from.read(&mut piece) {
            Ok(0) => return Ok(copied),
            Ok(got) => got,
            Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(cause) => return Err(cause.into()),
        };
        checksum.update(&piece[..got]);
        take(&piece[..got])?;
        copied += got as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn archive(database: &[u8]) -> Vec<u8> {
        let mut archive = Cursor::new(Vec::new());
        write(database, database.len() as u64, 0x1122_3344_5566_7788, &mut archive).unwrap();
        archive.into_inner()
    }

    #[test]
    fn the_form_is_as_documented() {
        let bytes = archive(b"database");
        let mut expected =
            b"MTCSBAK\n\x01\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x88\x77\x66\x55\x44\x33\x22\x11".to_vec();
        let covered = [&expected[..], b"database"].concat();
        expected.extend_from_slice(digest::digest(&SHA256, &covered).as_ref());
        expected.extend_from_slice(b"database");
        assert_eq!(bytes, expected);
        let header = verify(&bytes[..]).unwrap();
        assert_eq!((header.length, header.made), (8, 0x1122_3344_5566_7788));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let good = archive(&(0..=255).collect::<Vec<u8>>());
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // Bytes 12 to 16 are read by nobody, but the checksum covers them as well.
            verify(&bad[..]).expect_err(&format!("bit {bit}"));
        }
        for length in 0..good.len() {
            verify(&good[..length]).expect_err(&format!("length {length}"));
        }
        verify(&[&good[..], b"x"].concat()[..]).unwrap_err();
    }

    #[test]
    fn what_it_is_not_is_said() {
        let said = |bytes: &[u8]| format!("{:#}", verify(bytes).unwrap_err());
        assert!(said(&[b'x'; 100]).contains("no backup of a configuration server"));
        assert!(said(b"").contains("too short"));
        let mut newer = archive(b"x");
        newer[8] = 2;
        assert!(said(&newer).contains("version 2 of the format"), "{}", said(&newer));
    }
}
