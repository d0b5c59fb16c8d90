//! Answers that are kept under idempotency keys and references: as outcomes in
//! an embedded engine, as the words of a script in Redis.

use super::{CopyError, Result};
use crate::command::{Command, EndedAs, EnvelopeState, Outcome, ShareStatus};
use crate::command::{Merchant, Transfer, Verification};
use crate::event::Remembered;
use crate::redis::api_keys::api_key_row;
use crate::redis::backend::{Core, Keep};
use crate::redis::gifts;
use crate::redis::orders;
use crate::redis::reply::Answer;
use crate::sale::SaleTerms;
use crate::types::{Amount, EnvelopeId, Timestamp};

/// How long an answer is kept under an idempotency key.
pub(super) const REMEMBER_S: u64 = 8 * 86_400;

type Words = Vec<Vec<u8>>;

/// What the script that decided it would have answered.
pub(super) fn words_of(memo: &Remembered, at: Timestamp) -> Result<Words> {
    let text = |text: &str| text.as_bytes().to_vec();
    let number = |number: u64| number.to_string().into_bytes();
    let flag = |flag: bool| if flag { b"1".to_vec() } else { Vec::new() };
    Ok(match &memo.answer {
        Outcome::Wallet(view) => vec![text("wallet"), number(view.available.minor()), text(view.user.as_str())],
        Outcome::Envelope(view) => match view.ended_as {
            None => vec![text("created"), view.id.bytes().to_vec(), number(view.created_at.ms())],
            Some(how) => {
                let how = match how {
                    EndedAs::SoldOut => "s",
                    EndedAs::Expired => "e",
                    EndedAs::Cancelled => "c",
                };
                let settled = view.state == EnvelopeState::Settled;
                let taken = if view.secret.is_some() { view.shares } else { 0 };
                let money = [view.claimed_amount, view.claimed_amount, view.refunded_amount];
                let [taken_amount, claimed, refunded] = money.map(|money| number(money.minor()));
                let id = view.id.bytes().to_vec();
                vec![
                    text("envelope"),
                    text(how),
                    flag(settled),
                    number(taken.into()),
                    taken_amount,
                    claimed,
                    refunded,
                    id,
                ]
            }
        },
        Outcome::Won { amount, share, status, grabbed_at, claim_by, replayed } => {
            let claimed_at = if *status == ShareStatus::Claimed { number(at.ms()) } else { Vec::new() };
            let unclaimed = if *status == ShareStatus::Lapsed { "return" } else { "credit" };
            let times = [grabbed_at, claim_by].map(|at| number(at.ms()));
            let [grabbed_at, claim_by] = times;
            let (amount, share) = (number(amount.minor()), number((*share).into()));
            vec![text("won"), amount, share, grabbed_at, claimed_at, claim_by, text(unclaimed), flag(*replayed)]
        }
        Outcome::Claimed { amount, claimed_at, replayed } => {
            vec![text("claimed"), number(amount.minor()), number(claimed_at.ms()), flag(*replayed)]
        }
        Outcome::Merchant(merchant) => {
            let [by, reference, checked] = verification_words(merchant);
            let [status, id, name] = [merchant.status.name(), merchant.id.as_str(), &merchant.name].map(text);
            let SaleTerms { settle_after_s, commission_bps } = merchant.terms;
            let [after, bps] = [settle_after_s, commission_bps.into()].map(|term| number(term.into()));
            vec![text("merchant"), status, id, name, by, reference, checked, after, bps]
        }
        Outcome::Item(view) => {
            let terms = postcard::to_extend(&view.terms, Vec::new()).expect("every item has a postcard form");
            let stock = &view.stock;
            let units = [stock.total, stock.held, stock.sold].map(|units| number(units.into()));
            let [total, held, sold] = units;
            vec![text("item"), view.id.bytes().to_vec(), terms, number(view.created_at.ms()), total, held, sold]
        }
        Outcome::Held { hold, quantity, amount, expires_at, replayed } => {
            let numbers = [u64::from(*quantity), amount.minor(), expires_at.ms()].map(number);
            let [quantity, amount, expires_at] = numbers;
            vec![text("held"), hold.bytes().to_vec(), quantity, amount, expires_at, flag(*replayed)]
        }
        Outcome::Ordered { order, replayed } => vec![text("ordered"), order.bytes().to_vec(), flag(*replayed)],
        Outcome::Released { replayed } => vec![text("released"), flag(*replayed)],
        Outcome::ApiKey(key) => vec![text("api_key"), api_key_row(key)],
        Outcome::Sales { merchant, balance } => {
            let [pending, available] = [balance.pending, balance.available].map(|amount| number(amount.minor()));
            vec![text("sales"), pending, available, text(merchant.as_str())]
        }
        Outcome::Payment(_) => return Err(CopyError::Form(super::to_redis::NO_PAYMENTS.to_owned())),
        Outcome::Order(order) => vec![text("order"), orders::packed(&order.view())],
        Outcome::GiftEnvelope(_) => return Err(CopyError::Form(super::to_redis::NO_GIFT_ENVELOPES.to_owned())),
        Outcome::Relations(_) => return Err(CopyError::Form(super::to_redis::NO_RELATIONS.to_owned())),
        Outcome::Group(_) | Outcome::Joined { .. } => {
            return Err(CopyError::Form(super::to_redis::NO_GROUPS.to_owned()));
        }
        Outcome::Gift(gift) => vec![text("kept_gift"), gifts::kept(gift, &Keep::Once.word())],
        Outcome::Payouts(answers) => vec![text("payouts"), answers.iter().map(|answer| answer.letter()).collect()],
        Outcome::Clock(at) => vec![text("clock"), number(at.ms()), number(0)],
        Outcome::SoldOut
        | Outcome::Expired
        | Outcome::Cancelled
        | Outcome::NotOpen { .. }
        | Outcome::NotWon
        | Outcome::Lapsed
        | Outcome::LimitReached
        | Outcome::Ended
        | Outcome::HoldExpired
        | Outcome::CannotPay
        | Outcome::GroupFull
        | Outcome::LeaderLeft
        | Outcome::Refused(_) => {
            return Err(CopyError::Form(format!("a no is kept under a key: {:?}; run `hongbao audit`", memo.answer)));
        }
    })
}

/// Who checked a merchant's papers, under which reference and when.
pub(super) fn verification_words(merchant: &Merchant) -> [Vec<u8>; 3] {
    let Some(Verification { by, reference, at }) = &merchant.verification else { return Default::default() };
    let reference = reference.as_deref().unwrap_or_default();
    [by.as_bytes().to_vec(), reference.as_bytes().to_vec(), at.ms().to_string().into_bytes()]
}

/// When it was answered, as far as the answer depends on it.
pub(super) fn answered_at(memo: &Remembered, otherwise: Timestamp) -> Timestamp {
    let at = match (&memo.answer, memo.expires_at) {
        (_, Some(until)) => Timestamp::from_ms(until.ms().saturating_sub(1000 * REMEMBER_S)),
        (Outcome::Envelope(view), None) => view.created_at,
        _ => otherwise,
    };
    match &memo.answer {
        Outcome::Won { status: ShareStatus::Lapsed, claim_by, .. } => at.max(*claim_by),
        _ => at,
    }
}

impl Core {
    /// The outcome that a kept answer stands for.
    pub(super) async fn outcome_kept(&self, at: Timestamp, answer: &Answer) -> Result<Outcome> {
        // The words say what the command said.
        let command = match answer.tag() {
            b"wallet" => Command::Deposit(Transfer { user: answer.user(2)?, amount: Amount::ZERO, reference: None }),
            b"envelope" => Command::Cancel { envelope: EnvelopeId::from_bytes(answer.id(7)?) },
            _ => Command::AdvanceClock { by_s: 0 },
        };
        Ok(self.outcome(&command, at, answer).await?)
    }
}
