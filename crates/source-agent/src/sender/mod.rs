//! What the source says to the master target, and when.
//!
//! One session at a time: connect, `Hello`, `Welcome`, and then two things at once. Differential frames are taken out of
//! the backlog in order. And while granules are dirty a [`sync`] reads or compares them; each of its frames is put after
//! the change that its place names and before the next one. Anything that upsets this, from a lost connection to a
//! backlog that overflowed, ends the session, and the next one begins with what the tracker knows.

mod session;
mod sync;

use crate::backlog::front_frame;
use crate::job::{Job, JobDone, Outcome};
use crate::splitter::SplitterDisk;
use crate::tracker::{Standing, Tracker};
use change_stream::{Compression, Frame, PROTOCOL_VERSION, RefusalCode, StreamId, SyncMode, Time};
use disk::Bytes;
use session::Session;
use std::sync::Arc;

const SECOND: Time = 1_000_000_000;
/// Waits between attempts to connect grow from the first to the last of these.
const FIRST_WAIT: Time = SECOND;
const LAST_WAIT: Time = 30 * SECOND;
/// Wait after a refusal that only a person can lift.
const REFUSED_WAIT: Time = 10 * SECOND;
/// Silence of the target, with something unacknowledged, after which the connection counts as lost.
const SILENCE: Time = 300 * SECOND;

/// How the sender works.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// The item, as the master target knows it.
    pub item: String,
    /// Name and version of this agent, for people.
    pub agent: String,
    /// How sync data is compressed. (What the backlog holds is compressed by who puts it on the wire.)
    pub compression: Compression,
    /// Extra connections for sync data.
    pub bulk_connections: usize,
    /// Jobs at once.
    pub jobs: usize,
    /// Most bytes of sync data read and not acknowledged.
    pub window: u64,
    /// A pass over disks that change unseen: everything is compared, and the target is level at the end only if the
    /// disks are quiet meanwhile.
    pub scan: Option<Scan>,
}

/// A pass of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Nothing writes to the disks during the pass.
    pub quiet: bool,
}

/// What happened.
pub enum Event {
    /// The connection that was asked for is there. The stream id is new, for use if numbering has to begin anew.
    Connected {
        /// Random.
        fresh_stream: StreamId,
    },
    /// An extra connection is there; its `BulkHello` has been sent.
    BulkConnected {
        /// Its number, as it was asked for.
        connection: usize,
    },
    /// A frame came.
    Frame(Frame),
    /// A connection could not be made, or any connection of the session broke.
    Disconnected {
        /// What to tell people.
        why: String,
    },
    /// So many bytes of the session's own connection were handed to the operating system.
    Sent {
        /// Bytes, as they were in [`Action::Send`].
        bytes: usize,
    },
    /// The oldest [`Action::SendBulk`] of a connection was handed to the operating system.
    BulkSent {
        /// Its number.
        connection: usize,
    },
    /// A job is done.
    JobDone(JobDone),
    /// The tracker has something new.
    Changed,
    /// Time has passed.
    Tick,
    /// Somebody gave an order: a wait for the next attempt is over, since what it waits for may be mended.
    Hurry,
    /// End the session; nothing follows.
    Stop {
        /// For people at the target.
        reason: String,
    },
}

/// What to do.
pub enum Action {
    /// Connect to the master target and report [`Event::Connected`] or [`Event::Disconnected`].
    Connect,
    /// Put encoded frames on the session's connection and report [`Event::Sent`].
    Send(Vec<u8>),
    /// Open an extra connection and begin it with this frame.
    OpenBulk {
        /// Its number, from 0.
        connection: usize,
        /// `BulkHello`.
        hello: Frame,
    },
    /// Put an encoded frame on an extra connection and report [`Event::BulkSent`].
    SendBulk {
        /// Its number.
        connection: usize,
        /// The frame.
        frame: Vec<u8>,
    },
    /// Close all connections once what was to be sent on them is sent. Nothing more is reported about them.
    Close,
    /// Run a job and report [`Event::JobDone`].
    Run(Job),
    /// Report [`Event::Tick`] at this time at the latest.
    WakeAt(Time),
    /// Tell people.
    Notice(Notice),
}

/// Something that people want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A session began.
    Connected,
    /// The session or the attempt at one ended.
    Lost {
        /// Why.
        why: String,
        /// Nanoseconds until the next attempt.
        retry_in: Time,
    },
    /// The target refuses.
    Refused {
        /// Why.
        code: RefusalCode,
        /// Why, in the target's words.
        message: String,
        /// Nanoseconds until the next attempt.
        retry_in: Time,
    },
    /// A sync began.
    SyncStarted {
        /// How.
        mode: SyncMode,
        /// Bytes that may differ.
        bytes: u64,
        /// Why.
        why: String,
    },
    /// A sync ended durably; the flag says that the target is level.
    SyncFinished {
        /// Level.
        consistent: bool,
    },
    /// The backlog was given up.
    Overflowed {
        /// Why.
        cause: String,
    },
    /// Reading, hashing or keeping state failed; the session is begun anew.
    Failed {
        /// What, and why.
        what: String,
    },
    /// The sender has ended.
    Stopped,
}

/// What the sender is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No session.
    Offline {
        /// Why, if it is known.
        why: Option<String>,
    },
    /// Connecting or waiting for `Welcome`.
    Connecting,
    /// A sync is under way.
    Syncing {
        /// How.
        mode: SyncMode,
        /// How far.
        progress: Progress,
    },
    /// The target has everything but the backlog.
    Level,
    /// Ended.
    Stopped,
}

/// How far a sync is, in bytes of disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Durable at the target or found equal.
    pub done: u64,
    /// All that was dirty when it began.
    pub total: u64,
    /// Bytes of data that had to be sent.
    pub sent: u64,
    /// When it began.
    pub since: Time,
}

/// A view of the sender and the tracker.
#[derive(Clone, Debug)]
pub struct Status {
    /// What it is doing.
    pub stage: Stage,
    /// Where the stream stands.
    pub standing: Standing,
    /// Newest number sent in this session.
    pub sent_sequence: Option<u64>,
}

/// The state machine; see the module.
pub struct Sender {
    config: SenderConfig,
    tracker: Arc<Tracker>,
    disks: Vec<Arc<SplitterDisk>>,
    state: State,
    /// Sessions so far; tells jobs of an earlier one apart.
    sessions: u64,
    wait: Time,
    why_offline: Option<String>,
    /// The backlog was found damaged: only a comparison of everything helps.
    everything: bool,
    fresh_stream: Option<StreamId>,
}

enum State {
    Waiting { until: Time },
    Connecting,
    Greeting { standing: Box<Standing> },
    Active(Box<Session>),
    Stopped,
}

impl Sender {
    /// A sender that connects at its first step. The disks are those of the tracker, in their order.
    pub fn new(config: SenderConfig, tracker: Arc<Tracker>, disks: Vec<Arc<SplitterDisk>>) -> Sender {
        Sender {
            config,
            tracker,
            disks,
            state: State::Waiting { until: 0 },
            sessions: 0,
            wait: FIRST_WAIT,
            why_offline: None,
            everything: false,
            fresh_stream: None,
        }
    }

    /// Takes in what happened and says what to do.
    pub fn step(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Connected { fresh_stream } => self.connected(fresh_stream, actions),
            Event::Disconnected { why } => self.disconnected(now, why, actions),
            Event::Frame(frame) => self.frame(now, frame, actions),
            Event::JobDone(done) => self.job_done(now, done, actions),
            Event::Stop { reason } => self.stop(reason, actions),
            Event::Sent { bytes } => self.with_session(|session| session.sent(bytes)),
            Event::BulkSent { connection } => self.with_session(|session| session.bulk_sent(connection)),
            Event::BulkConnected { connection } => {
                self.with_session(|session| session.bulk_connected(connection));
            }
            Event::Hurry => self.hurry(now),
            Event::Changed | Event::Tick => {}
        }
        self.go_on(now, actions);
    }

    /// What it is doing.
    pub fn status(&self) -> Status {
        let (stage, sent_sequence) = match &self.state {
            State::Waiting { .. } => (Stage::Offline { why: self.why_offline.clone() }, None),
            State::Connecting | State::Greeting { .. } => (Stage::Connecting, None),
            State::Active(session) => (session.stage(), Some(session.sent_sequence())),
            State::Stopped => (Stage::Stopped, None),
        };
        Status { stage, standing: self.tracker.standing(), sent_sequence }
    }

    fn with_session(&mut self, act: impl FnOnce(&mut Session)) {
        if let State::Active(session) = &mut self.state {
            act(session);
        }
    }

    fn hurry(&mut self, now: Time) {
        if let State::Waiting { until } = &mut self.state {
            *until = now;
            self.wait = FIRST_WAIT;
        }
    }

    fn connected(&mut self, fresh_stream: StreamId, actions: &mut Vec<Action>) {
        if !matches!(self.state, State::Connecting) {
            return;
        }
        self.fresh_stream = Some(fresh_stream);
        let standing = self.tracker.standing();
        let hello = Frame::Hello {
            version: PROTOCOL_VERSION,
            item: self.config.item.clone(),
            stream: standing.stream,
            disks: self.tracker.disks().to_vec(),
            oldest_held: standing.oldest_held,
            next_sequence: standing.next_sequence,
            agent: self.config.agent.clone(),
        };
        let mut bytes = Vec::new();
        match change_stream::encode(&hello, Compression::None, &mut bytes) {
            Ok(()) => {
                actions.push(Action::Send(bytes));
                self.state = State::Greeting { standing: Box::new(standing) };
            }
            Err(error) => {
                actions.push(Action::Notice(Notice::Failed { what: error.to_string() }));
                actions.push(Action::Close);
                self.state = State::Stopped;
            }
        }
    }

    fn disconnected(&mut self, now: Time, why: String, actions: &mut Vec<Action>) {
        if matches!(self.state, State::Waiting { .. } | State::Stopped) {
            return;
        }
        let retry_in = self.wait;
        self.wait = (self.wait * 2).min(LAST_WAIT);
        actions.push(Action::Notice(Notice::Lost { why: why.clone(), retry_in }));
        self.give_up(why, now + retry_in, actions);
    }

    fn give_up(&mut self, why: String, until: Time, actions: &mut Vec<Action>) {
        actions.push(Action::Close);
        self.why_offline = Some(why);
        self.state = State::Waiting { until };
    }

    /// Ends the session in order to begin the next one at once.
    fn restart(&mut self, now: Time, why: String, actions: &mut Vec<Action>) {
        if let Some(bytes) = goodbye(&why) {
            actions.push(Action::Send(bytes));
        }
        self.give_up(why, now, actions);
    }

    fn stop(&mut self, reason: String, actions: &mut Vec<Action>) {
        if let (State::Active(_), Some(bytes)) = (&self.state, goodbye(&reason)) {
            actions.push(Action::Send(bytes));
        }
        if !matches!(self.state, State::Stopped) {
            actions.extend([Action::Close, Action::Notice(Notice::Stopped)]);
        }
        self.state = State::Stopped;
    }

    fn failed(&mut self, now: Time, what: String, actions: &mut Vec<Action>) {
        actions.push(Action::Notice(Notice::Failed { what: what.clone() }));
        self.disconnected(now, what, actions);
    }

    fn frame(&mut self, now: Time, frame: Frame, actions: &mut Vec<Action>) {
        match (frame, &mut self.state) {
            (Frame::Refused { code, message }, State::Greeting { .. } | State::Active(_)) => {
                self.refused(now, code, message, actions);
            }
            (welcome @ Frame::Welcome { .. }, State::Greeting { standing }) => {
                let standing = **standing;
                self.welcome(now, &welcome, &standing, actions);
            }
            (Frame::Ack { durable_sequence, durable_sync }, State::Active(session)) => {
                session.heard(now);
                let result = session.acknowledged(&self.tracker, durable_sequence, durable_sync);
                match result {
                    Ok(Some(consistent)) => {
                        self.wait = FIRST_WAIT;
                        actions.push(Action::Notice(Notice::SyncFinished { consistent }));
                    }
                    Ok(None) => self.wait = FIRST_WAIT,
                    Err(error) => self.failed(now, error.to_string(), actions),
                }
            }
            (Frame::HashReply { request, differs }, State::Active(session)) => {
                session.heard(now);
                session.hash_reply(request, &differs);
            }
            (frame, State::Greeting { .. } | State::Active(_)) => {
                let why =
                    format!("the master target sent a {} frame that has no place here", frame.frame_type());
                self.disconnected(now, why, actions);
            }
            _ => {}
        }
    }

    fn refused(&mut self, now: Time, code: RefusalCode, message: String, actions: &mut Vec<Action>) {
        let retry_in = match code {
            RefusalCode::ResyncRequired => 0,
            RefusalCode::Busy | RefusalCode::ShuttingDown | RefusalCode::Protocol => {
                self.wait = (self.wait * 2).min(LAST_WAIT);
                self.wait
            }
            _ => REFUSED_WAIT,
        };
        let why = format!("the master target refuses ({code:?}): {message}");
        actions.push(Action::Notice(Notice::Refused { code, message, retry_in }));
        self.give_up(why, now + retry_in, actions);
    }

    fn welcome(&mut self, now: Time, welcome: &Frame, hello: &Standing, actions: &mut Vec<Action>) {
        let plan = session::Plan::new(welcome, hello, &self.config, self.everything, self.fresh_stream);
        self.sessions += 1;
        let begun = plan.and_then(|plan| {
            Session::begin(now, self.sessions, plan, &self.config, &self.tracker, &self.disks, actions)
        });
        match begun {
            Ok(session) => {
                self.everything = false;
                self.why_offline = None;
                actions.push(Action::Notice(Notice::Connected));
                self.state = State::Active(Box::new(session));
            }
            Err(why) => self.failed(now, why, actions),
        }
    }

    fn job_done(&mut self, now: Time, done: JobDone, actions: &mut Vec<Action>) {
        let State::Active(session) = &mut self.state else { return };
        if done.session != session.number() {
            return;
        }
        let result = match done.outcome {
            Outcome::Backlog(bytes) => {
                bytes.map(|bytes| session.backlog_read(bytes)).map_err(|e| e.to_string())
            }
            Outcome::Hashed { request, result } => {
                result.map_err(|e| e.to_string()).and_then(|hashes| session.hashed(request, hashes))
            }
            Outcome::Read { block, result } => {
                result.map(|read| session.block_read(block, read, actions)).map_err(|e| e.to_string())
            }
        };
        if let Err(what) = result {
            self.failed(now, what, actions);
        }
    }

    fn go_on(&mut self, now: Time, actions: &mut Vec<Action>) {
        if let State::Waiting { until } = self.state {
            if now < until {
                return actions.push(Action::WakeAt(until));
            }
            self.state = State::Connecting;
            return actions.push(Action::Connect);
        }
        let State::Active(session) = &mut self.state else { return };
        if session.outdated(&self.tracker) {
            let cause = self.tracker.take_overflow_cause();
            if let Some(cause) = &cause {
                actions.push(Action::Notice(Notice::Overflowed { cause: cause.clone() }));
            }
            let why = cause.map_or_else(
                || "a change failed on its disk; what it touched has to be compared".to_owned(),
                |cause| format!("the backlog was given up ({cause}); what it held has to be compared"),
            );
            return self.restart(now, why, actions);
        }
        if session.is_silent(now) {
            let why = format!("the master target has not answered for {} s", SILENCE / SECOND);
            return self.disconnected(now, why, actions);
        }
        if let Err(what) = session.pump(now, &self.tracker, &self.config, actions) {
            self.everything = true;
            self.failed(now, what, actions);
        }
    }
}

fn goodbye(reason: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let frame = Frame::Goodbye { reason: reason.chars().take(1000).collect() };
    change_stream::encode(&frame, Compression::None, &mut bytes).ok().map(|()| bytes)
}

fn show_bytes(bytes: u64) -> String {
    Bytes(bytes).to_string()
}
