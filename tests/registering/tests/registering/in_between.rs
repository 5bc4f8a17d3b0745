//! Relays that other people wrote, between the real programs.

use anyhow::{Result, ensure};
use registering::{Machine, View, is_root, rig, tools};
use rig::{ConfigurationServer, wait_for};
use std::time::Duration;

fn audit(server: &ConfigurationServer) -> Result<Vec<String>> {
    let audit: serde_json::Value = serde_json::from_str(&server.command(&["audit", "--json"])?)?;
    let entries = audit["entries"].as_array().cloned().unwrap_or_default();
    Ok(entries.iter().filter_map(|entry| Some(entry["outcome"].as_str()?.to_owned())).collect())
}

/// It knows the passphrase of nobody, and learns none: it sees every byte, and both ends notice.
#[test]
fn a_device_that_looks_into_tls_gets_nothing_and_is_named() -> Result<()> {
    if !is_root("a test of a device that looks into TLS") {
        return Ok(());
    }
    let (folder, machine) = (tempfile::tempdir()?, Machine::new(1)?);
    let server = ConfigurationServer::start(&rig(folder.path())?)?;
    let device = tools::interceptor(folder.path(), server.port())?;
    let said = machine.register(View::Here, &device.address, &server.passphrase(), &[])?;
    ensure!(said.status.code() == Some(1), "{}", said.text());
    // He passes for the server up to here: everything before it was relayed.
    ensure!(said.steps.contains("Version") && said.steps.contains("here "), "{}", said.text());
    ensure!(said.error.contains("something between this machine and"), "{}", said.text());
    ensure!(std::fs::read_dir(machine.state())?.next().is_none(), "something was left behind");
    wait_for("the audit", Duration::from_secs(20), || Ok((audit(&server)? == ["not proved"]).then_some(())))?;
    ensure!(server.command(&["hosts", "--json"])?.contains("[]"), "it was registered");
    // Past the device all is well.
    let port = server.port().to_string();
    let said = machine.register(View::Here, "127.0.0.1", &server.passphrase(), &["--port", &port])?;
    ensure!(said.status.success(), "{}", said.text());
    Ok(())
}

#[test]
fn a_relay_that_leaves_tls_alone_does_no_harm() -> Result<()> {
    if !is_root("a test of a relay") {
        return Ok(());
    }
    let (folder, machine) = (tempfile::tempdir()?, Machine::new(1)?);
    let server = ConfigurationServer::start(&rig(folder.path())?)?;
    let relay = tools::relay(folder.path(), server.port())?;
    let said = machine.register(View::Here, &relay.address, &server.passphrase(), &[])?;
    ensure!(said.status.success(), "{}", said.text());
    let gone = machine.mtctl(View::Here, &["unregister", "--yes"])?;
    ensure!(gone.steps.contains("has revoked its certificates"), "{}", gone.text());
    Ok(())
}
