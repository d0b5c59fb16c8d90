//! Gift envelopes: brought in before a decision, with all their gifts.

use super::{Core, Durable, Footprint};
use crate::command::Command;
use crate::error::EngineError;
use crate::gift_envelope::{GiftEnvelope, GiftEnvelopeStep};
use crate::state::gift_envelopes::KnownGiftEnvelope;
use crate::types::{GiftEnvelopeId, Lsn, UserId};

impl Core {
    pub(super) fn warm_gift_envelope(&self, durable: &Durable, id: GiftEnvelopeId) -> Result<(), EngineError> {
        self.warm_one(
            self.router.gift_envelope(id),
            |shard| shard.gift_envelopes.get_mut(&id).map(|known| &mut known.touched_at),
            || durable.store.gift_envelope(id),
            |shard, envelope, touched_at| {
                let envelope = envelope.map(Box::new);
                shard.gift_envelopes.insert(id, KnownGiftEnvelope { envelope, last_lsn: Lsn(0), touched_at });
            },
        )
    }

    /// What a command about a gift envelope needs, all of which is fixed when the envelope is made.
    pub(super) fn gift_envelope_footprint(
        &self,
        id: GiftEnvelopeId,
        command: &Command,
        footprint: &mut Footprint,
    ) -> Result<(), EngineError> {
        if let Some(durable) = &self.durable {
            self.warm_gift_envelope(durable, id)?;
        }
        let index = self.router.gift_envelope(id);
        footprint.gift_envelope = Some(id);
        footprint.shards.push(index);
        let Some(envelope) = self.shards[index].lock().gift_envelope(id).cloned() else { return Ok(()) };
        let GiftEnvelope { giver, payer, gifts, .. } = envelope;
        footprint.gifts.extend(gifts);
        let meets: &UserId = match command {
            Command::GrabGift { user, .. } => user,
            Command::StepGiftEnvelope { step, .. } => {
                footprint.wallet(self.router, &payer);
                match &**step {
                    GiftEnvelopeStep::Pay { payer } => payer,
                    GiftEnvelopeStep::Cancel { .. } => return Ok(()),
                }
            }
            _ => unreachable!("no other command is about a gift envelope that is there"),
        };
        footprint.pair(self.router, &giver, meets);
        Ok(())
    }
}
