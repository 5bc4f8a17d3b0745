//! What systemd hears of the agent: that it is ready, what it does, and that it lives.

use crate::process::Setup;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

#[test]
fn systemd_hears_that_the_agent_is_ready_lives_and_what_it_does() {
    let setup = Setup::new("none");
    let notices = setup.path("notify.sock");
    let socket = UnixDatagram::bind(&notices).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let _running = setup.start_with(&[
        ("NOTIFY_SOCKET", notices.to_str().unwrap()),
        // Every 100 ms it says that it lives.
        ("WATCHDOG_USEC", "300000"),
    ]);
    let (mut heard, mut buffer, begun) = (Vec::<String>::new(), [0; 512], Instant::now());
    let alive = |heard: &[String]| heard.iter().filter(|line| *line == "WATCHDOG=1").count() >= 3;
    let level = "STATUS=web01 at 127.0.0.1:";
    let told =
        |heard: &[String]| heard.iter().any(|line| line.starts_with(level) && line.ends_with(": level"));
    while !(alive(&heard) && told(&heard)) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{heard:?}");
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        heard.extend(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned));
    }
    assert_eq!(heard[0], "READY=1", "{heard:?}");
}
