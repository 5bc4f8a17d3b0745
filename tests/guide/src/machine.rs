//! A machine made of namespaces: this computer, with a name, an address and changes of its own.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where commands are typed.
pub const HERE: &str = "/root/master-target";

/// Makes the machine, says so, and keeps it until nobody holds the other end of the standard input.
///
/// What is written goes to a file system in memory that lies over this computer's own. Images, journals and what is
/// installed from lie on the disk.
const SCRIPT: &str = r#"
set -e
folder=$1 name=$2 address=$3 number=$4
echo "$name" >/proc/sys/kernel/hostname
mount -t tmpfs tmpfs "$folder/layer"
cd "$folder/layer"
mkdir up work root
mount -t overlay -o "lowerdir=/,upperdir=$PWD/up,workdir=$PWD/work" overlay root
cd root
for part in proc sys dev; do
    mount --rbind "/$part" "$part"
done
for part in run tmp sys/class; do
    mount -t tmpfs tmpfs "$part"
done
mkdir -p sys/class/dmi/id sys/class/net/eth0/device mnt/retention root/master-target
echo "564d5cf0-11aa-22bb-33cc-00000000000$number" >sys/class/dmi/id/product_uuid
echo "0000000000000000000000000000000$number" >etc/machine-id
rm -f etc/hosts etc/nsswitch.conf
cp "$folder/../hosts" etc/hosts
printf 'passwd: files\ngroup: files\nhosts: files\n' >etc/nsswitch.conf
mount --bind "$folder/srv" srv
mount --bind "$folder/retention" mnt/retention
mount --bind "$folder/../here" root/master-target
if [ "$number" = 1 ]; then
    ip link set lo up
    ip link add eth0 type veth peer name other
    ip link set eth0 up
    ip link set other up
    ip address add "$address/24" dev eth0
else
    ip address add "$address/32" dev lo
fi
echo made
exec chroot . cat
"#;

/// A machine. Dropping it ends it; programs that still run there go on and must be dropped before.
pub struct Machine {
    name: String,
    folder: PathBuf,
    keeper: Child,
}

impl Machine {
    /// Makes a machine in a folder of its own below `folder`, which has `hosts` and `here`, the folder that commands are
    /// typed in. They are counted from 1, and all are in the network of the first.
    pub fn make(folder: &Path, name: &str, address: &str, others: &[&Machine]) -> Result<Machine> {
        let own = folder.join(name);
        for part in ["layer", "srv", "retention"] {
            fs::create_dir_all(own.join(part))?;
        }
        let mut command = match others.first() {
            None => {
                let mut command = Command::new("unshare");
                command.arg("--net");
                command
            }
            Some(first) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/proc/{}/ns/net", first.keeper.id())).arg("unshare");
                command
            }
        };
        command.args(["--mount", "--uts", "sh", "-c", SCRIPT, "sh"]).arg(&own);
        command.args([name, address, &(others.len() + 1).to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut keeper = command.spawn().context("cannot run unshare")?;
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().context("no output")?).read_line(&mut line)?;
        let machine = Machine { name: name.to_owned(), folder: own, keeper };
        machine.ensure_made(&line)
    }

    fn ensure_made(mut self, line: &str) -> Result<Machine> {
        if line != "made\n" {
            let mut said = String::new();
            self.keeper.stdin.take();
            self.keeper.stderr.take().context("no output")?.read_to_string(&mut said)?;
            ensure!(false, "the machine {} cannot be made: {}", self.name, said.trim());
        }
        Ok(self)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A file of it, as this test reaches it.
    pub fn path(&self, path: &str) -> PathBuf {
        Path::new("/proc").join(self.keeper.id().to_string()).join("root").join(path.trim_start_matches('/'))
    }

    /// A file for this test alone.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A program on this machine, run by root with a plain environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.keeper.id()));
        command.args(["--mount", "--uts", "--net", "--root", "--wd", "--", program]);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("SHELL", "/bin/sh");
        command
    }

    /// Types a line on a terminal, in the folder [`HERE`], and answers each question with `y`. Gives its exit code, and what
    /// was on the terminal.
    pub fn type_line(&self, line: &str) -> Result<(i32, String)> {
        let mut command = self.command("script");
        command
            .args(["--quiet", "--return", "--command"])
            .arg(format!("cd {HERE} && {line}"))
            .arg("/dev/null");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run nsenter")?;
        // Held until the end: script waits for seconds when its input ends before what it runs.
        let mut answers = child.stdin.take().context("no input")?;
        answers.write_all(b"y\n")?;
        let output = child.wait_with_output()?;
        drop(answers);
        let said = [output.stdout, output.stderr].concat();
        let code = output.status.code().with_context(|| format!("{line}: {}", output.status))?;
        Ok((code, String::from_utf8_lossy(&said).replace('\r', "")))
    }

    /// Runs a line of the shell, which must succeed; gives what it printed.
    pub fn run(&self, line: &str) -> Result<String> {
        let output = self.command("sh").args(["-c", line]).stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {line}: {}: {}", self.name, output.status, said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It reads from us, and ends when there is nothing more.
        self.keeper.stdin.take();
        // Nothing to be done about one that cannot be waited for, and nobody to tell.
        let _ = self.keeper.wait();
    }
}
