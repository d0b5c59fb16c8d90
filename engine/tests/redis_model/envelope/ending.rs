//! Refunds, and what leaves Redis at last.

use super::{Envelope, Funding, GENERATIONS, POOLS, PoolState, State, UNSOLD, World, add, has};
use crate::mutants::Mutant;
use crate::search::{By, Steps};

impl Envelope {
    /// A refund crosses into the sender's bucket.
    pub(super) fn refund(&self, s: &World, reason: usize, steps: &mut Steps<World>) {
        let (home, sender) = (s.home.now, s.sender.now);
        let waits = has(home.outbox, reason);
        // Its row in the wallet, by envelope and reason.
        let row = if self.is(Mutant::RefundWithoutReason) { UNSOLD } else { reason };
        let credited = has(sender.refunded, row);
        if waits {
            steps.add(By::Reading, "read outbox", reason, |s| {
                if !self.is(Mutant::CreditBeforeCauseConfirmed) {
                    s.home.confirm();
                }
                s.carried.refunds[reason] |= 1 << home.refunds[reason];
            });
        }
        for shares in self.sets().filter(|&shares| s.carried.refunds[reason] >> shares & 1 == 1) {
            if !credited || self.is(Mutant::CreditWithoutMarker) && sender.balance < 20 {
                let finds = waits && home.refunds[reason] == shares && !credited;
                steps.add(By::Carrying.sweeper_if(finds), "credit", reason, |s| {
                    add(&mut s.sender.now.refunded, row);
                    s.sender.now.balance += shares.count_ones() as u8;
                });
            }
        }
        if credited {
            steps.add(By::Reading, "read credit", reason, |s| {
                if !self.is(Mutant::DeleteBeforeEffectConfirmed) {
                    s.sender.confirm();
                }
                add(&mut s.carried.refunded, reason);
            });
        }
        if has(s.carried.refunded, reason) && waits {
            let by = By::Carrying.sweeper_if(credited);
            steps.add(by, "settled", reason, |s| s.home.now.outbox ^= 1 << reason);
        }
    }

    /// Pools that are of no use any more leave Redis.
    pub(super) fn archive(&self, s: &World, steps: &mut Steps<World>) {
        let (home, sender) = (s.home.now, s.sender.now);
        if home.state < State::Ended || home.outbox != 0 {
            return;
        }
        let waits = sender.funding.contains(&Funding::Debited) && !self.is(Mutant::TurnWhileCauseWaits);
        if !waits && usize::from(sender.generation) + 1 < GENERATIONS {
            steps.add(By::Others, "outbox turn, confirmed", 0, |s| {
                s.sender.now.generation += 1;
                s.sender.confirm();
                s.carried.turned = true;
            });
        }
        for pool in 0..POOLS {
            let over = matches!(s.pools[pool].now.state, PoolState::Ended | PoolState::SoldOut);
            if over && s.carried.turned {
                steps.add(By::Others, "archive", pool, |s| {
                    s.pools[pool].now.state = PoolState::Archived;
                    s.pools[pool].now.fence = 1;
                });
            }
        }
    }
}
