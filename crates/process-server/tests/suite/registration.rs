//! Registering with a real configuration server, and being seen there.

use crate::support::{LONGEST, ProcessServer};
use anyhow::{Result, ensure};
use rig::{ConfigurationServer, Rig, wait_for};
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

/// A user who is nobody in particular.
const OTHER: u32 = 64_999;

fn run(words: &[&str], state: &Path) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mt-process-server"));
    Ok(command.args(words).arg("--state-folder").arg(state).output()?)
}

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The hosts that a configuration server knows.
fn hosts(server: &ConfigurationServer) -> Result<Vec<Value>> {
    let listed: Value = serde_json::from_str(&server.command(&["hosts", "--json"])?)?;
    Ok(listed["hosts"].as_array().cloned().unwrap_or_default())
}

#[test]
fn a_process_server_registers_is_connected_and_gives_it_up() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    let rig = Rig::new(folder.path(), &rig::build()?)?;
    let server = ConfigurationServer::start(&rig)?;
    let relay = ProcessServer::start(&rig.folder.join("relay"), "", &[])?;
    ensure!(relay.status()?.link.is_none());
    let text = shown(&relay.command(&["status"])?);
    ensure!(text.contains("not registered with a configuration server"), "{text}");

    // As where it is installed: the service's user owns the folder, and root registers.
    let state = rig.folder.join("relay/state");
    if fs::metadata("/proc/self")?.uid() == 0 {
        chown(&state, Some(OTHER), Some(OTHER))?;
    }
    let (port, file) = (server.port().to_string(), server.passphrase().display().to_string());
    let wrong = rig.folder.join("wrong.txt");
    fs::write(&wrong, "wrong-wrong-wrong\n")?;
    let words = ["register", "-i", "127.0.0.1", "--port", &port, "--name", "ps01.example", "-P"];
    let refused = run(&[&words[..], &[&wrong.display().to_string()]].concat(), &state)?;
    let text = shown(&refused);
    ensure!(
        refused.status.code() == Some(1) && text.contains("why") && text.contains("passphrase"),
        "{text}"
    );
    let done = run(&[&words[..], &[&file]].concat(), &state)?;
    let text = shown(&done);
    ensure!(done.status.success() && text.contains("ps01.example is registered with 127.0.0.1"), "{text}");
    let owner = fs::metadata(&state)?.uid();
    for name in ["key.pem", "registration.json"] {
        ensure!(fs::metadata(state.join("identity").join(name))?.uid() == owner, "{name} is another's");
    }

    relay.wait_for("the configuration server to answer", |status| {
        status.link.as_ref().is_some_and(|link| link.connected_since.is_some())
    })?;
    let text = shown(&relay.command(&["status"])?);
    ensure!(text.contains("connected for") && text.contains("as ps01.example"), "{text}");
    let found = hosts(&server)?;
    ensure!(found.len() == 1 && found[0]["kind"] == "process-server", "{found:?}");
    ensure!(found[0]["name"] == "ps01.example" && found[0]["revoked"].is_null(), "{found:?}");

    let asked = run(&["unregister"], &state)?;
    ensure!(!asked.status.success() && shown(&asked).contains("--yes"), "{}", shown(&asked));
    let gone = run(&["unregister", "--yes"], &state)?;
    let text = shown(&gone);
    ensure!(gone.status.success() && text.contains("has revoked its certificates"), "{text}");
    wait_for("the host to be revoked", LONGEST, || Ok(hosts(&server)?[0]["revoked"].as_u64().map(drop)))?;
    relay.wait_for("the end of the conversation", |status| status.link.is_none())?;
    Ok(())
}
