//! What is kept of an endpoint, and of what could not be delivered to it.
//!
//! Both are notes of JSON, so that a later version can read what an earlier one
//! has left.

use super::sign::Secret;
use hongbao_engine::types::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a secret signs after another has taken its place.
pub(super) const ROTATION_MS: u64 = 24 * 3_600_000;
/// Secrets that sign at once.
const SECRETS_MAX: usize = 4;
/// Dead letters that are kept of an endpoint; the oldest gives way.
pub(super) const DEAD_MAX: usize = 100;

/// An endpoint, and how far it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Endpoint {
    pub(super) url: String,
    /// As `/v1/events` takes them; none are the usual ones.
    pub(super) types: Option<Vec<String>>,
    /// Only what happens to this owner's envelopes.
    pub(super) owner: Option<String>,
    /// What it was asked for with, to tell a repeat from another request.
    pub(super) asked: String,
    pub(super) created_at_ms: u64,
    /// The newest first.
    pub(super) secrets: Vec<Signing>,
    /// Under which idempotency key the newest was made.
    pub(super) rotated_under: Option<String>,
    /// Why nothing is sent to it.
    pub(super) disabled: Option<String>,
    /// Behind what was delivered, or is a dead letter.
    pub(super) cursor: String,
    /// How often the cursor was set back: what is sent again then is another batch.
    pub(super) rewinds: u32,
    /// What is sent next, or on its way.
    pub(super) pending: Option<Pending>,
    pub(super) last_success_at_ms: Option<u64>,
    pub(super) last_error: Option<LastError>,
    /// Dead letters that are kept.
    pub(super) dead: usize,
    /// Which server delivers to it.
    pub(super) holder: Option<Holder>,
}

/// A secret, and until when it signs if another has taken its place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Signing {
    pub(super) secret: Secret,
    pub(super) until_ms: Option<u64>,
}

/// Events that are sent together: those behind `after` up to `until`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batch {
    pub(super) id: String,
    pub(super) after: String,
    pub(super) until: String,
    pub(super) events: usize,
    /// Of which types they are: the endpoint's may have changed.
    pub(super) types: Option<Vec<String>>,
    /// When the first of them happened.
    pub(super) first_at_ms: u64,
}

/// A batch on its way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) batch: Batch,
    /// How often it was tried.
    pub(super) attempts: u32,
    /// When it was first.
    pub(super) since_ms: u64,
    /// When it is tried again.
    pub(super) next_at_ms: u64,
}

impl Pending {
    /// A batch to be sent now.
    pub(super) fn new(batch: Batch, now: Timestamp) -> Pending {
        Pending { batch, attempts: 0, since_ms: now.ms(), next_at_ms: now.ms() }
    }

    /// Whether it has been tried for so long.
    pub(super) fn was_tried_for(&self, time: Duration, now: Timestamp) -> bool {
        u128::from(now.ms().saturating_sub(self.since_ms)) >= time.as_millis()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LastError {
    pub(super) at_ms: u64,
    pub(super) why: String,
}

/// A server, and a number that changes as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    pub(super) server: u64,
    pub(super) beat: u64,
}

/// A batch that was given up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct DeadLetter {
    pub(super) batch: Batch,
    pub(super) attempts: u32,
    pub(super) died_at_ms: u64,
    pub(super) why: String,
    /// Whether its events are not kept any more.
    pub(super) gone: bool,
    /// Whether it is to be sent once more.
    pub(super) redeliver: bool,
}

impl Endpoint {
    /// Whose signatures a request has at this time.
    pub(super) fn signing(&self, now: Timestamp) -> impl Iterator<Item = &Secret> {
        let signs = move |signing: &&Signing| signing.until_ms.is_none_or(|until_ms| now.ms() < until_ms);
        self.secrets.iter().filter(signs).map(|signing| &signing.secret)
    }

    /// Has a new secret sign, and the last one for a while.
    pub(super) fn rotate(&mut self, secret: Secret, under: String, now: Timestamp) {
        self.secrets.retain(|signing| signing.until_ms.is_none_or(|until_ms| now.ms() < until_ms));
        for signing in &mut self.secrets {
            signing.until_ms.get_or_insert(now.ms() + ROTATION_MS);
        }
        self.secrets.insert(0, Signing { secret, until_ms: None });
        self.secrets.truncate(SECRETS_MAX);
        self.rotated_under = Some(under);
    }

    /// How it does, in a word.
    pub(super) fn state(&self) -> &'static str {
        match &self.pending {
            _ if self.disabled.is_some() => "disabled",
            Some(pending) if pending.attempts > 0 => "failing",
            _ => "active",
        }
    }

    /// Since when what is not delivered has waited.
    pub(super) fn lag_ms(&self, now: Timestamp) -> u64 {
        self.pending.as_ref().map_or(0, |pending| now.ms().saturating_sub(pending.batch.first_at_ms))
    }

    /// Has what waits tried at once, and for as long as if it had never been.
    pub(super) fn hurry(&mut self, now: Timestamp) {
        if let Some(pending) = &mut self.pending {
            (pending.since_ms, pending.next_at_ms) = (now.ms(), now.ms());
        }
    }

    pub(super) fn note_error(&mut self, why: String, now: Timestamp) {
        self.last_error = Some(LastError { at_ms: now.ms(), why });
    }
}
