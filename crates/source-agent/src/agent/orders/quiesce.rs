//! Bringing the disks to rest, and letting them be written to again.
//!
//! A thread of the agent's own does it ([`quiesce`]), since it goes on whether or not anybody waits for it; the order
//! begins it, and tells how it stands.

use super::Order;
use crate::agent::quiesce;
use crate::agent::quiescence::Quiescence;
use change_stream::MAX_TEXT;
use control_api::Failure;
use disk::Bytes;
use registration::link::End;
use std::time::{Duration, Instant};

const LEVEL: &str = "Bring the master target level, and the disks to rest";
const DRAIN: &str = "Wait until the master target has everything";
const FREE: &str = "Let writes through";
/// How long a quiesce that is cancelled may take to let writes through.
const FREE_WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Order<'_> {
    pub(super) fn quiesce(&self, bookmark: &str) -> Result<String, End> {
        if bookmark.is_empty() || bookmark.len() > MAX_TEXT || bookmark.contains(char::is_control) {
            let why = format!("a bookmark's name has 1 to {MAX_TEXT} bytes and no control characters");
            return Err(not_quiesced(&why, "order it with another name"));
        }
        self.told.plan(&[LEVEL, DRAIN]);
        self.told.begin(LEVEL);
        self.begin_quiesce(bookmark)?;
        let (mut draining, mut said) = (false, String::new());
        loop {
            if self.told.is_stopping() {
                return Err(End::Stopped);
            }
            match self.control.rest.state() {
                Some(
                    Quiescence::Beginning { bookmark: other } | Quiescence::Draining { bookmark: other, .. },
                ) if other != bookmark => {
                    return Err(not_quiesced("another order came after it", "look at mt-source status"));
                }
                Some(Quiescence::Draining { .. }) if !draining => {
                    draining = true;
                    self.told.begin(DRAIN);
                }
                Some(Quiescence::Beginning { .. } | Quiescence::Draining { .. }) => {}
                Some(Quiescence::Quiesced { .. }) => {
                    return Ok(format!(
                        "the disks are at rest, and the master target has everything up to bookmark {bookmark}; writes \
                         are refused"
                    ));
                }
                Some(Quiescence::GivenUp { cancelled: true, .. }) => return Err(End::Cancelled),
                Some(Quiescence::GivenUp { why, .. }) => {
                    return Err(not_quiesced(
                        &format!("{why}; writes go on"),
                        "put that right, and order it again",
                    ));
                }
                None => {
                    return Err(not_quiesced("it was ended by another order", "look at mt-source status"));
                }
            }
            if self.told.is_cancelled() {
                self.control.rest.cancel();
            }
            let lacking = quiesce::lacking(&self.control.tracker.standing());
            let text = format!("the master target lacks {}", Bytes(lacking));
            if text != said {
                self.told.detail(&text);
                said = text;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Sees to it that a quiesce with this bookmark is under way, or has ended.
    fn begin_quiesce(&self, bookmark: &str) -> Result<(), End> {
        let control = self.control;
        let _turn = self.turn()?;
        match control.rest.state() {
            Some(found) if found.is_under_way() || found.is_quiesced() => {
                if found.bookmark() == bookmark {
                    return Ok(());
                }
                let is = if found.is_quiesced() { "is at rest already" } else { "is being brought to rest" };
                let why = format!("it {is}, with bookmark {}", found.bookmark());
                return Err(not_quiesced(&why, "let writes through first: mt-source unquiesce"));
            }
            // What became of this very order before the agent was killed.
            Some(Quiescence::GivenUp { bookmark: given_up, .. })
                if self.told.is_continued() && given_up == bookmark =>
            {
                return Ok(());
            }
            _ => {}
        }
        if control.replication.assignment().is_none() {
            let why = "its disks are not replicated, so no master target could take over";
            return Err(not_quiesced(why, "assign it to a master target first"));
        }
        quiesce::begin(control, self.runtime, bookmark)
            .map_err(|error| not_quiesced(&format!("{error:#}"), "put that right, and order it again"))
    }

    pub(super) fn unquiesce(&self) -> Result<String, End> {
        self.told.plan(&[FREE]);
        self.told.begin(FREE);
        let _turn = self.turn()?;
        let rest = &self.control.rest;
        let begun = Instant::now();
        loop {
            match rest.state() {
                Some(found) if found.is_quiesced() => {
                    rest.release().map_err(|error| not_free(&format!("{error:#}")))?;
                    tracing::info!("writes are let through again");
                    return Ok("writes are let through again".to_owned());
                }
                Some(found) if found.is_under_way() => rest.cancel(),
                _ => return Ok("the disks are not at rest; writes go on".to_owned()),
            }
            if self.told.is_stopping() {
                return Err(End::Stopped);
            }
            if begun.elapsed() > FREE_WITHIN {
                return Err(not_free("the quiesce that is under way does not end"));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Where the disks are replicated to stays as it is while they are brought to rest.
    pub(super) fn not_coming_to_rest(&self) -> Result<(), End> {
        let state = self.control.rest.state();
        let Some(found) = state.filter(Quiescence::is_under_way) else { return Ok(()) };
        Err(End::Failed(Failure::new(
            "mt-source",
            "where it replicates to is not changed",
            format!("its disks are being brought to rest, with bookmark {}", found.bookmark()),
            "wait until that has ended, or give it up: mt-source unquiesce",
        )))
    }
}

fn not_quiesced(why: &str, next: &str) -> End {
    End::Failed(Failure::new("mt-source", "its disks are not brought to rest", why, next))
}

fn not_free(why: &str) -> End {
    let next = "make room on the volume of the state folder, and order it again";
    End::Failed(Failure::new("mt-source", "writes are not let through", why, next))
}
