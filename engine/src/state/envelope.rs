//! One envelope: what may happen to it, and what happens.
//!
//! Decisions are columns of guards in the order that the API documents; they
//! read the state and answer with events, and never change anything.
//!
//! **Invariant (I2):** total = claimed + grabbed and not claimed + unsold + refunded.
//!
//! **Invariant (I3):** whoever grabs has the lowest share of the split that nobody
//! has, and its amount: the n-th winner share n, unless it was copied out of pools.
//!
//! **Invariant:** nothing here reads a clock; a deadline has passed when `now >= deadline`.

use super::winners::{Name, Winner, Winners};
use crate::command::{EndedAs, EnvelopeState, EnvelopeView, NewEnvelope, Outcome, Refusal, ShareStatus, Unclaimed};
use crate::event::{Claimed, EnvelopeCreated, EnvelopeEnded, EnvelopeOutside, EnvelopeSettled, Grabbed, PayoutMade};
use crate::mutants::{Mutant, is_planted};
use crate::payout::{self, PayoutKind, PayoutTo};
use crate::split::{self, Shares};
use crate::types::{Amount, EnvelopeId, Lsn, Timestamp, UserId, YEAR_S};

const MESSAGE_CHARS_MAX: usize = 200;
/// A record holds the metadata up to three times, beside ten thousand amounts or the end of as
/// many holds as it takes.
const METADATA_BYTES_MAX: usize = 8192;
const CLIENT_SEED_CHARS_MAX: usize = 128;

/// An envelope that is not settled, or was not long ago. What a grab reads and
/// writes stands first, in three cache lines that follow each other.
#[repr(C, align(64))]
pub(crate) struct Envelope {
    pub(crate) winners: Winners,
    pub(crate) split: Shares,
    id: EnvelopeId,
    pub(crate) opens_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    /// The money of the shares taken.
    taken_amount: Amount,
    pub(crate) claim_by: Timestamp,
    /// The last record that changed it.
    pub(crate) last_lsn: Lsn,
    pub(crate) ended: Option<EndedAs>,
    pub(crate) unclaimed: Unclaimed,
    pub(crate) auto_claim: bool,
    /// Whether claims become payouts.
    pub(crate) pays_outside: bool,
    pub(crate) settled: bool,
    claimed_count: u32,
    claimed_amount: Amount,
    /// Every share below that somebody has is claimed.
    credited: u32,
    /// What went back to the sender, at the end and at the lapse.
    pub(crate) refunded: Amount,
    pub(crate) created: Box<EnvelopeCreated>,
    /// When it settled, or was last asked for since.
    pub(crate) touched_at: Timestamp,
    /// The deadline for which the shard's timer is set.
    pub(crate) timer_at: Option<Timestamp>,
}

/// What a grab comes to.
pub(crate) enum GrabDecision {
    /// An answer without an event; `true` where it tells of a win and has to be durable.
    Answer(Outcome, bool),
    /// The next share is the user's.
    Take(Grabbed),
}

/// What has become due for an envelope.
pub(crate) enum Due {
    /// It expires: unsold shares go back.
    Expire(EnvelopeEnded),
    /// Shares not claimed go back to the sender.
    Lapse(Amount),
    /// Shares not claimed are credited to their winners.
    Credit,
}

impl Envelope {
    /// An envelope nobody has grabbed from. Splits it, which takes a second for
    /// ten million shares: never under a lock.
    pub(crate) fn new(created: Box<EnvelopeCreated>) -> Envelope {
        let split = created.split();
        Envelope::with_split(created, split)
    }

    /// An envelope to be created now, at `now`, with this id and secret. Splits it.
    pub(crate) fn prepare(terms: NewEnvelope, id: EnvelopeId, secret: [u8; 32], now: Timestamp) -> Envelope {
        let opens_at = terms.opens_at.unwrap_or(now);
        let expires_at = opens_at.plus_s(terms.expires_in_s);
        let claim_by = expires_at.plus_s(terms.claim_within_s);
        let mut created = EnvelopeCreated {
            id,
            terms,
            created_at: now,
            opens_at,
            expires_at,
            claim_by,
            secret,
            best_share: 0,
            payout_secret: [0; 32],
            redacted: None,
        };
        let split = created.split();
        created.best_share = split.best();
        Envelope::with_split(Box::new(created), split)
    }

    fn with_split(created: Box<EnvelopeCreated>, split: Shares) -> Envelope {
        let terms = &created.terms;
        Envelope {
            winners: Winners::new(terms.shares, created.created_at),
            id: created.id,
            split,
            opens_at: created.opens_at,
            expires_at: created.expires_at,
            claim_by: created.claim_by,
            auto_claim: terms.auto_claim,
            pays_outside: terms.outside.payout == PayoutTo::External,
            unclaimed: terms.unclaimed,
            ended: None,
            settled: false,
            taken_amount: Amount::ZERO,
            claimed_amount: Amount::ZERO,
            claimed_count: 0,
            credited: 0,
            refunded: Amount::ZERO,
            created,
            last_lsn: Lsn(0),
            touched_at: Timestamp::from_ms(0),
            timer_at: None,
        }
    }

    pub(crate) fn id(&self) -> EnvelopeId {
        self.id
    }

    fn total(&self) -> Amount {
        self.created.terms.total
    }

    /// Money still owed to winners and still to be grabbed.
    pub(crate) fn escrow(&self) -> Amount {
        self.total() - self.claimed_amount - self.refunded
    }

    fn unclaimed_amount(&self) -> Amount {
        self.taken_amount - self.claimed_amount
    }

    /// Decides a grab. The guards stand in the documented order.
    #[inline]
    pub(crate) fn grab(&self, now: Timestamp, name: &Name<'_>, user: &UserId) -> GrabDecision {
        use GrabDecision::{Answer, Take};
        if let Some(share) = self.winners.find(name).filter(|_| !is_planted(Mutant::SkipDuplicateCheck)) {
            return Answer(self.won(now, share, true), true);
        }
        if self.ended == Some(EndedAs::Cancelled) {
            return Answer(Outcome::Cancelled, false);
        }
        if now < self.opens_at {
            return Answer(Outcome::NotOpen { opens_at: self.opens_at }, false);
        }
        if self.winners.len() == self.split.len() {
            return Answer(Outcome::SoldOut, false);
        }
        let in_time = now < self.expires_at || is_planted(Mutant::GrabAtDeadline) && now == self.expires_at;
        if self.ended.is_some() || !in_time {
            return Answer(Outcome::Expired, false);
        }
        let share = self.winners.next();
        let (amount, is_last) = (self.split.get(share), self.winners.len() + 1 == self.split.len());
        Take(Grabbed { envelope: self.id(), share, amount, user: user.clone(), is_last })
    }

    /// The answer to the winner of a share.
    pub(crate) fn won(&self, now: Timestamp, share: u32, replayed: bool) -> Outcome {
        let winner = self.winners.get(share);
        Outcome::Won {
            amount: self.split.get(share),
            share,
            status: self.status(now, &winner),
            grabbed_at: winner.grabbed_at,
            claim_by: self.claim_by,
            replayed,
        }
    }

    fn status(&self, now: Timestamp, winner: &Winner) -> ShareStatus {
        share_status(now, winner.claimed_at.is_some(), self.claim_by, self.unclaimed)
    }

    /// Decides a claim: the event, or the answer without one.
    pub(crate) fn claim(&self, now: Timestamp, name: &Name<'_>, user: &UserId) -> Result<Claimed, Outcome> {
        let Some(share) = self.winners.find(name) else {
            return Err(Outcome::NotWon);
        };
        let winner = self.winners.get(share);
        let amount = self.split.get(share);
        if let Some(claimed_at) = winner.claimed_at {
            return Err(Outcome::Claimed { amount, claimed_at, replayed: true });
        }
        if self.status(now, &winner) == ShareStatus::Lapsed {
            return Err(Outcome::Lapsed);
        }
        Ok(Claimed { envelope: self.id(), share, amount, user: user.clone(), grabbed_at: winner.grabbed_at })
    }

    /// The payout of a share that is claimed.
    pub(crate) fn win_payout(&self, claimed: &Claimed) -> PayoutMade {
        self.payout(PayoutKind::Win, payout::CLAIM, &claimed.user, claimed.amount)
    }

    /// The payout of what goes back to the sender: `movement` says at which end.
    pub(crate) fn refund_payout(&self, movement: u8, amount: Amount) -> PayoutMade {
        self.payout(PayoutKind::Refund, movement, &self.created.terms.sender, amount)
    }

    /// It lies in the envelope's own shard, so nothing more has to be locked.
    fn payout(&self, kind: PayoutKind, movement: u8, user: &UserId, amount: Amount) -> PayoutMade {
        let [first, second, ..] = *self.id.bytes();
        let payout = payout::id_of(&self.created.payout_secret, movement, user, [first, second]);
        PayoutMade { payout, kind, envelope: self.id, amount, user: user.clone() }
    }

    /// Whether what goes back goes outside.
    pub(crate) fn is_funded(&self) -> bool {
        self.created.terms.outside.funding.is_some()
    }

    /// Decides a cancellation: the event, or the answer without one.
    pub(crate) fn cancel(&self, now: Timestamp) -> Result<EnvelopeEnded, Outcome> {
        match self.ended {
            Some(EndedAs::Cancelled) => Err(Outcome::Envelope(Box::new(self.view(now)))),
            None if now < self.expires_at => Ok(EnvelopeEnded {
                envelope: self.id(),
                how: EndedAs::Cancelled,
                refund: self.total() - self.taken_amount,
            }),
            _ => Err(Outcome::Refused(Refusal::too_late_to_cancel())),
        }
    }

    /// What is due now, the first of it.
    pub(crate) fn due(&self, now: Timestamp) -> Option<Due> {
        if self.settled {
            return None;
        }
        if self.ended.is_none() {
            let refund = self.total() - self.taken_amount;
            return (now >= self.expires_at)
                .then(|| Due::Expire(EnvelopeEnded { envelope: self.id(), how: EndedAs::Expired, refund }));
        }
        (now >= self.claim_by).then(|| match self.unclaimed {
            Unclaimed::Return => Due::Lapse(self.unclaimed_amount()),
            Unclaimed::Credit => Due::Credit,
        })
    }

    /// Somebody asked about it: one that is settled stays in memory a while longer.
    #[inline]
    pub(crate) fn touch(&mut self, now: Timestamp) {
        if self.settled {
            self.touched_at = now;
        }
    }

    /// When something will be due, if ever.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        match (self.settled, self.ended) {
            (true, _) => None,
            (false, None) => Some(self.expires_at),
            (false, Some(_)) => Some(self.claim_by),
        }
    }

    /// Up to `most` shares that are grabbed and not claimed.
    pub(crate) fn unclaimed_shares(&self, most: usize) -> Vec<u32> {
        self.winners.unclaimed_from(self.credited).take(most).collect()
    }

    /// The event that settles the envelope once `claims` more are made, if that
    /// leaves nobody unclaimed. `ended` is how it ends or has ended by then,
    /// `grabs` how many more are grabbed and `refund` what more goes back.
    pub(crate) fn settled_after(
        &self,
        ended: Option<EndedAs>,
        grabs: &[Amount],
        claims: &[Amount],
        refund: Amount,
        lapsed: bool,
    ) -> Option<EnvelopeSettled> {
        let taken = self.winners.len() + grabs.len() as u32;
        let how = match ended.or(self.ended) {
            Some(how) => how,
            None if taken == self.split.len() => EndedAs::SoldOut,
            None => return None,
        };
        if !lapsed && self.claimed_count + claims.len() as u32 != taken {
            return None;
        }
        Some(EnvelopeSettled {
            envelope: self.id(),
            how,
            taken,
            claimed: self.claimed_amount + claims.iter().copied().sum(),
            refunded: self.refunded + refund,
        })
    }

    /// Says whether the envelope is sold out now, and so its next deadline another.
    #[inline]
    pub(crate) fn apply_grabbed(&mut self, event: &Grabbed, name: &Name<'_>, at: Timestamp) -> bool {
        assert!(event.share == self.winners.next(), "shares are taken in the order of the split (I3)");
        assert!(event.amount == self.split.get(event.share), "a share's amount is what the split says (I3)");
        self.winners.push(name, at);
        // Only a share in between that nobody had is one of those.
        self.credited = self.credited.min(event.share);
        let sold_out = self.took(event.amount);
        assert!(sold_out || !event.is_last, "the last share is the last (I3)");
        sold_out
    }

    /// Says whether that was the last share.
    #[inline]
    fn took(&mut self, amount: Amount) -> bool {
        self.taken_amount += amount;
        let sold_out = self.winners.len() == self.split.len();
        if sold_out {
            assert!(self.taken_amount == self.total(), "all shares together are the total (I2)");
            self.ended = Some(EndedAs::SoldOut);
        }
        sold_out
    }

    pub(crate) fn apply_claimed(&mut self, share: u32, amount: Amount, at: Timestamp) {
        self.winners.claim(share, at);
        self.claimed_amount += amount;
        self.claimed_count += 1;
        if share == self.credited {
            let next = self.winners.unclaimed_from(share).next();
            self.credited = next.unwrap_or_else(|| self.winners.end());
        }
    }

    pub(crate) fn apply_outside(&mut self, event: EnvelopeOutside) {
        event.put(&mut self.created);
        self.pays_outside = self.created.terms.outside.payout == PayoutTo::External;
    }

    pub(crate) fn apply_ended(&mut self, event: &EnvelopeEnded) {
        assert!(self.ended.is_none(), "an envelope ends once (I5)");
        assert!(event.refund == self.total() - self.taken_amount, "what is unsold goes back (I2)");
        self.ended = Some(event.how);
        self.refunded += event.refund;
    }

    pub(crate) fn apply_lapsed(&mut self, amount: Amount) {
        assert!(amount == self.unclaimed_amount(), "what lapses is what nobody claimed (I2)");
        self.refunded += amount;
    }

    pub(crate) fn apply_settled(&mut self, event: &EnvelopeSettled) {
        assert!(!self.settled, "an envelope settles once (I5)");
        assert!(self.escrow().is_zero(), "nothing is left in a settled envelope (I2)");
        assert!(
            self.ended == Some(event.how) && self.winners.len() == event.taken,
            "a settlement's figures are the envelope's"
        );
        self.settled = true;
    }

    /// The envelope as its caller sees it.
    pub(crate) fn view(&self, now: Timestamp) -> EnvelopeView {
        self.figures().view(&self.created, now)
    }

    /// What of it changes.
    pub(crate) fn figures(&self) -> Figures {
        Figures {
            ended: self.ended,
            settled: self.settled,
            taken: self.winners.len(),
            taken_amount: self.taken_amount,
            claimed: self.claimed_amount,
            refunded: self.refunded,
        }
    }

    /// Whether a share can be the next to be restored. Of an envelope that was
    /// copied out of pools, shares in between may be free.
    pub(crate) fn can_restore(&self, share: u32) -> bool {
        let next = self.winners.end();
        share < self.split.len() && (share == next || share > next && self.id.is_mass())
    }

    /// Restores what a winner did before the last start. Shares come in order.
    pub(crate) fn restore_winner(
        &mut self,
        share: u32,
        user: &UserId,
        grabbed_at: Timestamp,
        claimed_at: Option<Timestamp>,
    ) {
        let amount = self.split.get(share);
        if self.credited == self.winners.end() {
            self.credited = share;
        }
        self.winners.restore(share, &Name::of(user), grabbed_at);
        self.took(amount);
        if let Some(claimed_at) = claimed_at.filter(|_| !is_planted(Mutant::ForgetClaims)) {
            self.apply_claimed(share, amount, claimed_at);
        }
    }
}

/// A share's status. It is derived, so that a lapse is one event and not one a share.
pub(crate) fn share_status(now: Timestamp, claimed: bool, claim_by: Timestamp, unclaimed: Unclaimed) -> ShareStatus {
    match (claimed, unclaimed) {
        (true, _) => ShareStatus::Claimed,
        (false, Unclaimed::Return) if now >= claim_by => ShareStatus::Lapsed,
        (false, _) => ShareStatus::Grabbed,
    }
}

/// The figures of an envelope that change.
pub(crate) struct Figures {
    pub(crate) ended: Option<EndedAs>,
    pub(crate) settled: bool,
    pub(crate) taken: u32,
    pub(crate) taken_amount: Amount,
    pub(crate) claimed: Amount,
    pub(crate) refunded: Amount,
}

impl Figures {
    /// Those of an envelope nobody has grabbed from.
    pub(crate) const FRESH: Figures = Figures {
        ended: None,
        settled: false,
        taken: 0,
        taken_amount: Amount::ZERO,
        claimed: Amount::ZERO,
        refunded: Amount::ZERO,
    };

    pub(crate) fn view(&self, created: &EnvelopeCreated, now: Timestamp) -> EnvelopeView {
        let terms = &created.terms;
        let state = match (self.settled, self.ended) {
            (true, _) => EnvelopeState::Settled,
            (false, Some(EndedAs::SoldOut)) => EnvelopeState::SoldOut,
            (false, Some(EndedAs::Expired)) => EnvelopeState::Expired,
            (false, Some(EndedAs::Cancelled)) => EnvelopeState::Cancelled,
            (false, None) if now < created.opens_at => EnvelopeState::Scheduled,
            (false, None) => EnvelopeState::Open,
        };
        let over = self.ended.is_some();
        let mut view = EnvelopeView {
            id: created.id,
            owner: terms.owner.clone(),
            sender: terms.sender.clone(),
            state,
            ended_as: self.ended,
            total: terms.total,
            shares: terms.shares,
            split: terms.split.name().to_owned(),
            message: terms.message.clone(),
            remaining_shares: if over { 0 } else { terms.shares - self.taken },
            remaining_amount: if over { Amount::ZERO } else { terms.total - self.taken_amount },
            claimed_amount: self.claimed,
            refunded_amount: self.refunded,
            created_at: created.created_at,
            opens_at: created.opens_at,
            expires_at: created.expires_at,
            claim_by: created.claim_by,
            commitment: split::commitment(&created.secret),
            secret: (self.taken == terms.shares).then_some(created.secret),
            reference: terms.reference.as_ref().map(|r| r.text.clone()),
            metadata: terms.metadata.clone(),
            outside: terms.outside.clone(),
            redacted_at: None,
        };
        if let Some(redaction) = created.redacted {
            redaction.put_in_told(&mut view);
        }
        view
    }
}

/// Checks that what a caller keeps with something fits a record.
///
/// # Errors
/// A [`Refusal::Invalid`].
pub(crate) fn check_metadata(metadata: &str) -> Result<(), Refusal> {
    if metadata.len() > METADATA_BYTES_MAX {
        return Err(Refusal::invalid("metadata", "must be at most 8192 bytes long"));
    }
    Ok(())
}

/// Checks an envelope's terms, everything but its opening and the sender's money.
///
/// # Errors
/// A [`Refusal::Invalid`] that names the field.
pub(crate) fn check(terms: &NewEnvelope) -> Result<(), Refusal> {
    terms.split.check(terms.total, terms.shares).map_err(|e| Refusal::invalid(e.field(), e.to_string()))?;
    Refusal::unless_long("message", &terms.message, 0..=MESSAGE_CHARS_MAX)?;
    check_metadata(&terms.metadata)?;
    if let Some(funding) = &terms.outside.funding {
        Refusal::unless_long("funding.reference", funding, 1..=payout::REFERENCE_CHARS_MAX)?;
    }
    if let Some(seed) = &terms.client_seed {
        Refusal::unless_long("client_seed", seed, 0..=CLIENT_SEED_CHARS_MAX)?;
    }
    if !(1..=YEAR_S).contains(&terms.expires_in_s) {
        return Err(Refusal::invalid("expires_in_s", "must be 1 to 31536000"));
    }
    if terms.claim_within_s > YEAR_S {
        return Err(Refusal::invalid("claim_within_s", "must be 0 to 31536000"));
    }
    Ok(())
}

/// Checks when an envelope asked for at `now` opens. Apart from [`check`], as
/// the answer changes with time: what was created under a key or reference
/// while it was all right is answered again when it no longer would be.
///
/// # Errors
/// A [`Refusal::Invalid`] that names the field.
pub(crate) fn check_opening(terms: &NewEnvelope, now: Timestamp) -> Result<(), Refusal> {
    match terms.opens_at {
        Some(opens_at) if opens_at < now => {
            Err(Refusal::invalid("opens_at", "must not be in the past; null opens the envelope at once"))
        }
        Some(opens_at) if opens_at > now.plus_s(YEAR_S) => {
            Err(Refusal::invalid("opens_at", "must be at most a year ahead"))
        }
        _ => Ok(()),
    }
}
