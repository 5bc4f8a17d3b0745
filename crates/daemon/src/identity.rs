//! The identity that this machine was given when it registered: followed.

use anyhow::Result;
use block_device::System;
use control_api::registration::HostKind;
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;
use transport::tls::{ServerTls, TlsFiles};

/// How often it is looked whether there is an identity, or another one.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The identity in the files; `None` when there is none at all, as before this machine is registered.
pub(crate) fn load(files: &TlsFiles) -> Result<Option<ServerTls>> {
    if !files.certificate.exists() && !files.key.exists() {
        tracing::warn!(
            "this machine is not registered, so no source is let in: {} does not exist; run mtctl register",
            files.certificate.display()
        );
        return Ok(None);
    }
    let tls = ServerTls::load(files)?;
    for warning in tls.warnings() {
        tracing::warn!("{warning}");
    }
    Ok(Some(tls))
}

/// Hands on each new identity, and that there is none any more, for the connections that come later.
pub(crate) async fn follow(files: TlsFiles, newer: watch::Sender<Option<ServerTls>>) {
    let mut known = content(&files);
    loop {
        sleep(LOOK_EVERY).await;
        let found = content(&files);
        if found == known {
            continue;
        }
        known = found;
        match load(&files) {
            Ok(identity) => {
                if identity.is_some() {
                    tracing::info!("this machine has a new certificate; sources are let in by it");
                }
                newer.send_replace(identity);
            }
            // Files that people place one by one go together only in the end.
            Err(error) => tracing::warn!("the certificate files have changed, but cannot be used: {error}"),
        }
    }
}

fn content(files: &TlsFiles) -> [Option<Vec<u8>>; 3] {
    [&files.certificate, &files.key, &files.ca].map(|path| std::fs::read(path).ok())
}

/// This machine, as it describes itself to a configuration server.
pub(crate) fn this_host(name: Option<&str>) -> registration::Result<control_api::registration::Host> {
    let options = crate::preflight::MachineOptions::host(Path::new(crate::config::DEFAULT_PATH), None);
    let addresses = crate::preflight::addresses(&crate::preflight::Machine::new(options));
    let version = env!("CARGO_PKG_VERSION");
    registration::host(&System::host(), HostKind::MasterTarget, name, version, addresses)
}
