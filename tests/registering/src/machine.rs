//! Machines that `mtctl` believes to run on.

use crate::programs;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use tempfile::TempDir;

/// Host name of every machine.
const NAME: &str = "mt01.example";

/// What a machine has of a network, and whether its `/etc/hosts` is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// That of this computer.
    Here,
    /// An adapter `eth0` with the address 10.0.0.5, in a network where nobody ever answers.
    Silent,
    /// The same, with a name that is not in `/etc/hosts`.
    Nameless,
    /// An adapter without an address.
    NoAddress,
}

/// A machine, with the state that it keeps.
pub struct Machine {
    folder: TempDir,
    number: u32,
}

/// What `mtctl` said.
#[derive(Debug)]
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// The steps.
    pub steps: String,
    /// What went wrong.
    pub error: String,
}

impl Said {
    /// Everything.
    pub fn text(&self) -> String {
        format!("{}{}", self.steps, self.error)
    }
}

/// Runs in namespaces of its own: mount, UTS, and network for some views.
const SCRIPT: &str = r#"
set -e
cd "$1"
cat name >/proc/sys/kernel/hostname
mount --bind hosts /etc/hosts
mount --bind machine-id /etc/machine-id
[ ! -e /etc/nsswitch.conf ] || mount --bind nsswitch.conf /etc/nsswitch.conf
mount -t tmpfs tmpfs /sys/class
mkdir -p /sys/class/dmi/id
cp product_uuid /sys/class/dmi/id/
for adapter in $(cat adapters); do
    mkdir -p "/sys/class/net/$adapter/device"
done
if [ "$2" != here ]; then
    ip link set lo up
    ip link add eth0 type veth peer name other
    ip link set eth0 up
    ip link set other up
fi
if [ "$2" = silent ]; then
    ip address add 10.0.0.5/24 dev eth0
    # A neighbour that takes what it is sent and says nothing, as one behind a firewall.
    ip neighbour add 10.0.0.9 lladdr 02:00:00:00:00:09 dev eth0
fi
cd /
shift 2
exec "$@"
"#;

impl Machine {
    /// A machine with the BIOS and the machine id of this number.
    pub fn new(number: u32) -> Result<Machine> {
        let folder = tempfile::tempdir()?;
        let machine = Machine { folder, number };
        fs::write(machine.config(), format!("state_folder = {:?}\n", machine.state()))?;
        Ok(machine)
    }

    /// Where it keeps its identity.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A place for files that belong to it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The configuration of its daemon.
    pub fn config(&self) -> PathBuf {
        self.file("mtd.toml")
    }

    /// `mtctl` with these words on this machine, to be run.
    pub fn command(&self, view: View, words: &[&str]) -> Result<Command> {
        let here = view == View::Here;
        let addresses = if here { own_addresses()? } else { vec![("eth0".into(), "10.0.0.5".into())] };
        let named = view != View::Nameless;
        let mut hosts = "127.0.0.1 localhost\n".to_owned();
        hosts.extend(addresses.iter().filter(|_| named).map(|(_, address)| format!("{address} {NAME}\n")));
        let adapters: Vec<&str> = addresses.iter().map(|(adapter, _)| adapter.as_str()).collect();
        for (name, text) in [
            ("name", NAME.to_owned()),
            ("hosts", hosts),
            ("machine-id", format!("{:032x}\n", self.number)),
            ("product_uuid", format!("564d5cf0-11aa-22bb-33cc-{:012x}\n", self.number)),
            // What is not in /etc/hosts is then nowhere, whatever name server there is.
            ("nsswitch.conf", "passwd: files\nhosts: files\n".to_owned()),
            ("adapters", adapters.join("\n")),
        ] {
            fs::write(self.file(name), text)?;
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "--uts"]);
        if !here {
            command.arg("--net");
        }
        let network = match view {
            View::Here => "here",
            View::NoAddress => "none",
            View::Silent | View::Nameless => "silent",
        };
        command.args(["sh", "-c", SCRIPT, "sh"]).arg(self.folder.path()).arg(network);
        command.arg(programs()?.join("mtctl")).args(words).arg("--config").arg(self.config());
        Ok(command)
    }

    /// Runs `mtctl` with these words.
    pub fn mtctl(&self, view: View, words: &[&str]) -> Result<Said> {
        let output = self.start(view, words)?.wait_with_output()?;
        said(&output)
    }

    /// Starts `mtctl` with these words.
    pub fn start(&self, view: View, words: &[&str]) -> Result<Child> {
        let mut command = self.command(view, words)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().context("cannot run unshare")
    }

    /// `mtctl register`, where `server` is `ADDRESS` or `ADDRESS:PORT`, and more words.
    pub fn register(&self, view: View, server: &str, passphrase: &Path, more: &[&str]) -> Result<Said> {
        let file = passphrase.display().to_string();
        let words = [&["register", "-i", server, "-P", &file], more].concat();
        self.mtctl(view, &words)
    }
}

fn said(output: &Output) -> Result<Said> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = Said { status: output.status, steps: text(&output.stdout), error: text(&output.stderr) };
    let prepared = !said.error.contains("unshare failed") && !said.error.starts_with("mount:");
    ensure!(prepared, "the machine cannot be made: {}", said.error);
    Ok(said)
}

/// Adapters of this computer with their addresses, those that others can reach.
fn own_addresses() -> Result<Vec<(String, String)>> {
    let listed = rig::tools::run("ip", &["-o", "-4", "address", "show", "scope", "global"])?;
    let address = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some((words.get(1)?.to_string(), words.get(3)?.split('/').next()?.to_string()))
    };
    Ok(listed.lines().filter_map(address).collect())
}
