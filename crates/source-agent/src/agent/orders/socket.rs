//! Orders that come over the control socket: they run on a thread, and their steps are told line by line.

use super::{Order, Told};
use crate::agent::control::{Answer, Control};
use control_api::agent::JobKind;
use registration::link::End;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Lines that may wait for a client; more are left out.
const LINES: usize = 64;

/// Carries an order out; the last line is how it ended. It goes on when nobody listens any more.
pub(crate) fn follow(control: Arc<Control>, job: JobKind) -> mpsc::Receiver<Answer> {
    let (lines, told) = mpsc::channel(LINES);
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let client = Client { lines: lines.clone(), control: control.clone() };
        let order = Order { control: &control, runtime: &runtime, told: &client };
        let answer = match order.run(&job) {
            Some(Ok(outcome)) => Answer::Done { outcome },
            Some(Err(end)) => Answer::Error { message: message(end) },
            None => Answer::Error { message: format!("to {} is no order for mt-source", job.title()) },
        };
        let _ = lines.blocking_send(answer);
    });
    told
}

/// Whether an order may come over the control socket.
pub(crate) fn ordered_here(job: &JobKind) -> bool {
    matches!(
        job,
        JobKind::Replicate { .. } | JobKind::StopReplicating | JobKind::Quiesce { .. } | JobKind::Unquiesce
    )
}

fn message(end: End) -> String {
    match end {
        End::Failed(failure) => {
            format!("{}: {}: {}; {}", failure.object, failure.what, failure.why, failure.next)
        }
        End::Cancelled => "it was given up".to_owned(),
        End::Stopped => "the agent stops; it goes on when that is started again".to_owned(),
    }
}

struct Client {
    lines: mpsc::Sender<Answer>,
    control: Arc<Control>,
}

impl Told for Client {
    fn plan(&self, _: &[&str]) {}

    fn begin(&self, step: &str) {
        let _ = self.lines.try_send(Answer::Step { name: step.to_owned() });
    }

    fn detail(&self, text: &str) {
        let _ = self.lines.try_send(Answer::Detail { text: text.to_owned() });
    }

    fn is_continued(&self) -> bool {
        false
    }

    fn is_cancelled(&self) -> bool {
        false
    }

    fn commit(&self) -> bool {
        true
    }

    fn is_stopping(&self) -> bool {
        *self.control.stop.borrow()
    }
}
