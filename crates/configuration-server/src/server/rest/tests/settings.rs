//! Policies, groups and users.

use super::{Person, audited};
use crate::access::Role;
use crate::access::tests::Client;
use serde_json::{Value, json};

const POLICIES: &str = "/api/v1/policies";
const GROUPS: &str = "/api/v1/groups";
const USERS: &str = "/api/v1/users";

fn policy(name: &str) -> Value {
    json!({"name": name, "window_seconds": 172_800, "rpo_threshold_seconds": 300,
        "application_consistent_every_seconds": null})
}

#[tokio::test]
async fn a_policy_is_added_changed_and_removed() {
    let client = Client::new();
    let ann = Person::new(&client, "ann", Role::Administrator).await;
    let (status, gold) = ann.send("POST", POLICIES, Some(policy("Gold"))).await;
    assert_eq!((status, &gold["items"]), (201, &json!(0)));
    let path = format!("{POLICIES}/{}", gold["id"]);
    assert_eq!(ann.get(&path).await, gold);
    let taken = ann.refused("POST", POLICIES, Some(policy("gold"))).await;
    assert_eq!(taken, (409, "policy gold: another policy has it".into()));
    assert_eq!(ann.send("PUT", &path, Some(policy("Platinum"))).await.0, 200);
    let standard = ann.refused("DELETE", &format!("{POLICIES}/1"), None).await;
    assert_eq!(standard.0, 409);
    assert_eq!(ann.send("DELETE", &path, None).await, (204, Value::Null));
    for (method, body) in [("GET", None), ("PUT", Some(policy("Other"))), ("DELETE", None)] {
        assert_eq!(ann.refused(method, &path, body).await.0, 404, "{method}");
    }
    let names: Vec<Value> = ann.get(POLICIES).await["entries"].as_array().unwrap().clone();
    assert_eq!((names.len(), &names[0]["name"]), (1, &json!("Failback")));
    let changes = audited(&client).await;
    let outcomes: Vec<&str> = changes.iter().map(|change| change.split(':').next().unwrap()).collect();
    assert_eq!(outcomes, ["policy removed", "policy changed", "policy added"]);
    assert!(changes[2].contains("by ann: Gold: window 2 d, RPO threshold 5 min"), "{}", changes[2]);
    let events = ann.get("/api/v1/events").await;
    assert_eq!(events["entries"][0]["what"], "a policy was removed");
}

#[tokio::test]
async fn each_wrong_field_is_named_and_changes_nothing() {
    let client = Client::new();
    let ann = Person::new(&client, "ann", Role::Administrator).await;
    let wrong = [
        ("name", json!(" Gold")),
        ("name", json!(7)),
        ("window_seconds", json!(59)),
        ("window_seconds", json!(1.5)),
        ("rpo_threshold_seconds", json!("300")),
        ("application_consistent_every_seconds", json!(0)),
        ("colour", json!("red")),
    ];
    for (field, value) in wrong {
        let mut body = policy("Gold");
        body[field] = value.clone();
        let (status, why) = ann.refused("POST", POLICIES, Some(body)).await;
        assert!(status == 400 && why.starts_with(field), "{field} {value}: {why}");
    }
    let mut short = policy("Gold");
    short.as_object_mut().unwrap().remove("window_seconds");
    assert!(
        ann.refused("POST", POLICIES, Some(short)).await.1.starts_with("window_seconds: it must be there")
    );
    for path in ["?limit=0", "?limit=1001", "?limit=x", "?offset=-1", "?sort=name", "?limit=1&limit=1", "?%"]
    {
        assert_eq!(ann.refused("GET", &format!("{POLICIES}{path}"), None).await.0, 400, "{path}");
    }
    let unnamed = client.send("POST", POLICIES, &[("authorization", &*ann.bearer)], "{}").await;
    assert!(unnamed.status == 400 && unnamed.body.contains("Content-Type"), "{}", unnamed.body);
    assert_eq!((ann.get(POLICIES).await["total"].as_u64(), audited(&client).await.len()), (Some(1), 0));
}

#[tokio::test]
async fn groups_are_paged() {
    let client = Client::new();
    let ann = Person::new(&client, "ann", Role::Administrator).await;
    for name in ["c", "a", "b"] {
        assert_eq!(ann.send("POST", GROUPS, Some(json!({"name": name}))).await.0, 201);
    }
    let page = ann.get(&format!("{GROUPS}?limit=2&offset=1")).await;
    let names: Vec<&Value> = page["entries"].as_array().unwrap().iter().map(|group| &group["name"]).collect();
    assert_eq!((&page["total"], names), (&json!(3), vec![&json!("b"), &json!("c")]));
    let path = format!("{GROUPS}/{}", page["entries"][0]["id"]);
    assert_eq!(ann.refused("PUT", &path, Some(json!({"name": "A"}))).await.0, 409);
    assert_eq!(ann.send("PUT", &path, Some(json!({"name": "B"}))).await.0, 200);
    assert_eq!(ann.get(&path).await["members"], json!([]));
    assert_eq!(ann.send("DELETE", &path, None).await.0, 204);
    assert_eq!(ann.refused("GET", &path, None).await.0, 404);
}

#[tokio::test]
async fn users_come_and_go_but_nobody_shuts_himself_out() {
    let client = Client::new();
    let ann = Person::new(&client, "ann", Role::Administrator).await;
    let bob = json!({"name": "bob", "role": "reader", "password": "four words in a row"});
    let (status, bob) = ann.send("POST", USERS, Some(bob)).await;
    assert_eq!((status, &bob["role"], bob.get("password")), (201, &json!("reader"), None));
    let short = json!({"name": "eve", "role": "reader", "password": "short"});
    let (status, why) = ann.refused("POST", USERS, Some(short)).await;
    assert!(status == 400 && why.starts_with("the password"), "{why}");
    let path = format!("{USERS}/{}", bob["id"]);
    let (status, changed) = ann.send("PUT", &path, Some(json!({"role": "operator"}))).await;
    assert_eq!((status, &changed["role"]), (200, &json!("operator")));
    let users = ann.get(USERS).await;
    let own = format!("{USERS}/{}", users["entries"][0]["id"]);
    assert_eq!(users["entries"][0]["name"], "ann");
    for (method, body) in [("PUT", Some(json!({"role": "reader"}))), ("DELETE", None)] {
        let (status, why) = ann.refused(method, &own, body).await;
        assert_eq!((status, why.as_str()), (409, "user ann: it is the user who asks"));
    }
    assert_eq!(ann.send("DELETE", &path, None).await.0, 204);
    assert_eq!(ann.refused("DELETE", &path, None).await.0, 404);
    let changes = audited(&client).await;
    assert_eq!(changes[2], "user added: by ann: bob, reader");
    assert!(!changes.iter().any(|change| change.contains("four words")));
    let audit = ann.get("/api/v1/audit?limit=1").await;
    assert_eq!(audit["entries"][0]["outcome"], "user removed");
    let earlier = ann.get(&format!("/api/v1/audit?limit=1&before={}", audit["next"])).await;
    assert_eq!(earlier["entries"][0]["outcome"], "user changed");
}
