//! Both ends become known to a configuration server, by the commands that people type.

use crate::report::{Report, duration};
use anyhow::Result;
use rig::{ConfigurationServer, Rig, Site};
use std::time::Instant;

/// Starts a configuration server and registers the rig's master target and source agent with it.
pub(crate) fn both(report: &mut Report, rig: &mut Rig) -> Result<ConfigurationServer> {
    report.step("A configuration server (mt-configserver) starts for the first time");
    let server = ConfigurationServer::start(rig)?;
    let (name, password) = server.administrator()?;
    report.note(&format!("portal: {}, user {name}, password {password}", server.url()));
    report.note(&format!("it made a passphrase: {}", server.passphrase().display()));
    report.step("Both ends register with it by the passphrase");
    let started = Instant::now();
    server.register_target(rig, Site::TARGET)?;
    report.proved(&format!("mtctl register: {} has a certificate", Site::TARGET));
    server.register_source(rig, Site::SOURCE)?;
    report.proved(&format!("mt-source register: {} has a certificate", Site::SOURCE));
    report.figure("registering both", duration(started.elapsed()));
    Ok(server)
}
