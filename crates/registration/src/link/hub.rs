//! What the threads of a link and its embedder know of each other.

use super::session::Session;
use crate::error::Error;
use crate::register::now;
use control_api::time::Time;
use control_api::{ErrorCode, LinkStatus};
use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Which thread has trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    Heartbeats,
    Jobs,
    Reports,
}

/// Kinds of trouble that are worth a line each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Network,
    Refused(ErrorCode),
    Own,
}

/// The embedder's end of a link: how the conversation goes, and a way to say that something changed. It can be made
/// before the link, and cloned.
#[derive(Clone, Default)]
pub struct Hub {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stopping: bool,
    session: Option<Arc<Session>>,
    standing: Standing,
    troubles: BTreeMap<Lane, Kind>,
    /// Something changed that should be told soon.
    hurry: bool,
    /// How often a request got through.
    reached: u64,
    /// How often there was something new to report.
    reports: u64,
    wires: Vec<Weak<Wire>>,
    threads: usize,
}

#[derive(Default)]
struct Standing {
    connected_since: Option<Time>,
    last_heartbeat: Option<Time>,
    problem: Option<(Time, String)>,
    clock_ahead_seconds: i64,
}

/// The socket of a connection, by which another thread can end it.
#[derive(Default)]
pub(super) struct Wire {
    socket: Mutex<Option<TcpStream>>,
}

impl Wire {
    pub(super) fn set(&self, socket: Option<TcpStream>) {
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = socket;
    }

    fn cut(&self) {
        if let Some(socket) = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It may be gone already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// A thread that runs.
pub(super) struct Alive(Hub);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.change(|state| state.threads -= 1);
    }
}

/// Why a thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// The link stops.
    Stopping,
    /// This machine is registered otherwise than before.
    Session,
    /// What was waited for came.
    Called,
    /// The time is over.
    Time,
}

impl Hub {
    /// Of a link that is yet to be started.
    pub fn new() -> Hub {
        Hub::default()
    }

    /// Has a heartbeat sent soon: something changed that people wait for.
    pub fn hurry(&self) {
        self.change(|state| state.hurry = true);
    }

    /// How the conversation goes; `None` while this machine is not registered.
    pub fn status(&self) -> Option<LinkStatus> {
        let state = self.lock();
        let session = state.session.as_ref()?;
        let Standing { connected_since, last_heartbeat, problem, clock_ahead_seconds } = &state.standing;
        Some(LinkStatus {
            server: session.server(),
            name: session.registration.name.clone(),
            connected_since: *connected_since,
            last_heartbeat: *last_heartbeat,
            problem: problem.as_ref().map(|(_, what)| what.clone()),
            problem_since: problem.as_ref().map(|(since, _)| *since),
            clock_ahead_seconds: *clock_ahead_seconds,
        })
    }

    /// SHA-256 of the authority of the configuration server that this machine is registered with.
    pub fn authority(&self) -> Option<control_api::registration::Hex> {
        Some(self.lock().session.as_ref()?.registration.authority.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let outcome = change(&mut self.lock());
        self.inner.changed.notify_all();
        outcome
    }

    /// Waits until `ready` says so, or until `end`.
    fn wait<T>(&self, end: Option<Instant>, mut ready: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(outcome) = ready(&mut state) {
                return Some(outcome);
            }
            let changed = &self.inner.changed;
            state = match end {
                None => changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    pub(super) fn thread_begins(&self) -> Alive {
        self.lock().threads += 1;
        Alive(self.clone())
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Has all threads end, and waits for them.
    pub(super) fn stop(&self, longest: Duration) {
        self.change(|state| {
            state.stopping = true;
            cut(&state.wires);
        });
        self.wait(Some(Instant::now() + longest), |state| (state.threads == 0).then_some(()));
    }

    /// Whether nothing is to be done for a session any more.
    pub(super) fn is_over(&self, session: &Arc<Session>) -> bool {
        self.lock().over(session).is_some()
    }

    /// False when the link stops before the time is over.
    pub(super) fn sleep(&self, time: Duration) -> bool {
        self.wait(Some(Instant::now() + time), |state| state.stopping.then_some(())).is_none()
    }

    pub(super) fn wire(&self) -> Arc<Wire> {
        let wire = Arc::new(Wire::default());
        let mut state = self.lock();
        state.wires.retain(|wire| wire.strong_count() > 0);
        state.wires.push(Arc::downgrade(&wire));
        wire
    }

    /// This machine is registered so from now on. Connections by the old identity end.
    pub(super) fn set_session(&self, session: Option<Session>) {
        let session = session.map(Arc::new);
        self.change(|state| {
            let same = match (&state.session, &session) {
                (Some(old), Some(new)) => old.is(new),
                (None, None) => true,
                _ => false,
            };
            if same {
                return;
            }
            let same_server = match (&state.session, &session) {
                (Some(old), Some(new)) => old.same_server(new),
                _ => false,
            };
            if !same_server {
                state.standing = Standing::default();
                match &session {
                    Some(session) => tracing::info!(
                        server = session.server(),
                        name = session.registration.name,
                        "this machine is registered; the configuration server is told how it is"
                    ),
                    None => tracing::info!("this machine is not registered any more"),
                }
            }
            state.troubles.clear();
            state.session = session;
            cut(&state.wires);
        });
    }

    /// Waits until this machine is registered; `None` when the link stops.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.wait(None, |state| match state.stopping {
            true => Some(None),
            false => state.session.clone().map(Some),
        })
        .flatten()
    }

    /// Who this machine is registered as now, if it is.
    pub(super) fn session_now(&self) -> Option<Arc<Session>> {
        self.lock().session.clone()
    }

    /// Between two heartbeats: until `end`, or, not before `soonest`, when somebody is in a hurry.
    pub(super) fn until_heartbeat(&self, session: &Arc<Session>, soonest: Instant, end: Instant) -> Woken {
        let hurried = |state: &mut State| state.over(session).or(state.hurry.then_some(Woken::Called));
        let woken = self.wait(Some(end), hurried).unwrap_or(Woken::Time);
        if woken == Woken::Called {
            let stopped = self.wait(Some(soonest.min(end)), |state| state.over(session));
            return stopped.unwrap_or(Woken::Called);
        }
        woken
    }

    /// What was in a hurry is told now.
    pub(super) fn hurry_taken(&self) {
        self.lock().hurry = false;
    }

    /// After a failure: until the time is over, or another thread got through.
    pub(super) fn until_retry(&self, session: &Arc<Session>, time: Duration) -> Woken {
        let before = self.lock().reached;
        let got_through =
            |state: &mut State| state.over(session).or((state.reached != before).then_some(Woken::Called));
        self.wait(Some(Instant::now() + time), got_through).unwrap_or(Woken::Time)
    }

    /// There is something new to report.
    pub(super) fn report(&self) {
        self.change(|state| state.reports += 1);
    }

    pub(super) fn reports(&self) -> u64 {
        self.lock().reports
    }

    /// Until there is something new to report since `seen`.
    pub(super) fn until_report(&self, session: &Arc<Session>, seen: u64) -> Woken {
        let new =
            |state: &mut State| state.over(session).or((state.reports != seen).then_some(Woken::Called));
        self.wait(None, new).unwrap_or(Woken::Time)
    }

    /// A heartbeat was answered.
    pub(super) fn beaten(&self, clock_ahead_seconds: i64) {
        self.change(|state| {
            let (now, standing) = (now(), &mut state.standing);
            standing.last_heartbeat = Some(now);
            standing.connected_since.get_or_insert(now);
            standing.problem = None;
            standing.clock_ahead_seconds = clock_ahead_seconds;
        });
    }

    /// A request of this thread got through.
    pub(super) fn well(&self, lane: Lane) {
        self.change(|state| {
            state.reached += 1;
            if state.troubles.remove(&lane).is_some() && state.troubles.is_empty() {
                tracing::info!("the conversation with the configuration server goes on");
            }
        });
    }

    /// A request of this thread did not.
    pub(super) fn trouble(&self, lane: Lane, session: &Arc<Session>, error: &Error) {
        self.change(|state| {
            // What failed because a connection was cut is no trouble.
            if state.over(session).is_some() {
                return;
            }
            let kind = kind(error);
            let others = state.troubles.values().any(|known| *known == kind);
            let known = state.troubles.insert(lane, kind);
            if known != Some(kind) && !others {
                tracing::warn!(
                    "the conversation with the configuration server is interrupted, and is tried again by itself: {error}"
                );
            } else {
                tracing::debug!(?lane, "{error}");
            }
            if lane == Lane::Heartbeats {
                let standing = &mut state.standing;
                standing.connected_since = None;
                let since = standing.problem.as_ref().map_or_else(now, |(since, _)| *since);
                standing.problem = Some((since, error.to_string()));
            }
        });
    }
}

impl State {
    /// Why nothing is to be done for a session any more.
    fn over(&self, session: &Arc<Session>) -> Option<Woken> {
        if self.stopping {
            return Some(Woken::Stopping);
        }
        match &self.session {
            Some(current) if Arc::ptr_eq(current, session) => None,
            _ => Some(Woken::Session),
        }
    }
}

fn cut(wires: &[Weak<Wire>]) {
    for wire in wires.iter().filter_map(Weak::upgrade) {
        wire.cut();
    }
}

fn kind(error: &Error) -> Kind {
    match error {
        Error::Server { .. } => Kind::Network,
        Error::Refused(refused) => Kind::Refused(refused.code),
        _ => Kind::Own,
    }
}
