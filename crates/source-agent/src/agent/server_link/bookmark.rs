//! The job that sets a bookmark.
//!
//! What counts is the recovery point. A bookmark that comes to the target during a comparison marks none, so it is set again
//! when both are level. A bookmark is a frame in the backlog, which outlives a kill. Right before it is set, the number of the next frame is
//! noted; so after a kill it can be seen whether a bookmark of this name follows there. Only when what followed was sent
//! and thrown away in that moment, or when the machine lost power, is it not known; then the job says so.

use super::Teller;
use crate::Sought;
use crate::agent::hooks;
use control_api::Failure;
use registration::link::{End, Job};
use std::time::{Duration, Instant};

const SET: &str = "Set the bookmark";
const SET_AGAIN: &str = "Set it again after the comparison";
const DURABLE: &str = "Durable at the master target";
/// How long the master target may take to confirm it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is set when comparisons pass it over.
const ATTEMPTS: usize = 3;
/// How long it may take to be level, and to be level again after a kill or a comparison.
const LEVEL_WITHIN: Duration = Duration::from_secs(30);
const LEVEL_AGAIN_WITHIN: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is noted: before it is set, and when it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Note {
    From { stream: String, sequence: u64 },
    Set { stream: String, sequence: u64 },
}

impl Note {
    fn text(&self) -> String {
        match self {
            Note::From { stream, sequence } => format!("from {stream} {sequence}"),
            Note::Set { stream, sequence } => format!("set {stream} {sequence}"),
        }
    }

    fn parse(text: &str) -> Option<Note> {
        let mut words = text.split(' ');
        let (kind, stream, sequence) = (words.next()?, words.next()?.to_owned(), words.next()?.parse().ok()?);
        match kind {
            "from" => Some(Note::From { stream, sequence }),
            "set" => Some(Note::Set { stream, sequence }),
            _ => None,
        }
    }
}

pub(super) fn run(teller: &Teller, job: &Job, name: &str, at_rest: bool) -> Result<String, End> {
    job.plan(&[SET, DURABLE]);
    job.begin(SET);
    let was_set = matches!(job.noted().and_then(Note::parse), Some(Note::Set { .. }));
    if at_rest && job.is_continued() && !was_set {
        teller.runtime.block_on(hooks::thaw(&teller.control.config.hooks));
    }
    let mut sequence = match earlier(teller, job, name)? {
        Some(sequence) => sequence,
        None => set(teller, job, name, at_rest, job.is_continued())?,
    };
    for _ in 0..ATTEMPTS {
        job.begin(DURABLE);
        match wait_until_durable(teller, job, sequence)? {
            Fate::Durable => return Ok(format!("bookmark {name} is set, and durable at the master target")),
            Fate::Open => {
                return Ok(format!(
                    "bookmark {name} is set; the master target gets it when it is reached, unless both have to be \
                     compared then"
                ));
            }
            Fate::PassedOver => {
                // What was set counts no more, also after a kill.
                job.note(&next(teller).text())?;
                job.begin(SET_AGAIN);
                sequence = set(teller, job, name, at_rest, true)?;
            }
        }
    }
    Err(End::Failed(Failure::new(
        format!("bookmark {name}"),
        "it marks no recovery point",
        format!("a comparison with the master target began {ATTEMPTS} times before that had it"),
        "order another when the source stays level with its target",
    )))
}

/// What became of a bookmark that was set.
pub(super) enum Fate {
    Durable,
    /// The target has not confirmed it yet.
    Open,
    /// The target was not level when it came, so it marks nothing.
    PassedOver,
}

/// The number of the bookmark that an earlier run of the job has set.
fn earlier(teller: &Teller, job: &Job, name: &str) -> Result<Option<u64>, End> {
    let Some(note) = job.noted().filter(|_| job.is_continued()) else { return Ok(None) };
    let present = teller.control.tracker.standing().stream.to_string();
    match Note::parse(note) {
        Some(Note::Set { stream, sequence }) if stream == present => Ok(Some(sequence)),
        Some(Note::From { stream, sequence }) if stream == present => {
            let sought = teller.control.tracker.find_bookmark(name, sequence);
            match sought.map_err(|error| unknown(name, &error.to_string()))? {
                Sought::Set(sequence) => Ok(Some(sequence)),
                Sought::NotSet => Ok(None),
                Sought::Unknown => {
                    Err(unknown(name, "the agent ended while it was being set, and its backlog has moved on"))
                }
            }
        }
        _ => Err(unknown(name, "the machine went down while it was being set, and its backlog is gone")),
    }
}

fn unknown(name: &str, why: &str) -> End {
    End::Failed(Failure::new(
        format!("bookmark {name}"),
        "it is not known whether it was set",
        why,
        "look at the recovery points of the item; if it is not there, order another",
    ))
}

/// What is noted before it is set.
fn next(teller: &Teller) -> Note {
    let standing = teller.control.tracker.standing();
    Note::From { stream: standing.stream.to_string(), sequence: standing.next_sequence }
}

/// Sets it; after a kill or a comparison the agent is waited for, until it is level.
fn set(teller: &Teller, job: &Job, name: &str, at_rest: bool, patiently: bool) -> Result<u64, End> {
    if !job.commit() {
        return Err(End::Cancelled);
    }
    wait_until_level(teller, job, name, patiently)?;
    let control = &teller.control;
    let before = || Ok(job.note(&next(teller).text())?);
    let sequence = match teller.runtime.block_on(control.bookmark_after(name, at_rest, before)) {
        Ok(sequence) => sequence,
        // The hooks were ended because the agent stops; the next start looks what came of it.
        Err(_) if job.is_stopping() => return Err(End::Stopped),
        Err(error) => {
            return Err(End::Failed(Failure::new(
                format!("bookmark {name}"),
                "it was not set as it should be",
                format!("{error:#}"),
                "put that right, and order it again",
            )));
        }
    };
    let stream = control.tracker.standing().stream.to_string();
    job.note(&Note::Set { stream, sequence }.text())?;
    Ok(sequence)
}

/// After a start the agent first compares what is uncertain.
pub(super) fn wait_until_level(teller: &Teller, job: &Job, name: &str, patiently: bool) -> Result<(), End> {
    let longest = if patiently { LEVEL_AGAIN_WITHIN } else { LEVEL_WITHIN };
    let begun = Instant::now();
    while begun.elapsed() < longest {
        if teller.control.tracker.standing().is_level() {
            return Ok(());
        }
        if job.is_stopping() {
            return Err(End::Stopped);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Err(End::Failed(Failure::new(
        format!("bookmark {name}"),
        "it was not set",
        format!("the source was not level with the master target for {} s", longest.as_secs()),
        "order it again when it is level",
    )))
}

pub(super) fn wait_until_durable(teller: &Teller, job: &Job, sequence: u64) -> Result<Fate, End> {
    let tracker = &teller.control.tracker;
    let (begun, stream) = (Instant::now(), tracker.standing().stream);
    while begun.elapsed() < PATIENCE {
        let standing = tracker.standing();
        if standing.stream != stream || !standing.logging || tracker.is_passed_over(sequence) {
            return Ok(Fate::PassedOver);
        }
        if standing.acknowledged >= sequence {
            return Ok(Fate::Durable);
        }
        if job.is_stopping() {
            return Err(End::Stopped);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(Fate::Open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_back() {
        for note in [
            Note::From { stream: "ab".into(), sequence: 7 },
            Note::Set { stream: "ab".into(), sequence: u64::MAX },
        ] {
            assert_eq!(Note::parse(&note.text()), Some(note));
        }
        for text in ["", "set", "set ab", "set ab x", "gone ab 7"] {
            assert_eq!(Note::parse(text), None, "{text}");
        }
    }
}
