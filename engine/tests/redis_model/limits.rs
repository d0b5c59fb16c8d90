//! A limit per user over envelopes in other buckets: one user, a limit of one,
//! two envelopes of one share that a rival may take. Names of steps are names
//! of scripts in docs/REDIS.md. Actors are what they carry, as in `envelope.rs`.

use crate::bucket::Bucket;
use crate::mutants::Mutant;
use crate::search::{By, Model, Steps};

const ENVELOPES: usize = 2;
const LIMIT: usize = 1;

type Set = u8;

pub(crate) struct Limits {
    pub(crate) attempts: u8,
    pub(crate) mutant: Option<Mutant>,
}

/// In the bucket of the user: `limit:<campaign>`, one row an envelope.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Identity {
    rows: [Row; ENVELOPES],
    /// Attempts in this bucket are numbered, over all envelopes.
    attempts: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Row {
    state: Use,
    /// The attempt that reserved last.
    attempt: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
enum Use {
    Free,
    Reserved,
    Used,
}

/// An envelope's bucket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Home {
    open: bool,
    won: bool,
    sold_out: bool,
    /// Attempts up to this one came too late.
    bar: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Carried {
    /// By envelope: attempts.
    grabs: [Set; ENVELOPES],
    not_open: [Set; ENVELOPES],
    barred: [Set; ENVELOPES],
    /// Envelopes.
    won: Set,
    lost: Set,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    identity: Bucket<Identity>,
    homes: [Bucket<Home>; ENVELOPES],
    carried: Carried,
    told_won: Set,
}

fn has(set: Set, index: usize) -> bool {
    set >> index & 1 == 1
}

impl Limits {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn envelope(&self, s: &World, envelope: usize, steps: &mut Steps<World>) {
        let home = s.homes[envelope].now;
        if !home.open {
            steps.add(By::Others, "opens", envelope, |s| s.homes[envelope].now.open = true);
        } else if !home.won && !home.sold_out {
            steps.add(By::Others, "envelope grab of a rival", envelope, |s| s.homes[envelope].now.sold_out = true);
        }
        for attempt in 1..=self.attempts {
            if !has(s.carried.grabs[envelope], attempt.into()) {
                continue;
            }
            let barred = attempt <= home.bar && !self.is(Mutant::BarIsNotAsked);
            if !home.open {
                steps.add(By::Others, "envelope grab, not open", envelope, |s| {
                    s.carried.not_open[envelope] |= 1 << attempt;
                });
            } else if !home.won && !home.sold_out && !barred {
                steps.add(By::Others, "envelope grab", envelope, |s| s.homes[envelope].now.won = true);
            }
            if !home.won && home.bar < attempt {
                let row = s.identity.now.rows[envelope];
                let finds = row == Row { state: Use::Reserved, attempt };
                steps.add(By::Beginning.sweeper_if(finds), "envelope bar", envelope, |s| {
                    s.homes[envelope].now.bar = attempt;
                });
            }
        }
        if home.won {
            steps.add(By::Reading, "read win", envelope, |s| {
                s.homes[envelope].confirm();
                s.carried.won |= 1 << envelope;
                s.told_won |= 1 << envelope;
            });
        }
        if home.sold_out {
            steps.add(By::Reading, "read sold out", envelope, |s| {
                if !self.is(Mutant::ReleaseBeforeNoConfirmed) {
                    s.homes[envelope].confirm();
                }
                s.carried.lost |= 1 << envelope;
            });
        }
        if home.bar > 0 && !home.won {
            steps.add(By::Reading, "read bar", envelope, |s| {
                s.homes[envelope].confirm();
                s.carried.barred[envelope] |= 1 << home.bar;
            });
        }
    }

    fn identity(&self, s: &World, envelope: usize, steps: &mut Steps<World>) {
        let identity = s.identity.now;
        let row = identity.rows[envelope];
        let taken = identity.rows.iter().filter(|row| row.state != Use::Free).count();
        let may = match row.state {
            Use::Free => taken < LIMIT,
            Use::Reserved => true,
            Use::Used => false,
        };
        if may && identity.attempts < self.attempts {
            steps.add(By::Others, "limit reserve", envelope, |s| {
                let identity = &mut s.identity.now;
                identity.attempts += 1;
                identity.rows[envelope] = Row { state: Use::Reserved, attempt: identity.attempts };
            });
        }
        if row.state != Use::Reserved {
            return;
        }
        steps.add(By::Reading, "read reservation", envelope, |s| {
            if !self.is(Mutant::GrabBeforeLimitConfirmed) {
                s.identity.confirm();
            }
            s.carried.grabs[envelope] |= 1 << row.attempt;
        });
        if has(s.carried.won, envelope) {
            let by = By::Carrying.sweeper_if(s.homes[envelope].now.won);
            steps.add(by, "limit keep", envelope, |s| s.identity.now.rows[envelope].state = Use::Used);
        }
        let barred = s.carried.barred[envelope];
        let not_open = if self.is(Mutant::ReleaseWithoutBar) { s.carried.not_open[envelope] } else { 0 };
        let may_release = |attempt: u8| row.attempt <= attempt || self.is(Mutant::ReleaseOfAnotherAttempt);
        let released = (1..=self.attempts).any(|n| has(barred | not_open, n.into()) && may_release(n));
        if released || has(s.carried.lost, envelope) {
            let home = s.homes[envelope].now;
            let by = By::Carrying.sweeper_if(home.sold_out || !home.won && home.bar >= row.attempt);
            steps.add(by, "limit release", envelope, |s| {
                s.identity.now.rows[envelope] = Row { state: Use::Free, attempt: 0 };
            });
        }
    }
}

pub(crate) const OVER: &str = "nobody wins more than the limit";
pub(crate) const WON: &str = "who was told of a win has it";

impl Model for Limits {
    type State = World;

    fn start(&self) -> World {
        let row = Row { state: Use::Free, attempt: 0 };
        let home = Home { open: false, won: false, sold_out: false, bar: 0 };
        World {
            identity: Bucket::new(Identity { rows: [row; ENVELOPES], attempts: 0 }),
            homes: [Bucket::new(home); ENVELOPES],
            carried: Carried::default(),
            told_won: 0,
        }
    }

    fn steps(&self, steps: &mut Steps<World>) {
        let s = &steps.from();
        for envelope in 0..ENVELOPES {
            self.envelope(s, envelope, steps);
            self.identity(s, envelope, steps);
            steps.add(By::Others, "failover of an envelope", envelope, |s| s.homes[envelope].fail_over());
            steps.add(By::Others, "an envelope's replica follows", envelope, |s| s.homes[envelope].confirm());
        }
        steps.add(By::Others, "failover of the user", 0, |s| s.identity.fail_over());
        steps.add(By::Others, "the user's replica follows", 0, |s| s.identity.confirm());
    }

    fn broken(&self, s: &World) -> Option<&'static str> {
        if s.homes.iter().filter(|home| home.now.won).count() > LIMIT {
            return Some(OVER);
        }
        let lost = |envelope| has(s.told_won, envelope) && !s.homes[envelope].now.won;
        (0..ENVELOPES).any(lost).then_some(WON)
    }

    fn ended(&self, s: &World) -> bool {
        s.identity.now.rows.iter().all(|row| row.state != Use::Reserved)
    }
}
