//! Endpoints and dead letters where the engine keeps them.
//!
//! **Invariant:** what is changed is what stands there now: a change is made again
//! on whatever somebody else has put meanwhile.

use super::record::{DEAD_MAX, DeadLetter, Endpoint};
use crate::app::Shared;
use hongbao_engine::EngineError;
use hongbao_engine::backend::{Backend, Result};
use hongbao_engine::notes::{Note, Shelf, Version};
use hongbao_engine::types::WebhookId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;

/// Puts a note on a thread of its own, since a disk may take its time.
async fn put<B: Backend>(
    server: &Shared<B>,
    shelf: Shelf,
    id: WebhookId,
    was: Option<Version>,
    value: Option<&impl Serialize>,
) -> Result<bool> {
    let bytes = value.map(|value| serde_json::to_vec(value).expect("notes have string keys only"));
    let (server, runtime) = (server.clone(), Handle::current());
    let put = move || {
        runtime.block_on(async { server.backend.put_note(shelf, &id.to_string(), was, bytes.as_deref()).await })
    };
    // It is lost only when the runtime ends before it began.
    let put = tokio::task::spawn_blocking(put).await.unwrap_or(Err(EngineError::ShuttingDown))?;
    Ok(put.is_some())
}

fn read<T: DeserializeOwned>(shelf: Shelf, note: &Note) -> Result<T> {
    serde_json::from_slice(&note.bytes).map_err(|error| {
        let why = format!("the note {:?} of {} cannot be read: {error}", shelf, note.name);
        EngineError::Store(why)
    })
}

async fn one<B: Backend, T: DeserializeOwned>(
    server: &Shared<B>,
    shelf: Shelf,
    id: WebhookId,
) -> Result<Option<(Version, T)>> {
    let note = server.backend.note(shelf, &id.to_string()).await?;
    note.map(|note| Ok((note.version, read(shelf, &note)?))).transpose()
}

/// Every endpoint. One that cannot be read is told in the log, once, and left out.
pub(super) async fn endpoints<B: Backend>(server: &Shared<B>) -> Result<Vec<(WebhookId, Endpoint)>> {
    let notes = server.backend.notes(Shelf::Webhooks).await?;
    let endpoint = |note: Note| {
        let id = note.name.parse().ok()?;
        let read = read(Shelf::Webhooks, &note);
        if let Err(error) = &read
            && server.webhooks.unreadable.lock().insert(id)
        {
            tracing::error!(%error, "a webhook is left out; delete it and make it anew");
        }
        Some((id, read.ok()?))
    };
    Ok(notes.into_iter().filter_map(endpoint).collect())
}

/// One endpoint.
pub(super) async fn endpoint<B: Backend>(server: &Shared<B>, id: WebhookId) -> Result<Option<Endpoint>> {
    Ok(one(server, Shelf::Webhooks, id).await?.map(|(_, endpoint)| endpoint))
}

/// Puts an endpoint that is not there; says whether it was not.
pub(super) async fn create<B: Backend>(server: &Shared<B>, id: WebhookId, endpoint: &Endpoint) -> Result<bool> {
    put(server, Shelf::Webhooks, id, None, Some(endpoint)).await
}

/// Changes an endpoint; nothing is put if `change` gives nothing.
pub(super) async fn update<B: Backend, T>(
    server: &Shared<B>,
    id: WebhookId,
    mut change: impl FnMut(&mut Endpoint) -> Option<T>,
) -> Result<Option<(T, Endpoint)>> {
    loop {
        let Some((version, mut endpoint)) = one(server, Shelf::Webhooks, id).await? else { return Ok(None) };
        let Some(changed) = change(&mut endpoint) else { return Ok(None) };
        if put(server, Shelf::Webhooks, id, Some(version), Some(&endpoint)).await? {
            return Ok(Some((changed, endpoint)));
        }
    }
}

/// Removes an endpoint and its dead letters.
pub(super) async fn remove<B: Backend>(server: &Shared<B>, id: WebhookId) -> Result<()> {
    for shelf in [Shelf::Webhooks, Shelf::DeadLetters] {
        loop {
            let Some(note) = server.backend.note(shelf, &id.to_string()).await? else { break };
            if put(server, shelf, id, Some(note.version), None::<&()>).await? {
                break;
            }
        }
    }
    Ok(())
}

/// An endpoint's dead letters, the oldest first.
pub(super) async fn dead<B: Backend>(server: &Shared<B>, id: WebhookId) -> Result<Vec<DeadLetter>> {
    let found: Option<(Version, Vec<DeadLetter>)> = one(server, Shelf::DeadLetters, id).await?;
    Ok(found.map_or_else(Vec::new, |(_, letters)| letters))
}

/// Changes them, and gives what they are afterwards; nothing is put if `change` says no.
pub(super) async fn update_dead<B: Backend>(
    server: &Shared<B>,
    id: WebhookId,
    mut change: impl FnMut(&mut Vec<DeadLetter>) -> bool,
) -> Result<Vec<DeadLetter>> {
    loop {
        let found: Option<(Version, Vec<DeadLetter>)> = one(server, Shelf::DeadLetters, id).await?;
        let (version, mut letters) = found.map_or((None, Vec::new()), |(version, letters)| (Some(version), letters));
        if !change(&mut letters) {
            return Ok(letters);
        }
        let too_many = letters.len().saturating_sub(DEAD_MAX);
        letters.drain(..too_many);
        if put(server, Shelf::DeadLetters, id, version, Some(&letters)).await? {
            return Ok(letters);
        }
    }
}
