//! A machine is reprotected, failed over as planned, taken back, failed over again and committed, by workflows of a real
//! configuration server, with a real master target and a real source agent.

use anyhow::{Result, ensure};
use chaos::{DISK, LONGEST, Load, Plan};
use control_api::ItemState;
use fleet::desk::Desk;
use rig::tools::{compare, copy_of_held};
use rig::{ConfigurationServer, Source, Target, wait_for};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

const SIZE: u64 = 32 << 20;
const MORE: &str = "heartbeat_seconds = 1\n";
const TARGET: &str = "mt01.example";
const SOURCE: &str = "web01.example";

/// Whether the replica is the disk.
fn compared(folder: &Path, plan: &Plan) -> Result<()> {
    let (replica, raw) = (folder.join(format!("web01-{DISK}.vmdk")), &plan.source.disks[0].1);
    let copies = folder.join("copies");
    let (replica, raw) = (copy_of_held(&replica, &copies)?, copy_of_held(raw, &copies)?);
    compare(&replica.to_string_lossy(), "vmdk", &raw.to_string_lossy(), "raw")
}

#[test]
fn a_machine_goes_home_and_back_and_home_for_good() -> Result<()> {
    rig::build()?;
    let temporary = tempfile::tempdir()?;
    let mut plan = Plan::new(temporary.path(), SIZE)?;
    plan.target.disks.clear();
    let server = ConfigurationServer::start_at(&plan.rig, rig::free_port()?, MORE)?;
    server.register_target(&mut plan.rig, TARGET)?;
    server.register_source(&mut plan.rig, SOURCE)?;
    let folder = plan.rig.folder.clone();
    let mut target = Target::start(&plan.rig, &plan.target)?;
    let mut source = Source::start_unassigned(&plan.rig, &plan.source)?;
    let desk = Desk::log_in(&server, &folder, "operator")?;
    let source_host = desk.host(SOURCE)?;
    let new = json!({"kind": "new", "folder": folder, "format": "monolithicSparse", "adapter": "lsilogic"});
    let reprotect = json!({
        "workflow": "reprotect", "source": source_host, "target": desk.host(TARGET)?, "name": "web01", "policy": 1,
        "address": format!("127.0.0.1:{}", plan.target.port), "disks": [{"id": DISK, "target": new}]
    });
    desk.run(&reprotect)?;
    let item = desk.item("web01", "protected")?;
    let again = desk.run(&reprotect).expect_err("it is protected already").to_string();
    ensure!(again.contains("it cannot be reprotected like this"), "{again}");

    // Under load, which ends with an error.
    let planned = json!({"workflow": "planned-failover", "item": item});
    let mut load = Load::start(&source.uri(DISK), 0..SIZE, 8, 1, &folder)?;
    std::thread::sleep(Duration::from_secs(1));
    let outcome = desk.run(&planned)?;
    println!("{outcome}");
    wait_for("the load to end by an error", LONGEST, || Ok((!load.is_running()?).then_some(())))?;
    target.wait_for_state(ItemState::FailedOver, LONGEST)?;
    compared(&folder, &plan)?;

    desk.item("web01", "failed-over")?;
    let outcome = desk.run(&json!({"workflow": "cancel-failover", "item": item}))?;
    ensure!(outcome.contains("writes are let through again"), "{outcome}");
    desk.item("web01", "protected")?;
    // It connects again after a while, and both tell of it.
    wait_for("the source to be back", LONGEST, || {
        let (item, source) = (
            format!("/api/v1/items/{item}"),
            format!("/api/v1/hosts/{}", source_host.as_str().unwrap_or_default()),
        );
        let is_connected = !desk.get(&item)?["status"]["peer"].is_null();
        Ok((is_connected && desk.get(&source)?["protection"]["quiesced"] == false).then_some(()))
    })?;
    let load = Load::start(&source.uri(DISK), 0..SIZE, 8, 2, &folder)?;
    std::thread::sleep(Duration::from_secs(1));
    load.stop()?;

    desk.run(&planned)?;
    compared(&folder, &plan)?;
    desk.item("web01", "failed-over")?;
    // The machine is shut down, as it is by then.
    source.process().kill()?;
    let outcome = desk.run(&json!({"workflow": "commit", "item": item}))?;
    ensure!(outcome.contains("web01.example is not connected: it takes effect when it is back"), "{outcome}");
    wait_for("the item to be gone", LONGEST, || Ok(target.status()?.items.is_empty().then_some(())))?;
    compared(&folder, &plan)?;
    let source = Source::start_unassigned(&plan.rig, &plan.source)?;
    wait_for("the source to stop replicating", LONGEST, || {
        Ok((source.status()?["state"] == "not-assigned").then_some(()))
    })?;
    Ok(())
}
