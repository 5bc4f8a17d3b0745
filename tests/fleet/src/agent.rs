//! One simulated host: it sends heartbeats, and asks for jobs and runs them.
//!
//! It speaks as real hosts do, over three ways of its own: heartbeats, the question for jobs that the server holds until
//! there are some, and reports. Each goes on for as long as the fleet lives; after a failure it waits as a real host
//! waits. Each job is run once, by the [`Ledger`]; its last report is repeated until the server has confirmed it.

use crate::body::Body;
use crate::hosts::Registered;
use crate::lane::Lane;
use crate::ledger::Ledger;
use crate::measure::Stopwatch;
use crate::now;
use anyhow::Result;
use control_api::agent::{
    HEARTBEAT_PATH, Heartbeat, HeartbeatReply, JOBS_PATH, JobOrder, JobReport, JobState, JobStep, JobsReply,
    JobsRequest, REPORT_PATH, ReportReply, ReportRequest, StepState,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use testkit::Rng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// Time for an answer that need not be waited for at the server.
const PATIENCE: Duration = Duration::from_secs(20);
/// Seconds that the server may hold the question for jobs.
const WAIT: u64 = 30;
/// The least time between two questions for jobs that were answered with nothing.
const BREATH: Duration = Duration::from_millis(200);

/// How the agents of a fleet behave.
#[derive(Clone, Debug)]
pub struct Habits {
    /// Replicated items of each.
    pub items: u32,
    /// Time between heartbeats; `None` for what the server asks.
    pub interval: Option<Duration>,
    /// The first item of each has an alert in about every second heartbeat, and none in the others.
    pub restless: bool,
    /// The longest that a job takes.
    pub work: Duration,
    /// Waiting after failures is shortened so many times.
    pub haste: u32,
}

impl Default for Habits {
    fn default() -> Habits {
        Habits { items: 10, interval: None, restless: false, work: Duration::from_millis(300), haste: 1 }
    }
}

/// What all agents of a fleet did.
#[derive(Default)]
pub struct Deeds {
    /// Heartbeats that were answered.
    pub heartbeats: AtomicU64,
    /// Heartbeats, questions and reports that failed.
    pub failures: AtomicU64,
    /// Alerts that were raised by a heartbeat that was answered.
    pub raised: AtomicU64,
    /// The same for alerts that were over.
    pub cleared: AtomicU64,
    /// Set when alerts are to change no more.
    pub quiet: AtomicBool,
    /// Times of heartbeats and reports.
    pub watch: Stopwatch,
    /// What the jobs became.
    pub ledger: Ledger,
    connected: Mutex<Vec<Instant>>,
    beaten: Mutex<HashMap<u32, Instant>>,
    complaint: Mutex<String>,
}

impl Deeds {
    /// Moments at which the connections that were opened since the last call were meant to be: a machine that is too busy
    /// to open them in time does not count.
    pub fn take_connected(&self) -> Vec<Instant> {
        std::mem::take(&mut *self.connected.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hosts that had a heartbeat answered since then.
    pub fn heard_since(&self, moment: Instant) -> usize {
        let beaten = self.beaten.lock().unwrap_or_else(PoisonError::into_inner);
        beaten.values().filter(|last| **last >= moment).count()
    }

    /// The last failure, in words.
    pub fn complaint(&self) -> String {
        self.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn connected(&self, meant: Instant) {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner).push(meant);
    }

    fn beaten(&self, host: u32, begun: Instant) {
        self.watch.note("heartbeat", begun.elapsed());
        self.heartbeats.fetch_add(1, Ordering::Relaxed);
        self.beaten.lock().unwrap_or_else(PoisonError::into_inner).insert(host, Instant::now());
    }

    pub(crate) fn failed(&self, error: &anyhow::Error) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = format!("{error:#}");
    }
}

/// The agents; they end when this is dropped.
pub struct Fleet {
    /// What they did.
    pub deeds: Arc<Deeds>,
    agents: JoinSet<()>,
}

impl Fleet {
    /// Agents of these hosts, whose first heartbeats are spread over `spread`.
    pub fn start(hosts: &[Registered], habits: &Habits, spread: Duration, rng: &mut Rng) -> Fleet {
        let mut fleet = Fleet { deeds: Arc::default(), agents: JoinSet::new() };
        hosts.iter().for_each(|host| fleet.add(host, habits, spread, rng));
        fleet
    }

    /// One agent more.
    pub fn add(&mut self, host: &Registered, habits: &Habits, spread: Duration, rng: &mut Rng) {
        let body = Body::new(&host.host, habits.items, rng.fork());
        let begin = Instant::now() + spread.mul_f64(rng.below(1000) as f64 / 1000.0);
        let (reports, unreported) = mpsc::unbounded_channel();
        let agent = Agent { host: host.clone(), habits: habits.clone(), deeds: self.deeds.clone(), reports };
        let mut lane = || Lane::new(&host.way, &self.deeds, habits.haste, rng.fork());
        self.agents.spawn(beat(agent.clone(), lane(), body, begin));
        self.agents.spawn(report_all(agent.clone(), lane(), unreported));
        self.agents.spawn(work(agent, lane(), begin));
    }
}

#[derive(Clone)]
struct Agent {
    host: Registered,
    habits: Habits,
    deeds: Arc<Deeds>,
    reports: mpsc::UnboundedSender<JobReport>,
}

/// Heartbeats, one after the other.
async fn beat(agent: Agent, mut lane: Lane, mut body: Body, begin: Instant) {
    let (mut next, mut alert, mut again) = (begin, false, None);
    body.set_alert(false);
    loop {
        sleep_until(next).await;
        // What was told in a heartbeat that was not answered is told again.
        let wanted = again.take().unwrap_or_else(|| {
            match agent.habits.restless && !agent.deeds.quiet.load(Ordering::Relaxed) {
                true => lane.rng.one_in(2),
                false => alert,
            }
        });
        body.set_alert(wanted);
        let begun = Instant::now();
        match tell(&mut lane, &body.heartbeat()).await {
            Ok(reply) => {
                agent.deeds.beaten(agent.host.number, begun);
                agent.count(alert, wanted);
                alert = wanted;
                lane.well();
                if reply.want_points {
                    body.tell_points();
                }
                let asked = Duration::from_secs(reply.interval_seconds.clamp(1, 3600));
                next = (next + agent.habits.interval.unwrap_or(asked)).max(begun);
            }
            Err(error) => {
                again = Some(wanted);
                body.tell_points();
                next = Instant::now() + lane.trouble(&error.context("heartbeat"));
            }
        }
    }
}

async fn tell(lane: &mut Lane, heartbeat: &Heartbeat) -> Result<HeartbeatReply> {
    lane.post(HEARTBEAT_PATH, serde_json::to_vec(heartbeat)?, PATIENCE).await?.json()
}

/// Asks for jobs again and again, and begins those that are new.
async fn work(agent: Agent, mut lane: Lane, begin: Instant) {
    sleep_until(begin).await;
    let mut running = JoinSet::new();
    loop {
        let begun = Instant::now();
        while running.try_join_next().is_some() {}
        match ask(&agent, &mut lane).await {
            Ok(reply) => {
                lane.well();
                for order in reply.orders {
                    match agent.deeds.ledger.take(&agent.host.id, &order.id, begun) {
                        // The report that tells of it is on its way, or is sent once more.
                        Some(known) => known.into_iter().for_each(|report| agent.report(report)),
                        None => drop(running.spawn(run(agent.clone(), order, lane.rng.fork()))),
                    }
                }
                sleep_until(begun + BREATH).await;
            }
            Err(error) => sleep(lane.trouble(&error.context("question for jobs"))).await,
        }
    }
}

async fn ask(agent: &Agent, lane: &mut Lane) -> Result<JobsReply> {
    let running = agent.deeds.ledger.running(&agent.host.id);
    let request = JobsRequest { host: agent.host.host.clone(), running, wait_seconds: WAIT };
    let patience = Duration::from_secs(WAIT) + PATIENCE;
    lane.post(JOBS_PATH, serde_json::to_vec(&request)?, patience).await?.json()
}

/// Does a job: it takes a while, and is reported twice.
async fn run(agent: Agent, order: JobOrder, mut rng: Rng) {
    let started = now();
    let report = |state, step, ended| JobReport {
        id: order.id.clone(),
        state,
        started,
        ended,
        steps: vec![JobStep {
            name: order.job.title(),
            state: step,
            detail: None,
            started: Some(started),
            ended,
        }],
        progress: None,
        seconds_left: None,
        can_cancel: false,
        outcome: ended.map(|_| "done".into()),
        failure: None,
    };
    agent.report(report(JobState::Running, StepState::Running, None));
    sleep(agent.habits.work.mul_f64(rng.below(1000) as f64 / 1000.0)).await;
    let ended = report(JobState::Succeeded, StepState::Done, Some(now()));
    agent.deeds.ledger.ended(&ended);
    agent.report(ended);
}

/// Sends one report after the other, each until it is confirmed.
async fn report_all(agent: Agent, mut lane: Lane, mut reports: mpsc::UnboundedReceiver<JobReport>) {
    while let Some(report) = reports.recv().await {
        while let Err(error) = send(&agent, &mut lane, &report).await {
            sleep(lane.trouble(&error.context("report"))).await;
        }
        lane.well();
        if report.state.has_ended() {
            agent.deeds.ledger.confirmed(&report.id);
        }
    }
}

async fn send(agent: &Agent, lane: &mut Lane, report: &JobReport) -> Result<ReportReply> {
    let begun = Instant::now();
    let request = ReportRequest { host: agent.host.host.clone(), report: report.clone() };
    let reply = lane.post(REPORT_PATH, serde_json::to_vec(&request)?, PATIENCE).await?.json()?;
    agent.deeds.watch.note("report", begun.elapsed());
    Ok(reply)
}

impl Agent {
    fn report(&self, report: JobReport) {
        // It is received for as long as the fleet lives.
        let _ = self.reports.send(report);
    }

    fn count(&self, before: bool, after: bool) {
        match (before, after) {
            (false, true) => drop(self.deeds.raised.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.deeds.cleared.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
    }
}
