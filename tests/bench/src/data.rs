//! The bytes that are replicated.

use anyhow::Result;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use testkit::Rng;

const MIB: u64 = 1 << 20;

/// Text that compresses as prose does.
pub(crate) fn text(rng: &mut Rng, bytes: usize) -> Vec<u8> {
    const WORDS: &str = "the of and a to in is it you that he was for on are with as his they be at one have this \
        from or had by hot word but what some we can out other were all there when up use your how said an each she \
        volume snapshot recovery window administrator datastore failback replication journal network customer";
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut text = Vec::with_capacity(bytes + 16);
    while text.len() < bytes {
        // The product of two draws makes some words common and most rare, as in prose.
        let rank = rng.below(words.len() as u64) * rng.below(words.len() as u64) / words.len() as u64;
        text.extend_from_slice(words[rank as usize].as_bytes());
        text.push(if rng.one_in(12) { b'\n' } else { b' ' });
    }
    text.truncate(bytes);
    text
}

/// A disk of `size` bytes: the first half random, then a quarter text, then a quarter holes.
pub(crate) fn mixed(path: &Path, size: u64, seed: u64) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut rng = Rng::new(seed);
    let mut block = vec![0; MIB as usize];
    for _ in 0..size / 2 / MIB {
        rng.fill(&mut block);
        out.write_all(&block)?;
    }
    for _ in 0..size / 4 / MIB {
        out.write_all(&text(&mut rng, MIB as usize))?;
    }
    let file = out.into_inner()?;
    file.set_len(size)?;
    Ok(file.sync_all()?)
}

/// A disk of `size` random bytes.
pub(crate) fn random(path: &Path, size: u64, seed: u64) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut rng = Rng::new(seed);
    let mut block = vec![0; MIB as usize];
    for _ in 0..size / MIB {
        rng.fill(&mut block);
        out.write_all(&block)?;
    }
    Ok(out.into_inner()?.sync_all()?)
}

/// A disk of `size` bytes of text.
pub(crate) fn prose(path: &Path, size: u64, seed: u64) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut rng = Rng::new(seed);
    for _ in 0..size / MIB {
        out.write_all(&text(&mut rng, MIB as usize))?;
    }
    Ok(out.into_inner()?.sync_all()?)
}
