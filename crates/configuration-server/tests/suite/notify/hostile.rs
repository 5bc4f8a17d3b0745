//! Receivers that are slow, endless, or answer nonsense.

use super::rig::{Cs, Process};
use crate::support::wait_for;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A listener whose connections are each served by a thread with `serve`; its port.
fn serving(serve: fn(TcpStream) -> std::io::Result<()>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || drop(serve(stream)));
        }
    });
    port
}

/// Says something again and again until the other end has enough.
fn endless(mut stream: TcpStream, start: &[u8], part: &[u8], pause: Duration) -> std::io::Result<()> {
    stream.write_all(start)?;
    loop {
        stream.write_all(part)?;
        std::thread::sleep(pause);
    }
}

fn silent(mut stream: TcpStream) -> std::io::Result<()> {
    stream.read_to_end(&mut Vec::new()).map(drop)
}

const NONE: Duration = Duration::ZERO;
const SLOW: Duration = Duration::from_millis(500);

fn mail(port: u16) -> String {
    format!(
        "[mail]\nserver = \"127.0.0.1:{port}\"\nencryption = \"none\"\nfrom = \"mt@example.com\"\nto = [\"ops@example.com\"]\n"
    )
}

fn hook(port: u16, scheme: &str) -> String {
    format!("[[webhook]]\nname = \"ops\"\nurl = \"{scheme}://127.0.0.1:{port}/\"\n")
}

#[test]
fn a_receiver_without_an_end_does_not_hold_a_message_for_longer_than_its_limit() {
    let mails: [fn(TcpStream) -> std::io::Result<()>; 5] = [
        // A line without an end, a reply without an end, the same slowly, silence, nonsense.
        |stream| endless(stream, b"220 ", &[b'x'; 65536], NONE),
        |stream| endless(stream, b"", b"220-and\r\n", NONE),
        |stream| endless(stream, b"", b"220-and\r\n", SLOW),
        silent,
        |stream| endless(stream, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", SLOW),
    ];
    let hooks: [fn(TcpStream) -> std::io::Result<()>; 6] = [
        |stream| endless(stream, b"HTTP/1.1 200 OK\r\nx: ", &[b'x'; 65536], NONE),
        |stream| endless(stream, b"HTTP/1.1 200 OK\r\n", b"x: y\r\n", SLOW),
        |stream| endless(stream, b"HTTP/1.1 500 Oh\r\n\r\n", &[b'x'; 65536], NONE),
        |stream| endless(stream, b"HTTP/1.1 500 Oh\r\ncontent-length: 100000\r\n\r\n", b"x", SLOW),
        silent,
        |stream| endless(stream, b"220 mail.example\r\n", b"", SLOW),
    ];
    let channels = mails.map(|serve| mail(serving(serve))).into_iter();
    let channels = channels.chain(hooks.map(|serve| hook(serving(serve), "http")));
    // In the middle of TLS too.
    let channels = channels.chain([hook(serving(silent), "https")]);
    let cs = Cs::start("");
    let tests: Vec<(String, Instant, Process)> = channels
        .enumerate()
        .map(|(number, channel)| {
            let config = cs.state.path().join(format!("{number}.toml"));
            std::fs::write(&config, format!("state_folder = {:?}\n{channel}", cs.state.path())).unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_mt-configserver"));
            command.args(["notify", "test", "--config"]).arg(config);
            let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            (channel, Instant::now(), Process(child))
        })
        .collect();
    for (channel, start, mut process) in tests {
        let mut said = String::new();
        process.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(!process.0.wait().unwrap().success(), "{channel}{said}");
        assert!(said.contains(": failed: ") && said.contains("; ") && said.len() < 1000, "{channel}{said}");
        assert!(start.elapsed() < Duration::from_secs(90), "{channel}{said}: {:?}", start.elapsed());
    }
}

#[test]
fn a_receiver_that_hangs_slows_nothing_else() {
    let cs = Cs::start(&(mail(serving(silent)) + &hook(serving(silent), "http")));
    cs.happen("critical", (0..200).map(|number| format!("number {number}")));
    let sending = || {
        let sql = "SELECT count(*) FROM delivery WHERE sending IS NOT NULL";
        let count: i64 = cs.store().query_row(sql, [], |row| row.get(0)).unwrap();
        (count == 2).then_some(())
    };
    wait_for("both channels", sending);
    for _ in 0..10 {
        let start = Instant::now();
        registration::server::ask(&cs.server).version.unwrap();
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
    // Nor does it hold the end of the server up.
    let start = Instant::now();
    cs.stop();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}
