//! Payouts: money that goes to people outside, for apps with a payment system of
//! their own.
//!
//! A claim of an envelope that pays outside, and a refund of one that was funded
//! from outside, makes a payout instead of a wallet's credit. The app pays it and
//! tells what came of it.
//!
//! **Invariant (I5):** a payout is made once, by what it is made for, and `paid`
//! is final. Its money is `payable` from then until it is paid.

use crate::types::{Amount, EnvelopeId, PayoutId, Timestamp, UserId};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// Results told in one call.
pub const RESULTS_MAX: usize = 1000;
/// The longest reference, in characters.
pub const REFERENCE_CHARS_MAX: usize = 128;
/// The longest reason, in characters.
pub const REASON_CHARS_MAX: usize = 200;

/// Where an envelope's money comes from and goes to, if not from and into wallets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    /// Under which reference of the owner's the money came from outside for this
    /// envelope; what goes back is then paid out under it.
    pub funding: Option<String>,
    /// Where claims go.
    pub payout: PayoutTo,
}

impl Outside {
    /// Whether wallets have no part in it, on either side.
    pub(crate) fn is_any(&self) -> bool {
        *self != Outside::default()
    }
}

/// Where a claim's money goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayoutTo {
    /// Into the winner's wallet.
    #[default]
    Wallet,
    /// To the winner outside, by a payout.
    External,
}

impl PayoutTo {
    /// What it adds to an envelope's id: see [`EnvelopeId`].
    pub(crate) const fn flag(self) -> u8 {
        match self {
            PayoutTo::Wallet => 0,
            PayoutTo::External => EnvelopeId::OUTSIDE,
        }
    }
}

/// What a payout is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayoutKind {
    /// A share that was claimed, to its winner.
    Win,
    /// What nobody took, to the sender.
    Refund,
}

/// Where a payout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum PayoutState {
    /// To be paid.
    Due,
    /// Handed to whoever pays.
    Sent,
    /// Paid, for ever.
    Paid,
    /// It could not be paid; it may be made due again.
    Failed,
}

impl PayoutState {
    /// All of them, by their numbers.
    pub const ALL: [PayoutState; 4] = [PayoutState::Due, PayoutState::Sent, PayoutState::Paid, PayoutState::Failed];

    /// Its name in the API, and in Redis.
    pub const fn name(self) -> &'static str {
        match self {
            PayoutState::Due => "due",
            PayoutState::Sent => "sent",
            PayoutState::Paid => "paid",
            PayoutState::Failed => "failed",
        }
    }

    /// Its letter in Redis.
    #[cfg(feature = "redis")]
    pub(crate) const fn letter(self) -> u8 {
        self.name().as_bytes()[0]
    }

    /// Whether a payout that stands so can stand as `next` next.
    pub const fn leads_to(self, next: PayoutState) -> bool {
        use PayoutState::{Due, Failed, Paid, Sent};
        matches!((self, next), (Due, Sent | Paid | Failed) | (Sent, Paid | Failed) | (Failed, Due))
    }
}

/// How many payouts stand in each state.
pub type PayoutCounts = [u64; PayoutState::ALL.len()];

/// A payout as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payout {
    /// Its id.
    pub id: PayoutId,
    /// What it is for.
    pub kind: PayoutKind,
    /// Who gets it.
    pub user: UserId,
    /// How much.
    pub amount: Amount,
    /// Out of which envelope.
    pub envelope: EnvelopeId,
    /// Where it stands.
    pub state: PayoutState,
    /// How often it was tried: how often it was no longer due.
    pub attempts: u32,
    /// The last reference told, such as the bank's.
    pub reference: Option<String>,
    /// The last reason told.
    pub reason: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its state last changed.
    pub changed_at: Timestamp,
}

/// A payout as the caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayoutView {
    /// The payout.
    pub payout: Payout,
    /// The owner of its envelope.
    pub owner: String,
    /// Under which reference its envelope was funded, if it was.
    pub funding_reference: Option<String>,
}

/// What came of a payout, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayoutResult {
    /// Which.
    pub payout: PayoutId,
    /// How it stands now.
    pub state: PayoutState,
    /// A number by which the app or its bank knows it, 1 to 128 characters.
    pub reference: Option<String>,
    /// Why, 1 to 200 characters.
    pub reason: Option<String>,
}

/// What one result is answered, in the order of a call's results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayoutAnswer {
    /// So it stands.
    Stands(PayoutState),
    /// There is no such payout.
    NotFound,
    /// It stands so, and that does not lead to what was told.
    WrongState(PayoutState),
}

#[cfg(feature = "redis")]
impl PayoutAnswer {
    /// One letter: that of the state, a capital where it was the wrong one.
    pub(crate) fn letter(self) -> u8 {
        match self {
            PayoutAnswer::Stands(state) => state.letter(),
            PayoutAnswer::WrongState(state) => state.letter().to_ascii_uppercase(),
            PayoutAnswer::NotFound => b'n',
        }
    }

    /// The answer that a letter stands for.
    pub(crate) fn of_letter(letter: u8) -> Option<PayoutAnswer> {
        let state = PayoutState::ALL.into_iter().find(|state| state.letter() == letter.to_ascii_lowercase());
        match (letter, state) {
            (b'n', _) => Some(PayoutAnswer::NotFound),
            (_, Some(state)) if letter.is_ascii_uppercase() => Some(PayoutAnswer::WrongState(state)),
            (_, state) => state.map(PayoutAnswer::Stands),
        }
    }
}

impl Payout {
    /// One that has just been made.
    pub(crate) fn made(
        id: PayoutId,
        kind: PayoutKind,
        envelope: EnvelopeId,
        user: UserId,
        amount: Amount,
        at: Timestamp,
    ) -> Payout {
        let (reference, reason) = (None, None);
        let state = PayoutState::Due;
        Payout {
            id,
            kind,
            user,
            amount,
            envelope,
            state,
            attempts: 0,
            reference,
            reason,
            created_at: at,
            changed_at: at,
        }
    }

    /// What `result` makes of it at `now`; `None` if it tells what is known already.
    ///
    /// # Errors
    /// What it is answered if it does not lead there.
    pub(crate) fn told(&self, result: &PayoutResult, now: Timestamp) -> Result<Option<Payout>, PayoutAnswer> {
        let is_known = |told: &Option<String>, kept: &Option<String>| told.is_none() || told == kept;
        if self.state == result.state
            && is_known(&result.reference, &self.reference)
            && is_known(&result.reason, &self.reason)
        {
            return Ok(None);
        }
        if !self.state.leads_to(result.state) {
            return Err(PayoutAnswer::WrongState(self.state));
        }
        let mut after = Payout { state: result.state, changed_at: now, ..self.clone() };
        // A new attempt: what was told of the last one says nothing of it.
        if self.state == PayoutState::Due {
            after.attempts = after.attempts.saturating_add(1);
            after.reference = None;
            after.reason = None;
        }
        after.reference = result.reference.clone().or(after.reference);
        after.reason = result.reason.clone().or(after.reason);
        Ok(Some(after))
    }
}

/// Which payouts a list is to hold; `None` is no restriction.
#[derive(Clone, Debug, Default)]
pub struct PayoutFilter {
    /// Only those of envelopes that a key of this owner made.
    pub owner: Option<String>,
    /// Only those that stand so.
    pub state: Option<PayoutState>,
    /// Only those of this kind.
    pub kind: Option<PayoutKind>,
    /// Only this user's.
    pub user: Option<UserId>,
    /// Only those out of this envelope.
    pub envelope: Option<EnvelopeId>,
    /// Only those made then or later.
    pub created_from: Option<Timestamp>,
    /// Only those made before then.
    pub created_to: Option<Timestamp>,
}

impl PayoutFilter {
    /// Whether it is wanted, as far as it tells itself.
    pub(crate) fn matches(&self, payout: &Payout) -> bool {
        self.state.is_none_or(|state| state == payout.state)
            && self.kind.is_none_or(|kind| kind == payout.kind)
            && self.user.as_ref().is_none_or(|user| *user == payout.user)
            && self.envelope.is_none_or(|envelope| envelope == payout.envelope)
            && self.created_from.is_none_or(|from| payout.created_at >= from)
            && self.created_to.is_none_or(|to| payout.created_at < to)
    }
}

/// From what the ids of an envelope's payouts are made, so that each follows from
/// what it is for and nobody can guess it. Another secret than that of the draw,
/// which is published.
pub(crate) fn secret_of(deployment: &[u8; 32], envelope: EnvelopeId) -> [u8; 32] {
    digest(deployment, &[b"payouts", envelope.bytes()])
}

/// The id of an envelope's payout of money that goes by `movement`, its kind as a
/// wallet's entry would name it, to `user`. It begins with `place`, which says where
/// it lies.
pub(crate) fn id_of(secret: &[u8; 32], movement: u8, user: &UserId, place: [u8; 2]) -> PayoutId {
    let digest = digest(secret, &[&[movement], user.as_str().as_bytes()]);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[..2].copy_from_slice(&place);
    PayoutId::from_bytes(bytes)
}

/// A share that was claimed; what was unsold; what was not claimed in time.
pub(crate) const CLAIM: u8 = b'c';
pub(crate) const REFUND: u8 = b'r';
pub(crate) const LAPSE: u8 = b'l';

/// What follows from the parts and a secret, and from neither alone.
pub(crate) fn digest(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due() -> Payout {
        let (id, envelope) = (PayoutId::from_bytes([1; 16]), EnvelopeId::from_bytes([2; 16]));
        let (user, amount) = (UserId::new("bob").unwrap(), Amount::new(5).unwrap());
        Payout::made(id, PayoutKind::Win, envelope, user, amount, Timestamp::from_ms(1))
    }

    fn result(state: PayoutState, reference: &str, reason: &str) -> PayoutResult {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        PayoutResult { payout: due().id, state, reference: text(reference), reason: text(reason) }
    }

    #[test]
    fn states_lead_where_they_may_and_nowhere_else() {
        use PayoutState::{Due, Failed, Paid, Sent};
        for (from, to) in
            [(Due, vec![Sent, Paid, Failed]), (Sent, vec![Paid, Failed]), (Paid, vec![]), (Failed, vec![Due])]
        {
            for next in PayoutState::ALL {
                let told = Payout { state: from, ..due() }.told(&result(next, "", ""), Timestamp::from_ms(9));
                let after = match told {
                    Ok(None) => from,
                    Ok(Some(after)) => after.state,
                    Err(answer) => {
                        assert_eq!(answer, PayoutAnswer::WrongState(from));
                        assert!(from != next && !to.contains(&next), "{from:?} {next:?}");
                        continue;
                    }
                };
                assert!(after == next && (from == next || to.contains(&next)), "{from:?} {next:?}");
            }
        }
    }

    #[test]
    fn what_was_told_last_is_kept_with_its_attempt() {
        use PayoutState::{Due, Failed, Paid, Sent};
        let mut payout = due();
        let mut tell = |state, reference: &str, reason: &str| {
            let told = payout.told(&result(state, reference, reason), Timestamp::from_ms(9));
            if let Ok(Some(after)) = &told {
                payout = after.clone();
            }
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            (told.map(|after| after.is_some()), payout.attempts, text(&payout.reference), text(&payout.reason))
        };
        let told =
            |how, attempts, reference: &str, reason: &str| (how, attempts, reference.to_owned(), reason.to_owned());
        assert_eq!(tell(Sent, "b1", ""), told(Ok(true), 1, "b1", ""));
        assert_eq!(tell(Sent, "b1", ""), told(Ok(false), 1, "b1", ""));
        assert_eq!(tell(Sent, "b2", ""), told(Err(PayoutAnswer::WrongState(Sent)), 1, "b1", ""));
        assert_eq!(tell(Failed, "", "closed account"), told(Ok(true), 1, "b1", "closed account"));
        assert_eq!(tell(Due, "", ""), told(Ok(true), 1, "b1", "closed account"));
        assert_eq!(tell(Sent, "", ""), told(Ok(true), 2, "", ""));
        assert_eq!(tell(Paid, "b3", ""), told(Ok(true), 2, "b3", ""));
        assert_eq!(tell(Paid, "", ""), told(Ok(false), 2, "b3", ""));
        for (state, reference) in [(Paid, "b4"), (Failed, ""), (Due, ""), (Sent, "")] {
            assert_eq!(tell(state, reference, ""), told(Err(PayoutAnswer::WrongState(Paid)), 2, "b3", ""));
        }
    }

    #[test]
    fn ids_follow_from_what_they_are_for() {
        let secret = |envelope| secret_of(&[7; 32], EnvelopeId::from_bytes([envelope; 16]));
        let (bob, eve) = (UserId::new("bob").unwrap(), UserId::new("eve").unwrap());
        let id = |envelope, movement, user| id_of(&secret(envelope), movement, user, [3, 4]);
        assert_eq!(id(1, CLAIM, &bob), id(1, CLAIM, &bob));
        assert_eq!(id(1, CLAIM, &bob).bytes()[..2], [3, 4]);
        for other in [id(2, CLAIM, &bob), id(1, REFUND, &bob), id(1, CLAIM, &eve)] {
            assert_ne!(id(1, CLAIM, &bob), other);
        }
    }
}
