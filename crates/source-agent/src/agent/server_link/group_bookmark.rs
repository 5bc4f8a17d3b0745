//! The job that sets a bookmark at one moment with the other machines of a group.
//!
//! The machines agree on the moment in a meeting at the configuration server (docs/formats/agent-api.md), in rounds: each
//! lets its changes pause, says so, and places its bookmark only when it is told that all pause, while its own pause
//! lasts ([`together`]). So the server's moment of saying so lies in every pause. Each round has a bookmark name of its own:
//! when one machine gives up, the bookmark of that round is not on all of them, and is no point that they share.
//!
//! What is waited for in a pause is bounded by the gate: after a second changes go on, whatever this job is at. All else
//! that takes time is done outside of it: hooks, the note for the case of a kill, and waiting until the master target has
//! the bookmark. After a kill the job looks whether it had placed one, and gathers with the others again.

use super::Teller;
use super::bookmark::{Fate, wait_until_durable, wait_until_level};
use crate::agent::{hooks, quiescence::Quiescence};
use crate::{Gate, Sought};
use anyhow::Result as AnyResult;
use change_stream::BookmarkKind;
use control_api::agent::{MeetReply, MeetStage};
use control_api::{ErrorCode, Failure};
use registration::link::{End, Job, Meeting};
use std::cell::RefCell;
use std::time::{Duration, Instant};
use tokio::time::timeout;

const GATHER: &str = "Wait for the other machines of the group";
const SET: &str = "Set the bookmark at one moment with them";
const DURABLE: &str = "Durable at the master target";

/// Changes pause at most so long before the bookmark is placed.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the others may take to gather: one of them may have to wait for its master target.
const PATIENCE: Duration = Duration::from_secs(120);
/// Rounds that are tried: fewer where applications come to rest for each. How long changes go on between two of them, longer
/// each time.
const ROUNDS: u32 = 5;
const ROUNDS_AT_REST: u32 = 2;
const BETWEEN: Duration = Duration::from_millis(300);
/// How long another bookmark, or a quiesce, may take.
const ALONE_WITHIN: Duration = Duration::from_secs(10);
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What is ordered.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) group: &'a str,
    pub(super) meeting: &'a str,
    pub(super) at_rest: bool,
}

/// A bookmark that was placed.
struct Placed {
    round: String,
    stream: String,
    sequence: u64,
}

/// What is noted before one is placed: the round, and where it can be in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Note {
    round: String,
    stream: String,
    from: u64,
}

/// Why a round was given up while applications were at rest.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct GivenUp(String);

impl Note {
    fn text(&self) -> String {
        format!("{} {} {}", self.round, self.stream, self.from)
    }

    fn parse(text: &str) -> Option<Note> {
        let mut words = text.split(' ');
        let (round, stream) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some(Note { round, stream, from: words.next()?.parse().ok()? })
    }
}

pub(super) fn run(teller: &Teller, job: &Job, wanted: Wanted<'_>) -> Result<String, End> {
    job.plan(&[GATHER, SET, DURABLE]);
    if wanted.at_rest && job.is_continued() {
        teller.runtime.block_on(hooks::thaw(&teller.control.config.hooks));
    }
    let meeting = RefCell::new(job.meeting(wanted.meeting));
    Member { teller, job, wanted, meeting }.run()
}

struct Member<'a> {
    teller: &'a Teller,
    job: &'a Job,
    wanted: Wanted<'a>,
    meeting: RefCell<Meeting>,
}

impl Member<'_> {
    fn run(&self) -> Result<String, End> {
        let mut placed = self.earlier();
        let (mut rounds, mut why) = (0, String::new());
        loop {
            let durable = match &placed {
                Some(placed) => self.durable(placed)?,
                None => None,
            };
            if durable.is_none() {
                placed = None;
            }
            if placed.is_none() {
                let patiently = rounds > 0 || self.job.is_continued();
                wait_until_level(self.teller, self.job, self.wanted.name, patiently)?;
                self.refuse_at_rest()?;
            }
            self.job.begin(GATHER);
            let Some(round) = self.gather(placed.as_ref())? else {
                return Ok(self.outcome(placed.as_ref(), durable.unwrap_or(true)));
            };
            if rounds == 0 && !self.job.commit() {
                return Err(End::Cancelled);
            }
            let most = if self.wanted.at_rest { ROUNDS_AT_REST } else { ROUNDS };
            if rounds == most {
                let why = format!("{most} times not all machines of the group paused at one moment: {why}");
                return Err(
                    self.failed(&why, "order it again when the machines and their network have less to do")
                );
            }
            rounds += 1;
            self.job.begin(SET);
            match self.round(&round)? {
                Ok(found) => (placed, why) = (Some(found), "another machine could not".to_owned()),
                Err(found) => {
                    tracing::info!("round {round} of bookmark {:?} is given up: {found}", self.wanted.name);
                    self.job.detail(&format!("given up, and tried again: {found}"));
                    (placed, why) = (None, found);
                    std::thread::sleep(BETWEEN * rounds);
                }
            }
        }
    }

    fn outcome(&self, placed: Option<&Placed>, durable: bool) -> String {
        let Some(placed) = placed else {
            return format!(
                "bookmark {} of group {} was set and ended by the others; the points of the group tell whether this machine \
                 has it",
                self.wanted.name, self.wanted.group
            );
        };
        let name = self.name(&placed.round);
        match durable {
            true => format!("bookmark {name} is set on all machines of group {}", self.wanted.group),
            false => format!(
                "bookmark {name} is set on all machines of group {}; a master target gets it when it is reached, unless \
                 both have to be compared then",
                self.wanted.group
            ),
        }
    }

    fn name(&self, round: &str) -> String {
        format!("{}-{round}", self.wanted.name)
    }

    /// What an earlier run of the job has placed. Where that is not known any more, another round is needed.
    fn earlier(&self) -> Option<Placed> {
        let note = self.job.noted().filter(|_| self.job.is_continued()).and_then(Note::parse)?;
        let tracker = &self.teller.control.tracker;
        if note.stream != tracker.standing().stream.to_string() {
            return None;
        }
        match tracker.find_bookmark(&self.name(&note.round), note.from) {
            Ok(Sought::Set(sequence)) => Some(Placed { round: note.round, stream: note.stream, sequence }),
            _ => None,
        }
    }

    /// Waits until the master target has a bookmark: true when it has, false when it may get it later, `None` when it marks
    /// nothing.
    fn durable(&self, placed: &Placed) -> Result<Option<bool>, End> {
        self.job.begin(DURABLE);
        // The machine replicates elsewhere meanwhile: its points there are others.
        if placed.stream != self.teller.control.tracker.standing().stream.to_string() {
            return Ok(None);
        }
        Ok(match wait_until_durable(self.teller, self.job, placed.sequence)? {
            Fate::Durable => Some(true),
            Fate::Open => Some(false),
            Fate::PassedOver => None,
        })
    }

    /// Waits for the others: the round that begins, or `None` when all have placed their bookmarks.
    fn gather(&self, placed: Option<&Placed>) -> Result<Option<String>, End> {
        let (begun, mut said) = (Instant::now(), "the configuration server does not answer".to_owned());
        while begun.elapsed() < PATIENCE {
            if self.job.is_stopping() {
                return Err(End::Stopped);
            }
            if self.job.is_cancelled() {
                return Err(End::Cancelled);
            }
            let placed = placed.map(|placed| placed.round.clone());
            match self.meeting.borrow_mut().meet(MeetStage::Gathered { placed }) {
                Ok(MeetReply::Round { round }) => return Ok(Some(round)),
                Ok(MeetReply::Done) => return Ok(None),
                Ok(MeetReply::Missed { why }) => {
                    self.job.detail(&why);
                    said = why;
                }
                Ok(MeetReply::Met) => {
                    return Err(self.failed("the configuration server answers something else", NEXT));
                }
                Err(registration::Error::Refused(refused)) if is_final(refused.code) => {
                    return Err(self.failed(&refused.failure.why, &refused.failure.next));
                }
                Err(error) => {
                    said = error.to_string();
                    std::thread::sleep(ASK_AGAIN_AFTER);
                }
            }
        }
        Err(self.failed(&format!("the machines of the group did not come together: {said}"), NEXT))
    }

    /// One round: the bookmark that was placed, or why none was.
    fn round(&self, round: &str) -> Result<Result<Placed, String>, End> {
        let control = &self.teller.control;
        let runtime = &self.teller.runtime;
        let Ok(_alone) = runtime.block_on(async { timeout(ALONE_WITHIN, control.bookmarks.lock()).await })
        else {
            return Ok(Err("another bookmark is being set here".to_owned()));
        };
        self.refuse_at_rest()?;
        let standing = control.tracker.standing();
        let (stream, from) = (standing.stream.to_string(), standing.next_sequence);
        let note = Note { round: round.to_owned(), stream, from };
        self.job.note(&note.text())?;
        if !self.wanted.at_rest {
            return Ok(self.ready(note));
        }
        let ready = || self.ready(note).map_err(|why| GivenUp(why).into());
        match runtime.block_on(hooks::between(&control.config.hooks, control.stop.clone(), ready)) {
            Ok(placed) => Ok(Ok(placed)),
            Err(_) if self.job.is_stopping() => Err(End::Stopped),
            // Unless applications have not come to work again after it.
            Err(error) if error.is::<GivenUp>() && error.chain().len() == 1 => Ok(Err(error.to_string())),
            Err(error) => Err(self.failed(&format!("{error:#}"), "put that right, and order it again")),
        }
    }

    /// Disks that are at rest, or come to rest, have nothing new to mark.
    fn refuse_at_rest(&self) -> Result<(), End> {
        let Some(found) = self.teller.control.rest.state().filter(Quiescence::refuses) else { return Ok(()) };
        let why = format!(
            "its disks are at rest, with bookmark {}: there is nothing new to mark",
            found.bookmark()
        );
        Err(self.failed(&why, "let writes through first: mt-source unquiesce"))
    }

    /// Applications are at rest here, where they are to be; once all are ready, the bookmark is placed.
    fn ready(&self, note: Note) -> Result<Placed, String> {
        self.ask(MeetStage::Ready { round: note.round.clone() })?;
        self.place(note)
    }

    fn place(&self, note: Note) -> Result<Placed, String> {
        let Note { round, stream, .. } = note;
        let control = &self.teller.control;
        let (name, group) = (self.name(&round), self.wanted.group);
        let kind = match self.wanted.at_rest {
            true => BookmarkKind::ApplicationConsistent,
            false => BookmarkKind::CrashConsistent,
        };
        let all_hold = || self.ask(MeetStage::Held { round: round.clone() });
        let place = || Ok(control.tracker.bookmark(control.clock.now(), kind, &name, Some(group))?);
        let begun = Instant::now();
        let sequence = together(control.rest.gate(), PAUSE, all_hold, place)?;
        tracing::info!("bookmark {name:?} is set: changes paused for {} ms", begun.elapsed().as_millis());
        Ok(Placed { round, stream, sequence })
    }

    fn ask(&self, at: MeetStage) -> Result<(), String> {
        match self.meeting.borrow_mut().meet(at) {
            Ok(MeetReply::Met) => Ok(()),
            Ok(MeetReply::Missed { why }) => Err(why),
            Ok(_) => Err("the configuration server answers something else".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn failed(&self, why: &str, next: &str) -> End {
        let object = format!("bookmark {} of group {}", self.wanted.name, self.wanted.group);
        End::Failed(Failure::new(object, "it was not set on all machines of the group", why, next))
    }
}

const NEXT: &str =
    "look whether all source agents of the group are connected and at work, and order it again";

/// Whether a refusal of the configuration server stays one.
fn is_final(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NotFound | ErrorCode::Conflict | ErrorCode::BadRequest)
}

/// Lets changes pause, and places something once all pause: only when the pause has lasted without a break until then. Else
/// says why nothing was placed.
fn together<T>(
    gate: &Gate,
    longest: Duration,
    all_hold: impl FnOnce() -> Result<(), String>,
    place: impl FnOnce() -> AnyResult<T>,
) -> Result<T, String> {
    let within = |what: &str| format!("{what} within {} ms", longest.as_millis());
    let pause = gate
        .pause(longest)
        .ok_or_else(|| within("changes are held or refused here, or those under way have not ended"))?;
    all_hold()?;
    if !pause.keep() {
        return Err(within("the answer that all hold their changes has not come"));
    }
    place().map_err(|error| format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const MOMENT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_note_is_read_back() {
        let note = Note { round: "0123abcd".into(), stream: "ab".into(), from: u64::MAX };
        assert_eq!(Note::parse(&note.text()), Some(note));
        for text in ["", "0123abcd", "0123abcd ab", "0123abcd ab x"] {
            assert_eq!(Note::parse(text), None, "{text}");
        }
    }

    #[test]
    fn nothing_is_placed_unless_all_hold_and_this_one_does_so_still() {
        let gate = Gate::default();
        let never = || -> AnyResult<()> { panic!("it is placed") };
        let said = together(&gate, LONG, || Err("db01 did not come".into()), never).unwrap_err();
        assert_eq!(said, "db01 did not come");
        assert!(gate.enter().is_some(), "changes go on");
        let inside = gate.enter().unwrap();
        let said = together(&gate, MOMENT, || panic!("it does not hold"), never).unwrap_err();
        assert!(said.contains("have not ended"), "{said}");
        drop(inside);
        let failing = || Err::<(), _>(anyhow::anyhow!("a sync is not finished"));
        assert_eq!(together(&gate, LONG, || Ok(()), failing).unwrap_err(), "a sync is not finished");
        assert!(gate.enter().is_some());
    }

    /// The answer comes too late: a writer was not kept longer than the limit, and nothing is placed.
    #[test]
    fn a_writer_waits_no_longer_than_the_limit_whatever_the_answer_does() {
        let gate = Gate::default();
        let (done, written) = mpsc::channel();
        std::thread::scope(|scope| {
            let gate = &gate;
            let late = || {
                let begun = Instant::now();
                scope.spawn(move || done.send((gate.enter().is_some(), begun.elapsed())).unwrap());
                let (entered, waited) = written.recv().unwrap();
                // Far more than the limit, for a loaded machine, and far less than the answer could take.
                assert!(entered && waited < LONG / 10, "{waited:?}");
                Ok(())
            };
            let said =
                together(gate, MOMENT, late, || -> AnyResult<()> { panic!("it is placed") }).unwrap_err();
            assert!(said.contains("has not come within 50 ms"), "{said}");
        });
    }

    #[test]
    fn what_is_placed_is_placed_before_any_change_that_waited() {
        let gate = Gate::default();
        let (done, written) = mpsc::channel();
        std::thread::scope(|scope| {
            let (gate, written) = (&gate, &written);
            let all_hold = || {
                scope.spawn(move || done.send(gate.enter().is_some()).unwrap());
                assert!(written.recv_timeout(MOMENT).is_err(), "it waits");
                Ok(())
            };
            let place = || {
                assert!(written.recv_timeout(MOMENT).is_err(), "it waits still");
                Ok(7)
            };
            assert_eq!(together(gate, LONG, all_hold, place), Ok(7));
            assert!(written.recv().unwrap());
        });
    }
}
