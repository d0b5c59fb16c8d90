//! The life of a mass envelope: funding, pools, grants and recalls, the end,
//! and the refund. Names of steps are names of scripts in docs/REDIS.md.
//!
//! An actor between two buckets is only what it carries: something it read and
//! confirmed. What was once carried can arrive at any later time, any number of
//! times, or never. So the model has no actors that live or die: it has any
//! number of them, each of which may die after any step.

use crate::bucket::Bucket;
use crate::mutants::Mutant;
use crate::search::{By, Model, Steps};

pub(crate) const POOLS: usize = 2;
pub(crate) const USERS_MAX: usize = 4;
const OPERATIONS_MAX: usize = 3;
const SEQUENCES: usize = 5;
const GENERATIONS: usize = 2;
const NOBODY: u8 = 9;
/// Why money goes back: it was unsold, it lapsed.
const REASONS: usize = 2;
const UNSOLD: usize = 0;
const LAPSED: usize = 1;

/// A set of shares, or of anything else that is counted from 0.
type Set = u8;

/// How large a search is.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// Shares that the reserve starts with.
    pub(crate) reserve: Set,
    /// Shares that each pool starts with.
    pub(crate) pools: [Set; POOLS],
    /// The pool of each user.
    pub(crate) homes: &'static [usize],
    /// Grants and recalls of a pool before its closing.
    pub(crate) transfers: u8,
    /// Operations that would create the envelope; 0 if it is open from the start.
    pub(crate) creators: u8,
    /// Whether the envelope may be cancelled or expire.
    pub(crate) ends: bool,
    /// Whether winners claim, and what they do not claim lapses; otherwise a
    /// grab is a claim.
    pub(crate) claims: bool,
    /// Whether pools leave Redis at last.
    pub(crate) archives: bool,
}

impl Size {
    fn total(&self) -> u8 {
        (self.reserve | self.pools[0] | self.pools[1]).count_ones() as u8
    }
}

pub(crate) struct Envelope {
    pub(crate) size: Size,
    pub(crate) mutant: Option<Mutant>,
}

/// In the bucket of the idempotency key: the operation that the key stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    operation: u8,
}

/// In the sender's bucket: the wallet, the marks of operations and what they
/// left in the outbox, and the refund's row in the history.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Sender {
    deposited: u8,
    balance: u8,
    /// By operation.
    funding: [Funding; OPERATIONS_MAX],
    /// Rows of refunds in the wallet, by reason.
    refunded: Set,
    /// Of the outbox.
    generation: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
enum Funding {
    Absent,
    /// The outbox says: open the envelope.
    Debited,
    /// It will never be decided.
    Void,
    /// The envelope is known to be open.
    Done,
}

impl Funding {
    fn is_paid(self) -> bool {
        matches!(self, Funding::Debited | Funding::Done)
    }
}

/// In the envelope's own bucket: `env`, `reserve`, `transfers`, `outbox`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Home {
    state: State,
    shares: Set,
    transfers: [Transfer; POOLS],
    /// The sequence number at which a pool last reported that it is empty, plus 1.
    empty: [u8; POOLS],
    closed: Set,
    lapse: Lapse,
    lapsed: Set,
    /// What goes back to the sender, by reason, for ever.
    refunds: [Set; REASONS],
    /// The refunds that are still in the outbox.
    outbox: Set,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
enum Lapse {
    Before,
    Lapsing,
    After,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd)]
#[repr(u8)]
enum State {
    Absent,
    Filled,
    Open,
    Closing,
    Ended,
    SoldOut,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Transfer {
    kind: Kind,
    sequence: u8,
    shares: Set,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
enum Kind {
    /// No transfer is open.
    Noted,
    Grant,
    Recall,
    Close,
    Lapse,
}

/// In the bucket of its users: `pool`, `winners`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Pool {
    state: PoolState,
    sequence: u8,
    shares: Set,
    /// What the transfer of this sequence number gave back.
    given: Set,
    winners: [u8; USERS_MAX],
    /// Users whose wallets, which lie here as well, have the share.
    claimed: Set,
    /// Whether what is not claimed has lapsed.
    lapsed: bool,
    /// The lowest generation of the sender's bucket that may still fill.
    fence: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
enum PoolState {
    Absent,
    Open,
    Closed,
    Ended,
    SoldOut,
    /// Its rows are in the archive: the bucket knows nothing of it.
    Archived,
}

/// What has been read and confirmed, and may be carried at any time from then on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Carried {
    /// Operations.
    begun: Set,
    void: Set,
    /// By generation.
    funded: [Set; GENERATIONS],
    /// The sender's bucket began a generation when the funding had left its outbox.
    turned: bool,
    /// Pools, and the reserve after them.
    filled: Set,
    opened: bool,
    /// By pool and sequence number: sets of sets of shares.
    grants: [[u16; SEQUENCES]; POOLS],
    recalls: [Set; POOLS],
    closes: [Set; POOLS],
    lapses: [Set; POOLS],
    reports: [[u16; SEQUENCES]; POOLS],
    empty: [Set; POOLS],
    ended: bool,
    sold_out: bool,
    /// By reason: sets of sets of shares.
    refunds: [u16; REASONS],
    refunded: Set,
}

/// What users were told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Told {
    won: [u8; USERS_MAX],
    claimed: Set,
    sold_out: bool,
    ended: bool,
    created: bool,
    refused: Set,
    /// How many operations were numbered: no number is used again.
    operations: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    key: Bucket<Key>,
    sender: Bucket<Sender>,
    home: Bucket<Home>,
    pools: [Bucket<Pool>; POOLS],
    carried: Carried,
    told: Told,
}

impl Pool {
    /// Shares that were grabbed and not claimed.
    fn unclaimed(&self) -> Set {
        let grabbed = (0..USERS_MAX).filter(|&user| self.winners[user] != NOBODY && !has(self.claimed, user));
        grabbed.fold(0, |set, user| set | 1 << self.winners[user])
    }
}

impl Home {
    /// What is in the reserve leaves for the sender.
    fn pay_back(&mut self, reason: usize) {
        self.refunds[reason] = self.shares;
        if self.shares != 0 {
            add(&mut self.outbox, reason);
        }
        self.shares = 0;
    }
}

impl World {
    fn stand_for_a_new_operation(&mut self) {
        self.key.now.operation = self.told.operations;
        self.told.operations += 1;
    }
}

fn lowest(set: Set) -> Set {
    set & set.wrapping_neg()
}

fn has(set: Set, index: usize) -> bool {
    set >> index & 1 == 1
}

fn add(set: &mut Set, index: usize) {
    *set |= 1 << index;
}

impl Envelope {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn operations(&self) -> usize {
        self.size.creators.max(1).into()
    }

    fn shares(&self) -> usize {
        self.size.total().into()
    }

    fn sets(&self) -> impl Iterator<Item = Set> {
        0..1 << self.shares()
    }

    /// The key, the debit, the fills, the opening.
    fn funding(&self, s: &World, steps: &mut Steps<World>) {
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
        if home.state >= State::Filled {
            steps.add(By::Reading, "read fill", POOLS, |s| {
                s.home.confirm();
                add(&mut s.carried.filled, POOLS);
            });
        }
        if s.carried.filled.count_ones() as usize == POOLS + 1 && home.state == State::Filled {
            let by = By::Carrying.sweeper_if(finds_funding);
            steps.add(by, "open open", 0, |s| s.home.now.state = State::Open);
        }
        if home.state >= State::Open {
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
        if s.home.now.state == State::Absent {
            steps.add(by, "open fill", id, |s| {
                s.home.now.state = State::Filled;
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

    /// Users.
    fn grabs(&self, s: &World, steps: &mut Steps<World>) {
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
                let late = rows.lapsed && !self.is(Mutant::ClaimAfterLapse);
                if won != NOBODY && !has(rows.claimed, user) && !late {
                    steps.add(By::Others, "pool claim", user, |s| add(&mut s.pools[pool].now.claimed, user));
                }
                if has(rows.claimed, user) && self.size.claims {
                    steps.add(By::Others, "answer claimed", user, |s| {
                        s.pools[pool].confirm();
                        add(&mut s.told.claimed, user);
                    });
                }
                if won != NOBODY {
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
    fn transfers(&self, s: &World, steps: &mut Steps<World>) {
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
            steps.add(By::Beginning, "reserve resolve", 1, |s| {
                s.home.now.lapse = Lapse::After;
                s.home.now.pay_back(LAPSED);
            });
        }
    }

    /// What is carried between reserve and pools.
    fn crossings(&self, s: &World, steps: &mut Steps<World>) {
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
        let ended = matches!(s.home.now.state, State::Ended | State::SoldOut);
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

    /// A refund crosses into the sender's bucket.
    fn refund(&self, s: &World, reason: usize, steps: &mut Steps<World>) {
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
    fn archive(&self, s: &World, steps: &mut Steps<World>) {
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

    fn machines(s: &World, steps: &mut Steps<World>) {
        steps.add(By::Others, "failover of the key", 0, |s| s.key.fail_over());
        steps.add(By::Others, "failover of the sender", 0, |s| s.sender.fail_over());
        steps.add(By::Others, "failover of the home", 0, |s| s.home.fail_over());
        steps.add(By::Others, "the key's replica follows", 0, |s| s.key.confirm());
        steps.add(By::Others, "the sender's replica follows", 0, |s| s.sender.confirm());
        steps.add(By::Others, "the home's replica follows", 0, |s| s.home.confirm());
        for pool in 0..s.pools.len() {
            steps.add(By::Others, "failover of a pool", pool, |s| s.pools[pool].fail_over());
            steps.add(By::Others, "a pool's replica follows", pool, |s| s.pools[pool].confirm());
        }
    }

    /// In how many places a share is.
    fn places(&self, s: &World, share: usize) -> usize {
        let home = s.home.now;
        let mut places = usize::from(has(home.shares, share));
        places += home.refunds.iter().filter(|&&refund| has(refund, share)).count();
        if home.state == State::Absent {
            places += usize::from(has(self.size.reserve, share));
        }
        for pool in 0..POOLS {
            let (rows, transfer) = (s.pools[pool].now, home.transfers[pool]);
            places += usize::from(has(rows.shares, share));
            // What has lapsed is in the pool no more.
            let is_here = |user: &usize| !rows.lapsed || has(rows.claimed, *user);
            let won = |user: &usize| usize::from(rows.winners[*user]) == share;
            places += (0..USERS_MAX).filter(|user| won(user) && is_here(user)).count();
            if rows.state == PoolState::Absent {
                places += usize::from(has(self.size.pools[pool], share));
            }
            // Granted and not taken yet; given back and not noted yet.
            places += match transfer.kind {
                Kind::Grant => usize::from(rows.sequence < transfer.sequence && has(transfer.shares, share)),
                Kind::Recall | Kind::Close | Kind::Lapse => {
                    usize::from(rows.sequence == transfer.sequence && has(rows.given, share))
                }
                Kind::Noted => 0,
            };
        }
        places
    }
}

pub(crate) const ONE_KEY: &str = "one key makes one envelope";
pub(crate) const REFUSED: &str = "what was refused is not debited later";
pub(crate) const NOTHING_FROM_NOTHING: &str = "nothing exists in an envelope that is not paid for";
pub(crate) const NOT_TWICE: &str = "no share is in two places";
pub(crate) const NOT_LOST: &str = "no share is lost";
pub(crate) const ONE_SHARE: &str = "a user has one share";
pub(crate) const WON: &str = "who was told of a win has it";
pub(crate) const CLAIMED: &str = "who was told that it is credited has it";
pub(crate) const SOLD_OUT: &str = "sold out is said only when every share has a winner";
pub(crate) const ENDED: &str = "what has ended stays ended";
pub(crate) const CREATED: &str = "an envelope that was answered is there, whole and open";
pub(crate) const BALANCE: &str = "the sender has what was deposited, less what was paid, plus what came back once";
pub(crate) const REFUND_LOST: &str = "a refund leaves the outbox only once it is credited";

impl Model for Envelope {
    type State = World;

    fn start(&self) -> World {
        let total = self.size.total();
        let open = self.size.creators == 0;
        let mut funding = [Funding::Absent; OPERATIONS_MAX];
        let (mut state, mut pool_state, mut operation) = (State::Absent, PoolState::Absent, NOBODY);
        if open {
            funding[0] = Funding::Done;
            (state, pool_state, operation) = (State::Open, PoolState::Open, 0);
        }
        let when_open = |set: Set| if open { set } else { 0 };
        let pool = |pool: usize| Pool {
            state: pool_state,
            sequence: 0,
            shares: when_open(self.size.pools[pool]),
            given: 0,
            winners: [NOBODY; USERS_MAX],
            claimed: 0,
            lapsed: false,
            fence: 0,
        };
        World {
            key: Bucket::new(Key { operation }),
            sender: Bucket::new(Sender {
                deposited: if open { total } else { 0 },
                balance: 0,
                funding,
                refunded: 0,
                generation: 0,
            }),
            home: Bucket::new(Home {
                state,
                shares: when_open(self.size.reserve),
                transfers: [Transfer { kind: Kind::Noted, sequence: 0, shares: 0 }; POOLS],
                empty: [0; POOLS],
                closed: 0,
                lapse: Lapse::Before,
                lapsed: 0,
                refunds: [0; REASONS],
                outbox: 0,
            }),
            pools: [Bucket::new(pool(0)), Bucket::new(pool(1))],
            carried: Carried::default(),
            told: Told {
                won: [NOBODY; USERS_MAX],
                claimed: 0,
                sold_out: false,
                ended: false,
                created: false,
                refused: 0,
                operations: 0,
            },
        }
    }

    fn steps(&self, steps: &mut Steps<World>) {
        let s = &steps.from();
        if self.size.creators > 0 {
            self.funding(s, steps);
        }
        self.grabs(s, steps);
        self.transfers(s, steps);
        self.crossings(s, steps);
        for reason in 0..REASONS {
            self.refund(s, reason, steps);
        }
        if self.size.archives {
            self.archive(s, steps);
        }
        Self::machines(s, steps);
    }

    fn broken(&self, s: &World) -> Option<&'static str> {
        let (sender, home, told) = (s.sender.now, s.home.now, s.told);
        let total = self.size.total();
        let paid = sender.funding.iter().filter(|funding| funding.is_paid()).count();
        if paid > 1 {
            return Some(ONE_KEY);
        }
        if (0..self.operations()).any(|id| has(told.refused, id) && sender.funding[id].is_paid()) {
            return Some(REFUSED);
        }
        if paid == 0 {
            let nothing = home.state == State::Absent && s.pools.iter().all(|pool| pool.now.state == PoolState::Absent);
            return (!nothing || told.created).then_some(NOTHING_FROM_NOTHING);
        }
        for share in 0..self.shares() {
            match self.places(s, share) {
                0 => return Some(NOT_LOST),
                1 => {}
                _ => return Some(NOT_TWICE),
            }
        }
        let won = |user: usize| s.pools.iter().filter(move |pool| pool.now.winners[user] != NOBODY).count();
        if (0..self.size.homes.len()).any(|user| won(user) > 1) {
            return Some(ONE_SHARE);
        }
        let has_won = |user: usize| s.pools.iter().any(|pool| pool.now.winners[user] == told.won[user]);
        if (0..self.size.homes.len()).any(|user| told.won[user] != NOBODY && !has_won(user)) {
            return Some(WON);
        }
        let claimed = |user: usize| s.pools.iter().any(|pool| has(pool.now.claimed, user));
        if (0..self.size.homes.len()).any(|user| has(told.claimed, user) && !claimed(user)) {
            return Some(CLAIMED);
        }
        let winners: usize = (0..self.size.homes.len()).map(won).sum();
        let sold_out = home.state == State::SoldOut || s.pools.iter().any(|p| p.now.state == PoolState::SoldOut);
        if (told.sold_out || sold_out) && winners != usize::from(total) {
            return Some(SOLD_OUT);
        }
        let sells = |pool: &Bucket<Pool>| matches!(pool.now.state, PoolState::Absent | PoolState::Open);
        if told.ended && (home.state != State::Ended || s.pools.iter().any(sells)) {
            return Some(ENDED);
        }
        if told.created && (home.state < State::Open || s.pools.iter().any(|p| p.now.state == PoolState::Absent)) {
            return Some(CREATED);
        }
        let mut balance = sender.deposited - total;
        for reason in 0..REASONS {
            let refund = home.refunds[reason].count_ones() as u8;
            if has(sender.refunded, reason) {
                balance += refund;
            } else if refund > 0 && !has(home.outbox, reason) {
                return Some(REFUND_LOST);
            }
        }
        (sender.balance != balance).then_some(BALANCE)
    }

    /// What carries an old sequence number is refused by the guards of
    /// `pool take` and `reserve note` for ever: what is kept is never taken back.
    fn forget(&self) -> fn(&mut World) {
        let guards = [Mutant::GrantWithoutSequence, Mutant::NoteWithoutSequence, Mutant::SoldOutByAnOldReport];
        if self.mutant.is_some_and(|mutant| guards.contains(&mutant)) {
            return |_| {};
        }
        |s| {
            for pool in 0..POOLS {
                let taken = s.pools[pool].kept().sequence;
                let noted = s.home.kept().transfers[pool].sequence;
                for at in 0..SEQUENCES {
                    if at <= usize::from(taken) {
                        s.carried.grants[pool][at] = 0;
                        s.carried.recalls[pool] &= !(1 << at);
                        s.carried.closes[pool] &= !(1 << at);
                        s.carried.lapses[pool] &= !(1 << at);
                    }
                    if at < usize::from(noted) {
                        s.carried.reports[pool][at] = 0;
                        s.carried.empty[pool] &= !(1 << at);
                    }
                }
                // Nothing is noted of the filling.
                s.carried.reports[pool][0] = 0;
            }
        }
    }

    fn ended(&self, s: &World) -> bool {
        if !s.sender.now.funding.iter().any(|funding| funding.is_paid()) {
            return true;
        }
        let pools_ended = s
            .pools
            .iter()
            .all(|pool| !matches!(pool.now.state, PoolState::Absent | PoolState::Open | PoolState::Closed));
        let home = s.home.now;
        let funded = !s.sender.now.funding.contains(&Funding::Debited) && home.state >= State::Open;
        let lapsed = home.lapse == Lapse::After || !self.size.claims;
        let home_ended = home.state >= State::Ended && home.outbox == 0 && lapsed;
        funded && (pools_ended && home_ended || !self.size.ends)
    }
}
