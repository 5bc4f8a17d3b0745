//! A tar archive (ustar), compressed by gzip.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{Error, Result, Write};

const BLOCK: usize = 512;
/// Bytes of a name that a header holds.
const LONGEST_NAME: usize = 100;

/// The archive of files, each a name and its content, in one folder. All are of the same second, and their owner's alone.
pub(super) fn pack(folder: &str, files: &[(String, Vec<u8>)], seconds: u64) -> Result<Vec<u8>> {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    for (name, content) in files {
        out.write_all(&header(&format!("{folder}/{name}"), content.len(), seconds)?)?;
        out.write_all(content)?;
        out.write_all(&[0; BLOCK][..content.len().next_multiple_of(BLOCK) - content.len()])?;
    }
    out.write_all(&[0; 2 * BLOCK])?;
    out.finish()
}

fn header(name: &str, length: usize, seconds: u64) -> Result<[u8; BLOCK]> {
    let mut header = [0; BLOCK];
    // A name that is too long for one field is parted at a slash.
    let (prefix, name) = match name.len() {
        0..=LONGEST_NAME => ("", name),
        _ => name
            .match_indices('/')
            .map(|(at, _)| (&name[..at], &name[at + 1..]))
            .find(|(prefix, rest)| prefix.len() <= 155 && rest.len() <= LONGEST_NAME)
            .ok_or_else(|| Error::other(format!("the name {name} is too long for an archive")))?,
    };
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{length:011o}\0").as_bytes());
    put(136, format!("{seconds:011o}\0").as_bytes());
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    put(345, prefix.as_bytes());
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn tar_unpacks_it() {
        let folder = tempfile::tempdir().unwrap();
        let long = format!("state/{}/{}", "a".repeat(90), "b".repeat(90));
        let files = [
            ("empty".to_owned(), Vec::new()),
            ("one".to_owned(), vec![b'x'; 512]),
            (long, b"three\n".to_vec()),
        ];
        let path = folder.path().join("a.tar.gz");
        std::fs::write(&path, pack("here", &files, 1_700_000_000).unwrap()).unwrap();
        let tar = Command::new("tar").arg("-xzf").arg(&path).arg("-C").arg(folder.path()).status().unwrap();
        assert!(tar.success());
        for (name, content) in &files {
            let path = folder.path().join("here").join(name);
            assert_eq!(&std::fs::read(&path).unwrap(), content, "{name}");
            let modified = path.metadata().unwrap().modified().unwrap();
            let seconds = modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
            assert_eq!(seconds, 1_700_000_000);
        }
        assert!(pack("here", &[("c".repeat(200), Vec::new())], 0).is_err());
    }
}
