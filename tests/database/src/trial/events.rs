//! What happens while the machine is protected.

use super::Trial;
use anyhow::{Context, Result};
use chaos::{LONGEST, Random};
use rig::{ConfigurationServer, wait_for};
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A crash-consistent bookmark.
    Bookmark,
    /// An application-consistent one: the file systems are frozen meanwhile.
    BookmarkAtRest,
    /// A moment is remembered.
    Moment,
    /// Connections are closed.
    Cut,
    /// Nothing passes any more, and nobody is told; then connections are closed.
    Lose,
    /// The source's end of connections is closed.
    HalfOpen,
    /// `mtd` is killed.
    KillTarget,
    /// `mtd` is stopped in order, and started.
    RestartTarget,
    /// `mt-source` is killed, and the machine's disks with it.
    KillSource,
    /// `mt-configserver` is killed.
    KillServer,
}

/// Each kind at least once.
const STORY: [Event; 15] = [
    Event::Bookmark,
    Event::BookmarkAtRest,
    Event::Moment,
    Event::Cut,
    Event::Lose,
    Event::HalfOpen,
    Event::KillTarget,
    Event::KillTarget,
    Event::RestartTarget,
    Event::KillSource,
    Event::KillServer,
    Event::Bookmark,
    Event::BookmarkAtRest,
    Event::Moment,
    Event::Moment,
];
const PAUSE: Duration = Duration::from_millis(600);
/// What each piece of a stream is held back for while a sync goes over a slow network.
pub(super) const SLOW: Duration = Duration::from_millis(5);

fn shuffled(random: &mut Random) -> Vec<Event> {
    let mut events = STORY.to_vec();
    for last in (1..events.len()).rev() {
        events.swap(last, random.below(last as u64 + 1) as usize);
    }
    events
}

impl Trial {
    /// All events, in some order; after each one replication goes on by itself, and so does the database.
    pub(super) fn faults_and_points(&mut self) -> Result<()> {
        for event in shuffled(&mut self.random) {
            std::thread::sleep(self.random.time(PAUSE));
            self.site.wait_until_level().with_context(|| format!("before {event:?}"))?;
            self.event(event).with_context(|| format!("{event:?}"))?;
            self.note(&format!("{event:?}"));
            self.ensure_work_goes_on().with_context(|| format!("after {event:?}"))?;
        }
        self.site.wait_until_level()
    }

    fn event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Bookmark => self.bookmark(false),
            Event::BookmarkAtRest => self.bookmark(true),
            Event::Moment => self.moment(),
            Event::Cut | Event::Lose | Event::HalfOpen => self.cut(event),
            Event::KillTarget => self.site.kill_target(),
            Event::RestartTarget => self.site.restart_target(),
            Event::KillSource => self.kill_source(),
            Event::KillServer => {
                self.server.process().kill()?;
                let port = self.server.port();
                self.server = ConfigurationServer::start_at(&self.site.plan.rig, port, "")?;
                Ok(())
            }
        }
    }

    /// The agent finds out, while the machine comes up again, what the target may lack.
    fn kill_source(&mut self) -> Result<()> {
        self.site.source.process().kill()?;
        self.power_off();
        let newest = self.listed(&[])?.first().context("there is no point")?.number;
        self.proxy.delay(SLOW);
        self.site.kill_source()?;
        self.power_on()?;
        self.end_of_sync(newest)
    }

    /// A sync ends, over a slow network; the first point after it is remembered.
    pub(super) fn end_of_sync(&mut self, newest: u64) -> Result<()> {
        self.site.wait_until_level()?;
        self.proxy.delay(Duration::ZERO);
        let first = self.point_after_sync(newest)?;
        self.after_syncs.push(first);
        Ok(())
    }

    fn cut(&mut self, event: Event) -> Result<()> {
        let (met, durable) = (self.proxy.connections(), self.site.source.durable_sequence()?);
        match event {
            Event::HalfOpen => self.proxy.half_open(),
            Event::Lose => {
                self.proxy.lose();
                std::thread::sleep(self.random.time(PAUSE));
                self.proxy.cut();
            }
            _ => self.proxy.cut(),
        }
        wait_for("the source to be back", LONGEST, || {
            let back = self.proxy.connections() > met && self.site.source.durable_sequence()? > durable;
            Ok(back.then_some(()))
        })
    }
}
