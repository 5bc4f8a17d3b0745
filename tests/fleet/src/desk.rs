//! Somebody at his desk, who orders workflows over REST and follows them to their end.

use crate::client::{Way, identity};
use crate::people::Person;
use anyhow::{Context, Result, ensure};
use rig::{ConfigurationServer, wait_for};
use serde_json::Value;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Longer than anything takes.
const LONGEST: Duration = Duration::from_secs(180);

/// A user who is logged in.
pub struct Desk {
    runtime: Runtime,
    person: Person,
}

impl Desk {
    /// Adds a user of this role, who logs in. `folder` is that of the rig whose master target is registered.
    pub fn log_in(server: &ConfigurationServer, folder: &Path, role: &str) -> Result<Desk> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let password = server.command(&["user", "add", "trial", "--role", role, "--generate"])?;
        let tls = identity(&folder.join("target/state").join(registration::IDENTITY), false)?;
        let way =
            Way { to: (Ipv4Addr::LOCALHOST, server.port()).into(), from: Ipv4Addr::LOCALHOST.into(), tls };
        let person = runtime.block_on(Person::log_in(&way, "trial", password.trim()))?;
        Ok(Desk { runtime, person })
    }

    /// Asks for something.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.runtime.block_on(self.person.get(path))?.json()
    }

    /// Makes something; what is answered, a refusal too.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.runtime.block_on(self.person.send("POST", path, body))?.json()
    }

    /// The first entry of a list that is so.
    pub fn wait(&self, path: &str, so: impl Fn(&Value) -> bool) -> Result<Value> {
        wait_for(path, LONGEST, || {
            let list = self.get(path)?;
            let entries = list["entries"].as_array().context("no list")?;
            Ok(entries.iter().find(|entry| so(entry)).cloned())
        })
        .with_context(|| format!("{:?}", self.get(path)))
    }

    /// Orders a workflow; its id.
    pub fn order(&self, workflow: &Value) -> Result<String> {
        let ordered = self.post("/api/v1/workflows", workflow)?;
        Ok(ordered["id"].as_str().with_context(|| format!("{workflow}: {ordered}"))?.to_owned())
    }

    /// Waits until a workflow has ended, however it did; while the server does not answer, that is no end.
    pub fn end(&self, id: &str) -> Result<Value> {
        let path = format!("/api/v1/jobs/{id}");
        wait_for("the workflow to end", LONGEST, || {
            let job = self.get(&path).ok();
            Ok(job.filter(|job| !job["ended"].is_null()))
        })
        .with_context(|| format!("{:#?}", self.get(&path)))
    }

    /// Orders a workflow, waits until it has succeeded, and gives its outcome.
    pub fn run(&self, workflow: &Value) -> Result<String> {
        let ended = self.end(&self.order(workflow)?)?;
        ensure!(ended["state"] == "succeeded", "{ended:#}");
        Ok(ended["report"]["outcome"].as_str().unwrap_or_default().to_owned())
    }

    /// Id of a host, once it is connected.
    pub fn host(&self, name: &str) -> Result<Value> {
        let so = |host: &Value| host["name"] == name && host["state"] == "connected";
        Ok(self.wait("/api/v1/hosts", so)?["id"].clone())
    }

    /// Id of an item, once it is in this state.
    pub fn item(&self, name: &str, state: &str) -> Result<Value> {
        let item = self.wait("/api/v1/items", |item| item["name"] == name && item["state"] == state)?;
        Ok(item["id"].clone())
    }
}
