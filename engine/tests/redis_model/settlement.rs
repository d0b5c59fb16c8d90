//! Money that crosses slots: a small envelope lies whole in one bucket, the
//! wallets of its winners and of its sender in two others. Claims, two refunds
//! for two reasons, the outbox, archiving. Names of steps are names of scripts
//! in docs/REDIS.md. Actors are what they carry, as in `envelope.rs`.

use crate::bucket::Bucket;
use crate::mutants::Mutant;
use crate::search::{By, Model, Steps};

const USERS: usize = 2;
/// Entries of the outbox: a claim of each user, what was unsold, what lapsed.
const ENTRIES: usize = 4;
const UNSOLD: usize = 2;
const LAPSED: usize = 3;
const WALLETS: usize = 2;
/// Amounts are below this.
const AMOUNTS: usize = 4;

type Set = u8;

pub(crate) struct Settlement {
    /// Shares of one unit each.
    pub(crate) shares: u8,
    pub(crate) generations: u8,
    pub(crate) mutant: Option<Mutant>,
}

/// The envelope's bucket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Home {
    won: Set,
    /// Causes of credits that there have been: an entry stays among them for ever.
    caused: Set,
    amounts: [u8; ENTRIES],
    ended: bool,
    lapsed: bool,
    outbox: Set,
    generation: u8,
}

/// The bucket of a user's wallet; the sender's is in the first user's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Wallets {
    /// The user's, the sender's.
    balances: [u8; 2],
    /// Rows of the received history, by entry.
    received: Set,
    /// The lowest generation of the envelope's bucket that may still credit.
    fence: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Carried {
    /// Read, and not confirmed on the same connection.
    read: [u16; ENTRIES],
    /// By entry: generations and amounts.
    credits: [u16; ENTRIES],
    credited: Set,
    /// By entry: generations that began when the entry had left the outbox.
    settled: [Set; ENTRIES],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    home: Bucket<Home>,
    wallets: [Bucket<Wallets>; WALLETS],
    carried: Carried,
    told_claimed: Set,
}

fn has(set: Set, index: usize) -> bool {
    set >> index & 1 == 1
}

/// The bucket that an entry is credited in, and the wallet.
fn target(entry: usize) -> (usize, usize) {
    match entry {
        UNSOLD | LAPSED => (0, 1),
        user => (user, 0),
    }
}

impl Home {
    fn cause(&mut self, entry: usize, amount: u8) {
        if amount > 0 {
            self.caused |= 1 << entry;
            self.outbox |= 1 << entry;
            self.amounts[entry] = amount;
        }
    }
}

impl Settlement {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// The marker of a credit: its row in the history, by envelope and reason.
    fn marker(&self, entry: usize) -> Set {
        if self.is(Mutant::RefundWithoutReason) && entry == LAPSED { 1 << UNSOLD } else { 1 << entry }
    }

    fn decisions(s: &World, shares: u8, steps: &mut Steps<World>) {
        let home = s.home.now;
        for user in 0..USERS {
            if !home.ended && !has(home.won, user) && home.won.count_ones() < shares.into() {
                steps.add(By::Others, "envelope grab", user, |s| s.home.now.won |= 1 << user);
            }
            if has(home.won, user) && !home.lapsed && !has(home.caused, user) {
                steps.add(By::Others, "envelope claim", user, |s| s.home.now.cause(user, 1));
            }
        }
        if !home.ended {
            steps.add(By::Deadline, "envelope due, end", 0, |s| {
                s.home.now.ended = true;
                s.home.now.cause(UNSOLD, shares - home.won.count_ones() as u8);
            });
        } else if !home.lapsed {
            steps.add(By::Deadline, "envelope due, lapse", 0, |s| {
                s.home.now.lapsed = true;
                s.home.now.cause(LAPSED, (home.won & !home.caused).count_ones() as u8);
            });
        }
    }

    fn credits(&self, s: &World, entry: usize, steps: &mut Steps<World>) {
        let home = s.home.now;
        let (bucket, wallet) = target(entry);
        let rows = s.wallets[bucket].now;
        if has(home.outbox, entry) {
            let what = usize::from(home.generation) * AMOUNTS + usize::from(home.amounts[entry]);
            steps.add(By::Reading, "read outbox", entry, |s| {
                if self.is(Mutant::ConfirmOnAnotherConnection) {
                    s.carried.read[entry] |= 1 << what;
                    return;
                }
                if !self.is(Mutant::CreditBeforeCauseConfirmed) {
                    s.home.confirm();
                }
                s.carried.credits[entry] |= 1 << what;
            });
        }
        if s.carried.read[entry] != 0 {
            steps.add(By::Reading, "confirm on another connection", entry, |s| {
                s.home.confirm();
                s.carried.credits[entry] |= s.carried.read[entry];
            });
        }
        for what in (0..16).filter(|what| s.carried.credits[entry] >> what & 1 == 1) {
            let (generation, amount) = ((what / AMOUNTS) as u8, (what % AMOUNTS) as u8);
            // What is known when it is carried, not when it was read.
            let learned = self.is(Mutant::GenerationLearnedLater).then_some(s.home.kept().generation);
            let fenced = learned.unwrap_or(generation) < rows.fence && !self.is(Mutant::SettlerWithoutFence);
            let marked = rows.received & self.marker(entry) != 0 && !self.is(Mutant::CreditWithoutMarker);
            if !fenced && !marked && rows.balances[wallet] < 9 {
                let finds = has(home.outbox, entry) && generation == home.generation;
                steps.add(By::Carrying.sweeper_if(finds), "credit", entry, |s| {
                    let rows = &mut s.wallets[bucket].now;
                    rows.received |= self.marker(entry);
                    rows.balances[wallet] += amount;
                });
            }
        }
        if rows.received & self.marker(entry) != 0 {
            steps.add(By::Reading, "read credit", entry, |s| {
                if !self.is(Mutant::DeleteBeforeEffectConfirmed) {
                    s.wallets[bucket].confirm();
                }
                s.carried.credited |= 1 << entry;
            });
        }
        if has(s.carried.credited, entry) && has(home.outbox, entry) {
            let by = By::Carrying.sweeper_if(rows.received & self.marker(entry) != 0);
            steps.add(by, "settled", entry, |s| s.home.now.outbox ^= 1 << entry);
        }
        let answerable = if self.is(Mutant::ClaimAnsweredBeforeCreditConfirmed) {
            rows.received & self.marker(entry) != 0
        } else {
            has(s.carried.credited, entry)
        };
        if entry < USERS && answerable {
            steps.add(By::Others, "answer claimed", entry, |s| s.told_claimed |= 1 << entry);
        }
    }

    /// The row of a credit leaves Redis.
    fn archive(&self, s: &World, entry: usize, steps: &mut Steps<World>) {
        let home = s.home.now;
        let (bucket, _) = target(entry);
        if has(home.caused, entry) && !has(home.outbox, entry) && home.generation < self.generations {
            steps.add(By::Others, "outbox turn, not confirmed", entry, |s| s.home.now.generation += 1);
            steps.add(By::Others, "outbox turn, confirmed", entry, |s| {
                if !self.is(Mutant::ArchiveWithoutNewGeneration) {
                    s.home.now.generation += 1;
                }
                if !self.is(Mutant::ArchiveBeforeGenerationConfirmed) {
                    s.home.confirm();
                }
                s.carried.settled[entry] |= 1 << s.home.now.generation;
            });
        }
        for generation in 0..=self.generations {
            if has(s.carried.settled[entry], generation.into()) && has(s.wallets[bucket].now.received, entry) {
                steps.add(By::Others, "archive", entry, |s| {
                    let rows = &mut s.wallets[bucket].now;
                    rows.received ^= 1 << entry;
                    rows.fence = rows.fence.max(generation);
                });
            }
        }
    }
}

pub(crate) const ONCE: &str = "every credit that was caused is made once, or is in the outbox";
pub(crate) const NO_CAUSE: &str = "no credit without its cause";
pub(crate) const CLAIMED: &str = "a claim that was answered stays credited";

impl Model for Settlement {
    type State = World;

    fn start(&self) -> World {
        World {
            home: Bucket::new(Home {
                won: 0,
                caused: 0,
                amounts: [0; ENTRIES],
                ended: false,
                lapsed: false,
                outbox: 0,
                generation: 0,
            }),
            wallets: [Bucket::new(Wallets { balances: [0; 2], received: 0, fence: 0 }); WALLETS],
            carried: Carried::default(),
            told_claimed: 0,
        }
    }

    fn steps(&self, steps: &mut Steps<World>) {
        let s = &steps.from();
        Self::decisions(s, self.shares, steps);
        for entry in 0..ENTRIES {
            self.credits(s, entry, steps);
            self.archive(s, entry, steps);
        }
        steps.add(By::Others, "failover of the home", 0, |s| s.home.fail_over());
        steps.add(By::Others, "the home's replica follows", 0, |s| s.home.confirm());
        for bucket in 0..WALLETS {
            steps.add(By::Others, "failover of wallets", bucket, |s| s.wallets[bucket].fail_over());
            steps.add(By::Others, "the wallets' replica follows", bucket, |s| s.wallets[bucket].confirm());
        }
    }

    fn broken(&self, s: &World) -> Option<&'static str> {
        let home = s.home.now;
        let mut owed = [[0; 2]; WALLETS];
        for entry in 0..ENTRIES {
            let (bucket, wallet) = target(entry);
            let received = has(s.wallets[bucket].now.received, entry);
            if received && !has(home.caused, entry) {
                return Some(NO_CAUSE);
            }
            // Once it has left the outbox it is credited, though its row may be archived.
            if has(home.caused, entry) && (received || !has(home.outbox, entry)) {
                owed[bucket][wallet] += home.amounts[entry];
            }
        }
        for entry in 0..USERS {
            if has(s.told_claimed, entry) && !(has(home.caused, entry) && s.wallets[entry].now.balances[0] > 0) {
                return Some(CLAIMED);
            }
        }
        let is_owed = (0..WALLETS).all(|bucket| s.wallets[bucket].now.balances == owed[bucket]);
        (!is_owed).then_some(ONCE)
    }

    fn ended(&self, s: &World) -> bool {
        s.home.now.lapsed && s.home.now.outbox == 0
    }
}
