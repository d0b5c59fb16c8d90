//! What keeps a call from its answer.

use serde::Deserialize;
use std::fmt;

/// What keeps a call from its answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// No answer came in time: what was asked for may or may not have happened.
    #[error("no answer after {attempts} attempts: {reason}; ask again with the same idempotency key")]
    NoAnswer {
        /// What the last attempt ended with.
        reason: String,
        /// How often it was asked.
        attempts: u32,
        /// The key it was asked under: the same call with it gets the first answer.
        idempotency_key: Option<String>,
    },
    /// An answer that is not of this API.
    #[error("not an answer of this API: {reason}; is the address that of a Hongbao server?")]
    Unexpected {
        /// What is wrong with it.
        reason: String,
        /// The key it was asked under: what was asked for may have happened, and the same call with it tells.
        idempotency_key: Option<String>,
    },
    /// The request cannot be made so.
    #[error("{0}")]
    Request(String),
}

/// A field of the request, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct FieldError {
    /// The field as the API names it.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Why the server refused.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// What went wrong, to match on.
    pub code: String,
    /// What went wrong, for people.
    #[serde(default)]
    pub title: String,
    /// What would mend it.
    #[serde(default)]
    pub detail: String,
    /// What would help: `same_key`, `new_key`, `after` or `never`.
    pub retry: String,
    /// What the server's log calls this request.
    #[serde(default)]
    pub request_id: String,
    /// What is wrong with which field.
    #[serde(default)]
    pub errors: Vec<FieldError>,
    /// Seconds after which to ask again.
    #[serde(skip)]
    pub retry_after_s: Option<u64>,
    /// How often it was asked.
    #[serde(skip)]
    pub attempts: u32,
    /// The key it was asked under: the same call with it gets the answer of the first that succeeded.
    #[serde(skip)]
    pub idempotency_key: Option<String>,
}

impl Problem {
    /// Whether the same call may succeed by itself. Of a business "no" that a repeat
    /// is safe after, like `insufficient_funds`, the caller decides.
    pub fn is_worth_repeating(&self) -> bool {
        let passing = self.status >= 500 || self.status == 408 || self.code == "in_progress";
        self.retry == "after" || (self.retry == "same_key" && passing)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { status, code, detail, request_id, .. } = self;
        write!(f, "{status} {code}: {detail} (request {request_id})")
    }
}
