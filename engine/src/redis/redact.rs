//! A message is taken back.
//!
//! It stands in an envelope's row alone: what operations were answered, and what is told of
//! events, names the envelope. A row of the archive stays as it is, and so may one that
//! somebody has read to archive it; so each bucket keeps what was taken back of its envelopes,
//! and whoever reads a row from the archive looks there.
//!
//! **Invariant:** what was taken back once stays so: a script that finds another row or another
//! redaction than was read changes nothing.

use super::archive::rows::Fields;
use super::backend::{Core, Operation, Result};
use super::commands::{ATTEMPTS_MAX, is_no};
use super::layout::Key;
use super::reply::damaged;
use super::rows::number;
use super::scripts::REDACT;
use crate::command::{Outcome, Refusal};
use crate::error::EngineError;
use crate::event::EnvelopeCreated;
use crate::redaction::Redaction;
use crate::types::EnvelopeId;

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
            let keys = [self.layout.envelope(id), self.layout.redactions(operation.bucket)];
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
