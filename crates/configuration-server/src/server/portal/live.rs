//! `/live`: tells pages which topics have changed, as server-sent events.
//!
//! A page says what it has seen already, so that nothing is lost that changed between its making and this.
//!
//! Such an answer lasts until the page is left, the session ends or the server stops. There is a bounded number of them,
//! and nothing is queued for one that does not read: it is told later what has changed meanwhile.

use super::fields::Fields;
use super::page::Problem;
use crate::access::{self, Caller};
use crate::server::Shared;
use crate::server::changes::{Counts, Topic};
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use control_api::{ApiError, ErrorCode};
use hyper::body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, watch};

/// Pages that are told at the same time; others can be loaded, and do not update by themselves.
static PLACES: Semaphore = Semaphore::const_new(128);

/// The shortest time between two events of one page.
const PAUSE: Duration = Duration::from_millis(300);
/// Something is sent at least as often, so that a connection that is gone is noticed; the session is looked at as often.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// `GET /live`.
pub(super) async fn follow(
    State(shared): State<Arc<Shared>>,
    _caller: Caller,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let Ok(place) = PLACES.try_acquire() else {
        return Problem(ApiError::new(
            ErrorCode::Busy,
            "live updates",
            "this page does not update by itself",
            "too many pages are open at this server",
            "load the page again to see what is new",
        ))
        .into_response();
    };
    let (sender, receiver) = mpsc::channel(1);
    let seen = query.and_then(|query| seen(Fields::parse(&query).get("seen")));
    tokio::spawn(tell(shared, headers, seen, sender, place));
    let mut response = Response::new(Body::new(Events(receiver)));
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Counts as a page has them.
pub(super) fn words(counts: &Counts) -> String {
    counts.map(|count| count.to_string()).join("-")
}

fn seen(words: &str) -> Option<Counts> {
    let counts: Vec<u64> = words.split('-').map(|word| word.parse().ok()).collect::<Option<_>>()?;
    counts.try_into().ok()
}

async fn tell(
    shared: Arc<Shared>,
    headers: HeaderMap,
    seen: Option<Counts>,
    page: mpsc::Sender<Bytes>,
    _place: SemaphorePermit<'static>,
) {
    let mut changes = shared.changes.watch();
    let mut known = seen.unwrap_or(*changes.borrow_and_update());
    let mut stopped = shared.stopped();
    let mut next = Some(Bytes::from_static(b"retry: 3000\n\n"));
    loop {
        if let Some(event) = next.take()
            && page.send(event).await.is_err()
        {
            return;
        }
        next = tokio::select! {
            () = page.closed() => return,
            _ = stopped.wait_for(|stopped| *stopped) => return,
            changed = told(&mut changes, &mut known) => Some(changed),
            () = tokio::time::sleep(SIGN_OF_LIFE) => Some(Bytes::from_static(b": here\n\n")),
        };
        if !matches!(access::who(&shared, &headers).await, Ok(Some(_))) {
            let _ = page.send(Bytes::from_static(b"event: ended\ndata: session\n\n")).await;
            return;
        }
    }
}

/// Waits for a change, and a little longer for more.
async fn told(changes: &mut watch::Receiver<Counts>, known: &mut Counts) -> Bytes {
    while *changes.borrow_and_update() == *known {
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
    tokio::time::sleep(PAUSE).await;
    let now = *changes.borrow_and_update();
    let changed = Topic::ALL.into_iter().filter(|topic| now[*topic as usize] != known[*topic as usize]);
    let topics: Vec<&str> = changed.map(Topic::id).collect();
    *known = now;
    Bytes::from(format!("data: {}\n\n", topics.join(" ")))
}

/// A body that ends when nothing more will be told.
struct Events(mpsc::Receiver<Bytes>);

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_stops_waits_for_no_page() {
        let folder = tempfile::tempdir().unwrap();
        let (shared, _) = Shared::test(folder.path());
        let (sender, mut page) = mpsc::channel(1);
        let place = PLACES.try_acquire().unwrap();
        let telling = tokio::spawn(tell(shared.clone(), HeaderMap::new(), None, sender, place));
        assert_eq!(page.recv().await.unwrap(), "retry: 3000\n\n");
        shared.stopping.send_replace(true);
        let end = tokio::time::timeout(Duration::from_secs(5), page.recv()).await;
        assert_eq!(end.expect("it goes on"), None);
        telling.await.unwrap();
    }

    #[tokio::test]
    async fn a_page_is_told_what_changed_while_it_was_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let (shared, _) = Shared::test(folder.path());
        shared.changes.tell(Topic::Items);
        let page = words(&shared.changes.counts());
        shared.changes.tell(Topic::Jobs);
        let mut changes = shared.changes.watch();
        let mut known = seen(&page).unwrap();
        assert_eq!(told(&mut changes, &mut known).await, "data: jobs\n\n");
        assert_eq!(known, shared.changes.counts());
        for not_counts in ["", "1-2-3", "1-2-3-4-x", "1-2-3-4-5-6"] {
            assert_eq!(seen(not_counts), None, "{not_counts}");
        }
    }
}
