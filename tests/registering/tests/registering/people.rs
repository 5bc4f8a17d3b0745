//! `mtctl register` and `mtctl unregister` as people type them.

use anyhow::{Context, Result, ensure};
use registering::{Machine, View, is_root, rig};
use rig::{ConfigurationServer, wait_for};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn written(machine: &Machine, text: &str, mode: u32) -> Result<PathBuf> {
    let path = machine.file("passphrase.txt");
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    Ok(path)
}

fn names(server: &ConfigurationServer) -> Result<Vec<String>> {
    let hosts: Value = serde_json::from_str(&server.command(&["hosts", "--json"])?)?;
    let hosts = hosts["hosts"].as_array().context("there is no list")?.clone();
    Ok(hosts.iter().filter_map(|host| Some(host["name"].as_str()?.to_owned())).collect())
}

#[test]
fn names_ports_line_ends_and_modes_are_as_people_have_them() -> Result<()> {
    if !is_root("a test of what people type") {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let server = ConfigurationServer::start(&rig(folder.path())?)?;
    let (port, machine) = (server.port().to_string(), Machine::new(1)?);
    let passphrase = fs::read_to_string(server.passphrase())?.trim().to_owned();
    let address = format!("127.0.0.1:{port}");
    // A name of one's own; the port once within the address and once beside it; line ends of each kind, and none.
    for (number, (server_words, text, name)) in [
        (["-i", &address, "--yes", "--yes"], format!("{passphrase}\r\n"), Some("other.example")),
        (["-i", "127.0.0.1", "--port", &port], passphrase.clone(), None),
        (["-i", "localhost", "--port", &port], format!("{passphrase}\n"), None),
    ]
    .into_iter()
    .enumerate()
    {
        let file = written(&machine, &text, 0o600)?.display().to_string();
        let mut words = vec!["register", "-P", &file];
        words.extend(&server_words[..if number == 0 { 2 } else { 4 }]);
        words.extend(name.iter().flat_map(|name| ["--name", name]));
        let said = machine.mtctl(View::Here, &words)?;
        ensure!(said.status.success() && said.error.is_empty(), "{}", said.text());
        let expected = name.unwrap_or("mt01.example");
        ensure!(names(&server)? == [expected], "{:?}", names(&server)?);
        ensure!(said.steps.contains(&format!("{expected} is registered")), "{}", said.text());
    }
    let file = written(&machine, &passphrase, 0o644)?;
    let said = machine.register(View::Here, &address, &file, &[])?;
    ensure!(
        said.status.success() && said.error.contains("other users can read the passphrase"),
        "{}",
        said.text()
    );
    ensure!(said.error.contains("chmod 600"), "{}", said.text());
    Ok(())
}

#[test]
fn programs_read_what_went_wrong_in_its_parts() -> Result<()> {
    if !is_root("a test of what programs read") {
        return Ok(());
    }
    let machine = Machine::new(1)?;
    let file = written(&machine, "some-passphrase-123\n", 0o600)?;
    let said = machine.register(View::Here, "cs.example", &file, &["--json"])?;
    let answer: Value = serde_json::from_str(&said.steps)?;
    ensure!(answer["failed"]["code"] == "unresolved" && said.error.is_empty(), "{}", said.text());
    ensure!(answer["failed"]["next"].as_array().is_some_and(|next| next.len() == 3), "{answer}");
    Ok(())
}

#[test]
fn a_registration_is_given_up_without_the_configuration_server() -> Result<()> {
    if !is_root("a test of unregistering") {
        return Ok(());
    }
    let (folder, machine) = (tempfile::tempdir()?, Machine::new(1)?);
    let mut server = ConfigurationServer::start(&rig(folder.path())?)?;
    let address = format!("127.0.0.1:{}", server.port());
    let said = machine.register(View::Here, &address, &server.passphrase(), &[])?;
    ensure!(said.status.success(), "{}", said.text());
    server.process().stop()?;
    let gone = machine.mtctl(View::Here, &["unregister", "--yes"])?;
    ensure!(gone.status.success(), "{}", gone.text());
    ensure!(
        gone.steps.contains("was not told") && gone.steps.contains("refuses connections"),
        "{}",
        gone.text()
    );
    ensure!(gone.steps.contains("mt-configserver revoke mt01.example"), "{}", gone.text());
    ensure!(fs::read_dir(machine.state())?.next().is_none(), "something of the identity is left");
    // What it says to do there works there, while the server does not run.
    server.command(&["revoke", "mt01.example", "--yes"])?;
    Ok(())
}

/// Files below /proc with a secret in them: command lines and environments.
fn processes_that_tell(secret: &[u8]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.filter_map(Result::ok) {
        for name in ["cmdline", "environ"] {
            let path = entry.path().join(name);
            let text = fs::read(&path).unwrap_or_default();
            if text.windows(secret.len()).any(|window| window == secret) {
                found.push(path.display().to_string());
            }
        }
    }
    Ok(found)
}

fn is_running(program: &str, config: &Path) -> Result<bool> {
    let config = config.display().to_string();
    let lines = fs::read_dir("/proc")?.filter_map(Result::ok).map(|entry| entry.path().join("cmdline"));
    let lines = lines.filter_map(|path| fs::read_to_string(path).ok());
    Ok(lines.map(|line| line.replace('\0', " ")).any(|line| {
        line.split(' ').next().is_some_and(|first| first.ends_with(program)) && line.contains(&config)
    }))
}

#[test]
fn the_passphrase_is_in_no_process_list_while_a_machine_registers() -> Result<()> {
    if !is_root("a test of the process list") {
        return Ok(());
    }
    let machine = Machine::new(1)?;
    let secret = "a-passphrase-in-no-process-list-4711";
    let file = written(&machine, &format!("{secret}\n"), 0o600)?.display().to_string();
    // It waits for 5 s there.
    let words = ["register", "-i", "10.0.0.9", "-P", &file];
    let child = machine.start(View::Silent, &words)?;
    wait_for("mtctl to run", Duration::from_secs(20), || {
        Ok(is_running("mtctl", &machine.config())?.then_some(()))
    })?;
    let told = processes_that_tell(secret.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(told.is_empty(), "{told:?}");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    ensure!(text.contains("does not answer within 5 s") && !text.contains(secret), "{text}");
    Ok(())
}
