//! A message is taken back, of an envelope in memory or in the store alone.
//!
//! The event carries the envelope's terms without it, so they are looked up first. One record
//! has that and the answers kept under the envelope's references, which are kept for ever, and
//! under idempotency keys, as far as they are found. Where one is not, it is kept for days; so
//! answers that repeat an envelope are blanked when they are told, too.
//!
//! What an answer does not keep of an envelope is put into it when it is told, with that.
//!
//! **Invariant:** an answer that repeats an envelope is told as its redaction leaves it.

use super::cold::{figures, store_failed};
use super::{Core, Done, Durable, Footprint, no};
use crate::backend::Reply;
use crate::command::{Command, EnvelopeView, Outcome, Refusal};
use crate::error::EngineError;
use crate::event::EnvelopeCreated;
use crate::journal::Class;
use crate::mutants::{Mutant, is_planted};
use crate::payout::Outside;
use crate::redaction::Redaction;
use crate::state::Shards;
use crate::state::decide;
use crate::state::envelope::Figures;
use crate::types::{EnvelopeId, Lsn};

/// An envelope before its shard is locked.
enum Found {
    Live(Box<EnvelopeCreated>),
    /// In the store, and how often something had been evicted before it was read there.
    Stored(Box<EnvelopeCreated>, Figures, u64),
}

impl Core {
    pub(super) fn redact(&self, id: EnvelopeId, metadata: bool) -> Result<Done, EngineError> {
        self.check_serving()?;
        loop {
            let Some(found) = self.find_terms(id)? else { return Ok(no(Outcome::Refused(Refusal::NotFound))) };
            if let Some(done) = self.try_redact(id, metadata, found)? {
                return Ok(done);
            }
        }
    }

    fn find_terms(&self, id: EnvelopeId) -> Result<Option<Found>, EngineError> {
        let evictions = {
            let shard = self.shards[self.router.envelope(id)].lock();
            match shard.envelopes.get(&id) {
                Some(envelope) => return Ok(Some(Found::Live(envelope.created.clone()))),
                None => shard.evictions,
            }
        };
        let Some((row, _)) = self.stored_envelope(id)? else { return Ok(None) };
        let figures = figures(&row)?;
        Ok(Some(Found::Stored(Box::new(row.created), figures, evictions)))
    }

    /// `None` if what it needs has left memory meanwhile.
    fn try_redact(&self, id: EnvelopeId, metadata: bool, found: Found) -> Result<Option<Done>, EngineError> {
        let index = self.router.envelope(id);
        let (Found::Live(created) | Found::Stored(created, ..)) = &found;
        let mut footprint = Footprint::default();
        footprint.shards.push(index);
        footprint.memos.extend(decide::envelope_references(&created.terms).into_iter().flatten());
        if let Some(durable) = &self.durable {
            let view = durable.projector.view().map_err(store_failed)?;
            let is_about = |answer: &Outcome| matches!(answer, Outcome::Envelope(view) if view.id == id);
            footprint.memos.extend(view.kept_about(is_about, created.created_at).map_err(store_failed)?);
        }
        footprint.shards.extend(footprint.memos.iter().map(|&key| self.router.memo(key)));
        footprint.sort();
        self.warm(&footprint)?;
        self.admit(Class::Settle)?;
        let mut locked = self.lock(&footprint.shards);
        if !self.is_warm(&locked, &footprint) {
            return Ok(None);
        }
        let now = self.clock.now();
        let shard = locked.shard(index);
        let (mut created, figures) = match (shard.envelopes.get(&id), found) {
            (Some(envelope), _) => (envelope.created.clone(), envelope.figures()),
            (None, Found::Stored(mut created, figures, evictions)) if evictions == shard.evictions => {
                if let Some((redaction, _)) = shard.redactions.get(&id) {
                    redaction.put(&mut created);
                }
                (created, figures)
            }
            (None, _) => return Ok(None),
        };
        let redaction = Redaction::of(&created, metadata, now);
        let events = decide::redact(&locked, self.router, &created, redaction, &footprint.memos);
        let staged = self.carry_out(&mut locked, now, events, None);
        if let Some(redaction) = redaction {
            redaction.put(&mut created);
        }
        locked.shard_mut(index).asked_envelope(id, now);
        let reply = Reply { outcome: Outcome::Envelope(Box::new(figures.view(&created, now))), replayed: false };
        Ok(Some(Done { reply, wait: Some(staged.unwrap_or_else(|| locked.last_lsn())) }))
    }

    /// Makes an answer whole that tells of an envelope or gift, and leaves nothing in it of what
    /// was taken back.
    pub(super) fn tell_whole(&self, command: &Command, done: &mut Done) -> Result<(), EngineError> {
        match &mut done.reply {
            Reply { outcome: Outcome::Envelope(view), replayed } => {
                let is_new = matches!(command, Command::CreateEnvelope(_)) && !*replayed;
                if is_new {
                    return Ok(());
                }
                let (mut unkept, lsn) = self.unkept(view.id)?;
                if is_planted(Mutant::RepeatRedacted) {
                    unkept.redaction = None;
                }
                if unkept.redaction.is_some() {
                    done.wait = done.wait.max(Some(lsn));
                }
                unkept.put(view);
            }
            Reply { outcome: Outcome::Gift(gift), replayed } => {
                let (redacted, lsn) = if *replayed { self.gift_redaction(gift.id)? } else { (gift.redacted, Lsn(0)) };
                if redacted.is_some() {
                    done.wait = done.wait.max(Some(lsn));
                }
                gift.tell(redacted);
            }
            _ => {}
        }
        Ok(())
    }

    /// What no kept answer has of an envelope, and what has to be durable before its redaction
    /// is told.
    pub(super) fn unkept(&self, id: EnvelopeId) -> Result<(Unkept, Lsn), EngineError> {
        let pending = {
            let shard = self.shards[self.router.envelope(id)].lock();
            if let Some(envelope) = shard.envelopes.get(&id) {
                let EnvelopeCreated { terms, redacted, .. } = &*envelope.created;
                let unkept = Unkept { outside: terms.outside.clone(), redaction: *redacted };
                return Ok((unkept, envelope.last_lsn));
            }
            shard.redactions.get(&id).copied()
        };
        let Some(Durable { store, .. }) = &self.durable else {
            let (redaction, lsn) = pending.unzip();
            return Ok((Unkept { outside: Outside::default(), redaction }, lsn.unwrap_or(Lsn(0))));
        };
        let outside = store.outside(id).map_err(store_failed)?.unwrap_or_default();
        let (redaction, lsn) = match pending {
            Some((redaction, lsn)) => (Some(redaction), lsn),
            None => (store.redaction(id).map_err(store_failed)?, Lsn(0)),
        };
        Ok((Unkept { outside, redaction }, lsn))
    }
}

/// What no kept answer and no event has of an envelope, though whoever asks is told it.
pub(super) struct Unkept {
    outside: Outside,
    redaction: Option<Redaction>,
}

impl Unkept {
    /// In an envelope as it is told.
    pub(super) fn put(self, view: &mut EnvelopeView) {
        view.outside = self.outside;
        if let Some(redaction) = self.redaction {
            redaction.put_in_told(view);
        }
    }
}
