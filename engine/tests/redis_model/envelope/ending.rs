//! Refunds.

use super::{Envelope, GENERATIONS, UNSOLD, World, add, has};
use crate::mutants::Mutant;
use crate::search::{By, Steps};

impl Envelope {
    /// A refund crosses into the sender's bucket.
    pub(super) fn refund(&self, s: &World, reason: usize, steps: &mut Steps<World>) {
        let (home, sender) = (s.home.now, s.sender.now);
        let waits = has(home.outbox, reason);
        // Its row in the wallet, by envelope and reason.
        let row = if self.is(Mutant::RefundWithoutReason) { UNSOLD } else { reason };
        let credited = has(sender.refunded, row) && !sender.left;
        if waits {
            steps.add(By::Reading, "read outbox", reason, |s| {
                if !self.is(Mutant::CreditBeforeCauseConfirmed) {
                    s.home.confirm();
                }
                s.carried.refunds[usize::from(home.generation)][reason] |= 1 << home.refunds[reason];
            });
        }
        for generation in 0..GENERATIONS {
            let fenced = generation < usize::from(sender.fence) && !self.is(Mutant::RefundWithoutFence);
            for shares in self.sets().filter(|&shares| s.carried.refunds[generation][reason] >> shares & 1 == 1) {
                let again = self.is(Mutant::CreditWithoutMarker) && sender.balance < 20;
                if !fenced && (!credited || again) && sender.balance < 20 {
                    let finds = waits && home.refunds[reason] == shares && !credited;
                    steps.add(By::Carrying.sweeper_if(finds), "credit", reason, |s| {
                        add(&mut s.sender.now.refunded, row);
                        s.sender.now.balance += shares.count_ones() as u8;
                    });
                }
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
}
