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

/// The most endpoints: each has a task and at most one request on its way.
pub(super) const ENDPOINTS_MAX: usize = 64;
/// Of so many that were deleted is known that they were.
const DELETED_MAX: usize = 256;

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

/// What became of an endpoint that was to be made.
pub(super) enum Made {
    New,
    /// One of this id is there.
    There,
    /// There are as many as may be.
    TooMany,
}

/// Puts an endpoint that is not there, if there is room for it.
pub(super) async fn create<B: Backend>(server: &Shared<B>, id: WebhookId, endpoint: &Endpoint) -> Result<Made> {
    // One after the other, so that the last place is somebody's.
    let _turn = server.webhooks.creating.lock().await;
    if count(server).await? >= ENDPOINTS_MAX {
        return Ok(Made::TooMany);
    }
    if !put(server, Shelf::Webhooks, id, None, Some(endpoint)).await? {
        return Ok(Made::There);
    }
    // Another server may have made one at the same time; who finds one too many gives way, and of two the later does.
    if server.webhooks.is_shared && count(server).await? > ENDPOINTS_MAX {
        take_away(server, Shelf::Webhooks, id).await?;
        return Ok(Made::TooMany);
    }
    Ok(Made::New)
}

/// How many there are, also those that cannot be read.
async fn count<B: Backend>(server: &Shared<B>) -> Result<usize> {
    Ok(server.backend.notes(Shelf::Webhooks).await?.len())
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

/// Removes an endpoint and its dead letters; says whether it was there, or has been.
pub(super) async fn remove<B: Backend>(server: &Shared<B>, id: WebhookId) -> Result<bool> {
    let was_deleted = server.backend.note(Shelf::DeletedWebhooks, &id.to_string()).await?.is_some();
    if server.backend.note(Shelf::Webhooks, &id.to_string()).await?.is_none() {
        // Where its end was interrupted, or a dead letter came late.
        take_away(server, Shelf::DeadLetters, id).await?;
        return Ok(was_deleted);
    }
    if !was_deleted {
        // First, so that whoever asks again is told the same.
        put(server, Shelf::DeletedWebhooks, id, None, Some(&server.backend.now().ms())).await?;
        forget_deleted(server).await?;
    }
    take_away(server, Shelf::Webhooks, id).await?;
    take_away(server, Shelf::DeadLetters, id).await?;
    Ok(true)
}

async fn take_away<B: Backend>(server: &Shared<B>, shelf: Shelf, id: WebhookId) -> Result<()> {
    loop {
        let Some(note) = server.backend.note(shelf, &id.to_string()).await? else { return Ok(()) };
        if put(server, shelf, id, Some(note.version), None::<&()>).await? {
            return Ok(());
        }
    }
}

/// Keeps the last of those that were deleted.
async fn forget_deleted<B: Backend>(server: &Shared<B>) -> Result<()> {
    let notes = server.backend.notes(Shelf::DeletedWebhooks).await?;
    let mut deleted: Vec<(u64, WebhookId)> = notes
        .iter()
        .filter_map(|note| Some((serde_json::from_slice(&note.bytes).ok()?, note.name.parse().ok()?)))
        .collect();
    deleted.sort_unstable();
    let too_many = deleted.len().saturating_sub(DELETED_MAX);
    for (_, id) in &deleted[..too_many] {
        take_away(server, Shelf::DeletedWebhooks, *id).await?;
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
