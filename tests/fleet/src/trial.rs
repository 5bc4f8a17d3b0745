//! A fleet in front of a server, people who look at it, and how long all of that takes.
//!
//! The machine is measured too: what others than the server and this process take of its processors. While they take
//! little, a figure must hold as it is; otherwise its bound grows by what is left of the machine, and the measurement is
//! made again before it counts as missed.

use crate::agent::{Deeds, Fleet, Habits};
use crate::client::{Way, identity};
use crate::hosts::{self, Registered};
use crate::machine::{Processors, processor_time};
use crate::measure::{Stopwatch, Times};
use crate::people::{Complaints, Page, Person, browse, order};
use crate::server::Server;
use crate::{aged, users};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use testkit::Rng;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

/// Longer than no page and no answer of the API may take.
pub const PAGE_LIMIT: Duration = Duration::from_millis(100);
/// Within this an order is at its agent.
pub const JOB_LIMIT: Duration = Duration::from_secs(1);
/// The most memory that the server may have had, in bytes.
pub const MEMORY_LIMIT: u64 = 300 << 20;
/// While others take no more than this share of the machine, it counts as ours.
const CALM: f64 = 0.1;

/// What is tried.
pub struct Plan {
    /// Master targets.
    pub hosts: u32,
    /// How they behave.
    pub habits: Habits,
    /// Pages and questions to the API in a second.
    pub rate: u32,
    /// Time between two orders of a job.
    pub order_every: Duration,
    /// Pages that are left open.
    pub followers: u32,
    /// How long is measured.
    pub window: Duration,
    /// Decides all that is random.
    pub seed: u64,
}

/// A server with its fleet.
pub struct Trial {
    plan: Plan,
    fleet: Fleet,
    hosts: Vec<Registered>,
    server: Server,
    people: Vec<Arc<Person>>,
    pages: Vec<Page>,
    /// Updates that open pages were told.
    told: Arc<AtomicU64>,
    /// Time that each registration took, and all of them together.
    pub registered: (Times, Duration),
    /// The people's requests; a thread of their own, so that the hosts do not delay them.
    browsers: Runtime,
    // The hosts run on it.
    _agents: Runtime,
    _identities: tempfile::TempDir,
}

/// What was measured.
pub struct Figures {
    /// Times by kind.
    pub times: BTreeMap<String, Times>,
    /// All pages of the portal together.
    pub portal: Times,
    /// All questions to the API together.
    pub api: Times,
    /// Share of the machine that others took.
    pub others: f64,
    /// Processors that the server had, 1 for one all the time.
    pub server_load: f64,
    /// Processors that the simulation had.
    pub our_load: f64,
    /// The most memory that the server has had so far, in bytes.
    pub memory: u64,
    /// Bytes of the store before and after.
    pub store: (u64, u64),
    /// Heartbeats that were answered.
    pub heartbeats: u64,
    /// Updates that open pages were told.
    pub told: u64,
    /// What went wrong.
    pub complaints: Vec<String>,
}

impl Trial {
    /// Starts a server, registers the hosts, makes the store as full as it gets, and waits until all hosts are connected.
    pub fn start(folder: &Path, programs: &Path, plan: Plan) -> Result<Trial> {
        let mut rng = Rng::new(plan.seed);
        let mut server = Server::start(folder, programs)?;
        let (identities, place) = hosts::folder()?;
        let begun = Instant::now();
        let (registered, times) = hosts::register_all(&server, 0..plan.hosts, &place)?;
        let registered_in = (Times::new(times), begun.elapsed());
        let users = users::make(&mut server)?;
        let agents = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let browsers = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        // Everybody has to be seen once, for the store to be filled with what they did earlier.
        let hasty = Habits { interval: Some(Duration::from_secs(3)), ..plan.habits.clone() };
        let first = {
            let _inside = agents.enter();
            Fleet::start(&registered, &hasty, Duration::from_secs(3), &mut rng)
        };
        wait_for_all(&first.deeds, plan.hosts, begun)?;
        drop(first);
        server.process().stop()?;
        aged::fill(&server.state().join("store.sqlite"))?;
        server.again()?;
        let fleet = {
            let _inside = agents.enter();
            let interval = plan.habits.interval.unwrap_or(Duration::from_secs(30));
            Fleet::start(&registered, &plan.habits, interval, &mut rng)
        };
        let folder = place.join("0").join(registration::IDENTITY);
        let tls = identity(&folder, false)?;
        let people = browsers.block_on(async {
            let mut people = Vec::new();
            for (number, (name, password)) in (1..).zip(&users) {
                let from = Ipv4Addr::new(127, 2, 0, number).into();
                let way = Way { to: server.address, from, tls: tls.clone() };
                people.push(Arc::new(Person::log_in(&way, name, password).await?));
            }
            anyhow::Ok(people)
        })?;
        let pages = browsers.block_on(pages(&people[0], &registered))?;
        wait_for_all(&fleet.deeds, plan.hosts, begun)?;
        let told = Arc::new(AtomicU64::new(0));
        for number in 0..plan.followers as usize {
            let (person, told) = (people[number % people.len()].clone(), told.clone());
            browsers.spawn(async move { person.follow(&told).await });
        }
        Ok(Trial {
            plan,
            server,
            hosts: registered,
            fleet,
            people,
            pages,
            told,
            registered: registered_in,
            browsers,
            _agents: agents,
            _identities: identities,
        })
    }

    /// Measures once.
    pub fn measure(&mut self) -> Result<Figures> {
        let deeds = self.fleet.deeds.clone();
        let (watch, complaints) = (Arc::new(Stopwatch::default()), Complaints::default());
        drop(deeds.watch.take());
        let (heartbeats, told) =
            (deeds.heartbeats.load(Ordering::Relaxed), self.told.load(Ordering::Relaxed));
        let failures = deeds.failures.load(Ordering::Relaxed);
        let process = self.server.process().id();
        let used = || anyhow::Ok((processor_time(process)?, processor_time(std::process::id())?));
        let (machine, before, store, begun) =
            (Processors::now()?, used()?, self.server.store_bytes()?, Instant::now());
        let ids: Vec<String> = self.hosts.iter().map(|host| host.id.clone()).collect();
        let Plan { rate, window, order_every, .. } = self.plan;
        self.browsers.block_on(async {
            tokio::join!(
                browse(&self.people, &self.pages, rate, window, &watch, &complaints),
                order(&self.people[0], &ids, order_every, window, &deeds, &watch, &complaints)
            );
        });
        let (after, seconds) = (used()?, begun.elapsed().as_secs_f64());
        let (server, ours) = (after.0 - before.0, after.1 - before.1);
        let mut complaints = complaints.take();
        if deeds.failures.load(Ordering::Relaxed) > failures {
            complaints.push(format!("a host: {}", deeds.complaint()));
        }
        let mut times = watch.take();
        let all = |api: bool| {
            let of_kind = |page: &&Page| page.path.starts_with("/api/") == api;
            let kinds: std::collections::BTreeSet<&str> =
                self.pages.iter().filter(of_kind).map(|page| page.kind).collect();
            Times::all(times.iter().filter(|(kind, _)| kinds.contains(kind.as_str())).map(|(_, times)| times))
        };
        let (portal, api) = (all(false), all(true));
        times.extend(deeds.watch.take());
        Ok(Figures {
            portal,
            api,
            times,
            others: machine.taken_by_others(server + ours)?,
            server_load: server.as_secs_f64() / seconds,
            our_load: ours.as_secs_f64() / seconds,
            memory: self.server.process().peak_memory()?,
            store: (store, self.server.store_bytes()?),
            heartbeats: deeds.heartbeats.load(Ordering::Relaxed) - heartbeats,
            told: self.told.load(Ordering::Relaxed) - told,
            complaints,
        })
    }

    /// The last lines of the server's log.
    pub fn log(&mut self) -> String {
        self.server.process().log_tail()
    }
}

impl Figures {
    /// A time that has to hold on a machine of which others take what they took.
    fn bound(&self, limit: Duration) -> Duration {
        match self.is_calm() {
            true => limit,
            false => limit.div_f64((1.0 - self.others).max(0.05)),
        }
    }

    /// Whether the machine was as good as ours alone.
    pub fn is_calm(&self) -> bool {
        self.others <= CALM
    }

    /// What does not hold.
    pub fn missed(&self) -> Vec<String> {
        let jobs = self.times.get("job at its agent").cloned().unwrap_or_default();
        let late = |what: &str, time: Duration, limit: Duration| {
            (time > self.bound(limit))
                .then(|| format!("{what}: {time:.0?}, more than {:.0?}", self.bound(limit)))
        };
        [
            late("pages of the portal, p99", self.portal.percentile(99.0), PAGE_LIMIT),
            late("API, p99", self.api.percentile(99.0), PAGE_LIMIT),
            late("a job at its agent, longest", jobs.longest(), JOB_LIMIT),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What must hold however busy the machine is.
    pub fn check(&self) -> Result<()> {
        ensure!(self.complaints.is_empty(), "{}", self.complaints.join("\n"));
        ensure!(self.portal.count() > 0 && self.api.count() > 0, "nothing was looked at");
        ensure!(self.times.contains_key("job at its agent"), "no job was ordered");
        ensure!(self.told > 0, "open pages were told nothing");
        ensure!(
            self.memory < MEMORY_LIMIT,
            "mt-configserver has had {} MiB of memory, more than {}",
            self.memory >> 20,
            MEMORY_LIMIT >> 20
        );
        Ok(())
    }
}

/// Waits until each host has had a heartbeat answered.
fn wait_for_all(deeds: &Deeds, hosts: u32, since: Instant) -> Result<()> {
    rig::wait_for("all hosts to be connected", Duration::from_secs(120), || {
        Ok((deeds.heard_since(since) == hosts as usize).then_some(()))
    })
    .with_context(|| format!("the last failure: {}", deeds.complaint()))
}

/// What is looked at: every page of the portal, and every list of the API.
async fn pages(person: &Person, hosts: &[Registered]) -> Result<Vec<Page>> {
    let items: serde_json::Value = person.get("/api/v1/items?limit=1").await?.json()?;
    let item = items["entries"][0]["id"].as_i64().context("there is no item")?;
    let host = &hosts[hosts.len() / 2].id;
    let everybody = [
        ("/", "/".to_owned()),
        ("/infrastructure", "/infrastructure".into()),
        ("/infrastructure/{host}", format!("/infrastructure/{host}")),
        ("/items", "/items".into()),
        ("/items/{id}", format!("/items/{item}")),
        ("/jobs", "/jobs".into()),
        ("/policies", "/policies".into()),
        ("/events", "/events".into()),
        ("GET overview", "/api/v1/overview".into()),
        ("GET hosts", "/api/v1/hosts".into()),
        ("GET hosts/{id}", format!("/api/v1/hosts/{host}")),
        ("GET disks", "/api/v1/disks".into()),
        ("GET retention-volumes", "/api/v1/retention-volumes".into()),
        ("GET datastores", "/api/v1/datastores".into()),
        ("GET items", "/api/v1/items".into()),
        ("GET items?text", "/api/v1/items?text=web07".into()),
        ("GET items/{id}", format!("/api/v1/items/{item}")),
        ("GET items/{id}/points", format!("/api/v1/items/{item}/points")),
        ("GET items/{id}/rpo", format!("/api/v1/items/{item}/rpo")),
        ("GET jobs", "/api/v1/jobs".into()),
        ("GET policies", "/api/v1/policies".into()),
        ("GET groups", "/api/v1/groups".into()),
        ("GET events", "/api/v1/events".into()),
        ("GET events of a host", format!("/api/v1/events?host={host}")),
        ("GET alerts", "/api/v1/alerts".into()),
    ];
    let administrators =
        [("/users", "/users"), ("GET users", "/api/v1/users"), ("GET audit", "/api/v1/audit")];
    let page = |(kind, path), administrators| Page { kind, path, administrators };
    let mut pages: Vec<Page> = everybody.into_iter().map(|one| page(one, false)).collect();
    pages.extend(administrators.into_iter().map(|(kind, path)| page((kind, path.to_owned()), true)));
    Ok(pages)
}
