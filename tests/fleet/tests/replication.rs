//! A real master target and a real source agent go on replicating while their configuration server is dead, and it shows
//! all of it when it is back.

use anyhow::{Context, Result, ensure};
use chaos::{LONGEST, Plan};
use fleet::client::{Way, identity};
use fleet::people::Person;
use fleet::seed::seed;
use rig::{ConfigurationServer, wait_for};
use serde_json::Value;
use std::net::Ipv4Addr;
use std::time::Duration;
use testkit::Rng;
use tokio::runtime::{Builder, Runtime};

const SIZE: u64 = 64 << 20;
/// MiB a second.
const RATE: u64 = 16;
const MORE: &str = "heartbeat_seconds = 1\n";

#[test]
fn replication_goes_on_without_the_configuration_server() -> Result<()> {
    let mut rng = Rng::new(seed()?);
    rig::build()?;
    let folder = tempfile::tempdir()?;
    let mut plan = Plan::new(folder.path(), SIZE)?;
    let mut server = ConfigurationServer::start_at(&plan.rig, rig::free_port()?, MORE)?;
    server.register_target(&mut plan.rig, "mt01.example")?;
    server.register_source(&mut plan.rig, "web01.example")?;
    let mut site = plan.start()?;
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let person = runtime.block_on(log_in(&server, folder.path()))?;
    wait_for("the item to be shown as protected", LONGEST, || {
        Ok(item(&runtime, &person)?.filter(|item| item["state"] == "protected"))
    })?;

    server.process().kill()?;
    let before = site.target.item()?.received_bytes;
    let load = site.load(RATE, rng.next_u64())?;
    std::thread::sleep(Duration::from_secs(8));
    load.stop()?;
    site.drain()?;
    let image = site.bookmark("while-the-server-was-dead")?;
    site.drain()?;
    let status = site.target.item()?;
    let received = status.received_bytes;
    let drained = status.protected_until.context("nothing is protected")?;
    println!("{} MiB were replicated meanwhile", (received - before) >> 20);
    ensure!(received - before > 8 << 20, "hardly anything was written");
    site.compare_point("while-the-server-was-dead", &image)?;

    let server = ConfigurationServer::start_at(&site.plan.rig, server.port(), MORE)?;
    wait_for("the item to be shown as it is now", LONGEST, || {
        let shown = item(&runtime, &person)?;
        Ok(shown.filter(|item| item["protected_until"].as_u64().is_some_and(|until| until >= drained)))
    })?;
    wait_for("the bookmark to be shown", LONGEST, || {
        let shown = item(&runtime, &person)?.context("the item is gone")?;
        let path = format!("/api/v1/items/{}/points", shown["id"]);
        let points: Value = runtime.block_on(person.get(&path))?.json()?;
        Ok(points.to_string().contains("while-the-server-was-dead").then_some(()))
    })?;
    ensure!(site.syncs()? == 1, "the death of the configuration server made a resync necessary");
    drop(server);
    site.finish()
}

async fn log_in(server: &ConfigurationServer, folder: &std::path::Path) -> Result<Person> {
    let words = ["user", "add", "trial", "--role", "reader", "--generate"];
    let password = server.command(&words)?;
    let tls = identity(&folder.join("target/state").join(registration::IDENTITY), false)?;
    let to = (Ipv4Addr::LOCALHOST, server.port()).into();
    Person::log_in(&Way { to, from: Ipv4Addr::LOCALHOST.into(), tls }, "trial", password.trim()).await
}

/// The one item, as the server shows it; `None` while it knows of none.
fn item(runtime: &Runtime, person: &Person) -> Result<Option<Value>> {
    let Ok(answer) = runtime.block_on(person.get("/api/v1/items")) else { return Ok(None) };
    let list: Value = answer.json()?;
    Ok(list["entries"].get(0).cloned())
}
