//! Each thing that goes wrong with a registration, brought about for real.

use anyhow::{Context, Result, ensure};
use registering::{Machine, Said, View, programs, rig, tools};
use rig::{Clocks, ConfigurationServer};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What a case leaves: what was said, and where what it says is only so in this run.
pub(crate) struct Outcome {
    pub(crate) said: Said,
    /// What stands in the text, and what the documents say in its place.
    pub(crate) names: Vec<(String, String)>,
}

/// One thing that goes wrong.
pub(crate) struct Case {
    /// The name of the error, as `--json` tells it.
    pub(crate) code: &'static str,
    pub(crate) title: &'static str,
    /// When it happens.
    pub(crate) when: &'static str,
    pub(crate) bring_about: fn() -> Result<Outcome>,
    /// What must stand in the text: the cause, and what to do.
    pub(crate) parts: &'static [&'static str],
}

/// Every case, in the order in which a registration gets to it.
pub(crate) static CASES: [Case; 20] = [
    Case {
        code: "passphrase-file",
        title: "No passphrase file",
        when: "The file that `-P` names is not there, or this user may not read it.",
        bring_about: no_passphrase_file,
        parts: &["the passphrase cannot be read", "mt-configserver passphrase show"],
    },
    Case {
        code: "ipv4-address",
        title: "No IPv4 address",
        when: "No network adapter of this machine has an address that others can reach.",
        bring_about: no_address,
        parts: &["no address on eth0", "connect the adapter in vCenter", "/etc/network/interfaces"],
    },
    Case {
        code: "hosts-file",
        title: "The host name is not in /etc/hosts",
        when: "/etc/hosts does not map the name of this machine to each of its addresses.",
        bring_about: not_in_hosts,
        parts: &[
            "is not mapped to 10.0.0.5",
            "add to /etc/hosts: 10.0.0.5",
            "mtctl check --fix --only hosts-file",
        ],
    },
    Case {
        code: "file",
        title: "The disk is full",
        when: "There is no room for the identity of this machine. It is looked for before anybody is asked for anything.",
        bring_about: full_disk,
        parts: &["cannot be written", "the disk is full", "make room there", "untouched"],
    },
    Case {
        code: "unresolved",
        title: "The name has no address",
        when: "The name that `-i` gives stands neither in DNS nor in /etc/hosts.",
        bring_about: not_resolved,
        parts: &["the name cs.example has no address", "/etc/hosts", "-i ADDRESS"],
    },
    Case {
        code: "refused",
        title: "The connection is refused",
        when: "Nothing listens at the port: the configuration server does not run, or listens at another one.",
        bring_about: refused,
        parts: &["refuses connections", "systemctl start master-target-configserver", "--port"],
    },
    Case {
        code: "filtered",
        title: "Nothing answers",
        when: "A firewall drops the packets, or the machine is off.",
        bring_about: filtered,
        parts: &["does not answer within 5 s", "a firewall drops", "open TCP from this machine"],
    },
    Case {
        code: "plain-http",
        title: "A proxy answers in plain HTTP",
        when: "A proxy on the way wants to be asked first. The old product said \"(35) SSL connect error\".",
        bring_about: plain_http,
        parts: &["plain HTTP", "(35) SSL connect error", "address and port", "mtctl check --only proxy"],
    },
    Case {
        code: "closed-in-handshake",
        title: "The TLS handshake is cut off",
        when: "A device on the way does not let TLS to this address through, and closes the connection. The old product \
               said \"(35) SSL connect error\".",
        bring_about: cut_off,
        parts: &[
            "closes the connection during the TLS handshake",
            "(35) SSL connect error",
            "have this machine excepted",
        ],
    },
    Case {
        code: "handshake-refused",
        title: "The TLS handshake is refused",
        when: "A proxy or an old server answers that speaks TLS 1.1 or less. The old product said \"(35) SSL connect \
               error\".",
        bring_about: handshake_refused,
        parts: &["refuses the TLS handshake", "(35) SSL connect error", "have this machine excepted"],
    },
    Case {
        code: "old-tls",
        title: "TLS is too old",
        when: "What answers speaks TLS 1.2: a device that opens TLS connections to look into them, or another server.",
        bring_about: old_tls,
        parts: &["speaks an older TLS than 1.3", "(35) SSL connect error", "have this machine excepted"],
    },
    Case {
        code: "another-server",
        title: "Not a configuration server",
        when: "A web server answers at this address and port.",
        bring_about: another_server,
        parts: &["is a web server, but no configuration server", "give address and port"],
    },
    Case {
        code: "version-too-new",
        title: "This machine is newer than the configuration server",
        when: "Releases (major.minor) are compared: a host may be of the same release as its configuration server, or of an \
               older one.",
        bring_about: too_new,
        parts: &["this machine is newer", "upgrade the configuration server first", "install release"],
    },
    Case {
        code: "registered-elsewhere",
        title: "Registered with another configuration server",
        when: "This machine has a registration that is still good, with a server at another address.",
        bring_about: registered_elsewhere,
        parts: &["is registered with another configuration server", "the command `unregister`", "--yes"],
    },
    Case {
        code: "other-authority",
        title: "Another authority than at the last registration",
        when: "The server at the same address is not the one that this machine was registered with.",
        bring_about: other_authority,
        parts: &[
            "is not the configuration server that it was",
            "passphrase show",
            "--yes",
            "restore it from its backup",
        ],
    },
    Case {
        code: "in-between",
        title: "Something in between opens the TLS connection",
        when: "A device looks into TLS: it relays everything, but both ends see another connection than their own.",
        bring_about: in_between,
        parts: &["opens the TLS connection", "before anything was given away", "have this machine excepted"],
    },
    Case {
        code: "not-proved",
        title: "Wrong passphrase",
        when: "The file holds another passphrase than the configuration server has, an old one for example.",
        bring_about: wrong_passphrase,
        parts: &[
            "do not have the same passphrase",
            "mt-configserver passphrase show",
            "nothing was given away",
        ],
    },
    Case {
        code: "locked-out",
        title: "Locked out",
        when: "Five registrations in a row from this address failed; each further failure doubles the time, up to an hour.",
        bring_about: locked_out,
        parts: &["is locked out", "copy the passphrase again", "try again in 30 s"],
    },
    Case {
        code: "clock-skew",
        title: "The clocks are too far apart",
        when: "The clocks of the two machines differ by more than five minutes.",
        bring_about: clock_skew,
        parts: &["the clocks are too far apart", "behind", "timedatectl set-ntp true"],
    },
    Case {
        code: "clone",
        title: "A copy of another machine",
        when: "This machine was cloned from one that is registered: it holds that one's certificate.",
        bring_about: copied,
        parts: &["is a copy of another one", "mtctl unregister", "a machine id of its own"],
    },
];

/// Where the documents have the configuration server, another one, and the machine.
const SERVER: &str = "10.0.0.9:443";
const OTHER_SERVER: &str = "10.0.0.8:443";

fn outcome<const N: usize>(said: Said, names: [(&str, &str); N]) -> Result<Outcome> {
    let names = names.map(|(one, other)| (one.to_owned(), other.to_owned()));
    Ok(Outcome { said, names: names.into() })
}

/// A configuration server with its folder.
struct Site {
    server: ConfigurationServer,
    folder: TempDir,
}

impl Site {
    fn start() -> Result<Site> {
        let folder = tempfile::tempdir()?;
        Ok(Site { server: ConfigurationServer::start(&rig(folder.path())?)?, folder })
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.server.port())
    }

    fn register(&self, machine: &Machine, more: &[&str]) -> Result<Said> {
        machine.register(View::Here, &self.address(), &self.server.passphrase(), more)
    }

    fn must_register(&self, machine: &Machine) -> Result<()> {
        let said = self.register(machine, &[])?;
        ensure!(said.status.success(), "{}", said.text());
        Ok(())
    }
}

/// What is said when a machine registers at a server that does not care for its passphrase.
fn at(address: &str, view: View) -> Result<Said> {
    let machine = Machine::new(1)?;
    machine.register(view, address, &some_passphrase(&machine)?, &[])
}

fn some_passphrase(machine: &Machine) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = machine.file("passphrase.txt");
    fs::write(&path, "some-passphrase-123\n")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path)
}

fn no_passphrase_file() -> Result<Outcome> {
    let machine = Machine::new(1)?;
    let path = machine.file("passphrase.txt");
    let said = machine.register(View::Here, SERVER, &path, &[])?;
    outcome(said, [(&path.display().to_string(), "passphrase.txt")])
}

fn no_address() -> Result<Outcome> {
    outcome(at(SERVER, View::NoAddress)?, [])
}

fn not_in_hosts() -> Result<Outcome> {
    outcome(at(SERVER, View::Nameless)?, [])
}

fn full_disk() -> Result<Outcome> {
    let machine = Machine::new(1)?;
    let state = machine.state();
    fs::create_dir(&state)?;
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"]).arg(&state).status()?;
    ensure!(mounted.success(), "a small volume cannot be mounted");
    fs::write(state.join("filler"), [0; 8192])?;
    let said = machine.register(View::Here, SERVER, &some_passphrase(&machine)?, &[]);
    let left = fs::read_dir(&state)?.count();
    ensure!(Command::new("umount").arg(&state).status()?.success(), "the small volume is not unmounted");
    ensure!(left == 1, "something was left behind on the full volume");
    outcome(said?, [(&state.display().to_string(), "/var/lib/master-target")])
}

fn not_resolved() -> Result<Outcome> {
    outcome(at("cs.example", View::Here)?, [])
}

fn refused() -> Result<Outcome> {
    let address = format!("127.0.0.1:{}", rig::free_port()?);
    outcome(at(&address, View::Here)?, [(&address, SERVER)])
}

fn filtered() -> Result<Outcome> {
    outcome(at(SERVER, View::Silent)?, [])
}

fn plain_http() -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    // It reads, answers, and waits until the other end has seen enough.
    let answer = r"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate\: Basic\r\n\r\n";
    let script = format!(r"head -c 64 >/dev/null; printf \'{answer}\'; cat >/dev/null");
    let proxy = tools::answering(folder.path(), &script)?;
    outcome(at(&proxy.address, View::Here)?, [(&proxy.address, SERVER)])
}

fn cut_off() -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let device = tools::answering(folder.path(), "true")?;
    outcome(at(&device.address, View::Here)?, [(&device.address, SERVER)])
}

fn with_web_server(tls: &[&str]) -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let server = tools::web_server(folder.path(), tls)?;
    outcome(at(&server.address, View::Here)?, [(&server.address, SERVER)])
}

fn handshake_refused() -> Result<Outcome> {
    with_web_server(&["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"])
}

fn old_tls() -> Result<Outcome> {
    with_web_server(&["-tls1_2"])
}

fn another_server() -> Result<Outcome> {
    with_web_server(&[])
}

/// The versions are compared before anything else is said, so what an older server answers to this one question does.
fn too_new() -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let body = r#"{"product":"master-target configuration server","version":"0.0.9"}"#;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    fs::create_dir_all(folder.path().join("api/v1"))?;
    fs::write(folder.path().join("api/v1/version"), answer)?;
    let server = tools::file_server(folder.path())?;
    let ours = env!("CARGO_PKG_VERSION");
    let names = [(server.address.as_str(), SERVER), (ours, "9.5.0"), ("0.0.9", "9.4.1"), ("0.0", "9.4")];
    outcome(at(&server.address, View::Here)?, names)
}

fn registered_elsewhere() -> Result<Outcome> {
    let (first, second, machine) = (Site::start()?, Site::start()?, Machine::new(1)?);
    first.must_register(&machine)?;
    let said = second.register(&machine, &[])?;
    ensure!(second.server.command(&["hosts", "--json"])?.contains("[]"), "it was registered all the same");
    outcome(said, [(&first.address(), OTHER_SERVER), (&second.address(), SERVER)])
}

fn other_authority() -> Result<Outcome> {
    let (mut site, machine) = (Site::start()?, Machine::new(1)?);
    site.must_register(&machine)?;
    let port = site.server.port();
    site.server.process().stop()?;
    fs::remove_dir_all(site.server.state())?;
    site.server = ConfigurationServer::start_at(&rig(site.folder.path())?, port, "")?;
    let said = site.register(&machine, &[])?;
    ensure!(site.server.command(&["hosts", "--json"])?.contains("[]"), "it was registered all the same");
    let taken_over = site.register(&machine, &["--yes"])?;
    ensure!(taken_over.status.success(), "{}", taken_over.text());
    outcome(said, [(&site.address(), SERVER)])
}

fn in_between() -> Result<Outcome> {
    let (site, machine) = (Site::start()?, Machine::new(1)?);
    let device = tools::interceptor(site.folder.path(), site.server.port())?;
    let said = machine.register(View::Here, &device.address, &site.server.passphrase(), &[])?;
    outcome(said, [(&device.address, SERVER)])
}

fn wrong_passphrase() -> Result<Outcome> {
    let (site, machine) = (Site::start()?, Machine::new(1)?);
    let said = machine.register(View::Here, &site.address(), &some_passphrase(&machine)?, &[])?;
    outcome(said, [(&site.address(), SERVER)])
}

fn locked_out() -> Result<Outcome> {
    let (site, machine) = (Site::start()?, Machine::new(1)?);
    let wrong = some_passphrase(&machine)?;
    for _ in 0..5 {
        let said = machine.register(View::Here, &site.address(), &wrong, &[])?;
        ensure!(said.error.contains("do not have the same passphrase"), "{}", said.text());
    }
    // The right one does not help now.
    let said = site.register(&machine, &[])?;
    ensure!(site.server.command(&["hosts", "--json"])?.contains("[]"), "it was let in");
    let left = |text: &str| text.split_whitespace().find_map(|word| word.parse::<u64>().ok());
    let shown = left(&said.error[said.error.find("try again").context("it does not say when")?..]);
    ensure!(shown.is_some_and(|left| (20..=30).contains(&left)), "{}", said.text());
    let shown = format!("{} s", shown.unwrap_or_default());
    outcome(said, [(&site.address(), SERVER), ("127.0.0.1", "10.0.0.5"), (&shown, "30 s")])
}

/// A real server whose clock is ten minutes ahead.
fn clock_skew() -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let clocks = Clocks::make(&folder.path().join("programs"), programs()?, &["mt-configserver"])?;
    clocks.set("mt-configserver", "+10m")?;
    let rig = rig::Rig::new(folder.path(), clocks.folder())?;
    let site = Site { server: ConfigurationServer::start(&rig)?, folder };
    let said = site.register(&Machine::new(1)?, &[])?;
    let times: Vec<String> = said
        .error
        .split_whitespace()
        .map(|word| word.trim_end_matches([',', ':', ';']))
        .filter(|word| word.len() >= 20 && word.contains('T') && word.contains('Z'))
        .map(str::to_owned)
        .collect();
    let [ours, theirs] = &times[..] else { anyhow::bail!("two clocks are not shown: {}", said.text()) };
    let (ours, theirs) = (ours.clone(), theirs.clone());
    outcome(said, [(&ours, "2026-11-26T01:50:00Z"), (&theirs, "2026-11-26T02:00:00Z")])
}

fn copied() -> Result<Outcome> {
    let (site, original, copy) = (Site::start()?, Machine::new(1)?, Machine::new(2)?);
    site.must_register(&original)?;
    let copied = Command::new("cp").arg("-a").args([original.state(), copy.state()]).status()?;
    ensure!(copied.success(), "the disk cannot be copied");
    let said = site.register(&copy, &[])?;
    site.must_register(&original)?;
    outcome(said, [])
}

/// Where texts are shown to people.
pub(crate) fn target() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    own.ancestors().nth(3).map(Path::to_path_buf).context("a test runs in the target folder")
}
