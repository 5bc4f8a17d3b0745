//! The configuration server is killed again and again, while hosts register, heartbeats raise and clear alerts, and jobs
//! are ordered, run and reported.
//!
//! In the end everything that was answered with yes is there, and nothing is there twice: each host that was told it is
//! registered, each job that was accepted, each alert that a heartbeat raised or cleared and that was answered. Each job
//! ran once.

use anyhow::{Context, Result, anyhow, ensure};
use fleet::agent::{Deeds, Fleet, Habits};
use fleet::client::{Way, identity};
use fleet::hosts::{self, Registered};
use fleet::people::{Person, order_check};
use fleet::seed::seed;
use fleet::server::Server;
use fleet::users;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testkit::Rng;
use tokio::runtime::Builder;

const KILLS: u32 = 24;
/// Hosts that are there from the beginning.
const HOSTS: u32 = 24;
/// Orders that are under way at the same time.
const ORDERERS: u64 = 3;
/// Longer than anything takes.
const LONGEST: Duration = Duration::from_secs(60);

/// What the server said yes to.
#[derive(Default)]
struct Accepted {
    jobs: Mutex<Vec<String>>,
    hosts: Mutex<Vec<Registered>>,
    /// Orders without an answer: each may have been written down or not.
    doubtful: AtomicU32,
    ended: AtomicBool,
}

fn habits() -> Habits {
    Habits {
        // The one whose alert changes.
        items: 1,
        interval: Some(Duration::from_millis(250)),
        restless: true,
        work: Duration::from_millis(200),
        haste: 20,
    }
}

#[test]
fn what_was_accepted_survives_kills_and_happens_once() -> Result<()> {
    let mut rng = Rng::new(seed()?);
    let programs = rig::build()?;
    let folder = tempfile::tempdir()?;
    let mut server = Server::start(folder.path(), &programs)?;
    let (_identities, place) = hosts::folder()?;
    let (first, _) = hosts::register_all(&server, 0..HOSTS, &place)?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let person = Arc::new(runtime.block_on(log_in(&mut server, &place))?);
    let mut fleet = {
        let _inside = runtime.enter();
        Fleet::start(&first, &habits(), Duration::from_millis(250), &mut rng)
    };
    let accepted = Arc::new(Accepted::default());
    let ids: Vec<String> = first.iter().map(|host| host.id.clone()).collect();
    let orderers: Vec<_> = (0..ORDERERS)
        .map(|_| runtime.spawn(order(person.clone(), ids.clone(), accepted.clone(), rng.fork())))
        .collect();
    let address = server.registration();
    let passphrase = server.passphrase()?;
    std::thread::scope(|scope| -> Result<()> {
        let work = || {
            let mut number = 1000;
            while !accepted.ended.load(Ordering::Relaxed) {
                if let Ok(host) = hosts::register_at(&address, &passphrase, number, &place) {
                    accepted.hosts.lock().unwrap().push(host);
                }
                // Without an answer it may be registered all the same, so another one is next.
                number += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        let registering = scope.spawn(work);
        let killed = kill_often(&mut server, &mut rng);
        accepted.ended.store(true, Ordering::Relaxed);
        registering.join().map_err(|_| anyhow!("the registering thread failed"))?;
        killed
    })?;
    for orderer in orderers {
        runtime.block_on(orderer)?;
    }
    let registered = std::mem::take(&mut *accepted.hosts.lock().unwrap());
    // What came later can do all that a host does.
    {
        let _inside = runtime.enter();
        registered.iter().for_each(|host| fleet.add(host, &habits(), Duration::from_millis(250), &mut rng));
    }
    settle(&fleet.deeds, &accepted, first.len() + registered.len())?;
    let all: Vec<&Registered> = first.iter().chain(&registered).collect();
    runtime.block_on(async {
        check_hosts(&person, &all).await?;
        check_jobs(&person, &accepted, &fleet.deeds).await?;
        check_events(&person, &fleet.deeds).await
    })
}

async fn log_in(server: &mut Server, place: &Path) -> Result<Person> {
    let users = users::make(server)?;
    let (name, password) = users.first().context("there is no administrator")?;
    let tls = identity(&place.join("0").join(registration::IDENTITY), false)?;
    let way = Way { to: server.address, from: Ipv4Addr::new(127, 2, 0, 1).into(), tls };
    Person::log_in(&way, name, password).await
}

/// Orders jobs of random hosts until it is over.
async fn order(person: Arc<Person>, hosts: Vec<String>, accepted: Arc<Accepted>, mut rng: Rng) {
    while !accepted.ended.load(Ordering::Relaxed) {
        let host: &String = rng.pick(&hosts);
        match order_check(&person, host).await {
            Ok(job) => accepted.jobs.lock().unwrap().push(job),
            Err(_) => drop(accepted.doubtful.fetch_add(1, Ordering::Relaxed)),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn kill_often(server: &mut Server, rng: &mut Rng) -> Result<()> {
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    for number in 1..=KILLS {
        std::thread::sleep(Duration::from_millis(rng.below(1200)));
        server.process().check_running()?;
        server.process().kill()?;
        let killed = Instant::now();
        server.again().with_context(|| format!("kill {number}"))?;
        longest = longest.max(killed.elapsed());
    }
    println!("killed {KILLS} times in {:?}; away for {longest:?} at most", begun.elapsed());
    Ok(())
}

/// Waits until everything that was begun has come to its end.
fn settle(deeds: &Arc<Deeds>, accepted: &Accepted, hosts: usize) -> Result<()> {
    deeds.quiet.store(true, Ordering::Relaxed);
    rig::wait_for("all jobs to be confirmed", LONGEST, || {
        let jobs = deeds.ledger.all();
        let open = jobs.values().filter(|entry| entry.confirmed.is_none()).count();
        let missing = accepted.jobs.lock().unwrap().iter().filter(|id| !jobs.contains_key(*id)).count();
        Ok((open == 0 && missing == 0).then_some(()))
    })
    .with_context(|| {
        let jobs = deeds.ledger.all();
        let accepted = accepted.jobs.lock().unwrap();
        let missing: Vec<&String> = accepted.iter().filter(|id| !jobs.contains_key(*id)).collect();
        format!("never ordered: {missing:?}; the last failure: {}", deeds.complaint())
    })?;
    // A few heartbeats of each host: what was on its way has arrived.
    let wanted = deeds.heartbeats.load(Ordering::Relaxed) + 5 * hosts as u64;
    rig::wait_for("heartbeats", LONGEST, || {
        Ok((deeds.heartbeats.load(Ordering::Relaxed) >= wanted).then_some(()))
    })
    .with_context(|| format!("the last failure: {}", deeds.complaint()))
}

/// All entries of a list that is read from its newest end.
async fn newest(person: &Person, path: &str) -> Result<Vec<Value>> {
    let (mut entries, mut before) = (Vec::new(), String::new());
    loop {
        let page: Value = person.get(&format!("{path}?limit=1000{before}")).await?.json()?;
        entries.extend(page["entries"].as_array().context("no entries")?.iter().cloned());
        match page["next"].as_i64() {
            Some(next) => before = format!("&before={next}"),
            None => return Ok(entries),
        }
    }
}

async fn check_hosts(person: &Person, registered: &[&Registered]) -> Result<()> {
    let list: Value = person.get("/api/v1/hosts?limit=1000").await?.json()?;
    let entries = list["entries"].as_array().context("no hosts")?;
    let mut ids: BTreeMap<&str, &str> = BTreeMap::new();
    for entry in entries {
        let (name, id) =
            (entry["name"].as_str().unwrap_or_default(), entry["id"].as_str().unwrap_or_default());
        ensure!(ids.insert(name, id).is_none(), "{name} is there twice");
    }
    for host in registered {
        let known = ids.get(host.host.name.as_str());
        ensure!(
            known == Some(&host.id.as_str()),
            "{} was told it is {}, and is {known:?}",
            host.host.name,
            host.id
        );
    }
    println!(
        "{} hosts, {} of them registered between kills",
        entries.len(),
        registered.len() - HOSTS as usize
    );
    ensure!(registered.len() > HOSTS as usize + 10, "hardly any host could register");
    Ok(())
}

async fn check_jobs(person: &Person, accepted: &Accepted, deeds: &Deeds) -> Result<()> {
    let known = newest(person, "/api/v1/jobs").await?;
    let accepted_jobs: BTreeSet<String> = accepted.jobs.lock().unwrap().drain(..).collect();
    let doubtful = accepted.doubtful.load(Ordering::Relaxed);
    println!("{} jobs, {} accepted, {doubtful} orders without an answer", known.len(), accepted_jobs.len());
    ensure!(accepted_jobs.len() > 100, "there was no load worth the name");
    let ledger = deeds.ledger.all();
    let mut ids = BTreeSet::new();
    for job in &known {
        let id = job["id"].as_str().context("a job has no id")?;
        ensure!(ids.insert(id.to_owned()), "job {id} is there twice");
        ensure!(job["state"] == "succeeded", "job {id} is {}", job["state"]);
        let entry = ledger.get(id).with_context(|| format!("job {id} ended without having run"))?;
        ensure!(job["host"] == entry.host.as_str(), "job {id} ran at another host");
        ensure!(entry.strayed == 0, "job {id} was ordered to several hosts");
        ensure!(entry.repeated == 0, "job {id} was ordered again after its end");
    }
    ensure!(accepted_jobs.is_subset(&ids), "lost: {:?}", accepted_jobs.difference(&ids).collect::<Vec<_>>());
    ensure!(ledger.keys().all(|id| ids.contains(id)), "a host ran a job that the server does not know");
    ensure!(ids.len() <= accepted_jobs.len() + doubtful as usize, "there are more jobs than were ordered");
    Ok(())
}

async fn check_events(person: &Person, deeds: &Deeds) -> Result<()> {
    let events = newest(person, "/api/v1/events").await?;
    let of_kind = |kind: &str| events.iter().filter(|event| event["kind"] == kind).count() as u64;
    let over = |event: &&Value| event["what"].as_str().is_some_and(|what| what.starts_with("no longer"));
    let alerts: Vec<&Value> = events.iter().filter(|event| event["kind"] == "rpo-exceeded").collect();
    let cleared = alerts.iter().filter(|event| over(event)).count() as u64;
    let raised = alerts.len() as u64 - cleared;
    let told = (deeds.raised.load(Ordering::Relaxed), deeds.cleared.load(Ordering::Relaxed));
    println!("{} alerts raised and {} cleared; {} events in all", told.0, told.1, events.len());
    ensure!((raised, cleared) == told, "{raised} raised and {cleared} cleared are known, {told:?} were told");
    ensure!(told.0 > 50, "there were hardly any alerts");
    let jobs = deeds.ledger.all().len() as u64;
    ensure!(of_kind("job-succeeded") == jobs, "{} ends of {jobs} jobs are known", of_kind("job-succeeded"));
    Ok(())
}
