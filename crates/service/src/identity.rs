//! The certificate of a registered machine, renewed long before it expires.

use control_api::registration::Host;
use std::path::PathBuf;
use std::time::Duration;

/// How often it is looked whether it has to be renewed.
const RENEW_EVERY: Duration = Duration::from_secs(3600);

/// Renews the certificate below `state` whenever a third of its life is left, for ever; connections that are made later use
/// the new one. `host` describes this machine under a name.
pub async fn keep_valid(state: PathBuf, host: fn(Option<&str>) -> registration::Result<Host>) {
    loop {
        let folder = state.clone();
        let renew = move || registration::renew_if_due(&folder, |name| host(Some(name)));
        match tokio::task::spawn_blocking(renew).await {
            Ok(Ok(true)) => tracing::info!("the certificate of this machine was renewed"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::warn!("the certificate of this machine was not renewed: {error}"),
            Err(error) => tracing::error!("the certificate of this machine was not renewed: {error}"),
        }
        tokio::time::sleep(RENEW_EVERY).await;
    }
}
