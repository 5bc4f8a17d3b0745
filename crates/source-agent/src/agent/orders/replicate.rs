//! Replicating to a master target, and to none.

use super::Order;
use crate::Stage;
use crate::agent::assignment::Assignment;
use crate::agent::replication::Replication;
use control_api::Failure;
use registration::link::End;
use std::time::{Duration, Instant};

const KEEP: &str = "Keep the assignment";
const REACH: &str = "Reach the master target";
const FORGET: &str = "Forget the assignment";
/// How long the master target may take to accept the session.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Order<'_> {
    pub(super) fn replicate(
        &self,
        item: &str,
        target: &str,
        server_name: Option<&str>,
    ) -> Result<String, End> {
        let wanted = Assignment {
            item: item.to_owned(),
            target: target.to_owned(),
            server_name: server_name.map(str::to_owned),
        };
        wanted
            .check()
            .map_err(|error| not_done(&wanted, &format!("{error:#}"), "order it with other names"))?;
        self.told.plan(&[KEEP, REACH]);
        self.told.begin(KEEP);
        self.go_to(&wanted)?;
        self.told.begin(REACH);
        self.reach(&wanted)
    }

    fn go_to(&self, wanted: &Assignment) -> Result<(), End> {
        let replication = &self.control.replication;
        let _turn = self.turn()?;
        let present = replication.assignment();
        if present.as_ref() == Some(wanted) {
            return Ok(());
        }
        if replication.is_fixed() {
            return Err(fixed(replication));
        }
        self.not_coming_to_rest()?;
        if !self.told.commit() {
            return Err(End::Cancelled);
        }
        self.moved(Some(wanted), "the source agent is assigned to another master target")
            .map_err(|why| not_done(wanted, &why, "put that right, and order it again"))
    }

    /// Writes it down and does it.
    fn moved(&self, to: Option<&Assignment>, why: &str) -> Result<(), String> {
        let replication = &self.control.replication;
        let done = replication.keep(to).and_then(|()| self.runtime.block_on(replication.follow(why)));
        done.map_err(|error| format!("{error:#}"))
    }

    fn reach(&self, wanted: &Assignment) -> Result<String, End> {
        let replication = &self.control.replication;
        let (begun, mut seen) = (Instant::now(), None);
        while begun.elapsed() < ACCEPTED_WITHIN {
            if replication.assignment().as_ref() != Some(wanted) {
                return Err(not_done(
                    wanted,
                    "another order came after it",
                    "order it again if it is still wanted",
                ));
            }
            match self.runtime.block_on(replication.status()).map(|status| status.stage) {
                Some(Stage::Level) => return Ok(format!("{}, which has every change", accepted(wanted))),
                Some(Stage::Syncing { .. }) => {
                    return Ok(format!("{}; the disks are being synced", accepted(wanted)));
                }
                Some(Stage::Offline { why: Some(why) }) if seen.as_ref() != Some(&why) => {
                    self.told.detail(&why);
                    seen = Some(why);
                }
                _ => {}
            }
            if self.told.is_stopping() {
                return Err(End::Stopped);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let why = seen.unwrap_or_else(|| "it did not answer".to_owned());
        Err(End::Failed(Failure::new(
            &wanted.target,
            format!("it has not accepted {} within {} s", wanted.item, ACCEPTED_WITHIN.as_secs()),
            why,
            "put that right; the agent keeps the assignment and goes on trying by itself",
        )))
    }

    pub(super) fn stop_replicating(&self) -> Result<String, End> {
        self.told.plan(&[FORGET]);
        self.told.begin(FORGET);
        let replication = &self.control.replication;
        let _turn = self.turn()?;
        if replication.is_fixed() {
            return Err(fixed(replication));
        }
        let Some(present) = replication.assignment() else {
            // One that could not be taken up is forgotten too.
            return match replication.keep(None) {
                Ok(()) => Ok("the disks were not replicated; they are served on".to_owned()),
                Err(error) => Err(not_forgotten(&format!("{error:#}"))),
            };
        };
        self.not_coming_to_rest()?;
        if !self.told.commit() {
            return Err(End::Cancelled);
        }
        self.moved(None, "the source agent stops replicating").map_err(|why| not_forgotten(&why))?;
        let Assignment { item, target, .. } = present;
        Ok(format!("the disks are not replicated to {target} as {item} any more; they are served on"))
    }
}

fn accepted(wanted: &Assignment) -> String {
    format!("{} has accepted {}", wanted.target, wanted.item)
}

fn fixed(replication: &Replication) -> End {
    let place = replication.assignment();
    let place = place.map_or_else(String::new, |place| format!(": {} as {}", place.target, place.item));
    End::Failed(Failure::new(
        "mt-source",
        "it cannot be told where to replicate to",
        format!("its target stands in mt-source.toml{place}"),
        "take item, target and server_name out of that file, restart mt-source, and order it again",
    ))
}

fn not_done(wanted: &Assignment, why: &str, next: &str) -> End {
    End::Failed(Failure::new(&wanted.item, format!("it is not replicated to {}", wanted.target), why, next))
}

fn not_forgotten(why: &str) -> End {
    End::Failed(Failure::new(
        "mt-source",
        "it does not stop replicating",
        why,
        "make room on the volume of the state folder, and order it again",
    ))
}
