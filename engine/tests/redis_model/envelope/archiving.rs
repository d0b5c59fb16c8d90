//! What leaves Redis at last: a mass envelope pool by pool, then what the sender
//! has of it, then its own row. Files are on the disk for ever.

use super::{Envelope, Funding, GENERATIONS, Lapse, NOBODY, POOLS, PoolState, Set, USERS_MAX, World, add, has};
use crate::mutants::Mutant;
use crate::search::{By, Steps};

impl Envelope {
    /// Who archives, which any sweeper does.
    pub(super) fn archive(&self, s: &World, steps: &mut Steps<World>) {
        let (home, sender) = (s.home.now, s.sender.now);
        if home.left || !home.is_settled(self.size.claims && !self.is(Mutant::PoolLeavesUnsettled)) {
            return;
        }
        let funding_waits = sender.funding.contains(&Funding::Debited) && !self.is(Mutant::TurnWhileCauseWaits);
        let waits = home.outbox != 0 && !self.is(Mutant::TurnWhileRefundWaits);
        if !funding_waits && !waits {
            if usize::from(sender.generation) + 1 < GENERATIONS {
                steps.add(By::Deadline, "outbox turn of the sender", 0, |s| {
                    s.sender.now.generation += 1;
                    s.sender.confirm();
                    s.carried.turned = true;
                });
            }
            if usize::from(home.generation) + 1 < GENERATIONS {
                steps.add(By::Deadline, "outbox turn of the home", 0, |s| {
                    s.home.now.generation += 1;
                    s.home.confirm();
                    s.carried.home_turned = true;
                });
            }
        }
        if !s.carried.turned || !s.carried.home_turned {
            return;
        }
        if !self.is(Mutant::EnvelopeLeavesBeforeItsFile) {
            steps.add(By::Deadline, "file the envelope", 0, |s| {
                s.home.confirm();
                s.carried.filed_envelope = true;
            });
        }
        for pool in 0..POOLS {
            self.archive_pool(s, pool, steps);
        }
        if s.carried.filed_envelope || self.is(Mutant::EnvelopeLeavesBeforeItsFile) {
            steps.add(By::Deadline, "leave of the sender", 0, |s| {
                s.sender.now.left = true;
                s.sender.now.fence = 1;
            });
        }
        if sender.left {
            steps.add(By::Deadline, "read what the sender has left", 0, |s| {
                s.sender.confirm();
                s.carried.sender_left = true;
            });
        }
        let pools_left = s.carried.pools_left.count_ones() as usize;
        if s.carried.sender_left && (pools_left == POOLS || self.is(Mutant::EnvelopeLeavesBeforeItsPools)) {
            steps.add(By::Deadline, "leave envelope", 0, |s| {
                s.home.now.left = true;
                s.home.now.fence = 1;
            });
        }
    }

    fn archive_pool(&self, s: &World, pool: usize, steps: &mut Steps<World>) {
        let rows = s.pools[pool].now;
        let winners: Set = (0..USERS_MAX).filter(|&user| rows.winners[user] != NOBODY).map(|user| 1 << user).sum();
        if rows.state == PoolState::Archived {
            steps.add(By::Deadline, "read that a pool has left", pool, |s| {
                s.pools[pool].confirm();
                add(&mut s.carried.pools_left, pool);
            });
            return;
        }
        if !matches!(rows.state, PoolState::Ended | PoolState::SoldOut) {
            return;
        }
        for user in (0..USERS_MAX).filter(|&user| has(winners, user)) {
            steps.add(By::Deadline, "file winners", pool, |s| {
                s.pools[pool].confirm();
                add(&mut s.carried.filed[pool], user);
            });
            if has(s.carried.filed[pool], user) || self.is(Mutant::UserLeavesBeforeTheFile) {
                steps.add(By::Deadline, "leave", user, |s| add(&mut s.pools[pool].now.left, user));
            }
        }
        let filed = s.carried.filed[pool] & winners == winners && rows.left & winners == winners
            || self.is(Mutant::PoolLeavesBeforeItsFile);
        let envelope_filed = s.carried.filed_envelope
            || self.is(Mutant::PoolLeavesBeforeTheEnvelopesFile)
            || self.is(Mutant::EnvelopeLeavesBeforeItsFile);
        if filed && envelope_filed {
            steps.add(By::Deadline, "leave pool", pool, |s| {
                s.pools[pool].now.state = PoolState::Archived;
                s.pools[pool].now.fence = 1;
                if self.is(Mutant::EnvelopeLeavesBeforePoolsConfirmed) {
                    add(&mut s.carried.pools_left, pool);
                }
            });
        }
    }

    /// Whoever asks while it leaves and afterwards: Redis first, then the files.
    pub(super) fn ask_the_archive(&self, s: &World, steps: &mut Steps<World>) {
        let (home, files) = (s.home.now, s.carried);
        if home.left && !files.filed_envelope {
            steps.add(By::Others, "answer that there is no envelope", 0, |s| s.told.otherwise = true);
        }
        for (user, &pool) in self.size.homes.iter().enumerate() {
            let rows = s.pools[pool].now;
            if rows.winners[user] == NOBODY {
                continue;
            }
            let is_filed = has(files.filed[pool], user);
            if has(rows.left, user) && !is_filed {
                steps.add(By::Others, "answer a list without the share", user, |s| s.told.otherwise = true);
            }
            let is_gone = rows.state == PoolState::Archived;
            // The winner's row goes on its own, and the pool says what it has.
            if self.is(Mutant::WinnersLeaveBeforeTheirPool) && has(rows.left, user) && !is_gone {
                steps.add(By::Others, "answer sold out or expired", user, |s| s.told.otherwise = true);
            }
            if !is_gone {
                continue;
            }
            let won = rows.winners[user];
            if files.filed_envelope && is_filed {
                steps.add(By::Others, "answer won, out of the archive", user, |s| s.told.won[user] = won);
            } else {
                steps.add(By::Others, "answer sold out or expired", user, |s| s.told.otherwise = true);
            }
            // The file says what it was when it was written.
            let may_claim = self.size.claims && home.lapse == Lapse::Before && !has(rows.claimed, user);
            if may_claim && is_filed {
                steps.add(By::Others, "answer lapsed", user, |s| s.told.otherwise = true);
            }
        }
    }
}
