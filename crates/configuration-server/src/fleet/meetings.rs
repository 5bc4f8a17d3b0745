//! Meetings of hosts, in memory alone: nothing of them outlives a restart, and nothing has to.
//!
//! A member waits here until all members are at the same stage; a request that waits no more, since its time is over or
//! its host is gone, counts as not there. What is told is told to all at one moment, under the lock: at that moment each of
//! them waited, and so was where it said. Rounds are called by chance, so that whatever is lost, no bookmark of one round
//! is taken for one of another.

use control_api::agent::{MeetReply, MeetStage};
use control_api::registration::Hex;
use rand_core::{OsRng, RngCore};
use std::collections::{BTreeMap, HashMap};
use std::mem::discriminant;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Meetings at once: one for each group that there may be.
const MOST: usize = crate::store::groups::MAX_GROUPS as usize;
/// One that nobody came to for so long is forgotten.
const LASTS: Duration = Duration::from_secs(600);

/// The meetings, by their ids.
#[derive(Clone, Default)]
pub(crate) struct Meetings {
    open: Arc<Mutex<HashMap<String, Meeting>>>,
}

struct Meeting {
    round: Option<String>,
    waiting: Vec<Waiting>,
    /// It is forgotten then.
    until: Instant,
}

/// A member that waits.
struct Waiting {
    host: i64,
    at: MeetStage,
    reply: oneshot::Sender<MeetReply>,
}

impl Meetings {
    /// The host in this row is at a stage. What it is told comes when all members are there; `None` when there are too many
    /// meetings.
    pub(crate) fn arrive(
        &self,
        meeting: &str,
        host: i64,
        at: MeetStage,
        members: &BTreeMap<i64, String>,
    ) -> Option<oneshot::Receiver<MeetReply>> {
        let mut open = self.lock();
        if !open.contains_key(meeting) {
            let now = Instant::now();
            open.retain(|_, known| known.until > now);
            if open.len() >= MOST {
                return None;
            }
        }
        let new = || Meeting { round: None, waiting: Vec::new(), until: Instant::now() + LASTS };
        let known = open.entry(meeting.to_owned()).or_insert_with(new);
        let (reply, told) = oneshot::channel();
        if known.arrive(Waiting { host, at, reply }, members) == Some(MeetReply::Done) {
            open.remove(meeting);
        }
        Some(told)
    }

    /// Names of the members that do not wait at this stage.
    pub(crate) fn absent(
        &self,
        meeting: &str,
        at: &MeetStage,
        members: &BTreeMap<i64, String>,
    ) -> Vec<String> {
        let open = self.lock();
        let waiting: &[Waiting] = open.get(meeting).map_or(&[], |known| &known.waiting);
        let here = |host: i64| waiting.iter().any(|other| other.host == host && other.is_at(at));
        members.iter().filter(|(host, _)| !here(**host)).map(|(_, name)| name.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Meeting>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn is_at(&self, at: &MeetStage) -> bool {
        discriminant(&self.at) == discriminant(at) && !self.reply.is_closed()
    }
}

impl Meeting {
    /// Another one waits; what all are told, when that is now.
    fn arrive(&mut self, arrived: Waiting, members: &BTreeMap<i64, String>) -> Option<MeetReply> {
        self.until = Instant::now() + LASTS;
        if let MeetStage::Ready { round } | MeetStage::Held { round } = &arrived.at
            && self.round.as_ref() != Some(round)
        {
            // Whoever has gone meanwhile need not be told.
            let _ = arrived.reply.send(MeetReply::Missed { why: "that round is over".into() });
            return None;
        }
        let (host, at) = (arrived.host, arrived.at.clone());
        // A request that is sent again counts, the one before does not.
        self.waiting.retain(|other| other.host != host && !other.reply.is_closed());
        self.waiting.push(arrived);
        let here = |host: &i64| self.waiting.iter().any(|other| other.host == *host && other.is_at(&at));
        if !members.keys().all(here) {
            return None;
        }
        let (met, others) = std::mem::take(&mut self.waiting).into_iter().partition(|other| other.is_at(&at));
        self.waiting = others;
        let told = match at {
            MeetStage::Gathered { .. } => self.next(&met),
            MeetStage::Ready { .. } | MeetStage::Held { .. } => MeetReply::Met,
        };
        for one in met {
            let _ = one.reply.send(told.clone());
        }
        Some(told)
    }

    /// What follows when all have gathered.
    fn next(&mut self, met: &[Waiting]) -> MeetReply {
        let placed = |one: &Waiting| match &one.at {
            MeetStage::Gathered { placed } => placed.clone(),
            MeetStage::Ready { .. } | MeetStage::Held { .. } => None,
        };
        let first = met.first().and_then(placed);
        if first.is_some() && met.iter().all(|one| placed(one) == first) {
            return MeetReply::Done;
        }
        let mut round = [0; 4];
        OsRng.fill_bytes(&mut round);
        let round = Hex::from(round.as_slice()).to_string();
        self.round = Some(round.clone());
        MeetReply::Round { round }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> BTreeMap<i64, String> {
        [(1, "web01".to_owned()), (2, "db01".to_owned())].into()
    }

    fn gathered(placed: Option<&str>) -> MeetStage {
        MeetStage::Gathered { placed: placed.map(str::to_owned) }
    }

    fn held(round: &str) -> MeetStage {
        MeetStage::Held { round: round.to_owned() }
    }

    struct World(Meetings);

    impl World {
        fn arrive(&self, host: i64, at: MeetStage) -> oneshot::Receiver<MeetReply> {
            self.0.arrive("m", host, at, &members()).unwrap()
        }

        /// Both gather, and a round begins.
        fn round(&self) -> String {
            let mut first = self.arrive(1, gathered(None));
            assert!(first.try_recv().is_err(), "the other one is not there");
            assert_eq!(self.0.absent("m", &gathered(None), &members()), ["db01"]);
            let mut second = self.arrive(2, gathered(None));
            let MeetReply::Round { round } = first.try_recv().unwrap() else { panic!("no round") };
            assert_eq!(second.try_recv(), Ok(MeetReply::Round { round: round.clone() }));
            round
        }
    }

    #[test]
    fn all_are_told_when_the_last_one_comes() {
        let world = World(Meetings::default());
        let round = world.round();
        let mut first = world.arrive(2, held(&round));
        assert!(first.try_recv().is_err());
        let mut second = world.arrive(1, held(&round));
        assert_eq!((first.try_recv(), second.try_recv()), (Ok(MeetReply::Met), Ok(MeetReply::Met)));
        let mut first = world.arrive(1, gathered(Some(&round)));
        let mut second = world.arrive(2, gathered(Some(&round)));
        assert_eq!((first.try_recv(), second.try_recv()), (Ok(MeetReply::Done), Ok(MeetReply::Done)));
        assert!(world.0.lock().is_empty());
    }

    #[test]
    fn who_waits_no_more_is_not_there() {
        let world = World(Meetings::default());
        let round = world.round();
        drop(world.arrive(1, held(&round)));
        let mut second = world.arrive(2, held(&round));
        assert!(second.try_recv().is_err(), "the first one lets its changes go on");
        // It may come again, and so may the other.
        let mut again = world.arrive(2, held(&round));
        assert!(second.try_recv().is_err());
        let mut first = world.arrive(1, held(&round));
        assert_eq!((first.try_recv(), again.try_recv()), (Ok(MeetReply::Met), Ok(MeetReply::Met)));
        assert_ne!(second.try_recv(), Ok(MeetReply::Met), "what was sent again counts once");
    }

    #[test]
    fn those_at_other_stages_and_in_other_rounds_do_not_meet() {
        let world = World(Meetings::default());
        let round = world.round();
        let mut ready = world.arrive(1, MeetStage::Ready { round: round.clone() });
        let mut second = world.arrive(2, held(&round));
        assert!(ready.try_recv().is_err() && second.try_recv().is_err());
        let next = world.round();
        assert_ne!(next, round);
        let mut late = world.arrive(1, held(&round));
        assert!(matches!(late.try_recv(), Ok(MeetReply::Missed { .. })));
        let mut second = world.arrive(2, held(&next));
        assert!(second.try_recv().is_err(), "what belongs to an earlier round does not count");
    }

    /// Whatever the server forgot: only one and the same round on all of them is an end.
    #[test]
    fn a_meeting_is_done_only_when_all_have_placed_in_one_round() {
        for (one, other, done) in [
            (None, None, false),
            (Some("0000000a"), None, false),
            (Some("0000000a"), Some("0000000b"), false),
            (Some("0000000a"), Some("0000000a"), true),
        ] {
            let world = World(Meetings::default());
            let mut first = world.arrive(1, gathered(one));
            let _second = world.arrive(2, gathered(other));
            assert_eq!(first.try_recv() == Ok(MeetReply::Done), done, "{one:?} {other:?}");
        }
    }

    #[test]
    fn meetings_are_bounded_and_forgotten() {
        let meetings = Meetings::default();
        for number in 0..MOST {
            assert!(meetings.arrive(&number.to_string(), 1, gathered(None), &members()).is_some());
        }
        assert!(meetings.arrive("one more", 1, gathered(None), &members()).is_none());
        assert!(meetings.arrive("7", 1, gathered(None), &members()).is_some());
        meetings.lock().get_mut("7").unwrap().until = Instant::now();
        assert!(meetings.arrive("one more", 1, gathered(None), &members()).is_some());
        assert!(!meetings.lock().contains_key("7"));
    }
}
