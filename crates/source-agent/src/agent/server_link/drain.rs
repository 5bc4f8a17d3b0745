//! How long the changes that wait for the master target will take.
//!
//! They go at the rate of the last five minutes: bytes of changes that were acknowledged, in those seconds in which some
//! waited, since an idle source sends little because there is little to send. Until there was a minute of such seconds
//! nothing is known. When none was acknowledged in five minutes of them, the time has no end.

use control_api::agent::Protection;
use control_api::time::{SECOND, Time, format_duration};
use control_api::{Alert, AlertKind};
use disk::Bytes;
use std::collections::VecDeque;
use std::time::Duration;

/// Seconds that are looked back over.
const OVER: usize = 300;
/// Seconds with a backlog that are needed to tell.
const NEEDED: usize = 60;
/// It takes too long, and far too long.
const SLOW: Duration = Duration::from_secs(30 * 60);
const STUCK: Duration = Duration::from_secs(45 * 60);

/// What the last seconds were like.
#[derive(Default)]
pub(super) struct Drain {
    /// Bytes that were acknowledged in each second in which some waited.
    seconds: VecDeque<Option<u64>>,
    settled: u64,
    raised: Option<(AlertKind, Time)>,
}

/// How long a backlog takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Estimate {
    /// It is not known.
    Unknown,
    Seconds(u64),
    /// Nothing of it is taken.
    Never,
}

impl Drain {
    /// Another second is over: so many bytes wait, and so many were acknowledged since the agent started.
    pub(super) fn second(&mut self, backlog: u64, settled: u64) {
        let now = settled.saturating_sub(self.settled);
        self.settled = settled;
        self.seconds.push_back((backlog > 0).then_some(now));
        if self.seconds.len() > OVER {
            self.seconds.pop_front();
        }
    }

    pub(super) fn estimate(&self, backlog: u64) -> Estimate {
        if backlog == 0 {
            return Estimate::Seconds(0);
        }
        let busy = self.seconds.iter().flatten();
        let (seconds, bytes) =
            busy.fold((0, 0u64), |(seconds, bytes), second| (seconds + 1, bytes.saturating_add(*second)));
        match bytes {
            _ if seconds < NEEDED => Estimate::Unknown,
            0 if seconds < OVER => Estimate::Unknown,
            0 => Estimate::Never,
            bytes => Estimate::Seconds(backlog.saturating_mul(seconds as u64) / bytes),
        }
    }

    /// The alert about it, with the time since when there is one of this kind.
    pub(super) fn alert(&mut self, backlog: u64, now: Time) -> Option<Alert> {
        let kind = match self.estimate(backlog) {
            Estimate::Never => Some(AlertKind::BacklogStuck),
            Estimate::Seconds(seconds) if seconds > STUCK.as_secs() => Some(AlertKind::BacklogStuck),
            Estimate::Seconds(seconds) if seconds > SLOW.as_secs() => Some(AlertKind::BacklogSlow),
            _ => None,
        };
        self.raised = match (kind, self.raised) {
            (Some(kind), Some((known, since))) if kind == known => Some((kind, since)),
            (kind, _) => kind.map(|kind| (kind, now)),
        };
        let (kind, since) = self.raised?;
        let how = match self.estimate(backlog) {
            Estimate::Seconds(seconds) => {
                let time = format_duration(seconds.saturating_mul(SECOND));
                format!("takes {time} to be sent at the present rate")
            }
            _ => "is not taken by the master target".to_owned(),
        };
        let message = format!(
            "{} of changes wait, and what waits {how}; look at the network to the master target and at its load",
            Bytes(backlog)
        );
        Some(Alert { kind, since, message })
    }

    /// Puts it into what is told.
    pub(super) fn tell(&mut self, protection: &mut Protection, now: Time) {
        let backlog = protection.backlog_bytes;
        protection.drain_seconds = match self.estimate(backlog) {
            Estimate::Seconds(seconds) => Some(seconds),
            Estimate::Unknown | Estimate::Never => None,
        };
        protection.alerts.extend(self.alert(backlog, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// So many seconds with this backlog, in each of which so much is acknowledged.
    fn pass(drain: &mut Drain, seconds: u64, backlog: u64, rate: u64) {
        for _ in 0..seconds {
            drain.second(backlog, drain.settled + rate);
        }
    }

    #[test]
    fn only_seconds_with_a_backlog_count() {
        let mut drain = Drain::default();
        assert_eq!(drain.estimate(0), Estimate::Seconds(0));
        assert_eq!(drain.estimate(MIB), Estimate::Unknown);
        pass(&mut drain, 200, 0, 10);
        pass(&mut drain, 59, MIB, MIB);
        assert_eq!(drain.estimate(100 * MIB), Estimate::Unknown);
        pass(&mut drain, 1, MIB, MIB);
        assert_eq!(drain.estimate(100 * MIB), Estimate::Seconds(100));
        pass(&mut drain, 299, MIB, 0);
        assert_eq!(drain.estimate(MIB), Estimate::Seconds(300), "one second of the last five minutes counts");
        pass(&mut drain, 1, MIB, 0);
        assert_eq!(drain.estimate(MIB), Estimate::Never);
        pass(&mut drain, 300, 0, 0);
        assert_eq!(drain.estimate(MIB), Estimate::Unknown, "it starts to wait now");
        pass(&mut drain, 200, MIB, 0);
        assert_eq!(drain.estimate(MIB), Estimate::Unknown, "a cut of three minutes says nothing yet");
    }

    #[test]
    fn what_takes_too_long_is_an_alert_with_its_beginning() {
        let mut drain = Drain::default();
        pass(&mut drain, 300, MIB, MIB);
        let kind = |drain: &mut Drain, minutes: u64, now| {
            drain.alert(minutes * 60 * MIB, now).map(|alert| (alert.kind.id(), alert.since))
        };
        assert_eq!(kind(&mut drain, 30, 1), None);
        assert_eq!(kind(&mut drain, 31, 2), Some(("backlog-slow", 2)));
        assert_eq!(kind(&mut drain, 45, 3), Some(("backlog-slow", 2)));
        assert_eq!(kind(&mut drain, 46, 4), Some(("backlog-stuck", 4)));
        assert_eq!(kind(&mut drain, 1, 5), None);
        pass(&mut drain, 300, MIB, 0);
        let alert = drain.alert(MIB, 6).unwrap();
        assert_eq!((alert.kind, alert.since), (AlertKind::BacklogStuck, 6));
        assert!(alert.message.contains("1 MiB of changes wait, and what waits is not taken"), "{alert:?}");
    }
}
