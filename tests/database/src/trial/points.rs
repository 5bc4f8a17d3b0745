//! Recovery points, and what is known of them from outside.

use super::Trial;
use crate::Bounds;
use anyhow::{Context, Result, bail, ensure};
use control_api::time::{self, SECOND, Time};
use control_api::{Answer, Point};

/// How far the newest recovery point before a moment may lie before it, while the replica is level: much more than it
/// takes to close a batch on a machine that is busy with other tests.
const GAP: Time = 20 * SECOND;

/// A recovery point that can be asked for.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    /// As `mtctl` takes it.
    pub(super) selector: String,
    /// Its file systems were frozen.
    pub(super) at_rest: bool,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Set between these two moments.
    Bookmark(Time, Time),
    /// The newest point that is not after this moment.
    Moment(Time),
    /// The first point after a sync, by its number.
    AfterSync,
}

impl Remembered {
    /// What is demanded of it when it is this point.
    pub(super) fn bounds(&self, point: &Point) -> Result<Bounds> {
        let at = point.source_time;
        match self.kind {
            Kind::Bookmark(before, after) => {
                ensure!(
                    (before..=after).contains(&at),
                    "{} says it is of {}",
                    self.selector,
                    time::format(at)
                );
            }
            Kind::Moment(moment) => {
                ensure!(at <= moment, "{} gave a later point, of {}", self.selector, time::format(at));
                ensure!(moment - at < GAP, "{} gave a point of {}", self.selector, time::format(at));
            }
            Kind::AfterSync => {}
        }
        Ok(Bounds::at(at))
    }
}

impl Trial {
    /// Sets a bookmark under load.
    pub(super) fn bookmark(&mut self, at_rest: bool) -> Result<()> {
        let name = format!("bookmark-{}", self.points.len());
        let words = ["bookmark", &name, "--app-consistent"];
        self.bookmark_by(&words[..if at_rest { 3 } else { 2 }], &name, at_rest)?;
        self.site.drain()
    }

    /// Runs a command of the source agent that sets a bookmark of this name.
    pub(super) fn bookmark_by(&mut self, words: &[&str], name: &str, at_rest: bool) -> Result<()> {
        let before = self.ledger.clock().now();
        self.site.source.command(words)?;
        let kind = Kind::Bookmark(before, self.ledger.clock().now());
        self.points.push(Remembered { selector: name.to_owned(), at_rest, kind });
        Ok(())
    }

    /// The first point after one of this number, where a sync has ended under load.
    pub(super) fn point_after_sync(&self, number: u64) -> Result<Remembered> {
        let later = self.listed(&[])?.into_iter().filter(|point| point.number > number);
        let first = later.min_by_key(|point| point.number).context("there is no point after the sync")?;
        Ok(Remembered { selector: first.number.to_string(), at_rest: false, kind: Kind::AfterSync })
    }

    /// Remembers this moment, at which the replica is level.
    pub(super) fn moment(&mut self) -> Result<()> {
        let selector = time::format(self.ledger.clock().now());
        let moment = time::parse(&selector).context("a time is read as it was written")?;
        self.points.push(Remembered { selector, at_rest: false, kind: Kind::Moment(moment) });
        Ok(())
    }

    /// One of those that were remembered, of this kind.
    pub(super) fn some_point(&mut self, at_rest: bool) -> Result<Remembered> {
        let is_moment = |point: &&Remembered| matches!(point.kind, Kind::Moment(_));
        let fitting: Vec<&Remembered> = self
            .points
            .iter()
            .filter(|point| if at_rest { point.at_rest } else { is_moment(point) })
            .collect();
        ensure!(!fitting.is_empty(), "no point was remembered");
        let chosen = self.random.below(fitting.len() as u64) as usize;
        Ok(fitting[chosen].clone())
    }

    /// The newest one whose file systems were at rest, as `latest-app-consistent`.
    pub(super) fn latest_at_rest(&self) -> Result<Remembered> {
        let newest = self.points.iter().rfind(|point| point.at_rest).context("no point at rest")?;
        Ok(Remembered { selector: "latest-app-consistent".into(), ..newest.clone() })
    }

    /// The newest recovery points, with these further words to `mtctl points`.
    pub(super) fn listed(&self, words: &[&str]) -> Result<Vec<Point>> {
        let words = [&["points", "web01", "--json", "--limit", "1000"], words].concat();
        match serde_json::from_str(&self.site.target.mtctl(&words)?)? {
            Answer::Points(points) => Ok(points),
            other => bail!("mtctl says {other:?}"),
        }
    }

    /// The point that a failover to a remembered one goes to.
    pub(super) fn point_of(&self, remembered: &Remembered) -> Result<Point> {
        let mut listed = match remembered.kind {
            Kind::Moment(_) => self.listed(&["--to", &remembered.selector])?,
            Kind::Bookmark(..) => self.listed(&["--bookmarks"])?,
            Kind::AfterSync => self.listed(&[])?,
        }
        .into_iter();
        let found = match (remembered.kind, remembered.selector.as_str()) {
            (Kind::Moment(_), _) => listed.next(),
            (Kind::Bookmark(..), "latest-app-consistent") => {
                listed.find(|point| point.bookmark.as_ref().is_some_and(|mark| mark.application_consistent))
            }
            (Kind::Bookmark(..), name) => {
                listed.find(|point| point.bookmark.as_ref().is_some_and(|mark| mark.name == name))
            }
            (Kind::AfterSync, number) => listed.find(|point| point.number.to_string() == number),
        };
        found.with_context(|| format!("{} is no recovery point", remembered.selector))
    }
}
