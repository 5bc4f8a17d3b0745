//! A signed repository of packages, as apt takes it.
//!
//! ```text
//! master-target.gpg, .asc                   the public key, for /etc/apt and for people
//! SHA256SUMS, SHA256SUMS.asc                what is given away, for who does without apt
//! pool/main/NAME_VERSION_amd64.deb
//! dists/stable/Release, Release.gpg         checksums of the lists, and their signature
//! dists/stable/InRelease                    both in one
//! dists/stable/main/binary-amd64/Packages, .gz, .xz
//! ```
//!
//! It is for apt 1.2 and gpgv 1.4, those of Ubuntu 16.04: checksums are SHA-256, and signatures are made by RSA with
//! SHA-512. But for the signatures, the same packages give the same bytes.

mod key;

use crate::command::output;
use crate::source_date;
use anyhow::{Context, Result, ensure};
use clap::Args;
use key::Key;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Length of keys that are made, in bits.
const KEY_BITS: u32 = 4096;
const POOL: &str = "pool/main";
const DISTRIBUTION: &str = "dists/stable";
const LISTS: &str = "main/binary-amd64";

#[derive(Args)]
pub(crate) struct Options {
    /// Folder with the packages; what else is in it is given away beside them.
    #[arg(long)]
    packages: PathBuf,
    /// Folder to make, which may not be there, or has to be empty.
    #[arg(long)]
    output: PathBuf,
    /// File with the secret key that signs, without passphrase.
    #[arg(long)]
    key: PathBuf,
    /// Make a key and write it into that file, which may not be there yet.
    #[arg(long)]
    make_key: bool,
}

/// Makes the repository, and the key first when that is asked for.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.make_key {
        key::make(&options.key, KEY_BITS)?;
        println!("{}: the secret key. Who has it can make packages in our name", options.key.display());
    }
    make(&options.packages, &options.output, &Key::of(&options.key)?)?;
    println!("{}: the repository", options.output.display());
    Ok(())
}

fn make(packages: &Path, repository: &Path, key: &Key) -> Result<()> {
    let lists = repository.join(DISTRIBUTION).join(LISTS);
    ensure!(
        entries(repository).is_ok_and(|files| files.is_empty()) || !repository.exists(),
        "{} is not empty",
        repository.display()
    );
    for folder in [&repository.join(POOL), &lists] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut index = String::new();
    let mut given_away = Vec::new();
    for file in entries(packages)?.into_iter().filter(|file| file.is_file()) {
        let name = file.file_name().and_then(|name| name.to_str()).context("a file's name is no text")?;
        let is_package = name.ends_with(".deb");
        let place = if is_package { format!("{POOL}/{name}") } else { name.to_owned() };
        fs::copy(&file, repository.join(&place))
            .with_context(|| format!("cannot copy {}", file.display()))?;
        if is_package {
            index += &stanza(repository, &place)?;
        }
        given_away.push(place);
    }
    ensure!(!index.is_empty(), "there is no package in {}", packages.display());
    write(&lists.join("Packages"), index.as_bytes())?;
    for (program, arguments) in [("gzip", ["--best", "--no-name"]), ("xz", ["-9", "--threads=1"])] {
        output(Command::new(program).args(arguments).arg("--keep").arg(lists.join("Packages")))?;
    }
    let distribution = repository.join(DISTRIBUTION);
    write(&distribution.join("Release"), release(&distribution)?.as_bytes())?;
    key.sign(&distribution.join("Release"), "--clear-sign", &distribution.join("InRelease"))?;
    key.sign(&distribution.join("Release"), "--detach-sign", &distribution.join("Release.gpg"))?;
    let mut sums = String::new();
    for place in given_away {
        writeln!(sums, "{}  {place}", sum(&repository.join(&place))?.0)?;
    }
    write(&repository.join("SHA256SUMS"), sums.as_bytes())?;
    key.sign(&repository.join("SHA256SUMS"), "--detach-sign", &repository.join("SHA256SUMS.asc"))?;
    key.export(repository)
}

/// What the list tells of a package: its control fields, and where it is.
fn stanza(repository: &Path, place: &str) -> Result<String> {
    let file = repository.join(place);
    let fields = output(Command::new("dpkg-deb").arg("--field").arg(&file))?;
    let (sum, size) = sum(&file)?;
    Ok(format!("{}\nFilename: {place}\nSize: {size}\nSHA256: {sum}\n\n", fields.trim_end()))
}

/// What is signed: which lists there are, each with its checksum.
fn release(distribution: &Path) -> Result<String> {
    let date = source_date::shown(source_date::seconds()?, "%a, %d %b %Y %H:%M:%S UTC")?;
    let mut text = format!(
        "Origin: master-target\nLabel: master-target\nSuite: stable\nCodename: stable\nDate: {date}\nArchitectures: amd64\n\
         Components: main\nDescription: Packages of the master target\nSHA256:\n"
    );
    for file in entries(&distribution.join(LISTS))? {
        let (sum, size) = sum(&file)?;
        writeln!(text, " {sum} {size} {}", file.strip_prefix(distribution)?.display())?;
    }
    Ok(text)
}

/// SHA-256 of a file, and its length in bytes.
fn sum(file: &Path) -> Result<(String, usize)> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut text = String::new();
    for byte in Sha256::digest(&bytes) {
        write!(text, "{byte:02x}")?;
    }
    Ok((text, bytes.len()))
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
}

/// What is in a folder, in the order of the names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
