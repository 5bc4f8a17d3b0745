//! Whatever somebody sends to a path of the API or of the portal is answered: query, headers, cookies, forms and bodies.
//!
//! The first line of the input chooses the path, the method and who asks, and is the query; lines with a colon are
//! headers, up to an empty line; the rest is the body.

#![no_main]

use fuzz::{SERVER, Sender, check};
use libfuzzer_sys::fuzz_target;

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"];

const PATHS: [&str; 42] = [
    "/api/v1/overview", "/api/v1/hosts", "/api/v1/hosts/{}", "/api/v1/disks", "/api/v1/retention-volumes",
    "/api/v1/datastores", "/api/v1/items", "/api/v1/items/{}", "/api/v1/items/{}/points", "/api/v1/items/{}/rpo",
    "/api/v1/jobs", "/api/v1/jobs/{}", "/api/v1/jobs/{}/cancel", "/api/v1/policies", "/api/v1/policies/{}",
    "/api/v1/groups", "/api/v1/groups/{}", "/api/v1/groups/{}/points", "/api/v1/events", "/api/v1/alerts", "/api/v1/users", "/api/v1/users/{}",
    "/api/v1/audit", "/api/v1/openapi.json", "/api/v1/version", "/api/v1/session", "/api/v1/registration/start",
    "/api/v1/registration/finish", "/", "/login", "/logout", "/infrastructure", "/infrastructure/{}", "/items",
    "/items/{}", "/jobs", "/jobs/{}", "/policies", "/groups/{}", "/events", "/users", "/{}",
];

fuzz_target!(|input: &[u8]| {
    let Some((&[path, method, who], rest)) = input.split_first_chunk::<3>() else { return };
    let mut lines = rest.splitn(2, |byte| *byte == b'\n');
    let (query, rest) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let id = match who >> 4 {
        0 => "1".to_owned(),
        1 => SERVER.host_id.clone(),
        2 => "0123456789abcdef0123456789abcdef".to_owned(),
        _ => escaped(&query[..query.len().min(40)], b""),
    };
    let path = PATHS[usize::from(path) % PATHS.len()].replace("{}", &id);
    let method = METHODS[usize::from(method) % METHODS.len()];
    // Logged in, he would log out.
    if path == "/logout" || (path == "/api/v1/session" && method != "GET") || is_own_user(&path, method) {
        return;
    }
    let (bearer, cookie) =
        (format!("Bearer {}", SERVER.token), format!("__Host-session={}", SERVER.token));
    let mut headers: Vec<(&str, &[u8])> = Vec::new();
    match who % 4 {
        0 => headers.push(("authorization", bearer.as_bytes())),
        1 => {
            headers.push(("cookie", cookie.as_bytes()));
            headers.push(("x-csrf-token", SERVER.csrf.as_bytes()));
            headers.push(("origin", b"https://configuration-server.master-target.internal"));
        }
        2 => headers.push(("cookie", cookie.as_bytes())),
        _ => {}
    }
    let mut body = rest;
    while let Some(at) = body.iter().position(|byte| *byte == b'\n') {
        let line = &body[..at];
        body = &body[at + 1..];
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { break };
        let Ok(name) = std::str::from_utf8(&line[..colon]) else { continue };
        headers.push((name, line[colon + 1..].trim_ascii()));
    }
    let target = match query.is_empty() {
        true => path,
        false => format!("{path}?{}", escaped(query, b"&=%+")),
    };
    let answer = SERVER.send(Sender::Person, method, &target, &headers, body);
    check(&answer, &format!("{method} {target}"));
});

/// Removing or changing the one who asks would end the run.
fn is_own_user(path: &str, method: &str) -> bool {
    path.starts_with("/api/v1/users/") && method != "GET" && method != "HEAD"
}

/// Bytes as they may stand in a request line; those of `kept` as they are.
fn escaped(bytes: &[u8], kept: &[u8]) -> String {
    let escape = |byte: &u8| match byte.is_ascii_alphanumeric() || b"-._~:,".contains(byte) || kept.contains(byte) {
        true => char::from(*byte).to_string(),
        false => format!("%{byte:02x}"),
    };
    bytes.iter().map(escape).collect()
}
