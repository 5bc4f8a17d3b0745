//! What reaches journald: with sockets in its places, seen by the daemon alone.

use crate::registration::Machine;
use crate::source::SOON;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const VIEW: &str = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && \
                    mount --bind \"$0\" /run/systemd/journal && exec \"$@\"";

/// Is killed in the end.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // Nothing to be done about one that cannot be killed.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

fn is_root() -> bool {
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !root {
        assert!(std::env::var_os("MASTER_TARGET_NO_SKIPS").is_none(), "a view of /run takes root");
        let _ = std::io::stderr().write_all(b"SKIPPED: a test with another /run, which needs root\n");
    }
    root
}

#[test]
fn under_systemd_the_journal_gets_entries_with_fields_and_its_lines_nothing() {
    if !is_root() {
        return;
    }
    let machine = Machine::new();
    let item = "[[item]]\nname = \"web01\"\nsource = \"web01.example\"\n[[item.disks]]\nid = \"disk0\"\n\
                target = \"/nowhere/disk.img\"\nformat = \"raw\"\nsize = \"1 MiB\"\n";
    std::fs::write(machine.config(), machine.configuration() + item).unwrap();
    let journal = machine.folder.path().join("journal");
    std::fs::create_dir(&journal).unwrap();
    let entries = UnixDatagram::bind(journal.join("socket")).unwrap();
    entries.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let lines = UnixListener::bind(journal.join("stdout")).unwrap();
    // As systemd does: the standard error is a connection to journald, and a variable says which.
    let error = OwnedFd::from(UnixStream::connect(journal.join("stdout")).unwrap());
    let about =
        std::fs::metadata(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&error))).unwrap();
    let (mut lines, _) = lines.accept().unwrap();

    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", VIEW]).arg(&journal).arg(env!("CARGO_BIN_EXE_mtd"));
    command.arg("--config").arg(machine.config());
    command.env("JOURNAL_STREAM", format!("{}:{}", about.dev(), about.ino())).stderr(error);
    let daemon = Daemon(command.stdin(Stdio::null()).spawn().unwrap());
    drop(command);

    let (mut heard, begun, mut buffer) = (Vec::<String>::new(), Instant::now(), vec![0; 64 << 10]);
    let has = |heard: &[String], wanted: &[&str]| {
        heard.iter().any(|entry| wanted.iter().all(|line| entry.lines().any(|one| one.starts_with(line))))
    };
    let started = [
        "MESSAGE=started address=127.0.0.1:",
        "PRIORITY=6",
        "SYSLOG_IDENTIFIER=mtd",
        "ADDRESS=127.",
        "CODE_FILE=",
    ];
    let fenced = ["MESSAGE=item item=web01: ", "ITEM=web01", "PRIORITY=4", "TARGET=daemon::"];
    while !(has(&heard, &started) && has(&heard, &fenced)) {
        assert!(begun.elapsed() < SOON, "{heard:#?}");
        let Ok(length) = entries.recv(&mut buffer) else { continue };
        heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    drop(daemon);
    let mut said = String::new();
    lines.read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}
