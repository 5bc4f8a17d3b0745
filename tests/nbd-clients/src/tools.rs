//! Calling clients.

use std::io::ErrorKind;
use std::process::Command;

/// What a client said.
pub struct Finished {
    /// True when it exited with status 0.
    pub succeeded: bool,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

/// Calls a client that has to succeed, and returns its output.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let finished = try_run(program, arguments);
    assert!(
        finished.succeeded,
        "{program} {arguments:?} failed\n--- output\n{}\n--- errors\n{}",
        finished.output, finished.errors
    );
    finished.output
}

/// Calls a client that may fail.
pub fn try_run(program: &str, arguments: &[&str]) -> Finished {
    // Debian's own interpreter comes first: python3-libnbd is installed for no other.
    let called =
        Command::new(program).args(arguments).env("LC_ALL", "C").env("PATH", "/usr/bin:/bin").output();
    let output = called.unwrap_or_else(|cause| match cause.kind() {
        ErrorKind::NotFound => {
            panic!("{program} is missing; install the Debian package {}", package(program))
        }
        _ => panic!("{program}: {cause}"),
    });
    Finished {
        succeeded: output.status.success(),
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a script of libnbd's Python shell: `h` is a handle that is not connected yet, `uri` where to connect, and
/// `refused(errno, call, ...)` asserts that a call fails in just this way.
pub fn nbdsh(uri: &str, script: &str) {
    let prelude = format!(
        "import errno, os, nbd\nuri = {uri:?}\nh.set_strict_mode(0)\n\
         def refused(number, call, *arguments, **named):\n\
        \x20   try:\n        call(*arguments, **named)\n\
        \x20   except nbd.Error as error:\n\
        \x20       assert error.errnum == number, (error.errnum, error.string)\n\
        \x20   else:\n        raise AssertionError('this was not refused')\n"
    );
    run("nbdsh", &["-c", &prelude, "-c", script]);
}

fn package(program: &str) -> &'static str {
    match program {
        "nbdinfo" | "nbdcopy" => "libnbd-bin",
        "nbdsh" => "python3-libnbd",
        "qemu-img" | "qemu-io" => "qemu-utils",
        _ => "fio",
    }
}
