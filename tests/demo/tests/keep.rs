//! What `--keep` leaves can be played with: somebody logs in as it says, and fails the machine over, commits it and
//! protects it again in the portal.

use anyhow::{Context, Result};
use portal::Person;
use portal::failback::{self, Replica};
use rig::tools::compare;
use rig::{Process, wait_for};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const SIZE: u64 = 16 << 20;
const LONGEST: Duration = Duration::from_secs(300);

/// The demo; it ends what it has started when it is asked to end, and not when it is killed.
struct Demo(Process);

impl Drop for Demo {
    fn drop(&mut self) {
        // Only when the test fails, which is told already.
        if self.0.check_running().is_ok() {
            let _ = self.0.stop();
        }
    }
}

/// What stands behind a word at the beginning of a line.
fn told<'a>(text: &'a str, word: &str) -> Result<&'a str> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(word)?.strip_prefix("  "));
    line.map(str::trim).with_context(|| format!("{word} is not told:\n{text}"))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[test]
fn a_whole_failback_can_be_played_on_what_is_left_running() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (image, dir, log) =
        (folder.path().join("small.img"), folder.path().join("demo"), folder.path().join("demo.log"));
    std::fs::File::create(&image)?.set_len(SIZE)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.arg("--keep").arg("--source").arg(&image).arg("--dir").arg(&dir);
    command.arg("--programs").arg(rig::build()?);
    let mut demo = Demo(Process::start(command, &log)?);
    let said = wait_for("the demo to say what to try", LONGEST, || {
        demo.0.check_running()?;
        let said = std::fs::read_to_string(&log)?;
        Ok(said.contains("Ctrl-C ends it all").then_some(said))
    })?;

    let (name, password) = told(&said, "log in")?.split_once(", ").context("no password")?;
    let person = Person::log_in(told(&said, "portal")?, name, password, None)?;
    person.go("Replicated items", "/items")?;
    person.go("web01", "/items/")?;
    person.wait_for_state("protected")?;
    failback::planned_failover(&person)?;
    failback::commit(&person)?;
    failback::let_writes_through(&person)?;
    failback::reprotect(&person, &Replica::New)?;

    demo.0.stop()?;
    let (source, datastore) = (dir.join("source.img"), dir.join("datastore"));
    for replica in [dir.join("web01-disk0.vmdk"), datastore.join("web01-disk0.vmdk")] {
        compare(&text(&replica), "vmdk", &text(&source), "raw")?;
    }
    Ok(())
}
