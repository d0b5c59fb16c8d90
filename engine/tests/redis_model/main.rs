//! The protocol of Redis mode (docs/REDIS.md), searched at a small size: every
//! order of steps, any actor dead after any step, messages late, repeated or
//! lost, and a failover of any bucket at any time, any number of times.
//!
//! - `search.rs`: the search, and what "a sweeper alone reaches the end" means
//! - `bucket.rs`: a bucket's confirmed and unconfirmed writes
//! - `envelope.rs`, `envelope/`: funding, pools, grants and recalls, the end, the refund, archiving
//! - `settlement.rs`: credits across slots, archiving
//! - `payment.rs`: paying for a hold
//! - `gift.rs`: a gift that is made with its payment, and paid back
//! - `giving_back.rs`: an order that goes back, and its money
//! - `limits.rs`: limits per user over several buckets
//! - `mutants.rs`: rules left out, each of which a search has to find out
//!
//! `MODEL=large cargo test --release -p hongbao-engine --test redis_model -- --nocapture`
//! searches larger sizes.

mod bucket;
mod envelope;
mod gift;
mod giving_back;
mod limits;
mod mutants;
mod payment;
mod search;
mod settlement;

use envelope::{Envelope, Size};
use gift::Giving;
use giving_back::GivingBack;
use limits::Limits;
use mutants::Mutant;
use payment::Payment;
use search::{Found, Model, STUCK, search};
use settlement::Settlement;
use std::time::Instant;

/// An open envelope of three shares, one of them in the reserve.
const OPEN: Size = Size {
    reserve: 0b001,
    pools: [0b010, 0b100],
    homes: &[0, 1],
    transfers: 1,
    creators: 0,
    ends: true,
    claims: false,
    archives: false,
};
/// All shares begin in one pool, whose user wants one; the other pool has two users.
const UNEVEN: Size = Size { reserve: 0, pools: [0b011, 0], homes: &[0, 1, 1], ..OPEN };
/// Two transfers of each pool before its closing; the user's pool begins empty.
const MOVED_TWICE: Size = Size { reserve: 0b01, pools: [0b10, 0], homes: &[1], transfers: 2, ..OPEN };
/// Only the end: one user, no transfers before the closing.
const ENDING: Size = Size { reserve: 0b01, pools: [0b10, 0], homes: &[0], transfers: 0, ..OPEN };
/// A winner who may not claim, and an unsold share: two refunds for two reasons.
const LAPSING: Size = Size { claims: true, ..ENDING };
/// From the key to the opening.
const FUNDED: Size = Size { homes: &[], transfers: 0, creators: 3, ends: false, ..OPEN };
/// From the key to the refund.
const WHOLE: Size = Size { transfers: 0, creators: 2, ..OPEN };
/// From the key into the archive.
const ARCHIVED: Size = Size { creators: 1, archives: true, ..ENDING };
/// From the end into the archive, with two refunds and a winner who may claim.
const ARCHIVED_AT_LAST: Size = Size { archives: true, ..LAPSING };
/// The same after a grant that somebody still carries.
const ARCHIVED_AFTER_A_GRANT: Size = Size { transfers: 1, pools: [0, 0], archives: true, ..ENDING };

/// No search is let grow beyond this unasked: a debug build does some 200,000 steps a second.
const STATES_MAX: usize = 3_000_000;

fn run(model: &impl Model, name: &str) -> Found {
    let begun = Instant::now();
    let found = search(model, if is_large() { 40_000_000 } else { STATES_MAX });
    let Found { states, steps, depth, .. } = found;
    println!("{name:<36} {states:>8} states {steps:>9} steps {depth:>3} deep {:>6} ms", begun.elapsed().as_millis());
    found
}

fn is_large() -> bool {
    std::env::var("MODEL").is_ok_and(|size| size == "large")
}

fn check(name: &str, model: &impl Model) {
    if let Some((invariant, trace)) = run(model, name).broken {
        panic!("{name}: it does not hold that {invariant}:\n  {trace}");
    }
}

fn check_envelope(name: &str, size: Size) {
    check(name, &Envelope { size, mutant: None });
}

#[test]
fn pools() {
    check_envelope("pools", OPEN);
}

#[test]
fn uneven_pools() {
    check_envelope("uneven pools", UNEVEN);
}

#[test]
fn pools_moved_twice() {
    check_envelope("pools, two transfers", MOVED_TWICE);
}

#[test]
fn lapsing() {
    check_envelope("lapsing", LAPSING);
}

#[test]
fn funding() {
    check_envelope("funding", FUNDED);
}

#[test]
fn whole_life() {
    check_envelope("key to refund", WHOLE);
}

#[test]
fn archived() {
    check_envelope("key to archive", ARCHIVED);
}

#[test]
fn archived_at_last() {
    check_envelope("lapsing to archive", ARCHIVED_AT_LAST);
}

#[test]
fn archived_after_a_grant() {
    check_envelope("grant to archive", ARCHIVED_AFTER_A_GRANT);
}

#[test]
fn crossing_slots() {
    check("crossing slots", &Settlement { shares: 3, generations: 1, mutant: None });
}

#[test]
fn paying_for_a_hold() {
    check("paying for a hold", &Payment { orders: 3, mutant: None });
}

#[test]
fn giving() {
    check("giving", &Giving { mutant: None });
}

#[test]
fn giving_back() {
    check("giving back", &GivingBack { mutant: None });
}

#[test]
fn limits_over_buckets() {
    check("limits", &Limits { attempts: 3, mutant: None });
}

#[test]
fn larger_sizes() {
    if !is_large() {
        return;
    }
    let claimed = Size { claims: true, ..WHOLE };
    check_envelope("pools, three users", Size { homes: &[0, 1, 1], ..OPEN });
    check_envelope("pools, two transfers", Size { transfers: 2, ..OPEN });
    check_envelope("lapsing, two winners", Size { pools: [0b01, 0b10], reserve: 0, homes: &[0, 1], ..LAPSING });
    check_envelope("key to refund, one transfer", Size { transfers: 1, ..WHOLE });
    check_envelope("key to refund, lapsing", Size { reserve: 0b01, pools: [0b10, 0], homes: &[0], ..claimed });
    check("crossing slots, two generations", &Settlement { shares: 3, generations: 2, mutant: None });
    check("limits, four attempts", &Limits { attempts: 4, mutant: None });
}

enum Where {
    In(Size),
    Settlement,
    Payment,
    Giving,
    GivingBack,
    Limits,
}

/// A protocol with one rule less, where to look, and the invariant that tells.
#[test]
fn mutants_are_caught() {
    use Where::{Giving as G, GivingBack as B, In, Limits as L, Payment as P, Settlement as S};
    use envelope::{
        ALIKE, BALANCE, CREATED, ENDED, NOT_LOST, NOT_TWICE, NOTHING_FROM_NOTHING, ONE_KEY, ONE_SHARE, REFUND_LOST,
        REFUSED, SOLD_OUT, WON,
    };
    use settlement::{CLAIMED, NO_CAUSE, ONCE};
    #[rustfmt::skip]
    let table = [
        (Mutant::DebitBeforeKeyConfirmed, In(FUNDED), ONE_KEY),
        (Mutant::FillBeforeDebitConfirmed, In(FUNDED), NOTHING_FROM_NOTHING),
        (Mutant::FillWithoutGuard, In(WHOLE), NOT_TWICE),
        (Mutant::DebitWithoutGuard, In(FUNDED), BALANCE),
        (Mutant::OpenBeforeFillsConfirmed, In(FUNDED), CREATED),
        (Mutant::ForgetFundingBeforeOpenConfirmed, In(FUNDED), STUCK),
        (Mutant::ReplaceWithoutVoid, In(FUNDED), REFUSED),
        (Mutant::ReplaceBeforeVoidConfirmed, In(FUNDED), REFUSED),
        (Mutant::GrantWithoutSequence, In(OPEN), NOT_TWICE),
        (Mutant::GrantBeforeConfirmed, In(OPEN), NOT_TWICE),
        (Mutant::RetryAsNewGrant, In(MOVED_TWICE), NOT_LOST),
        (Mutant::RecallBeforeConfirmed, In(OPEN), NOT_LOST),
        (Mutant::ReportBeforeConfirmed, In(OPEN), NOT_LOST),
        (Mutant::NoteWithoutSequence, In(MOVED_TWICE), NOT_TWICE),
        (Mutant::SoldOutWithOpenRecall, In(UNEVEN), SOLD_OUT),
        (Mutant::SoldOutByAnOldReport, In(OPEN), SOLD_OUT),
        (Mutant::EmptyMeansSoldOut, In(OPEN), SOLD_OUT),
        (Mutant::EndBeforeConfirmed, In(ENDING), ENDED),
        (Mutant::CloseForgetsOpenTransfer, In(OPEN), NOT_LOST),
        (Mutant::ResolveBeforeAllClosed, In(ENDING), ENDED),
        (Mutant::DeadMoverIsNotFollowed, In(OPEN), STUCK),
        (Mutant::AnswerBeforeConfirmed, In(OPEN), WON),
        (Mutant::UsersMove, In(UNEVEN), ONE_SHARE),
        (Mutant::GrabTwice, In(UNEVEN), NOT_LOST),
        (Mutant::ClaimAfterLapse, In(LAPSING), NOT_TWICE),
        (Mutant::CreditBeforeCauseConfirmed, In(ENDING), BALANCE),
        (Mutant::CreditWithoutMarker, In(ENDING), BALANCE),
        (Mutant::DeleteBeforeEffectConfirmed, In(ENDING), REFUND_LOST),
        (Mutant::CreditBeforeCauseConfirmed, S, NO_CAUSE),
        (Mutant::ConfirmOnAnotherConnection, S, NO_CAUSE),
        (Mutant::CreditWithoutMarker, S, ONCE),
        (Mutant::DeleteBeforeEffectConfirmed, S, ONCE),
        (Mutant::RefundWithoutReason, S, ONCE),
        (Mutant::SettlerWithoutFence, S, ONCE),
        (Mutant::GenerationLearnedLater, S, ONCE),
        (Mutant::ArchiveWithoutNewGeneration, S, ONCE),
        (Mutant::ArchiveBeforeGenerationConfirmed, S, ONCE),
        (Mutant::ClaimAnsweredBeforeCreditConfirmed, S, CLAIMED),
        (Mutant::FillWithoutFence, In(ARCHIVED), NOT_TWICE),
        (Mutant::TurnWhileCauseWaits, In(ARCHIVED), NOT_TWICE),
        (Mutant::RefundWithoutFence, In(ARCHIVED), BALANCE),
        (Mutant::TurnWhileRefundWaits, In(ARCHIVED), BALANCE),
        (Mutant::PoolLeavesUnsettled, In(ARCHIVED_AT_LAST), ALIKE),
        (Mutant::PoolLeavesBeforeItsFile, In(ARCHIVED), ALIKE),
        (Mutant::PoolLeavesBeforeTheEnvelopesFile, In(ARCHIVED), ALIKE),
        (Mutant::UserLeavesBeforeTheFile, In(ARCHIVED), ALIKE),
        (Mutant::WinnersLeaveBeforeTheirPool, In(ARCHIVED), ALIKE),
        (Mutant::EnvelopeLeavesBeforeItsPools, In(ARCHIVED), STUCK),
        (Mutant::EnvelopeLeavesBeforePoolsConfirmed, In(ARCHIVED), STUCK),
        (Mutant::EnvelopeLeavesBeforeItsFile, In(ARCHIVED), ALIKE),
        (Mutant::TakeMakesAPool, In(ARCHIVED_AFTER_A_GRANT), NOT_TWICE),
        (Mutant::PayBeforeConfirmed, P, payment::PAID),
        (Mutant::LapseWhilePaying, P, payment::PAID),
        (Mutant::UnpaidWithoutMark, P, payment::PAID),
        (Mutant::UnpaidOfAnotherOrder, P, payment::PAID),
        (Mutant::SoldBeforePaymentConfirmed, P, payment::SOLD),
        (Mutant::PayBeforeConfirmed, G, gift::PAID),
        (Mutant::LapseWhilePaying, G, gift::PAID),
        (Mutant::UnpaidWithoutMark, G, gift::PAID),
        (Mutant::UnpaidFreesItsOperation, G, gift::UNPAID),
        (Mutant::GiveWithoutMark, G, gift::ONE),
        (Mutant::SoldBeforePaymentConfirmed, G, gift::MADE),
        (Mutant::CreditBeforeCauseConfirmed, G, gift::PAID),
        (Mutant::CreditWithoutMarker, G, gift::PAID),
        (Mutant::DeleteBeforeEffectConfirmed, G, gift::PAID),
        (Mutant::PayBeforeConfirmed, B, giving_back::TAKEN),
        (Mutant::LapseWhilePaying, B, giving_back::TAKEN),
        (Mutant::UnpaidWithoutMark, B, giving_back::TAKEN),
        (Mutant::UnpaidOfAnotherOrder, B, giving_back::TAKEN),
        (Mutant::UnpaidFreesItsOperation, B, giving_back::SHORT),
        (Mutant::GiveWithoutMark, B, giving_back::SHORT),
        (Mutant::SoldBeforePaymentConfirmed, B, giving_back::TAKEN),
        (Mutant::RefundWithoutMark, B, giving_back::TAKEN),
        (Mutant::CreditBeforeCauseConfirmed, B, giving_back::BACK),
        (Mutant::CreditWithoutMarker, B, giving_back::BACK),
        (Mutant::DeleteBeforeEffectConfirmed, B, giving_back::BACK),
        (Mutant::GrabBeforeLimitConfirmed, L, limits::OVER),
        (Mutant::ReleaseWithoutBar, L, limits::OVER),
        (Mutant::ReleaseBeforeNoConfirmed, L, limits::OVER),
        (Mutant::ReleaseOfAnotherAttempt, L, limits::OVER),
        (Mutant::BarIsNotAsked, L, limits::OVER),
    ];
    let mut wrong = Vec::new();
    for (mutant, place, invariant) in table {
        let (name, planted) = (format!("{mutant:?}"), Some(mutant));
        let found = match place {
            In(size) => run(&Envelope { size, mutant: planted }, &name),
            S => run(&Settlement { shares: 3, generations: 1, mutant: planted }, &name),
            B => run(&GivingBack { mutant: planted }, &name),
            G => run(&Giving { mutant: planted }, &name),
            P => run(&Payment { orders: 3, mutant: planted }, &name),
            L => run(&Limits { attempts: 3, mutant: planted }, &name),
        };
        match found.broken {
            Some((broken, trace)) if broken == invariant => {
                if is_large() {
                    println!("{broken}:\n  {trace}");
                }
            }
            Some((broken, trace)) => wrong.push(format!("{name}: {broken}\n  {trace}")),
            None => wrong.push(format!("{name}: not caught")),
        }
    }
    assert!(wrong.is_empty(), "not caught as said:\n{}", wrong.join("\n"));
}
