//! The disk that is replicated: someone's image, or one made here with a real file system full of real files.

use anyhow::{Context, Result, bail};
use rig::tools::run;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const MIB: u64 = 1 << 20;
/// First partition: the file system. Second: where the demo keeps writing.
const FILE_SYSTEM: std::ops::Range<u64> = MIB..257 * MIB;
const SCRATCH: std::ops::Range<u64> = 257 * MIB..383 * MIB;
const SIZE: u64 = 384 * MIB;

/// The source disk of the demo.
pub(crate) struct SourceImage {
    /// Bytes.
    pub size: u64,
    /// Where the demo may write.
    pub scratch: std::ops::Range<u64>,
    /// Where an ext4 file system begins, if the demo made one.
    pub file_system: Option<u64>,
}

impl SourceImage {
    /// Makes `raw` a copy of someone's image in whatever format: the demo writes to the copy only.
    pub(crate) fn copy_of(image: &Path, raw: &Path) -> Result<SourceImage> {
        let (from, to) = (image.to_string_lossy(), raw.to_string_lossy());
        run("qemu-img", &["convert", "-O", "raw", &from, &to])
            .with_context(|| format!("cannot read {from}"))?;
        let size = std::fs::metadata(raw)?.len();
        if size == 0 {
            bail!("{from} is empty: there is nothing to replicate");
        }
        Ok(SourceImage { size, scratch: 0..size, file_system: None })
    }

    /// Makes `raw` a partitioned disk with an ext4 file system full of the files of this machine.
    pub(crate) fn make(raw: &Path, folder: &Path) -> Result<SourceImage> {
        std::fs::File::create(raw)?.set_len(SIZE)?;
        partition(raw)?;
        let files = folder.join("files");
        gather_files(&files)?;
        let offset = format!("offset={}", FILE_SYSTEM.start);
        let size = format!("{}k", (FILE_SYSTEM.end - FILE_SYSTEM.start) / 1024);
        let (raw, tree) = (raw.to_string_lossy(), files.to_string_lossy());
        run(
            "/sbin/mkfs.ext4",
            &["-q", "-F", "-O", "^metadata_csum,^64bit", "-E", &offset, "-d", &tree, &raw, &size],
        )?;
        std::fs::remove_dir_all(&files)?;
        Ok(SourceImage { size: SIZE, scratch: SCRATCH, file_system: Some(FILE_SYSTEM.start) })
    }
}

fn partition(raw: &Path) -> Result<()> {
    let mut child = Command::new("/sbin/sfdisk")
        .args(["-q", "-X", "dos"])
        .arg(raw)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot run sfdisk; `cargo xtask setup` installs it")?;
    let sectors = |range: std::ops::Range<u64>| (range.start / 512, (range.end - range.start) / 512);
    let script: String = [FILE_SYSTEM, SCRATCH]
        .map(sectors)
        .iter()
        .map(|(start, size)| format!("start={start}, size={size}, type=83\n"))
        .collect();
    child.stdin.take().context("sfdisk takes no input")?.write_all(script.as_bytes())?;
    if !child.wait()?.success() {
        bail!("sfdisk could not partition {}", raw.display());
    }
    Ok(())
}

/// Real files of this machine: programs, libraries, texts.
fn gather_files(into: &Path) -> Result<()> {
    std::fs::create_dir_all(into)?;
    let mut budget = 160 * MIB;
    for folder in ["/usr/bin", "/usr/share/doc", "/usr/share/perl", "/usr/lib/python3"] {
        let copied = into.join(Path::new(folder).file_name().context("a folder has a name")?);
        copy_tree(Path::new(folder), &copied, &mut budget, 6)?;
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path, budget: &mut u64, depth: u32) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(from) else { return Ok(()) };
    std::fs::create_dir_all(to)?;
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if kind.is_dir() && depth > 0 {
            copy_tree(&path, &target, budget, depth - 1)?;
        } else if kind.is_file() {
            let size = entry.metadata()?.len() + 4096;
            if size < *budget / 8 && std::fs::copy(&path, &target).is_ok() {
                *budget -= size;
            }
        }
    }
    Ok(())
}

/// Checks the file system inside an image without mending anything.
pub(crate) fn check_file_system(raw: &Path, offset: u64) -> Result<()> {
    let target = format!("{}?offset={offset}", raw.to_string_lossy());
    run("/sbin/e2fsck", &["-f", "-n", &target]).map(|_| ())
}
