//! Servers and relays that other people wrote, standing where a configuration server should.

use anyhow::{Context, Result};
use rig::{Process, free_port, tools::run, wait_for};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A program that listens on the loopback interface until it is dropped.
pub struct Listening {
    _process: Process,
    /// `127.0.0.1:PORT`
    pub address: String,
}

/// A web server by openssl that answers every question, with these words about its TLS.
pub fn web_server(folder: &Path, tls: &[&str]) -> Result<Listening> {
    let (key, certificate) = certificate(folder)?;
    listening(folder, |port| {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-www", "-accept", &port.to_string(), "-key", &key, "-cert", &certificate]);
        command.args(tls);
        command
    })
}

/// The same, answering with the files of `folder`, which hold whole answers.
pub fn file_server(folder: &Path) -> Result<Listening> {
    let (key, certificate) = certificate(folder)?;
    listening(folder, |port| {
        let mut command = Command::new("openssl");
        command.args([
            "s_server",
            "-HTTP",
            "-accept",
            &port.to_string(),
            "-key",
            &key,
            "-cert",
            &certificate,
        ]);
        command.current_dir(folder);
        command
    })
}

/// A program of the shell that answers each connection.
pub fn answering(folder: &Path, script: &str) -> Result<Listening> {
    listening(folder, |port| {
        let mut command = Command::new("socat");
        command
            .arg(format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr"))
            .arg(format!("SYSTEM:{script}"));
        command
    })
}

/// A relay that opens the TLS of whoever connects, with a certificate of its own, and passes each byte on to a server: as
/// a device does that looks into TLS.
pub fn interceptor(folder: &Path, to: u16) -> Result<Listening> {
    let (key, certificate) = certificate(folder)?;
    listening(folder, |port| {
        let mut command = Command::new("socat");
        command
            .arg(format!(
                "OPENSSL-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,cert={certificate},key={key},verify=0"
            ))
            .arg(format!("OPENSSL:127.0.0.1:{to},verify=0"));
        command
    })
}

/// A relay that passes on what it is sent as it is.
pub fn relay(folder: &Path, to: u16) -> Result<Listening> {
    listening(folder, |port| {
        let mut command = Command::new("socat");
        command
            .arg(format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr"))
            .arg(format!("TCP:127.0.0.1:{to}"));
        command
    })
}

fn listening(folder: &Path, command: impl FnOnce(u16) -> Command) -> Result<Listening> {
    let port = free_port()?;
    let mut process = Process::start(command(port), &folder.join(format!("listening-{port}.log")))?;
    wait_for("a server to listen", Duration::from_secs(20), || {
        process.check_running()?;
        Ok(TcpStream::connect(("127.0.0.1", port)).ok())
    })?;
    Ok(Listening { _process: process, address: format!("127.0.0.1:{port}") })
}

/// A key and a certificate for it that nobody signed.
fn certificate(folder: &Path) -> Result<(String, String)> {
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (key, certificate) = (path("proxy.key"), path("proxy.pem"));
    let words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=proxy.example", "-days", "2"];
    run("openssl", &[&words[..], &["-keyout", &key, "-out", &certificate]].concat())
        .context("a proxy needs a certificate")?;
    Ok((key, certificate))
}
