//! Planning the edit, and showing it.

use super::line::{Line, escape};
use super::{Conflict, Entry, Fstab, PATH, Wanted};
use std::fmt::Write;

/// What our entry has, all of it known to systemd 229: without `nofail` a missing disk stops the boot; `_netdev` would
/// be wrong for a local disk.
const OPTIONS: [&str; 5] = [
    "rw",
    "nofail",
    "errors=remount-ro",
    "x-systemd.requires=multipathd.service",
    "x-systemd.device-timeout=60s",
];

/// What keeps the volume from being mounted at boot, or from being written; what has it mounted again behind the back of
/// whoever unmounted it; and what lets a disk keep in its cache what was to be durable.
const HARMFUL: [&str; 6] = ["noauto", "ro", "_netdev", "x-systemd.automount", "nobarrier", "barrier=0"];

/// Lines that are shown around the one that changes.
const CONTEXT: usize = 2;

/// One change of fstab, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    pub(super) before: Vec<u8>,
    pub(super) after: Vec<u8>,
    change: Change,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    None,
    /// A line at the end.
    Added,
    /// Another text of this line; `from` is what it called the device.
    Changed {
        line: usize,
        from: String,
    },
}

impl Fstab {
    /// What must change for the entry to be there. `is_ours` tells whether a device of an entry is the volume's disk.
    ///
    /// # Errors
    /// [`Conflict`] for what only a person can decide.
    pub fn plan(&self, wanted: &Wanted, is_ours: &dyn Fn(&str) -> bool) -> Result<Edit, Conflict> {
        let entries = self.entries();
        refuse_neighbours(&entries, wanted, is_ours)?;
        let there: Vec<&Entry> = entries.iter().filter(|entry| entry.place == wanted.place).collect();
        let entry = match there[..] {
            [] => return Ok(self.with_line_added(wanted)),
            [entry] => entry,
            _ => {
                let lines = there.iter().map(|entry| entry.line).collect();
                return Err(Conflict::Several { place: wanted.place.clone(), lines });
            }
        };
        let Entry { line, device, place, kind, .. } = entry.clone();
        if device != wanted.device && !is_ours(&device) {
            return Err(Conflict::OtherDevice { line, device, place });
        }
        if kind != "ext4" && kind != "auto" {
            return Err(Conflict::OtherKind { line, kind, place });
        }
        Ok(if serves(entry, wanted) { self.unchanged() } else { self.with_line_changed(entry, wanted) })
    }

    fn unchanged(&self) -> Edit {
        Edit { before: self.bytes.clone(), after: self.bytes.clone(), change: Change::None }
    }

    fn with_line_added(&self, wanted: &Wanted) -> Edit {
        let last = self.lines().last().map(|(_, line)| line);
        let end = if last.is_some_and(|line| line.ends_with_carriage_return()) { "\r\n" } else { "\n" };
        let mut after = self.bytes.clone();
        if !after.is_empty() && !after.ends_with(b"\n") {
            after.extend_from_slice(end.as_bytes());
        }
        let place = escape(&wanted.place.to_string_lossy());
        let device = escape(&wanted.device);
        after.extend_from_slice(format!("{device} {place} ext4 {} 0 2{end}", OPTIONS.join(",")).as_bytes());
        Edit { before: self.bytes.clone(), after, change: Change::Added }
    }

    fn with_line_changed(&self, entry: &Entry, wanted: &Wanted) -> Edit {
        let mut after = Vec::with_capacity(self.bytes.len() + 128);
        for (number, line) in self.lines() {
            match number == entry.line {
                true => after.extend(changed(&line, entry, wanted)),
                false => after.extend_from_slice(line.bytes),
            }
        }
        let change = Change::Changed { line: entry.line, from: entry.device.clone() };
        Edit { before: self.bytes.clone(), after, change }
    }
}

/// The disk must not be used elsewhere, and nothing be mounted within the volume.
fn refuse_neighbours(
    entries: &[Entry],
    wanted: &Wanted,
    is_ours: &dyn Fn(&str) -> bool,
) -> Result<(), Conflict> {
    for entry in entries.iter().filter(|entry| entry.place != wanted.place) {
        let Entry { line, device, place, .. } = entry.clone();
        if place.starts_with(&wanted.place) {
            return Err(Conflict::Below { line, device, place });
        }
        if device == wanted.device || is_ours(&device) {
            return Err(Conflict::UsedElsewhere { line, device, place });
        }
    }
    Ok(())
}

/// Whether the entry does what is needed as it is, whatever else it says.
fn serves(entry: &Entry, wanted: &Wanted) -> bool {
    entry.device == wanted.device
        && entry.kind == "ext4"
        && entry.has("nofail")
        && !HARMFUL.iter().any(|option| entry.has(option))
}

/// The line with our device, type and options; blanks, dump, pass and what a person wrote behind them stay.
fn changed(line: &Line<'_>, entry: &Entry, wanted: &Wanted) -> Vec<u8> {
    let bytes = line.bytes;
    let (device, kind) = (&line.fields[0], &line.fields[2]);
    let mut text = bytes[..device.start].to_vec();
    text.extend_from_slice(escape(&wanted.device).as_bytes());
    text.extend_from_slice(&bytes[device.end..kind.start]);
    text.extend_from_slice(b"ext4");
    match line.fields.get(3) {
        Some(options) => {
            text.extend_from_slice(&bytes[kind.end..options.start]);
            text.extend_from_slice(escape(&joined(&entry.options)).as_bytes());
            text.extend_from_slice(&bytes[options.end..]);
        }
        None => {
            text.extend_from_slice(format!(" {} 0 2", OPTIONS.join(",")).as_bytes());
            text.extend_from_slice(&bytes[kind.end..]);
        }
    }
    text
}

/// Their options without those that harm, and ours that they do not have.
fn joined(theirs: &[String]) -> String {
    let mut options: Vec<&str> = theirs.iter().map(String::as_str).collect();
    options.retain(|option| !option.is_empty() && !HARMFUL.contains(option));
    for own in OPTIONS {
        let has = |option: &&str| match own.split_once('=') {
            _ if *option == own => true,
            // What it requires is one of several.
            Some((key, _)) if key != "x-systemd.requires" => option.starts_with(&format!("{key}=")),
            _ => own == "rw" && *option == "defaults",
        };
        if !options.iter().any(has) {
            options.push(own);
        }
    }
    options.join(",")
}

impl Edit {
    /// Whether anything changes.
    pub fn is_needed(&self) -> bool {
        self.change != Change::None
    }

    /// What the entry calls the device now, when it calls it by another name than the one wanted.
    pub fn moved_from(&self) -> Option<&str> {
        match &self.change {
            Change::Changed { from, .. } => Some(from),
            _ => None,
        }
    }

    /// The file after it.
    pub fn after(&self) -> Fstab {
        Fstab::new(self.after.clone())
    }

    /// The change as people read it: the line with its neighbours, as `diff -u` shows them. Empty without a change.
    pub fn difference(&self) -> String {
        let lines = |bytes: &[u8]| -> Vec<String> {
            let lines = bytes.split_inclusive(|byte| *byte == b'\n');
            lines.map(|line| String::from_utf8_lossy(line).trim_end().to_owned()).collect()
        };
        let (before, after) = (lines(&self.before), lines(&self.after));
        let (at, removed) = match &self.change {
            Change::None => return String::new(),
            Change::Added => (before.len(), 0),
            Change::Changed { line, .. } => (line - 1, 1),
        };
        let first = at.saturating_sub(CONTEXT);
        let last = (at + removed + CONTEXT).min(before.len());
        let count = last - first;
        let mut text = format!(
            "--- {PATH}\n+++ {PATH}\n@@ -{},{count} +{},{} @@\n",
            if count == 0 { 0 } else { first + 1 },
            first + 1,
            count + 1 - removed
        );
        let mut show = |sign: char, lines: &[String]| {
            for line in lines {
                let _ = writeln!(text, "{sign}{line}");
            }
        };
        show(' ', &before[first..at]);
        show('-', &before[at..at + removed]);
        show('+', &after[at..=at]);
        show(' ', &before[at + removed..last]);
        text
    }
}
