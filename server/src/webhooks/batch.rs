//! Batches: events of the feed as they are sent.
//!
//! **Invariant:** a batch is noted before it is first sent, by where it begins and
//! ends; so it holds the same events whenever it is sent, under the same id.

use super::record::{Batch, Endpoint};
use crate::config::Currency;
use crate::events::json;
use crate::extract::{hex, read_hex};
use bytes::Bytes;
use hongbao_engine::EngineError;
use hongbao_engine::backend::{Backend, Result};
use hongbao_engine::feed::{After, EventQuery, EventTypes, FeedEvent};
use hongbao_engine::types::{BatchId, WebhookId};
use sha2::{Digest, Sha256};

/// The most events of one.
const EVENTS_MAX: usize = 100;
/// An event that does not fit any more is the first of the next.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// What follows a cursor.
pub(super) enum Next {
    /// Events to be sent.
    Batch(Batch),
    /// Nothing so far up to there.
    Nothing(String),
    /// Other events up to there; there are more behind it.
    Others(String),
}

/// The types that a list stands for.
///
/// # Errors
/// That there is no such type.
pub(super) fn types_of(types: Option<&[String]>) -> std::result::Result<EventTypes, String> {
    match types {
        None => Ok(EventTypes::USUAL),
        Some([]) => Err("names no type; leave it out for the usual ones".to_owned()),
        Some(types) => types.iter().try_fold(EventTypes::NONE, |all, text| match text.contains(',') {
            true => Err(format!("{text} is no type of event; each is an element of its own")),
            false => text
                .parse()
                .map(|more| all.or(more))
                .map_err(|error: hongbao_engine::feed::UnknownType| error.to_string()),
        }),
    }
}

fn query(endpoint: &Endpoint, types: Option<&[String]>, after: &str, limit: usize) -> Result<EventQuery> {
    let after = After::Cursor(read_hex(after).ok_or(EngineError::Cursor)?);
    // A name that a later version knew stands for nothing here.
    let types = types_of(types).unwrap_or(EventTypes::USUAL);
    Ok(EventQuery { after, types, owner: endpoint.owner.clone(), limit, until: None })
}

/// The batch that follows `after`.
pub(super) async fn next<B: Backend>(
    backend: &B,
    currency: Currency,
    id: WebhookId,
    endpoint: &Endpoint,
    after: &str,
) -> Result<Next> {
    let types = endpoint.types.clone();
    let page = backend.events(&query(endpoint, types.as_deref(), after, EVENTS_MAX)?).await?;
    let mut bytes = Vec::new();
    let fits = |event: &&FeedEvent| {
        let before = bytes.len();
        json::write(&mut bytes, event, currency);
        before == 0 || bytes.len() <= BATCH_BYTES_MAX
    };
    let taken: Vec<_> = page.events.iter().take_while(fits).collect();
    let (Some(first), Some(last)) = (taken.first(), taken.last()) else {
        let next = hex(&page.next);
        return Ok(if page.is_end { Next::Nothing(next) } else { Next::Others(next) });
    };
    let mut hash = Sha256::new();
    hash.update(id.bytes());
    hash.update(endpoint.rewinds.to_le_bytes());
    taken.iter().for_each(|event| hash.update(event.id.bytes()));
    let digest = hash.finalize();
    let batch = BatchId::from_bytes(*digest.first_chunk().expect("a digest has 32 bytes"));
    Ok(Next::Batch(Batch {
        id: batch.to_string(),
        after: after.to_owned(),
        until: hex(&last.cursor),
        events: taken.len(),
        types,
        first_at_ms: first.at.ms(),
    }))
}

/// The body of a batch, from the feed.
///
/// # Errors
/// [`EngineError::CursorGone`] if its events are not kept any more.
pub(super) async fn body<B: Backend>(
    backend: &B,
    currency: Currency,
    id: WebhookId,
    endpoint: &Endpoint,
    batch: &Batch,
) -> Result<Bytes> {
    let mut body = format!(r#"{{"type":"events","webhook":"{id}","events":["#).into_bytes();
    let mut wanted = query(endpoint, batch.types.as_deref(), &batch.after, EVENTS_MAX)?;
    wanted.until = Some(read_hex(&batch.until).ok_or(EngineError::Cursor)?);
    let mut events = 0;
    loop {
        let page = backend.events(&wanted).await?;
        for event in &page.events {
            if events > 0 {
                body.push(b',');
            }
            json::write(&mut body, event, currency);
            events += 1;
        }
        if page.is_end {
            break;
        }
        wanted.after = After::Cursor(page.next);
    }
    if events != batch.events {
        // They were there: what is not durable is not told.
        let why = format!("of {} events that were told {events} are there", batch.events);
        return Err(EngineError::NotReady(why));
    }
    body.extend_from_slice(format!(r#"],"next_cursor":"{}"}}"#, batch.until).as_bytes());
    Ok(body.into())
}
