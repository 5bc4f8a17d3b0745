//! The requests of one connection on their way through its threads.

use nbd::Request;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};

/// One thread takes as many requests at once as lately took about this long.
const SHARE_TIME: Duration = Duration::from_micros(100);
const MAX_SHARE: usize = 64;
/// A thread without work waits this long before it goes: starting one costs more than waking one.
const LINGER: Duration = Duration::from_millis(20);
/// Answers are handed on when they are this long, however many are still to come.
const ANSWER_SIZE: usize = 256 << 10;
/// What a request is counted with besides its data.
const OVERHEAD: usize = 1024;

/// Answers to some requests, ready to be sent, and what these requests were counted with.
pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    pub(super) charge: usize,
}

/// Hands requests to threads, and their answers to the writing task. When the last handle and the last thread are
/// gone, the channel of answers ends.
pub(super) struct Lane {
    state: Mutex<State>,
    wake: Condvar,
    answers: mpsc::UnboundedSender<Answer>,
    load: Arc<Load>,
    workers: usize,
    runtime: Handle,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Request>,
    alive: usize,
    idle: usize,
    closed: bool,
    /// How long a request took lately, in nanoseconds: a moving average.
    pace: u64,
}

/// Bytes of requests and answers that a connection holds.
#[derive(Default)]
pub(super) struct Load {
    bytes: AtomicUsize,
    less: Notify,
}

impl Load {
    /// Bytes held now.
    pub(super) fn held(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Waits until less than `limit` is held. Only one task may wait.
    pub(super) async fn below(&self, limit: usize) {
        while self.held() >= limit {
            self.less.notified().await;
        }
    }

    /// Says that answers were sent.
    pub(super) fn release(&self, charge: usize) {
        self.bytes.fetch_sub(charge, Ordering::AcqRel);
        self.less.notify_one();
    }
}

impl Lane {
    pub(super) fn new(workers: usize, load: Arc<Load>) -> (Arc<Lane>, mpsc::UnboundedReceiver<Answer>) {
        let (answers, answered) = mpsc::unbounded_channel();
        let lane = Lane {
            state: Mutex::new(State { pace: SHARE_TIME.as_nanos() as u64, ..State::default() }),
            wake: Condvar::new(),
            answers,
            load,
            workers: workers.max(1),
            runtime: Handle::current(),
        };
        (Arc::new(lane), answered)
    }

    /// Queues requests and sees to it that a thread takes them.
    pub(super) fn push(self: &Arc<Lane>, requests: &mut Vec<Request>) {
        let charge: usize = requests.iter().map(charge).sum();
        self.load.bytes.fetch_add(charge, Ordering::AcqRel);
        let mut state = self.lock();
        state.queue.extend(requests.drain(..));
        self.call_worker(state);
    }

    /// No more requests come: threads go when the queue is empty.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    /// The client is gone: requests that have not begun need not begin.
    pub(super) fn abandon(&self) {
        self.lock().queue.clear();
        self.close();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Wakes a waiting thread, or starts one if there may be one more, when there is something to do.
    fn call_worker(self: &Arc<Lane>, mut state: MutexGuard<'_, State>) {
        if state.queue.is_empty() {
            return;
        }
        if state.idle > 0 {
            drop(state);
            return self.wake.notify_one();
        }
        if state.alive < self.workers {
            state.alive += 1;
            drop(state);
            let lane = self.clone();
            self.runtime.spawn_blocking(move || lane.work());
        }
    }

    fn work(self: Arc<Lane>) {
        let mut share = Vec::new();
        while self.take(&mut share) {
            let (count, start) = (share.len() as u64, Instant::now());
            self.run(share.drain(..));
            let pace = (start.elapsed().as_nanos() as u64) / count;
            let mut state = self.lock();
            state.pace = (3 * state.pace + pace) / 4;
        }
    }

    /// Takes the next requests; false when this thread is needed no longer.
    fn take(self: &Arc<Lane>, share: &mut Vec<Request>) -> bool {
        let mut state = self.lock();
        while state.queue.is_empty() {
            if state.closed {
                state.alive -= 1;
                return false;
            }
            state.idle += 1;
            let (woken, timed_out) =
                self.wake.wait_timeout(state, LINGER).unwrap_or_else(|poisoned| poisoned.into_inner());
            state = woken;
            state.idle -= 1;
            if timed_out.timed_out() && state.queue.is_empty() {
                state.alive -= 1;
                return false;
            }
        }
        let most = (SHARE_TIME.as_nanos() as u64 / state.pace.max(1)) as usize;
        let count = state.queue.len().min(most.clamp(1, MAX_SHARE));
        share.extend(state.queue.drain(..count));
        self.call_worker(state);
        true
    }

    fn run(&self, requests: impl Iterator<Item = Request>) {
        let mut answer = Answer { bytes: Vec::new(), charge: 0 };
        for request in requests {
            answer.charge += charge(&request);
            request.run(&mut answer.bytes);
            if answer.bytes.len() >= ANSWER_SIZE {
                let full = std::mem::replace(&mut answer, Answer { bytes: Vec::new(), charge: 0 });
                self.answer(full);
            }
        }
        self.answer(answer);
    }

    fn answer(&self, answer: Answer) {
        // Where nobody receives, the connection is gone and its answers with it.
        if answer.charge > 0 {
            let _ = self.answers.send(answer);
        }
    }
}

/// What a request counts for in the load of its connection.
pub(super) fn charge(request: &Request) -> usize {
    request.bytes() + OVERHEAD
}
