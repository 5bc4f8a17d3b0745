//! Two machines of one replication group are written to alternately while they set bookmarks of the group, and fail over
//! together: whatever the group fails over to, its two disks are one moment.
//!
//! The writer puts ever greater numbers on the disks, each on the other machine than the one before, and each only when the
//! one before was acknowledged. So at any moment the greatest number on one disk is one more than that on the other; two
//! bookmarks that were not set at one moment are hundreds apart.

use anyhow::{Context, Result, bail, ensure};
use chaos::{DISK, LONGEST, Plan};
use fleet::desk::Desk;
use fleet::seed::seed;
use rig::tools::{copy_of_held, run};
use rig::{ConfigurationServer, NbdClient, Source, Target, wait_for};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use testkit::Rng;

const SIZE: u64 = 8 << 20;
const MORE: &str = "heartbeat_seconds = 1\n";
const TARGET: &str = "mt01.example";
const ITEMS: [&str; 2] = ["web01", "db01"];
const SOURCES: [&str; 2] = ["web01.example", "db01.example"];
/// Is in the folder of a machine while its applications are at rest.
const AT_REST: &str = "at-rest";
/// A write waits for a second at most, and then for the machine, which may have much else to do.
const LONGEST_WRITE: u64 = 10_000;
/// What the second machine is taken for.
const OTHER_MACHINE: &str = "00c0ffee00c0ffee00c0ffee00c0ffee";

/// Writes numbers alternately, until it is dropped.
struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    /// The longest that a write took while both machines were there, in milliseconds.
    longest: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Goes on after `last`.
    fn start(sockets: [PathBuf; 2], last: u64) -> Writer {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(last)));
        let longest = Arc::new(AtomicU64::new(0));
        let (stopped, told, slowest) = (stop.clone(), acknowledged.clone(), longest.clone());
        let thread = std::thread::spawn(move || {
            let mut clients = [None, None];
            while !stopped.load(Ordering::Relaxed) {
                let number = told.load(Ordering::Relaxed) + 1;
                let machine = (number % 2) as usize;
                let begun = Instant::now();
                match write(&mut clients[machine], &sockets[machine], number) {
                    Ok(()) => {
                        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                        slowest.fetch_max(took, Ordering::Relaxed);
                        told.store(number, Ordering::Relaxed);
                    }
                    // The machine is dead, or refuses: the same number comes again.
                    Err(_) => {
                        clients[machine] = None;
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
            }
        });
        Writer { stop, acknowledged, longest, thread: Some(thread) }
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many more are written.
    fn wait(&self, more: u64) -> Result<()> {
        let goal = self.acknowledged() + more;
        wait_for("the writer to go on", LONGEST, || Ok((self.acknowledged() >= goal).then_some(())))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            println!("the writer panicked");
        }
    }
}

fn write(client: &mut Option<NbdClient>, socket: &Path, number: u64) -> Result<()> {
    let client = match client {
        Some(client) => client,
        None => client.insert(NbdClient::connect(socket, DISK)?),
    };
    let mut block = vec![0; 512];
    block[..8].copy_from_slice(&number.to_le_bytes());
    match client.write_error(0, &block)? {
        0 => Ok(()),
        error => bail!("error {error}"),
    }
}

/// The group, and all that it runs on.
struct Site {
    folder: PathBuf,
    plans: [Plan; 2],
    _target: Target,
    sources: [Source; 2],
    desk: Desk,
    group: Value,
}

impl Site {
    /// Both machines are protected by one master target, in one group.
    fn start(server: &ConfigurationServer, mut plans: [Plan; 2]) -> Result<Site> {
        let folder = plans[0].rig.folder.clone();
        plans[0].target.disks.clear();
        for (plan, seconds) in plans.iter_mut().zip(["0", "0.5"]) {
            let at_rest = plan.rig.folder.join(AT_REST).display().to_string();
            let pre = format!("touch {at_rest}; sleep {seconds}");
            let post = format!("rm {at_rest}");
            plan.source.more = format!(
                "[hooks]\npre = [\"/bin/sh\", \"-c\", \"{pre}\"]\npost = [\"/bin/sh\", \"-c\", \"{post}\"]\n"
            );
        }
        plans[1].rig.other_machine = Some(OTHER_MACHINE.to_owned());
        server.register_target(&mut plans[0].rig, TARGET)?;
        for (plan, name) in plans.iter_mut().zip(SOURCES) {
            server.register_source(&mut plan.rig, name)?;
        }
        let target = Target::start(&plans[0].rig, &plans[0].target)?;
        let [one, other] = &plans;
        let sources = [
            Source::start_unassigned(&one.rig, &one.source)?,
            Source::start_unassigned(&other.rig, &other.source)?,
        ];
        let desk = Desk::log_in(server, &folder, "administrator")?;
        let group = desk.post("/api/v1/groups", &json!({"name": "Shop"}))?["id"].clone();
        let site = Site { folder, plans, _target: target, sources, desk, group };
        for (item, source) in ITEMS.into_iter().zip(SOURCES) {
            site.protect(item, source)?;
        }
        Ok(site)
    }

    fn protect(&self, item: &str, source: &str) -> Result<()> {
        let (source, target) = (self.desk.host(source)?, self.desk.host(TARGET)?);
        let disk = json!({"kind": "new", "folder": self.folder, "format": "monolithicSparse", "adapter": "lsilogic"});
        self.desk.run(&json!({
            "workflow": "reprotect", "source": source, "target": target, "name": item, "policy": 1,
            "group": self.group, "address": format!("127.0.0.1:{}", self.plans[0].target.port),
            "disks": [{"id": DISK, "target": disk}]
        }))?;
        self.desk.item(item, "protected").map(drop)
    }

    fn writer(&self, last: u64) -> Writer {
        Writer::start([0, 1].map(|machine| self.sources[machine].nbd().to_owned()), last)
    }

    /// Orders a workflow of the group, as soon as what it needs is known to be there; the id of its job.
    fn order(&self, workflow: &str, more: &Value) -> Result<String> {
        let mut wanted = more.clone();
        (wanted["workflow"], wanted["group"]) = (json!(workflow), self.group.clone());
        let mut refused = None;
        let ordered = wait_for(&format!("{workflow} to be ordered"), LONGEST, || {
            std::thread::sleep(Duration::from_millis(50));
            let ordered = self.desk.order(&wanted).map_err(|why| refused = Some(why));
            Ok(ordered.ok())
        });
        ordered.with_context(|| format!("{refused:?}"))
    }

    /// The same, until it has succeeded.
    fn run(&self, workflow: &str, more: &Value) -> Result<()> {
        let ended = self.desk.end(&self.order(workflow, more)?)?;
        ensure!(ended["state"] == "succeeded", "{ended:#}");
        Ok(())
    }

    /// Orders a bookmark of the group; the id of its job.
    fn bookmark(&self, name: &str, at_rest: bool) -> Result<String> {
        self.order("group-bookmark", &json!({"name": name, "application_consistent": at_rest}))
    }

    /// Orders such bookmarks until so many are shared: a machine that has much else to do may miss all rounds of one.
    fn bookmarks(&self, name: &str, at_rest: bool, number: usize, writer: &Writer) -> Result<()> {
        wait_for(&format!("{number} bookmarks {name} of the group"), LONGEST, || {
            let ended = self.desk.end(&self.bookmark(name, at_rest)?)?;
            println!("{name}: {}: {}", ended["state"], ended["report"]["outcome"]);
            writer.wait(20)?;
            let shared = self.shared()?;
            let is_such = |point: &&Value| {
                let named = point["name"].as_str().is_some_and(|full| full.starts_with(&format!("{name}-")));
                named && point["application_consistent"] == at_rest
            };
            Ok((shared.iter().filter(is_such).count() >= number).then_some(()))
        })
    }

    /// The points that the items share.
    fn shared(&self) -> Result<Vec<Value>> {
        let list = self.desk.get(&format!("/api/v1/groups/{}/points", self.group))?;
        Ok(list["entries"].as_array().context("no list")?.clone())
    }

    /// Their names.
    fn points(&self) -> Result<Vec<String>> {
        let shared = self.shared()?;
        Ok(shared.iter().filter_map(|point| point["name"].as_str().map(str::to_owned)).collect())
    }

    /// Waits until a point with such a name is shared.
    fn point(&self, name: &str) -> Result<String> {
        wait_for(&format!("the shared point {name}"), LONGEST, || {
            Ok(self.points()?.into_iter().find(|point| point.starts_with(&format!("{name}-"))))
        })
    }

    fn fail_over(&self, point: &str) -> Result<(u64, u64)> {
        self.run("group-failover", &json!({"bookmark": point}))?;
        for item in ITEMS {
            self.desk.item(item, "failed-over")?;
        }
        self.numbers()
    }

    /// The numbers that the replicas hold.
    fn numbers(&self) -> Result<(u64, u64)> {
        let [one, other] = ITEMS.map(|item| self.number(item));
        Ok((one?, other?))
    }

    fn number(&self, item: &str) -> Result<u64> {
        let copy =
            copy_of_held(&self.folder.join(format!("{item}-{DISK}.vmdk")), &self.folder.join("copies"))?;
        let raw = copy.with_extension("raw");
        run(
            "qemu-img",
            &["convert", "-f", "vmdk", "-O", "raw", &copy.to_string_lossy(), &raw.to_string_lossy()],
        )?;
        let bytes = std::fs::read(raw)?;
        Ok(u64::from_le_bytes(*bytes.first_chunk().context("the replica is too short")?))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for (name, source) in SOURCES.into_iter().zip(&mut self.sources) {
            println!("{name} says:\n{}\n", source.process().log_tail());
        }
    }
}

/// Whether two numbers were on the disks at one moment.
fn is_one_moment(numbers: (u64, u64)) -> bool {
    numbers.0.abs_diff(numbers.1) == 1
}

#[test]
fn the_disks_of_a_group_are_one_moment_whatever_it_fails_over_to() -> Result<()> {
    let mut rng = Rng::new(seed()?);
    rig::build()?;
    let temporary = tempfile::tempdir()?;
    let plans =
        [Plan::new(&temporary.path().join("one"), SIZE)?, Plan::new(&temporary.path().join("other"), SIZE)?];
    let mut server = ConfigurationServer::start_at(&plans[0].rig, rig::free_port()?, MORE)?;
    let mut site = Site::start(&server, plans)?;
    let writer = site.writer(0);
    writer.wait(50)?;
    site.bookmarks("calm", false, 2, &writer)?;
    site.bookmarks("rest", true, 1, &writer)?;
    for plan in &site.plans {
        ensure!(!plan.rig.folder.join(AT_REST).exists(), "applications are still at rest");
    }
    let longest = writer.longest.load(Ordering::Relaxed);
    println!("the longest write took {longest} ms");
    ensure!(longest < LONGEST_WRITE, "a write took {longest} ms");

    // One machine is killed in the middle, then the configuration server.
    let hurried = site.bookmark("killed", false)?;
    std::thread::sleep(Duration::from_millis(rng.below(100)));
    site.sources[1].process().kill()?;
    site.sources[1] = Source::start_unassigned(&site.plans[1].rig, &site.plans[1].source)?;
    println!("killed: {}", site.desk.end(&hurried)?["state"]);
    writer.wait(20)?;
    for item in ITEMS {
        site.desk.item(item, "protected")?;
    }
    let hurried = site.bookmark("dead", true)?;
    std::thread::sleep(Duration::from_millis(rng.below(400)));
    server.process().kill()?;
    let server = ConfigurationServer::start_at(&site.plans[0].rig, server.port(), MORE)?;
    println!("dead: {}", site.desk.end(&hurried)?["state"]);
    writer.wait(20)?;

    // One item alone goes nowhere that the others do not go.
    let (target, web01) = (site.desk.host(TARGET)?, ITEMS[0]);
    let alone = json!({"host": target, "job": {"kind": "failover", "item": web01, "point": "latest"}});
    let ordered = site.desk.post("/api/v1/jobs", &alone);
    let refused = ordered.err().context("one item of the group is failed over alone")?;
    ensure!(refused.to_string().contains("it does not fail over alone"), "{refused}");

    // Every point that they share, the newest first, while writing goes on.
    site.point("calm")?;
    let (mut newest, points) = (u64::MAX, site.points()?);
    println!("{points:?}");
    ensure!(points.len() >= 2, "{points:?}");
    for point in points {
        let numbers = site.fail_over(&point)?;
        println!("{point}: {numbers:?} of {}", writer.acknowledged());
        ensure!(is_one_moment(numbers), "{point} is no moment of both: {numbers:?}");
        ensure!(numbers.0.max(numbers.1) < newest, "{point} is not older than the one before");
        newest = numbers.0.max(numbers.1);
    }
    site.run("group-cancel-failover", &json!({}))?;
    for item in ITEMS {
        site.desk.item(item, "protected")?;
    }

    // Planned: nothing that was acknowledged is missing.
    site.run("group-planned-failover", &json!({}))?;
    let (numbers, last) = (site.numbers()?, writer.acknowledged());
    println!("planned: {numbers:?} of {last}");
    ensure!(is_one_moment(numbers) && numbers.0.max(numbers.1) >= last, "{numbers:?} of {last}");
    drop(writer);
    site.run("group-commit", &json!({}))?;
    wait_for("both items to be gone", LONGEST, || {
        Ok((site.desk.get("/api/v1/items")?["total"] == 0).then_some(()))
    })?;
    drop(server);
    Ok(())
}
