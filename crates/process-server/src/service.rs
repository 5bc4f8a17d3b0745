//! Starting and stopping the process server, and telling systemd about it.

use crate::book::now;
use crate::config::Config;
use crate::relay::Relay;
use crate::status::{self, Teller};
use crate::{link, register};
use ::service::NotifyState;
use anyhow::{Context, Result};
use registration::link::Hub;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Relays until it is asked to stop by SIGTERM or SIGINT.
pub async fn run(config: Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let listener = TcpListener::bind(config.listen).await.with_context(|| {
        format!("cannot listen for source agents at {}; change listen in process-server.toml", config.listen)
    })?;
    let address = listener.local_addr().context("the socket for source agents has no address")?;
    make_state_folder(&config.state_folder)?;
    let local = status::listen(&config.socket)?;
    let socket = config.socket.clone();
    if config.master_targets.is_empty() {
        tracing::warn!("no master_targets are configured: everybody is refused");
    }
    let relay = Arc::new(Relay::new(config));
    let (hub, started) = (Hub::new(), now());
    let listen = address.to_string();
    let teller = Arc::new(Teller { relay: relay.clone(), hub: hub.clone(), started, listen });
    let (stopper, stop) = watch::channel(false);
    let relaying = tokio::spawn(relay.clone().serve(listener, stop));
    let telling = tokio::spawn(status::serve(local, teller.clone()));
    let renewing =
        tokio::spawn(::service::keep_valid(relay.config.state_folder.clone(), register::this_host));
    let link = link::start(&relay.config.state_folder, hub, started);
    let informing = tokio::spawn(async move { ::service::keep_informed(|| teller.summary()).await });
    tracing::info!(%address, master_targets = relay.config.master_targets.len(), "started");
    ::service::notify(NotifyState::Ready);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: source agents will connect again");
    ::service::notify(NotifyState::Stopping);
    informing.abort();
    renewing.abort();
    link.begin_stop();
    stopper.send_replace(true);
    let ended = relaying.await.context("the relay failed");
    telling.abort();
    let _ = tokio::task::spawn_blocking(move || link.stop()).await;
    let _ = std::fs::remove_file(&socket);
    tracing::info!("stopped");
    ended
}

fn make_state_folder(folder: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the state folder {}; change state_folder", folder.display()))
}
