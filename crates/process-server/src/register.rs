//! `mt-process-server register` and `mt-process-server unregister`, and who this machine is to a configuration server.

use crate::config::DEFAULT_STATE;
use anyhow::{Context, Result, ensure};
use block_device::System;
use clap::Args;
use control_api::registration::{Host, HostKind};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use registration::command::{self, agreed, registered_name};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where to register, and what becomes of it.
#[derive(Debug, Args)]
pub struct RegisterArguments {
    #[command(flatten)]
    order: command::RegistrationArguments,
    /// Folder of the process server's own state.
    #[arg(long, value_name = "FOLDER", default_value = DEFAULT_STATE)]
    state_folder: PathBuf,
}

/// What to give up.
#[derive(Debug, Args)]
pub struct UnregisterArguments {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Folder of the process server's own state.
    #[arg(long, value_name = "FOLDER", default_value = DEFAULT_STATE)]
    state_folder: PathBuf,
}

/// Makes this machine known to a configuration server.
pub fn register(RegisterArguments { order, state_folder }: &RegisterArguments) -> Result<()> {
    let passphrase = order.passphrase("mt-process-server")?;
    become_owner(state_folder)?;
    let host = this_host(order.name.as_deref())?;
    let registered = order.register(&passphrase, host, state_folder)?.registration;
    println!("{} is registered with {}.", registered.name, registered.server);
    Ok(())
}

/// Gives up the registration of this machine.
pub fn unregister(UnregisterArguments { yes, state_folder }: &UnregisterArguments) -> Result<()> {
    let Some(name) = registered_name(state_folder) else {
        println!("this machine is not registered");
        return Ok(());
    };
    let question = format!("Give up the registration of {name}? What it relays goes on");
    ensure!(*yes || agreed(&question)?, "nothing was done");
    become_owner(state_folder)?;
    let host = this_host(None).or_else(|_| this_host(Some(&name))).context("nothing was done")?;
    println!("{}", registration::unregister(state_folder, host)?.shown(&name));
    Ok(())
}

/// Becomes the user who owns the state folder, when root has called: the service runs as that one and has to read what is
/// written, and root writes nothing into a folder that is another's.
fn become_owner(state: &Path) -> Result<()> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let folder = std::fs::metadata(state).with_context(|| {
        format!(
            "cannot use the state folder {}; start mt-process-server.service, which makes it",
            state.display()
        )
    })?;
    if folder.uid() == 0 {
        return Ok(());
    }
    setgroups(&[])
        .and_then(|()| setgid(Gid::from_raw(folder.gid())))
        .and_then(|()| setuid(Uid::from_raw(folder.uid())))
        .with_context(|| format!("cannot become the owner of {}", state.display()))
}

/// This machine, as it describes itself to a configuration server: without the UUID of its BIOS, which only root can read,
/// and the service is not root.
pub(crate) fn this_host(name: Option<&str>) -> registration::Result<Host> {
    let version = env!("CARGO_PKG_VERSION");
    let host = registration::host(&System::host(), HostKind::ProcessServer, name, version, Vec::new())?;
    Ok(Host { dmi_uuid: None, ..host })
}
