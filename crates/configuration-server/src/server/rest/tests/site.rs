//! Hosts, what they have, and what they are ordered to do.

use super::{Person, audited};
use crate::access::Role;
use crate::access::tests::Client;
use crate::store::hosts::Known;
use crate::store::samples::SLOT;
use crate::store::testing::{NOW, described, heartbeat, item, register};
use crate::store::{items, reports};
use control_api::agent::HostDisk;
use control_api::registration::HostKind;
use control_api::{Bookmark, ItemState, Point};
use serde_json::{Value, json};

/// Two master targets, the first of which tells of two items, and a source agent that never told anything.
async fn furnish(client: &Client) -> Vec<Known> {
    let furnished = client.shared.store.with(|store| {
        let first = register(store, HostKind::MasterTarget, 1);
        let second = register(store, HostKind::MasterTarget, 2);
        let agent = register(store, HostKind::SourceAgent, 3);
        for (known, names) in [(&first, &["db01", "web01"][..]), (&second, &["web02"])] {
            let mut told = heartbeat(described(known.kind, 1), Vec::new());
            let disk = HostDisk {
                name: "sdb".into(),
                id: Some("36000c29".into()),
                size: 1 << 30,
                paths: 2,
                used_for: "retention volume".into(),
            };
            told.disks = vec![disk.clone(), HostDisk { name: "sdc".into(), id: None, ..disk }];
            reports::put(store, known.row, &told, NOW)?;
            for name in names {
                items::put(store, known.row, &item(name, ItemState::Protected), NOW, NOW)?;
            }
        }
        reports::lost(store, second.row)?;
        Ok(vec![first, second, agent])
    });
    furnished.await.unwrap()
}

async fn item_of(person: &Person<'_>, name: &str) -> Value {
    let found = person.get(&format!("/api/v1/items?text={name}")).await;
    assert_eq!(found["total"], 1, "{found}");
    found["entries"][0].clone()
}

#[tokio::test]
async fn everything_is_listed_with_whose_it_is() {
    let client = Client::new();
    let hosts = furnish(&client).await;
    let rea = Person::new(&client, "rea", Role::Reader).await;
    let all = rea.get("/api/v1/hosts").await;
    let states: Vec<&Value> = all["entries"].as_array().unwrap().iter().map(|host| &host["state"]).collect();
    assert_eq!(states, [&json!("connected"), &json!("not-connected"), &json!("new")]);
    let agents = rea.get("/api/v1/hosts?kind=source-agent&state=new&text=WEB").await;
    assert_eq!((&agents["total"], &agents["entries"][0]["id"]), (&json!(1), &json!(hosts[2].id)));
    assert_eq!(rea.get("/api/v1/hosts?kind=process-server").await["total"], 0);
    let host = rea.get(&format!("/api/v1/hosts/{}", hosts[0].id)).await;
    assert_eq!((&host["name"], host["disks"].as_array().unwrap().len()), (&json!("mt01"), 2));
    let disks = rea.get(&format!("/api/v1/disks?host={}&limit=1", hosts[1].id)).await;
    assert_eq!((&disks["total"], &disks["entries"][0]["host_name"]), (&json!(2), &json!("mt02")));
    assert_eq!(disks["entries"][0]["used_for"], "retention volume");
    let items = rea.get("/api/v1/items?state=protected&limit=2&offset=1").await;
    let names: Vec<&Value> = items["entries"].as_array().unwrap().iter().map(|item| &item["name"]).collect();
    assert_eq!((&items["total"], names), (&json!(3), vec![&json!("web01"), &json!("web02")]));
    let item = &items["entries"][0];
    let detail = rea.get(&format!("/api/v1/items/{}", item["id"])).await;
    assert_eq!((&detail["status"]["name"], &detail["policy"]), (&json!("web01"), &json!(1)));
    let rpo = rea.get(&format!("/api/v1/items/{}/rpo", item["id"])).await;
    assert_eq!(
        rpo["entries"][0],
        json!({"time": NOW - NOW % SLOT, "rpo_seconds": 5, "bytes_per_second": 100})
    );
    assert_eq!(rea.get(&format!("/api/v1/items/{}/points", item["id"])).await["total"], 0);
    let overview = rea.get("/api/v1/overview").await;
    assert_eq!(overview["master_targets"], json!({"connected": 1, "not_connected": 1, "new": 0}));
    assert_eq!(overview["process_servers"], json!({"connected": 0, "not_connected": 0, "new": 0}));
    assert_eq!(overview["items"]["states"], json!({"protected": 3}));
    assert_eq!(overview["items"]["worst_rpo"][0]["rpo_seconds"], 5);
    for path in
        ["/api/v1/hosts/1", "/api/v1/items/99", "/api/v1/items/x", "/api/v1/jobs/1", "/api/v1/items/99/rpo"]
    {
        assert_eq!(rea.refused("GET", path, None).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn an_item_gets_a_policy_and_a_group() {
    let client = Client::new();
    furnish(&client).await;
    let ann = Person::new(&client, "ann", Role::Administrator).await;
    let oli = Person::new(&client, "oli", Role::Operator).await;
    let gold = json!({"name": "Gold", "window_seconds": 60, "rpo_threshold_seconds": 1,
        "application_consistent_every_seconds": 60});
    let gold = ann.send("POST", "/api/v1/policies", Some(gold)).await.1;
    let shop = ann.send("POST", "/api/v1/groups", Some(json!({"name": "Shop"}))).await.1;
    let (web01, web02) = (item_of(&oli, "web01").await, item_of(&oli, "web02").await);
    let path = format!("/api/v1/items/{}", web01["id"]);
    let both = json!({"policy": gold["id"], "group": shop["id"]});
    let (status, changed) = oli.send("PATCH", &path, Some(both)).await;
    assert_eq!((status, &changed["policy"], &changed["group"]), (200, &gold["id"], &shop["id"]));
    let used = ann.refused("DELETE", &format!("/api/v1/policies/{}", gold["id"]), None).await;
    assert!(used.0 == 409 && used.1.ends_with("1 items have it"), "{used:?}");
    let elsewhere = format!("/api/v1/items/{}", web02["id"]);
    let refused =
        oli.refused("PATCH", &elsewhere, Some(json!({"policy": gold["id"], "group": shop["id"]}))).await;
    assert!(refused.0 == 409 && refused.1.contains("its items are on mt01"), "{refused:?}");
    // Nothing of what was refused was done.
    assert_eq!(item_of(&oli, "web02").await["policy"], 1);
    for body in [json!({"policy": 99}), json!({"group": 99})] {
        assert_eq!(oli.refused("PATCH", &path, Some(body)).await.0, 404);
    }
    for body in [json!({}), json!({"policy": null}), json!({"group": 0}), json!({"name": "x"})] {
        assert_eq!(oli.refused("PATCH", &path, Some(body)).await.0, 400);
    }
    assert_eq!(oli.send("PATCH", &path, Some(json!({"group": null}))).await.1["group"], Value::Null);
    let changes = audited(&client).await;
    assert_eq!(changes[1], "item changed: by oli: web01: policy Gold, group Shop");
}

#[tokio::test]
async fn a_job_is_ordered_of_the_right_host_and_cancelled() {
    let client = Client::new();
    let hosts = furnish(&client).await;
    let oli = Person::new(&client, "oli", Role::Operator).await;
    let order = |host: &str, job: Value| Some(json!({"host": host, "job": job}));
    let resync = |item: &str| json!({"kind": "resync", "item": item});
    let (status, job) = oli.send("POST", "/api/v1/jobs", order(&hosts[0].id, resync("web01"))).await;
    assert_eq!((status, &job["state"], &job["ordered_by"]), (201, &json!("queued"), &json!("oli")));
    assert_eq!(job["item"], item_of(&oli, "web01").await["id"]);
    let path = format!("/api/v1/jobs/{}", job["id"].as_str().unwrap());
    assert_eq!(oli.get(&path).await, job);
    let bookmark = json!({"kind": "bookmark", "name": "nightly", "application_consistent": true});
    for (status, host, job) in [
        (404, "0123456789abcdef0123456789abcdef", resync("web01")),
        (404, &*hosts[0].id, resync("web02")),
        (409, &*hosts[0].id, bookmark.clone()),
        (409, &*hosts[2].id, json!({"kind": "check"})),
        (400, "mt01", json!({"kind": "check"})),
        (400, &*hosts[0].id, json!({"kind": "format"})),
    ] {
        let refused = oli.refused("POST", "/api/v1/jobs", order(host, job.clone())).await;
        assert_eq!(refused.0, status, "{host} {job}: {}", refused.1);
    }
    assert_eq!(oli.send("POST", "/api/v1/jobs", order(&hosts[2].id, bookmark)).await.0, 201);
    let newest = oli.get("/api/v1/jobs?limit=1").await;
    assert_eq!(newest["entries"][0]["job"]["kind"], "bookmark");
    let earlier = oli.get(&format!("/api/v1/jobs?limit=1&before={}", newest["next"])).await;
    assert_eq!(earlier["entries"][0]["id"], job["id"]);
    let (status, cancelled) = oli.send("POST", &format!("{path}/cancel"), None).await;
    assert_eq!((status, &cancelled["state"]), (200, &json!("cancelled")));
    assert_eq!(oli.refused("POST", &format!("{path}/cancel"), None).await.0, 409);
    let open = oli.get("/api/v1/jobs?open=true").await;
    assert_eq!((open["entries"].as_array().unwrap().len(), &open["next"]), (1, &Value::Null));
    let changes = audited(&client).await;
    assert_eq!(changes[0], format!("job cancelled: by oli: {} resync web01", job["id"].as_str().unwrap()));
}

#[tokio::test]
async fn a_revoked_host_is_found_only_in_the_list() {
    let client = Client::new();
    let hosts = furnish(&client).await;
    let ann = Person::new(&client, "ann", Role::Administrator).await;
    let path = format!("/api/v1/hosts/{}", hosts[0].id);
    assert_eq!(ann.send("DELETE", &path, None).await.0, 204);
    for method in ["GET", "DELETE"] {
        assert_eq!(ann.refused(method, &path, None).await.0, 404, "{method}");
    }
    assert_eq!(ann.get("/api/v1/hosts").await["total"], 2);
    let revoked = ann.get("/api/v1/hosts?state=revoked").await;
    assert_eq!(revoked["entries"][0]["id"], json!(hosts[0].id));
    assert_eq!(ann.get("/api/v1/items").await["total"], 1);
    assert_eq!(ann.get("/api/v1/items?gone=true").await["total"], 2);
    let order = json!({"host": hosts[0].id, "job": {"kind": "check"}});
    assert_eq!(ann.refused("POST", "/api/v1/jobs", Some(order)).await.0, 409);
    assert_eq!(ann.get("/api/v1/events").await["entries"][0]["kind"], "revoked");
    let changes = audited(&client).await;
    assert_eq!(changes[0], format!("revoked: by ann: master target {}", hosts[0].id));
}

#[tokio::test]
async fn a_group_tells_the_points_that_its_items_share() {
    let client = Client::new();
    furnish(&client).await;
    let ann = Person::new(&client, "ann", Role::Administrator).await;
    let shop = ann.send("POST", "/api/v1/groups", Some(json!({"name": "Shop"}))).await.1;
    let points = format!("/api/v1/groups/{}/points", shop["id"]);
    assert_eq!(ann.get(&points).await, json!({"total": 0, "entries": []}));
    let filled = client.shared.store.with(|store| {
        for (name, bookmarks) in [("db01", &["a-1", "b-2"][..]), ("web01", &["b-2", "a-1", "c-3"])] {
            let point = |(number, name): (usize, &&str)| Point {
                number: number as u64,
                source_time: NOW,
                receive_time: NOW + name.len() as u64 + u64::from(name.starts_with('b')),
                bookmark: Some(Bookmark {
                    name: (*name).to_owned(),
                    application_consistent: true,
                    group: Some("Shop".into()),
                }),
                tested: None,
                journal_bytes: 0,
            };
            let mut told = item(name, ItemState::Protected);
            told.points = Some(bookmarks.iter().enumerate().map(point).collect());
            items::put(store, 1, &told, NOW, NOW)?;
        }
        Ok(())
    });
    filled.await.unwrap();
    for name in ["db01", "web01"] {
        let path = format!("/api/v1/items/{}", item_of(&ann, name).await["id"]);
        assert_eq!(ann.send("PATCH", &path, Some(json!({"group": shop["id"]}))).await.0, 200);
    }
    let shared = ann.get(&points).await;
    assert_eq!(shared["total"], 2, "{shared}");
    assert_eq!(
        shared["entries"][0],
        json!({"name": "b-2", "application_consistent": true, "source_time": NOW, "receive_time": NOW + 4})
    );
    assert_eq!(ann.get(&format!("{points}?limit=1&offset=1")).await["entries"][0]["name"], "a-1");
    assert_eq!(ann.refused("GET", "/api/v1/groups/99/points", None).await.0, 404);
    let order = |body: Value| ann.send("POST", "/api/v1/workflows", Some(body));
    let failover =
        |bookmark: &str| json!({"workflow": "group-failover", "group": shop["id"], "bookmark": bookmark});
    for (body, status) in [
        (failover("c-3"), 409),
        (failover(""), 400),
        (json!({"workflow": "group-commit", "group": shop["id"], "bookmark": "a-1"}), 400),
        (json!({"workflow": "group-commit", "group": 99}), 404),
        (json!({"workflow": "group-commit", "item": shop["id"]}), 400),
        (failover("a-1"), 201),
        (failover("a-1"), 409),
    ] {
        assert_eq!(order(body.clone()).await.0, status, "{body}");
    }
    let jobs = ann.get("/api/v1/jobs?open=true").await;
    let kinds: Vec<&Value> = jobs["entries"].as_array().unwrap().iter().map(|job| &job["job"]).collect();
    assert_eq!(kinds.len(), 3);
    assert_eq!(
        kinds[2],
        &json!({"workflow": "group-failover", "group": shop["id"], "group_name": "Shop", "bookmark": "a-1"})
    );
}
