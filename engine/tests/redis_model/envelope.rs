//! The life of a mass envelope: funding, pools, grants and recalls, the end,
//! and the refund. Names of steps are names of scripts in docs/REDIS.md.
//!
//! An actor between two buckets is only what it carries: something it read and
//! confirmed. What was once carried can arrive at any later time, any number of
//! times, or never. So the model has no actors that live or die: it has any
//! number of them, each of which may die after any step.

mod archiving;
mod ending;
mod funding;
mod pools;

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
    /// Whether all of it leaves Redis at last.
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
    /// Whether what it has of the envelope has left Redis, marks of refunds among it.
    left: bool,
    /// The lowest generation of the envelope's bucket that may still credit.
    fence: u8,
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
    /// Of the outbox.
    generation: u8,
    /// Whether its rows have left Redis: the bucket knows nothing of it.
    left: bool,
    /// The lowest generation of the sender's bucket that may still fill.
    fence: u8,
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
    /// Users whose own rows, in lists and wallets, have left Redis.
    left: Set,
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
    /// The envelope's bucket began one when the refunds had left its outbox.
    home_turned: bool,
    /// What is in files: the envelope's row; by pool, users with what they have.
    filed_envelope: bool,
    filed: [Set; POOLS],
    /// Pools that have left Redis.
    pools_left: Set,
    sender_left: bool,
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
    /// By generation and reason: sets of sets of shares.
    refunds: [[u16; REASONS]; GENERATIONS],
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
    /// Whether anybody was told otherwise than it is, because rows had left Redis.
    otherwise: bool,
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
    /// Whether nothing of the envelope can change any more.
    fn is_settled(&self, claims: bool) -> bool {
        self.state >= State::Ended && (!claims || self.lapse == Lapse::After)
    }

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
pub(crate) const ALIKE: &str = "all is told alike, in Redis and out of it";
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
            left: 0,
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
                left: false,
                fence: 0,
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
                generation: 0,
                left: false,
                fence: 0,
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
                otherwise: false,
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
            self.ask_the_archive(s, steps);
        }
        Self::machines(s, steps);
    }

    fn broken(&self, s: &World) -> Option<&'static str> {
        let (sender, home, told) = (s.sender.now, s.home.now, s.told);
        if told.otherwise {
            return Some(ALIKE);
        }
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
        let guards = [
            Mutant::GrantWithoutSequence,
            Mutant::NoteWithoutSequence,
            Mutant::SoldOutByAnOldReport,
            Mutant::TakeMakesAPool,
        ];
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
        let all_left = home.left && s.pools.iter().all(|pool| pool.now.state == PoolState::Archived);
        let left = all_left || !self.size.archives;
        funded && (pools_ended && home_ended && left || !self.size.ends)
    }
}
