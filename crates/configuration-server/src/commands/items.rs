//! `mt-configserver items`: the replicated items, and how commands name them.

use super::table;
use crate::server::Entry;
use crate::store::items::{self, Item};
use crate::store::{groups, policies};
use anyhow::{Result, bail};
use control_api::time::{self, SECOND};
use rusqlite::Connection;
use serde::Serialize;
use serde_json::json;
use std::collections::HashMap;

/// An item as programs get it.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    entry: Entry,
    policy_name: String,
    group_name: Option<String>,
}

/// Shows those that their master targets tell of.
pub(super) fn list(store: &Connection, json: bool) -> Result<()> {
    let items = all(store, None)?;
    let policies: HashMap<i64, String> =
        policies::list(store)?.into_iter().map(|policy| (policy.id, policy.name)).collect();
    let groups: HashMap<i64, String> =
        groups::list(store)?.into_iter().map(|group| (group.id, group.name)).collect();
    let policy = |item: &Item| policies.get(&item.policy).cloned().unwrap_or_default();
    let group = |item: &Item| item.group.and_then(|group| groups.get(&group).cloned());
    if json {
        let listed = items.into_iter().map(|item| Listed {
            policy_name: policy(&item),
            group_name: group(&item),
            entry: Entry::from(item),
        });
        println!("{}", json!({ "items": listed.collect::<Vec<_>>() }));
        return Ok(());
    }
    let mut table = table(&["NAME", "MASTER TARGET", "STATE", "RPO", "POLICY", "GROUP"]);
    for item in &items {
        let rpo = item.rpo_seconds.map_or("–".to_owned(), |rpo| time::format_duration(rpo * SECOND));
        let is_own = item.status.policy.is_some() && !item.follows_policy;
        let policy = if is_own { "its own".to_owned() } else { policy(item) };
        let (state, group) = (item.state.to_string(), group(item).unwrap_or_default());
        table.add_row([&item.name, &item.host_name, &state, &rpo, &policy, &group]);
    }
    println!("{table}");
    Ok(())
}

fn all(store: &Connection, text: Option<&str>) -> Result<Vec<Item>> {
    let text = text.map(str::to_owned);
    let query = items::Query { text, gone: Some(false), limit: u32::MAX, ..items::Query::default() };
    Ok(items::list(store, &query)?.0)
}

/// The item that is meant by its name, or by the name or id of its master target and its name.
pub(super) fn found(store: &Connection, wanted: &str) -> Result<Item> {
    let (target, name) = wanted.split_once('/').map_or((None, wanted), |(target, name)| (Some(target), name));
    let on = |item: &Item, target: &str| item.host_name.eq_ignore_ascii_case(target) || item.host == target;
    let mut meant = all(store, Some(name))?;
    meant.retain(|item| item.name == name && target.is_none_or(|target| on(item, target)));
    match (meant.pop(), meant.is_empty()) {
        (None, _) => bail!(
            "item {wanted}: it is not known: no master target tells of an item of this name; mt-configserver items lists \
             all"
        ),
        (Some(one), true) => Ok(one),
        (Some(one), false) => {
            meant.push(one);
            let names: Vec<String> =
                meant.iter().map(|item| format!("{}/{}", item.host_name, item.name)).collect();
            bail!(
                "item {wanted}: it is not clear which one is meant: several master targets have one of this name; give one \
                 of {}",
                names.join(", ")
            )
        }
    }
}
