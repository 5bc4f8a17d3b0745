//! The configuration server goes away, for a moment and for long, and five hundred hosts come back to it.
//!
//! Hosts wait as real ones do, only [`HASTE`] times as short, so what takes a quarter of an hour passes within a minute.
//! By then each waits its longest, as it does after hours.

use anyhow::{Context, Result, ensure};
use fleet::agent::{Deeds, Fleet, Habits};
use fleet::hosts;
use fleet::measure::Times;
use fleet::seed::seed;
use fleet::server::Server;
use std::time::Duration;
use testkit::Rng;
use tokio::runtime::Builder;
use tokio::time::Instant;

const HOSTS: u32 = 500;
/// How much shorter hosts wait.
const HASTE: u32 = 30;
/// How long the server is away, as the hosts see it: until each waits its longest, with some room.
const AWAY: Duration = Duration::from_secs(900);
/// The longest that a host waits, as it sees it.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Connections that may be opened in one second, as the hosts see it.
const MOST_IN_A_SECOND: usize = 40;
/// Longer than anything takes.
const LONGEST: Duration = Duration::from_secs(60);

#[test]
fn hosts_come_back_at_once_after_a_moment_and_spread_after_long() -> Result<()> {
    let mut rng = Rng::new(seed()?);
    let programs = rig::build()?;
    let folder = tempfile::tempdir()?;
    let mut server = Server::start(folder.path(), &programs)?;
    let (_identities, place) = hosts::folder()?;
    let (registered, _) = hosts::register_all(&server, 0..HOSTS, &place)?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let interval = Duration::from_secs(5);
    let habits = Habits { items: 10, interval: Some(interval), haste: HASTE, ..Habits::default() };
    let fleet = {
        let _inside = runtime.enter();
        Fleet::start(&registered, &habits, interval, &mut rng)
    };
    wait_for_all(&fleet.deeds)?;

    server.process().kill()?;
    let gone = Instant::now();
    server.again()?;
    let away = gone.elapsed();
    wait_for_all(&fleet.deeds)?;
    println!("killed and started again, away for {away:.1?}: all are back after {:.1?}", gone.elapsed());
    drop((fleet.deeds.take_connected(), fleet.deeds.watch.take()));

    server.process().stop()?;
    std::thread::sleep(AWAY / HASTE);
    drop((fleet.deeds.take_connected(), fleet.deeds.watch.take()));
    let back = Instant::now();
    server.again()?;
    wait_for_all(&fleet.deeds)?;
    report(&fleet.deeds, back)
}

/// Waits until each host has had a heartbeat answered from now on.
fn wait_for_all(deeds: &Deeds) -> Result<()> {
    let now = Instant::now();
    rig::wait_for("a heartbeat of each host", LONGEST, || {
        Ok((deeds.heard_since(now) == HOSTS as usize).then_some(()))
    })
    .with_context(|| format!("the last failure: {}", deeds.complaint()))
}

/// How the connections are spread over the time after the server was back.
fn report(deeds: &Deeds, back: Instant) -> Result<()> {
    // A host asks for jobs on another connection than that of its heartbeats, and waits for it by itself.
    let mut connected = deeds.take_connected();
    rig::wait_for("both connections of each host", LONGEST, || {
        connected.extend(deeds.take_connected());
        Ok((connected.len() >= 2 * HOSTS as usize).then_some(()))
    })?;
    let mut moments: Vec<f64> = connected
        .iter()
        .map(|moment| moment.saturating_duration_since(back).as_secs_f64() * f64::from(HASTE))
        .collect();
    moments.sort_by(f64::total_cmp);
    let in_second = |second: usize| moments.iter().filter(|moment| **moment as usize == second).count();
    let last = moments.last().copied().unwrap_or_default();
    let busiest = (0..=last as usize).map(in_second).max().unwrap_or(0);
    let tenths: Vec<usize> = (0..10)
        .map(|tenth| {
            let range = LONGEST_PAUSE.as_secs_f64() / 10.0;
            let (from, to) = (f64::from(tenth) * range, f64::from(tenth + 1) * range);
            moments.iter().filter(|moment| (from..to).contains(*moment)).count()
        })
        .collect();
    println!(
        "{} connections within {last:.0} s, at most {busiest} in one; in each 30 s: {tenths:?}",
        moments.len()
    );
    let heartbeats: Times = deeds.watch.take().remove("heartbeat").unwrap_or_default();
    println!(
        "heartbeats meanwhile: p99 {:.0?}, longest {:.0?}",
        heartbeats.percentile(99.0),
        heartbeats.longest()
    );
    ensure!(busiest <= MOST_IN_A_SECOND, "{busiest} connections in one second: the hosts do not spread");
    Ok(())
}
