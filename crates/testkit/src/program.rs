//! Programs that stand in for those of the system.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Makes a program of a script, in a folder that is there; it takes the place of another one.
///
/// Another process writes the file. If this one did, a child that another test's thread starts meanwhile would hold it open for
/// writing for a moment, and Linux would refuse to run it ("Text file busy").
///
/// # Panics
/// When it cannot be made.
pub fn program(path: &Path, script: &str) {
    let mut install = Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("coreutils has install");
    let mut input = install.stdin.take().expect("it has a pipe");
    input.write_all(script.as_bytes()).expect("it reads the script");
    drop(input);
    let status = install.wait().expect("it ends");
    assert!(status.success(), "{} cannot be made ({status})", path.display());
}
