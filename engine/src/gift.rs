//! Gifts: something on sale that one user gives to another.
//!
//! Whoever pays is the giver or somebody the giver has asked. The unit is set aside
//! from the first moment; the money is the gift's own from the payment until the
//! merchant ships, and goes back to whoever paid if it comes to nothing.
//!
//! **Invariant (I5):** a gift ends in one way. Where its unit is and where its money
//! is follows from its state alone, so a change of state says what moves.

use crate::address::Address;
use crate::command::{Reference, Refusal};
use crate::mutants::{Mutant, is_planted};
use crate::redaction::GiftRedaction;
use crate::state::envelope;
use crate::types::{Amount, GiftId, ItemId, Timestamp, UserId, YEAR_S, hex};
use serde::{Deserialize, Serialize};

/// The longest reason, note, carrier or tracking number, in characters.
pub const TEXT_CHARS_MAX: usize = 200;
/// The longest message, in characters.
pub const MESSAGE_CHARS_MAX: usize = 200;

/// Where a gift stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum GiftState {
    /// Somebody else was asked to pay.
    AwaitingPayment,
    /// Paid; the recipient may accept or decline.
    Offered,
    /// The merchant is to ship.
    Accepted,
    /// On its way.
    Shipped,
    /// It has arrived.
    Delivered,
    /// The recipient did not want it.
    Declined,
    /// It was not paid, or not accepted, in time.
    Expired,
    /// The giver took it back.
    Cancelled,
    /// The merchant cannot ship, or did not in time.
    Failed,
}

impl GiftState {
    /// All of them, by their numbers.
    pub const ALL: [GiftState; 9] = [
        GiftState::AwaitingPayment,
        GiftState::Offered,
        GiftState::Accepted,
        GiftState::Shipped,
        GiftState::Delivered,
        GiftState::Declined,
        GiftState::Expired,
        GiftState::Cancelled,
        GiftState::Failed,
    ];

    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            GiftState::AwaitingPayment => "awaiting_payment",
            GiftState::Offered => "offered",
            GiftState::Accepted => "accepted",
            GiftState::Shipped => "shipped",
            GiftState::Delivered => "delivered",
            GiftState::Declined => "declined",
            GiftState::Expired => "expired",
            GiftState::Cancelled => "cancelled",
            GiftState::Failed => "failed",
        }
    }

    /// Whether it has come to its end: it has arrived, or has come to nothing. One that is shipped
    /// has not, though no time ends it any more.
    pub const fn has_ended(self) -> bool {
        !matches!(self, GiftState::AwaitingPayment | GiftState::Offered | GiftState::Accepted | GiftState::Shipped)
    }

    /// Whether something becomes of it by itself, sooner or later. Only such a gift has to be in
    /// memory: one that is shipped may never be told to have arrived.
    pub(crate) const fn has_deadline(self) -> bool {
        matches!(self, GiftState::AwaitingPayment | GiftState::Offered | GiftState::Accepted)
    }

    /// Whether its unit is set aside, and not sold.
    pub(crate) const fn holds_unit(self) -> bool {
        matches!(self, GiftState::AwaitingPayment | GiftState::Offered)
    }

    /// Whether its unit is sold.
    pub(crate) fn has_sold(self) -> bool {
        matches!(self, GiftState::Accepted | GiftState::Shipped | GiftState::Delivered)
            || matches!(self, GiftState::Failed) && is_planted(Mutant::KeepUnitOfFailed)
    }

    /// Whether the money is the gift's own.
    pub(crate) const fn is_escrowed(self) -> bool {
        matches!(self, GiftState::Offered | GiftState::Accepted)
    }

    /// Whether the money is the merchant's.
    pub(crate) const fn is_merchants(self) -> bool {
        matches!(self, GiftState::Shipped | GiftState::Delivered)
    }
}

/// The terms of a gift to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewGift {
    /// The owner of the calling key.
    pub owner: String,
    /// Who gives.
    pub giver: UserId,
    /// Who is to get it; `None` is whoever accepts first with the gift's token.
    pub recipient: Option<UserId>,
    /// What is given: one unit of it.
    pub item: ItemId,
    /// Who pays; anybody but the giver is asked to, and pays by [`GiftStep::Pay`].
    pub payer: UserId,
    /// A greeting of up to 200 characters.
    pub message: String,
    /// How long whoever was asked may take to pay, 1 to 31,536,000 seconds.
    pub pay_within_s: u64,
    /// How long the recipient may take from the payment on, 1 to 31,536,000 seconds.
    pub accept_within_s: u64,
    /// How long the merchant may take from the acceptance on, 1 to 31,536,000 seconds.
    pub ship_within_s: u64,
    /// The caller's own number for it.
    pub reference: Option<Reference>,
    /// Anything the caller wants to keep with it, as JSON text of an object.
    pub metadata: String,
    /// Whether the recipient, if one is named, and the giver have to follow each other. It is a rule of
    /// the calling app's at this moment, and no part of what is asked.
    #[serde(skip)]
    pub must_follow: bool,
}

impl NewGift {
    /// Terms as the API has them when nothing else is said: the giver pays, and the
    /// recipient has three days.
    pub fn new(owner: &str, giver: UserId, recipient: UserId, item: ItemId) -> NewGift {
        NewGift {
            owner: owner.to_owned(),
            payer: giver.clone(),
            giver,
            recipient: Some(recipient),
            item,
            message: String::new(),
            pay_within_s: PAY_WITHIN_S,
            accept_within_s: ACCEPT_WITHIN_S,
            ship_within_s: SHIP_WITHIN_S,
            reference: None,
            metadata: "{}".to_owned(),
            must_follow: false,
        }
    }

    /// Checks what can be told from the terms alone.
    ///
    /// # Errors
    /// A [`Refusal::Invalid`] that names the field.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        Refusal::unless_long("message", &self.message, 0..=MESSAGE_CHARS_MAX)?;
        envelope::check_metadata(&self.metadata)?;
        for (field, seconds) in [
            ("pay_within_s", self.pay_within_s),
            ("accept_within_s", self.accept_within_s),
            ("ship_within_s", self.ship_within_s),
        ] {
            if !(1..=YEAR_S).contains(&seconds) {
                return Err(Refusal::invalid(field, "must be 1 to 31536000"));
            }
        }
        Ok(())
    }
}

/// How long somebody who was asked may take to pay, if nothing else is said: a day.
pub const PAY_WITHIN_S: u64 = 86_400;
/// How long a recipient may take, if nothing else is said: three days.
pub const ACCEPT_WITHIN_S: u64 = 3 * 86_400;
/// How long a merchant may take, if nothing else is said: two weeks.
pub const SHIP_WITHIN_S: u64 = 14 * 86_400;

/// What somebody does about a gift.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GiftStep {
    /// Whoever was asked pays.
    Pay {
        /// Who pays; only who was asked may.
        payer: UserId,
    },
    /// The recipient takes it.
    Accept {
        /// Who takes it.
        user: UserId,
        /// The gift's token, if it was made for nobody in particular.
        token: Option<GiftToken>,
    },
    /// The recipient does not want it.
    Decline {
        /// Who declines.
        user: UserId,
        /// Why, in up to 200 characters.
        reason: Option<String>,
    },
    /// The giver takes it back before it is accepted.
    Cancel {
        /// Who cancels; only the giver may.
        user: UserId,
    },
    /// The merchant has sent it.
    Ship {
        /// By whom.
        carrier: String,
        /// Under which number.
        tracking: String,
    },
    /// It has arrived.
    Deliver,
    /// The merchant cannot send it.
    Fail {
        /// Why.
        reason: String,
    },
    /// The recipient says thank you; a later note stands for an earlier one.
    Thank {
        /// Who thanks.
        user: UserId,
        /// What.
        note: String,
    },
    /// The recipient takes it and says where it is to be sent; once it is accepted, the same one
    /// may say so anew until it is shipped.
    AcceptTo {
        /// Who takes it.
        user: UserId,
        /// The gift's token, if it was made for nobody in particular.
        token: Option<GiftToken>,
        /// Where to.
        address: Box<Address>,
    },
    /// The merchant has sent it to this version of its address.
    ShipTo {
        /// By whom.
        carrier: String,
        /// Under which number.
        tracking: String,
        /// Which address the merchant has read.
        address_version: u32,
    },
    /// The address is erased at once.
    EraseAddress,
    /// The recipient takes it, and more is said than by the other two.
    AcceptWith(Box<Acceptance>),
}

/// How a gift is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// Who takes it.
    pub user: UserId,
    /// The gift's token, if it was made for nobody in particular.
    pub token: Option<GiftToken>,
    /// Where to.
    pub address: Option<Address>,
    /// Whether whoever takes a gift that was made for nobody in particular and its giver have to follow each
    /// other. It is a rule of the calling app's at this moment, and no part of what is asked.
    #[serde(skip)]
    pub must_follow: bool,
}

impl GiftStep {
    /// Checks what can be told from the step alone.
    ///
    /// # Errors
    /// A [`Refusal::Invalid`] that names the field.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let text = |field, text: &str| Refusal::unless_long(field, text, 1..=TEXT_CHARS_MAX);
        match self {
            GiftStep::Decline { reason: Some(reason), .. } | GiftStep::Fail { reason } => text("reason", reason),
            GiftStep::Ship { carrier, tracking } | GiftStep::ShipTo { carrier, tracking, .. } => {
                text("carrier", carrier)?;
                text("tracking", tracking)
            }
            GiftStep::Thank { note, .. } => text("note", note),
            GiftStep::AcceptTo { address, .. } => address.check(),
            GiftStep::AcceptWith(how) => how.address.as_ref().map_or(Ok(()), Address::check),
            GiftStep::Pay { .. }
            | GiftStep::EraseAddress
            | GiftStep::Accept { .. }
            | GiftStep::Decline { reason: None, .. }
            | GiftStep::Cancel { .. }
            | GiftStep::Deliver => Ok(()),
        }
    }

    /// Where to, if it says so.
    pub(crate) fn address(&self) -> Option<&Address> {
        match self {
            GiftStep::AcceptTo { address, .. } => Some(address),
            GiftStep::AcceptWith(how) => how.address.as_ref(),
            _ => None,
        }
    }

    /// Who comes to have to do with the giver by it.
    pub(crate) fn comes_to(&self) -> Option<&UserId> {
        match self {
            GiftStep::Pay { payer: user } | GiftStep::Accept { user, .. } | GiftStep::AcceptTo { user, .. } => {
                Some(user)
            }
            GiftStep::AcceptWith(how) => Some(&how.user),
            _ => None,
        }
    }

    /// Whether who accepts this gift and its giver have to follow each other.
    pub(crate) fn must_follow(&self, gift: &Gift) -> bool {
        matches!(self, GiftStep::AcceptWith(how) if how.must_follow) && gift.recipient.is_none()
    }
}

/// What whoever accepts a gift that was made for nobody in particular has to show:
/// 128 random bits, as text 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiftToken(pub [u8; 16]);

impl GiftToken {
    /// Whether it is the other one, in a time that does not tell how much of it is.
    pub(crate) fn is(&self, other: &GiftToken) -> bool {
        self.0.iter().zip(other.0).fold(0, |differ, (one, two)| differ | (one ^ two)) == 0
    }
}

impl std::fmt::Display for GiftToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// Tells nothing: who has it has the gift.
impl std::fmt::Debug for GiftToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GiftToken")
    }
}

impl std::str::FromStr for GiftToken {
    type Err = crate::types::NameError;

    fn from_str(text: &str) -> Result<GiftToken, Self::Err> {
        let malformed = crate::types::NameError::Malformed;
        let is_hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !is_hex {
            return Err(malformed);
        }
        u128::from_str_radix(text, 16).map(|bits| GiftToken(bits.to_be_bytes())).map_err(|_| malformed)
    }
}

/// A gift as it is kept, and as the caller sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gift {
    /// Its id, which begins as its item's.
    pub id: GiftId,
    /// The owner of the key that made it.
    pub owner: String,
    /// Where it stands.
    pub state: GiftState,
    /// Who gives.
    pub giver: UserId,
    /// Who is to get it, or has accepted.
    pub recipient: Option<UserId>,
    /// Who pays or has paid, and gets the money back.
    pub payer: UserId,
    /// What is given.
    pub item: ItemId,
    /// Who sells it.
    pub merchant: UserId,
    /// What it costs: the price when it was made.
    pub amount: Amount,
    /// The greeting.
    pub message: String,
    /// What has to be shown to accept, if it was made for nobody in particular.
    pub token: Option<GiftToken>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it may be paid, if somebody else was asked.
    pub pay_by: Option<Timestamp>,
    /// When it was paid.
    pub paid_at: Option<Timestamp>,
    /// How long the recipient may take.
    pub accept_within_s: u64,
    /// Until when it may be accepted, once it is paid.
    pub accept_by: Option<Timestamp>,
    /// When it was accepted.
    pub accepted_at: Option<Timestamp>,
    /// How long the merchant may take.
    pub ship_within_s: u64,
    /// Until when it is to be shipped, once it is accepted.
    pub ship_by: Option<Timestamp>,
    /// When it was shipped.
    pub shipped_at: Option<Timestamp>,
    /// By whom it was sent.
    pub carrier: Option<String>,
    /// Under which number.
    pub tracking: Option<String>,
    /// When it came to its end.
    pub ended_at: Option<Timestamp>,
    /// Why it was declined or failed.
    pub reason: Option<String>,
    /// What the recipient has said.
    pub note: Option<String>,
    /// The caller's own number.
    pub reference: Option<String>,
    /// What the caller keeps with it, as JSON text.
    pub metadata: String,
    /// What of its texts was taken back.
    pub redacted: Option<GiftRedaction>,
}

impl Gift {
    /// A gift as it is made: nobody has paid yet.
    pub(crate) fn make(
        terms: &NewGift,
        (id, token): (GiftId, GiftToken),
        (merchant, amount): (&UserId, Amount),
        now: Timestamp,
    ) -> Gift {
        Gift {
            id,
            owner: terms.owner.clone(),
            state: GiftState::AwaitingPayment,
            giver: terms.giver.clone(),
            recipient: terms.recipient.clone(),
            payer: terms.payer.clone(),
            item: terms.item,
            merchant: merchant.clone(),
            amount,
            message: terms.message.clone(),
            token: terms.recipient.is_none().then_some(token),
            created_at: now,
            pay_by: Some(now.plus_s(terms.pay_within_s)),
            paid_at: None,
            accept_within_s: terms.accept_within_s,
            accept_by: None,
            accepted_at: None,
            ship_within_s: terms.ship_within_s,
            ship_by: None,
            shipped_at: None,
            carrier: None,
            tracking: None,
            ended_at: None,
            reason: None,
            note: None,
            reference: terms.reference.as_ref().map(|reference| reference.text.clone()),
            metadata: terms.metadata.clone(),
            redacted: None,
        }
    }

    /// The same, paid by its giver as it is made.
    pub(crate) fn paid_at_once(self, now: Timestamp) -> Gift {
        Gift { pay_by: None, ..self.paid(now) }
    }

    fn paid(self, now: Timestamp) -> Gift {
        let accept_by = Some(now.plus_s(self.accept_within_s));
        Gift { state: GiftState::Offered, paid_at: Some(now), accept_by, ..self }
    }

    /// The same, accepted, of an item whose units are codes: it needs nobody to ship it.
    pub(crate) fn handed(self, now: Timestamp) -> Gift {
        Gift { state: GiftState::Delivered, ship_by: None, ended_at: Some(now), ..self }
    }

    /// Since when the money is the merchant's, if it is.
    pub(crate) fn sold_at(&self) -> Option<Timestamp> {
        // A gift of a code is not shipped, but delivered as it is accepted.
        self.shipped_at.or(if self.state.is_merchants() { self.ended_at } else { None })
    }

    /// Whether it is of a gift envelope, and nobody has grabbed it: nobody can accept it.
    pub(crate) fn is_of_envelope(&self) -> bool {
        self.recipient.is_none() && self.token.is_none()
    }

    /// The same, of a gift envelope, once this user has grabbed it, who may take so long then.
    pub(crate) fn grabbed(&self, user: &UserId, accept_within_s: u64, now: Timestamp) -> Gift {
        let accept_by = Some(now.plus_s(accept_within_s));
        Gift { recipient: Some(user.clone()), accept_within_s, accept_by, ..self.clone() }
    }

    /// When something becomes of it by itself.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        match self.state {
            GiftState::AwaitingPayment => self.pay_by,
            GiftState::Offered => self.accept_by,
            GiftState::Accepted => self.ship_by,
            _ => None,
        }
    }

    /// What has become of it by itself at `now`, if anything has.
    pub(crate) fn due(&self, now: Timestamp) -> Option<Gift> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        Some(match self.state {
            GiftState::Accepted => self.failed(now, "it was not shipped in time"),
            _ => self.ended(now, GiftState::Expired),
        })
    }

    fn ended(&self, now: Timestamp, state: GiftState) -> Gift {
        Gift { state, ended_at: Some(now), ..self.clone() }
    }

    fn failed(&self, now: Timestamp, reason: &str) -> Gift {
        Gift { reason: Some(reason.to_owned()), ..self.ended(now, GiftState::Failed) }
    }

    /// What a step at `now` makes of it; `None` if it was done before.
    ///
    /// # Errors
    /// A refusal: it is not that user's to do, or the gift stands elsewhere. A
    /// deadline that has passed counts though nobody has looked yet.
    pub(crate) fn step(&self, step: &GiftStep, now: Timestamp) -> Result<Option<Gift>, Refusal> {
        match step {
            GiftStep::Pay { payer } => {
                self.only(payer, Some(&self.payer))?;
                if self.paid_at.is_some() {
                    return Ok(None);
                }
                self.must_be(&[GiftState::AwaitingPayment], now, "paid")?;
                Ok(Some(self.clone().paid(now)))
            }
            GiftStep::AcceptWith(how) => self.step(&GiftStep::Accept { user: how.user.clone(), token: how.token }, now),
            GiftStep::Accept { user, token } | GiftStep::AcceptTo { user, token, .. } => {
                // First come, first served: then it is that user's, who needs to show nothing more.
                let is_shown = matches!((&self.token, token), (Some(own), Some(shown)) if own.is(shown));
                if !is_shown || self.accepted_at.is_some() {
                    self.only(user, self.recipient.as_ref())?;
                }
                if self.accepted_at.is_some() {
                    return Ok(None);
                }
                self.must_be(&[GiftState::Offered], now, "accepted")?;
                Ok(Some(Gift {
                    state: GiftState::Accepted,
                    recipient: Some(user.clone()),
                    accepted_at: Some(now),
                    ship_by: Some(now.plus_s(self.ship_within_s)),
                    ..self.clone()
                }))
            }
            GiftStep::Decline { user, reason } => {
                self.only(user, self.recipient.as_ref())?;
                if self.state == GiftState::Declined {
                    return Ok(None);
                }
                self.must_be(&[GiftState::Offered], now, "declined")?;
                Ok(Some(Gift { reason: reason.clone(), ..self.ended(now, GiftState::Declined) }))
            }
            GiftStep::Cancel { user } => {
                self.only(user, Some(&self.giver))?;
                if self.state == GiftState::Cancelled {
                    return Ok(None);
                }
                self.must_be(&[GiftState::AwaitingPayment, GiftState::Offered], now, "cancelled")?;
                Ok(Some(self.ended(now, GiftState::Cancelled)))
            }
            GiftStep::Ship { carrier, tracking } | GiftStep::ShipTo { carrier, tracking, .. } => {
                let (carrier, tracking) = (Some(carrier.clone()), Some(tracking.clone()));
                if self.shipped_at.is_some() && (&self.carrier, &self.tracking) == (&carrier, &tracking) {
                    return Ok(None);
                }
                self.must_be(&[GiftState::Accepted], now, "shipped")?;
                Ok(Some(Gift { state: GiftState::Shipped, shipped_at: Some(now), carrier, tracking, ..self.clone() }))
            }
            GiftStep::Deliver => {
                if self.state == GiftState::Delivered {
                    return Ok(None);
                }
                self.must_be(&[GiftState::Shipped], now, "delivered")?;
                Ok(Some(self.ended(now, GiftState::Delivered)))
            }
            GiftStep::Fail { reason } => {
                if self.state == GiftState::Failed {
                    return Ok(None);
                }
                self.must_be(&[GiftState::Accepted], now, "given up")?;
                Ok(Some(self.failed(now, reason)))
            }
            // The address is not the gift's own.
            GiftStep::EraseAddress => Ok(None),
            GiftStep::Thank { user, note } => {
                self.only(user, self.recipient.as_ref())?;
                if self.accepted_at.is_none() {
                    return Err(Refusal::WrongState(format!(
                        "the gift is {}; who has accepted it can say thank you",
                        self.state.name()
                    )));
                }
                if self.note.as_ref() == Some(note) {
                    return Ok(None);
                }
                Ok(Some(Gift { note: Some(note.clone()), ..self.clone() }))
            }
        }
    }

    /// Whether another address can be given at `now`.
    ///
    /// # Errors
    /// The gift is not accepted, or is to be shipped no more: its address is what it was.
    pub(crate) fn takes_address(&self, now: Timestamp) -> Result<(), Refusal> {
        self.must_be(&[GiftState::Accepted], now, "given an address")
    }

    fn only(&self, user: &UserId, allowed: Option<&UserId>) -> Result<(), Refusal> {
        if allowed == Some(user) { Ok(()) } else { Err(Refusal::Forbidden) }
    }

    /// Refused unless it stands in one of `states` and its time there is not over.
    fn must_be(&self, states: &[GiftState], now: Timestamp, what: &str) -> Result<(), Refusal> {
        // What is due has happened, whether or not anybody has looked.
        let is_in_time = is_planted(Mutant::AcceptAtDeadline) && self.deadline() == Some(now);
        let due = if is_in_time { None } else { self.due(now) };
        let state = due.map_or(self.state, |due| due.state);
        if states.contains(&state) {
            return Ok(());
        }
        let names: Vec<_> = states.iter().map(|state| state.name()).collect();
        let why = format!("the gift is {} and can be {what} only while it is {}", state.name(), names.join(" or "));
        Err(Refusal::WrongState(why))
    }
}

/// Whose gifts a list is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiftRole {
    /// Those that the user gives.
    Given,
    /// Those that are for the user, or that the user has accepted.
    Received,
}
