//! `mt-configserver jobs`, `job` and `cancel-job`: what was ordered, and what becomes of it.

use super::order::Clerk;
use super::plain::plain;
use super::{store, table};
use crate::config::Config;
use crate::server::actions::jobs as actions;
use crate::server::{now, progress_text, took_text};
use crate::store::jobs::{self, Job, Query};
use anyhow::{Context, Result};
use clap::Subcommand;
use control_api::agent::{JobReport, JobStep, StepState};
use control_api::time;
use rusqlite::Connection;
use serde_json::json;

/// What to do about jobs.
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// What was ordered, the newest first
    Jobs {
        /// Only those that wait or run.
        #[arg(long)]
        open: bool,
        /// At most so many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Print JSON for programs.
        #[arg(long)]
        json: bool,
    },
    /// One job with its steps
    Job {
        /// Its id, as `jobs` shows it.
        id: String,
        /// Print JSON for programs.
        #[arg(long)]
        json: bool,
    },
    /// Give up a job where that is safe; what it has done is undone
    CancelJob {
        /// Its id, as `jobs` shows it.
        id: String,
    },
}

pub(super) fn run(config: &Config, command: &JobsCommand) -> Result<()> {
    match command {
        JobsCommand::Jobs { open, limit, json } => list(&store(config)?, *open, *limit, *json),
        JobsCommand::Job { id, json } => show(&store(config)?, id, *json),
        JobsCommand::CancelJob { id } => cancel(&mut Clerk::new(config)?, id),
    }
}

fn list(store: &Connection, open: bool, limit: u32, json: bool) -> Result<()> {
    let query = Query { open: open.then_some(true), limit, whole: true, ..Query::default() };
    let jobs = jobs::list(store, &query)?;
    if json {
        println!("{}", json!({ "jobs": jobs }));
        return Ok(());
    }
    let now = now();
    let mut table = table(&["ID", "JOB", "STATE", "HOST", "ORDERED", "BY", "TOOK"]);
    for job in &jobs {
        let ordered = format!("{} ago", time::format_duration(now.saturating_sub(job.ordered)));
        let took = took(job).unwrap_or_default();
        let (title, state) = (job.job.title(), job.state.to_string());
        table.add_row([&job.id, &title, &state, &job.host_name, &ordered, &job.ordered_by, &took]);
    }
    println!("{table}");
    Ok(())
}

fn took(job: &Job) -> Option<String> {
    let report = job.report.as_ref()?;
    Some(took_text(report.ended?.saturating_sub(report.started)))
}

fn show(store: &Connection, id: &str, json: bool) -> Result<()> {
    let job = jobs::by_uuid(store, id)?.map(plain).with_context(|| {
        format!("job {id}: there is none of this id; mt-configserver jobs shows the newest")
    })?;
    if json {
        println!("{}", json!(job));
        return Ok(());
    }
    println!("{}: {}", job.job.title(), job.state);
    println!("ordered by {} at {}, of {}", job.ordered_by, time::format(job.ordered), job.host_name);
    if let Some(who) = &job.cancelled_by {
        println!("cancelled by {who}");
    }
    let Some(report) = &job.report else {
        println!("{} has not taken it yet", job.host_name);
        return Ok(());
    };
    show_steps(report);
    if let Some(took) = took(&job) {
        println!("took {took}");
    }
    if let Some(outcome) = &report.outcome {
        println!("{outcome}");
    }
    if let Some(failure) = &report.failure {
        println!("{failure}");
    }
    Ok(())
}

fn show_steps(report: &JobReport) {
    let mut table = table(&["STEP", "STATE", "TOOK", "DETAIL"]);
    for step in &report.steps {
        let took = step.started.zip(step.ended).map(|(from, to)| took_text(to.saturating_sub(from)));
        let (took, detail) = (took.unwrap_or_default(), step.detail.clone().unwrap_or_default());
        table.add_row([&step.name, said(step), &took, &detail]);
    }
    if !report.steps.is_empty() {
        println!("{table}");
    }
    if let Some(progress) = report.progress {
        let text = progress_text(progress.done, progress.total, None, report.seconds_left);
        println!("{}: {text}", progress.work);
    }
}

fn said(step: &JobStep) -> &'static str {
    match step.state {
        StepState::Waiting => "waiting",
        StepState::Running => "running",
        StepState::Done => "done",
        StepState::Failed => "failed",
        _ => "unknown",
    }
}

fn cancel(clerk: &mut Clerk, id: &str) -> Result<()> {
    let job = clerk.change(|store, by, now| actions::cancel(store, id, by, now))?;
    match job.state.has_ended() {
        true => println!("job {}: {}", job.id, job.state),
        false => {
            println!("job {}: it is asked to stop; mt-configserver job {} tells how it ends", job.id, job.id)
        }
    }
    Ok(())
}
