//! Pages with sample data, asked for without a network.

use crate::access::Role;
use crate::access::tests::{Answer, Client, user};
use crate::server::now;
use crate::store::testing::{described, heartbeat, register, status};
use crate::store::{events, items, jobs, reports};
use control_api::agent::{
    Heartbeat, HostDisk, ItemReport, JobKind, JobReport, JobState, JobStep, ProtectedDisk, Protection,
    StepState,
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

/// Where an answer leads.
fn location(answer: &Answer) -> String {
    answer.headers["location"].to_str().unwrap().to_owned()
}

fn point(age: u64, number: u64, name: Option<&str>) -> Point {
    let time = now() - age * SECOND;
    let bookmark = name.map(|name| Bookmark {
        name: name.into(),
        application_consistent: number.is_multiple_of(2),
        group: None,
    });
    Point { number, source_time: time, receive_time: time, bookmark, tested: None, journal_bytes: 4096 }
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
        needed_for_24_h_bytes: None,
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
async fn a_machine_is_reprotected_by_a_form() {
    let operator = Reader::new(Role::Operator).await;
    operator.fill().await;
    assert!(operator.get("/items").await.body.contains("href=\"/reprotect\""));
    assert!(operator.get("/reprotect").await.body.contains("No source machine is free"));
    let tell = operator.client.shared.store.with(|connection| {
        let protection = Protection {
            item: String::new(),
            target: String::new(),
            disks: vec![ProtectedDisk { id: "system".into(), size: 40 << 30 }],
            state: "serving".into(),
            ..Protection::default()
        };
        let beat = heartbeat(described(HostKind::SourceAgent, 2), Vec::new());
        Ok(reports::put(connection, 2, &Heartbeat { protection: Some(protection), ..beat }, now())?)
    });
    tell.await.unwrap();
    let (source, target) = (format!("bb{:030x}", 2), format!("aa{:030x}", 1));
    let choice = operator.get("/reprotect").await;
    assert_sound("/reprotect", &choice);
    for host in [&source, &target] {
        assert!(choice.body.contains(&format!("<option value=\"{host}\"")), "{}", choice.body);
    }
    let form = operator.get(&format!("/reprotect?source={source}&target={target}")).await;
    assert_sound("/reprotect", &form);
    for shown in ["Reprotect web02", "Disk system", "40.0 GiB", "value=\"10.0.0.5:9443\""] {
        assert!(form.body.contains(shown), "{shown}: {}", form.body);
    }
    let filled = format!(
        "source={source}&target={target}&name=web&policy=1&group=&address=10.0.0.5%3A9443&disk-0-id=system\
         &disk-0-kind=new&disk-0-folder=%2Fvmfs&disk-0-format=vmfs-thin&disk-0-adapter=lsilogic"
    );
    let no_folder = operator.post("/reprotect", &filled.replace("%2Fvmfs", "")).await;
    assert!(
        no_folder.status == 400 && no_folder.body.contains("the target of disk system"),
        "{}",
        no_folder.body
    );
    let taken = operator.post("/reprotect", &filled.replace("name=web", "name=web01")).await;
    assert!(taken.status == 409 && taken.body.contains("mt01 has an item of this name"), "{}", taken.body);
    assert!(
        taken.body.contains("value=\"web01\"") && taken.body.contains("value=\"/vmfs\""),
        "{}",
        taken.body
    );
    let ordered = operator.post("/reprotect", &filled).await;
    assert_eq!(ordered.status, 303, "{}", ordered.body);
    let page = operator.get(ordered.headers["location"].to_str().unwrap()).await.body;
    for shown in ["Reprotect web", "protect web (mt01)", "replicate to 10.0.0.5:9443 as web (web02)"] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
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
async fn an_item_that_was_taken_has_a_page_before_its_master_target_tells_of_it() {
    let reader = Reader::new(Role::Reader).await;
    let filled = reader.client.shared.store.with(|connection| {
        let target = register(connection, HostKind::MasterTarget, 1);
        Ok((target.row, items::expect(connection, target.row, "web01", 1, None, now())?))
    });
    let (target, id) = filled.await.unwrap();
    let path = format!("/items/{id}");
    let expected = reader.get(&path).await;
    assert_sound(&path, &expected);
    assert!(expected.body.contains("with its next heartbeat"), "{}", expected.body);
    assert!(expected.body.contains("data-topics=\"items\""), "it does not become the item's by itself");
    let told = reader.client.shared.store.with(move |connection| {
        Ok(items::put(connection, target, &item("web01", ItemState::Protected), now(), now())?)
    });
    assert_eq!(told.await.unwrap(), id);
    assert!(reader.get(&path).await.body.contains("Recovery points"));
}

#[tokio::test]
async fn forms_are_carried_out_and_answered_with_a_redirection() {
    let admin = Reader::new(Role::Administrator).await;
    admin.fill().await;
    let ordered = admin.post("/items/1/test-failover", "point=bookmark&bookmark=8").await;
    let job = location(&ordered);
    assert!(ordered.status == 303 && job.starts_with("/jobs/"), "{job}");
    let page = admin.get(&job).await.body;
    assert!(
        page.contains("test failover of web01 to recovery point 8") && page.contains("The job is ordered"),
        "{page}"
    );
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
        // Workflows of an item come one after the other.
        let (job, _) = job.split_once('?').unwrap();
        assert_eq!(admin.post(&format!("{job}/cancel"), "").await.status, 303);
    }
    let unplanned = admin.get("/items/1/failover").await.body;
    assert!(unplanned.contains("no source agent that is registered here"), "{unplanned}");
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
            disks: Vec::new(),
            state: "sending".into(),
            ..Protection::default()
        };
        let beat = heartbeat(described(HostKind::SourceAgent, 2), Vec::new());
        Ok(reports::put(connection, 2, &Heartbeat { protection: Some(protection), ..beat }, now())?)
    });
    web02.await.unwrap();
    assert!(admin.get("/items/1").await.body.contains("action=\"/items/1/bookmark\""));
    let set = location(&admin.post("/items/1/bookmark", bookmark).await);
    let set = admin.get(&set).await.body;
    assert!(set.contains("application-consistent bookmark before-the-upgrade") && set.contains("web02"));

    let planned = admin.get("/items/1/failover").await;
    assert_sound("/items/1/failover", &planned);
    assert!(planned.body.contains("value=\"planned\" id=\"how-planned\" checked"), "{}", planned.body);
    let workflow = location(&admin.post("/items/1/failover", "how=planned&point=latest").await);
    let page = admin.get(&workflow).await;
    assert_sound(&workflow, &page);
    for shown in
        ["Planned failover of web01", "quiesce with bookmark", "(web02)</a>", "fail over web01 to bookmark:"]
    {
        assert!(page.body.contains(shown), "{shown}: {}", page.body);
    }
    let busy = admin.post("/items/1/commit", "").await;
    assert!(busy.status == 409 && busy.body.contains("planned failover of web01 goes on"), "{}", busy.body);
    let step = page
        .body
        .split("<ol class=\"stages\">")
        .nth(1)
        .unwrap()
        .split('"')
        .find(|part| part.starts_with("/jobs/"));
    let step = admin.get(step.unwrap()).await.body;
    assert!(
        step.contains("a step of <a href=\"/jobs/") && step.contains("planned failover of web01"),
        "{step}"
    );
    let jobs = admin.get("/jobs").await.body;
    assert!(jobs.contains("planned failover of web01") && !jobs.contains(">quiesce with"), "{jobs}");

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
async fn a_group_has_a_page_from_which_it_is_moved() {
    let admin = Reader::new(Role::Administrator).await;
    admin.fill().await;
    assert_eq!(location(&admin.post("/groups", "name=Shop").await), "/policies?done=group");
    assert!(admin.get("/policies").await.body.contains("<a href=\"/groups/1\">Shop</a>"));
    let empty = admin.get("/groups/1").await.body;
    assert!(empty.contains("No items are in it") && !empty.contains("/groups/1/failover"), "{empty}");
    for item in [1, 2] {
        assert_eq!(admin.post(&format!("/items/{item}/settings"), "group=1").await.status, 303);
    }
    let page = admin.get("/groups/1").await.body;
    assert!(page.contains("There are none yet") && page.contains("href=\"/groups/1/failover\""), "{page}");
    let ask = admin.get("/groups/1/failover").await.body;
    assert!(ask.contains("only a planned failover can be ordered"), "{ask}");
    let shared = admin.client.shared.store.with(|connection| {
        for name in ["web01", "db01"] {
            let mut told = item(name, ItemState::Protected);
            let points = told.points.as_mut().unwrap();
            points[0].bookmark.as_mut().unwrap().group = Some("Shop".into());
            items::put(connection, 1, &told, now(), now())?;
        }
        Ok(())
    });
    shared.await.unwrap();
    for path in ["/groups/1", "/groups/1/failover"] {
        let page = admin.get(path).await.body;
        assert!(page.contains("&lt;script&gt;") || page.contains("&#60;script&#62;"), "{page}");
        assert!(!page.contains(HOSTILE), "{page}");
    }
    for (path, form, status, said) in [
        ("/groups/1/failover", "how=point&bookmark=nightly", 409, "no bookmark that all of its items share"),
        ("/groups/1/failover", "how=planned", 409, "no source agent"),
        ("/groups/1/failover/cancel", "", 409, "none of its items is failed over"),
        ("/groups/1/commit", "", 409, "not failed over"),
        ("/groups/1/bookmark", "name=", 400, "1 to 50 characters"),
        ("/groups/1/bookmark", "name=a", 409, "no source agent"),
        ("/groups/x/commit", "", 404, "group x"),
        ("/items/1/failover", "point=latest", 409, "it does not fail over alone"),
    ] {
        let answer = admin.post(path, form).await;
        assert!(answer.status == status && answer.body.contains(said), "{path} {form}: {}", answer.body);
    }
    for path in ["/groups/1/failover/cancel", "/groups/1/commit"] {
        assert!(admin.get(path).await.body.contains("Do not"), "{path}");
    }
    assert_eq!(admin.get("/groups/2").await.status, 404);
    let form = "how=point&bookmark=%3Cscript%3Ealert%28%27x%27%29%3C%2Fscript%3E%22%26";
    let ordered = admin.post("/groups/1/failover", form).await;
    let job = admin.get(location(&ordered).split('?').next().unwrap()).await.body;
    assert!(
        job.contains("Fail over group Shop") && job.matches("has not taken it yet").count() == 2,
        "{job}"
    );
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
async fn process_servers_are_listed_and_are_ordered_nothing() {
    let reader = Reader::new(Role::Operator).await;
    let none = reader.get("/infrastructure").await.body;
    assert!(none.contains("mt-process-server register -i "), "{none}");
    let filled = reader.client.shared.store.with(|connection| {
        let relay = register(connection, HostKind::ProcessServer, 3);
        let beat = heartbeat(described(HostKind::ProcessServer, 3), Vec::new());
        reports::put(connection, relay.row, &beat, now())?;
        Ok(relay.id)
    });
    let id = filled.await.unwrap();
    let page = reader.get("/infrastructure").await.body;
    let section = page.split("aria-labelledby=\"relays\"").nth(1).unwrap();
    assert!(section.contains("web03") && section.contains("connected"), "{section}");
    assert!(!section.contains("data-label=\"Disks\""), "{section}");
    let host = reader.get(&format!("/infrastructure/{id}")).await.body;
    assert!(host.contains("process server") && !host.contains("Check the machine"), "{host}");
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
