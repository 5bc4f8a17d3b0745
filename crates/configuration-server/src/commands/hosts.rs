//! `mt-configserver hosts` and `revoke`: who is or was registered.

use super::{agreed, table};
use crate::server::now;
use crate::store::audit;
use crate::store::hosts::{self, Known};
use anyhow::{Result, bail, ensure};
use control_api::registration::HostKind;
use control_api::time;
use rusqlite::{Connection, TransactionBehavior};
use serde_json::json;

pub(super) fn list(store: &Connection, json: bool) -> Result<()> {
    let hosts = hosts::all(store)?;
    if json {
        println!("{}", json!({ "hosts": hosts }));
        return Ok(());
    }
    let now = now();
    let mut table = table(&["NAME", "KIND", "VERSION", "ADDRESS", "STATE", "REGISTERED", "ID"]);
    for host in &hosts {
        let state = match host.revoked {
            Some(since) => format!("revoked {}", time::format(since)),
            None if host.is_live(now) => {
                format!("certificate valid for {}", time::format_duration(host.valid_until - now))
            }
            None => format!("certificate expired {}", time::format(host.valid_until)),
        };
        let registered = time::format(host.registered);
        table.add_row([
            &host.name,
            &host.kind.to_string(),
            &host.version,
            &host.address,
            &state,
            &registered,
            &host.id,
        ]);
    }
    println!("{table}");
    Ok(())
}

pub(super) fn revoke(store: &mut Connection, wanted: &str, yes: bool) -> Result<()> {
    let host = &found(store, wanted, |_| true)?;
    if host.revoked.is_some() {
        println!("{} {}: it was revoked before", host.kind, host.name);
        return Ok(());
    }
    let question = format!(
        "Let the certificates of {} {} count no more? It has to register again to be let in",
        host.kind, host.name
    );
    ensure!(yes || agreed(&question)?, "{}: nothing was done", host.name);
    let (transaction, now) = (store.transaction_with_behavior(TransactionBehavior::Immediate)?, now());
    hosts::revoke(&transaction, host, now)?;
    let entry = audit::Entry {
        time: now,
        address: audit::CONSOLE.into(),
        host: host.name.clone(),
        outcome: "revoked".into(),
        detail: format!("{} {}", host.kind, host.id),
    };
    audit::add(&transaction, &entry)?;
    transaction.commit()?;
    println!(
        "{} {}: revoked. It can register again with the passphrase; to keep it out: mt-configserver passphrase rotate",
        host.kind, host.name
    );
    Ok(())
}

/// The host of this kind that counts now and has this name or id.
pub(super) fn live(store: &Connection, wanted: &str, kind: HostKind) -> Result<Known> {
    found(store, wanted, |host| host.kind == kind && host.revoked.is_none())
}

fn found(store: &Connection, wanted: &str, counts: impl Fn(&Known) -> bool) -> Result<Known> {
    let is_meant = |host: &Known| host.name.eq_ignore_ascii_case(wanted) || host.id == wanted;
    let mut meant: Vec<Known> = hosts::all(store)?.into_iter().filter(|host| is_meant(host)).collect();
    // One of another kind is still said to be of that.
    if meant.iter().any(&counts) {
        meant.retain(counts);
    }
    match (meant.pop(), meant.is_empty()) {
        (None, _) => bail!("{wanted}: no host of this name or id is known; mt-configserver hosts lists them"),
        (Some(one), true) => Ok(one),
        _ => bail!("{wanted}: several hosts have this name; give the id that mt-configserver hosts shows"),
    }
}
