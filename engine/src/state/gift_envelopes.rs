//! Gift envelopes in memory: which gifts they have, as far as somebody just asked.
//!
//! **Invariant:** a gift envelope lives in the shard of its item, as its gifts do.

use super::decide::Decision;
use super::gifts::unit_of;
use super::{Router, Shard, Shards, relations};
use crate::backend::EntryKind;
use crate::command::{Outcome, Refusal};
use crate::event::{self, Event, Events, GiftChanged, Units, WalletMoved};
use crate::gift::{Gift, GiftState, GiftStep, GiftToken};
use crate::gift_envelope::{GiftEnvelope, GiftEnvelopeState, GiftEnvelopeStep, NewGiftEnvelope};
use crate::journal::MAX_RECORD_BYTES;
use crate::mutants::{Mutant, is_planted};
use crate::types::{Amount, GiftEnvelopeId, GiftId, HoldId, Lsn, Timestamp, UserId};

/// What the gifts of an envelope may take in a record; the rest is for the envelope, answers that are kept, and
/// for the times that stand in each gift later.
const GIFTS_BYTES_MAX: usize = MAX_RECORD_BYTES - (16 << 10);

/// A gift envelope, or the knowledge that there is none under its id.
pub(crate) struct KnownGiftEnvelope {
    pub(crate) envelope: Option<Box<GiftEnvelope>>,
    pub(crate) last_lsn: Lsn,
    pub(crate) touched_at: Timestamp,
}

/// The ids of a gift envelope that is to be made, and of its gifts, and the token that it may have.
pub(crate) struct DrawnGifts {
    pub(crate) id: GiftEnvelopeId,
    pub(crate) gifts: Vec<GiftId>,
    pub(crate) token: GiftToken,
}

impl Shard {
    /// A gift envelope that is in memory.
    pub(crate) fn gift_envelope(&self, id: GiftEnvelopeId) -> Option<&GiftEnvelope> {
        self.gift_envelopes.get(&id)?.envelope.as_deref()
    }

    /// Its gifts, all of which are in memory.
    fn gifts_of<'a>(&'a self, envelope: &'a GiftEnvelope) -> impl Iterator<Item = &'a Gift> + Clone {
        envelope.gifts.iter().map(|id| self.gift(*id).expect("a gift envelope's gifts are brought in with it"))
    }

    /// Remembers a gift envelope until the store has it.
    pub(super) fn apply_gift_envelope(&mut self, envelope: Box<GiftEnvelope>, at: Timestamp, lsn: Lsn) {
        let id = envelope.id;
        let known = KnownGiftEnvelope { envelope: Some(envelope), last_lsn: lsn, touched_at: at };
        let before = self.gift_envelopes.insert(id, known);
        assert!(before.is_none_or(|known| known.envelope.is_none()), "a gift envelope is made once");
    }
}

/// Gifts of one giver and payer that change one after the other in one record.
struct Changing {
    /// What the payer has left.
    available: Amount,
    /// What the giver has of the item.
    units: Units,
    events: Events,
}

impl Changing {
    /// Without a payer no money moves.
    fn of(shards: &impl Shards, router: Router, payer: Option<&UserId>, units: Units) -> Changing {
        let wallet = payer.and_then(|payer| shards.shard(router.user(payer)).wallets.get(payer));
        Changing { available: wallet.map_or(Amount::ZERO, |wallet| wallet.available), units, events: Events::new() }
    }

    /// # Errors
    /// The payer has not enough left.
    fn change(&mut self, was: Option<&Gift>, gift: Gift) -> Result<(), Refusal> {
        let was = was.map(|gift| gift.state);
        let ((held_was, sold_was), (held, sold)) = (unit_of(was), unit_of(Some(gift.state)));
        let units = self.units;
        self.units = Units { held: units.held + held - held_was, sold: units.sold + sold - sold_was };
        let event = GiftChanged { was, gift, units_after: self.units, owed_after: None, redacts: false };
        let Gift { id, payer, amount, .. } = &event.gift;
        let (moved, _) = event.moved();
        let kind = match moved.signum() {
            1 => {
                self.available = self.available.checked_sub(*amount).ok_or(Refusal::InsufficientFunds)?;
                Some(EntryKind::GiftPaid(*id))
            }
            -1 => {
                self.available += *amount;
                Some(EntryKind::GiftRefund(*id))
            }
            _ => None,
        };
        self.events.extend(kind.map(|kind| {
            let (user, amount) = (payer.clone(), *amount);
            Event::WalletMoved(WalletMoved { user, kind, amount, available_after: self.available })
        }));
        self.events.push(Event::GiftChanged(Box::new(event)));
        Ok(())
    }

    /// Whether a record takes so many, and takes them again with what becomes of them.
    fn fits(&self, now: Timestamp) -> bool {
        let mut bytes = Vec::new();
        event::encode(now, &self.events, &mut bytes);
        bytes.len() <= GIFTS_BYTES_MAX
    }
}

/// Sets units aside for whoever comes first, which the giver pays for at once; somebody else is asked to.
pub(super) fn create(
    shards: &impl Shards,
    router: Router,
    now: Timestamp,
    terms: &NewGiftEnvelope,
    drawn: &DrawnGifts,
) -> Decision {
    let shard = shards.shard(router.item(terms.item));
    let Some(item) = shard.items.get(&terms.item) else {
        return Decision::refuse(Refusal::NotFound);
    };
    if let Err(refusal) = relations::check(shards, router, (&terms.giver, &terms.payer), false) {
        return Decision::refuse(refusal);
    }
    let (merchant, price) = (&item.put.terms.merchant, item.put.terms.price);
    if price.checked_mul(terms.units.into()).is_none() {
        let why = "times the price is above 9007199254740991; give fewer units at once";
        return Decision::refuse(Refusal::invalid("units", why));
    }
    let hold = HoldId::from_bytes(*drawn.id.bytes());
    let given = item.give(&shard.holds, now, shard.refuses(merchant), (&terms.giver, terms.units), hold);
    let in_the_way = shard.in_the_way(item, now, (&terms.giver, terms.units), &given);
    // Units that came free on the way are given back whatever the answer.
    let mut events: Events = given.expired.into_iter().map(|e| Event::HoldEnded(Box::new(e))).collect();
    let no = |outcome, events| Decision { events, ..Decision::no(outcome) };
    let held = match given.result {
        None => return Decision { again: Some(Vec::new()), ..no(Outcome::SoldOut, events) },
        _ if !in_the_way.is_empty() => return Decision { again: Some(in_the_way), ..no(Outcome::SoldOut, events) },
        Some(Err(outcome)) => return no(outcome, events),
        Some(Ok(held)) => held,
    };
    let units = Units { held: held.units_after.held - terms.units, ..held.units_after };
    let mut changing = Changing::of(shards, router, Some(&terms.payer).filter(|payer| **payer == terms.giver), units);
    let of_each = terms.of_each();
    for id in &drawn.gifts {
        let gift = Gift::make(&of_each, (*id, drawn.token), (merchant, price), now);
        let gift = Gift { token: None, ..gift };
        let gift = if terms.payer == terms.giver { gift.paid_at_once(now) } else { gift };
        if let Err(refusal) = changing.change(None, gift) {
            return no(Outcome::Refused(refusal), events);
        }
    }
    if !changing.fits(now) {
        let why = "are too many with names and a message so long; give fewer at once, or say less";
        return no(Outcome::Refused(Refusal::invalid("units", why)), events);
    }
    let envelope = Box::new(GiftEnvelope {
        id: drawn.id,
        owner: terms.owner.clone(),
        giver: terms.giver.clone(),
        payer: terms.payer.clone(),
        item: terms.item,
        merchant: merchant.clone(),
        amount: price,
        token: terms.has_token.then_some(drawn.token),
        created_at: now,
        accept_within_s: terms.accept_within_s,
        reference: terms.reference.as_ref().map(|reference| reference.text.clone()),
        gifts: drawn.gifts.clone(),
    });
    events.extend(changing.events);
    events.push(Event::GiftEnvelopeMade(envelope.clone()));
    Decision::new(events, Outcome::GiftEnvelope(envelope))
}

/// Makes the next gift of an envelope that nobody has this user's.
pub(super) fn grab(
    shards: &impl Shards,
    router: Router,
    now: Timestamp,
    id: GiftEnvelopeId,
    (user, token): (&UserId, Option<&GiftToken>),
    must_follow: bool,
) -> Decision {
    let shard = shards.shard(router.gift_envelope(id));
    let Some(envelope) = shard.gift_envelope(id) else {
        return Decision::refuse(Refusal::NotFound);
    };
    let gifts = shard.gifts_of(envelope);
    // Whoever has one is told so again, and needs to show nothing more.
    let mine = gifts.clone().find(|gift| gift.recipient.as_ref() == Some(user));
    if let Some(gift) = mine.filter(|_| !is_planted(Mutant::GrabGiftAgain)) {
        return Decision { replayed: true, ..Decision::known(Outcome::Gift(Box::new(gift.clone()))) };
    }
    if envelope.token.as_ref().is_some_and(|own| !token.is_some_and(|shown| own.is(shown))) {
        return Decision::refuse(Refusal::Forbidden);
    }
    if let Err(refusal) = relations::check(shards, router, (&envelope.giver, user), must_follow) {
        return Decision::refuse(refusal);
    }
    // What is due has ended, whether or not anybody has looked.
    let state = |gift: &Gift| gift.due(now).map_or(gift.state, |due| due.state);
    let next = gifts.clone().find(|gift| gift.recipient.is_none() && state(gift) == GiftState::Offered);
    let Some(gift) = next else {
        let ended: Vec<Gift> = gifts.map(|gift| Gift { state: state(gift), ..gift.clone() }).collect();
        return Decision::no(match GiftEnvelopeState::of(ended.iter()) {
            GiftEnvelopeState::AwaitingPayment => {
                let why = "the gift envelope is awaiting_payment; who was asked to pay has to, before anybody can grab";
                Outcome::Refused(Refusal::WrongState(why.to_owned()))
            }
            GiftEnvelopeState::Expired => Outcome::Expired,
            GiftEnvelopeState::Cancelled => Outcome::Cancelled,
            GiftEnvelopeState::SoldOut | GiftEnvelopeState::Open => Outcome::SoldOut,
        });
    };
    let after = gift.grabbed(user, envelope.accept_within_s, now);
    let units = shard.items[&gift.item].units(&gift.giver);
    let mut changing = Changing::of(shards, router, None, units);
    changing.change(Some(gift), after.clone()).expect("a gift that is grabbed costs nothing more");
    Decision::new(changing.events, Outcome::Gift(Box::new(after)))
}

/// What the payer or the giver does about all that nobody has grabbed.
pub(super) fn step(
    shards: &impl Shards,
    router: Router,
    now: Timestamp,
    id: GiftEnvelopeId,
    step: &GiftEnvelopeStep,
) -> Decision {
    let shard = shards.shard(router.gift_envelope(id));
    let Some(envelope) = shard.gift_envelope(id) else {
        return Decision::refuse(Refusal::NotFound);
    };
    let (of_each, by, allowed) = match step {
        GiftEnvelopeStep::Pay { payer } => (GiftStep::Pay { payer: payer.clone() }, payer, &envelope.payer),
        GiftEnvelopeStep::Cancel { user } => (GiftStep::Cancel { user: user.clone() }, user, &envelope.giver),
    };
    if by != allowed {
        return Decision::refuse(Refusal::Forbidden);
    }
    let told = || Outcome::GiftEnvelope(Box::new(envelope.clone()));
    let units = shard.items[&envelope.item].units(&envelope.giver);
    let mut changing = Changing::of(shards, router, Some(&envelope.payer), units);
    let (mut refused, mut was_done) = (None, false);
    for gift in shard.gifts_of(envelope) {
        // What somebody has is that one's; and each may have been paid or taken back by itself.
        if gift.recipient.is_some() && matches!(step, GiftEnvelopeStep::Cancel { .. }) {
            continue;
        }
        match gift.step(&of_each, now) {
            Ok(Some(after)) => {
                if let Err(refusal) = changing.change(Some(gift), after) {
                    return Decision::refuse(refusal);
                }
            }
            Ok(None) => was_done = true,
            Err(refusal) => refused = Some(refusal),
        }
    }
    if changing.events.is_empty() {
        return match refused.filter(|_| !was_done) {
            Some(refusal) => Decision::refuse(refusal),
            None if was_done => Decision::known(told()),
            None => {
                Decision::refuse(Refusal::WrongState("every unit was grabbed; there is nothing to take back".into()))
            }
        };
    }
    if matches!(step, GiftEnvelopeStep::Pay { .. })
        && let Err(refusal) = relations::check(shards, router, (&envelope.giver, by), false)
    {
        return Decision::refuse(refusal);
    }
    Decision::new(changing.events, told())
}
