//! Users, grants, recalls, closing and lapse; when all is sold out.

use super::{
    Envelope, Home, Kind, LAPSED, Lapse, NOBODY, POOLS, PoolState, SEQUENCES, State, Transfer, UNSOLD, World, add, has,
    lowest,
};
use crate::mutants::Mutant;
use crate::search::{By, Steps};

impl Envelope {
    /// Users.
    pub(super) fn grabs(&self, s: &World, steps: &mut Steps<World>) {
        for (user, &home) in self.size.homes.iter().enumerate() {
            for pool in 0..POOLS {
                let rows = s.pools[pool].now;
                let elsewhere = self.is(Mutant::UsersMove) && s.pools[home].now.shares == 0;
                if pool != home && !elsewhere {
                    continue;
                }
                let won = rows.winners[user];
                if rows.state == PoolState::Open && rows.shares != 0 && (won == NOBODY || self.is(Mutant::GrabTwice)) {
                    steps.add(By::Others, "pool grab", user, |s| {
                        let share = lowest(rows.shares);
                        s.pools[pool].now.shares ^= share;
                        s.pools[pool].now.winners[user] = share.trailing_zeros() as u8;
                        if !self.size.claims {
                            add(&mut s.pools[pool].now.claimed, user);
                        }
                    });
                }
                let is_here = rows.state != PoolState::Archived;
                let late = rows.lapsed && !self.is(Mutant::ClaimAfterLapse) || !is_here;
                if won != NOBODY && !has(rows.claimed, user) && !late {
                    steps.add(By::Others, "pool claim", user, |s| add(&mut s.pools[pool].now.claimed, user));
                }
                if has(rows.claimed, user) && self.size.claims && is_here {
                    steps.add(By::Others, "answer claimed", user, |s| {
                        s.pools[pool].confirm();
                        add(&mut s.told.claimed, user);
                    });
                }
                if won != NOBODY && is_here {
                    steps.add(By::Others, "answer won", user, |s| {
                        if !self.is(Mutant::AnswerBeforeConfirmed) {
                            s.pools[pool].confirm();
                        }
                        s.told.won[user] = won;
                    });
                }
                let empty = self.is(Mutant::EmptyMeansSoldOut) && rows.state == PoolState::Open && rows.shares == 0;
                if rows.state == PoolState::SoldOut && won == NOBODY || empty {
                    steps.add(By::Others, "answer sold out", user, |s| s.told.sold_out = true);
                }
            }
        }
    }

    /// What the mover and the closer begin at the reserve.
    pub(super) fn transfers(&self, s: &World, steps: &mut Steps<World>) {
        let home = s.home.now;
        for pool in 0..POOLS {
            let Transfer { kind, sequence, .. } = home.transfers[pool];
            let free = kind == Kind::Noted || self.is(Mutant::RetryAsNewGrant) && kind == Kind::Grant;
            if home.state == State::Open && free && sequence < self.size.transfers {
                for shares in [lowest(home.shares), home.shares] {
                    if shares != 0 {
                        steps.add(By::Others, "reserve grant", pool, |s| {
                            s.home.now.shares ^= shares;
                            s.home.now.transfers[pool] = Transfer { kind: Kind::Grant, sequence: sequence + 1, shares };
                        });
                    }
                }
                steps.add(By::Others, "reserve recall", pool, |s| {
                    s.home.now.transfers[pool] = Transfer { kind: Kind::Recall, sequence: sequence + 1, shares: 0 };
                });
            }
            let free = kind == Kind::Noted || self.is(Mutant::CloseForgetsOpenTransfer) && kind != Kind::Close;
            if home.state == State::Closing && free && !has(home.closed, pool) {
                steps.add(By::Beginning, "reserve close", pool, |s| {
                    s.home.now.transfers[pool] = Transfer { kind: Kind::Close, sequence: sequence + 1, shares: 0 };
                });
            }
        }
        if home.state == State::Open && self.size.ends {
            steps.add(By::Deadline, "envelope due, end", 0, |s| s.home.now.state = State::Closing);
        }
        let all_closed =
            home.closed.count_ones() as usize == POOLS || self.is(Mutant::ResolveBeforeAllClosed) && home.closed != 0;
        if home.state == State::Closing && all_closed {
            steps.add(By::Beginning, "reserve resolve", 0, |s| {
                let home = &mut s.home.now;
                home.state = if home.shares == 0 { State::SoldOut } else { State::Ended };
                home.pay_back(UNSOLD);
            });
        }
        if self.size.claims && home.state >= State::Ended {
            Self::lapse(&home, steps);
        }
    }

    /// What was not claimed in time goes back the way of what was not sold.
    fn lapse(home: &Home, steps: &mut Steps<World>) {
        if home.lapse == Lapse::Before {
            steps.add(By::Deadline, "envelope due, lapse", 0, |s| s.home.now.lapse = Lapse::Lapsing);
        }
        for pool in 0..POOLS {
            let Transfer { kind, sequence, .. } = home.transfers[pool];
            if home.lapse == Lapse::Lapsing && kind == Kind::Noted && !has(home.lapsed, pool) {
                steps.add(By::Beginning, "reserve lapse", pool, |s| {
                    s.home.now.transfers[pool] = Transfer { kind: Kind::Lapse, sequence: sequence + 1, shares: 0 };
                });
            }
        }
        if home.lapse == Lapse::Lapsing && home.lapsed.count_ones() as usize == POOLS {
            steps.add(By::Beginning, "reserve settle", 0, |s| {
                s.home.now.lapse = Lapse::After;
                s.home.now.pay_back(LAPSED);
            });
        }
    }

    /// What is carried between reserve and pools.
    pub(super) fn crossings(&self, s: &World, steps: &mut Steps<World>) {
        for pool in 0..POOLS {
            let transfer = s.home.now.transfers[pool];
            let at = usize::from(transfer.sequence);
            if transfer.kind != Kind::Noted {
                let by = if self.is(Mutant::DeadMoverIsNotFollowed) && transfer.kind == Kind::Grant {
                    By::Others
                } else {
                    By::Reading
                };
                steps.add(by, "read transfer", pool, |s| {
                    let skip = match transfer.kind {
                        Kind::Grant => self.is(Mutant::GrantBeforeConfirmed),
                        _ => self.is(Mutant::RecallBeforeConfirmed),
                    };
                    if !skip {
                        s.home.confirm();
                    }
                    match transfer.kind {
                        Kind::Grant => s.carried.grants[pool][at] |= 1 << transfer.shares,
                        Kind::Recall => add(&mut s.carried.recalls[pool], at),
                        Kind::Close => add(&mut s.carried.closes[pool], at),
                        Kind::Lapse => add(&mut s.carried.lapses[pool], at),
                        Kind::Noted => {}
                    }
                });
            }
            self.arrivals(s, pool, steps);

            let rows = s.pools[pool].now;
            let at = usize::from(rows.sequence);
            if !matches!(rows.state, PoolState::Absent | PoolState::Archived) {
                steps.add(By::Reading, "pool report", pool, |s| {
                    if !self.is(Mutant::ReportBeforeConfirmed) {
                        s.pools[pool].confirm();
                    }
                    s.carried.reports[pool][at] |= 1 << rows.given;
                    if rows.shares == 0 {
                        add(&mut s.carried.empty[pool], at);
                    }
                });
            }
            for sequence in 0..SEQUENCES {
                self.notes(s, pool, sequence, steps);
            }
        }
        let ended = matches!(s.home.now.state, State::Ended | State::SoldOut) && !s.home.now.left;
        if ended {
            steps.add(By::Reading, "read end", 0, |s| {
                if !self.is(Mutant::EndBeforeConfirmed) {
                    s.home.confirm();
                }
                if s.home.now.state == State::SoldOut {
                    s.carried.sold_out = true;
                } else {
                    s.carried.ended = true;
                    s.told.ended = true;
                }
            });
        }
        for pool in 0..POOLS {
            let ways = [
                (s.carried.ended, State::Ended, PoolState::Ended),
                (s.carried.sold_out, State::SoldOut, PoolState::SoldOut),
            ];
            for (carried, cause, state) in ways {
                if carried && matches!(s.pools[pool].now.state, PoolState::Open | PoolState::Closed) {
                    let by = By::Carrying.sweeper_if(s.home.now.state == cause);
                    steps.add(by, "pool end", pool, |s| s.pools[pool].now.state = state);
                }
            }
        }
    }

    /// Transfers that reach a pool, now or again.
    fn arrivals(&self, s: &World, pool: usize, steps: &mut Steps<World>) {
        let rows = s.pools[pool].now;
        let next = usize::from(rows.sequence) + 1;
        let open = s.home.now.transfers[pool];
        let finds = |kind, at, shares| open == Transfer { kind, sequence: at as u8, shares };
        if rows.state == PoolState::Archived && self.is(Mutant::TakeMakesAPool) {
            for shares in (1..SEQUENCES)
                .flat_map(|at| self.sets().filter(move |&shares| s.carried.grants[pool][at] >> shares & 1 == 1))
            {
                steps.add(By::Others, "pool take", pool, |s| s.pools[pool].now.shares |= shares);
            }
        }
        for at in 1..SEQUENCES {
            let in_turn = at == next;
            if in_turn || self.is(Mutant::GrantWithoutSequence) && at < next {
                for shares in self.sets().filter(|&shares| s.carried.grants[pool][at] >> shares & 1 == 1) {
                    let by = By::Carrying.sweeper_if(finds(Kind::Grant, at, shares));
                    steps.add(by, "pool take", pool, |s| {
                        let pool = &mut s.pools[pool].now;
                        pool.shares |= shares;
                        if in_turn {
                            pool.given = 0;
                            pool.sequence += 1;
                        }
                    });
                }
            }
            if in_turn && has(s.carried.recalls[pool], at) {
                // How much is the mover's choice.
                for given in [lowest(rows.shares), rows.shares] {
                    let by = By::Carrying.sweeper_if(finds(Kind::Recall, at, 0));
                    steps.add(by, "pool give", pool, |s| {
                        let pool = &mut s.pools[pool].now;
                        pool.shares ^= given;
                        pool.given = given;
                        pool.sequence += 1;
                    });
                }
            }
            if in_turn && has(s.carried.closes[pool], at) {
                let by = By::Carrying.sweeper_if(finds(Kind::Close, at, 0));
                steps.add(by, "pool close", pool, |s| {
                    let pool = &mut s.pools[pool].now;
                    pool.given = pool.shares;
                    pool.shares = 0;
                    pool.sequence += 1;
                    pool.state = PoolState::Closed;
                });
            }
            if in_turn && has(s.carried.lapses[pool], at) {
                let by = By::Carrying.sweeper_if(finds(Kind::Lapse, at, 0));
                steps.add(by, "pool lapse", pool, |s| {
                    let pool = &mut s.pools[pool].now;
                    pool.given = pool.unclaimed();
                    pool.sequence += 1;
                    pool.lapsed = true;
                });
            }
        }
    }

    /// `reserve note`: a pool's report reaches the reserve, now or again.
    fn notes(&self, s: &World, pool: usize, sequence: usize, steps: &mut Steps<World>) {
        let Transfer { kind, sequence: last, .. } = s.home.now.transfers[pool];
        let in_turn = usize::from(last) == sequence;
        let rows = s.pools[pool].now;
        let finds = usize::from(rows.sequence) == sequence;
        for given in self.sets() {
            if s.carried.reports[pool][sequence] >> given & 1 == 0 {
                continue;
            }
            if in_turn && kind != Kind::Noted {
                let by = By::Carrying.sweeper_if(finds && rows.given == given);
                steps.add(by, "reserve note", pool, |s| {
                    let home = &mut s.home.now;
                    home.shares |= given;
                    home.transfers[pool] = Transfer { kind: Kind::Noted, sequence: last, shares: 0 };
                    match kind {
                        Kind::Close => add(&mut home.closed, pool),
                        Kind::Lapse => add(&mut home.lapsed, pool),
                        Kind::Grant | Kind::Recall | Kind::Noted => {}
                    }
                    self.declare(home);
                });
            } else if self.is(Mutant::NoteWithoutSequence) && sequence < usize::from(last) {
                steps.add(By::Others, "reserve note", pool, |s| s.home.now.shares |= given);
            }
        }
        let stale = self.is(Mutant::SoldOutByAnOldReport) && sequence < usize::from(last);
        // Before the recall itself is noted nothing is known of it.
        let noted = kind == Kind::Noted || self.is(Mutant::SoldOutWithOpenRecall);
        if (in_turn && noted || stale) && has(s.carried.empty[pool], sequence) && s.home.now.state == State::Open {
            let by = By::Carrying.sweeper_if(finds && rows.shares == 0);
            steps.add(by, "reserve note", pool, |s| {
                s.home.now.empty[pool] = last + 1;
                self.declare(&mut s.home.now);
            });
        }
    }

    /// Sold out: the reserve is empty, no transfer is open, and every pool has
    /// reported itself empty since its last transfer.
    fn declare(&self, home: &mut Home) {
        let known = |transfer: &Transfer| {
            transfer.kind == Kind::Noted || self.is(Mutant::SoldOutWithOpenRecall) && transfer.kind == Kind::Recall
        };
        let all_empty = (0..POOLS).all(|pool| home.empty[pool] == home.transfers[pool].sequence + 1);
        if home.state == State::Open && home.shares == 0 && home.transfers.iter().all(known) && all_empty {
            home.state = State::SoldOut;
        }
    }
}
