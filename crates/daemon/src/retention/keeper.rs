//! The task that looks after the volume.

use super::decision::{Past, decide};
use super::volume::{Request, Volume, VolumeState};
use crate::alerts::Alerts;
use crate::clock::{Clock, nanos};
use crate::item::Place;
use block_device::System;
use control_api::time::{self, Time};
use control_api::{AlertKind, RetentionState};
use disk::Class;
use retention_volume::{Error, FileSystemUuid, Sight, bring_back};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::sleep;

/// How often it looks when nobody asks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A look that takes longer says that the volume does not answer.
const LONGEST_LOOK: Duration = Duration::from_secs(10);
/// A volume that could not be mounted is tried again after this long, doubled each time…
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// …up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Items that may ask for a look at the same time before they have to wait.
const REQUESTS: usize = 64;

struct Keeper {
    place: Arc<Place>,
    clock: Clock,
    publish: watch::Sender<VolumeState>,
    requests: mpsc::Receiver<Request>,
    past: Past,
    setback: Option<Setback>,
    alerts: Alerts,
}

/// Why the volume could not be mounted.
struct Setback {
    why: String,
    times: u32,
    /// When it is tried again; `None` when a person has to do something.
    again: Option<Time>,
}

/// What is to be mounted.
struct Back {
    device: PathBuf,
    file_system: FileSystemUuid,
}

/// Starts the keeper. It has looked once when this returns.
pub(crate) async fn start(place: Arc<Place>, clock: Clock) -> (Volume, JoinHandle<()>) {
    let unknown = VolumeState {
        folder: place.volume_place().folder,
        state: RetentionState::NotMounted,
        detail: None,
        file_system: None,
        alerts: Vec::new(),
    };
    let (publish, mut state) = watch::channel(unknown);
    let (ask, requests) = mpsc::channel(REQUESTS);
    let keeps = place.clone();
    let missed = spawn_blocking(move || keeps.volume_missed()).await.unwrap_or_default();
    let past = if missed { Past::Missed } else { Past::default() };
    let (setback, alerts) = (None, Alerts::default());
    let keeper = Keeper { place, clock, publish, requests, past, setback, alerts };
    let task = tokio::spawn(keeper.run());
    // The first look finds something to say, since there is no detail yet. The task ends only when the caller ends it.
    let _ = state.changed().await;
    (Volume::new(state, ask), task)
}

impl Keeper {
    async fn run(mut self) {
        let mut asked: Vec<Request> = Vec::new();
        loop {
            asked.extend(std::iter::from_fn(|| self.requests.try_recv().ok()));
            let back = self.look().await;
            for request in asked.drain(..) {
                let _ = request.send(self.publish.borrow().clone());
            }
            if let Some(back) = back.filter(|_| self.is_due()) {
                self.bring_back(back).await;
                continue;
            }
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                Some(request) = self.requests.recv() => asked.push(request),
            }
        }
    }

    /// Looks, says what it has seen, and what is to be mounted.
    async fn look(&mut self) -> Option<Back> {
        let place = self.place.volume_place();
        if place.trial {
            self.say(RetentionState::Trial, None, None);
            return None;
        }
        let keeps = self.place.clone();
        let mut looking = spawn_blocking(move || {
            let known = keeps.known_volume();
            let sight = Sight::of(&System::host(), &place, known.as_ref().map(|known| &known.id));
            sight.map(|sight| (sight, known.and_then(|known| known.file_system)))
        });
        let seen = tokio::select! {
            seen = &mut looking => seen,
            () = sleep(LONGEST_LOOK) => {
                let detail = "it does not answer: see whether its disk does, by dmesg and mtctl disks";
                self.say(RetentionState::Lost, Some(detail.to_owned()), None);
                looking.await
            }
        };
        match seen {
            Ok(Ok((sight, known))) => self.judge(&sight, known).await,
            Ok(Err(error)) => self.fail(&error),
            Err(defect) => self.fail(&defect),
        }
    }

    fn fail(&mut self, error: &dyn std::fmt::Display) -> Option<Back> {
        self.say(RetentionState::Lost, Some(format!("it cannot be looked at: {error}")), None);
        None
    }

    /// `known` is the file system of the volume that was used before.
    async fn judge(&mut self, sight: &Sight, known: Option<FileSystemUuid>) -> Option<Back> {
        let folder = self.place.volume_place().folder;
        let decision = decide(sight, &folder, known.is_some(), self.past);
        self.set_past(decision.past).await;
        let back = decision.bring_back.zip(known);
        if back.is_none() {
            self.setback = None;
        }
        let detail = decision.detail.map(|detail| match &self.setback {
            Some(setback) => setback.told(&detail),
            None => detail,
        });
        self.say(decision.state, detail, decision.file_system);
        back.map(|(device, file_system)| Back { device, file_system })
    }

    /// That the disk was away outlives this daemon, since what is mounted does.
    async fn set_past(&mut self, past: Past) {
        let missed = past == Past::Missed;
        if missed != (self.past == Past::Missed) {
            let place = self.place.clone();
            let remembered = spawn_blocking(move || place.set_volume_missed(missed)).await;
            if let Ok(Err(error)) = remembered {
                tracing::warn!(
                    "a restart of mtd will not know of it that the retention volume was lost: {error}"
                );
            }
        }
        self.past = past;
    }

    fn is_due(&self) -> bool {
        let due = |again: Time| again <= self.clock.now();
        self.setback.as_ref().is_none_or(|setback| setback.again.is_some_and(due))
    }

    async fn bring_back(&mut self, Back { device, file_system }: Back) {
        let folder = self.place.volume_place().folder;
        let place = folder.clone();
        let work = move || bring_back(&System::host(), &place, &device, file_system);
        match told(spawn_blocking(work).await) {
            Ok(()) => {
                tracing::info!("the retention volume {} was checked and mounted again", folder.display());
                self.set_past(Past::default()).await;
                self.setback = None;
            }
            Err((why, class)) => self.set_back(why, class),
        }
    }

    fn set_back(&mut self, why: String, class: Class) {
        if self.setback.as_ref().is_none_or(|setback| setback.why != why) {
            tracing::warn!("the retention volume is not mounted again: {why}");
        }
        let times = self.setback.as_ref().map_or(0, |setback| setback.times);
        let pause = FIRST_PAUSE.saturating_mul(1 << times.min(8)).min(LONGEST_PAUSE);
        let again = (class == Class::Retry).then(|| self.clock.now().saturating_add(nanos(pause)));
        self.setback = Some(Setback { why, times: times + 1, again });
    }

    /// Publishes how the volume stands, where that is news.
    fn say(&mut self, state: RetentionState, detail: Option<String>, file_system: Option<FileSystemUuid>) {
        let folder = self.place.volume_place().folder;
        let file_system = file_system.map(|uuid| uuid.to_string());
        let mut said = VolumeState { folder, state, detail, file_system, alerts: Vec::new() };
        match said.is_usable() {
            true => self.alerts.clear(AlertKind::RetentionLost),
            false => self.alerts.raise(AlertKind::RetentionLost, self.clock.now(), said.why()),
        }
        said.alerts = self.alerts.list();
        self.publish.send_if_modified(|published| {
            let news = *published != said;
            *published = said;
            news
        });
    }
}

impl Setback {
    fn told(&self, detail: &str) -> String {
        match self.again {
            Some(time) => format!("{detail}; {}; it is tried again at {}", self.why, time::format(time)),
            None => self.why.clone(),
        }
    }
}

/// What came of mounting it: why it failed, and what is to be done.
fn told(outcome: Result<retention_volume::Result<()>, JoinError>) -> Result<(), (String, Class)> {
    match outcome {
        Ok(Ok(())) => Ok(()),
        // The program that is late or missing today need not be tomorrow.
        Ok(Err(error @ Error::Machine(_))) => Err((error.to_string(), Class::Retry)),
        Ok(Err(error)) => Err((error.to_string(), error.class())),
        Err(defect) => Err((format!("a defect: {defect}; report it with the log"), Class::Retry)),
    }
}
