//! Alerts: raised and cleared once each, logged when that happens.

use control_api::time::Time;
use control_api::{Alert, AlertKind};

/// The alerts of one item, or of the retention volume.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alerts {
    list: Vec<Alert>,
}

impl Alerts {
    /// Raises an alert, or brings the message of one that is raised up to date.
    pub(crate) fn raise(&mut self, kind: AlertKind, now: Time, message: String) {
        match self.list.iter_mut().find(|alert| alert.kind == kind) {
            Some(alert) => alert.message = message,
            None => {
                tracing::warn!(alert = ?kind, "{message}");
                self.list.push(Alert { kind, since: now, message });
            }
        }
    }

    pub(crate) fn clear(&mut self, kind: AlertKind) {
        if let Some(at) = self.list.iter().position(|alert| alert.kind == kind) {
            let alert = self.list.remove(at);
            tracing::info!(alert = ?kind, "no longer: {}", alert.message);
        }
    }

    /// Since when an alert is raised.
    pub(crate) fn since(&self, kind: AlertKind) -> Option<Time> {
        self.list.iter().find(|alert| alert.kind == kind).map(|alert| alert.since)
    }

    pub(crate) fn list(&self) -> Vec<Alert> {
        self.list.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_keeps_the_time_at_which_it_was_first_raised() {
        let mut alerts = Alerts::default();
        alerts.raise(AlertKind::Fenced, 5, "a".into());
        alerts.raise(AlertKind::Fenced, 9, "b".into());
        assert_eq!(alerts.list(), [Alert { kind: AlertKind::Fenced, since: 5, message: "b".into() }]);
        alerts.clear(AlertKind::Fenced);
        assert_eq!(alerts.since(AlertKind::Fenced), None);
    }
}
