//! A message is taken back, or the texts of a gift.
//!
//! A message stands in an envelope's row alone: what operations were answered, and what is told of
//! events, names the envelope. A row of the archive stays as it is, and so may one that
//! somebody has read to archive it; so each bucket keeps what was taken back of its envelopes,
//! and whoever reads a row from the archive looks there.
//!
//! What operations were answered of a gift has its texts not, but for a note; what is told of events
//! has them until it is forgotten. Whoever tells either asks the gift for its last redaction.
//!
//! **Invariant:** what was taken back once stays so: a script that finds another row or another
//! redaction than was read changes nothing.

use super::archive::rows::Fields;
use super::backend::{Core, Operation, Result};
use super::bucket::Bucket;
use super::commands::{ATTEMPTS_MAX, is_no};
use super::gifts;
use super::layout::Key;
use super::reply::damaged;
use super::rows::number;
use super::scripts::{GIFT, REDACT};
use crate::command::{Outcome, Refusal};
use crate::error::EngineError;
use crate::event::EnvelopeCreated;
use crate::redaction::{GiftRedaction, Redaction};
use crate::types::{EnvelopeId, GiftId};

impl Core {
    pub(super) async fn redact(&self, id: EnvelopeId, metadata: bool, operation: &Operation) -> Result<Outcome> {
        for _ in 0..ATTEMPTS_MAX {
            let noted = self.noted_redaction(id).await?;
            let (row, archived) = self.envelope_fields(id, ["created"]).await?;
            let Some(bytes) = row.maybe(0) else { return Ok(Outcome::Refused(Refusal::NotFound)) };
            let mut created = EnvelopeCreated::of_bytes(bytes).ok_or_else(|| damaged("an envelope"))?;
            let now = self.clock.now();
            let Some(redaction) = Redaction::of(&created, metadata, now) else {
                let row = self.envelope_row(id).await?.ok_or_else(|| damaged("an envelope"))?;
                return Ok(Outcome::Envelope(Box::new(row.figures.view(&row.created, now))));
            };
            redaction.put(&mut created);
            let (was, now_is) = if archived { (&[][..], Vec::new()) } else { (bytes, created.to_bytes()) };
            let layout = &self.layout;
            let bucket = operation.bucket;
            let keys = [layout.envelope(id), layout.redactions(bucket), layout.erased(bucket)];
            let also: &[u8] = if redaction.metadata { b"1" } else { b"" };
            let args = [
                id.bytes().to_vec(),
                noted.unwrap_or_default(),
                packed(redaction),
                number(redaction.at.ms()),
                also.to_vec(),
                was.to_vec(),
                now_is,
            ];
            let decided = self.ask(&REDACT, operation, keys, args).await?;
            if !is_no(&decided, b"changed") {
                let row = self.envelope_row(id).await?.ok_or_else(|| damaged("an envelope"))?;
                return Ok(Outcome::Envelope(Box::new(row.figures.view(&row.created, now))));
            }
        }
        Err(EngineError::Overloaded)
    }

    pub(super) async fn redact_gift(&self, id: GiftId, metadata: bool, operation: &Operation) -> Result<Outcome> {
        let bucket = operation.bucket;
        let mut confirm = false;
        for _ in 0..ATTEMPTS_MAX {
            let seen = self.seen_gift(id, operation, false, confirm).await?;
            if seen.is_being_paid() {
                if confirm {
                    self.carry(bucket, seen.effects).await?;
                }
                confirm = !confirm;
                continue;
            }
            let Some(gift) = &seen.gift else { return Ok(Outcome::Refused(Refusal::NotFound)) };
            let mut told = match gift.redact(metadata, seen.at) {
                None if confirm => gift.clone(),
                None => {
                    confirm = true;
                    continue;
                }
                Some(after) => {
                    let times = after.redacted.map_or(0, |redaction| redaction.times);
                    let args = [
                        b"redact".to_vec(),
                        id.bytes().to_vec(),
                        gifts::packed(&after),
                        seen.packed,
                        number(seen.at.ms()),
                        number(times.into()),
                    ];
                    let decided = self.ask(&GIFT, operation, self.gift_keys(gift.item, id), args).await?;
                    confirm = false;
                    match self.in_the_way(decided, bucket).await? {
                        Some(_) => after,
                        None => continue,
                    }
                }
            };
            told.tell(told.redacted);
            return Ok(Outcome::Gift(Box::new(told)));
        }
        Err(EngineError::Overloaded)
    }

    /// A gift that was kept for who asks again, as it is told now.
    pub(super) async fn kept_gift(&self, bytes: &[u8]) -> Result<Outcome> {
        let mut gift = gifts::gift_of_bytes(bytes)?;
        let now = self.gift(gift.id).await?.ok_or_else(|| damaged("a gift that was answered"))?;
        gift.message = now.message;
        gift.metadata = now.metadata;
        // Why it came to nothing is said once.
        if gift.reason.is_some() {
            gift.reason = now.reason;
        }
        gift.tell(now.redacted);
        Ok(Outcome::Gift(Box::new(gift)))
    }

    /// What was taken back of gifts, by their ids, as far as anything was.
    pub(super) async fn gift_redactions(
        &self,
        bucket: Bucket,
        ids: Vec<GiftId>,
    ) -> Result<Vec<(GiftId, GiftRedaction)>> {
        let fields = ids.iter().map(|id| id.bytes().to_vec());
        let args: Vec<Vec<u8>> = [b"row".to_vec()].into_iter().chain(fields).collect();
        let rows = self.read(bucket, &[self.layout.gifts(bucket)], &args).await?;
        let mut found = Vec::new();
        for (index, id) in ids.into_iter().enumerate() {
            let gift = gifts::gift_of(rows.maybe(index).ok_or_else(|| damaged("a gift that an event tells of"))?)?;
            found.extend(gift.redacted.map(|redaction| (id, redaction)));
        }
        Ok(found)
    }

    /// What the bucket keeps of an envelope of which something was taken back.
    async fn noted_redaction(&self, id: EnvelopeId) -> Result<Option<Vec<u8>>> {
        let bucket = self.layout.of_id(id.bytes());
        let keys: [Key; 1] = [self.layout.redactions(bucket)];
        let row = self.read(bucket, &keys, &[b"row".to_vec(), id.bytes().to_vec()]).await?;
        Ok(row.maybe(0).map(<[u8]>::to_vec))
    }

    /// An archived envelope's row without what was taken back of it.
    pub(super) async fn without_redacted(&self, id: EnvelopeId, mut row: Fields) -> Result<Fields> {
        if let Some(noted) = self.noted_redaction(id).await? {
            let redaction: Redaction = postcard::from_bytes(&noted).map_err(|_| damaged("a redaction"))?;
            let created = row.get("created").and_then(|bytes| EnvelopeCreated::of_bytes(bytes));
            let mut created = created.ok_or_else(|| damaged("an envelope"))?;
            redaction.put(&mut created);
            row.insert("created".to_owned(), created.to_bytes());
        }
        Ok(row)
    }
}

fn packed(redaction: Redaction) -> Vec<u8> {
    postcard::to_extend(&redaction, Vec::new()).expect("every redaction has a postcard form")
}
