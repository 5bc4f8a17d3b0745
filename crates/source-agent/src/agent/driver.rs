//! Does what the sender says: the one task that owns it.

use super::connection::{self, Peer, Which};
use super::host::{self, SteadyClock};
use crate::{Action, Event, JobDone, Notice, Sender, Status};
use change_stream::Frame;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::{Notify, mpsc, oneshot};

/// Messages that may wait for the driver: frames of the target beyond them are not read yet.
const MESSAGES: usize = 256;

/// What reaches the driver.
pub(crate) enum Message {
    Connected(Which),
    Broken(Which, String),
    Frame(Which, Frame),
    Sent { which: Which, bytes: usize, count: usize },
    JobDone(Box<JobDone>),
    Status(oneshot::Sender<Status>),
    Hurry,
    Stop { reason: String, done: oneshot::Sender<()> },
}

pub(crate) struct Driver {
    sender: Sender,
    peer: Arc<Peer>,
    clock: SteadyClock,
    changed: Arc<Notify>,
    messages: mpsc::Sender<Message>,
    notices: mpsc::UnboundedSender<Notice>,
    /// Connections asked for so far: the current session is the last of them.
    session: u64,
    /// Queues of the open connections; dropping one closes its connection when all is sent.
    queues: HashMap<Option<usize>, mpsc::UnboundedSender<Vec<u8>>>,
    closing: Vec<tokio::task::JoinHandle<()>>,
    open: Vec<tokio::task::JoinHandle<()>>,
    wake: Option<Instant>,
    /// Bytes sent, over all connections.
    sent: Arc<AtomicU64>,
}

/// Whom a driver tells what it does.
#[derive(Clone)]
pub(crate) struct Listeners {
    pub(crate) notices: mpsc::UnboundedSender<Notice>,
    /// Bytes sent, over all connections; drivers that follow each other count on.
    pub(crate) sent: Arc<AtomicU64>,
}

/// A handle to a running driver.
#[derive(Clone)]
pub(crate) struct DriverHandle {
    messages: mpsc::Sender<Message>,
}

impl DriverHandle {
    pub(crate) async fn status(&self) -> Option<Status> {
        let (reply, status) = oneshot::channel();
        self.messages.send(Message::Status(reply)).await.ok()?;
        status.await.ok()
    }

    /// Connects at once, if it waits to do so.
    pub(crate) async fn hurry(&self) {
        // One that has ended connects no more.
        let _ = self.messages.send(Message::Hurry).await;
    }

    /// Ends the session and waits until that was said to the target.
    pub(crate) async fn stop(&self, reason: &str) {
        let (done, stopped) = oneshot::channel();
        if self.messages.send(Message::Stop { reason: reason.to_owned(), done }).await.is_ok() {
            let _ = stopped.await;
        }
    }
}

/// Starts a driver; it runs until it is stopped.
pub(crate) fn start(
    sender: Sender,
    peer: Arc<Peer>,
    clock: SteadyClock,
    changed: Arc<Notify>,
    listeners: Listeners,
) -> DriverHandle {
    let (messages, incoming) = mpsc::channel(MESSAGES);
    let Listeners { notices, sent } = listeners;
    let driver = Driver {
        sender,
        peer,
        clock,
        changed,
        messages: messages.clone(),
        notices,
        session: 0,
        queues: HashMap::new(),
        closing: Vec::new(),
        open: Vec::new(),
        wake: None,
        sent,
    };
    tokio::spawn(driver.run(incoming));
    DriverHandle { messages }
}

impl Driver {
    async fn run(mut self, mut incoming: mpsc::Receiver<Message>) {
        let changed = self.changed.clone();
        self.step(Event::Tick);
        loop {
            let wake = self.wake.unwrap_or_else(|| Instant::now() + std::time::Duration::from_secs(60));
            tokio::select! {
                message = incoming.recv() => match message {
                    Some(Message::Stop { reason, done }) => return self.stop(reason, done, incoming).await,
                    Some(message) => self.take(message),
                    None => return,
                },
                () = changed.notified() => self.step(Event::Changed),
                () = tokio::time::sleep_until(wake.into()) => self.step(Event::Tick),
            }
        }
    }

    async fn stop(
        mut self,
        reason: String,
        done: oneshot::Sender<()>,
        mut incoming: mpsc::Receiver<Message>,
    ) {
        self.step(Event::Stop { reason });
        // Connections that are being closed must not wait for a driver that no longer listens.
        let drain = async { while incoming.recv().await.is_some() {} };
        let closed = async {
            for connection in self.closing.drain(..) {
                let _ = connection.await;
            }
        };
        tokio::select! { () = drain => {}, () = closed => {} }
        let _ = done.send(());
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Connected(which) if self.is_current(which) => match which.bulk {
                Some(connection) => self.step(Event::BulkConnected { connection }),
                None => match host::random_stream() {
                    Ok(fresh_stream) => self.step(Event::Connected { fresh_stream }),
                    Err(error) => self.step(Event::Disconnected { why: format!("{error:#}") }),
                },
            },
            Message::Broken(which, why) if self.is_current(which) => {
                self.step(Event::Disconnected { why });
            }
            Message::Frame(which, frame) if self.is_current(which) => self.step(Event::Frame(frame)),
            Message::Sent { which, bytes, count } if self.is_current(which) => {
                self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
                match which.bulk {
                    None => self.step(Event::Sent { bytes }),
                    Some(connection) => (0..count).for_each(|_| self.step(Event::BulkSent { connection })),
                }
            }
            Message::JobDone(done) => self.step(Event::JobDone(*done)),
            Message::Hurry => self.step(Event::Hurry),
            Message::Status(reply) => {
                let _ = reply.send(self.sender.status());
            }
            _ => {}
        }
    }

    fn is_current(&self, which: Which) -> bool {
        which.session == self.session && self.queues.contains_key(&which.bulk)
    }

    fn step(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.wake = None;
        self.sender.step(self.clock.now(), event, &mut actions);
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Connect => {
                self.session += 1;
                self.open(None, None);
            }
            Action::OpenBulk { connection, hello } => self.open(Some(connection), Some(hello)),
            Action::Send(bytes) => self.queue(None, bytes),
            Action::SendBulk { connection, frame } => self.queue(Some(connection), frame),
            Action::Close => {
                self.queues.clear();
                self.closing.retain(|connection| !connection.is_finished());
                self.closing.extend(self.open.drain(..).map(|open| tokio::spawn(reap(open))));
            }
            Action::Run(job) => {
                let messages = self.messages.clone();
                tokio::task::spawn_blocking(move || {
                    let done = job.run();
                    let _ = messages.blocking_send(Message::JobDone(Box::new(done)));
                });
            }
            Action::WakeAt(time) => {
                let instant = self.clock.instant(time);
                self.wake = Some(self.wake.map_or(instant, |wake| wake.min(instant)));
            }
            Action::Notice(notice) => {
                let _ = self.notices.send(notice);
            }
        }
    }

    fn open(&mut self, bulk: Option<usize>, hello: Option<Frame>) {
        let (queue, queued) = mpsc::unbounded_channel();
        self.queues.insert(bulk, queue);
        let which = Which { session: self.session, bulk };
        let run = connection::run(self.peer.clone(), which, hello, queued, self.messages.clone());
        self.open.push(tokio::spawn(run));
    }

    /// What is queued is bounded by the sender: it waits for what it sent to be reported as sent.
    fn queue(&mut self, bulk: Option<usize>, bytes: Vec<u8>) {
        if let Some(queue) = self.queues.get(&bulk) {
            let _ = queue.send(bytes);
        }
    }
}

/// Lets a connection send what it still has, for a while.
async fn reap(connection: tokio::task::JoinHandle<()>) {
    let abort = connection.abort_handle();
    if tokio::time::timeout(connection::CLOSE_LIMIT, connection).await.is_err() {
        abort.abort();
    }
}
