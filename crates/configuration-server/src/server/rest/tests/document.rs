//! The document and the routes say the same.

use super::super::DOCUMENT;
use crate::access::{Access, Role};
use crate::server::api;
use serde_json::Value;
use std::collections::BTreeSet;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

/// Method, path and role of each operation in the document.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(METHODS.contains(&method.as_str()), "{method} {path}");
            found.push((method.clone(), path.clone(), operation));
        }
    }
    found
}

#[test]
fn the_document_describes_each_route_and_no_other() {
    let document = document();
    let described: BTreeSet<(String, String, String)> = operations(&document)
        .into_iter()
        .map(|(method, path, operation)| (method, path, operation["x-role"].as_str().unwrap().to_owned()))
        .collect();
    let role = |access| match access {
        Access::Everybody => "everybody",
        Access::Hosts => "host",
        Access::People(role) => Role::id(role),
    };
    let routed: BTreeSet<(String, String, String)> = api::routes()
        .listed()
        .filter(|(_, path, _)| path.starts_with("/api/"))
        .map(|(method, path, access)| (method.to_owned(), path.to_owned(), role(access).to_owned()))
        .collect();
    let missing: Vec<_> = routed.difference(&described).collect();
    let invented: Vec<_> = described.difference(&routed).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "not described: {missing:?}; not routed: {invented:?}"
    );
}

#[test]
fn each_operation_tells_who_may_use_it_and_what_is_refused() {
    let document = document();
    for (method, path, operation) in operations(&document) {
        let security = &operation["security"];
        let role = operation["x-role"].as_str().unwrap();
        let wanted = match role {
            "everybody" => serde_json::json!([]),
            "host" => serde_json::json!([{"certificate": []}]),
            _ => serde_json::json!([{"bearer": []}, {"cookie": []}]),
        };
        assert_eq!(*security, wanted, "{method} {path}");
        let answers = operation["responses"].as_object().unwrap();
        let must = |status: &str| assert!(answers.contains_key(status), "{method} {path}: {status}");
        must("400");
        must("500");
        if role != "everybody" {
            must("401");
        }
        if ["operator", "administrator"].contains(&role) || (role == "reader" && method != "get") {
            must("403");
        }
        if path.contains("{id}") {
            must("404");
        }
    }
}

/// Each `$ref` leads somewhere, and nothing is described that is not used.
#[test]
fn the_document_is_whole() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                let reference = fields.get("$ref").and_then(Value::as_str);
                found.extend(reference.map(|text| text.strip_prefix('#').unwrap().to_owned()));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = document();
    let mut used = BTreeSet::new();
    references(&document, &mut used);
    for reference in &used {
        assert!(document.pointer(reference).is_some(), "{reference} leads nowhere");
    }
    for kind in ["schemas", "parameters", "responses"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            let path = format!("/components/{kind}/{name}");
            assert!(used.contains(&path), "{path} is not used");
        }
    }
}
