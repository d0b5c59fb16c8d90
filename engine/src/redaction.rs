//! A message that is taken back.
//!
//! **Invariant:** an envelope is told as its redaction leaves it by whoever tells of it, from
//! the acknowledgement on; what lies elsewhere of the message is in docs/REDACT.md.

use crate::command::EnvelopeView;
use crate::event::EnvelopeCreated;
use crate::types::Timestamp;
use serde::{Deserialize, Serialize};

/// What of an envelope was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redaction {
    /// When its message was.
    pub at: Timestamp,
    /// Whether its metadata was, then or later.
    pub metadata: bool,
}

impl Redaction {
    /// What it comes to if it is asked for at `now`; `None` if nothing is left to take back.
    pub(crate) fn of(created: &EnvelopeCreated, metadata: bool, now: Timestamp) -> Option<Redaction> {
        match created.redacted {
            None => Some(Redaction { at: now, metadata }),
            Some(done) if metadata && !done.metadata => Some(Redaction { metadata, ..done }),
            Some(_) => None,
        }
    }

    /// Leaves nothing but its length of what was taken back in an envelope's terms.
    pub(crate) fn put(self, created: &mut EnvelopeCreated) {
        self.blank(&mut created.terms.message, &mut created.terms.metadata);
        created.redacted = Some(self);
    }

    /// The same in an answer that is kept: what repeats it asks for the redaction.
    pub(crate) fn put_in_kept(self, view: &mut EnvelopeView) {
        self.blank(&mut view.message, &mut view.metadata);
    }

    /// In an envelope as it is told.
    pub(crate) fn put_in_told(self, view: &mut EnvelopeView) {
        view.message.clear();
        if self.metadata {
            "{}".clone_into(&mut view.metadata);
        }
        view.redacted_at = Some(self.at);
    }

    /// The length stays: a row that becomes shorter would leave parts of what it was behind it.
    fn blank(self, message: &mut String, metadata: &mut String) {
        *message = blank_message(message);
        if self.metadata {
            *metadata = blank_metadata(metadata);
        }
    }
}

/// What stands for a message, of the same length.
pub(crate) fn blank_message(message: &str) -> String {
    " ".repeat(message.len())
}

/// What stands for metadata: an object in JSON that holds nothing, of the same length.
pub(crate) fn blank_metadata(metadata: &str) -> String {
    format!("{{{}}}", " ".repeat(metadata.len().saturating_sub(2)))
}
