//! `mt-source register` and `mt-source unregister`.

use crate::agent::config::DEFAULT_STATE;
use anyhow::{Context, Result, ensure};
use block_device::System;
use clap::Args;
use control_api::registration::{Host, HostKind};
use registration::command::{self, agreed, registered_name};
use std::path::PathBuf;

/// Where to register, and what becomes of it.
#[derive(Debug, Args)]
pub struct RegisterArguments {
    #[command(flatten)]
    order: command::RegistrationArguments,
    /// Folder of the agent's own state.
    #[arg(long, value_name = "FOLDER", default_value = DEFAULT_STATE)]
    state_folder: PathBuf,
}

/// What to give up.
#[derive(Debug, Args)]
pub struct UnregisterArguments {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Folder of the agent's own state.
    #[arg(long, value_name = "FOLDER", default_value = DEFAULT_STATE)]
    state_folder: PathBuf,
}

/// Makes this machine known to a configuration server.
pub fn register(RegisterArguments { order, state_folder }: &RegisterArguments) -> Result<()> {
    let passphrase = order.passphrase("mt-source")?;
    let host = this_host(order.name.as_deref())?;
    let registered = order.register(&passphrase, host, state_folder)?.registration;
    println!(
        "{} is registered with {}. Its certificate and key are in {}, where mt-source finds them unless [tls] names others.",
        registered.name,
        registered.server,
        state_folder.join(registration::IDENTITY).display()
    );
    Ok(())
}

/// Gives up the registration of this machine.
pub fn unregister(UnregisterArguments { yes, state_folder }: &UnregisterArguments) -> Result<()> {
    let Some(name) = registered_name(state_folder) else {
        println!("this machine is not registered");
        return Ok(());
    };
    let question =
        format!("Give up the registration of {name}? No master target takes its changes afterwards");
    ensure!(*yes || agreed(&question)?, "nothing was done");
    let host = this_host(None).or_else(|_| this_host(Some(&name))).context("nothing was done")?;
    println!("{}", registration::unregister(state_folder, host)?.shown(&name));
    Ok(())
}

/// This machine, as it describes itself to a configuration server.
pub(crate) fn this_host(name: Option<&str>) -> registration::Result<Host> {
    let version = env!("CARGO_PKG_VERSION");
    registration::host(&System::host(), HostKind::SourceAgent, name, version, Vec::new())
}
