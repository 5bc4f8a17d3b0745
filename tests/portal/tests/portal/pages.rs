//! Each page, in light and dark, on a desk and on a phone: it can be read and used, and its picture is kept.

use crate::site::{Site, pictures};
use control_api::registration::HostKind;
use portal::sample::{self, host};
use portal::{Browser, Machine, Scheme, audit};
use rusqlite::{Connection, TransactionBehavior};
use serde_json::Value;
use std::time::Duration;

/// A phone is so wide.
const PHONE: u32 = 360;
const DESK: u32 = 1280;

/// Hosts as operators have them.
fn fill(site: &Site) -> Vec<Machine> {
    let names = ["ad01", "db01", "erp-batch", "files02", "mail01", "shop-web01", "shop-web02", "wiki"];
    let first = move || {
        let mut items: Vec<_> = names.iter().map(|name| sample::protected(name)).collect();
        items.extend([
            sample::resyncing("billing-db"),
            sample::fenced("legacy-app"),
            sample::late("warehouse-db"),
            sample::failed_over("payroll"),
        ]);
        items
    };
    let second = || (1..=60).map(|number| sample::protected(&format!("vdi-{number:03}"))).collect::<Vec<_>>();
    let targets = [("mt01.site-a.example", 62), ("mt02.site-b.example", 91)];
    let mut machines = Vec::new();
    for (number, (name, used)) in (1..).zip(targets) {
        let described = host(HostKind::MasterTarget, number, name);
        let beat = move |host| sample::target(host, if number == 1 { first() } else { second() }, used);
        machines.push(Machine::register(&site.server, described, beat).unwrap());
    }
    for (number, name) in (1..).zip(["db01.site-a.example", "shop-web01.site-a.example"]) {
        let described = host(HostKind::SourceAgent, number, name);
        machines
            .push(Machine::register(&site.server, described, |host| sample::source(host, "db01")).unwrap());
    }
    let free = host(HostKind::SourceAgent, 3, "crm01.site-a.example");
    machines.push(Machine::register(&site.server, free, sample::unassigned).unwrap());
    machines
}

/// Puts a day of samples behind an item, since no test lasts a day. The number is the item's.
fn give_a_past(site: &Site, name: &str) -> i64 {
    let mut store = Connection::open(site.server.state().join("store.sqlite")).unwrap();
    store.busy_timeout(Duration::from_secs(10)).unwrap();
    // One transaction, and so one sync: the server writes to the same file meanwhile.
    let store = store.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let number = store.query_row("SELECT id FROM item WHERE name = ?", [name], |row| row.get(0)).unwrap();
    for (slot, rpo, rate) in sample::day() {
        let sql = "INSERT INTO sample VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING";
        store.execute(sql, (number, slot as i64, rpo as i64, rate as i64)).unwrap();
    }
    store.commit().unwrap();
    number
}

/// Puts items together, as people do on the page of each of them; gives the number of the group.
fn group(site: &Site, name: &str, items: &[&str]) -> i64 {
    let mut store = Connection::open(site.server.state().join("store.sqlite")).unwrap();
    store.busy_timeout(Duration::from_secs(10)).unwrap();
    let store = store.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    store.execute("INSERT INTO item_group (name) VALUES (?)", [name]).unwrap();
    let group = store.last_insert_rowid();
    for item in items {
        store.execute("UPDATE item SET item_group = ? WHERE name = ?", (group, item)).unwrap();
    }
    store.commit().unwrap();
    group
}

/// Orders what leaves jobs of each kind behind, and gives where to look at them.
fn order(site: &Site, item: i64) -> Vec<String> {
    let browser = &site.browser;
    let mut jobs = Vec::new();
    site.open(&format!("items/{item}"));
    browser.click("form[action$='/test-failover'] button").unwrap();
    browser.wait_for_page("/jobs/").unwrap();
    browser.wait_for_text("choose a newer point").unwrap();
    jobs.push(browser.url().unwrap());
    site.open(&format!("items/{item}/resync"));
    browser.click("main form button").unwrap();
    browser.wait_for_page("/jobs/").unwrap();
    browser.wait_for_text("follows its source again").unwrap();
    jobs.push(browser.url().unwrap());
    // Planned, since its source is there.
    site.open(&format!("items/{item}/failover"));
    browser.click("main form .danger").unwrap();
    browser.wait_for_page("/jobs/").unwrap();
    browser.wait_for_text("undone: writes are let through again").unwrap();
    jobs.push(browser.url().unwrap());
    jobs.into_iter().map(|job| job.trim_start_matches(&site.server.url()).to_owned()).collect()
}

/// From now on the page is interested in nothing that changes, so that it stays as it is while it is looked at.
fn hold_still(browser: &Browser) {
    let script = "document.querySelectorAll('main').forEach((main) => main.dataset.topics = '')";
    browser.execute(script, Value::Null).unwrap();
}

fn look_at(site: &Site, name: &str, path: &str) {
    let browser = &site.browser;
    for (form, scheme, width, phone) in [
        ("light", Scheme::Light, DESK, false),
        ("dark", Scheme::Dark, DESK, false),
        ("phone", Scheme::Light, PHONE, true),
        ("phone-dark", Scheme::Dark, PHONE, true),
    ] {
        browser.be_wide(width, phone).unwrap();
        browser.prefer(scheme).unwrap();
        if form == "light" || form == "phone" {
            site.open(path);
            hold_still(browser);
        }
        let what = format!("/{path} ({form})");
        audit::look(browser, &what).unwrap();
        if form == "light" {
            audit::tab_through(browser, &what).unwrap();
        }
        browser.screenshot(&pictures().join(format!("{name}-{form}.png"))).unwrap();
    }
}

#[test]
fn each_page_can_be_read_and_used_by_everybody() {
    let site = Site::start();
    look_at(&site, "login", "login");
    site.log_in("administrator");
    for (name, path) in [
        ("empty-overview", ""),
        ("empty-infrastructure", "infrastructure"),
        ("empty-items", "items"),
        ("empty-jobs", "jobs"),
    ] {
        look_at(&site, name, path);
    }
    let _machines = fill(&site);
    site.open("items?q=vdi-060");
    site.browser.wait_for_text("1–1 of 1").unwrap();
    site.open("infrastructure?state=connected");
    site.browser.wait_for_text("shop-web01").unwrap();
    site.browser.wait_for_text("crm01").unwrap();
    let past = give_a_past(&site, "db01");
    let fenced = give_a_past(&site, "legacy-app");
    let failed_over = give_a_past(&site, "payroll");
    let jobs = order(&site, past);
    let shop = group(&site, "Shop", &["shop-web01", "shop-web02", "db01"]);
    let away = group(&site, "Payroll", &["payroll"]);
    site.open("reprotect");
    site.browser.click("main form button").unwrap();
    site.browser.wait_for_text("Disk system").unwrap();
    let reprotect = site.browser.url().unwrap().trim_start_matches(&site.server.url()).to_owned();
    site.open("infrastructure");
    let target = "return document.querySelector('tr[id^=host-] a').getAttribute('href')";
    let target = site.browser.execute(target, Value::Null).unwrap();
    let target = target.as_str().unwrap().trim_start_matches('/').to_owned();
    for (name, path) in [
        ("overview", ""),
        ("infrastructure", "infrastructure"),
        ("host", &target),
        ("revoke", &format!("{target}/revoke")),
        ("items", "items"),
        ("items-worst", "items?sort=health"),
        ("item", &format!("items/{past}")),
        ("item-fenced", &format!("items/{fenced}")),
        ("item-failed-over", &format!("items/{failed_over}")),
        ("resync", &format!("items/{past}/resync")),
        ("failover", &format!("items/{past}/failover")),
        ("change-point", &format!("items/{failed_over}/failover")),
        ("cancel-failover", &format!("items/{failed_over}/failover/cancel")),
        ("commit", &format!("items/{failed_over}/commit")),
        ("reprotect-which", "reprotect"),
        ("reprotect", &reprotect),
        ("workflow", &jobs[2]),
        ("jobs", "jobs"),
        ("job-failed", &jobs[0]),
        ("job", &jobs[1]),
        ("group", &format!("groups/{shop}")),
        ("group-failover", &format!("groups/{shop}/failover")),
        ("group-away", &format!("groups/{away}")),
        ("group-change-point", &format!("groups/{away}/failover")),
        ("group-cancel-failover", &format!("groups/{away}/failover/cancel")),
        ("group-commit", &format!("groups/{away}/commit")),
        ("policies", "policies"),
        ("policy", "policies/1"),
        ("events", "events"),
        ("alerts", "events?show=alerts"),
        ("users", "users"),
        ("user", "users/1"),
        ("missing", "items/9999"),
    ] {
        look_at(&site, name, path);
    }
}
