//! Who is connected, how much went through, and who was refused.
//!
//! Refusals are counted by their reason and told in the log, those of one reason at most once in ten seconds: whoever
//! knocks a thousand times a second does not fill the disk.

use crate::config::{Limits, MasterTarget};
use crate::status::{ConnectionStatus, TargetStatus};
use control_api::time::Time;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Refusals of one reason are told at most so often.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Why a client was not relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    TooMany,
    Silent,
    NotTls,
    NoName,
    UnknownName,
    Unreachable,
}

impl Refusal {
    /// As it stands in JSON.
    fn id(self) -> &'static str {
        match self {
            Refusal::TooMany => "too-many",
            Refusal::Silent => "silent",
            Refusal::NotTls => "not-tls",
            Refusal::NoName => "no-name",
            Refusal::UnknownName => "unknown-name",
            Refusal::Unreachable => "unreachable",
        }
    }
}

/// Bytes that went each way.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) to_target: AtomicU64,
    pub(crate) to_source: AtomicU64,
}

/// A master target, and what went to it and came from it since the start.
pub(crate) struct Target {
    pub(crate) config: MasterTarget,
    pub(crate) meter: Meter,
    connections: AtomicU64,
    /// Why it could not be reached when that was tried last, and when.
    problem: Mutex<Option<(Time, String)>>,
}

/// A connection that is relayed.
pub(crate) struct Relayed {
    peer: SocketAddr,
    pub(crate) target: Arc<Target>,
    since: Time,
    pub(crate) meter: Meter,
}

/// Everything.
pub(crate) struct Book {
    limits: Limits,
    targets: HashMap<String, Arc<Target>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    by_address: HashMap<IpAddr, usize>,
    relayed: BTreeMap<u64, Arc<Relayed>>,
    refusals: BTreeMap<Refusal, Told>,
}

#[derive(Default)]
struct Told {
    count: u64,
    /// When one was told last, and how many were not since.
    last: Option<Instant>,
    untold: u64,
}

impl Book {
    pub(crate) fn new(limits: Limits, targets: &[MasterTarget]) -> Book {
        let target = |config: &MasterTarget| Target {
            config: config.clone(),
            meter: Meter::default(),
            connections: AtomicU64::new(0),
            problem: Mutex::default(),
        };
        let named = |config: &MasterTarget| (config.name.to_ascii_lowercase(), Arc::new(target(config)));
        Book { limits, targets: targets.iter().map(named).collect(), state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The master target of a name, which is in lower case.
    pub(crate) fn target(&self, name: &str) -> Option<&Arc<Target>> {
        self.targets.get(name)
    }

    /// A place for a client, as long as there are some.
    pub(crate) fn place(self: &Arc<Book>, peer: SocketAddr) -> Option<Place> {
        let mut state = self.lock();
        let from_here = state.by_address.get(&peer.ip()).copied().unwrap_or(0);
        let all = state.by_address.values().sum::<usize>();
        if all >= self.limits.connections || from_here >= self.limits.connections_per_address {
            return None;
        }
        state.by_address.insert(peer.ip(), from_here + 1);
        state.next += 1;
        Some(Place { book: self.clone(), peer, number: state.next })
    }

    /// Counts a refusal, and tells it if none of its kind was told a moment ago.
    pub(crate) fn refuse(&self, refusal: Refusal, peer: SocketAddr, why: impl fmt::Display) {
        let untold = {
            let mut state = self.lock();
            let told = state.refusals.entry(refusal).or_default();
            told.count += 1;
            if told.last.is_some_and(|last| last.elapsed() < TOLD_EVERY) {
                told.untold += 1;
                return;
            }
            told.last = Some(Instant::now());
            std::mem::take(&mut told.untold)
        };
        let more = if untold == 0 { String::new() } else { format!(" (and {untold} more since the last)") };
        tracing::warn!(%peer, "connection closed: {why}{more}");
    }

    /// How many clients were refused, by reason.
    pub(crate) fn refused(&self) -> BTreeMap<String, u64> {
        self.lock().refusals.iter().map(|(refusal, told)| (refusal.id().to_owned(), told.count)).collect()
    }

    /// The connections that are relayed, the oldest first.
    pub(crate) fn connections(&self) -> Vec<ConnectionStatus> {
        self.lock().relayed.values().map(|relayed| relayed.status()).collect()
    }

    /// The master targets, by name.
    pub(crate) fn targets(&self) -> Vec<TargetStatus> {
        let open = |target: &Arc<Target>| {
            let state = self.lock();
            state.relayed.values().filter(|relayed| Arc::ptr_eq(&relayed.target, target)).count()
        };
        let mut all: Vec<_> = self.targets.values().map(|target| target.status(open(target))).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }
}

impl Target {
    /// Notes whether it could be reached.
    pub(crate) fn reached(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem.map(|why| (now(), why));
    }

    fn status(&self, open: usize) -> TargetStatus {
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (problem_since, problem) = problem.unzip();
        TargetStatus {
            name: self.config.name.clone(),
            address: self.config.address.clone(),
            open,
            connections: self.connections.load(Ordering::Relaxed),
            bytes_to_target: self.meter.to_target.load(Ordering::Relaxed),
            bytes_to_source: self.meter.to_source.load(Ordering::Relaxed),
            problem,
            problem_since,
        }
    }
}

impl Relayed {
    fn status(&self) -> ConnectionStatus {
        ConnectionStatus {
            peer: self.peer.to_string(),
            target: self.target.config.name.clone(),
            since: self.since,
            bytes_to_target: self.meter.to_target.load(Ordering::Relaxed),
            bytes_to_source: self.meter.to_source.load(Ordering::Relaxed),
        }
    }
}

/// The place of a client; dropping it makes room for another.
pub(crate) struct Place {
    book: Arc<Book>,
    pub(crate) peer: SocketAddr,
    number: u64,
}

impl Place {
    /// The client is relayed from now on.
    pub(crate) fn relayed(&self, target: &Arc<Target>) -> Arc<Relayed> {
        let (meter, target) = (Meter::default(), target.clone());
        target.connections.fetch_add(1, Ordering::Relaxed);
        let relayed = Arc::new(Relayed { peer: self.peer, target, since: now(), meter });
        self.book.lock().relayed.insert(self.number, relayed.clone());
        relayed
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.book.lock();
        state.relayed.remove(&self.number);
        match state.by_address.get_mut(&self.peer.ip()) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(state.by_address.remove(&self.peer.ip())),
        }
    }
}

/// The wall clock.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::try_from(since.as_nanos()).unwrap_or(Time::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(connections: usize, connections_per_address: usize) -> Arc<Book> {
        let limits = Limits { connections, connections_per_address, ..Limits::default() };
        let target = MasterTarget { name: "MT01".into(), address: "mt:1".into() };
        Arc::new(Book::new(limits, &[target]))
    }

    fn peer(host: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], 1000))
    }

    #[test]
    fn places_are_limited_in_all_and_by_address_and_are_given_back() {
        let book = book(3, 2);
        let first = book.place(peer(1)).unwrap();
        let _second = book.place(peer(1)).unwrap();
        assert!(book.place(peer(1)).is_none());
        let _third = book.place(peer(2)).unwrap();
        assert!(book.place(peer(3)).is_none());
        drop(first);
        let again = book.place(peer(1)).unwrap();
        again.relayed(book.target("mt01").unwrap()).meter.to_target.fetch_add(5, Ordering::Relaxed);
        assert_eq!((book.connections().len(), book.connections()[0].bytes_to_target), (1, 5));
        assert_eq!((book.targets()[0].open, book.targets()[0].connections), (1, 1));
        drop(again);
        assert_eq!((book.connections().len(), book.targets()[0].open), (0, 0));
        assert_eq!(book.targets()[0].connections, 1);
    }

    #[test]
    fn refusals_are_counted_by_reason() {
        let book = book(1, 1);
        for _ in 0..3 {
            book.refuse(Refusal::NotTls, peer(1), "it is not TLS");
        }
        book.refuse(Refusal::Silent, peer(1), "it says nothing");
        assert_eq!(book.refused(), BTreeMap::from([("not-tls".into(), 3), ("silent".into(), 1)]));
        assert_eq!(book.lock().refusals[&Refusal::NotTls].untold, 2);
    }
}
