//! The API as a program sees it, without a network.

mod document;
mod settings;
mod site;

use crate::access::Role;
use crate::access::tests::{Client, user};
use crate::store::audit;
use serde_json::Value;

/// Somebody who has logged in.
struct Person<'a> {
    client: &'a Client,
    bearer: String,
}

impl<'a> Person<'a> {
    async fn new(client: &'a Client, name: &'static str, role: Role) -> Person<'a> {
        let session = user(client, name, role).await;
        Person { client, bearer: format!("Bearer {}", session.token) }
    }

    /// Status and body of the answer.
    async fn send(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut headers = vec![("authorization", &*self.bearer)];
        headers.extend(body.is_some().then_some(("content-type", "application/json")));
        let text = body.map(|body| body.to_string()).unwrap_or_default();
        let answer = self.client.send(method, path, &headers, &text).await;
        (answer.status, serde_json::from_str(&answer.body).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.send("GET", path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Status and reason of a refusal.
    async fn refused(&self, method: &str, path: &str, body: Option<Value>) -> (u16, String) {
        let (status, answer) = self.send(method, path, body).await;
        assert!(status >= 400, "{method} {path}: {status} {answer}");
        (status, format!("{}: {}", answer["object"].as_str().unwrap(), answer["why"].as_str().unwrap()))
    }
}

/// What came of each change, the newest first.
async fn audited(client: &Client) -> Vec<String> {
    let entries = client.shared.store.read(|connection| Ok(audit::newest(connection, 100)?)).await.unwrap();
    let changes = entries.into_iter().filter(|entry| !entry.outcome.starts_with("log"));
    changes.map(|entry| format!("{}: {}", entry.outcome, entry.detail)).collect()
}
