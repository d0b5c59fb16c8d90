//! Gift envelopes as the model sees them: which gifts each has, and what is done to all that nobody has.

use crate::commands::any_user;
use crate::gifts::Given;
use crate::model::{Decided, Model, Moment, When, no, refuse};
use crate::random::Random;
use hongbao_engine::backend::EntryKind;
use hongbao_engine::command::{Command, Outcome, Refusal};
use hongbao_engine::gift::{Gift, GiftState, GiftToken, NewGift};
use hongbao_engine::gift_envelope::{GiftEnvelope, GiftEnvelopeStep, NewGiftEnvelope};
use hongbao_engine::types::{GiftEnvelopeId, GiftId, Timestamp, UserId};
use std::collections::BTreeMap;

/// What there is, with its record.
pub(crate) type GiftEnvelopes = BTreeMap<GiftEnvelopeId, (GiftEnvelope, u64)>;

/// The terms of each of an envelope's gifts.
pub(crate) fn of_each(terms: &NewGiftEnvelope) -> NewGift {
    NewGift {
        recipient: None,
        payer: terms.payer.clone(),
        message: terms.message.clone(),
        pay_within_s: terms.pay_within_s,
        accept_within_s: terms.expires_in_s,
        ship_within_s: terms.ship_within_s,
        ..NewGift::new(&terms.owner, terms.giver.clone(), terms.giver.clone(), terms.item)
    }
}

/// Mostly a grab.
pub(crate) fn about_one(model: &Model, random: &mut Random) -> Command {
    let known: Vec<GiftEnvelopeId> = model.gift_envelopes.keys().copied().collect();
    let envelope =
        if random.once_in(40) { GiftEnvelopeId::from_bytes([random.below(4) as u8; 16]) } else { random.pick(&known) };
    let known = model.gift_envelopes.get(&envelope).map(|(envelope, _)| envelope);
    let mut by = |right: Option<&UserId>| match right {
        Some(right) if !random.once_in(8) => right.clone(),
        _ => any_user(random),
    };
    let (payer, giver) = (by(known.map(|it| &it.payer)), by(known.map(|it| &it.giver)));
    let step = match random.below(8) {
        0..=1 => GiftEnvelopeStep::Pay { payer },
        2 => GiftEnvelopeStep::Cancel { user: giver },
        _ => {
            let user = any_user(random);
            let token = known.and_then(|it| it.token);
            let token = if random.once_in(8) { random.maybe(2, |_| GiftToken([0; 16])) } else { token };
            // The same for the same user, as it is no part of what is asked.
            let must_follow = user.as_str() == "07";
            return Command::GrabGift { envelope, user, token, must_follow };
        }
    };
    Command::StepGiftEnvelope { envelope, step: Box::new(step) }
}

impl Model {
    /// Why an envelope is not made, whatever there is of its item.
    pub(crate) fn given_many_apart(&self, terms: &NewGiftEnvelope) -> Option<Refusal> {
        self.apart(&terms.giver, &terms.payer, false)
    }

    pub(crate) fn create_gift_envelope(
        &mut self,
        now: Timestamp,
        terms: &NewGiftEnvelope,
        drawn: &[Vec<u8>],
        lsn: u64,
    ) -> Decided {
        if self.items.contains_key(&terms.item)
            && let Some(refusal) = self.given_many_apart(terms)
        {
            return refuse(refusal);
        }
        let beside = |at: usize| {
            let mut id: [u8; 16] = drawn[at].as_slice().try_into().expect("an id is drawn");
            id[..2].copy_from_slice(&terms.item.bytes()[..2]);
            id
        };
        let units = terms.units as usize;
        let sale = match self.set_aside(now, &of_each(terms), terms.units, lsn) {
            Ok(sale) => sale,
            Err(decided) => return decided,
        };
        let token = GiftToken(drawn[units + 1].as_slice().try_into().expect("a token is drawn"));
        let gifts: Vec<GiftId> = (1..=units).map(|at| GiftId::from_bytes(beside(at))).collect();
        for id in &gifts {
            self.put_gift(now, &of_each(terms), (*id, None), &sale, lsn);
        }
        let envelope = GiftEnvelope {
            id: GiftEnvelopeId::from_bytes(beside(0)),
            owner: terms.owner.clone(),
            giver: terms.giver.clone(),
            payer: terms.payer.clone(),
            item: terms.item,
            merchant: sale.merchant,
            amount: sale.price,
            token: terms.has_token.then_some(token),
            created_at: now,
            accept_within_s: terms.accept_within_s,
            reference: terms.reference.as_ref().map(|reference| reference.text.clone()),
            gifts,
        };
        self.gift_envelopes.insert(envelope.id, (envelope.clone(), lsn));
        Decided(Outcome::GiftEnvelope(Box::new(envelope)), true, lsn)
    }

    fn of_envelope(&self, envelope: &GiftEnvelope) -> Vec<&Given> {
        envelope.gifts.iter().map(|id| &self.given[id]).collect()
    }

    /// What this user has of an envelope, if this asks for one.
    pub(crate) fn has_grabbed(&self, command: &Command) -> Option<&Given> {
        let Command::GrabGift { envelope, user, .. } = command else { return None };
        let (envelope, _) = self.gift_envelopes.get(envelope)?;
        self.of_envelope(envelope).into_iter().find(|given| given.gift.recipient.as_ref() == Some(user))
    }

    pub(crate) fn grab_gift(&mut self, now: Timestamp, command: &Command, lsn: u64) -> Decided {
        let Command::GrabGift { envelope, user, token, must_follow } = command else { unreachable!("it is a grab") };
        let Some((envelope, _)) = self.gift_envelopes.get(envelope).cloned() else { return refuse(Refusal::NotFound) };
        if let Some(mine) = self.has_grabbed(command) {
            return Decided(Outcome::Gift(Box::new(mine.gift())), false, mine.lsn);
        }
        if envelope.token.is_some() && envelope.token != *token {
            return refuse(Refusal::Forbidden);
        }
        if let Some(refusal) = self.apart(&envelope.giver, user, *must_follow) {
            return refuse(refusal);
        }
        let left: Vec<(GiftId, GiftState, bool)> = self
            .of_envelope(&envelope)
            .into_iter()
            .filter(|given| given.gift.recipient.is_none())
            .map(|given| (given.gift.id, given.state(), given.is_due(now)))
            .collect();
        let next = left.iter().find(|(_, state, is_due)| *state == GiftState::Offered && !is_due);
        if let Some((id, ..)) = next {
            let given = self.given.get_mut(id).expect("it was just there");
            given.gift.recipient = Some(user.clone());
            given.gift.accept_within_s = envelope.accept_within_s;
            given.gift.accept_by = Some(now.plus_s(envelope.accept_within_s));
            given.lsn = lsn;
            return Decided(Outcome::Gift(Box::new(given.gift())), true, lsn);
        }
        let has = |wanted: GiftState| left.iter().any(|(_, state, is_due)| !is_due && *state == wanted);
        match () {
            () if has(GiftState::AwaitingPayment) => refuse(Refusal::WrongState(String::new())),
            () if has(GiftState::Expired) || left.iter().any(|(_, _, is_due)| *is_due) => no(Outcome::Expired),
            () if left.is_empty() => no(Outcome::SoldOut),
            () => no(Outcome::Cancelled),
        }
    }

    pub(crate) fn step_gift_envelope(
        &mut self,
        now: Timestamp,
        id: GiftEnvelopeId,
        step: &GiftEnvelopeStep,
        lsn: u64,
    ) -> Decided {
        let Some((envelope, made)) = self.gift_envelopes.get(&id).cloned() else { return refuse(Refusal::NotFound) };
        let (by, allowed, is_payment) = match step {
            GiftEnvelopeStep::Pay { payer } => (payer, &envelope.payer, true),
            GiftEnvelopeStep::Cancel { user } => (user, &envelope.giver, false),
        };
        if by != allowed {
            return refuse(Refusal::Forbidden);
        }
        let (mut changing, mut done, mut last) = (Vec::new(), false, made);
        for given in self.of_envelope(&envelope) {
            let Gift { state, recipient, paid_at, .. } = &given.gift;
            last = last.max(given.lsn);
            if !is_payment && recipient.is_some() {
                continue;
            }
            let is_done = if is_payment { paid_at.is_some() } else { *state == GiftState::Cancelled };
            let is_open = *state == GiftState::AwaitingPayment || !is_payment && *state == GiftState::Offered;
            done |= is_done;
            if !is_done && is_open && !given.is_due(now) {
                changing.push(given.gift.id);
            }
        }
        let told = Outcome::GiftEnvelope(Box::new(envelope.clone()));
        if changing.is_empty() {
            return if done { Decided(told, false, last) } else { refuse(Refusal::WrongState(String::new())) };
        }
        let price = envelope.amount.minor();
        if is_payment && self.balance(by) < price * changing.len() as u64 {
            return refuse(Refusal::InsufficientFunds);
        }
        if is_payment && let Some(refusal) = self.apart(&envelope.giver, by, false) {
            return refuse(refusal);
        }
        for id in changing {
            let given = self.given.get_mut(&id).expect("it was just there");
            let was_paid = given.gift.paid_at.is_some();
            given.lsn = lsn;
            if is_payment {
                given.gift.state = GiftState::Offered;
                given.gift.paid_at = Some(now);
                given.gift.accept_by = Some(now.plus_s(given.gift.accept_within_s));
                self.move_money(by, EntryKind::GiftPaid(id), price, Moment::now(now, lsn));
            } else {
                given.end(GiftState::Cancelled, When::at(now), lsn);
                if was_paid {
                    self.move_money(&envelope.payer, EntryKind::GiftRefund(id), price, Moment::now(now, lsn));
                }
            }
        }
        Decided(told, true, lsn)
    }
}
