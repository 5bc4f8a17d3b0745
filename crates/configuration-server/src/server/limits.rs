//! How many connections there may be at once.
//!
//! A connection has one place after the other: among the handshakes until its TLS is done, then among the hosts when it
//! has presented a certificate that counts, and among the strangers otherwise: browsers, programs, and hosts that
//! register. So however many strangers there are, hosts find room, and hundreds of them may come from one address.

use crate::store::attempts;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places of one kind.
#[derive(Clone, Copy)]
struct Limits {
    /// In all.
    all: usize,
    /// For one address or host.
    each: usize,
}

const HANDSHAKES: Limits = Limits { all: 1024, each: 512 };
/// Each may have begun one registration, so these are bounded too.
const STRANGERS: Limits = Limits { all: 512, each: 64 };
const HOSTS: Limits = Limits { all: 4096, each: 8 };

/// The places of all connections.
pub(super) struct Places {
    handshakes: Arc<Kind<String>>,
    strangers: Arc<Kind<String>>,
    hosts: Arc<Kind<i64>>,
}

impl Default for Places {
    fn default() -> Places {
        Places { handshakes: Kind::new(HANDSHAKES), strangers: Kind::new(STRANGERS), hosts: Kind::new(HOSTS) }
    }
}

impl Places {
    /// For a connection that was just accepted.
    pub(super) fn handshake(&self, address: IpAddr) -> Option<Place<String>> {
        Kind::take(&self.handshakes, attempts::counted(address))
    }

    /// For somebody without a certificate that counts.
    pub(super) fn stranger(&self, address: IpAddr) -> Option<Place<String>> {
        Kind::take(&self.strangers, attempts::counted(address))
    }

    /// For the host in this row of the store.
    pub(super) fn host(&self, row: i64) -> Option<Place<i64>> {
        Kind::take(&self.hosts, row)
    }
}

struct Kind<K> {
    limits: Limits,
    taken: Mutex<Taken<K>>,
}

struct Taken<K> {
    all: usize,
    each: HashMap<K, usize>,
}

/// A place that a connection has; dropping it gives it back.
pub(super) struct Place<K: Hash + Eq> {
    kind: Arc<Kind<K>>,
    key: K,
}

impl<K: Hash + Eq> Kind<K> {
    fn new(limits: Limits) -> Arc<Kind<K>> {
        Arc::new(Kind { limits, taken: Mutex::new(Taken { all: 0, each: HashMap::new() }) })
    }

    fn take(kind: &Arc<Kind<K>>, key: K) -> Option<Place<K>>
    where
        K: Clone,
    {
        let mut taken = kind.lock();
        let before = taken.each.get(&key).copied().unwrap_or(0);
        if before >= kind.limits.each || taken.all >= kind.limits.all {
            return None;
        }
        taken.all += 1;
        taken.each.insert(key.clone(), before + 1);
        Some(Place { kind: kind.clone(), key })
    }

    fn lock(&self) -> MutexGuard<'_, Taken<K>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.kind.lock();
        taken.all -= 1;
        match taken.each.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.each.remove(&self.key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn places_are_limited_and_given_back() {
        let places = Places::default();
        let held: Vec<_> = (0..STRANGERS.each).map(|_| places.stranger(address(1)).unwrap()).collect();
        assert!(places.stranger(address(1)).is_none());
        assert!(places.stranger(address(2)).is_some());
        drop(held);
        assert!(places.stranger(address(1)).is_some());
        let taken = places.strangers.lock();
        assert!(taken.each.is_empty() && taken.all == 0);
    }

    #[test]
    fn strangers_take_no_place_of_a_host_and_hosts_may_share_an_address() {
        let places = Places::default();
        let strangers: Vec<_> = (0..255).filter_map(|last| places.stranger(address(last))).collect();
        let more: Vec<_> = (0..=255)
            .flat_map(|last| std::iter::from_fn(|| places.stranger(address(last))).collect::<Vec<_>>())
            .collect();
        assert_eq!(strangers.len() + more.len(), STRANGERS.all);
        let hosts: Vec<_> = (0..500)
            .flat_map(|row| [(); 3].map(|()| (places.handshake(address(1)).unwrap(), row)))
            .map(|(handshake, row)| {
                drop(handshake);
                places.host(row).unwrap()
            })
            .collect();
        assert_eq!(hosts.len(), 1500);
    }

    #[test]
    fn one_host_cannot_take_every_place() {
        let places = Places::default();
        let held: Vec<_> = std::iter::from_fn(|| places.host(1)).collect();
        assert_eq!(held.len(), HOSTS.each);
        assert!(places.host(2).is_some());
    }
}
