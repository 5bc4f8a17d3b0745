//! The life of an item: opened, running, closed by an error, opened again.

use super::open::{self, Found, Lies, Manner, Problem};
use super::record::Committed;
use super::running::{Ended, Running, run_blocking};
use super::status::{Again, Closed, Condition, Snapshot};
use super::{Input, Order, Ordered, Surroundings};
use crate::alerts::Alerts;
use crate::clock::nanos;
use crate::config;
use crate::retention::Allowance;
use change_stream::{Frame, RefusalCode};
use control_api::{AlertKind, Failure, StartReport};
use disk::Class;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::Instrument;

/// An item that was closed because something went away is tried again after this long, doubled each time…
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// …up to this.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// How often a running item tells how it stands, at most.
const PUBLISH_EVERY: Duration = Duration::from_millis(200);

/// The task of one item.
pub(super) struct Actor {
    config: Arc<config::Item>,
    newer: watch::Receiver<Arc<config::Item>>,
    surroundings: Surroundings,
    inputs: mpsc::Receiver<Input>,
    orders: mpsc::Receiver<Ordered>,
    allowance: watch::Receiver<Allowance>,
    publish: watch::Sender<Snapshot>,
    alerts: Alerts,
    start: Option<StartReport>,
    retries: u32,
}

/// The actor's ends of its channels.
pub(super) struct Ends {
    pub(super) newer: watch::Receiver<Arc<config::Item>>,
    pub(super) inputs: mpsc::Receiver<Input>,
    pub(super) orders: mpsc::Receiver<Ordered>,
    pub(super) allowance: watch::Receiver<Allowance>,
    pub(super) publish: watch::Sender<Snapshot>,
}

/// What comes next in an item's life.
enum Next {
    Open(Manner),
    Wait(Closed),
    Committed(Committed),
    Stop,
}

impl Actor {
    pub(super) fn new(surroundings: Surroundings, ends: Ends) -> Actor {
        let Ends { newer, inputs, orders, allowance, publish } = ends;
        let config = newer.borrow().clone();
        let (alerts, start) = (Alerts::default(), None);
        Actor { config, newer, surroundings, inputs, orders, allowance, publish, alerts, start, retries: 0 }
    }

    /// Runs until the item is shut down. `blank` disks were made just now.
    pub(super) async fn run(mut self, blank: bool) {
        let span = tracing::info_span!("item", item = %self.config.name);
        async move {
            let mut next = Next::Open(Manner { blank, ..Manner::default() });
            loop {
                next = match next {
                    Next::Open(manner) => match self.open(manner).await {
                        Ok(next) => next,
                        Err(problem) => {
                            let problem = self.explain(problem).await;
                            self.closed_by(problem)
                        }
                    },
                    Next::Wait(closed) => self.wait(closed).await,
                    Next::Committed(committed) => self.rest(committed).await,
                    Next::Stop => break,
                };
            }
            self.publish(Condition::Stopped);
        }
        .instrument(span)
        .await
    }

    async fn open(&mut self, manner: Manner) -> Result<Next, Problem> {
        let now = self.surroundings.clock.now();
        self.publish(Condition::Starting { since: now });
        self.config = self.newer.borrow_and_update().clone();
        let (place, config) = (self.surroundings.place.clone(), self.config.clone());
        let volume = self.surroundings.volume.now();
        let opened = match run_blocking(move || open::open(&place, &config, manner, &volume, now)).await? {
            Found::Committed(committed) => return Ok(Next::Committed(committed)),
            Found::Opened(opened) => opened,
        };
        tracing::info!("opened: {}", opened.report.summary);
        self.start = Some(opened.report.clone());
        let allowance = *self.allowance.borrow_and_update();
        let mut running = Running::new(self.config.clone(), self.surroundings.clone(), *opened, allowance)?;
        self.retries = 0;
        self.alerts.clear(AlertKind::Fenced);
        if manner.start_over {
            // The volume that is there is the right one from now on: the keeper has to know before it is asked.
            self.surroundings.volume.look().await;
            // Refused only by a failover under way, and then there is nothing to be started over.
            let _ = running.order(Order::Resync, &mut self.alerts);
        }
        let ended = self.replicate(&mut running).await;
        self.publish.send_modify(|snapshot| snapshot.storage = None);
        if let Ended::Fenced(problem @ Problem { lies: Lies::Volume, .. }) = &ended {
            // Jobs may wait for the disk of the volume as long as it is away.
            let Problem { class, why, .. } = problem.clone();
            self.say_closed(&Closed { why, class, again: Again::WithVolume });
        }
        let closed = running.close(&ended).await;
        match ended {
            Ended::Fenced(problem) => Err(problem),
            Ended::Stopped => {
                if let Err(problem) = closed {
                    tracing::error!("not closed cleanly: {problem}");
                }
                Ok(Next::Stop)
            }
            Ended::Committed { point } => {
                closed?;
                let committed = Committed { point, time: self.surroundings.clock.now() };
                let (place, config) = (self.surroundings.place.clone(), self.config.clone());
                run_blocking(move || open::commit(&place, &config, committed)).await?;
                Ok(Next::Committed(committed))
            }
        }
    }

    /// Until something ends it. Orders come first, then the ends of jobs, which make room for input; input comes
    /// last, since a source can send it without a pause.
    async fn replicate(&mut self, running: &mut Running) -> Ended {
        let mut published: Option<Instant> = None;
        let mut volume = self.surroundings.volume.clone();
        loop {
            let wake = running.wake().unwrap_or_else(|| Instant::now() + Duration::from_secs(1));
            let mut at_once = published.is_none();
            tokio::select! {
                biased;
                Some(Ordered { order, accepted }) = self.orders.recv() => {
                    let _ = accepted.send(running.order(order, &mut self.alerts));
                    at_once = true;
                }
                state = volume.becomes_unusable() => running.fence(Problem::of_volume(&state)),
                Ok(()) = self.allowance.changed() => {
                    let allowance = *self.allowance.borrow_and_update();
                    running.allow(allowance, &mut self.alerts);
                }
                Ok(()) = self.newer.changed() => {
                    self.config = self.newer.borrow_and_update().clone();
                    running.configure(self.config.clone(), &mut self.alerts);
                    at_once = true;
                }
                done = running.job_end() => running.job_done(done, &mut self.alerts),
                () = sleep_until(wake) => running.tick(&mut self.alerts),
                Some(input) = self.inputs.recv() => running.input(input, &mut self.alerts),
            }
            running.take_waiting(&mut self.alerts);
            at_once |= running.stage_changed();
            if at_once || published.is_none_or(|at| at.elapsed() >= PUBLISH_EVERY) || running.ended.is_some()
            {
                self.publish.send_replace(running.snapshot(&mut self.alerts));
                published = Some(Instant::now());
            }
            if let Some(ended) = running.ended.take() {
                return ended;
            }
        }
    }

    /// An error of the journal looks the same whether a medium is broken or the volume is gone: the keeper knows.
    async fn explain(&self, problem: Problem) -> Problem {
        if problem.lies != Lies::Journal || problem.class != Class::Operator {
            return problem;
        }
        match self.surroundings.volume.found_unusable().await {
            Some(state) => {
                let cause = Problem::of_volume(&state);
                Problem { why: format!("{cause}; {problem}"), ..cause }
            }
            None => problem,
        }
    }

    /// What follows an error: opened again by itself when something went away, else by an order.
    fn closed_by(&mut self, problem: Problem) -> Next {
        let now = self.surroundings.clock.now();
        let again = match (problem.class, problem.lies) {
            (Class::Retry, Lies::Volume) => Again::WithVolume,
            (Class::Retry, _) => {
                let delay = FIRST_RETRY.saturating_mul(1 << self.retries.min(16)).min(LONGEST_RETRY);
                self.retries += 1;
                Again::At(now.saturating_add(nanos(delay)))
            }
            _ => Again::ByOrder,
        };
        let closed = Closed { why: problem.why, class: problem.class, again };
        tracing::error!("fenced: {}; {}", closed.why, closed.next(&self.config.name));
        Next::Wait(closed)
    }

    async fn wait(&mut self, mut closed: Closed) -> Next {
        // The first change is how the volume stands now.
        let mut volume = self.surroundings.volume.clone();
        let retry = match closed.again {
            Again::At(time) => Some(self.surroundings.clock.instant(time)),
            Again::WithVolume | Again::ByOrder => None,
        };
        self.say_closed(&closed);
        loop {
            tokio::select! {
                biased;
                Some(ordered) = self.orders.recv() => {
                    if let Some(next) = order_while_closed(&self.config.name, ordered, &closed) {
                        return next;
                    }
                }
                () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {
                    return Next::Open(Manner::default());
                }
                state = volume.changes(), if closed.again == Again::WithVolume => {
                    if state.is_usable() {
                        return Next::Open(Manner::default());
                    }
                    closed.why = state.why();
                    self.say_closed(&closed);
                }
                Some(input) = self.inputs.recv() => {
                    let why = format!("item {} has stopped: {}", self.config.name, closed.why);
                    refuse(input, RefusalCode::Fenced, why);
                }
            }
        }
    }

    fn say_closed(&mut self, closed: &Closed) {
        let message = format!("it has stopped: {}; {}", closed.why, closed.next(&self.config.name));
        self.alerts.raise(AlertKind::Fenced, self.surroundings.clock.now(), message);
        self.publish(Condition::Closed(closed.clone()));
    }

    /// Committed: nothing is open until someone wants to replicate again.
    async fn rest(&mut self, committed: Committed) -> Next {
        self.alerts = Alerts::default();
        self.publish(Condition::Committed { point: committed.point, time: committed.time });
        let name = self.config.name.clone();
        loop {
            tokio::select! {
                Some(Ordered { order, accepted }) = self.orders.recv() => match order {
                    Order::ShutDown => {
                        let _ = accepted.send(Ok(()));
                        return Next::Stop;
                    }
                    Order::Resync => {
                        let _ = accepted.send(Ok(()));
                        return Next::Open(Manner { start_over: true, ..Manner::default() });
                    }
                    _ => {
                        let next = format!("mtctl resync {name} starts to replicate onto its disks again");
                        let why = "its failover was committed";
                        let _ = accepted.send(Err(Failure::new(&name, "cannot do this", why, next)));
                    }
                },
                Some(input) = self.inputs.recv() => {
                    let why = format!(
                        "item {name} was failed over and committed; mtctl resync {name} on the master target \
                         starts to replicate it again"
                    );
                    refuse(input, RefusalCode::FailedOver, why);
                }
            }
        }
    }

    fn publish(&self, condition: Condition) {
        self.publish.send_replace(Snapshot {
            condition,
            storage: None,
            start: self.start.clone(),
            alerts: self.alerts.list(),
            bytes_per_second: 0,
            seconds_left: None,
        });
    }
}

fn order_while_closed(name: &str, ordered: Ordered, closed: &Closed) -> Option<Next> {
    let (answer, next) = match ordered.order {
        Order::Resume => (Ok(()), Some(Next::Open(Manner::default()))),
        Order::Resync => (Ok(()), Some(Next::Open(Manner { start_over: true, ..Manner::default() }))),
        Order::ShutDown => (Ok(()), Some(Next::Stop)),
        Order::Failover(_) | Order::CancelFailover | Order::Commit => {
            let failure =
                Failure::new(name, "cannot do this: the item has stopped", &closed.why, closed.next(name));
            (Err(failure), None)
        }
    };
    let _ = ordered.accepted.send(answer);
    next
}

/// Turns a source away; what else comes from it goes with its connection.
fn refuse(input: Input, code: RefusalCode, message: String) {
    if let Input::Connected { link, .. } = input {
        // A new connection's queue has room, and its writer empties it before it closes.
        let _ = link.frames.try_send(Frame::Refused { code, message });
    }
}
