//! Starting and stopping the daemon, and telling systemd about it.

use crate::config::Config;
use crate::master_target::MasterTarget;
use crate::{identity, items, local, retention, server_link, sources, state_format};
use ::service::NotifyState;
use anyhow::{Context, Result};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use transport::tls::TlsFiles;

/// Runs the master target until it is asked to stop by SIGTERM or SIGINT.
pub async fn run(config: Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    run_until(config, stop).await
}

/// Runs the master target until `stop` completes; then finishes what is in flight and closes everything.
pub async fn run_until(config: Config, stop: impl Future<Output = ()>) -> Result<()> {
    let files = TlsFiles {
        certificate: config.tls.certificate.clone(),
        key: config.tls.key.clone(),
        ca: config.tls.ca.clone(),
    };
    let (newer, tls) = watch::channel(identity::load(&files)?);
    state_format::open(&config.state_folder)?;
    let socket = config.socket.clone();
    let api = local::bind(&socket)
        .with_context(|| format!("cannot listen at {}; name another socket in mtd.toml", socket.display()))?;
    let listener = TcpListener::bind(config.listen).await.with_context(|| {
        format!("cannot listen for sources at {}; change listen in mtd.toml", config.listen)
    })?;
    let address = listener.local_addr().context("the socket for sources has no address")?;
    let state_folder = config.state_folder.clone();
    let (target, tasks) = MasterTarget::start(config, address).await;
    let target = Arc::new(target);
    tracing::info!(%address, socket = %socket.display(), items = target.items.all().len(), "started");
    let serving = [
        tokio::spawn(local::serve(api, target.clone())),
        tokio::spawn(sources::serve(listener, tls, target.clone())),
        tokio::spawn(identity::follow(files, newer)),
        tokio::spawn(::service::keep_valid(state_folder, identity::this_host)),
        tokio::spawn(inform_systemd(target.clone())),
        tokio::spawn(retention::share_out(target.clone())),
        tokio::spawn(server_link::tell_changes(target.clone())),
        tokio::spawn(items::settle(target.clone())),
    ];
    let link = server_link::start(target.clone());
    ::service::notify(NotifyState::Ready);
    stop.await;
    tracing::info!("stopping: what is in flight is finished first");
    ::service::notify(NotifyState::Stopping);
    for task in &serving[1..] {
        task.abort();
    }
    // Its threads ask the items, and its jobs wait for them.
    let _ = tokio::task::spawn_blocking(move || link.stop()).await;
    target.shut_down(tasks).await;
    serving[0].abort();
    let _ = std::fs::remove_file(&socket);
    tracing::info!("stopped");
    Ok(())
}

async fn inform_systemd(target: Arc<MasterTarget>) {
    ::service::keep_informed(|| target.summary()).await;
}
