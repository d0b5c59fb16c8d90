//! Gift envelopes: units of an item for whoever comes first, one for each.
//!
//! Each unit is a gift from the first moment, paid and held as any other, only for nobody yet. A grab
//! makes one of them somebody's, who accepts or declines it as any gift. So what nobody takes goes back as
//! a gift does that nobody accepts, and no money and no unit is the envelope's own.
//!
//! **Invariant:** a user has at most one gift of an envelope, and a gift is grabbed by one user.

use crate::command::{Reference, Refusal};
use crate::gift::{
    ACCEPT_WITHIN_S, Gift, GiftState, GiftToken, MESSAGE_CHARS_MAX, NewGift, PAY_WITHIN_S, SHIP_WITHIN_S,
};
use crate::types::{Amount, GiftEnvelopeId, GiftId, ItemId, Timestamp, UserId, YEAR_S};
use serde::{Deserialize, Serialize};

/// How many units a gift envelope has at most: all are made and paid for in one record.
pub const UNITS_MAX: u32 = 100;
/// How long it can be grabbed from, if nothing else is said: a day.
pub const EXPIRES_IN_S: u64 = 86_400;

/// The terms of a gift envelope to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewGiftEnvelope {
    /// The owner of the calling key.
    pub owner: String,
    /// Who gives.
    pub giver: UserId,
    /// What is given.
    pub item: ItemId,
    /// How many of it, 1 to 100.
    pub units: u32,
    /// Who pays for all of them; anybody but the giver is asked to.
    pub payer: UserId,
    /// A greeting of up to 200 characters.
    pub message: String,
    /// Whether who grabs has to show a token.
    pub has_token: bool,
    /// How long whoever was asked may take to pay, 1 to 31,536,000 seconds.
    pub pay_within_s: u64,
    /// How long it can be grabbed from, once it is paid, 1 to 31,536,000 seconds.
    pub expires_in_s: u64,
    /// How long who has grabbed may take to accept, 1 to 31,536,000 seconds.
    pub accept_within_s: u64,
    /// How long the merchant may take from the acceptance on, 1 to 31,536,000 seconds.
    pub ship_within_s: u64,
    /// The caller's own number for it.
    pub reference: Option<Reference>,
}

impl NewGiftEnvelope {
    /// Terms as the API has them when nothing else is said: the giver pays, anybody may grab for a
    /// day, and has three days then.
    pub fn new(owner: &str, giver: UserId, item: ItemId, units: u32) -> NewGiftEnvelope {
        NewGiftEnvelope {
            owner: owner.to_owned(),
            payer: giver.clone(),
            giver,
            item,
            units,
            message: String::new(),
            has_token: false,
            pay_within_s: PAY_WITHIN_S,
            expires_in_s: EXPIRES_IN_S,
            accept_within_s: ACCEPT_WITHIN_S,
            ship_within_s: SHIP_WITHIN_S,
            reference: None,
        }
    }

    /// Checks what can be told from the terms alone.
    ///
    /// # Errors
    /// A [`Refusal::Invalid`] that names the field.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        Refusal::unless_long("message", &self.message, 0..=MESSAGE_CHARS_MAX)?;
        if !(1..=UNITS_MAX).contains(&self.units) {
            return Err(Refusal::invalid("units", format!("must be 1 to {UNITS_MAX}")));
        }
        for (field, seconds) in [
            ("pay_within_s", self.pay_within_s),
            ("expires_in_s", self.expires_in_s),
            ("accept_within_s", self.accept_within_s),
            ("ship_within_s", self.ship_within_s),
        ] {
            if !(1..=YEAR_S).contains(&seconds) {
                return Err(Refusal::invalid(field, "must be 1 to 31536000"));
            }
        }
        Ok(())
    }

    /// The terms of each of its gifts: it is for nobody, and can be accepted by nobody, until it is grabbed.
    pub(crate) fn of_each(&self) -> NewGift {
        NewGift {
            recipient: None,
            payer: self.payer.clone(),
            message: self.message.clone(),
            pay_within_s: self.pay_within_s,
            accept_within_s: self.expires_in_s,
            ship_within_s: self.ship_within_s,
            ..NewGift::new(&self.owner, self.giver.clone(), self.giver.clone(), self.item)
        }
    }
}

/// What somebody does about a gift envelope, besides grabbing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GiftEnvelopeStep {
    /// Whoever was asked pays for all units.
    Pay {
        /// Who pays; only who was asked may.
        payer: UserId,
    },
    /// The giver takes back what nobody has grabbed.
    Cancel {
        /// Who cancels; only the giver may.
        user: UserId,
    },
}

/// A gift envelope as it is kept. Nothing of it changes: what becomes of its units becomes of its gifts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiftEnvelope {
    /// Its id, which begins as its item's.
    pub id: GiftEnvelopeId,
    /// The owner of the key that made it.
    pub owner: String,
    /// Who gives.
    pub giver: UserId,
    /// Who pays or has paid.
    pub payer: UserId,
    /// What is given.
    pub item: ItemId,
    /// Who sells it.
    pub merchant: UserId,
    /// What a unit costs: the price when it was made.
    pub amount: Amount,
    /// What has to be shown to grab, if anything.
    pub token: Option<GiftToken>,
    /// When it was made.
    pub created_at: Timestamp,
    /// How long who has grabbed may take.
    pub accept_within_s: u64,
    /// The caller's own number.
    pub reference: Option<String>,
    /// Its gifts, in the order in which they are grabbed.
    pub gifts: Vec<GiftId>,
}

/// Where a gift envelope stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GiftEnvelopeState {
    /// Somebody else was asked to pay.
    AwaitingPayment,
    /// Units are left to be grabbed.
    Open,
    /// Every unit was grabbed.
    SoldOut,
    /// It was not paid in time, or not all of it grabbed.
    Expired,
    /// Its giver has taken back what was left.
    Cancelled,
}

impl GiftEnvelopeState {
    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            GiftEnvelopeState::AwaitingPayment => "awaiting_payment",
            GiftEnvelopeState::Open => "open",
            GiftEnvelopeState::SoldOut => "sold_out",
            GiftEnvelopeState::Expired => "expired",
            GiftEnvelopeState::Cancelled => "cancelled",
        }
    }

    /// As what an envelope of these gifts stands.
    pub(crate) fn of<'a>(gifts: impl Iterator<Item = &'a Gift>) -> GiftEnvelopeState {
        // Who has grabbed one is its recipient: what nobody has says how the rest ended.
        let left: Vec<GiftState> = gifts.filter(|gift| gift.recipient.is_none()).map(|gift| gift.state).collect();
        let of_states = [
            (GiftState::AwaitingPayment, GiftEnvelopeState::AwaitingPayment),
            (GiftState::Offered, GiftEnvelopeState::Open),
            (GiftState::Expired, GiftEnvelopeState::Expired),
        ];
        let found = of_states.into_iter().find(|(state, _)| left.contains(state));
        found.map_or(if left.is_empty() { GiftEnvelopeState::SoldOut } else { GiftEnvelopeState::Cancelled }, |it| it.1)
    }
}

/// A gift envelope with its gifts as they are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GiftEnvelopeView {
    /// The envelope.
    pub envelope: GiftEnvelope,
    /// Its gifts, in their order.
    pub gifts: Vec<Gift>,
}

impl GiftEnvelopeView {
    /// Where it stands.
    pub fn state(&self) -> GiftEnvelopeState {
        GiftEnvelopeState::of(self.gifts.iter())
    }

    /// How many units nobody has grabbed and somebody still can.
    pub fn remaining(&self) -> u32 {
        self.gifts.iter().filter(|gift| gift.recipient.is_none() && gift.state == GiftState::Offered).count() as u32
    }

    /// How many units were grabbed.
    pub fn grabbed(&self) -> u32 {
        self.gifts.iter().filter(|gift| gift.recipient.is_some()).count() as u32
    }
}
