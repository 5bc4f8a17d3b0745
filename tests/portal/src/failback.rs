//! The steps of a failback, as a person takes them at the portal. Each ends on the page of the item, unless it says
//! otherwise, and looks at the pages on its way.

use crate::Person;
use anyhow::{Context, Result};
use rig::Site;
use serde_json::Value;

/// Where the disk of a machine is to be kept.
pub enum Replica<'a> {
    /// A new VMDK, in the folder that is proposed.
    New,
    /// A VMDK that is there.
    Existing(&'a str),
}

/// Protects the machine of a [`Site`], on a master target that it is replicated to nowhere yet.
pub fn reprotect(person: &Person, replica: &Replica<'_>) -> Result<()> {
    person.go("Replicated items", "/items")?;
    person.look("items")?;
    person.go("Reprotect a machine…", "/reprotect")?;
    // What the source tells may be on its way.
    person.reload_until("#source")?;
    person.browser.click_on(Site::SOURCE)?;
    person.browser.click_on(Site::TARGET)?;
    person.look("reprotect-which")?;
    person.go("Choose its disks", "source=")?;
    person.browser.click_on("Failback")?;
    match replica {
        Replica::New => person.browser.click_on("On a new VMDK: everything travels once")?,
        Replica::Existing(path) => person.browser.type_into("#disk-0-target", path)?,
    }
    person.look("reprotect")?;
    person.order("Reprotect", "reprotect")?;
    person.back_to_item()?;
    person.wait_for_state("protected")?;
    person.look("item-protected")
}

/// Names the moment. From the page of the item.
pub fn bookmark(person: &Person, name: &str) -> Result<()> {
    person.browser.click_on("Set a bookmark")?;
    person.browser.type_into("#bookmark-name", name)?;
    person.look("bookmark")?;
    person.order("Set the bookmark", "bookmark")?;
    person.back_to_item()?;
    person.browser.wait_for_text(name)?;
    person.look("item-with-a-bookmark")
}

/// Opens the newest bookmark, and gives the NBD address that the page tells. From the page of the item.
pub fn begin_test(person: &Person) -> Result<String> {
    person.browser.click_on("This bookmark")?;
    let outcome = person.order("Start the test failover", "test-failover")?;
    let address = outcome.split_whitespace().find(|word| word.starts_with("nbd"));
    let address = address.with_context(|| format!("no address: {outcome}"))?;
    person.back_to_item()?;
    person.browser.wait_for_text("Started from here")?;
    person.look("item-with-a-test")?;
    Ok(address.to_owned())
}

/// Ends the first test failover. From the page of the item.
pub fn end_test(person: &Person) -> Result<()> {
    person.order("End test failover 1", "test-failover-end")?;
    person.back_to_item()
}

/// From the page of the item.
pub fn planned_failover(person: &Person) -> Result<()> {
    person.go("Fail over…", "/failover")?;
    // A source that was let go on a moment ago may not have told so yet.
    person.reload_until("#how-planned")?;
    person.look("failover")?;
    person.order("Fail over", "failover")?;
    person.back_to_item()?;
    person.wait_for_state("failed over")?;
    person.look("item-failed-over")
}

/// To this bookmark. From the page of the item.
pub fn change_point(person: &Person, bookmark: &str) -> Result<()> {
    person.go("Change recovery point…", "/failover")?;
    person.browser.click_on("This bookmark")?;
    let titles =
        "return [...document.querySelectorAll('#bookmark option')].map((option) => option.innerText)";
    let titles: Vec<String> = serde_json::from_value(person.browser.execute(titles, Value::Null)?)?;
    let title = titles.iter().find(|title| title.starts_with(bookmark));
    person.browser.click_on(title.with_context(|| format!("{bookmark} is not among {titles:?}"))?)?;
    person.look("change-point")?;
    person.order("Change recovery point", "change-point")?;
    person.back_to_item()?;
    person.wait_for_state("failed over")
}

/// From the page of the item.
pub fn cancel(person: &Person) -> Result<()> {
    person.go("Cancel failover…", "/cancel")?;
    person.look("cancel")?;
    person.order("Cancel the failover", "cancel")?;
    person.back_to_item()?;
    person.wait_for_state("protected")?;
    person.look("item-protected-again")
}

/// From the page of the item, which says afterwards that it is gone.
pub fn commit(person: &Person) -> Result<()> {
    person.go("Commit…", "/commit")?;
    person.look("commit")?;
    person.order("Commit", "commit")?;
    person.back_to_item()?;
    person.browser.wait_for_text("no longer tells of it")?;
    person.look("item-committed")
}

/// The machine, which is at rest since its failover, goes on where it was. Ends on the page of a job.
pub fn let_writes_through(person: &Person) -> Result<()> {
    person.go("Replicated items", "/items")?;
    person.go("Reprotect a machine…", "/reprotect")?;
    person.reload_until(".notice.warning a")?;
    person.look("reprotect-at-rest")?;
    person.go(Site::SOURCE, "/infrastructure/")?;
    person.look("source-at-rest")?;
    person.go("Let writes through…", "/unquiesce")?;
    person.look("let-writes-through")?;
    person.order("Let writes through", "let-writes-through").map(drop)
}
