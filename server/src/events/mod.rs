//! The feed of events: asked for page by page, or followed as a stream.
//!
//! Whoever asks for events waits for them; so they have places of their own and
//! no place among the requests in flight.
//!
//! **Invariant:** what is told goes on from the cursor that was given; nothing
//! in between is passed over, and what is gone is told as a 410.

mod followers;
pub(crate) mod json;
mod pulse;
mod stream;

pub use followers::Followers;
pub use pulse::Pulse;

use crate::access::{ADMIN, VIEWER};
use crate::app::{Shared, Table};
use crate::auth::Caller;
use crate::door::Class;
use crate::extract::{LIMIT_DEFAULT, Params, hex, read_hex};
use crate::problem::{Code, Problem};
use crate::reply::{from_engine, json_bytes};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::Response;
use hongbao_engine::EngineError;
use hongbao_engine::backend::Backend;
use hongbao_engine::feed::{After, EventPage, EventQuery, EventTypes};
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep_until};

/// How long an answer may wait for events unless it is said.
const WAIT_S_DEFAULT: u64 = 25;
/// The longest that can be asked for; proxies give up after a minute.
const WAIT_S_MAX: u64 = 55;

/// Adds the feed.
pub fn routes<B: Backend>(table: Table<B>) -> Table<B> {
    table.get("/v1/events", Class::Waiting, feed::<B>)
}

async fn feed<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Problem> {
    let is_stream = wants_stream(&headers);
    let query = wanted(&params, &headers, &caller, is_stream)?;
    let wait = params.parse("wait_s", |text| match text.parse() {
        Ok(wait_s) if wait_s <= WAIT_S_MAX => Ok(Duration::from_secs(wait_s)),
        _ => Err(format!("must be an integer from 0 to {WAIT_S_MAX}")),
    })?;
    let place = server.readers.clone().try_acquire_owned().map_err(|_| {
        Problem::new(Code::Overloaded, "As many follow the events as may at once; ask again in a moment.")
    })?;
    if is_stream {
        return stream::start(server, caller, headers, query, place).await;
    }
    let page = wait_for_page(&server, query, wait.unwrap_or(Duration::from_secs(WAIT_S_DEFAULT))).await?;
    server.metrics.events_told.increment(page.events.len() as u64);
    let mut body = Vec::with_capacity(64 + 512 * page.events.len());
    body.extend_from_slice(b"{\"events\":[");
    for (i, event) in page.events.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        json::write(&mut body, event, server.currency);
    }
    body.extend_from_slice(b"],\"next_cursor\":\"");
    body.extend_from_slice(hex(&page.next).as_bytes());
    body.extend_from_slice(b"\"}");
    Ok(json_bytes(body))
}

/// Whether a caller wants the events as they happen.
fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accepted.flat_map(|value| value.split(',')).filter_map(|kind| kind.split(';').next());
    kinds.any(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

fn wanted(params: &Params, headers: &HeaderMap, caller: &Caller, is_stream: bool) -> Result<EventQuery, Problem> {
    params.only(&["after", "types", "limit", "wait_s"])?;
    // A stream that is taken up again knows better than the address it was begun with.
    let last = headers.get("last-event-id").filter(|_| is_stream).map(|value| value.to_str().unwrap_or("-"));
    let (field, after) = match last {
        Some(last) => ("Last-Event-ID", Some(last)),
        None => ("after", params.get("after")),
    };
    let after = match after {
        None | Some("oldest") => After::Oldest,
        Some("now") => After::Now,
        Some(cursor) => After::Cursor(read_hex(cursor).ok_or_else(|| unknown_cursor(field))?),
    };
    let types = params.parse("types", str::parse)?.unwrap_or(EventTypes::USUAL);
    let limit = params.limit()?.unwrap_or(LIMIT_DEFAULT);
    let sees_all = caller.roles().any_of(ADMIN.or(VIEWER));
    let owner = (!sees_all).then(|| caller.owner().to_owned());
    Ok(EventQuery { after, types, owner, limit, until: None })
}

pub(crate) fn unknown_cursor(field: &str) -> Problem {
    Problem::field(field, "is no cursor of this feed; use a next_cursor or id of it, oldest or now")
}

pub(crate) fn problem(error: &EngineError) -> Problem {
    match error {
        EngineError::Cursor => unknown_cursor("after"),
        error => from_engine(error),
    }
}

/// The next events, once there are any, or none after a while.
async fn wait_for_page<B: Backend>(
    server: &Shared<B>,
    mut query: EventQuery,
    wait: Duration,
) -> Result<EventPage, Problem> {
    let until = Instant::now() + wait;
    let mut pulse = server.pulse.follow(server);
    let follower = server.followers.follow();
    loop {
        let (beat, asked) = (*pulse.borrow_and_update(), SystemTime::now());
        let page = server.backend.events(&query).await.map_err(|error| problem(&error))?;
        follower.was_given(&page, beat, asked);
        if !page.events.is_empty() || (page.is_end && wait.is_zero()) || server.stop.is_cancelled() {
            follower.leaves();
            return Ok(page);
        }
        query.after = After::Cursor(page.next.clone());
        if !page.is_end {
            tokio::task::yield_now().await;
            if Instant::now() < until || wait.is_zero() {
                continue;
            }
            return Ok(page);
        }
        tokio::select! {
            changed = pulse.changed() => changed.map_err(|_| from_engine(&EngineError::ShuttingDown))?,
            () = sleep_until(until) => return Ok(page),
            () = server.stop.cancelled() => return Ok(page),
        }
    }
}
