//! What a scenario's header says: the machine it wants, and what must hold around it.
//!
//! The header is the block of comment lines at the top of the script. A line `# key: value` in it must have a key that
//! is known here, so that a misspelt one cannot go unnoticed; other comment lines are free text.

use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Disks on one controller of VMware.
const MOST_DISKS: usize = 15;
/// Disks that the smallest of the emulated ones, LSI parallel SCSI, takes besides itself.
const MOST_DISKS_ON_LSI: usize = 6;
/// Paths to one disk, each through a controller of its own.
const MOST_PATHS: u8 = 4;
const MOST_BOOTS: u32 = 10;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scenario {
    pub(super) name: String,
    pub(super) about: String,
    pub(super) machine: Machine,
    /// Whether the packages are installed before.
    pub(super) packages: bool,
    /// How often the guest boots in a run; the script runs once after each.
    pub(super) boots: u32,
    /// How long the script may take, each time that it runs.
    pub(super) limit: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Machine {
    pub(super) processors: u32,
    pub(super) memory_mib: u64,
    pub(super) face: Face,
    pub(super) controller: Controller,
    pub(super) disks: Vec<Disk>,
}

/// Whose machine it claims to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Face {
    Vmware,
    Qemu,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Controller {
    Pvscsi,
    Lsi,
    Mptsas,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Disk {
    pub(super) name: String,
    pub(super) size: u64,
    /// Without it the disk has no SCSI id at all, as where disk.EnableUUID is not set.
    pub(super) wwn: Option<u64>,
    pub(super) paths: u8,
    /// Bytes of a logical sector.
    pub(super) sector: u32,
    /// Whether the machine starts with it.
    pub(super) attached: bool,
}

/// Reads the header of one scenario's file.
pub(super) fn read(file: &Path) -> Result<Scenario> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    parse(&name, &text).map_err(|(line, error)| error.context(format!("{}:{line}", file.display())))
}

/// All scenarios of a folder, by name.
pub(super) fn read_all(folder: &Path) -> Result<Vec<Scenario>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        ensure!(
            file.extension().is_some_and(|end| end == "sh"),
            "{}: only scenarios, NAME.sh, belong here",
            file.display()
        );
        files.push(file);
    }
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

/// The error comes with the number of its line.
fn parse(name: &str, text: &str) -> Result<Scenario, (usize, anyhow::Error)> {
    let mut scenario = Scenario {
        name: name.to_owned(),
        about: String::new(),
        machine: Machine {
            processors: 4,
            memory_mib: 6400,
            face: Face::Vmware,
            controller: Controller::Pvscsi,
            disks: Vec::new(),
        },
        packages: true,
        boots: 1,
        limit: Duration::from_secs(300),
    };
    let mut seen: Vec<&str> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some(comment) = line.strip_prefix('#') else { break };
        let Some((key, value)) = key_and_value(comment) else { continue };
        if key != "disk" && seen.contains(&key) {
            return Err((index + 1, anyhow::anyhow!("{key} is there twice")));
        }
        seen.push(key);
        set(&mut scenario, key, value).map_err(|error| (index + 1, error))?;
    }
    if scenario.about.is_empty() {
        return Err((1, anyhow::anyhow!("the header lacks a line \"# about: what it shows\"")));
    }
    let machine = &scenario.machine;
    if machine.controller != Controller::Pvscsi && machine.disks.len() > MOST_DISKS_ON_LSI {
        let limit =
            anyhow::anyhow!("there can be {MOST_DISKS_ON_LSI} disks on a controller that is not pvscsi");
        return Err((1, limit));
    }
    Ok(scenario)
}

/// A comment whose first word ends in a colon.
fn key_and_value(comment: &str) -> Option<(&str, &str)> {
    let (key, value) = comment.trim().split_once(':')?;
    let is_word = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_word.then(|| (key, value.trim()))
}

fn set(scenario: &mut Scenario, key: &str, value: &str) -> Result<()> {
    let machine = &mut scenario.machine;
    match key {
        "about" => scenario.about = value.to_owned(),
        "disk" => add_disk(&mut machine.disks, value)?,
        "controller" => machine.controller = controller(value)?,
        "smp" => machine.processors = number(value, 1, 16)? as u32,
        "memory" => machine.memory_mib = number_of_bytes(value)? >> 20,
        "smbios" => machine.face = face(value)?,
        "boots" => scenario.boots = number(value, 1, MOST_BOOTS.into())? as u32,
        "timeout" => scenario.limit = Duration::from_secs(number(value, 10, 3600)?),
        "packages" if value == "none" => scenario.packages = false,
        "packages" => bail!("packages can only be none, not {value}"),
        _ => bail!(
            "unknown key {key}; there are about, disk, controller, smp, memory, smbios, boots, packages and timeout"
        ),
    }
    Ok(())
}

fn controller(value: &str) -> Result<Controller> {
    match value {
        "pvscsi" => Ok(Controller::Pvscsi),
        "lsi" => Ok(Controller::Lsi),
        "mptsas" => Ok(Controller::Mptsas),
        _ => bail!("unknown controller {value}; there are pvscsi, lsi and mptsas"),
    }
}

fn face(value: &str) -> Result<Face> {
    match value {
        "vmware" => Ok(Face::Vmware),
        "qemu" => Ok(Face::Qemu),
        _ => bail!("unknown smbios {value}; there are vmware and qemu"),
    }
}

/// `NAME size=64M [wwn=0x…] [paths=2] [sector=4096] [attach=later]`
fn add_disk(disks: &mut Vec<Disk>, value: &str) -> Result<()> {
    let mut words = value.split_whitespace();
    let name = words.next().context("a disk needs a name")?;
    let is_name = name.len() <= 16 && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    ensure!(is_name, "{name} is no name of a disk: at most 16 letters and digits");
    ensure!(name != "root" && disks.iter().all(|disk| disk.name != name), "the name {name} is taken");
    ensure!(disks.len() < MOST_DISKS, "there can be {MOST_DISKS} disks besides the root disk");
    let mut disk = Disk { name: name.to_owned(), size: 0, wwn: None, paths: 1, sector: 512, attached: true };
    for word in words {
        let (key, value) =
            word.split_once('=').with_context(|| format!("{word} is not of the form KEY=VALUE"))?;
        match key {
            "size" => disk.size = number_of_bytes(value)?,
            "wwn" => disk.wwn = Some(wwn(value)?),
            "paths" => disk.paths = number(value, 1, MOST_PATHS.into())? as u8,
            "sector" if value == "512" || value == "4096" => disk.sector = number(value, 512, 4096)? as u32,
            "sector" => bail!("a sector has 512 or 4096 bytes, not {value}"),
            "attach" if value == "later" => disk.attached = false,
            "attach" => bail!("attach can only be later, not {value}"),
            _ => bail!("unknown key {key} of disk {name}; there are size, wwn, paths, sector and attach"),
        }
    }
    ensure!(disk.size > 0 && disk.size.is_multiple_of(4096), "disk {name} needs a size in whole 4 KiB");
    disks.push(disk);
    Ok(())
}

fn wwn(value: &str) -> Result<u64> {
    let digits = value.strip_prefix("0x").filter(|digits| digits.len() == 16);
    digits
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .with_context(|| format!("{value} is no wwn: 0x and 16 hexadecimal digits"))
}

fn number(value: &str, least: u64, most: u64) -> Result<u64> {
    let number: u64 = value.parse().with_context(|| format!("{value} is no number"))?;
    ensure!((least..=most).contains(&number), "{value} is not within {least} and {most}");
    Ok(number)
}

/// `4096`, `64M`: binary units.
pub(super) fn number_of_bytes(value: &str) -> Result<u64> {
    let units = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let unit = units.iter().find(|(letter, _)| value.ends_with(*letter));
    let (digits, shift) = unit.map_or((value, 0), |(_, shift)| (&value[..value.len() - 1], *shift));
    let number: u64 = digits.parse().with_context(|| format!("{value} is no size such as 64M"))?;
    number.checked_mul(1 << shift).with_context(|| format!("{value} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(text: &str) -> (usize, String) {
        let (line, error) = parse("one", text).expect_err("must not be taken");
        (line, format!("{error:#}"))
    }

    #[test]
    fn a_header_describes_a_machine() {
        let text = "#!/usr/bin/env bash\n# about: two paths\n# Free text, and a colon: allowed\n# disk: data1 size=64M \
                    wwn=0x6000c29a00000001 paths=2\n# disk: later size=1T sector=4096 attach=later\n# controller: \
                    lsi\n# smp: 2\n# memory: 2G\n# smbios: qemu\n# boots: 2\n# packages: none\n# timeout: 60\n\n# unknown: after it\n";
        let scenario = parse("one", text).unwrap();
        assert_eq!((scenario.name.as_str(), scenario.about.as_str()), ("one", "two paths"));
        assert_eq!((scenario.boots, scenario.limit), (2, Duration::from_secs(60)));
        assert!(!scenario.packages && parse("one", "# about: x\n").unwrap().packages);
        let machine = scenario.machine;
        assert_eq!((machine.processors, machine.memory_mib), (2, 2048));
        assert_eq!((machine.face, machine.controller), (Face::Qemu, Controller::Lsi));
        let [data, later] = machine.disks.as_slice() else { panic!("two disks") };
        assert_eq!((data.size, data.wwn, data.paths), (64 << 20, Some(0x6000_c29a_0000_0001), 2));
        assert!(data.attached && !later.attached);
        assert_eq!((later.size, later.wwn, later.sector), (1 << 40, None, 4096));
    }

    #[test]
    fn what_is_not_known_is_named_with_its_line() {
        let (line, error) = error_of("# about: x\n# discs: data1\n");
        assert_eq!(line, 2);
        assert!(error.contains("unknown key discs"), "{error}");
        assert!(
            error_of("# about: x\n#\n# disk: a size=1M path=2\n").1.contains("unknown key path of disk a")
        );
        let seven = "# disk: a size=1M\n".repeat(7);
        let seven: String = seven
            .lines()
            .enumerate()
            .map(|(n, line)| format!("{}\n", line.replace(" a ", &format!(" a{n} "))))
            .collect();
        assert!(error_of(&format!("# about: x\n# controller: lsi\n{seven}")).1.contains("6 disks"));
        assert!(error_of("# about: x\n# boots: 2\n# boots: 3\n").1.contains("twice"));
        assert!(error_of("# disk: a size=1M\n").1.contains("about"));
    }

    #[test]
    fn values_are_limited() {
        for (value, part) in [
            ("a", "needs a size"),
            ("a size=1000", "whole 4 KiB"),
            ("a size=99999999999T", "too large"),
            ("a size=M", "no size"),
            ("a size=1M paths=9", "not within 1 and 4"),
            ("a size=1M wwn=0x6000", "no wwn"),
            ("a size=1M sector=520", "512 or 4096"),
            ("a-b size=1M", "no name of a disk"),
            ("root size=1M", "taken"),
        ] {
            let (line, error) = error_of(&format!("# about: x\n# disk: {value}\n"));
            assert!(line == 2 && error.contains(part), "{value}: {error}");
        }
    }
}
