//! The journal of systemd, in its own protocol: a datagram for each entry.
//!
//! What goes to the standard error arrives there too, but as a line without fields. An entry holds MESSAGE, which is the same
//! line, with the spans before it; PRIORITY, SYSLOG_IDENTIFIER, CODE_FILE, CODE_LINE and TARGET, the module; and each field
//! of the event and its spans in capitals, of which those of the innermost win: ITEM, PEER, DISK and so on.

use crate::entry::{Entry, Fields};
use std::fmt::Write;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Where journald takes entries.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// Where it takes lines.
const LINES: &str = "/run/systemd/journal/stdout";

/// Whether the standard error of this process goes to the journal. systemd says so from version 231 on; before, the other
/// end of the connection tells.
pub fn takes_standard_error() -> bool {
    let said = std::env::var("JOURNAL_STREAM").is_ok_and(|stream| {
        let own = std::fs::metadata("/proc/self/fd/2");
        own.is_ok_and(|own| stream == format!("{}:{}", own.dev(), own.ino()))
    });
    said || other_end_takes_lines()
}

fn other_end_takes_lines() -> bool {
    let Ok(own) = io::stderr().as_fd().try_clone_to_owned() else { return false };
    UnixStream::from(own).peer_addr().is_ok_and(|peer| peer.as_pathname() == Some(Path::new(LINES)))
}

/// Sends what happens to journald.
#[derive(Debug)]
pub struct Journal {
    identifier: &'static str,
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// Entries under this SYSLOG_IDENTIFIER, to a socket.
    pub fn open(identifier: &'static str, path: impl Into<PathBuf>) -> io::Result<Journal> {
        let (socket, path) = (UnixDatagram::unbound()?, path.into());
        // Nothing in it: journald takes it for no entry.
        socket.send_to(&[], &path)?;
        Ok(Journal { identifier, socket, path })
    }

    fn send(&self, entry: &Entry, line: &str) {
        if self.socket.send_to(entry.bytes(), &self.path).is_err() {
            eprintln!("{line}");
        }
    }
}

fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Journal {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut own = Fields::default();
        event.record(&mut own);
        let mut line = String::new();
        let mut all: Vec<(&'static str, String)> = Vec::new();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<Fields>() {
                // Writing to a string never fails.
                let _ = write!(line, "{}{fields}: ", span.name());
                all.extend(fields.named.iter().cloned());
            }
        }
        let _ = write!(line, "{}{own}", own.message);
        all.extend(own.named);

        let mut entry = Entry::default();
        entry.add("MESSAGE", &line);
        entry.add("PRIORITY", priority(*metadata.level()));
        entry.add("SYSLOG_IDENTIFIER", self.identifier);
        entry.add("TARGET", metadata.target());
        if let (Some(file), Some(number)) = (metadata.file(), metadata.line()) {
            entry.add("CODE_FILE", file);
            entry.add("CODE_LINE", &number.to_string());
        }
        for (at, (name, value)) in all.iter().enumerate() {
            if all[at + 1..].iter().all(|(later, _)| later != name) {
                entry.add(name, value);
            }
        }
        self.send(&entry, &line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tracing_subscriber::layer::SubscriberExt;

    /// What journald would hear of what happens in `what`.
    fn heard(what: impl FnOnce()) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        journald.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let journal = Journal::open("mtd", &path).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(journal), what);
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        journald.set_nonblocking(true).unwrap();
        while let Ok(length) = journald.recv(&mut buffer) {
            heard.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        assert_eq!(heard.remove(0), "", "the socket is tried first");
        heard
    }

    #[test]
    fn fields_of_an_event_and_of_its_spans_are_fields_of_the_entry() {
        let heard = heard(|| {
            let span = tracing::info_span!("item", item = %"web01", peer = tracing::field::Empty);
            span.record("peer", tracing::field::display("10.0.0.7:4711"));
            let _inside = span.enter();
            tracing::warn!(point = 17, "failed {}", "over");
            tracing::info!(item = "db01", "another");
        });
        let [first, second] = &heard[..] else { panic!("{heard:?}") };
        let lines: Vec<&str> = first.lines().collect();
        assert_eq!(lines[0], "MESSAGE=item item=web01 peer=10.0.0.7:4711: failed over point=17");
        let has = |line: &str| assert!(lines.contains(&line), "{line}: {lines:?}");
        has("PRIORITY=4");
        has("SYSLOG_IDENTIFIER=mtd");
        has("TARGET=service::journal::tests");
        has("ITEM=web01");
        has("PEER=10.0.0.7:4711");
        has("POINT=17");
        assert!(lines.iter().any(|line| line.starts_with("CODE_FILE=") && line.ends_with("journal.rs")));
        // The innermost counts, once.
        assert!(second.contains("\nPRIORITY=6\n") && second.contains("\nITEM=db01\n"), "{second}");
        assert!(!second.contains("\nITEM=web01\n"), "{second}");
    }

    #[test]
    fn without_journald_there_is_no_journal() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Journal::open("mtd", folder.path().join("socket")).is_err());
        assert!(!takes_standard_error());
    }
}
