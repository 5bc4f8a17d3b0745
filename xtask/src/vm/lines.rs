//! Lines over a Unix socket, with a time limit for each wait.
//!
//! A thread reads, so that a wait can be cut short without losing the part of a line that has come; it ends with the
//! other side.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Longer lines are cut: nothing in either protocol is as long, but a guest may write anything.
const MOST_BYTES: usize = 1 << 20;

pub(super) struct Lines {
    stream: UnixStream,
    received: Receiver<String>,
}

impl Lines {
    pub(super) fn connect(socket: &Path) -> Result<Lines> {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
        let (sender, received) = channel();
        let mut reader = BufReader::new(stream.try_clone().context("cannot clone a socket")?);
        std::thread::spawn(move || {
            while let Some(line) = read_line(&mut reader) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Lines { stream, received })
    }

    pub(super) fn send(&mut self, line: &str) -> Result<()> {
        self.stream.write_all(format!("{line}\n").as_bytes()).context("the machine takes nothing any more")
    }

    /// The next line; `None` when none came in time. An error says that there will be none.
    pub(super) fn receive(&self, limit: Duration) -> Result<Option<String>> {
        match self.received.recv_timeout(limit) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the machine has ended"),
        }
    }
}

fn read_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    let read = std::io::Read::take(&mut *reader, MOST_BYTES as u64).read_until(b'\n', &mut line).ok()?;
    (read > 0).then(|| String::from_utf8_lossy(&line).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_and_end_with_the_sender() {
        let mut text: &[u8] = b"one\n\xff two\r\nthree";
        assert_eq!(read_line(&mut text).unwrap(), "one");
        assert_eq!(read_line(&mut text).unwrap(), "\u{fffd} two");
        assert_eq!(read_line(&mut text).unwrap(), "three");
        assert_eq!(read_line(&mut text), None);
    }
}
