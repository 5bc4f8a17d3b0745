//! Looks at the machine, the daemon and its files.

use super::bundle::{Bundle, Keep, file_name};
use super::redact::Redactor;
use crate::config::{Config, DEFAULT_STATE};
use crate::mtctl::cli::SupportBundleArguments;
use crate::mtctl::run::UNIT;
use block_device::{PROGRAM_TIMEOUT, System};
use serde_json::Value;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longer than `mtctl check` takes with a configuration server that does not answer.
const OWN_TIMEOUT: Duration = Duration::from_secs(120);
/// Items whose points are listed, and points of each.
const ITEMS: usize = 100;
const POINTS: &str = "200";
/// Lines of the kernel's log.
const KERNEL_LINES: usize = 2000;
/// Bytes of a file that is read at all.
const LONGEST_FILE: u64 = 8 << 20;
/// How deep, and how much, of the state folder is looked at.
const DEPTH: usize = 4;
const STATE_FILES: usize = 2000;

/// What of the state folder is known to hold no secret. Everything else there is only listed.
const PLAIN: [&str; 3] = ["json", "toml", "txt"];
const CERTIFICATES: [&str; 2] = [registration::CERTIFICATE_FILE, registration::CA_FILE];

const FILES: [&str; 9] = [
    "/etc/os-release",
    "/etc/fstab",
    "/etc/hosts",
    "/etc/multipath.conf",
    "/proc/cmdline",
    "/proc/meminfo",
    "/proc/mounts",
    "/proc/version",
    "/usr/local/.vx_version",
];

const COLUMNS: &str = "NAME,KNAME,MAJ:MIN,SIZE,TYPE,FSTYPE,MOUNTPOINT,UUID,WWN,SERIAL,VENDOR,MODEL,STATE,RO";

const PROGRAMS: [(&str, &[&str]); 9] = [
    ("multipath", &["-ll"]),
    ("lsblk", &["--all", "--output", COLUMNS]),
    ("lsscsi", &["--scsi_id"]),
    ("dmsetup", &["table"]),
    ("df", &["--print-type"]),
    ("ip", &["address"]),
    ("systemctl", &["status", "--no-pager", "--full", UNIT]),
    ("systemd-analyze", &["--version"]),
    (
        "dpkg-query",
        &[
            "--show",
            "master-target*",
            "multipath-tools",
            "kpartx",
            "lvm2",
            "systemd",
            "libc6",
            "linux-image-*",
        ],
    ),
];

/// Everything, as far as it can be had.
pub(super) fn everything(arguments: &SupportBundleArguments, socket: &Path) -> anyhow::Result<Bundle> {
    let config = Config::load(&arguments.config);
    let state =
        config.as_ref().map_or_else(|_| PathBuf::from(DEFAULT_STATE), |config| config.state_folder.clone());
    let mut redactor = Redactor::new()?;
    let keys = config.iter().map(|config| config.tls.key.clone());
    let found = walk(&state);
    for path in keys.chain(found.iter().filter(|file| is_secret(&file.path)).map(|file| file.path.clone())) {
        if let Ok(secret) = fs::read_to_string(path) {
            redactor.learn(&secret);
        }
    }
    let mut bundle = Bundle::new(redactor);
    if let Err(error) = &config {
        bundle.miss("what the configuration means", error);
    }
    let own = Own { socket, config: &arguments.config };
    let system = System::host();
    bundle.add("versions.txt", &format!("mtctl {}\n", env!("CARGO_PKG_VERSION")), Keep::Beginning);
    add_file(&mut bundle, "configuration/mtd.toml", &arguments.config);
    own.add_answers(&mut bundle, &system);
    add_state(&mut bundle, &state, &found);
    for path in FILES {
        add_file(
            &mut bundle,
            &format!("machine/{}", file_name(path.trim_start_matches('/'))),
            Path::new(path),
        );
    }
    for (program, words) in PROGRAMS {
        let name = format!("machine/{program}.txt");
        add_program(&mut bundle, &name, system.run(program, words, PROGRAM_TIMEOUT), Keep::Beginning);
    }
    add_logs(&mut bundle, &system, arguments.lines);
    Ok(bundle)
}

/// This program, asked as people ask it.
struct Own<'a> {
    socket: &'a Path,
    config: &'a Path,
}

impl Own<'_> {
    fn add_answers(&self, bundle: &mut Bundle, system: &System) {
        let config = self.config.to_string_lossy();
        for (name, words) in [
            ("daemon/version.json", &["version"][..]),
            ("daemon/status.json", &["status"]),
            ("daemon/items.json", &["items"]),
            ("daemon/test-failovers.json", &["test-failover", "list"]),
            ("daemon/retention.json", &["retention", "status", "--config", &config]),
            ("machine/disks.json", &["disks", "--config", &config]),
            ("machine/check.json", &["check", "--config", &config]),
        ] {
            self.add(bundle, system, name, words);
        }
        let items =
            bundle.text("daemon/items.json").and_then(|text| serde_json::from_str::<Value>(text).ok());
        let items = items.as_ref().and_then(|answer| answer["items"].as_array()).cloned().unwrap_or_default();
        for item in items.iter().filter_map(|item| item["name"].as_str()).take(ITEMS) {
            let name = format!("daemon/points/{}.json", file_name(item));
            self.add(bundle, system, &name, &["points", item, "--limit", POINTS]);
        }
    }

    fn add(&self, bundle: &mut Bundle, system: &System, name: &str, words: &[&str]) {
        let own = match std::env::current_exe() {
            Ok(own) => own.display().to_string(),
            Err(error) => return bundle.miss(name, error),
        };
        let socket = self.socket.to_string_lossy();
        let mut all = vec!["--kill-after=5", "100", &own, "--json", "--socket", &socket];
        all.extend(words);
        add_program(bundle, name, system.run("timeout", &all, OWN_TIMEOUT), Keep::Beginning);
    }
}

/// What a program printed, however it ended; that it printed nothing and failed is told instead.
fn add_program(
    bundle: &mut Bundle,
    name: &str,
    outcome: block_device::Result<block_device::Output>,
    keep: Keep,
) {
    match outcome {
        Ok(output) if output.success || !output.stdout.trim().is_empty() => {
            bundle.add(name, &output.stdout, keep)
        }
        Ok(output) => bundle.miss(name, output.complaint()),
        Err(error) => bundle.miss(name, error),
    }
}

fn add_file(bundle: &mut Bundle, name: &str, path: &Path) {
    match read(path) {
        Ok(bytes) => bundle.add(name, &String::from_utf8_lossy(&bytes), Keep::Beginning),
        Err(error) => bundle.miss(name, format!("{}: {error}", path.display())),
    }
}

/// A file, if it is not longer than anything that is looked for.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > LONGEST_FILE {
        true => Err(io::Error::other("it is longer than 8 MiB")),
        false => Ok(bytes),
    }
}

fn add_logs(bundle: &mut Bundle, system: &System, lines: u32) {
    let (unit, count) = (format!("--unit={UNIT}"), format!("--lines={lines}"));
    let words = [&*unit, &*count, "--no-pager", "--output=short-iso"];
    add_program(
        bundle,
        "logs/master-target.txt",
        system.run("journalctl", &words, PROGRAM_TIMEOUT),
        Keep::End,
    );
    let kernel = system.run("dmesg", &["--ctime"], PROGRAM_TIMEOUT).map(|mut output| {
        let all: Vec<&str> = output.stdout.lines().collect();
        output.stdout = all[all.len().saturating_sub(KERNEL_LINES)..].join("\n");
        output
    });
    add_program(bundle, "logs/kernel.txt", kernel, Keep::End);
}

/// A file of the state folder.
struct Found {
    path: PathBuf,
    line: String,
}

/// All files below a folder, as far as it is deep; links are not followed.
fn walk(folder: &Path) -> Vec<Found> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let Ok(about) = fs::symlink_metadata(&path) else { continue };
            if about.is_dir() && depth < DEPTH {
                folders.push((path.clone(), depth + 1));
            }
            let leads = fs::read_link(&path).map(|to| format!(" -> {}", to.display())).unwrap_or_default();
            let mode = std::os::unix::fs::MetadataExt::mode(&about);
            let line = format!("{mode:06o} {:>12} {}{leads}", about.len(), path.display());
            if found.len() < STATE_FILES {
                found.push(Found { path, line });
            }
        }
    }
    found
}

/// Files whose names say what they hold.
fn is_secret(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    name == registration::KEY_FILE
        || name.ends_with(".key")
        || ["passphrase", "password", "secret", "token"].iter().any(|word| name.contains(word))
}

fn is_plain(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    let name = path.file_name().and_then(|name| name.to_str());
    ending.is_some_and(|ending| PLAIN.contains(&ending))
        || name.is_some_and(|name| CERTIFICATES.contains(&name))
}

fn add_state(bundle: &mut Bundle, state: &Path, found: &[Found]) {
    if !state.is_dir() {
        return bundle.miss("state", format!("{} cannot be looked into", state.display()));
    }
    let lines: Vec<&str> = found.iter().map(|file| file.line.as_str()).collect();
    bundle.add("state/listing.txt", &(lines.join("\n") + "\n"), Keep::Beginning);
    for Found { path, .. } in found {
        let is_file = fs::symlink_metadata(path).is_ok_and(|about| about.is_file());
        let below = path.strip_prefix(state).unwrap_or(path);
        let name = format!("state/{}", below.display());
        match (is_file, is_secret(path), is_plain(path)) {
            (false, ..) => {}
            (true, true, _) => bundle.leave_out(&name, "it holds a secret"),
            (true, false, true) => add_file(bundle, &name, path),
            (true, false, false) => {
                bundle.leave_out(&name, "only files that are known to hold no secret are taken")
            }
        }
    }
}
