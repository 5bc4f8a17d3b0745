//! A configuration server that is killed in the middle of registrations.

use crate::support::{command, folder, host, hosts, register, wait_for};
use registration::server::Server;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ROUNDS: u32 = 6;

pub(crate) struct Running(Child);

impl Drop for Running {
    /// SIGKILL.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn start(state: &std::path::Path, server: &Server) -> Running {
    let mut command = command(state, &[]);
    let config = state.join("configserver.toml");
    let text = format!("state_folder = {state:?}\nlisten = \"127.0.0.1:{}\"\n", server.port);
    std::fs::write(config, text).unwrap();
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let running = Running(child);
    wait_for("mt-configserver", || registration::server::ask(server).version.is_ok().then_some(()));
    running
}

/// A port of this machine that nobody uses.
pub(crate) fn free() -> Server {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    Server { address: "127.0.0.1".into(), port: free.local_addr().unwrap().port() }
}

#[test]
fn no_host_that_was_told_it_is_registered_is_forgotten() {
    let (state, machines) = (folder(), folder());
    let server = free();
    let (accepted, next) = (Arc::new(Mutex::new(BTreeSet::new())), Arc::new(AtomicU32::new(1)));
    for round in 0..ROUNDS {
        let running = start(state.path(), &server);
        let (passphrase, _) = registration::passphrase(&state.path().join("connection.passphrase")).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (server, passphrase, ended) = (server.clone(), passphrase.clone(), ended.clone());
                let (accepted, next, machines) = (accepted.clone(), next.clone(), machines.path().to_owned());
                std::thread::spawn(move || {
                    while !ended.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let host = host(number, number);
                        let machine = machines.join(&host.name);
                        if register(&server, &passphrase, &host, &machine).is_ok() {
                            accepted.lock().unwrap().insert(number);
                        }
                    }
                })
            })
            .collect();
        // At another moment of the work each time.
        std::thread::sleep(Duration::from_millis(300 + u64::from(round) * 137));
        drop(running);
        ended.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
    let running = start(state.path(), &server);
    let known: BTreeSet<String> =
        hosts(state.path()).iter().map(|host| host["name"].as_str().unwrap().to_owned()).collect();
    let accepted = accepted.lock().unwrap().clone();
    assert!(accepted.len() > ROUNDS as usize, "only {} registrations", accepted.len());
    for number in &accepted {
        assert!(known.contains(&host(*number, *number).name), "host {number} was forgotten");
    }
    for number in accepted.iter().rev().take(5) {
        let host = host(*number, *number);
        registration::renew(&machines.path().join(&host.name), host).unwrap();
    }
    drop(running);
}
