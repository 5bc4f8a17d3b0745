//! What systemd is told of the agent: what it does and what it waits for.

use super::control::Control;
use super::status::StatusReport;
use service::{NotifyState, STATUS_EVERY, notify};
use std::sync::Arc;

/// Keeps the line of `systemctl status` right, for ever.
pub(crate) async fn tell_status(control: Arc<Control>) {
    let mut told = String::new();
    loop {
        if let Ok(report) = control.report().await {
            let now = summary(&report);
            if now != told {
                notify(NotifyState::Status(&now));
                told = now;
            }
        }
        tokio::time::sleep(STATUS_EVERY).await;
    }
}

fn summary(report: &StatusReport) -> String {
    let (Some(item), Some(target)) = (&report.item, &report.target) else {
        return "serving the disks; waiting to be told where to replicate to".to_owned();
    };
    let why = report.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{item} at {target}: {}{why}", report.state.replace('-', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_is_waited_for() {
        let mut report: StatusReport = serde_json::from_str(
            r#"{"state": "not-assigned", "stream": "00", "next_sequence": 1, "acknowledged_sequence": 0,
                "backlog_bytes": 0, "dirty_bytes": 0, "overflows": 0}"#,
        )
        .unwrap();
        assert_eq!(summary(&report), "serving the disks; waiting to be told where to replicate to");
        (report.item, report.target) = (Some("web01".into()), Some("mt:9443".into()));
        report.state = "initial-sync".into();
        assert_eq!(summary(&report), "web01 at mt:9443: initial sync");
        (report.state, report.why) = ("offline".into(), Some("connection refused".into()));
        assert_eq!(summary(&report), "web01 at mt:9443: offline: connection refused");
    }
}
