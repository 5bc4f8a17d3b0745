//! Two sites protect each other: each has a source agent and a master target, on one machine, and one configuration server
//! serves both. A machine of each is replicated to the other, fails over and is committed there, all at the same time; then
//! each runs at the other site, from the VMDK that was its replica, and is replicated onto the disk that it came from: only
//! what has changed travels. It fails over once more, and is at home again.

use anyhow::{Context, Result, ensure};
use chaos::{LONGEST, Random};
use control_api::ItemState;
use fleet::desk::Desk;
use rig::tools::{compare, copy_of_held, run};
use rig::{ConfigurationServer, Rig, Source, SourceOptions, Target, TargetOptions, free_port, wait_for};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const DISK: &str = "disk0";
const MIB: usize = 1 << 20;
/// MiB of each disk; they differ, as disks of two machines do.
const SIZES: [usize; 2] = [32, 24];
/// What a machine writes at the site that it failed over to; far less than its disk.
const WRITTEN: [&str; 2] = ["write -P 0x21 5M 640k", "write -z 1M 512k"];
/// The most that may travel of a disk that differs by that.
const MOST: u64 = 2 << 20;
const MORE: &str = "heartbeat_seconds = 1\n";
const OTHER_MACHINE: &str = "00c0ffee00c0ffee00c0ffee00c0ffee";
/// Machines that are protected, each at home at the site of its number.
const ITEMS: [&str; 2] = ["web01", "db01"];

/// A site: a machine with a source agent and a master target.
struct Site {
    rig: Rig,
    target: Target,
    port: u16,
}

impl Site {
    fn start(server: &ConfigurationServer, mut rig: Rig, number: usize) -> Result<Site> {
        server.register_target(&mut rig, &target_name(number))?;
        server.register_source(&mut rig, &source_name(number))?;
        let port = free_port()?;
        let target = Target::start(&rig, &TargetOptions { port, disks: Vec::new() })?;
        Ok(Site { rig, target, port })
    }

    /// The disk that a machine has at home: half full, and nothing of it twice.
    fn make_disk(&self, number: usize) -> Result<PathBuf> {
        let (raw, vmdk) =
            (self.rig.folder.join("disk.img"), self.rig.folder.join(format!("{}.vmdk", ITEMS[number])));
        let mut bytes = Random::new(number as u64 + 1).bytes(SIZES[number] * MIB / 2);
        bytes.resize(SIZES[number] * MIB, 0);
        std::fs::write(&raw, bytes)?;
        run(
            "qemu-img",
            &["convert", "-f", "raw", "-O", "vmdk", &raw.to_string_lossy(), &vmdk.to_string_lossy()],
        )?;
        Ok(vmdk)
    }

    /// Its source agent serves a disk, and waits to be told where to replicate to.
    fn serve(&self, disk: &Path) -> Result<Source> {
        let disks = vec![(DISK.to_owned(), disk.to_owned())];
        Source::start_unassigned(
            &self.rig,
            &SourceOptions { port: 0, disks, backlog_mib: 64, more: String::new() },
        )
    }
}

fn target_name(site: usize) -> String {
    format!("mt0{}.example", site + 1)
}

fn source_name(site: usize) -> String {
    format!("source0{}.example", site + 1)
}

/// A machine that runs at a site, and is protected at the other one.
struct Running<'a> {
    item: &'static str,
    /// Among [`ITEMS`].
    number: usize,
    at: usize,
    source: &'a Source,
    /// Where its disk is, and where its replica is to be.
    disk: PathBuf,
    replica: PathBuf,
    order: Value,
}

/// Writes, as the machine does.
fn write(source: &Source, command: &str) -> Result<()> {
    let said = run("qemu-io", &["-f", "raw", "-c", command, &source.uri(DISK)])?;
    ensure!(said.contains("wrote"), "{said}");
    Ok(())
}

/// Orders a workflow for each at once, and waits until both have succeeded.
fn run_both(desk: &Desk, workflows: [Value; 2]) -> Result<()> {
    let ordered: Vec<String> =
        workflows.iter().map(|workflow| desk.order(workflow)).collect::<Result<_>>()?;
    for id in ordered {
        let ended = desk.end(&id)?;
        ensure!(ended["state"] == "succeeded", "{ended:#}");
    }
    Ok(())
}

/// Both are protected at the other site, and are written to meanwhile; then both fail over as planned and are committed.
/// Gives how many bytes the other site has received of each.
fn there(desk: &Desk, sites: &[Site; 2], machines: &[Running<'_>; 2]) -> Result<[u64; 2]> {
    let reprotect = |machine: &Running<'_>| -> Result<Value> {
        let to = 1 - machine.at;
        let is_ready = |told: &Value| {
            told["quiesced"] == false && told["disks"][0]["size"] == json!(SIZES[machine.number] * MIB)
        };
        let source = heard(desk, machine, is_ready)?;
        Ok(json!({
            "workflow": "reprotect", "source": source,
            "target": desk.host(&target_name(to))?, "name": machine.item, "policy": 1,
            "address": format!("127.0.0.1:{}", sites[to].port), "disks": [{"id": DISK, "target": machine.order}]
        }))
    };
    run_both(desk, [reprotect(&machines[0])?, reprotect(&machines[1])?])?;
    let items = [protected(desk, &machines[0])?, protected(desk, &machines[1])?];
    let mut received = [0; 2];
    for (machine, received) in machines.iter().zip(&mut received) {
        *received = sites[1 - machine.at].target.item()?.received_bytes;
        write(machine.source, "write -P 0x77 9M 64k")?;
    }
    run_both(desk, items.clone().map(|item| json!({"workflow": "planned-failover", "item": item})))?;
    for machine in machines {
        ensure!(sites[1 - machine.at].target.item()?.state == ItemState::FailedOver, "{}", machine.item);
        compared(machine).with_context(|| format!("{} failed over", machine.item))?;
    }
    run_both(desk, items.map(|item| json!({"workflow": "commit", "item": item})))?;
    for (site, machine) in sites.iter().zip(machines) {
        wait_for("the item to be gone", LONGEST, || {
            Ok(site.target.status()?.items.is_empty().then_some(()))
        })?;
        wait_for(&format!("{} to stop replicating", machine.item), LONGEST, || {
            Ok((machine.source.status()?["state"] == "not-assigned").then_some(()))
        })?;
        ensure!(write(machine.source, WRITTEN[0]).is_err(), "what was left behind is written to");
        compared(machine).with_context(|| format!("{} was committed", machine.item))?;
    }
    Ok(received)
}

/// Waits until the configuration server has heard of an agent that it is so; gives the id of its host.
fn heard(desk: &Desk, machine: &Running<'_>, so: impl Fn(&Value) -> bool) -> Result<Value> {
    let host = desk.host(&source_name(machine.at))?;
    let path = format!("/api/v1/hosts/{}", host.as_str().unwrap_or_default());
    wait_for("the configuration server to hear the agent", LONGEST, || {
        Ok(so(&desk.get(&path)?["protection"]).then_some(()))
    })
    .with_context(|| format!("{:#?}", desk.get(&path)))?;
    Ok(host)
}

/// Waits until the item of a machine is protected, and the configuration server knows by whom; gives its id.
fn protected(desk: &Desk, machine: &Running<'_>) -> Result<Value> {
    let item = desk.item(machine.item, "protected")?;
    heard(desk, machine, |told| told["item"] == machine.item)?;
    wait_for("the configuration server to hear the master target", LONGEST, || {
        let status = &desk.get(&format!("/api/v1/items/{item}"))?["status"];
        Ok((status["peer"] == source_name(machine.at)).then_some(()))
    })?;
    Ok(item)
}

/// Whether the replica is the disk, whose machine writes no more.
fn compared(machine: &Running<'_>) -> Result<()> {
    let copy = |image: &Path, name: &str| {
        let into = image.with_file_name(format!("copy-of-{name}"));
        copy_of_held(image, &into).map(|copy| copy.to_string_lossy().into_owned())
    };
    compare(&copy(&machine.disk, "disk")?, "vmdk", &copy(&machine.replica, "replica")?, "vmdk")
}

#[test]
fn two_sites_protect_each_other_and_take_their_machines_back() -> Result<()> {
    let programs = rig::build()?;
    let temporary = tempfile::tempdir()?;
    let one = Rig::new(&temporary.path().join("one"), &programs)?;
    let mut other = Rig::new(&temporary.path().join("other"), &programs)?;
    other.other_machine = Some(OTHER_MACHINE.to_owned());
    let server = ConfigurationServer::start_at(&one, free_port()?, MORE)?;
    let sites = [Site::start(&server, one, 0)?, Site::start(&server, other, 1)?];
    let desk = Desk::log_in(&server, &sites[0].rig.folder, "operator")?;

    let homes = [sites[0].make_disk(0)?, sites[1].make_disk(1)?];
    let stores = [0, 1].map(|site: usize| sites[site].rig.folder.join("store"));
    let away = [0, 1].map(|number: usize| stores[1 - number].join(format!("{}-{DISK}.vmdk", ITEMS[number])));
    stores.iter().try_for_each(std::fs::create_dir)?;
    let sources = [sites[0].serve(&homes[0])?, sites[1].serve(&homes[1])?];
    let machine = |number: usize| Running {
        item: ITEMS[number],
        at: number,
        number,
        source: &sources[number],
        disk: homes[number].clone(),
        replica: away[number].clone(),
        order: json!({"kind": "new", "folder": stores[1 - number], "format": "monolithicSparse", "adapter": "lsilogic"}),
    };
    let received = there(&desk, &sites, &[machine(0), machine(1)]).context("away from home")?;
    println!("received at first: {received:?}");
    for (received, size) in received.iter().zip(SIZES) {
        ensure!(
            *received >= (size * MIB / 2) as u64,
            "what is new travels as a whole, and {received} bytes did"
        );
    }

    // Each machine is started at the other site, and works there.
    drop(sources);
    let sources = [sites[1].serve(&away[0])?, sites[0].serve(&away[1])?];
    for source in &sources {
        ensure!(write(source, WRITTEN[0]).is_err(), "an agent forgets that its disks are at rest");
        source.command(&["unquiesce"])?;
    }
    sources.iter().try_for_each(|source| WRITTEN.iter().try_for_each(|command| write(source, command)))?;
    let machine = |number: usize| Running {
        item: ITEMS[number],
        at: 1 - number,
        number,
        source: &sources[number],
        disk: away[number].clone(),
        replica: homes[number].clone(),
        order: json!({"kind": "existing", "target": homes[number]}),
    };
    let received = there(&desk, &sites, &[machine(0), machine(1)]).context("home again")?;
    println!("received on the way home: {received:?}");
    ensure!(
        received.iter().all(|received| *received < MOST),
        "more than the differences travelled: {received:?}"
    );
    for home in &homes {
        run("qemu-img", &["check", "-q", "-f", "vmdk", &home.to_string_lossy()])?;
    }
    Ok(())
}
