//! Texts taken out of what was written: an envelope's message, a gift's message, reason and
//! note, and the metadata that a caller keeps with either.
//!
//! **Invariant:** what is blanked has as many bytes as before, so records keep
//! their length and everything its place.

use crate::command::Outcome;
use crate::event::{self, EnvelopeCreated, Event, Record, UnknownForm};
use crate::gift::Gift;
use crate::redaction::{blank_message, blank_metadata};
use crate::types::{EnvelopeId, GiftId};
use std::collections::BTreeSet;

/// What is to be taken out.
#[derive(Clone, Debug)]
pub struct Erasure {
    envelopes: BTreeSet<EnvelopeId>,
    gifts: BTreeSet<GiftId>,
    with_metadata: bool,
    /// Whether any of their ids begins with that byte.
    begins: [bool; 256],
}

impl Erasure {
    /// The messages of `envelopes`, and their metadata if that is wanted.
    pub fn of(envelopes: impl IntoIterator<Item = EnvelopeId>, with_metadata: bool) -> Erasure {
        let envelopes: BTreeSet<_> = envelopes.into_iter().collect();
        let mut begins = [false; 256];
        envelopes.iter().for_each(|id| begins[usize::from(id.bytes()[0])] = true);
        Erasure { envelopes, gifts: BTreeSet::new(), with_metadata, begins }
    }

    /// The texts of `gifts` as well.
    pub fn and_gifts(mut self, gifts: impl IntoIterator<Item = GiftId>) -> Erasure {
        self.gifts.extend(gifts);
        self.gifts.iter().for_each(|id| self.begins[usize::from(id.bytes()[0])] = true);
        self
    }

    /// Of which gifts.
    pub fn gifts(&self) -> impl Iterator<Item = GiftId> {
        self.gifts.iter().copied()
    }

    /// Of which envelopes.
    pub fn envelopes(&self) -> impl Iterator<Item = EnvelopeId> {
        self.envelopes.iter().copied()
    }

    /// Whether any of the envelopes or gifts is named in these bytes, of a record or a row. Most
    /// are passed over by that: wherever a text stands, the id of what it is of stands too.
    pub(crate) fn is_named_in(&self, bytes: &[u8]) -> bool {
        const ID_BYTES: usize = 16;
        let is_id = |id: &[u8; ID_BYTES]| {
            self.envelopes.contains(&EnvelopeId::from_bytes(*id)) || self.gifts.contains(&GiftId::from_bytes(*id))
        };
        (0..bytes.len().saturating_sub(ID_BYTES - 1))
            .any(|at| self.begins[usize::from(bytes[at])] && bytes[at..].first_chunk().is_some_and(is_id))
    }

    /// A record's bytes without the texts; nothing if there are none in it.
    ///
    /// # Errors
    /// [`UnknownForm`] if it cannot be read, or not be written again as it was.
    pub(crate) fn record(&self, bytes: &[u8]) -> Result<Option<Vec<u8>>, UnknownForm> {
        if !self.is_named_in(bytes) {
            return Ok(None);
        }
        let mut record = Record::decode(bytes)?;
        let mut again = Vec::with_capacity(bytes.len());
        event::encode(record.at, &record.events, &mut again);
        if again != bytes {
            return Err(UnknownForm);
        }
        let mut is_blanked = false;
        for event in &mut record.events {
            is_blanked |= match event {
                Event::EnvelopeCreated(created) => self.created(created),
                Event::EnvelopeRedacted(event) => self.created(&mut event.created),
                Event::Remembered(memo) => self.answer(&mut memo.answer),
                Event::GiftChanged(changed) => self.gift(&mut changed.gift),
                _ => false,
            };
        }
        if !is_blanked {
            return Ok(None);
        }
        again.clear();
        event::encode(record.at, &record.events, &mut again);
        assert_eq!(again.len(), bytes.len(), "a blank is as long as what it stands for");
        Ok(Some(again))
    }

    /// Blanks an envelope's terms; says whether there was anything.
    pub(crate) fn created(&self, created: &mut EnvelopeCreated) -> bool {
        let terms = &mut created.terms;
        self.envelopes.contains(&created.id) && self.texts(&mut terms.message, &mut terms.metadata)
    }

    /// Blanks what an answer says; says whether there was anything.
    pub(crate) fn answer(&self, answer: &mut Outcome) -> bool {
        match answer {
            Outcome::Envelope(view) => {
                self.envelopes.contains(&view.id) && self.texts(&mut view.message, &mut view.metadata)
            }
            Outcome::Gift(gift) => self.gift(gift),
            _ => false,
        }
    }

    /// Blanks a gift's texts; says whether there were any.
    pub(crate) fn gift(&self, gift: &mut Gift) -> bool {
        self.gifts.contains(&gift.id) && gift.blank(self.with_metadata)
    }

    fn texts(&self, message: &mut String, metadata: &mut String) -> bool {
        let blank =
            (blank_message(message), if self.with_metadata { blank_metadata(metadata) } else { metadata.clone() });
        if (&blank.0, &blank.1) == (message, metadata) {
            return false;
        }
        (*message, *metadata) = blank;
        true
    }
}

/// Whether a text was taken out of these bytes of a record. Somebody may have written nothing but
/// blanks; that cannot be told from it.
pub(crate) fn is_erased(bytes: &[u8]) -> bool {
    let is_blank = |message: &str, metadata: &str| {
        !message.is_empty() && message == blank_message(message)
            || metadata.len() > 2 && metadata == blank_metadata(metadata)
    };
    let is_blank_gift = |gift: &Gift| {
        is_blank(&gift.message, &gift.metadata)
            || [&gift.reason, &gift.note].into_iter().flatten().any(|text| is_blank(text, ""))
    };
    Record::decode(bytes).is_ok_and(|record| {
        record.events.iter().any(|event| match event {
            Event::EnvelopeCreated(created) => is_blank(&created.terms.message, &created.terms.metadata),
            Event::EnvelopeRedacted(event) => is_blank(&event.created.terms.message, &event.created.terms.metadata),
            Event::Remembered(memo) => match &memo.answer {
                Outcome::Envelope(view) => is_blank(&view.message, &view.metadata),
                Outcome::Gift(gift) => is_blank_gift(gift),
                _ => false,
            },
            Event::GiftChanged(changed) => is_blank_gift(&changed.gift),
            _ => false,
        })
    })
}
