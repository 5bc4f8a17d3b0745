//! The machine as the administrator's programs see it: its files under a root folder, and its own programs.
//!
//! Everything that is asked of the machine goes through a [`System`]. For the machine itself the root is `/`; a test
//! hands in a folder with what was seen on another machine, programs included. Programs are the machine's own, found
//! in the administrator's folders and never along `PATH`: `multipath`, `dmsetup` and their like fit the udev rules and
//! cookies that are installed with them. Each runs with the language `C`, in time, and may print only so much. It has a
//! process group of its own, and one that is late is killed with all that it started.

use crate::error::{Error, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Folders in which an administrator's programs lie, in the order of search.
const PROGRAM_FOLDERS: [&str; 6] =
    ["/sbin", "/usr/sbin", "/bin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];

/// What a program may print before it is stopped.
const MAX_OUTPUT: u64 = 4 << 20;

/// What a small file (an attribute, a configuration) may hold.
const MAX_TEXT: u64 = 1 << 20;

/// Time that a program has unless the caller knows better.
pub const PROGRAM_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(5);

/// The machine, or a folder with what was seen on one.
#[derive(Clone, Debug)]
pub struct System {
    root: PathBuf,
}

/// What a program that ended printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit status 0.
    pub success: bool,
    /// The exit status; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed, with bytes that are no UTF-8 replaced.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl System {
    /// The machine that this program runs on.
    pub fn host() -> System {
        System { root: PathBuf::from("/") }
    }

    /// A machine whose files and programs lie under `root`.
    pub fn at(root: impl Into<PathBuf>) -> System {
        System { root: root.into() }
    }

    /// Whether it is the machine that this program runs on.
    pub fn is_host(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Where an absolute path of the machine really lies.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A small text file, trimmed at its end; `None` when it is missing, empty or cannot be read: sysfs attributes
    /// come and go with the device and its driver.
    pub fn attribute(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = String::from_utf8_lossy(&self.bytes(path).ok()?).trim_end().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// A text file of the machine.
    pub fn text(&self, path: impl AsRef<Path>) -> Result<String> {
        let path = path.as_ref();
        let bytes = self.bytes(path).map_err(|cause| Error::file("read", path, cause))?;
        String::from_utf8(bytes)
            .map_err(|_| Error::file("read", path, io::Error::other("it is not text in UTF-8")))
    }

    /// The same, `None` when there is no such file.
    pub fn text_if_exists(&self, path: impl AsRef<Path>) -> Result<Option<String>> {
        match self.text(path) {
            Err(Error::File { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// A small file as it is.
    pub fn bytes(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(self.path(path))?.take(MAX_TEXT + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_TEXT {
            return Err(io::Error::other("it is longer than 1 MiB"));
        }
        Ok(bytes)
    }

    /// Names in a folder, sorted; none when it cannot be listed.
    pub fn names(&self, folder: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Where a program lies; `None` when it is not installed.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        PROGRAM_FOLDERS
            .iter()
            .map(|folder| self.path(Path::new(folder).join(name)))
            .find(|path| path.is_file())
    }

    /// Runs a program of the machine to its end. Its exit status is the caller's to judge.
    pub fn run<S: AsRef<OsStr>>(&self, name: &str, arguments: &[S], longest: Duration) -> Result<Output> {
        let words = || shown(name, arguments);
        let program = self.program(name).ok_or_else(|| Error::NoProgram { program: name.to_owned() })?;
        let failed = |cause| Error::ProgramFailed { command: words(), cause };
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("LC_ALL", "C")
            .env("SYSTEMD_COLORS", "0")
            .env("SYSTEMD_LOG_COLOR", "0")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        let Some(status) = wait(child, longest).map_err(failed)? else {
            return Err(Error::ProgramHangs { command: words(), seconds: longest.as_secs() });
        };
        // A grandchild may hold the pipes open: what was printed up to now is enough then.
        let grace = Instant::now() + Duration::from_secs(1);
        Ok(Output {
            success: status.success(),
            code: status.code(),
            stdout: stdout.text(grace),
            stderr: stderr.text(grace),
        })
    }

    /// The same, and a failure that it reports by its exit status is an error that says what it said.
    pub fn run_well<S: AsRef<OsStr>>(
        &self,
        name: &str,
        arguments: &[S],
        longest: Duration,
    ) -> Result<String> {
        let output = self.run(name, arguments, longest)?;
        if output.success {
            return Ok(output.stdout);
        }
        Err(Error::ProgramRefused { command: shown(name, arguments), said: output.complaint() })
    }
}

impl Output {
    /// The first lines of what it said was wrong, on one line.
    pub fn complaint(&self) -> String {
        excerpt(if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr })
    }
}

/// The command as one would type it.
fn shown<S: AsRef<OsStr>>(name: &str, arguments: &[S]) -> String {
    let words = arguments.iter().map(|word| word.as_ref().to_string_lossy().into_owned());
    std::iter::once(name.to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// The first lines of what a program said, on one line.
fn excerpt(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).take(4).collect();
    lines.join("; ").chars().filter(|c| !c.is_control()).take(400).collect()
}

/// What a pipe brings, read by a thread of its own.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Is closed when no more comes.
    open: mpsc::Receiver<()>,
}

impl Collected {
    fn text(self, until: Instant) -> String {
        let left = until.saturating_duration_since(Instant::now());
        // Nothing is ever sent: it is the end of the pipe that is waited for, and what has come until then counts.
        let _ = self.open.recv_timeout(left);
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Collected {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let (closed, open) = mpsc::channel::<()>();
    let gathered = Arc::clone(&bytes);
    thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        gather(&mut pipe, &gathered);
        drop(closed);
        // A program that prints without end is kept from waiting for us, not from its time limit.
        let _ = io::copy(&mut pipe, &mut io::sink());
    });
    Collected { bytes, open }
}

/// Takes what comes as it comes, up to [`MAX_OUTPUT`].
fn gather(pipe: &mut impl Read, gathered: &Mutex<Vec<u8>>) {
    let mut pipe = pipe.take(MAX_OUTPUT);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
                gathered.extend_from_slice(&buffer[..count]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Waits for the end; after `longest` the program is killed with all of its process group, and there is none.
fn wait(mut child: Child, longest: Duration) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + longest;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            // It was not waited for with success yet, so the number is still that of its group.
            let killed = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
            // A program in an uninterruptible wait dies when its wait ends; it is not waited for here.
            thread::spawn(move || child.wait());
            return killed.map(|()| None).map_err(io::Error::from);
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with one program, a shell script.
    fn with_program(name: &str, script: &str) -> (tempfile::TempDir, System) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sbin");
        fs::create_dir_all(&folder).unwrap();
        testkit::program(&folder.join(name), &format!("#!/bin/sh\n{script}\n"));
        let system = System::at(root.path());
        (root, system)
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn what_a_program_prints_is_had_and_its_failure_tells_what_it_said() {
        let (_root, system) =
            with_program("multipath", "echo \"$LC_ALL $1\"; echo 'no map' >&2; exit ${2:-0}");
        let output = system.run("multipath", &["-ll"], PROGRAM_TIMEOUT).unwrap();
        assert_eq!(
            output,
            Output { success: true, code: Some(0), stdout: "C -ll\n".into(), stderr: "no map\n".into() }
        );
        let error = system.run_well("multipath", &["-ll", "1"], PROGRAM_TIMEOUT).unwrap_err().to_string();
        assert!(error.contains("multipath -ll 1") && error.contains("no map"), "{error}");
    }

    #[test]
    fn a_program_that_hangs_is_stopped_and_named() {
        let (_root, system) = with_program("multipath", "sleep 60");
        let begun = Instant::now();
        let error = system.run("multipath", &["-ll"], Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error, Error::ProgramHangs { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    /// Whether a process runs; one that has ended and that nobody has waited for does not.
    fn runs(process: &str) -> bool {
        let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        state.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    #[test]
    fn a_program_that_hangs_goes_with_all_that_it_started() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("ids");
        let (_program, system) =
            with_program("multipath", &format!("sleep 60 & echo $$ $! >{}; wait", file.display()));
        system.run("multipath", &NONE, Duration::from_millis(500)).unwrap_err();
        let ids = fs::read_to_string(file).unwrap();
        let [own, below] = ids.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{ids}") };
        let end = Instant::now() + Duration::from_secs(20);
        // The program itself has been waited for, too.
        while runs(below) || Path::new(&format!("/proc/{own}")).exists() {
            assert!(Instant::now() < end, "{ids}");
            thread::sleep(POLL);
        }
    }

    #[test]
    fn what_was_printed_is_had_though_a_child_keeps_the_pipe_open() {
        let (_root, system) = with_program("multipath", "sleep 6 & echo done; echo bad >&2");
        let begun = Instant::now();
        let output = system.run("multipath", &NONE, PROGRAM_TIMEOUT).unwrap();
        assert_eq!(
            output,
            Output { success: true, code: Some(0), stdout: "done\n".into(), stderr: "bad\n".into() }
        );
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_program_that_prints_without_end_is_bounded() {
        let (_root, system) = with_program("multipath", "head -c 20000000 /dev/zero | tr '\\0' x");
        let output = system.run("multipath", &NONE, PROGRAM_TIMEOUT).unwrap();
        assert_eq!(output.stdout.len() as u64, MAX_OUTPUT);
    }

    #[test]
    fn a_program_that_is_not_installed_is_named_with_its_package() {
        let root = tempfile::tempdir().unwrap();
        let error = System::at(root.path()).run("kpartx", &NONE, PROGRAM_TIMEOUT).unwrap_err().to_string();
        assert!(error.contains("kpartx"), "{error}");
    }

    #[test]
    fn files_are_small_or_refused() {
        let root = tempfile::tempdir().unwrap();
        let system = System::at(root.path());
        fs::write(root.path().join("long"), vec![b'x'; MAX_TEXT as usize + 1]).unwrap();
        fs::write(root.path().join("binary"), [0xff]).unwrap();
        assert!(system.text("/long").unwrap_err().to_string().contains("/long"));
        assert!(system.text("/binary").is_err());
        assert_eq!(system.text_if_exists("/absent").unwrap(), None);
    }
}
