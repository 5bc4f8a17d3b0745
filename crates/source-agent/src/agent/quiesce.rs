//! The thread that brings the disks to rest for a planned failover.
//!
//! First it waits, while writes go on, until the master target is level. Then the pre hook runs, changes are held until none
//! is being made, everything is flushed, and that is written down ([`Quiescence`]); a bookmark is set, and from then on
//! changes are refused. The master target gets what it lacks; when it has the bookmark and all before it durably, the post
//! hook runs, and the disks are quiesced. A bookmark that comes to the target during a comparison marks no recovery point,
//! so it is set again when both are level; so does a start that goes on with it: what either marks is the same.
//!
//! Whatever fails, takes too long without progress, or is cancelled before the last record, lets writes through again.

use super::control::Control;
use super::hooks;
use super::quiescence::Quiescence;
use crate::Standing;
use anyhow::{Context, Result};
use change_stream::{BookmarkKind, StreamId};
use disk::{Bytes, Class, Disk};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::MutexGuard;

/// How long it may take without any progress.
const WITHOUT_PROGRESS: Duration = Duration::from_secs(15 * 60);
/// How long changes that are being made may take to end.
const HELD_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Begins it; what becomes of it is told by `control.rest`.
pub(crate) fn begin(control: &Arc<Control>, runtime: &Handle, bookmark: &str) -> Result<()> {
    // One that was given up may still be thawing.
    control.rest.wait();
    control.rest.begin(bookmark)?;
    spawn(control, runtime, bookmark, None)
}

/// Goes on with what the agent was at when it ended. Whoever had ordered it may order it again once this has returned.
pub(crate) async fn carry_on(control: &Arc<Control>) -> Result<()> {
    let Some(found) = control.rest.state() else { return Ok(()) };
    let bookmark = found.bookmark().to_owned();
    let hooks = &control.config.hooks;
    match found {
        Quiescence::Beginning { .. } => {
            hooks::thaw(hooks).await;
            control.rest.release()
        }
        Quiescence::Draining { application_consistent, .. } => {
            tracing::info!("the disks are being brought to rest: writes are refused");
            spawn(control, &Handle::current(), &bookmark, Some(application_consistent))
        }
        Quiescence::Quiesced { .. } => {
            tracing::info!(
                "the disks are at rest, with bookmark {bookmark}: writes are refused until mt-source unquiesce"
            );
            Ok(())
        }
        Quiescence::GivenUp { why, cancelled, thawed: false, .. } => {
            hooks::thaw(hooks).await;
            control.rest.give_up(&bookmark, &why, cancelled, true)
        }
        Quiescence::GivenUp { .. } => Ok(()),
    }
}

fn spawn(control: &Arc<Control>, runtime: &Handle, bookmark: &str, at_rest: Option<bool>) -> Result<()> {
    let (kept, bookmark) = (control.clone(), bookmark.to_owned());
    let (control, runtime) = (control.clone(), runtime.clone());
    let thread = std::thread::Builder::new().name("quiesce".into()).spawn(move || {
        Quiesce { control, runtime, bookmark, frozen: Cell::new(false) }.run(at_rest);
    });
    kept.rest.works(thread.context("cannot start a thread")?);
    Ok(())
}

/// How it ends that does not end well.
enum Gone {
    /// The agent stops; the next start sees to it.
    Stopping,
    Cancelled,
    Failed(String),
}

struct Quiesce {
    control: Arc<Control>,
    runtime: Handle,
    bookmark: String,
    /// The pre hook has run, or may have.
    frozen: Cell<bool>,
}

impl Quiesce {
    /// From the beginning, or with disks that are at rest already, applications too or not.
    fn run(&self, at_rest: Option<bool>) {
        let mut alone = None;
        let ended = self.work(at_rest, &mut alone);
        match ended {
            Ok(()) => tracing::info!(
                "the disks are at rest, and the master target has everything: writes are refused"
            ),
            Err(Gone::Stopping) => self.stopped(),
            Err(Gone::Cancelled) => self.give_up("it was cancelled", true),
            Err(Gone::Failed(why)) => self.give_up(&why, false),
        }
    }

    fn work<'a>(&'a self, at_rest: Option<bool>, alone: &mut Option<MutexGuard<'a, ()>>) -> Result<(), Gone> {
        if at_rest.is_none() {
            self.wait_until_level()?;
        }
        // Hooks of a bookmark must not mix with these.
        *alone = Some(self.alone()?);
        let application_consistent = match at_rest {
            Some(consistent) => {
                self.frozen.set(consistent);
                consistent
            }
            None => self.bring_to_rest()?,
        };
        self.drain(application_consistent)
    }

    fn wait_until_level(&self) -> Result<(), Gone> {
        let mut patience = Patience::new(Instant::now());
        loop {
            let standing = self.control.tracker.standing();
            if standing.is_level() {
                return Ok(());
            }
            self.look(&standing, &mut patience)?;
        }
    }

    fn alone(&self) -> Result<MutexGuard<'_, ()>, Gone> {
        loop {
            if let Ok(guard) = self.control.bookmarks.try_lock() {
                return Ok(guard);
            }
            self.wished()?;
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Nothing is written any more; whether applications are at rest too.
    fn bring_to_rest(&self) -> Result<bool, Gone> {
        let control = &self.control;
        let hooks = &control.config.hooks;
        let application_consistent = !hooks.pre.is_empty();
        self.frozen.set(application_consistent);
        let before = self.runtime.block_on(hooks::before(hooks, control.stop.clone()));
        self.wished()?;
        before.map_err(failed)?;
        if !control.rest.gate().hold(HELD_WITHIN) {
            let why = format!("writes that were under way have not ended within {} s", HELD_WITHIN.as_secs());
            return Err(Gone::Failed(why));
        }
        for disk in &control.splitters {
            disk.sync().map_err(failed)?;
        }
        control.tracker.rest().map_err(failed)?;
        control.rest.drain(&self.bookmark, application_consistent).map_err(failed)?;
        Ok(application_consistent)
    }

    fn drain(&self, application_consistent: bool) -> Result<(), Gone> {
        let tracker = &self.control.tracker;
        let (mut patience, mut set) = (Patience::new(Instant::now()), None);
        loop {
            let standing = tracker.standing();
            let passed_over = set.is_some_and(|set: Set| tracker.is_passed_over(set.sequence));
            match next(&standing, set, passed_over) {
                Next::Done => break,
                Next::Wait => {}
                Next::Forget => set = None,
                Next::Set => set = self.set(standing.stream, application_consistent)?,
            }
            self.control.rest.gate().refuse();
            self.look(&standing, &mut patience)?;
        }
        if application_consistent {
            self.thaw();
        }
        tracker.rest().map_err(failed)?;
        self.wished()?;
        let now = self.control.clock.now();
        self.control.rest.rest(&self.bookmark, now).map_err(failed)
    }

    fn set(&self, stream: StreamId, application_consistent: bool) -> Result<Option<Set>, Gone> {
        let kind = match application_consistent {
            true => BookmarkKind::ApplicationConsistent,
            false => BookmarkKind::CrashConsistent,
        };
        let tracker = &self.control.tracker;
        match tracker.bookmark(self.control.clock.now(), kind, &self.bookmark, None) {
            // Of which stream its number is must be certain.
            Ok(sequence) => Ok((tracker.standing().stream == stream).then_some(Set { stream, sequence })),
            Err(error) if error.class() == Class::Retry => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Waits a little; not for ever, and not longer than is wished.
    fn look(&self, standing: &Standing, patience: &mut Patience) -> Result<(), Gone> {
        self.wished()?;
        if !patience.is_left(Instant::now(), standing) {
            return Err(Gone::Failed(format!(
                "the master target has got nothing for {} min, and lacks {}",
                WITHOUT_PROGRESS.as_secs() / 60,
                Bytes(lacking(standing))
            )));
        }
        std::thread::sleep(LOOK_EVERY);
        Ok(())
    }

    fn wished(&self) -> Result<(), Gone> {
        match (*self.control.stop.borrow(), self.control.rest.is_cancelled()) {
            (true, _) => Err(Gone::Stopping),
            (_, true) => Err(Gone::Cancelled),
            _ => Ok(()),
        }
    }

    fn thaw(&self) {
        if let Err(error) = self.runtime.block_on(hooks::after(&self.control.config.hooks)) {
            tracing::warn!("applications may still be at rest: {error:#}");
        }
    }

    fn stopped(&self) {
        let rest = &self.control.rest;
        if matches!(rest.state(), Some(Quiescence::Beginning { .. })) {
            if let Err(error) = rest.release() {
                tracing::warn!("the next start has to give up the quiesce: {error:#}");
                rest.gate().open();
            }
            if self.frozen.get() {
                self.thaw();
            }
        } else {
            // The next start goes on with it, as the disks are now.
            rest.gate().refuse();
        }
    }

    fn give_up(&self, why: &str, cancelled: bool) {
        tracing::warn!("the disks are not brought to rest, and writes go on: {why}");
        let (rest, frozen) = (&self.control.rest, self.frozen.get());
        let written = self.until_written(|| rest.give_up(&self.bookmark, why, cancelled, !frozen));
        if !written {
            // The agent stops; whoever waits is told, and the next start sees to the rest.
            rest.gate().refuse();
        }
        if frozen {
            self.thaw();
            if written {
                self.until_written(|| rest.give_up(&self.bookmark, why, cancelled, true));
            }
        }
    }

    /// The gate is not opened before that is on the disk: the next start would take the disks for unchanged.
    fn until_written(&self, write: impl Fn() -> Result<()>) -> bool {
        while let Err(error) = write() {
            tracing::error!("it is tried again: {error:#}");
            if *self.control.stop.borrow() {
                return false;
            }
            std::thread::sleep(TRY_AGAIN_AFTER);
        }
        true
    }
}

fn failed(error: impl Into<anyhow::Error>) -> Gone {
    Gone::Failed(format!("{:#}", error.into()))
}

/// Bytes that the target may lack.
pub(crate) fn lacking(standing: &Standing) -> u64 {
    standing.backlog.saturating_add(standing.dirty)
}

/// A bookmark that was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Set {
    stream: StreamId,
    sequence: u64,
}

/// What a drain does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Wait,
    /// The bookmark marks nothing: another is needed.
    Forget,
    Set,
    Done,
}

fn next(standing: &Standing, set: Option<Set>, passed_over: bool) -> Next {
    match set {
        Some(set) if set.stream != standing.stream || !standing.logging || passed_over => Next::Forget,
        Some(set) if standing.acknowledged >= set.sequence && standing.is_level() => Next::Done,
        None if standing.is_level() => Next::Set,
        _ => Next::Wait,
    }
}

/// Ends some time after the last progress.
struct Patience {
    since: Instant,
    acknowledged: u64,
    dirty: u64,
}

impl Patience {
    fn new(now: Instant) -> Patience {
        Patience { since: now, acknowledged: 0, dirty: u64::MAX }
    }

    fn is_left(&mut self, now: Instant, standing: &Standing) -> bool {
        if standing.acknowledged > self.acknowledged || standing.dirty < self.dirty {
            self.since = now;
            self.acknowledged = self.acknowledged.max(standing.acknowledged);
            self.dirty = self.dirty.min(standing.dirty);
        }
        now.saturating_duration_since(self.since) < WITHOUT_PROGRESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use change_stream::SyncMode;

    const STREAM: StreamId = StreamId([1; 16]);

    fn level(acknowledged: u64) -> Standing {
        Standing {
            stream: STREAM,
            logging: true,
            oldest_held: 1,
            next_sequence: 11,
            acknowledged,
            epoch: 0,
            dirty: 0,
            backlog: 0,
            settled: 0,
            overflows: 0,
            pending: None,
        }
    }

    #[test]
    fn it_is_done_only_with_a_bookmark_that_marks_something_at_the_target() {
        let set = Some(Set { stream: STREAM, sequence: 10 });
        let syncing = Standing { pending: Some(SyncMode::Resync), dirty: 65536, ..level(10) };
        let marking = Standing { logging: false, ..level(10) };
        let elsewhere = Standing { stream: StreamId([2; 16]), ..level(10) };
        for (standing, set, passed_over, expected) in [
            (level(9), None, false, Next::Set),
            (syncing, None, false, Next::Wait),
            (marking, None, false, Next::Wait),
            (level(9), set, false, Next::Wait),
            (level(10), set, false, Next::Done),
            (level(10), set, true, Next::Forget),
            (syncing, set, false, Next::Wait),
            (marking, set, false, Next::Forget),
            (elsewhere, set, false, Next::Forget),
        ] {
            assert_eq!(next(&standing, set, passed_over), expected, "{standing:?} {set:?} {passed_over}");
        }
    }

    #[test]
    fn patience_lasts_as_long_as_there_is_progress() {
        let begun = Instant::now();
        let mut patience = Patience::new(begun);
        let after = |minutes: u64| begun + Duration::from_secs(minutes * 60);
        let dirty = |dirty, acknowledged| Standing { dirty, ..level(acknowledged) };
        assert!(patience.is_left(after(1), &dirty(100, 1)));
        assert!(patience.is_left(after(15), &dirty(100, 1)));
        assert!(patience.is_left(after(15), &dirty(50, 1)));
        assert!(patience.is_left(after(29), &dirty(60, 1)));
        assert!(patience.is_left(after(29), &dirty(60, 2)));
        assert!(patience.is_left(after(43), &dirty(60, 1)));
        assert!(!patience.is_left(after(44), &dirty(60, 2)), "more to do, and less done, are no progress");
    }
}
