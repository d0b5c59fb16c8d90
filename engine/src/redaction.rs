//! A message that is taken back, or the texts of a gift.
//!
//! **Invariant:** an envelope or gift is told as its redaction leaves it by whoever tells of it,
//! from the acknowledgement on; what lies elsewhere of the texts is in docs/REDACT.md.

use crate::command::EnvelopeView;
use crate::event::EnvelopeCreated;
use crate::gift::Gift;
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

/// What of a gift was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiftRedaction {
    /// When its texts were, the first time.
    pub at: Timestamp,
    /// Whether its metadata was, then or later.
    pub metadata: bool,
    /// How often something was taken back. Texts may be written after each time.
    pub times: u32,
}

impl Gift {
    /// What it comes to if its texts are taken back at `now`; `None` if nothing is left of them.
    pub(crate) fn redact(&self, metadata: bool, now: Timestamp) -> Option<Gift> {
        let mut blank = self.clone();
        blank.blank(metadata);
        let redaction = match self.redacted {
            None => GiftRedaction { at: now, metadata, times: 1 },
            Some(done) if blank == *self && (done.metadata || !metadata) => return None,
            Some(done) => {
                GiftRedaction { metadata: metadata || done.metadata, times: done.times.saturating_add(1), ..done }
            }
        };
        Some(Gift { redacted: Some(redaction), ..blank })
    }

    /// Leaves nothing but their length of its texts, as in an envelope's terms. Says whether there
    /// were any.
    pub(crate) fn blank(&mut self, metadata: bool) -> bool {
        let was = (self.message.clone(), self.reason.clone(), self.note.clone(), self.metadata.clone());
        self.message = blank_message(&self.message);
        for text in [&mut self.reason, &mut self.note].into_iter().flatten() {
            *text = blank_message(text);
        }
        if metadata {
            self.metadata = blank_metadata(&self.metadata);
        }
        was != (self.message.clone(), self.reason.clone(), self.note.clone(), self.metadata.clone())
    }

    /// Makes of the gift as it was kept what is told of it, `last` being what has been taken back
    /// by now. What was written since then is told.
    pub(crate) fn tell(&mut self, last: Option<GiftRedaction>) {
        let Some(last) = last else { return };
        let is_older = self.redacted != Some(last);
        self.message.clear();
        for text in [&mut self.reason, &mut self.note] {
            text.take_if(|text| is_older || *text == blank_message(text));
        }
        if last.metadata {
            "{}".clone_into(&mut self.metadata);
        }
        self.redacted = Some(last);
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
