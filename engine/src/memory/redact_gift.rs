//! The texts of a gift are taken back: its message, the reason it came to nothing for, and the
//! note of thanks.
//!
//! As with an envelope one record has that and the answers that are kept, as far as they are
//! found. An answer that is told again is told as the gift's last redaction leaves it, and so is
//! an event.
//!
//! **Invariant:** what was written before a gift's last redaction is told by nobody.

use super::cold::store_failed;
use super::{Core, Done, Footprint, no};
use crate::backend::Reply;
use crate::command::{Outcome, Refusal};
use crate::error::EngineError;
use crate::event::Events;
use crate::journal::Class;
use crate::redaction::GiftRedaction;
use crate::state::Shards;
use crate::state::decide;
use crate::types::{GiftId, Lsn};

impl Core {
    pub(super) fn redact_gift(&self, id: GiftId, metadata: bool) -> Result<Done, EngineError> {
        self.check_serving()?;
        let index = self.router.gift(id);
        loop {
            let mut footprint = Footprint::default();
            if self.gift_footprint(id, &mut footprint)?.is_none() {
                return Ok(no(Outcome::Refused(Refusal::NotFound)));
            }
            let found = self.shards[index].lock().gift(id).map(|gift| (decide::gift_reference(gift), gift.created_at));
            let Some((reference, created_at)) = found else { continue };
            footprint.memos.extend(reference);
            if let Some(durable) = &self.durable {
                let view = durable.projector.view().map_err(store_failed)?;
                let is_about = |answer: &Outcome| matches!(answer, Outcome::Gift(gift) if gift.id == id);
                footprint.memos.extend(view.kept_about(is_about, created_at).map_err(store_failed)?);
            }
            footprint.shards.extend(footprint.memos.iter().map(|&key| self.router.memo(key)));
            footprint.sort();
            self.warm(&footprint)?;
            self.admit(Class::Settle)?;
            let mut locked = self.lock(&footprint.shards);
            if !self.is_warm(&locked, &footprint) {
                continue;
            }
            let now = self.clock.now();
            let gift = locked.shard(index).gift(id).expect("a gift that was made stays one");
            let (events, mut told) = match gift.redact(metadata, now) {
                None => (Events::new(), gift.clone()),
                Some(after) => {
                    let memos = &footprint.memos;
                    (decide::redact_gift(&locked, self.router, gift, after.clone(), metadata, memos), after)
                }
            };
            let staged = self.carry_out(&mut locked, now, events, None);
            told.tell(told.redacted);
            let reply = Reply { outcome: Outcome::Gift(Box::new(told)), replayed: false };
            return Ok(Done { reply, wait: Some(staged.unwrap_or_else(|| locked.last_lsn())) });
        }
    }

    /// What was taken back of a gift, and what has to be durable before that is told.
    pub(super) fn gift_redaction(&self, id: GiftId) -> Result<(Option<GiftRedaction>, Lsn), EngineError> {
        let known = {
            let shard = self.shards[self.router.gift(id)].lock();
            shard.gifts.get(&id).map(|known| (known.gift.as_ref().and_then(|gift| gift.redacted), known.last_lsn))
        };
        match (known, &self.durable) {
            (Some(known), _) => Ok(known),
            (None, Some(durable)) => {
                let gift = durable.store.gift(id).map_err(store_failed)?;
                Ok((gift.and_then(|gift| gift.redacted), Lsn(0)))
            }
            (None, None) => Ok((None, Lsn(0))),
        }
    }
}
