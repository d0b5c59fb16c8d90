//! Events as they happen: `text/event-stream`, as browsers and most HTTP
//! libraries read it.
//!
//! **Invariant:** an `id` is the cursor behind its event; so whoever comes back
//! with the last one it saw misses nothing and is told nothing twice.
//!
//! **Invariant:** a stream holds a bounded number of events that its reader has
//! not taken, and ends when its key does.

use super::followers::Follower;
use super::{json, problem};
use crate::access::{self, Roles};
use crate::app::Shared;
use crate::auth::Caller;
use crate::extract::hex;
use crate::problem::Problem;
use axum::body::{Body, Bytes};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use hongbao_engine::backend::Backend;
use hongbao_engine::feed::{After, EventPage, EventQuery};
use hyper::body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// After so long without an event something is sent, so that neither side nor
/// a proxy takes the other for gone; the key is looked at as often.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Answers with the stream of what `query` asks for.
pub(super) async fn start<B: Backend>(
    server: Shared<B>,
    caller: Caller,
    mut headers: HeaderMap,
    query: EventQuery,
    place: OwnedSemaphorePermit,
) -> Result<Response, Problem> {
    let mut pulse = server.pulse.follow(&server);
    let follower = server.followers.follow();
    let asked = (*pulse.borrow_and_update(), SystemTime::now());
    let page = server.backend.events(&query).await.map_err(|error| problem(&error))?;
    let key = headers.remove(AUTHORIZATION).map(|value| HeaderMap::from_iter([(AUTHORIZATION, value)]));
    let teller = Teller { server, caller, key: key.unwrap_or_default(), query, pulse, follower };
    let (tell, told) = mpsc::channel(1);
    tokio::spawn(async move {
        teller.run(page, asked, tell).await;
        drop(place);
    });
    let mut response = Response::new(Body::new(Told(told)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

struct Teller<B> {
    server: Shared<B>,
    caller: Caller,
    /// The header with the key that was let in.
    key: HeaderMap,
    query: EventQuery,
    pulse: watch::Receiver<u64>,
    follower: Follower,
}

impl<B: Backend> Teller<B> {
    /// Tells pages until the reader or the server goes, or the key.
    async fn run(mut self, mut page: EventPage, mut asked: (u64, SystemTime), tell: mpsc::Sender<Bytes>) {
        let stop = self.server.stop.clone();
        let mut quiet_at = Instant::now() + HEARTBEAT;
        let mut looked_at = Instant::now();
        // What to do when the stream breaks off, in the words of its own protocol.
        let mut text = b"retry: 1000\n\n".to_vec();
        loop {
            for event in &page.events {
                self.write_event(&mut text, event);
            }
            self.server.metrics.events_told.increment(page.events.len() as u64);
            if !text.is_empty() {
                tokio::select! {
                    sent = tell.send(Bytes::from(std::mem::take(&mut text))) => if sent.is_err() { return },
                    () = stop.cancelled() => return,
                }
                quiet_at = Instant::now() + HEARTBEAT;
            }
            self.follower.was_given(&page, asked.0, asked.1);
            if looked_at.elapsed() >= HEARTBEAT {
                if !self.is_let_in() {
                    return;
                }
                looked_at = Instant::now();
            }
            self.query.after = After::Cursor(page.next);
            if page.is_end {
                tokio::select! {
                    changed = self.pulse.changed() => if changed.is_err() { return },
                    () = sleep_until(quiet_at) => {
                        let After::Cursor(cursor) = &self.query.after else { return };
                        // Events of others may have gone by.
                        text.extend_from_slice(format!("id: {}\n\n", hex(cursor)).as_bytes());
                    }
                    () = stop.cancelled() => return,
                    () = tell.closed() => return,
                }
            } else {
                tokio::task::yield_now().await;
            }
            asked = (*self.pulse.borrow_and_update(), SystemTime::now());
            page = match self.server.backend.events(&self.query).await {
                Ok(page) => page,
                // Whoever comes back with the last id is told why.
                Err(error) => return tracing::debug!(%error, "a stream of events ended"),
            };
        }
    }

    fn write_event(&self, text: &mut Vec<u8>, event: &hongbao_engine::feed::FeedEvent) {
        let name = event.what.event_type().name();
        text.extend_from_slice(format!("id: {}\nevent: {name}\ndata: ", hex(&event.cursor)).as_bytes());
        json::write(text, event, self.server.currency);
        text.extend_from_slice(b"\n\n");
    }

    /// Whether its key would still be let in, and see the same.
    fn is_let_in(&self) -> bool {
        let allowed: Roles = access::allowed("GET", "/v1/events");
        self.server.keys().caller(&self.key).is_ok_and(|caller| {
            caller.owner() == self.caller.owner()
                && caller.roles() == self.caller.roles()
                && caller.roles().any_of(allowed)
        })
    }
}

/// The body of a stream.
struct Told(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Told {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|told| told.map(|bytes| Ok(Frame::data(bytes))))
    }
}
