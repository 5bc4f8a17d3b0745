//! `mt-configserver notify`: whether messages arrive.

use crate::authority::Authority;
use crate::config::Config;
use crate::notify::{Channel, Message, Sender};
use crate::server::now;
use anyhow::{Result, anyhow, bail, ensure};
use clap::Subcommand;

/// What to do about the channels.
#[derive(Debug, Subcommand)]
pub enum NotifyCommand {
    /// Send a test message through each channel, and tell what came of it
    Test {
        /// Only through this one: mail, or the name of a webhook.
        #[arg(long, value_name = "NAME")]
        channel: Option<String>,
    },
}

pub(super) fn run(config: &Config, command: &NotifyCommand) -> Result<()> {
    let NotifyCommand::Test { channel } = command;
    let mut channels = Channel::all(config);
    ensure!(
        !channels.is_empty(),
        "no channel is configured; write [mail] or [[webhook]] into configserver.toml, where both are described"
    );
    if let Some(wanted) = channel {
        let names: Vec<String> = channels.iter().map(|channel| channel.name().to_owned()).collect();
        channels.retain(|channel| channel.name() == wanted);
        ensure!(!channels.is_empty(), "{wanted}: there is no such channel; there is {}", names.join(", "));
    }
    super::ensure_started(config)?;
    let authority = Authority::open(&config.state_folder, now())?;
    let sender = Sender::new(config, authority.fingerprint().as_ref());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let failed = channels.iter().filter(|channel| !runtime.block_on(test(channel, &sender))).count();
    match failed {
        0 => Ok(()),
        failed => bail!("{failed} of {} channels failed", channels.len()),
    }
}

/// Looks whether the secrets and certificates that channels need can be read.
pub(super) fn check(config: &Config) -> Result<()> {
    for channel in Channel::all(config) {
        channel.check_files().map_err(|failure| anyhow!("channel {}: {failure}", channel.name()))?;
    }
    Ok(())
}

/// True when the message arrived, for all who should have it.
async fn test(channel: &Channel, sender: &Sender) -> bool {
    let (name, destination) = (channel.name(), channel.destination());
    match channel.deliver(&Message::test(sender, now()), now()).await {
        Ok(None) => {
            println!("{name}: a test message was sent to {destination}");
            true
        }
        Ok(Some(failure)) => {
            println!("{name}: a test message was sent, but not to all: {failure}");
            false
        }
        Err(failure) => {
            println!("{name}: failed: {failure}");
            false
        }
    }
}
