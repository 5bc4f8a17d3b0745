//! A running configuration server, and hosts that register with it by the commands that people type.

use crate::{Identity, Process, Rig, free_port, machine};
use anyhow::{Context, Result, bail, ensure};
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Longer than a start takes.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running `mt-configserver`. Dropping it kills it; its state stays in the rig's folder, and the next one that is
/// started there goes on with it.
pub struct ConfigurationServer {
    process: Process,
    program: PathBuf,
    folder: PathBuf,
    port: u16,
}

impl ConfigurationServer {
    /// Starts one on a free port of the loopback interface, and waits until it serves.
    pub fn start(rig: &Rig) -> Result<ConfigurationServer> {
        ConfigurationServer::start_at(rig, free_port()?, "")
    }

    /// The same at this port, with more text in its configuration.
    pub fn start_at(rig: &Rig, port: u16, more: &str) -> Result<ConfigurationServer> {
        let (folder, program) = (rig.folder.join("configuration-server"), rig.program("mt-configserver")?);
        std::fs::create_dir_all(&folder)?;
        let configuration = configuration_of(&folder);
        let state = state_of(&folder);
        let text = format!("listen = \"127.0.0.1:{port}\"\nstate_folder = {state:?}\n{more}");
        std::fs::write(&configuration, text)?;
        let notices = folder.join("notify.sock");
        match std::fs::remove_file(&notices) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let ready = UnixDatagram::bind(&notices)?;
        let mut command = Command::new(&program);
        command.arg("--config").arg(&configuration).env("NOTIFY_SOCKET", &notices);
        let process = Process::start(command, &folder.join("mt-configserver.log"))?;
        let mut server = ConfigurationServer { process, program, folder, port };
        server.wait_until_ready(&ready)?;
        Ok(server)
    }

    /// As systemd does: it says by itself when it is ready.
    fn wait_until_ready(&mut self, notices: &UnixDatagram) -> Result<()> {
        notices.set_read_timeout(Some(Duration::from_millis(100)))?;
        let (start, mut buffer) = (Instant::now(), [0; 512]);
        while start.elapsed() < START_LIMIT {
            self.process.check_running()?;
            let Ok(length) = notices.recv(&mut buffer) else { continue };
            if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == "READY=1") {
                return Ok(());
            }
        }
        bail!("mt-configserver is not ready after {} s", START_LIMIT.as_secs())
    }

    /// Its port on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its portal is.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}/", self.port)
    }

    /// Everything that it remembers.
    pub fn state(&self) -> PathBuf {
        state_of(&self.folder)
    }

    /// What it says as it goes.
    pub fn log(&self) -> PathBuf {
        self.folder.join("mt-configserver.log")
    }

    /// The file that holds the passphrase.
    pub fn passphrase(&self) -> PathBuf {
        self.state().join("connection.passphrase")
    }

    /// Name and password of the administrator that the first start makes, as long as nobody has logged in.
    pub fn administrator(&self) -> Result<(String, String)> {
        let path = self.state().join("administrator.password");
        let password =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(("admin".to_owned(), password.trim().to_owned()))
    }

    /// Runs `mt-configserver` with these words on the state of this server, and gives what it printed; its failure is an
    /// error with what it said.
    pub fn command(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        let output = command.args(words).arg("--config").arg(configuration_of(&self.folder)).output()?;
        printed(&format!("mt-configserver {}", words.join(" ")), &output)
    }

    /// Registers the master target of a rig under a name, by `mtctl register`; it is run with that identity from now on.
    /// Gives what the command printed.
    pub fn register_target(&self, rig: &mut Rig, name: &str) -> Result<String> {
        let folder = rig.folder.join("target");
        let state = folder.join("state");
        std::fs::create_dir_all(&folder)?;
        let configuration = folder.join("register.toml");
        std::fs::write(&configuration, format!("state_folder = {state:?}\n"))?;
        let mut command = machine::mtctl(rig, &folder)?;
        command.args(self.words(name)).arg("--config").arg(configuration);
        let said = printed("mtctl register", &command.output().context("cannot run mtctl register")?)?;
        rig.target = Identity::registered(&state, name);
        Ok(said)
    }

    /// Registers the source agent of a rig under a name, by `mt-source register`; it is run with that identity from now
    /// on. Gives what the command printed.
    pub fn register_source(&self, rig: &mut Rig, name: &str) -> Result<String> {
        let state = rig.folder.join("source").join("state");
        let mut command = machine::command(rig, "mt-source")?;
        command.args(self.words(name)).arg("--state-folder").arg(&state);
        let said =
            printed("mt-source register", &command.output().context("cannot run mt-source register")?)?;
        rig.source = Identity::registered(&state, name);
        Ok(said)
    }

    fn words(&self, name: &str) -> Vec<String> {
        let (port, file) = (self.port.to_string(), self.passphrase().display().to_string());
        ["register", "-i", "127.0.0.1", "--port", &port, "-P", &file, "--name", name]
            .map(str::to_owned)
            .into()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn configuration_of(folder: &Path) -> PathBuf {
    folder.join("configserver.toml")
}

fn state_of(folder: &Path) -> PathBuf {
    folder.join("state")
}

fn printed(what: &str, output: &Output) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{what} ended with {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        said.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
