//! A bad network: a TCP proxy that delays, cuts connections, and loses them without a word.

use anyhow::Result;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

const POLL: Duration = Duration::from_millis(20);

/// Connections are numbered from 1 in the order they come.
#[derive(Default)]
struct State {
    accepted: AtomicU64,
    /// Those up to this number are closed.
    cut: AtomicU64,
    /// What comes on those up to this number vanishes; they stay open.
    lost: AtomicU64,
    /// Of those up to this number the source's end is closed; the target's stays open.
    half_open: AtomicU64,
    delay_ms: AtomicU64,
    ended: AtomicBool,
}

/// Forwards connections from a port of its own until it is dropped.
pub struct Proxy {
    /// Where it listens on the loopback interface.
    pub port: u16,
    state: Arc<State>,
}

impl Proxy {
    /// Starts to forward to another port of the loopback interface.
    pub fn start(to: u16) -> Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State::default());
        let shared = state.clone();
        std::thread::spawn(move || {
            while !shared.ended.load(SeqCst) {
                match listener.accept() {
                    Ok((near, _)) => forward(near, to, &shared),
                    Err(_) => std::thread::sleep(POLL),
                }
            }
        });
        Ok(Proxy { port, state })
    }

    /// Closes every connection, at whatever byte it is.
    pub fn cut(&self) {
        self.state.cut.store(self.state.accepted.load(SeqCst), SeqCst);
    }

    /// From now on nothing passes on the present connections, and neither end is told.
    pub fn lose(&self) {
        self.state.lost.store(self.state.accepted.load(SeqCst), SeqCst);
    }

    /// Closes the source's end of every connection; the target is not told.
    pub fn half_open(&self) {
        self.state.half_open.store(self.state.accepted.load(SeqCst), SeqCst);
    }

    /// Holds back each piece of what passes for so long.
    pub fn delay(&self, time: Duration) {
        self.state.delay_ms.store(time.as_millis() as u64, SeqCst);
    }

    /// How many connections there were.
    pub fn connections(&self) -> u64 {
        self.state.accepted.load(SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, SeqCst);
    }
}

fn forward(near: TcpStream, to: u16, state: &Arc<State>) {
    let number = state.accepted.fetch_add(1, SeqCst) + 1;
    // A target that does not listen is what the source sees as a connection closed at once.
    let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else { return };
    let ends = Arc::new((near, far));
    for from_source in [true, false] {
        let (ends, state) = (ends.clone(), state.clone());
        std::thread::spawn(move || {
            let (near, far) = &*ends;
            let (from, to) = if from_source { (near, far) } else { (far, near) };
            let _ = pump(from, to, number, &state);
            let _ = near.shutdown(Shutdown::Both);
            while number <= state.half_open.load(SeqCst) && !state.is_over(number) {
                std::thread::sleep(POLL);
            }
            let _ = far.shutdown(Shutdown::Both);
        });
    }
}

impl State {
    fn is_over(&self, number: u64) -> bool {
        self.ended.load(SeqCst) || number <= self.cut.load(SeqCst)
    }
}

/// Until the connection ends, at either end or by the proxy.
fn pump(mut from: &TcpStream, mut to: &TcpStream, number: u64, state: &State) -> std::io::Result<()> {
    from.set_nonblocking(false)?;
    from.set_read_timeout(Some(POLL))?;
    let mut buffer = vec![0; 64 << 10];
    while !state.is_over(number) && number > state.half_open.load(SeqCst) {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) if number <= state.lost.load(SeqCst) => {}
            Ok(length) => {
                std::thread::sleep(Duration::from_millis(state.delay_ms.load(SeqCst)));
                to.write_all(&buffer[..length])?;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
