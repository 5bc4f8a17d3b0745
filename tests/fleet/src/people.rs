//! People and their programs: they log in, look at pages, ask the API, order jobs, and leave pages open that update live.
//!
//! Requests are sent at a steady rate, whether the earlier ones have been answered or not, and each is measured from the
//! moment at which it was to be sent: a server that stalls is not spared the questions that come meanwhile.

use crate::agent::Deeds;
use crate::client::{Answer, Connection, Way, post};
use crate::measure::Stopwatch;
use anyhow::{Context, Result, ensure};
use control_api::registration::SERVER_NAME;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// Nobody waits longer for a page.
const PATIENCE: Duration = Duration::from_secs(30);
/// Kept connections of one person: as many as a browser has.
const KEPT: usize = 6;

/// Somebody who has logged in.
pub struct Person {
    way: Way,
    token: String,
    kept: Mutex<Vec<Connection>>,
}

/// Something that is looked at.
#[derive(Clone, Debug)]
pub struct Page {
    /// What it is called in figures.
    pub kind: &'static str,
    /// Path and query.
    pub path: String,
    /// Whether only an administrator may see it.
    pub administrators: bool,
}

impl Person {
    /// Logs in.
    pub async fn log_in(way: &Way, user: &str, password: &str) -> Result<Person> {
        let body = serde_json::to_vec(&json!({"user": user, "password": password}))?;
        let mut connection = Connection::open(way).await?;
        let answer = connection.exchange(post("/api/v1/session", body)?, PATIENCE).await?;
        let session: Value = answer.json().with_context(|| format!("{user} cannot log in"))?;
        let token = session["token"].as_str().context("no token")?.to_owned();
        Ok(Person { way: way.clone(), token, kept: Mutex::new(vec![connection]) })
    }

    /// Whatever is under a path: below `/api/` as a program asks for it, else as a browser does.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.exchange(self.request("GET", path, Bytes::new())?).await
    }

    /// Sends JSON to the API.
    pub async fn send(&self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        self.exchange(self.request(method, path, serde_json::to_vec(body)?.into())?).await
    }

    fn request(&self, method: &str, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>> {
        let request = Request::builder().method(method).uri(path).header("host", SERVER_NAME);
        let request = match path.starts_with("/api/") {
            true => request.header("authorization", format!("Bearer {}", self.token)),
            false => request
                .header("cookie", format!("__Host-session={}", self.token))
                .header("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"),
        };
        Ok(request.header("content-type", "application/json").body(Full::from(body))?)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let kept = self.lock().pop().filter(|connection| !connection.is_closed());
        let mut connection = match kept {
            Some(connection) => connection,
            None => Connection::open(&self.way).await?,
        };
        let answer = connection.exchange(request, PATIENCE).await?;
        let mut kept = self.lock();
        if kept.len() < KEPT {
            kept.push(connection);
        }
        Ok(answer)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a page open, and counts what it is told.
    pub async fn follow(&self, told: &AtomicU64) -> Result<()> {
        let mut connection = Connection::open(&self.way).await?;
        let answer = connection.begin(self.request("GET", "/live", Bytes::new())?).await?;
        ensure!(answer.status() == 200, "/live answers {}", answer.status());
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame?;
            let text = frame.data_ref().map(|data| String::from_utf8_lossy(data).into_owned());
            told.fetch_add(text.unwrap_or_default().matches("data:").count() as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// What went wrong with requests of people, and how often.
#[derive(Clone, Default)]
pub struct Complaints(Arc<Mutex<BTreeMap<String, u32>>>);

impl Complaints {
    fn note(&self, what: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
    }

    /// All of them.
    pub fn take(&self) -> Vec<String> {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        all.into_iter().map(|(what, times)| format!("{times} times {what}")).collect()
    }
}

/// Has people look at pages, `rate` of them in a second, for as long as `time` says.
pub async fn browse(
    people: &[Arc<Person>],
    pages: &[Page],
    rate: u32,
    time: Duration,
    watch: &Arc<Stopwatch>,
    complaints: &Complaints,
) {
    let begun = Instant::now();
    let mut under_way = JoinSet::new();
    for number in 0.. {
        let moment = begun + Duration::from_secs(number as u64) / rate;
        if moment > begun + time {
            break;
        }
        sleep_until(moment).await;
        while under_way.try_join_next().is_some() {}
        let page = pages[number % pages.len()].clone();
        // The first of them is the administrator; who looks at a page changes from round to round.
        let who = if page.administrators { 0 } else { (number / pages.len()) % people.len() };
        let (person, watch, complaints) = (people[who].clone(), watch.clone(), complaints.clone());
        under_way.spawn(async move {
            match person.get(&page.path).await.and_then(Answer::good) {
                Ok(_) => watch.note(page.kind, moment.elapsed()),
                Err(error) => complaints.note(format!("{}: {error:#}", page.path)),
            }
        });
    }
    while under_way.join_next().await.is_some() {}
}

/// Orders a check of one host after the other, `every` so often, and notes how long each takes to its agent and to its
/// end.
pub async fn order(
    person: &Person,
    hosts: &[String],
    every: Duration,
    time: Duration,
    deeds: &Deeds,
    watch: &Stopwatch,
    complaints: &Complaints,
) {
    let begun = Instant::now();
    for host in hosts.iter().cycle() {
        let moment = Instant::now();
        if moment > begun + time {
            return;
        }
        match order_one(person, host, deeds, watch).await {
            Ok(()) => sleep_until(moment + every).await,
            Err(error) => complaints.note(format!("a job: {error:#}")),
        }
    }
}

async fn order_one(person: &Person, host: &str, deeds: &Deeds, watch: &Stopwatch) -> Result<()> {
    let moment = Instant::now();
    let id = order_check(person, host).await?;
    watch.note("POST of a job", moment.elapsed());
    let end = moment + PATIENCE;
    loop {
        if let Some(entry) = deeds.ledger.entry(&id) {
            watch.note("job at its agent", entry.taken.duration_since(moment));
            return Ok(());
        }
        ensure!(Instant::now() < end, "job {id} did not reach its agent within {} s", PATIENCE.as_secs());
        sleep(Duration::from_millis(5)).await;
    }
}

/// Orders a check of a host, and gives the id of the job.
pub async fn order_check(person: &Person, host: &str) -> Result<String> {
    let body = json!({"host": host, "job": {"kind": "check"}});
    let job: Value = person.send("POST", "/api/v1/jobs", &body).await?.json()?;
    Ok(job["id"].as_str().context("a job has no id")?.to_owned())
}
