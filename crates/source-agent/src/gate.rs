//! The one gate that every change of an item's disks goes through, so that they can be brought to rest together.
//!
//! Apart from a quiesce, which holds and refuses changes as long as it takes, changes can be had to pause for a moment.
//! A pause has an end that does not hang on whoever wanted it: writers that wait lift it themselves when its time is over.
//! Nobody else can lift it unnoticed, so as long as it lasts, nothing was changed since it began.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lets changes through, has them wait, or refuses them, on all disks of an item alike.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    mode: Mode,
    /// Changes that are being made.
    inside: usize,
    pause: Option<Paused>,
    /// Pauses so far.
    pauses: u64,
}

/// Changes pause.
#[derive(Clone, Copy, Debug)]
struct Paused {
    number: u64,
    /// Until then, or until it is dropped.
    end: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Open,
    Held,
    Refusing,
}

/// A change that is being made, until it is dropped.
#[derive(Debug)]
pub(crate) struct Inside<'a>(&'a Gate);

/// A moment without changes, until it is dropped or its time is over.
#[derive(Debug)]
#[must_use = "changes go on as soon as it is dropped"]
pub(crate) struct Pause<'a> {
    gate: &'a Gate,
    number: u64,
}

impl Gate {
    /// Waits while changes are held; `None` when they are refused.
    pub(crate) fn enter(&self) -> Option<Inside<'_>> {
        let mut state = self.state();
        loop {
            let end = match (state.mode, state.pause) {
                (Mode::Refusing, _) => return None,
                (Mode::Open, None) => break,
                (Mode::Open, Some(pause)) => pause.end,
                (Mode::Held, _) => None,
            };
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                // Whoever wanted the pause finds that it is over.
                state.pause = None;
                self.changed.notify_all();
                break;
            }
            state = self.wait(state, left);
        }
        state.inside += 1;
        Some(Inside(self))
    }

    /// From now on changes pause, for `longest` unless the pause is [kept](Pause::keep). `None` when those that are being
    /// made do not end within that time, or when changes are held, refused or paused already.
    pub(crate) fn pause(&self, longest: Duration) -> Option<Pause<'_>> {
        let mut state = self.state();
        let end = Instant::now() + longest;
        if state.mode != Mode::Open || state.pause.is_some_and(|pause| !pause.is_over()) {
            return None;
        }
        state.pauses += 1;
        let number = state.pauses;
        state.pause = Some(Paused { number, end: Some(end) });
        drop(state);
        let pause = Pause { gate: self, number };
        let mut state = self.state();
        while state.inside > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || state.lasting(number).is_none() {
                drop(state);
                return None;
            }
            state = self.wait(state, Some(left));
        }
        drop(state);
        Some(pause)
    }

    /// From now on changes wait. True when none is being made any more; false when that did not come within `longest`.
    pub fn hold(&self, longest: Duration) -> bool {
        let begun = Instant::now();
        let mut state = self.state();
        state.mode = Mode::Held;
        while state.inside > 0 {
            let left = longest.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return false;
            }
            state = self.wait(state, Some(left));
        }
        true
    }

    /// Changes are refused from now on, those that wait too.
    pub fn refuse(&self) {
        self.set(Mode::Refusing);
    }

    /// Lets changes through.
    pub fn open(&self) {
        self.set(Mode::Open);
    }

    fn set(&self, mode: Mode) {
        self.state().mode = mode;
        self.changed.notify_all();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, longest: Option<Duration>) -> MutexGuard<'a, State> {
        match longest {
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(longest) => {
                self.changed.wait_timeout(state, longest).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The pause of this number, while it lasts.
    fn lasting(&mut self, number: u64) -> Option<&mut Paused> {
        self.pause.as_mut().filter(|pause| pause.number == number && !pause.is_over())
    }
}

impl Paused {
    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }
}

impl Pause<'_> {
    /// From now on it lasts until it is dropped, for what is done quickly now. False when its time is over: then changes may
    /// have been made.
    pub(crate) fn keep(&self) -> bool {
        let mut state = self.gate.state();
        state.lasting(self.number).map(|pause| pause.end = None).is_some()
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        if state.pause.is_some_and(|pause| pause.number == self.number) {
            state.pause = None;
            self.gate.changed.notify_all();
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.state().inside -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const MOMENT: Duration = Duration::from_millis(50);

    #[test]
    fn changes_wait_and_then_go_on_or_are_refused() {
        let gate = Gate::default();
        for refuse in [false, true] {
            gate.open();
            let first = gate.enter().unwrap();
            assert!(!gate.hold(MOMENT), "one is being made");
            drop(first);
            assert!(gate.hold(MOMENT));
            let (done, entered) = mpsc::channel();
            std::thread::scope(|scope| {
                let (gate, done) = (&gate, done.clone());
                scope.spawn(move || done.send(gate.enter().is_some()).unwrap());
                assert!(entered.recv_timeout(MOMENT).is_err(), "it is held");
                if refuse {
                    gate.refuse()
                } else {
                    gate.open()
                }
                assert_eq!(entered.recv().unwrap(), !refuse);
            });
        }
        assert!(gate.enter().is_none());
        assert!(gate.hold(MOMENT), "none is inside");
    }

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn changes_pause_until_it_is_dropped_and_pass_once_its_time_is_over() {
        let gate = Gate::default();
        let first = gate.enter().unwrap();
        assert!(gate.pause(MOMENT).is_none(), "one is being made");
        drop(first);
        assert!(gate.enter().is_some(), "the pause that came to nothing is over");
        let (done, entered) = mpsc::channel();
        std::thread::scope(|scope| {
            let gate = &gate;
            let pause = gate.pause(LONG).unwrap();
            assert!(gate.pause(LONG).is_none(), "one at a time");
            let one = done.clone();
            scope.spawn(move || one.send(gate.enter().is_some()).unwrap());
            assert!(entered.recv_timeout(MOMENT).is_err(), "it pauses");
            assert!(pause.keep());
            drop(pause);
            assert!(entered.recv().unwrap());
            // Nobody lifts it, and still it ends; whoever wanted it is told.
            let begun = Instant::now();
            let pause = gate.pause(MOMENT).unwrap();
            scope.spawn(move || done.send(gate.enter().is_some()).unwrap());
            assert!(entered.recv().unwrap() && begun.elapsed() >= MOMENT);
            assert!(!pause.keep());
            // The next one is not ended by what is left of it.
            let next = gate.pause(LONG).unwrap();
            drop(pause);
            assert!(next.keep());
        });
        let pause = gate.pause(MOMENT).unwrap();
        std::thread::sleep(2 * MOMENT);
        assert!(!pause.keep(), "its time is over though nobody waited");
    }

    #[test]
    fn a_quiesce_that_is_given_up_does_not_end_a_pause() {
        let gate = Gate::default();
        let pause = gate.pause(LONG).unwrap();
        gate.open();
        let (done, entered) = mpsc::channel();
        std::thread::scope(|scope| {
            let gate = &gate;
            scope.spawn(move || done.send(gate.enter().is_some()).unwrap());
            assert!(entered.recv_timeout(MOMENT).is_err(), "it pauses");
            assert!(pause.keep());
            gate.refuse();
            assert!(!entered.recv().unwrap(), "what is refused need not wait");
        });
        drop(pause);
        assert!(gate.pause(LONG).is_none(), "there is nothing to pause");
    }
}
