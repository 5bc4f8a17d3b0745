//! How many connections there may be at once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections in all.
const MAX_CONNECTIONS: usize = 512;
/// Connections from one address.
const MAX_FROM_ADDRESS: usize = 32;

/// Counts connections, in all and by address. Each may have begun one registration, so these are bounded too.
#[derive(Default)]
pub(super) struct Places {
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A place that a connection has; dropping it gives it back.
pub(super) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    pub(super) fn take(self: &Arc<Places>, address: IpAddr) -> Option<Place> {
        let mut taken = self.lock();
        let from_here = taken.get(&address).copied().unwrap_or(0);
        if from_here >= MAX_FROM_ADDRESS || taken.values().sum::<usize>() >= MAX_CONNECTIONS {
            return None;
        }
        taken.insert(address, from_here + 1);
        Some(Place { places: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        match taken.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_given_back() {
        let places = Arc::new(Places::default());
        let address = |last| IpAddr::from([10, 0, 0, last]);
        let held: Vec<Place> = (0..MAX_FROM_ADDRESS).map(|_| places.take(address(1)).unwrap()).collect();
        assert!(places.take(address(1)).is_none());
        assert!(places.take(address(2)).is_some());
        drop(held);
        assert!(places.take(address(1)).is_some());
        assert!(places.lock().is_empty());
    }
}
