//! What people do there.

use crate::site::Site;
use anyhow::Result;
use control_api::registration::HostKind;
use portal::sample::{self, host};
use portal::{Browser, Machine};
use rig::{Target, TargetDisk, TargetOptions, free_port};
use serde_json::json;

/// Marks the page that is shown, so that one that was loaded anew is told from it.
fn mark(browser: &Browser) {
    browser.execute("window.marked = true", json!(null)).unwrap();
}

fn is_marked(browser: &Browser) -> bool {
    browser.execute("return window.marked === true", json!(null)).unwrap() == true
}

/// A master target on this machine, with one small item.
fn target(site: &Site) -> Result<Target> {
    let path = site.rig.folder.join("web01.vmdk");
    let disk = TargetDisk { id: "disk0".into(), path, format: "monolithicSparse".into(), size: 8 << 20 };
    Target::start(&site.rig, &TargetOptions { port: free_port()?, disks: vec![disk] })
}

#[test]
fn a_master_target_appears_by_itself_and_its_job_is_followed_to_its_end() {
    let mut site = Site::start();
    let url = site.server.url();
    // Who is not logged in sees nothing, and a wrong password changes nothing.
    site.open("items");
    assert_eq!(site.browser.url().unwrap(), format!("{url}login"));
    assert!(site.browser.log_in(&url, "the-operator", "wrong horse battery").is_err());
    site.browser.wait_for_text("user name or password is wrong").unwrap();
    site.log_in("operator");

    site.browser.wait_for_text("Register the first master target").unwrap();
    let command = format!("mtctl register -i 127.0.0.1 --port {} -P passphrase.txt", site.server.port());
    site.browser.wait_for_text(&command).unwrap();
    site.browser.wait_for_text("Updates live").unwrap();
    mark(&site.browser);
    site.server.register_target(&mut site.rig, "mt01.example").unwrap();
    site.browser.wait_for_text("Master targets").unwrap();
    site.browser.wait_for_text("1 without a heartbeat yet").unwrap();
    let _target = target(&site).unwrap();
    site.browser.wait_for_text("all connected").unwrap();
    assert!(is_marked(&site.browser), "the page was loaded anew");

    site.open("infrastructure");
    site.browser.wait_for_text("mt01.example").unwrap();
    site.browser.click("tr[id^=host-] a").unwrap();
    site.browser.wait_for_text("connected").unwrap();
    site.browser.wait_for_text("web01").unwrap();
    site.browser.click("form[action$='/check'] button").unwrap();
    site.browser.wait_for_page("/jobs/").unwrap();
    mark(&site.browser);
    let ended = "return ['succeeded', 'failed'].some((state) => document.getElementById('state').innerText.includes(state))";
    rig::wait_for("the end of the job", std::time::Duration::from_secs(30), || {
        Ok((site.browser.execute(ended, json!(null))? == true).then_some(()))
    })
    .unwrap();
    assert!(is_marked(&site.browser), "the page was loaded anew");
    assert!(site.browser.count(".stages > li").unwrap() > 0, "{}", site.browser.text().unwrap());
    site.browser.click("form[action='/logout'] button").unwrap();
    site.browser.wait_for_text("You are logged out").unwrap();
    site.open("");
    assert_eq!(site.browser.url().unwrap(), format!("{url}login"));
}

#[test]
fn a_job_is_followed_step_by_step_and_a_reader_can_only_look() {
    let site = Site::start();
    let items = || vec![sample::protected("web01"), sample::late("db01")];
    let described = host(HostKind::MasterTarget, 1, "mt01.site-a.example");
    let _machine =
        Machine::register(&site.server, described, move |host| sample::target(host, items(), 40)).unwrap();
    let browser = &site.browser;
    site.log_in("operator");
    site.open("items?q=web01");
    browser.wait_for_text("web01").unwrap();
    browser.click("td.name a").unwrap();
    browser.click("a[href$='/resync']").unwrap();
    browser.wait_for_text("compares all its disks").unwrap();
    browser.click("main form button").unwrap();
    browser.wait_for_page("/jobs/").unwrap();
    mark(browser);
    for shown in ["ask the source", "% of 40.0 GiB", "web01 follows its source again"] {
        browser.wait_for_text(shown).unwrap();
    }
    assert!(is_marked(browser) && browser.count(".stages > .done").unwrap() == 3);
    let job = browser.url().unwrap();

    // A form that another page sends, or that lacks the token, is refused.
    let forged = "return fetch('/items/1/resync', { method: 'POST', body: new URLSearchParams({ csrf: 'x' }) }).then((answer) => answer.status)";
    assert_eq!(browser.execute(forged, json!(null)).unwrap(), 403);
    browser.click("form[action='/logout'] button").unwrap();
    browser.wait_for_page("/login").unwrap();

    site.log_in("reader");
    browser.open(&job).unwrap();
    browser.wait_for_text("web01 follows its source again").unwrap();
    for path in ["", "infrastructure", "items", "items/1", "jobs", "policies", "events"] {
        site.open(path);
        let forms = browser.count("form[method=post]:not([action='/logout'])").unwrap();
        assert_eq!(forms, 0, "a reader is offered something to do on /{path}");
    }
    let posted = "const csrf = document.querySelector('[name=csrf]').value;
        return fetch('/items/1/resync', { method: 'POST', body: new URLSearchParams({ csrf }) }).then((answer) => answer.status)";
    assert_eq!(browser.execute(posted, json!(null)).unwrap(), 403);
    site.open("users");
    browser.wait_for_text("it takes the role administrator, and you are reader").unwrap();
}

#[test]
fn everything_works_without_javascript() {
    let site = Site::start();
    let described = host(HostKind::MasterTarget, 1, "mt01.site-a.example");
    let items = || vec![sample::protected("web01")];
    let _machine =
        Machine::register(&site.server, described, move |host| sample::target(host, items(), 40)).unwrap();
    let browser = &site.browser;
    browser.allow_scripts(false).unwrap();
    site.log_in("administrator");
    rig::wait_for("the item", std::time::Duration::from_secs(20), || {
        site.open("items/1");
        Ok(browser.text()?.contains("Recovery points").then_some(()))
    })
    .unwrap();
    browser.wait_for_text("load it again").unwrap();
    browser.click("#rpo-table summary").unwrap();
    browser.click("form[action$='/test-failover'] button").unwrap();
    browser.wait_for_page("/jobs/").unwrap();
    rig::wait_for("the end of the job", std::time::Duration::from_secs(20), || {
        let job = browser.url()?;
        browser.open(&job)?;
        Ok(browser.text()?.contains("choose a newer point").then_some(()))
    })
    .unwrap();
    site.open("policies/new");
    browser.type_into("#name", "Gold").unwrap();
    browser.click("main form button").unwrap();
    browser.wait_for_text("The policy is saved").unwrap();
    site.open("users");
    browser.type_into("#name", "carol").unwrap();
    browser.type_into("#password", "correct horse staple").unwrap();
    browser.click("form[action='/users'] button").unwrap();
    browser.wait_for_text("The user is saved").unwrap();
}
