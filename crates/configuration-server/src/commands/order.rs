//! What the commands that change or order something have in common.
//!
//! They carry out the same [actions](crate::server::actions) as the portal, on the store itself, so they work while the
//! server runs and while it does not: an order that nobody carries out yet is carried out when it is started. A running
//! server hears of them by what they write into the audit.

mod progress;

use super::plain::plain;
use super::{agreed, store};
use crate::config::Config;
use crate::server::actions::words::Words;
use crate::server::actions::{Changed, Signature, carry_out};
use crate::server::now;
use crate::state;
use crate::store::audit;
use crate::store::jobs::{self, Job};
use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use control_api::agent::JobState;
use control_api::time::Time;
use nix::unistd::{User, getuid};
use progress::Teller;
use rusqlite::{Connection, Transaction};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often it is looked how a job goes.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The longest that a master target is waited for to tell what has become of its items.
const TOLD_LIMIT: Duration = Duration::from_secs(60);

/// Whether the end of what is ordered is waited for, and how it is told.
#[derive(Clone, Copy, Debug, Args)]
pub struct Waiting {
    /// Do not wait for the end.
    #[arg(long)]
    pub no_wait: bool,
    /// Print the job as JSON for programs, and nothing else.
    #[arg(long)]
    pub json: bool,
}

/// Somebody who types orders.
pub(super) struct Clerk {
    pub(super) store: Connection,
    folder: PathBuf,
    name: String,
}

impl Clerk {
    pub(super) fn new(config: &Config) -> Result<Clerk> {
        Ok(Clerk { store: store(config)?, folder: config.state_folder.clone(), name: typist() })
    }

    /// Changes the store, and writes down who did it, both or neither. `work` gets his name and the time.
    pub(super) fn change<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>, &str, Time) -> Changed<T>,
    ) -> Result<T> {
        let (now, user) = (now(), &*self.name);
        let by = Signature { now, address: audit::CONSOLE, user };
        let changed = carry_out(&mut self.store, &by, |store| work(store, user, now))?;
        let (made, _) = changed.map_err(|refused| anyhow!("{refused}"))?;
        Ok(made)
    }

    /// Orders a job, and waits for its end if that is wanted. A job that did not succeed is an error.
    pub(super) fn order(
        &mut self,
        waiting: Waiting,
        work: impl FnOnce(&Transaction<'_>, &str, Time) -> Changed<Job>,
    ) -> Result<()> {
        self.order_until(waiting, |_| Ok(true), work)
    }

    /// The same; the end is waited for until master targets have told what has become of their items, so that the next
    /// command finds them as they are.
    pub(super) fn order_until(
        &mut self,
        waiting: Waiting,
        is_told: impl Fn(&Connection) -> rusqlite::Result<bool>,
        work: impl FnOnce(&Transaction<'_>, &str, Time) -> Changed<Job>,
    ) -> Result<()> {
        let job = self.change(work)?;
        if !waiting.json {
            println!("job {}: {}", job.id, job.job.title());
        }
        let is_served = state::is_served(&self.folder);
        if !is_served {
            eprintln!(
                "the configuration server does not run: the job is carried out when it is started: systemctl start \
                 master-target-configserver"
            );
        }
        let job = if is_served && !waiting.no_wait { self.follow(&job.id, waiting.json)? } else { job };
        let begun = Instant::now();
        while job.state == JobState::Succeeded && !is_told(&self.store)? {
            if begun.elapsed() >= TOLD_LIMIT {
                eprintln!(
                    "it is done, but {} has not told so for {} s; look at the item before the next order: mt-configserver items",
                    job.host_name,
                    TOLD_LIMIT.as_secs()
                );
                break;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        if waiting.json {
            println!("{}", json!(job));
        }
        match job.state.has_ended() {
            true => told(&job, waiting.json),
            false => Ok(()),
        }
    }

    /// Waits until a job has ended, and tells meanwhile how it goes.
    fn follow(&self, id: &str, quiet: bool) -> Result<Job> {
        let mut teller = Teller::new(quiet);
        let mut served = true;
        loop {
            let job = jobs::by_uuid(&self.store, id)?
                .map(plain)
                .with_context(|| format!("job {id}: it was forgotten meanwhile; look at the item"))?;
            teller.tell(&job);
            if job.state.has_ended() {
                return Ok(job);
            }
            let now = state::is_served(&self.folder);
            if served && !now {
                teller.say("the configuration server was stopped; the job goes on when it is started");
            }
            served = now;
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Says how a job has ended.
fn told(job: &Job, quiet: bool) -> Result<()> {
    let title = job.job.title();
    let report = job.report.as_ref();
    match (job.state, report.and_then(|report| report.failure.as_ref())) {
        (JobState::Succeeded, _) if quiet => Ok(()),
        (JobState::Succeeded, _) => {
            let outcome = report.and_then(|report| report.outcome.as_deref());
            println!("{title}: {}", outcome.unwrap_or("done"));
            Ok(())
        }
        (_, Some(failure)) => bail!("{title}: {failure}"),
        (JobState::Cancelled, None) => {
            bail!("{title}: {} cancelled it", job.cancelled_by.as_deref().unwrap_or(&job.host_name))
        }
        (_, None) => bail!("{title}: it failed; look into the log of {}", job.host_name),
    }
}

/// Asks before something is ordered, in the words of the portal.
pub(super) fn ensure_agreed(object: &str, question: &str, words: Words, yes: bool) -> Result<()> {
    if !yes {
        eprintln!("{}\n{}", words.consequence, words.then);
    }
    ensure!(yes || agreed(question)?, "{object}: nothing was done");
    Ok(())
}

/// Who types: the user, or the one who became root for this command.
fn typist() -> String {
    let id = getuid();
    let before = std::env::var("SUDO_USER").ok().filter(|_| id.is_root());
    let before = before.filter(|name| (1..=64).contains(&name.len()) && !name.contains(char::is_control));
    let known = || User::from_uid(id).ok().flatten().map(|user| user.name);
    before.or_else(known).unwrap_or_else(|| format!("user {id}"))
}
