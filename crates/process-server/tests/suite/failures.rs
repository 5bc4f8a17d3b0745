//! Whoever is not to be relayed is not, and costs nothing.

use crate::support::{LONGEST, ProcessServer};
use anyhow::{Result, ensure};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

/// A hello to `mt01`, the least that names somebody.
const HELLO: &[u8] = b"\x16\x03\x01\x00\x3c\x01\x00\x00\x38\x03\x03................................\
    \x00\x00\x02\x13\x01\x01\x00\x00\x0d\x00\x00\x00\x09\x00\x07\x00\x00\x04mt01";

fn connect(server: &ProcessServer) -> Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", server.port))?;
    stream.set_read_timeout(Some(LONGEST))?;
    Ok(stream)
}

/// Everything until the other end closes; a reset is an end too.
fn rest(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error.into()),
        _ => Ok(all),
    }
}

#[test]
fn each_end_may_close_its_half_first() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let server = ProcessServer::start(folder.path(), "", &[("MT01", port)])?;
    let data = vec![7; 3 << 20];
    let mut source = connect(&server)?;
    // In pieces, as a network may deliver it.
    for piece in HELLO.chunks(20) {
        source.write_all(piece)?;
        std::thread::sleep(Duration::from_millis(5));
    }
    let (mut target, _) = listener.accept()?;
    target.set_read_timeout(Some(LONGEST))?;
    std::thread::scope(|scope| -> Result<()> {
        let writing = scope.spawn(|| -> Result<()> {
            source.write_all(&data)?;
            Ok(source.shutdown(Shutdown::Write)?)
        });
        let arrived = rest(&mut target)?;
        ensure!(arrived == [HELLO, &data].concat(), "{} bytes arrived", arrived.len());
        writing.join().expect("it does not panic")
    })?;
    let status = server.status()?;
    ensure!(status.connections.len() == 1, "{status}");
    target.write_all(b"the answer comes when the question is over")?;
    drop(target);
    ensure!(rest(&mut source)? == b"the answer comes when the question is over");
    let status = server.wait_for("the connection to end", |status| status.connections.is_empty())?;
    let told = &status.master_targets[0];
    ensure!((told.connections, told.bytes_to_source) == (1, 42), "{status}");
    ensure!(told.bytes_to_target == (HELLO.len() + data.len()) as u64, "{status}");
    Ok(())
}

#[test]
fn whoever_says_no_name_is_closed_and_counted() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let nobody = 1;
    let more = "[limits]\nhello_seconds = 1\n";
    let server = ProcessServer::start(folder.path(), more, &[("mt01", nobody), ("mt02", nobody)])?;
    let refused = |reason: &str, count: u64| {
        server.wait_for(&format!("{count} of {reason}"), |status| status.refused.get(reason) == Some(&count))
    };
    let mut plain = connect(&server)?;
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
    ensure!(rest(&mut plain)?.is_empty());
    refused("not-tls", 1)?;

    let mut nameless = connect(&server)?;
    nameless.write_all(&nameless_hello())?;
    ensure!(rest(&mut nameless)? == [21, 3, 3, 0, 2, 2, 112], "an alert is sent");
    refused("no-name", 1)?;

    let mut unreachable = connect(&server)?;
    unreachable.write_all(HELLO)?;
    ensure!(rest(&mut unreachable)?.is_empty());
    let status = refused("unreachable", 1)?;
    let problem = status.master_targets[0].problem.clone().unwrap_or_default();
    ensure!(problem.contains("nothing listens at this port"), "{status}");
    ensure!(status.master_targets[1].problem.is_none(), "{status}");

    // Whoever looks whether somebody listens is nobody to complain of.
    drop(connect(&server)?);
    let began = Instant::now();
    let mut silent = connect(&server)?;
    silent.write_all(&HELLO[..20])?;
    ensure!(rest(&mut silent)?.is_empty());
    ensure!(began.elapsed() >= Duration::from_secs(1), "it is not waited for");
    let status = refused("silent", 1)?;
    ensure!(status.refused.len() == 4, "{status}");
    Ok(())
}

#[test]
fn nobody_takes_all_places() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let more = "[limits]\nhello_seconds = 60\nconnections_per_address = 3\n";
    let server = ProcessServer::start(folder.path(), more, &[("mt01", 1)])?;
    let first = [connect(&server)?, connect(&server)?, connect(&server)?];
    let mut fourth = connect(&server)?;
    ensure!(rest(&mut fourth)?.is_empty());
    let status = server.status()?;
    ensure!(status.refused.get("too-many") == Some(&1), "{status}");
    drop(first);
    server.wait_for("a place", |_| {
        let Ok(mut next) = connect(&server) else { return false };
        // A master target that cannot be reached was looked for.
        next.write_all(HELLO).is_ok()
            && rest(&mut next).is_ok()
            && server.status().is_ok_and(|status| status.refused.contains_key("unreachable"))
    })?;
    Ok(())
}

/// The hello without its extensions.
fn nameless_hello() -> Vec<u8> {
    let mut hello = HELLO[..9 + 34 + 7].to_vec();
    (hello[4], hello[8]) = (45, 41);
    hello
}

#[test]
fn what_cannot_be_used_is_said() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = ProcessServer::start(folder.path(), "", &[])?;
    let shown = String::from_utf8(server.command(&["status"])?.stdout)?;
    ensure!(shown.contains("no master targets") && shown.contains("nobody was refused"), "{shown}");
    let checked = server.command(&["relay", "--check"])?;
    ensure!(checked.status.success() && String::from_utf8(checked.stdout)?.contains("nothing wrong"));
    let second = server.command(&["relay"])?;
    let said = String::from_utf8(second.stderr)?;
    ensure!(second.status.code() == Some(1) && said.contains("cannot listen for source agents"), "{said}");

    let wrong = folder.path().join("wrong.toml");
    std::fs::write(&wrong, "listens = 1\n")?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_mt-process-server"));
    let output = command.args(["relay", "--check", "--config"]).arg(&wrong).output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(2) && said.contains("unknown field `listens`"), "{said}");
    Ok(())
}
