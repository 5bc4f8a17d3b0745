//! Both programs are killed at random moments, under load.

use anyhow::{Context, Result, bail, ensure};
use chaos::{Load, Plan, Random, Site};
use control_api::Answer;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const SIZE: u64 = 64 << 20;
const KILLS: u32 = 100;
const RATE: u64 = 24;
/// A bookmark is tried for after so many kills.
const BOOKMARK_EVERY: u32 = 8;

/// A bookmark, and the disk as it was there.
struct Remembered {
    name: String,
    image: PathBuf,
    /// It was durable at the target before anything was killed again.
    durable: bool,
}

struct Trial {
    site: Site,
    random: Random,
    load: Option<Load>,
    remembered: Vec<Remembered>,
}

/// Invariants 1, 2 and 3: what was acknowledged survives, all stands at one boundary, recovery points stay exact.
#[test]
fn invariants_1_2_3_nothing_is_lost_by_a_hundred_kills_under_load() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let random = Random::from_environment()?;
    let site = Plan::new(folder.path(), SIZE)?.start()?;
    Trial { site, random, load: None, remembered: Vec::new() }.run()
}

impl Trial {
    fn run(mut self) -> Result<()> {
        let (mut targets, begun) = (0, Instant::now());
        for kill in 1..=KILLS {
            targets += u32::from(self.kill().with_context(|| format!("kill {kill}"))?);
            if kill % BOOKMARK_EVERY == 0 {
                self.bookmark(&format!("after-{kill}")).with_context(|| format!("after kill {kill}"))?;
            }
        }
        println!("mtd killed {targets} times, mt-source {}, in {:?}", KILLS - targets, begun.elapsed());
        self.pause()?;
        self.site.drain()?;
        let changes = self.site.source.newest_sequence()?;
        println!("{changes} changes were written meanwhile");
        ensure!(changes > u64::from(KILLS) * 10, "there was no load worth the name");
        self.compare_points()?;
        self.site.finish()
    }

    /// Lets both work for a random time, then kills one of them; true when it was the target.
    fn kill(&mut self) -> Result<bool> {
        let (moment, target) = (self.random.time(Duration::from_millis(900)), self.random.below(2) == 0);
        self.keep_load()?;
        std::thread::sleep(moment);
        if target {
            self.site.kill_target()?;
        } else {
            self.site.kill_source()?;
            // Its disk went away under it.
            self.load = None;
        }
        self.site.ensure_not_fenced()?;
        Ok(target)
    }

    fn keep_load(&mut self) -> Result<()> {
        if self.load.is_none() {
            self.load = Some(self.site.load(RATE, self.random.number())?);
        }
        Ok(())
    }

    /// Stops the load; when this returns no write is under way.
    fn pause(&mut self) -> Result<()> {
        self.load.take().map_or(Ok(()), Load::stop)
    }

    /// Sets a bookmark once the item follows its source: one that is set during a sync marks no recovery point.
    fn bookmark(&mut self, name: &str) -> Result<()> {
        self.site.wait_until_level()?;
        self.pause()?;
        let image = self.site.bookmark(name)?;
        let durable = self.random.below(2) == 0;
        if durable {
            self.site.drain()?;
        }
        self.remembered.push(Remembered { name: name.to_owned(), image, durable });
        Ok(())
    }

    /// Those that were durable are points; those that are points are exact.
    fn compare_points(&self) -> Result<()> {
        let listed =
            self.site.target.mtctl(&["points", "web01", "--bookmarks", "--limit", "1000", "--json"])?;
        let Answer::Points(points) = serde_json::from_str(&listed)? else {
            bail!("mtctl points says {listed}")
        };
        let mut compared = 0;
        for remembered in &self.remembered {
            let name = &remembered.name;
            if points.iter().any(|point| point.bookmark.as_ref().is_some_and(|mark| mark.name == *name)) {
                self.site.compare_point(name, &remembered.image)?;
                compared += 1;
            } else {
                ensure!(!remembered.durable, "recovery point {name} was durable and is gone");
            }
        }
        println!("{compared} of {} bookmarks are recovery points, all exact", self.remembered.len());
        ensure!(compared > 0, "no bookmark became a recovery point");
        Ok(())
    }
}
