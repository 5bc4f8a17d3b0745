//! What is known of each host in memory alone.
//!
//! It starts empty with the server, so each host has its full time to be heard after a restart. It holds one entry for
//! each host that is registered: the watch drops the others.

use control_api::agent::JobsReply;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A host that was told something about its jobs is told the same again no sooner, as long as nothing changes.
const REPEAT: Duration = Duration::from_secs(1);

/// The hosts, by their row in the store.
#[derive(Default)]
pub(crate) struct Attendance {
    hosts: Mutex<HashMap<i64, Entry>>,
}

struct Entry {
    heard: Instant,
    bell: Arc<Notify>,
    /// What it was told last about its jobs, and when.
    told: Option<(JobsReply, Instant)>,
}

impl Default for Entry {
    fn default() -> Entry {
        Entry { heard: Instant::now(), bell: Arc::default(), told: None }
    }
}

impl Attendance {
    /// A heartbeat of this host came.
    pub(crate) fn heard(&self, host: i64) {
        self.lock().entry(host).or_default().heard = Instant::now();
    }

    /// Remembers these hosts and no others, and tells which of them were not heard for `limit`. A host that is new here
    /// counts as heard.
    pub(super) fn silent(&self, hosts: &[i64], limit: Duration) -> Vec<i64> {
        let mut known = self.lock();
        let mut before = std::mem::take(&mut *known);
        for host in hosts {
            known.insert(*host, before.remove(host).unwrap_or_default());
        }
        // Who is no longer known and waits for jobs asks again, and is refused.
        before.values().for_each(|entry| entry.bell.notify_waiters());
        hosts.iter().copied().filter(|host| known[host].heard.elapsed() >= limit).collect()
    }

    /// Whether this host was not heard for `limit`.
    pub(super) fn is_silent(&self, host: i64, limit: Duration) -> bool {
        self.lock().get(&host).is_some_and(|entry| entry.heard.elapsed() >= limit)
    }

    /// What rings when there is something to tell this host.
    pub(crate) fn bell(&self, host: i64) -> Arc<Notify> {
        self.lock().entry(host).or_default().bell.clone()
    }

    /// Rings the bells of these hosts.
    pub(super) fn ring(&self, hosts: &[i64]) {
        let known = self.lock();
        hosts.iter().filter_map(|host| known.get(host)).for_each(|entry| entry.bell.notify_waiters());
    }

    /// How long this is not yet to be told to this host, since it was told the same just now.
    pub(crate) fn too_soon(&self, host: i64, reply: &JobsReply) -> Duration {
        let known = self.lock();
        let told = known.get(&host).and_then(|entry| entry.told.as_ref());
        let same = told.filter(|(told, _)| told == reply);
        same.map_or(Duration::ZERO, |(_, since)| REPEAT.saturating_sub(since.elapsed()))
    }

    /// This host is told this.
    pub(crate) fn told(&self, host: i64, reply: &JobsReply) {
        self.lock().entry(host).or_default().told = Some((reply.clone(), Instant::now()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Entry>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_new_has_its_full_time_and_who_left_is_forgotten() {
        let (attendance, limit) = (Attendance::default(), Duration::from_millis(60));
        assert!(attendance.silent(&[1, 2], limit).is_empty());
        std::thread::sleep(limit);
        attendance.heard(2);
        assert_eq!(attendance.silent(&[1, 2, 3], limit), [1]);
        assert!(attendance.is_silent(1, limit) && !attendance.is_silent(2, limit));
        assert!(attendance.silent(&[2, 3], limit).is_empty());
        assert_eq!(attendance.lock().len(), 2);
    }

    #[test]
    fn the_same_is_not_repeated_at_once() {
        let attendance = Attendance::default();
        let reply = JobsReply { orders: Vec::new(), cancel: vec!["a".into()] };
        assert_eq!(attendance.too_soon(1, &reply), Duration::ZERO);
        attendance.told(1, &reply);
        assert!(attendance.too_soon(1, &reply) > Duration::ZERO);
        assert_eq!(attendance.too_soon(1, &JobsReply::default()), Duration::ZERO);
        assert_eq!(attendance.too_soon(2, &reply), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_bell_wakes_its_host_and_no_other() {
        let attendance = Attendance::default();
        let (one, two) = (attendance.bell(1), attendance.bell(2));
        let (mut one, mut two) = (Box::pin(one.notified()), Box::pin(two.notified()));
        attendance.ring(&[1, 9]);
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, &mut one).await.is_ok());
        assert!(tokio::time::timeout(soon, &mut two).await.is_err());
    }
}
