//! From the key to the opening.

use super::{Envelope, Funding, GENERATIONS, NOBODY, POOLS, PoolState, State, World, add, has};
use crate::mutants::Mutant;
use crate::search::{By, Steps};

impl Envelope {
    /// The key, the debit, the fills, the opening.
    pub(super) fn funding(&self, s: &World, steps: &mut Steps<World>) {
        let total = self.size.total();
        let (key, sender, home) = (s.key.now, s.sender.now, s.home.now);
        let finds_funding = sender.funding.contains(&Funding::Debited);

        if key.operation == NOBODY && s.told.operations < self.size.creators {
            steps.add(By::Others, "memo begin", s.told.operations.into(), World::stand_for_a_new_operation);
        }
        if sender.deposited == 0 {
            steps.add(By::Others, "wallet deposit", 0, |s| {
                s.sender.now.deposited = 2 * total;
                s.sender.now.balance = 2 * total;
            });
        }
        if key.operation != NOBODY {
            steps.add(By::Others, "read memo", key.operation.into(), |s| {
                if !self.is(Mutant::DebitBeforeKeyConfirmed) {
                    s.key.confirm();
                }
                add(&mut s.carried.begun, key.operation.into());
            });
        }
        for id in 0..self.operations() {
            self.operation(s, id, steps);
        }
        for pool in 0..POOLS {
            if !matches!(s.pools[pool].now.state, PoolState::Absent | PoolState::Archived) {
                steps.add(By::Reading, "read fill", pool, |s| {
                    if !self.is(Mutant::OpenBeforeFillsConfirmed) {
                        s.pools[pool].confirm();
                    }
                    add(&mut s.carried.filled, pool);
                });
            }
        }
        if home.state >= State::Filled && !home.left {
            steps.add(By::Reading, "read fill", POOLS, |s| {
                s.home.confirm();
                add(&mut s.carried.filled, POOLS);
            });
        }
        if s.carried.filled.count_ones() as usize == POOLS + 1 && home.state == State::Filled {
            let by = By::Carrying.sweeper_if(finds_funding);
            steps.add(by, "open open", 0, |s| s.home.now.state = State::Open);
        }
        if home.state >= State::Open && !home.left {
            steps.add(By::Reading, "read open", 0, |s| {
                if !self.is(Mutant::ForgetFundingBeforeOpenConfirmed) {
                    s.home.confirm();
                    s.told.created = true;
                }
                s.carried.opened = true;
            });
        }
    }

    /// One operation in the sender's bucket.
    fn operation(&self, s: &World, id: usize, steps: &mut Steps<World>) {
        let (total, sender) = (self.size.total(), s.sender.now);
        let funding = sender.funding[id];
        let stands = usize::from(s.key.now.operation) == id;
        let again = self.is(Mutant::DebitWithoutGuard) && funding.is_paid();
        if has(s.carried.begun, id) {
            if sender.balance >= total && (funding == Funding::Absent || again) {
                steps.add(By::Others, "fund", id, |s| {
                    s.sender.now.balance -= total;
                    s.sender.now.funding[id] = Funding::Debited;
                });
            }
            if funding == Funding::Absent {
                steps.add(By::Others, "operation void", id, |s| {
                    if self.is(Mutant::ReplaceWithoutVoid) {
                        add(&mut s.carried.void, id);
                    } else {
                        s.sender.now.funding[id] = Funding::Void;
                    }
                });
            }
        }
        if funding == Funding::Void {
            steps.add(By::Others, "read void", id, |s| {
                if !self.is(Mutant::ReplaceBeforeVoidConfirmed) {
                    s.sender.confirm();
                }
                add(&mut s.carried.void, id);
            });
        }
        if has(s.carried.void, id) {
            steps.add(By::Others, "answer refused", id, |s| add(&mut s.told.refused, id));
            if stands && s.told.operations < self.size.creators {
                steps.add(By::Others, "memo replace", id, World::stand_for_a_new_operation);
            }
        }
        if funding == Funding::Debited {
            steps.add(By::Reading, "read outbox of the sender", id, |s| {
                if !self.is(Mutant::FillBeforeDebitConfirmed) {
                    s.sender.confirm();
                }
                add(&mut s.carried.funded[usize::from(sender.generation)], id);
            });
            if s.carried.opened {
                let by = By::Carrying.sweeper_if(s.home.now.state >= State::Open);
                steps.add(by, "settled", id, |s| s.sender.now.funding[id] = Funding::Done);
            }
        }
        for generation in 0..GENERATIONS {
            if has(s.carried.funded[generation], id) {
                self.fill(s, id, generation, steps);
            }
        }
    }

    fn fill(&self, s: &World, id: usize, generation: usize, steps: &mut Steps<World>) {
        let by = By::Carrying.sweeper_if(s.sender.now.funding[id] == Funding::Debited);
        let home = s.home.now;
        let fenced = generation < usize::from(home.fence) && !self.is(Mutant::FillWithoutFence);
        if home.state == State::Absent || home.left && !fenced {
            steps.add(by, "open fill", id, |s| {
                s.home.now.state = State::Filled;
                s.home.now.left = false;
                s.home.now.shares = self.size.reserve;
            });
        }
        for pool in 0..POOLS {
            let rows = s.pools[pool].now;
            let fenced = generation < usize::from(rows.fence) && !self.is(Mutant::FillWithoutFence);
            if rows.state == PoolState::Absent || rows.state == PoolState::Archived && !fenced {
                steps.add(by, "pool fill", pool, |s| {
                    s.pools[pool].now.state = PoolState::Open;
                    s.pools[pool].now.shares = self.size.pools[pool];
                });
            } else if self.is(Mutant::FillWithoutGuard) {
                steps.add(By::Others, "pool fill", pool, |s| s.pools[pool].now.shares |= self.size.pools[pool]);
            }
        }
    }
}
