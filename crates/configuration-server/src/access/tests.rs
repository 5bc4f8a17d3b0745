//! Requests to the routes as they are, without a network.

use super::*;
use crate::server::{Peer, Shared};
use crate::store::{audit, users};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::HeaderMap;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;

const PASSWORD: &str = "correct horse battery";
const HERE: (&str, &str) = ("origin", "https://cs.example:8443");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const SESSION: &str = "/api/v1/session";

/// Somebody who sends requests to the routes of a server with an empty state.
pub(crate) struct Client {
    pub(crate) shared: Arc<Shared>,
    routes: TowerToHyperService<Router>,
    _folder: tempfile::TempDir,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Client {
    pub(crate) fn new() -> Client {
        let folder = tempfile::tempdir().unwrap();
        let (shared, routes) = Shared::test(folder.path());
        Client { shared, routes: TowerToHyperService::new(routes), _folder: folder }
    }

    /// Sends a request to `cs.example:8443`, unless the headers say otherwise.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).extension(Arc::new(Peer::test()));
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "cs.example:8443");
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let (parts, body) = self.routes.call(request).await.unwrap().into_parts();
        let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn log_in(&self, name: &str, password: &str) -> Answer {
        let body = serde_json::json!({ "user": name, "password": password }).to_string();
        self.send("POST", SESSION, &[], &body).await
    }

    async fn audit(&self) -> Vec<(String, String)> {
        let entries = self.shared.store.read(|connection| Ok(audit::newest(connection, 100)?)).await.unwrap();
        entries.into_iter().map(|entry| (entry.outcome, entry.detail)).collect()
    }
}

/// Adds a user, who logs in.
pub(crate) async fn user(client: &Client, name: &'static str, role: Role) -> LoggedIn {
    let hash = hash(Password::from(PASSWORD.to_owned())).await.unwrap();
    let added = client.shared.store.with(move |connection| Ok(users::add(connection, name, role, &hash, 1)?));
    added.await.unwrap().unwrap();
    let address = "127.0.0.1".parse().unwrap();
    log_in(&client.shared, address, name, Password::from(PASSWORD.to_owned())).await.unwrap()
}

fn cookie_of(session: &LoggedIn) -> String {
    cookie(session).to_str().unwrap().split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_program_logs_in_asks_and_logs_out() {
    let client = Client::new();
    user(&client, "ann", Role::Operator).await;
    let answer = client.log_in("Ann", PASSWORD).await;
    assert_eq!((answer.status, answer.headers.get("set-cookie")), (200, None));
    let session: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((session["user"].as_str(), session["role"].as_str()), (Some("ann"), Some("operator")));
    let bearer = format!("Bearer {}", session["token"].as_str().unwrap());
    let headers = [("authorization", &*bearer)];
    let who: serde_json::Value =
        serde_json::from_str(&client.send("GET", SESSION, &headers, "").await.body).unwrap();
    assert_eq!((&who["user"], &who["csrf"]), (&session["user"], &session["csrf"]));
    // No page sends it, so it needs neither origin nor CSRF token.
    assert_eq!(client.send("DELETE", SESSION, &headers, "").await.status, 200);
    assert_eq!(client.send("GET", SESSION, &headers, "").await.status, 401);
    let outcomes: Vec<String> = client.audit().await.into_iter().map(|(outcome, _)| outcome).collect();
    assert_eq!(outcomes, ["logged out", "logged in", "logged in"]);
}

#[tokio::test]
async fn guesses_are_rationed_and_written_down_without_what_was_typed() {
    let client = Client::new();
    user(&client, "ann", Role::Reader).await;
    let typed_into_the_wrong_field = "My-Secret-Password-1";
    for name in ["ann", typed_into_the_wrong_field, "ann", "bob", "ann"] {
        let answer = client.log_in(name, "Wrong-Password-2").await;
        assert_eq!(answer.status, 401);
        assert!(answer.body.contains("user name or password is wrong"), "{}", answer.body);
    }
    let locked = client.log_in("ann", PASSWORD).await;
    assert!(locked.status == 429 && locked.body.contains("\"retry_after\":30"), "{}", locked.body);
    client.log_in("ann", PASSWORD).await;
    let audit = client.audit().await;
    let refused = audit.iter().filter(|(outcome, _)| outcome == "log-in refused");
    let details: Vec<&str> = refused.map(|(_, detail)| &**detail).collect();
    let (ann, nobody) = ("user ann", "a user that does not exist");
    assert_eq!(details, [ann, nobody, ann, nobody, ann]);
    assert_eq!(audit.iter().filter(|(outcome, _)| outcome == "locked out").count(), 1);
    assert!(!format!("{audit:?}").contains("Secret") && !format!("{audit:?}").contains("Wrong"));
}

#[tokio::test]
async fn who_succeeds_starts_anew() {
    let client = Client::new();
    user(&client, "ann", Role::Reader).await;
    for _ in 0..3 {
        for _ in 0..4 {
            assert_eq!(client.log_in("ann", "x").await.status, 401);
        }
        assert_eq!(client.log_in("ann", PASSWORD).await.status, 200);
    }
}

#[tokio::test]
async fn what_comes_with_the_cookie_must_come_from_our_own_page() {
    let client = Client::new();
    let session = user(&client, "ann", Role::Administrator).await;
    let other = user(&client, "bob", Role::Administrator).await;
    let cookie = ("cookie", &*cookie_of(&session));
    assert_eq!(client.send("GET", SESSION, &[cookie], "").await.status, 200);
    let token = ("x-csrf-token", &*session.csrf);
    let (field, wrong_field) = (format!("a=b&csrf={}", session.csrf), format!("csrf={}", other.csrf));
    let refused: [(&[(&str, &str)], &str); 10] = [
        (&[], ""),
        (&[HERE], ""),
        (&[token], ""),
        (&[("origin", "https://evil.example"), token], ""),
        (&[("origin", "http://cs.example:8443"), token], ""),
        (&[("origin", "https://cs.example"), token], ""),
        (&[("origin", "null"), token], ""),
        (&[HERE, ("origin", "https://evil.example"), token], ""),
        (&[HERE, ("x-csrf-token", &other.csrf)], &field),
        (&[HERE, FORM], &wrong_field),
    ];
    for (headers, body) in refused {
        let headers: Vec<_> = headers.iter().copied().chain([cookie]).collect();
        let answer = client.send("DELETE", SESSION, &headers, body).await;
        assert_eq!(answer.status, 403, "{headers:?}: {}", answer.body);
        assert!(answer.body.contains("\"code\":\"forbidden\""), "{}", answer.body);
    }
    // A field of something that is no form.
    let plain = [cookie, HERE, ("content-type", "text/plain")];
    assert_eq!(client.send("DELETE", SESSION, &plain, &field).await.status, 403);
    let long = format!("{field}&long={}", "x".repeat(70_000));
    assert_eq!(client.send("DELETE", SESSION, &[cookie, HERE, FORM], &long).await.status, 400);
    assert_eq!(client.send("GET", SESSION, &[cookie], "").await.status, 200);
    assert_eq!(client.send("DELETE", SESSION, &[cookie, HERE, FORM], &field).await.status, 200);
    assert_eq!(client.send("GET", SESSION, &[cookie], "").await.status, 401);
    let others = cookie_of(&other);
    let headers = [("cookie", &*others), HERE, ("x-csrf-token", &other.csrf)];
    let ended = client.send("DELETE", SESSION, &headers, "");
    assert!(ended.await.headers["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
}

#[tokio::test]
async fn nobody_is_logged_in_by_a_page_of_somebody_else() {
    let client = Client::new();
    user(&client, "ann", Role::Reader).await;
    let body = format!(r#"{{"user":"ann","password":"{PASSWORD}"}}"#);
    let foreign = [("origin", "https://evil.example")];
    assert_eq!(client.send("POST", SESSION, &foreign, &body).await.status, 403);
    assert_eq!(client.send("POST", SESSION, &[HERE], &body).await.status, 200);
}

#[tokio::test]
async fn each_answer_forbids_what_the_portal_does_not_need() {
    let client = Client::new();
    for path in ["/api/v1/version", "/api/v1/session", "/nothing", "/api/v1/session/"] {
        let answer = client.send("GET", path, &[], "").await;
        let header = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
        assert!(header("content-security-policy").starts_with("default-src 'none'; script-src 'self';"));
        assert!(header("content-security-policy").contains("frame-ancestors 'none'"));
        assert_eq!(header("strict-transport-security"), "max-age=31536000");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "same-origin");
        assert_eq!(header("cache-control"), "no-store");
        assert!(header("permissions-policy").contains("camera=()"));
        assert_eq!(header("cross-origin-opener-policy"), "same-origin");
        assert_eq!(header("cross-origin-resource-policy"), "same-origin");
        assert_eq!(header("cross-origin-embedder-policy"), "require-corp");
    }
}

#[tokio::test]
async fn a_request_names_its_server_sanely() {
    let client = Client::new();
    let status = async |hosts: &[(&str, &str)]| client.send("GET", "/api/v1/version", hosts, "").await.status;
    for host in ["cs.example", "10.0.0.9:8443", "[2001:db8::1]:443", "CS"] {
        assert_eq!(status(&[("host", host)]).await, 200, "{host}");
    }
    for host in ["a b", "a/b", "<x>", "user@cs", &"x".repeat(300)] {
        assert_eq!(status(&[("host", host)]).await, 400, "{host}");
    }
    assert_eq!(status(&[("host", "")]).await, 400);
    assert_eq!(status(&[("host", "one.example"), ("host", "two.example")]).await, 400);
}

#[tokio::test]
async fn who_asks_while_a_request_lasts_hears_of_the_end_of_a_session() {
    let client = Client::new();
    let session = user(&client, "ann", Role::Reader).await;
    let headers = HeaderMap::from_iter([("cookie".parse().unwrap(), cookie_of(&session).parse().unwrap())]);
    assert_eq!(who(&client.shared, &headers).await.unwrap().unwrap().csrf, session.csrf);
    let ended = client.shared.store.with(|connection| {
        let ann = users::by_name(connection, "ann")?.unwrap();
        Ok(users::set_password(connection, ann.id, "another")?)
    });
    ended.await.unwrap().unwrap();
    assert_eq!(who(&client.shared, &headers).await.unwrap(), None);
    assert_eq!(who(&client.shared, &HeaderMap::new()).await.unwrap(), None);
}
