//! People who log in, over real TLS, and the commands that manage them.

use crate::support::{ConfigurationServer, Portal, command, folder};
use nix::pty::openpty;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;

/// Types a command with this on its standard input; what it says, when it succeeds.
fn typed(state: &Path, words: &[&str], input: &str) -> Result<String, String> {
    let mut command = command(state, words);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

fn users(state: &Path) -> Vec<(String, String)> {
    let list: Value = serde_json::from_str(&typed(state, &["user", "list", "--json"], "").unwrap()).unwrap();
    let text = |user: &Value, key: &str| user[key].as_str().unwrap().to_owned();
    list["users"].as_array().unwrap().iter().map(|user| (text(user, "name"), text(user, "role"))).collect()
}

#[test]
fn the_first_administrator_logs_in_with_the_password_in_the_file_which_is_removed() {
    let state = folder();
    let cs = ConfigurationServer::start(state.path());
    let file = state.path().join("administrator.password");
    let password = fs::read_to_string(&file).unwrap();
    let portal = Portal::new(&cs.server);
    assert_eq!(portal.log_in("admin", "not this one").0, 401);
    assert!(file.exists());
    let (status, session) = portal.log_in("admin", password.trim());
    assert_eq!((status, session["role"].as_str()), (200, Some("administrator")));
    assert!(!file.exists());
    drop(cs);
    // Neither a restart nor a second start makes another one, and a restart ends no session.
    let cs = ConfigurationServer::start(state.path());
    assert!(!file.exists());
    let portal = Portal::new(&cs.server);
    let (status, who) = portal.who(session["token"].as_str().unwrap());
    assert_eq!((status, who["user"].as_str()), (200, Some("admin")));
    assert_eq!(users(state.path()), [("admin".to_owned(), "administrator".to_owned())]);
}

#[test]
fn users_are_managed_while_the_server_runs_and_while_it_does_not() {
    let state = folder();
    let cs = ConfigurationServer::start(state.path());
    let portal = Portal::new(&cs.server);
    let add = ["user", "add", "ann", "--role", "reader"];
    assert!(typed(state.path(), &add, "short\n").unwrap_err().contains("fewer than 12 characters"));
    typed(state.path(), &add, "correct horse battery\n").unwrap();
    assert!(
        typed(state.path(), &add, "correct horse battery\n").unwrap_err().contains("there is one already")
    );
    let session = portal.log_in("ann", "correct horse battery").1;
    let token = session["token"].as_str().unwrap();
    assert_eq!(portal.who(token).1["role"], "reader");
    // Another role ends the session at once, as does another password, and being removed.
    typed(state.path(), &["user", "role", "ann", "operator"], "").unwrap();
    assert_eq!(portal.who(token).0, 401);
    let session = portal.log_in("ann", "correct horse battery").1;
    assert_eq!(session["role"], "operator");
    let made = typed(state.path(), &["user", "password", "ann", "--generate"], "").unwrap();
    assert_eq!(made.trim().len(), 20);
    assert_eq!(portal.who(session["token"].as_str().unwrap()).0, 401);
    assert_eq!(portal.log_in("ann", "correct horse battery").0, 401);
    let session = portal.log_in("ann", made.trim()).1;
    typed(state.path(), &["user", "remove", "ann", "--yes"], "").unwrap();
    assert_eq!(portal.who(session["token"].as_str().unwrap()).0, 401);
    let last = typed(state.path(), &["user", "remove", "admin", "--yes"], "").unwrap_err();
    assert!(last.contains("last administrator"), "{last}");
    assert!(typed(state.path(), &["user", "remove", "bob"], "").unwrap_err().contains("user list shows all"));
    drop(cs);
    let made = typed(state.path(), &["user", "add", "bob", "--role", "reader", "--generate"], "").unwrap();
    let cs = ConfigurationServer::start(state.path());
    assert_eq!(Portal::new(&cs.server).log_in("bob", made.trim()).0, 200);
    let audit = cs.outcomes();
    for outcome in ["user added", "user removed", "role changed", "password changed", "log-in refused"] {
        assert!(audit.iter().any(|entry| entry == outcome), "{outcome} is not in {audit:?}");
    }
}

const TYPED: &str = "correct horse battery\n";

#[test]
fn a_password_that_is_typed_is_not_shown() {
    let state = folder();
    let cs = ConfigurationServer::start(state.path());
    let terminal = openpty(None, None).unwrap();
    let mut command = command(state.path(), &["user", "add", "ann", "--role", "reader"]);
    let slave = || Stdio::from(terminal.slave.try_clone().unwrap());
    let mut child = command.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
    let mut terminal = File::from(terminal.master);
    let mut shown = String::new();
    for (what, keys) in
        [("New password of ann: ", TYPED), ("The same again: ", TYPED), ("user ann: added", "")]
    {
        let mut byte = [0];
        while !shown.contains(what) {
            terminal.read_exact(&mut byte).unwrap();
            shown.push(char::from(byte[0]));
        }
        terminal.write_all(keys.as_bytes()).unwrap();
    }
    assert!(child.wait().unwrap().success());
    assert!(!shown.contains("horse"), "{shown}");
    assert_eq!(Portal::new(&cs.server).log_in("ann", TYPED.trim()).0, 200);
}

#[test]
fn guesses_are_locked_out_over_a_restart_and_registrations_are_not() {
    let state = folder();
    let cs = ConfigurationServer::start(state.path());
    let portal = Portal::new(&cs.server);
    for _ in 0..5 {
        assert_eq!(portal.log_in("admin", "a wrong guess").0, 401);
    }
    drop(cs);
    let cs = ConfigurationServer::start(state.path());
    let password = fs::read_to_string(state.path().join("administrator.password")).unwrap();
    let (status, refused) = Portal::new(&cs.server).log_in("admin", password.trim());
    assert_eq!((status, &refused["code"]), (429, &json!("locked-out")));
    cs.register(&crate::support::host(1, 1), folder().path()).unwrap();
}

#[test]
fn a_session_that_is_not_used_ends() {
    let state = folder();
    let made;
    let token = {
        let cs = ConfigurationServer::start(state.path());
        made = typed(state.path(), &["user", "add", "ann", "--role", "reader", "--generate"], "").unwrap();
        let session = Portal::new(&cs.server).log_in("ann", made.trim()).1;
        session["token"].as_str().unwrap().to_owned()
    };
    let later =
        |clock| configuration_server::Environment { clock, ..configuration_server::Environment::host() };
    let cs = ConfigurationServer::with(
        state.path(),
        0,
        later(|| crate::support::now() + 11 * 3600 * 1_000_000_000),
    );
    assert_eq!(Portal::new(&cs.server).who(&token).0, 200);
    drop(cs);
    // It was used meanwhile.
    let cs = ConfigurationServer::with(
        state.path(),
        0,
        later(|| crate::support::now() + 22 * 3600 * 1_000_000_000),
    );
    assert_eq!(Portal::new(&cs.server).who(&token).0, 200);
    drop(cs);
    let cs = ConfigurationServer::with(
        state.path(),
        0,
        later(|| crate::support::now() + 35 * 3600 * 1_000_000_000),
    );
    assert_eq!(Portal::new(&cs.server).who(&token).0, 401);
}
