//! What the server has acknowledged, kept compactly: millions of wins fit.
//!
//! **Invariant:** a fact once acknowledged is never overwritten by a different
//! one: an answer that disagrees with it becomes a difference. What was asked
//! and not answered is *unknown* until it is asked again.

use crate::gifts::LifeFact;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// (index of the envelope or item, index of the user).
pub(crate) type Pair = (u32, u32);

/// A business answer. Fields are those of every outcome; absent ones are `None`.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer<'a> {
    #[serde(borrow, default)]
    pub(crate) outcome: &'a str,
    pub(crate) amount: Option<u64>,
    pub(crate) share: Option<u32>,
    #[serde(borrow)]
    pub(crate) status: Option<&'a str>,
    pub(crate) replayed: Option<bool>,
    #[serde(borrow)]
    pub(crate) hold: Option<&'a str>,
    #[serde(borrow)]
    pub(crate) order: Option<&'a str>,
}

/// Something asked for that may or may not have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    No,
    Unknown,
    Yes,
}

/// A share of an envelope and its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShareFact {
    /// A grab without an answer.
    Unknown,
    Won {
        share: u32,
        amount: u64,
        claimed: Known,
    },
}

/// Where a hold is, as acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HoldState {
    /// The grab had no answer, so there is no id.
    GrabUnknown,
    Held,
    ClaimUnknown,
    Claimed {
        order: Box<str>,
    },
    ReleaseUnknown,
    Released,
    /// The server said it expired, and it was due.
    Expired,
}

/// A unit of an item and its user.
#[derive(Clone, Debug)]
pub(crate) struct HoldFact {
    pub(crate) id: Box<str>,
    pub(crate) state: HoldState,
    /// When the grab was sent, since the run's start: it cannot expire before
    /// this plus its time to live.
    pub(crate) sent: Duration,
}

/// Differences between what the server said and what must hold, in plain words.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    pub(crate) count: u64,
    /// The first [`Differences::KEPT`] of them.
    pub(crate) words: Vec<String>,
}

impl Differences {
    pub(crate) const KEPT: usize = 50;

    pub(crate) fn add(&mut self, words: String) {
        self.count += 1;
        if self.words.len() < Self::KEPT {
            self.words.push(words);
        }
    }

    pub(crate) fn absorb(&mut self, other: Differences) {
        self.count += other.count;
        let room = Self::KEPT - self.words.len();
        self.words.extend(other.words.into_iter().take(room));
    }
}

/// Everything one worker (or, merged, the whole run) knows.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) shares: HashMap<Pair, ShareFact>,
    pub(crate) holds: HashMap<Pair, HoldFact>,
    /// Pairs of item and user with a request in flight: one at a time, so that
    /// answers come in the order of their questions.
    pub(crate) busy: HashSet<Pair>,
    /// By the number of their lives.
    pub(crate) gifts: HashMap<u32, LifeFact>,
    pub(crate) gatherings: HashMap<u32, LifeFact>,
    pub(crate) differences: Differences,
    pub(crate) hold_ttl: Duration,
}

impl Facts {
    /// A grab was answered `won`. Returns whether this win is new to us.
    pub(crate) fn won(&mut self, pair: Pair, share: u32, amount: u64, name: impl FnOnce() -> String) -> bool {
        let fact = ShareFact::Won { share, amount, claimed: Known::No };
        match self.shares.get_mut(&pair) {
            None => {
                self.shares.insert(pair, fact);
                true
            }
            Some(known @ ShareFact::Unknown) => {
                *known = fact;
                true
            }
            Some(ShareFact::Won { share: s, amount: a, .. }) if (*s, *a) == (share, amount) => false,
            Some(ShareFact::Won { share: s, amount: a, .. }) => {
                let (name, difference) = (name(), changed_win((*s, *a), (share, amount)));
                self.differences.add(format!("{name}: {difference}"));
                false
            }
        }
    }

    /// A grab was refused (sold out, expired, …). A "no" is final for an
    /// acknowledged win only: that one must be repeated for ever.
    pub(crate) fn refused(&mut self, pair: Pair, outcome: &str, name: impl FnOnce() -> String) {
        match self.shares.get(&pair) {
            Some(ShareFact::Won { share, amount, .. }) => {
                let words = forgotten_win(&name(), (*share, *amount), outcome);
                self.differences.add(words);
            }
            // Another grab of the same pair may still be under way: stays unknown.
            Some(ShareFact::Unknown) | None => {}
        }
    }

    /// A grab had no answer.
    pub(crate) fn grab_unknown(&mut self, pair: Pair) {
        self.shares.entry(pair).or_insert(ShareFact::Unknown);
    }

    /// A claim of a won share was answered.
    pub(crate) fn share_claimed(&mut self, pair: Pair, claimed_amount: u64, name: impl FnOnce() -> String) {
        if let Some(ShareFact::Won { amount, claimed, .. }) = self.shares.get_mut(&pair) {
            *claimed = Known::Yes;
            if *amount != claimed_amount {
                let words = format!(
                    "{}: claimed amount differs: expected the {amount} that was won, got {claimed_amount}",
                    name()
                );
                self.differences.add(words);
            }
        }
    }

    /// A claim had no answer.
    pub(crate) fn share_claim_unknown(&mut self, pair: Pair) {
        if let Some(ShareFact::Won { claimed: claimed @ Known::No, .. }) = self.shares.get_mut(&pair) {
            *claimed = Known::Unknown;
        }
    }

    /// A grab of an item was answered `held`. Returns whether the hold is new.
    pub(crate) fn held(
        &mut self,
        pair: Pair,
        id: &str,
        sent: Duration,
        now: Duration,
        name: impl FnOnce() -> String,
    ) -> bool {
        if id.is_empty() {
            self.differences.add(format!("{}: held without an id", name()));
            return false;
        }
        let may_be_over = self.may_be_over(pair, now);
        let mut fact = HoldFact { id: id.into(), state: HoldState::Held, sent };
        let Some(known) = self.holds.get_mut(&pair) else {
            self.holds.insert(pair, fact);
            return true;
        };
        if *known.id == *id {
            // What was asked of a live hold and lost has not happened, or not yet.
            if !matches!(known.state, HoldState::Held | HoldState::ClaimUnknown | HoldState::ReleaseUnknown) {
                let words = format!("{}: hold {id} was {:?} and is answered as held again", name(), known.state);
                self.differences.add(words);
            }
            return false;
        }
        match known.state {
            // It may be the hold of the grab that had no answer.
            HoldState::GrabUnknown => fact.sent = known.sent,
            HoldState::Released | HoldState::ReleaseUnknown | HoldState::Expired => {}
            HoldState::Held | HoldState::ClaimUnknown if may_be_over => {}
            _ => {
                let words = format!(
                    "{}: one user got two units of an item with a limit of one: expected hold {} ({:?}), got hold {id}",
                    name(),
                    known.id,
                    known.state
                );
                self.differences.add(words);
                return false;
            }
        }
        *known = fact;
        true
    }

    /// A grab of an item had no answer.
    pub(crate) fn unit_grab_unknown(&mut self, pair: Pair, sent: Duration) {
        let unknown = HoldFact { id: "".into(), state: HoldState::GrabUnknown, sent };
        let known = self.holds.entry(pair).or_insert_with(|| unknown.clone());
        if matches!(known.state, HoldState::Released | HoldState::Expired) {
            *known = unknown;
        }
    }

    /// A claim or release of a hold was answered, or not.
    pub(crate) fn unit_follow_up(&mut self, pair: Pair, state: HoldState) {
        if let Some(known) = self.holds.get_mut(&pair) {
            known.state = state;
        }
    }

    /// A hold's grab, claim or release was answered with another outcome than
    /// hoped for. Nothing but its time may take a live hold away.
    pub(crate) fn unit_refused(&mut self, pair: Pair, outcome: &str, now: Duration, name: impl FnOnce() -> String) {
        let may_be_over = self.may_be_over(pair, now);
        let Some(known) = self.holds.get_mut(&pair) else { return };
        if known.state != HoldState::Held {
            return;
        }
        if may_be_over {
            known.state = HoldState::Expired;
        } else {
            let words =
                format!("{}: an acknowledged hold was forgotten: expected {} to live, got {outcome}", name(), known.id);
            self.differences.add(words);
        }
    }

    /// Whether a hold may have expired by `now` (with a second of tolerance).
    pub(crate) fn may_be_over(&self, pair: Pair, now: Duration) -> bool {
        let known = self.holds.get(&pair);
        known.is_some_and(|hold| now.saturating_sub(hold.sent) + Duration::from_secs(1) >= self.hold_ttl)
    }

    /// Merges another worker's facts; pairs are never shared between workers.
    pub(crate) fn absorb(&mut self, other: Facts) {
        if self.shares.is_empty() {
            self.shares = other.shares;
        } else {
            self.shares.extend(other.shares);
        }
        self.holds.extend(other.holds);
        self.gifts.extend(other.gifts);
        self.gatherings.extend(other.gatherings);
        self.differences.absorb(other.differences);
        self.hold_ttl = other.hold_ttl;
    }
}

/// Plain words for a win that is repeated differently.
pub(crate) fn changed_win(expected: (u32, u64), got: (u32, u64)) -> String {
    format!(
        "the win changed when asked again: expected share {} with amount {}, got share {} with amount {}",
        expected.0, expected.1, got.0, got.1
    )
}

/// Plain words for a win that the server denies.
pub(crate) fn forgotten_win(name: &str, expected: (u32, u64), got: &str) -> String {
    format!(
        "{name}: an acknowledged win was forgotten: expected share {} with amount {}, got {got}",
        expected.0, expected.1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> String {
        "E u".to_owned()
    }

    #[test]
    fn wins_are_kept_and_compared() {
        let mut facts = Facts::default();
        assert!(facts.won((0, 1), 7, 100, name));
        assert!(!facts.won((0, 1), 7, 100, name));
        assert_eq!(facts.differences.count, 0);
        facts.won((0, 1), 7, 101, name);
        facts.won((0, 1), 8, 100, name);
        facts.refused((0, 1), "sold_out", name);
        facts.refused((0, 2), "sold_out", name);
        assert_eq!(facts.differences.count, 3);
        assert!(facts.differences.words[2].contains("forgotten"));
        assert_eq!(facts.shares[&(0, 1)], ShareFact::Won { share: 7, amount: 100, claimed: Known::No });
    }

    #[test]
    fn unknown_grabs_become_facts() {
        let mut facts = Facts::default();
        facts.grab_unknown((0, 1));
        facts.refused((0, 1), "sold_out", name);
        assert_eq!(facts.shares[&(0, 1)], ShareFact::Unknown);
        assert!(facts.won((0, 1), 7, 100, name));
        facts.grab_unknown((0, 1));
        assert!(matches!(facts.shares[&(0, 1)], ShareFact::Won { .. }));
        assert_eq!(facts.differences.count, 0);
    }

    #[test]
    fn holds_follow_their_life() {
        let second = Duration::from_secs(1);
        let mut facts = Facts { hold_ttl: 10 * second, ..Facts::default() };
        assert!(facts.held((0, 1), "h1", second, second, name));
        assert!(!facts.held((0, 1), "h1", 2 * second, 2 * second, name));
        facts.held((0, 1), "h2", 3 * second, 3 * second, name);
        assert_eq!(facts.differences.count, 1, "a second unit while the first lives");
        assert!(facts.held((0, 1), "h3", 12 * second, 12 * second, name), "the first is over");
        facts.unit_grab_unknown((0, 2), second);
        assert!(facts.held((0, 2), "h4", 9 * second, 9 * second, name));
        assert!(facts.may_be_over((0, 2), 10 * second), "it may live since the first grab");
        facts.holds.get_mut(&(0, 1)).unwrap().state = HoldState::Released;
        facts.held((0, 1), "h3", 12 * second, 12 * second, name);
        assert_eq!(facts.differences.count, 2, "released holds do not come back");
    }

    #[test]
    fn differences_are_all_counted_and_the_first_kept() {
        let mut all = Differences::default();
        for n in 0..200 {
            all.add(n.to_string());
        }
        assert_eq!((all.count, all.words.len()), (200, Differences::KEPT));
    }
}
