//! A guest of QEMU.

use anyhow::{Context, Result, bail, ensure};
use chaos::LONGEST;
use rig::tools::run;
use rig::wait_for;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

const SECTOR: usize = 512;
/// The boot sector, the head and the records.
const USED: usize = (16 + 4096) * SECTOR;

/// A running machine that boots from one disk and counts.
pub struct Guest {
    qemu: Child,
    said: Arc<Mutex<Said>>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Said {
    /// The number that it went on from.
    found: Option<u32>,
    /// The newest number that it has written down.
    newest: u32,
    /// Anything else.
    else_said: Vec<String>,
}

/// Puts the guest's program at the beginning of a disk.
pub fn install(disk: &Path, folder: &Path) -> Result<()> {
    let [source, object, program] =
        ["guest.s", "guest.o", "guest.bin"].map(|name| folder.join(name).to_string_lossy().into_owned());
    std::fs::write(&source, include_str!("guest.s"))?;
    run("as", &["--32", "-o", &object, &source])?;
    run("ld", &["-m", "elf_i386", "-Ttext=0x7c00", "--oformat=binary", "-o", &program, &object])?;
    let mut begin = std::fs::read(&program)?;
    ensure!(begin.len() == SECTOR, "a boot sector of {} bytes", begin.len());
    begin.resize(USED, 0);
    Ok(std::fs::File::options().write(true).open(disk)?.write_all_at(&begin, 0)?)
}

impl Guest {
    /// Starts it from an image of this format, as QEMU names both, and waits until it counts.
    pub fn boot(image: &str, format: &str) -> Result<Guest> {
        let mut qemu = Command::new("qemu-system-x86_64")
            .args(["-machine", "pc", "-accel", "tcg", "-m", "16", "-nodefaults", "-display", "none"])
            .args(["-serial", "stdio", "-drive", &format!("if=ide,format={format},file={image}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("cannot run qemu-system-x86_64; `cargo xtask setup` installs it")?;
        let output = qemu.stdout.take().context("QEMU has a pipe")?;
        let said = Arc::new(Mutex::new(Said::default()));
        let noted = said.clone();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                noted.lock().unwrap_or_else(PoisonError::into_inner).note(line.trim());
            }
        });
        let guest = Guest { qemu, said, reader: Some(reader) };
        guest.wait_until_it_goes_on()?;
        Ok(guest)
    }

    /// The number that was the newest on its disk when it booted.
    pub fn found(&self) -> Result<u32> {
        self.said().found.context("it has booted")
    }

    /// The newest number that it has said: it was written to the disk before.
    pub fn newest(&self) -> u32 {
        self.said().newest
    }

    /// Waits until it has written more.
    pub fn wait_until_it_goes_on(&self) -> Result<()> {
        let before = self.newest();
        wait_for("the guest to count", LONGEST, || {
            let said = self.said();
            if !said.else_said.is_empty() {
                bail!("the guest says {:?}", said.else_said);
            }
            Ok((said.found.is_some() && said.newest > before + 10).then_some(()))
        })
    }

    /// Waits until its disk has failed it.
    pub fn wait_until_it_stops(&self) -> Result<()> {
        wait_for("the guest to lose its disk", LONGEST, || {
            Ok(self.said().else_said.iter().any(|line| line == "the disk has failed").then_some(()))
        })
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    fn note(&mut self, line: &str) {
        let number = |text: &str| u32::from_str_radix(text, 16).ok();
        match (line.strip_prefix("found ").map(number), number(line)) {
            (Some(Some(found)), _) => (self.found, self.newest) = (Some(found), found),
            (None, Some(newest)) => self.newest = newest,
            _ => self.else_said.push(line.to_owned()),
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Nothing to be done about a process that cannot be killed, and nobody to tell.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
