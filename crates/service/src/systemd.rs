//! What systemd is told: that a daemon is ready, that it lives, and how things stand.

use sd_notify::NotifyState;
use std::time::Duration;

/// How often systemd is told how things stand, if they have changed.
pub const STATUS_EVERY: Duration = Duration::from_secs(5);

/// Tells systemd something; without systemd there is nobody to tell.
pub fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!("cannot tell systemd: {error}");
    }
}

/// Says for ever that the daemon lives, if anybody watches. That says that tasks run, not that disks answer: a daemon whose
/// storage hangs would be no better off killed.
pub async fn pet_watchdog() {
    let Some(interval) = sd_notify::watchdog_enabled() else { return };
    loop {
        notify(NotifyState::Watchdog);
        tokio::time::sleep(interval / 3).await;
    }
}

/// Says for ever that the daemon lives, if anybody watches, and how things stand. A `summary` that hangs is a daemon that does
/// not live.
pub async fn keep_informed(summary: impl Fn() -> String) {
    let watchdog = sd_notify::watchdog_enabled().map(|interval| interval / 3);
    let every = watchdog.unwrap_or(STATUS_EVERY).min(STATUS_EVERY);
    let mut told = String::new();
    loop {
        let now = summary();
        if now != told {
            notify(NotifyState::Status(&now));
            told = now;
        }
        if watchdog.is_some() {
            notify(NotifyState::Watchdog);
        }
        tokio::time::sleep(every).await;
    }
}
