//! The passphrase is in its file and nowhere else, and the passwords of people are nowhere.

use crate::support::{Portal, command, folder, host, register, wait_for};
use control_api::registration::Passphrase;
use registration::server::Server;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

/// Files below a folder that hold these bytes.
fn holding(folder: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.extend(holding(&path, bytes));
        } else if contains(&fs::read(&path).unwrap_or_default(), bytes) {
            found.push(path.display().to_string());
        }
    }
    found
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Command lines of all processes that hold these bytes.
fn command_lines_with(bytes: &[u8]) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().map(Result::unwrap).map(|entry| entry.path());
    let lines = processes.filter_map(|process| fs::read(process.join("cmdline")).ok());
    lines
        .filter(|line| contains(line, bytes))
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .collect()
}

#[test]
fn passphrase_and_passwords_are_in_no_log_no_state_and_no_command_line() {
    let (state, machines) = (folder(), folder());
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server { address: "127.0.0.1".into(), port: free.local_addr().unwrap().port() };
    drop(free);
    let log = machines.path().join("log");
    let mut command = command(state.path(), &[]);
    let text = format!(
        "state_folder = {:?}\nlisten = \"127.0.0.1:{}\"\nlog = \"trace\"\n",
        state.path(),
        server.port
    );
    fs::write(state.path().join("configserver.toml"), text).unwrap();
    let mut child = command
        .stdout(File::create(machines.path().join("out")).unwrap())
        .stderr(File::create(&log).unwrap())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("mt-configserver", || registration::server::ask(&server).version.is_ok().then_some(()));
    let file = state.path().join("connection.passphrase");
    let (passphrase, _) = registration::passphrase(&file).unwrap();
    let wrong = Passphrase::parse("a-wrong-passphrase-4711").unwrap();
    assert!(register(&server, &wrong, &host(1, 1), &machines.path().join("one")).is_err());
    register(&server, &passphrase, &host(1, 1), &machines.path().join("one")).unwrap();
    let first = fs::read_to_string(state.path().join("administrator.password")).unwrap();
    let (first, guess) = (first.trim(), "a-wrong-password-4711");
    let portal = Portal::new(&server);
    assert_eq!(portal.log_in("admin", guess).0, 401);
    // Typed into the wrong field.
    assert_eq!(portal.log_in(guess, guess).0, 401);
    let session = portal.log_in("admin", first).1;
    let token = session["token"].as_str().unwrap();
    assert_eq!(portal.who(token).0, 200);
    let csrf = session["csrf"].as_str().unwrap();
    for secret in [passphrase.reveal(), wrong.reveal(), first, guess, token] {
        assert_eq!(command_lines_with(secret.as_bytes()), Vec::<String>::new());
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    assert!(child.wait().unwrap().success(), "it did not stop well");
    let trace = fs::read(&log).unwrap();
    assert!(contains(&trace, b"registered") && contains(&trace, b"not proved"), "the log is not all there");
    assert_eq!(holding(state.path(), passphrase.reveal().as_bytes()), [file.display().to_string()]);
    assert_eq!(holding(machines.path(), passphrase.reveal().as_bytes()), Vec::<String>::new());
    for secret in [first, guess, token, csrf] {
        assert_eq!(holding(state.path(), secret.as_bytes()), Vec::<String>::new());
        assert_eq!(holding(machines.path(), secret.as_bytes()), Vec::<String>::new());
    }
    assert_eq!(holding(state.path(), wrong.reveal().as_bytes()), Vec::<String>::new());
    assert_eq!(holding(machines.path(), wrong.reveal().as_bytes()), Vec::<String>::new());
}
