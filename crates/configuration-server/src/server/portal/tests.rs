//! Pages with sample data, asked for without a network.

use crate::access::Role;
use crate::access::tests::{Answer, Client, user};
use crate::server::now;
use crate::store::testing::{described, heartbeat, register, status};
use crate::store::{events, items, jobs, reports};
use control_api::agent::{
    Heartbeat, HostDisk, ItemReport, JobKind, JobReport, JobState, JobStep, Protection, StepState,
};
use control_api::registration::HostKind;
use control_api::time::SECOND;
use control_api::{
    Bookmark, DiskStatus, Failure, ItemState, ItemStatus, Point, Progress, RetentionState, RetentionStatus,
    Severity, Work,
};
use rusqlite::Connection;

const HOSTILE: &str = "<script>alert('x')</script>\"&";

/// Somebody with a role who looks at pages.
struct Reader {
    bearer: String,
    client: Client,
}

impl Reader {
    async fn new(role: Role) -> Reader {
        let client = Client::new();
        let session = user(&client, "ann", role).await;
        Reader { bearer: format!("Bearer {}", session.token), client }
    }

    async fn get(&self, path: &str) -> Answer {
        self.client.send("GET", path, &[("authorization", &self.bearer)], "").await
    }

    async fn post(&self, path: &str, form: &str) -> Answer {
        let form_type = ("content-type", "application/x-www-form-urlencoded");
        self.client.send("POST", path, &[("authorization", &self.bearer), form_type], form).await
    }

    async fn fill(&self) {
        let filled = self.client.shared.store.with(|connection| {
            fill(connection);
            Ok(())
        });
        filled.await.unwrap();
    }
}

fn point(age: u64, number: u64, name: Option<&str>) -> Point {
    let time = now() - age * SECOND;
    let bookmark = name.map(|name| Bookmark {
        name: name.into(),
        application_consistent: number.is_multiple_of(2),
        group: None,
    });
    Point { number, source_time: time, receive_time: time, bookmark, journal_bytes: 4096 }
}

fn item(name: &str, state: ItemState) -> ItemReport {
    let progress = (state == ItemState::Resync).then_some(Progress {
        work: Work::Resync,
        done: 30 << 30,
        total: Some(100 << 30),
    });
    let status = ItemStatus {
        detail: Some(HOSTILE.into()),
        protected_until: Some(now() - 7 * SECOND),
        newest_point: Some(point(7, 9, None)),
        oldest_point: Some(point(80_000, 1, None)),
        progress,
        seconds_left: progress.map(|_| 600),
        disks: vec![DiskStatus { id: "disk0".into(), target: "/vmfs/web01.vmdk".into(), size: 40 << 30 }],
        ..status(name, state)
    };
    ItemReport { status, points: Some(vec![point(60, 8, Some(HOSTILE)), point(7200, 5, Some("nightly"))]) }
}

fn fill(connection: &Connection) {
    let time = now();
    let target = register(connection, HostKind::MasterTarget, 1);
    let source = register(connection, HostKind::SourceAgent, 2);
    let mut beat = heartbeat(described(HostKind::MasterTarget, 1), Vec::new());
    let disk = HostDisk { name: "sdb".into(), id: None, size: 1 << 40, paths: 2, used_for: HOSTILE.into() };
    beat.disks = vec![disk];
    beat.retention = Some(RetentionStatus {
        folder: "/mnt/retention".into(),
        state: RetentionState::Ready,
        detail: None,
        file_system: None,
        capacity_bytes: Some(1 << 40),
        available_bytes: Some(1 << 38),
        journal_bytes_per_second: 1 << 20,
        full_in_seconds: Some(90_000),
        needed_bytes: None,
        alerts: Vec::new(),
    });
    reports::put(connection, target.row, &beat, time).unwrap();
    reports::put(connection, source.row, &heartbeat(described(HostKind::SourceAgent, 2), Vec::new()), time)
        .unwrap();
    reports::lost(connection, source.row).unwrap();
    for (name, state) in [
        ("web01", ItemState::Protected),
        ("db01", ItemState::Resync),
        (HOSTILE, ItemState::Fenced),
        ("erp01", ItemState::FailedOver),
    ] {
        items::put(connection, target.row, &item(name, state), time, time).unwrap();
    }
    let order = |job| jobs::NewJob { host: target.row, item: Some(1), job, by: "ann".into(), now: time };
    let failed = jobs::add(connection, &order(JobKind::Resync { item: "web01".into() })).unwrap().unwrap();
    jobs::add(connection, &order(JobKind::Check)).unwrap().unwrap();
    let step = JobStep {
        name: HOSTILE.into(),
        state: StepState::Failed,
        detail: None,
        started: Some(time),
        ended: None,
    };
    let report = JobReport {
        id: failed.id,
        state: JobState::Failed,
        started: time,
        ended: Some(time + SECOND),
        steps: vec![step],
        progress: None,
        seconds_left: None,
        can_cancel: false,
        outcome: None,
        failure: Some(Failure::new("web01", "cannot resync", "its source is away", "start it")),
    };
    jobs::report(connection, target.row, &report, time).unwrap().unwrap();
    let event = events::Event {
        id: 0,
        time,
        severity: Severity::Critical,
        kind: "fenced".into(),
        object: HOSTILE.into(),
        what: "it is fenced".into(),
        cause: "a disk failed".into(),
        next: "resume it".into(),
        host: Some(target.row),
        item: Some(3),
    };
    events::raise(connection, "item/3/fenced", &event).unwrap();
}

/// Paths of all pages that a reader may look at.
async fn pages(reader: &Reader) -> Vec<String> {
    let jobs = reader.client.shared.store.read(|connection| {
        let query = jobs::Query { limit: 10, ..jobs::Query::default() };
        Ok(jobs::list(connection, &query)?)
    });
    let jobs = jobs.await.unwrap().into_iter().map(|job| format!("/jobs/{}", job.id));
    let target = format!("/infrastructure/aa{:030x}", 1);
    let source = format!("/infrastructure/bb{:030x}", 2);
    let fixed = [
        "/",
        "/infrastructure",
        "/items",
        "/items/1",
        "/items/2",
        "/items/3",
        "/items/4",
        "/jobs",
        "/policies",
        "/events",
    ];
    fixed.map(str::to_owned).into_iter().chain([target, source]).chain(jobs).collect()
}

fn assert_sound(path: &str, answer: &Answer) {
    let html = &answer.body;
    assert_eq!(answer.status, 200, "{path}: {html}");
    assert_eq!(answer.headers["content-type"], "text/html; charset=utf-8");
    assert!(
        !html.contains("<script>") && !html.contains("alert('x')"),
        "{path} has a script of somebody else"
    );
    assert!(
        !html.contains(" style=") && !html.contains("<style"),
        "{path} has a style, which the headers forbid"
    );
    assert_eq!(html.matches("<h1").count(), 1, "{path}");
    assert_eq!(html.matches("<main").count(), 1, "{path}");
    assert!(!html.contains("http://") && !html.contains("https://"), "{path} loads something from elsewhere");
}

#[tokio::test]
async fn each_page_shows_what_there_is_and_a_reader_is_offered_nothing_to_do() {
    let reader = Reader::new(Role::Reader).await;
    reader.fill().await;
    for path in pages(&reader).await {
        let answer = reader.get(&path).await;
        assert_sound(&path, &answer);
        let forms: Vec<&str> = answer.body.split("method=\"post\" action=\"").skip(1).collect();
        assert!(forms.iter().all(|form| form.starts_with("/logout\"")), "{path}: {forms:?}");
        assert!(!answer.body.contains("href=\"/users\""), "{path}");
    }
    assert_eq!(reader.get("/users").await.status, 403);
    let overview = reader.get("/").await.body;
    for shown in ["1 critical alert to look at now", "resume it", "not connected", "check the machine"] {
        assert!(overview.contains(shown), "{shown}: {overview}");
    }
    let item = reader.get("/items/2").await.body;
    assert!(item.contains("30 % of 100 GiB") && item.contains("10 min left"), "{item}");
}

#[tokio::test]
async fn what_can_be_done_about_a_failover_depends_on_where_it_stands() {
    let operator = Reader::new(Role::Operator).await;
    operator.fill().await;
    let offered = async |item: u32| {
        let page = operator.get(&format!("/items/{item}")).await.body;
        ["failover", "failover/cancel", "commit"]
            .map(|action| page.contains(&format!("href=\"/items/{item}/{action}\"")))
    };
    assert_eq!(offered(1).await, [true, false, false]);
    assert_eq!(offered(4).await, [true, true, true]);
    let change = operator.get("/items/4/failover").await.body;
    assert!(change.contains("Change the recovery point of erp01"), "{change}");
}

#[tokio::test]
async fn pages_without_anything_say_the_next_step() {
    let reader = Reader::new(Role::Administrator).await;
    for path in ["/", "/infrastructure", "/items", "/jobs", "/policies", "/events", "/users", "/policies/new"]
    {
        assert_sound(path, &reader.get(path).await);
    }
    let command = "mtctl register -i ";
    assert!(reader.get("/").await.body.contains(command));
    assert!(reader.get("/infrastructure").await.body.contains("mt-source register -i "));
}

#[tokio::test]
async fn what_is_not_there_is_said_on_a_page() {
    let reader = Reader::new(Role::Administrator).await;
    for path in
        ["/items/99", "/items/x", "/jobs/x", "/infrastructure/x", "/policies/99", "/users/99", "/nothing"]
    {
        let answer = reader.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.body.contains("<h1>Nothing is here</h1>"), "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn forms_are_carried_out_and_answered_with_a_redirection() {
    let admin = Reader::new(Role::Administrator).await;
    admin.fill().await;
    let location = |answer: &Answer| answer.headers["location"].to_str().unwrap().to_owned();
    let ordered = admin.post("/items/1/test-failover", "point=bookmark&bookmark=8").await;
    let job = location(&ordered);
    assert!(ordered.status == 303 && job.starts_with("/jobs/"), "{job}");
    let page = admin.get(&job).await.body;
    assert!(page.contains("test failover of web01 to 8") && page.contains("The job is ordered"), "{page}");
    let (path, _) = job.split_once('?').unwrap();
    let cancelled = admin.post(&format!("{path}/cancel"), "").await;
    assert_eq!(location(&cancelled), format!("{path}?done=cancelled"));
    assert!(admin.get(path).await.body.contains("cancelled"));
    let again = admin.post(&format!("{path}/cancel"), "").await;
    assert!(again.status == 409 && again.body.contains("it has ended"), "{}", again.body);

    for (path, form, title) in [
        (
            "failover",
            "point=time&time=2026-11-26T01%3A30%3A00Z",
            "fail over web01 to 2026-11-26T01:30:00.000Z",
        ),
        ("failover/cancel", "", "cancel the failover of web01"),
        ("commit", "", "commit the failover of web01"),
    ] {
        let path = format!("/items/1/{path}");
        let question = admin.get(&path).await;
        assert_sound(&path, &question);
        assert!(question.body.contains(&format!("action=\"{path}\"")), "{}", question.body);
        let job = location(&admin.post(&path, form).await);
        assert!(admin.get(&job).await.body.contains(title), "{title}");
    }
    let bookmark = "name=before-the-upgrade&application-consistent=yes";
    let nobody = admin.post("/items/1/bookmark", bookmark).await;
    assert!(nobody.status == 409 && nobody.body.contains("no source agent"), "{}", nobody.body);
    let web02 = admin.client.shared.store.with(|connection| {
        let mut item = item("web01", ItemState::Protected);
        item.status.peer = Some("web02".into());
        items::put(connection, 1, &item, now(), now())?;
        let protection = Protection {
            item: "web01".into(),
            target: "mt01:9443".into(),
            state: "sending".into(),
            backlog_bytes: 0,
            bytes_per_second: 0,
            alerts: Vec::new(),
        };
        let beat = heartbeat(described(HostKind::SourceAgent, 2), Vec::new());
        Ok(reports::put(connection, 2, &Heartbeat { protection: Some(protection), ..beat }, now())?)
    });
    web02.await.unwrap();
    assert!(admin.get("/items/1").await.body.contains("action=\"/items/1/bookmark\""));
    let set = location(&admin.post("/items/1/bookmark", bookmark).await);
    let set = admin.get(&set).await.body;
    assert!(set.contains("application-consistent bookmark before-the-upgrade") && set.contains("web02"));

    let nowhere = admin.post("/items/1/failover", "point=time&time=noon").await;
    assert!(nowhere.status == 400 && nowhere.body.contains("is no moment"), "{}", nowhere.body);

    let policy = "name=Gold&window=48&threshold=5&consistent=0";
    assert_eq!(location(&admin.post("/policies", policy).await), "/policies?done=policy");
    let taken = admin.post("/policies", policy).await;
    assert!(taken.status == 409 && taken.body.contains("value=\"48\""), "{}", taken.body);
    let wrong = admin.post("/policies", "name=Silver&window=0&threshold=5&consistent=0").await;
    assert!(wrong.status == 400 && wrong.body.contains("from 1 to 8760"), "{}", wrong.body);
    assert_eq!(admin.post("/items/1/settings", "policy=2&group=").await.status, 303);
    assert!(admin.get("/items?policy=2").await.body.contains("1–1 of 1"));
    assert_eq!(admin.post("/policies/2/remove", "").await.status, 409);

    let weak = admin.post("/users", "name=bob&role=reader&password=short").await;
    assert!(weak.status == 400 && weak.body.contains("fewer than 12"), "{}", weak.body);
    let bob = admin.post("/users", "name=bob&role=reader&password=correct+horse+staple").await;
    assert_eq!(location(&bob), "/users?done=user");
    assert!(admin.get("/events").await.body.contains("by ann: bob, reader"));
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_cut_into_pages() {
    let reader = Reader::new(Role::Reader).await;
    reader.fill().await;
    let store = &reader.client.shared.store;
    let many = store.with(|connection| {
        let (time, transaction) = (now(), connection.transaction()?);
        for number in 0..120 {
            items::put(&transaction, 1, &item(&format!("vm{number:03}"), ItemState::Protected), time, time)?;
        }
        Ok(transaction.commit()?)
    });
    many.await.unwrap();
    let first = reader.get("/items?q=vm").await.body;
    assert!(first.contains("1–50 of 120") && first.contains("page=2\""), "{first}");
    let last = reader.get("/items?q=vm&page=3").await.body;
    assert!(last.contains("101–120 of 120") && !last.contains("page=4"), "{last}");
    let worst = reader.get("/items?sort=health").await.body;
    let rows: Vec<&str> = worst.split("<tr id=").skip(1).collect();
    assert!(
        rows[0].contains("fenced") && rows[1].contains("resync") == rows[1].contains("db01"),
        "{}",
        rows[0]
    );
    assert!(worst.contains("aria-sort=\"descending\""));
    let fenced = reader.get("/items?state=fenced").await.body;
    assert!(fenced.contains("1–1 of 1"));
    let none = reader.get("/items?q=nowhere").await.body;
    assert!(none.contains("No item matches"));
    let away = reader.get("/infrastructure?state=not-connected").await.body;
    assert!(away.contains("web02") && !away.contains(">mt01<"), "{away}");
}

#[tokio::test]
async fn style_and_script_are_kept_by_browsers() {
    let reader = Reader::new(Role::Reader).await;
    let page = reader.get("/").await.body;
    let paths: Vec<&str> = page.split('"').filter(|part| part.starts_with("/static/")).collect();
    assert_eq!(paths.len(), 3);
    for path in paths {
        let asset = reader.client.send("GET", path, &[], "").await;
        assert_eq!(asset.status, 200, "{path}");
        assert_eq!(asset.headers["cache-control"], "public, max-age=31536000, immutable");
    }
    assert_eq!(reader.client.send("GET", "/static/00/portal.css", &[], "").await.status, 404);
}
