//! A gift that its giver pays: the item's bucket with one unit, and the payer's. It is
//! made under an operation of its caller's, of which each call names a gift of its
//! own; declined, its money goes back and the unit is free again. Names of steps are
//! names of scripts in docs/REDIS.md. Actors are what they carry, as in `envelope.rs`.

use crate::bucket::Bucket;
use crate::mutants::Mutant;
use crate::search::{By, Model, Steps};

/// Of calls, two of each operation: call c is of operation c / 2.
type Set = u8;

const CALLS: u8 = 4;
const OPERATIONS: usize = 2;

pub(crate) struct Giving {
    pub(crate) mutant: Option<Mutant>,
}

/// In the item's bucket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Item {
    unit: Unit,
    /// What each operation was answered.
    marks: [Mark; OPERATIONS],
    /// Gifts that were declined.
    ended: Set,
    /// Of which the outbox says: pay back.
    back: Set,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
enum Unit {
    Free,
    /// The outbox says: pay for this gift, which is made by that.
    Paying(u8),
    Offered(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
enum Mark {
    None,
    Paying,
    Gift,
    Void,
}

/// In the payer's bucket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Payer {
    deposited: u8,
    balance: u8,
    paid: Set,
    /// Marked as never to be paid.
    unpaid: Set,
    credited: Set,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Carried {
    /// Calls that were sent: each may arrive at any time, and twice.
    give: Set,
    pay: Set,
    paid: Set,
    unpaid: Set,
    back: Set,
    credited: Set,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    item: Bucket<Item>,
    payer: Bucket<Payer>,
    carried: Carried,
    /// Which operation the caller's key stands for.
    operation: u8,
    told_made: Set,
    /// By operation.
    told_unpaid: Set,
}

fn has(set: Set, index: u8) -> bool {
    set >> index & 1 == 1
}

fn calls_of(operation: u8) -> Set {
    0b11 << (2 * operation)
}

impl Giving {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn give(&self, s: &World, call: u8, steps: &mut Steps<World>) {
        let (item, operation, about) = (s.item.now, usize::from(call / 2), usize::from(call));
        if s.operation == call / 2 && !has(s.carried.give, call) {
            steps.add(By::Others, "call", about, |s| s.carried.give |= 1 << call);
        }
        let known = item.marks[operation] != Mark::None && !self.is(Mutant::GiveWithoutMark);
        let was_made = has(item.ended, call) || item.unit == Unit::Offered(call);
        if has(s.carried.give, call) && item.unit == Unit::Free && !known && !was_made {
            steps.add(By::Others, "gift give", about, |s| {
                s.item.now.unit = Unit::Paying(call);
                s.item.now.marks[operation] = Mark::Paying;
            });
        }
        let own = item.unit == Unit::Paying(call);
        if own {
            steps.add(By::Reading, "read outbox, pay", about, |s| {
                if !self.is(Mutant::PayBeforeConfirmed) {
                    s.item.confirm();
                }
                s.carried.pay |= 1 << call;
            });
            if self.is(Mutant::LapseWhilePaying) {
                steps.add(By::Others, "gift due", about, |s| s.item.now.unit = Unit::Free);
            }
        }
        if has(s.carried.paid, call) && own {
            steps.add(By::Carrying.sweeper_if(has(s.payer.now.paid, call)), "gift paid", about, |s| {
                s.item.now.unit = Unit::Offered(call);
                s.item.now.marks[operation] = Mark::Gift;
            });
        }
        if has(s.carried.unpaid, call) && own {
            let finds = has(s.payer.now.unpaid, call) || self.is(Mutant::UnpaidWithoutMark);
            steps.add(By::Carrying.sweeper_if(finds), "gift unpaid", about, |s| {
                s.item.now.unit = Unit::Free;
                let frees = self.is(Mutant::UnpaidFreesItsOperation);
                s.item.now.marks[operation] = if frees { Mark::None } else { Mark::Void };
            });
        }
        if item.unit == Unit::Offered(call) {
            steps.add(By::Others, "answer made", about, |s| {
                s.item.confirm();
                s.told_made |= 1 << call;
            });
            steps.add(By::Others, "gift step, declined", about, |s| {
                s.item.now.unit = Unit::Free;
                s.item.now.ended |= 1 << call;
                s.item.now.back |= 1 << call;
            });
        }
        if has(item.back, call) {
            steps.add(By::Reading, "read outbox, credit", about, |s| {
                if !self.is(Mutant::CreditBeforeCauseConfirmed) {
                    s.item.confirm();
                }
                s.carried.back |= 1 << call;
            });
        }
        if has(s.carried.credited, call) && has(item.back, call) {
            let by = By::Carrying.sweeper_if(has(s.payer.now.credited, call));
            steps.add(by, "settled", about, |s| s.item.now.back &= !(1 << call));
        }
    }

    fn purse(&self, s: &World, call: u8, steps: &mut Steps<World>) {
        let (payer, about) = (s.payer.now, usize::from(call));
        if has(s.carried.pay, call) && !has(payer.paid | payer.unpaid, call) {
            let finds = s.item.now.unit == Unit::Paying(call);
            steps.add(By::Carrying.sweeper_if(finds), "pay", about, |s| {
                if payer.balance > 0 {
                    s.payer.now.balance -= 1;
                    s.payer.now.paid |= 1 << call;
                } else if self.is(Mutant::UnpaidWithoutMark) {
                    s.carried.unpaid |= 1 << call;
                } else {
                    s.payer.now.unpaid |= 1 << call;
                }
            });
        }
        if has(payer.paid, call) {
            steps.add(By::Reading, "read paid", about, |s| {
                if !self.is(Mutant::SoldBeforePaymentConfirmed) {
                    s.payer.confirm();
                }
                s.carried.paid |= 1 << call;
            });
        }
        if has(payer.unpaid, call) {
            steps.add(By::Reading, "read unpaid", about, |s| {
                s.payer.confirm();
                s.carried.unpaid |= 1 << call;
            });
        }
        let known = has(payer.credited, call) && !self.is(Mutant::CreditWithoutMarker);
        if has(s.carried.back, call) && !known && payer.balance < 4 {
            steps.add(By::Carrying.sweeper_if(has(s.item.now.back, call)), "credit", about, |s| {
                s.payer.now.balance += 1;
                s.payer.now.credited |= 1 << call;
            });
        }
        if has(payer.credited, call) {
            steps.add(By::Reading, "read credited", about, |s| {
                if !self.is(Mutant::DeleteBeforeEffectConfirmed) {
                    s.payer.confirm();
                }
                s.carried.credited |= 1 << call;
            });
        }
    }
}

pub(crate) const PAID: &str = "what is paid is being given, or was, and is money of its own or went back once";
pub(crate) const UNPAID: &str = "what was told unpaid is not paid later";
pub(crate) const ONE: &str = "an operation makes one gift";
pub(crate) const MADE: &str = "a gift is paid, and what was told of it stays true";

impl Model for Giving {
    type State = World;

    fn start(&self) -> World {
        World {
            item: Bucket::new(Item { unit: Unit::Free, marks: [Mark::None; OPERATIONS], ended: 0, back: 0 }),
            payer: Bucket::new(Payer { deposited: 0, balance: 0, paid: 0, unpaid: 0, credited: 0 }),
            carried: Carried::default(),
            operation: 0,
            told_made: 0,
            told_unpaid: 0,
        }
    }

    fn steps(&self, steps: &mut Steps<World>) {
        let s = &steps.from();
        if s.payer.now.deposited == 0 {
            steps.add(By::Others, "wallet deposit", 0, |s| {
                s.payer.now.deposited = 2;
                s.payer.now.balance = 2;
            });
        }
        for call in 0..CALLS {
            self.give(s, call, steps);
            self.purse(s, call, steps);
        }
        for operation in 0..OPERATIONS as u8 {
            let is_void = match self.is(Mutant::UnpaidFreesItsOperation) {
                true => s.carried.unpaid & calls_of(operation) != 0,
                false => s.item.now.marks[usize::from(operation)] == Mark::Void,
            };
            if is_void && s.operation == operation {
                steps.add(By::Others, "answer insufficient", operation.into(), |s| {
                    s.item.confirm();
                    s.told_unpaid |= 1 << operation;
                    s.operation += 1;
                });
            }
        }
        steps.add(By::Others, "failover of the item", 0, |s| s.item.fail_over());
        steps.add(By::Others, "failover of the payer", 0, |s| s.payer.fail_over());
        steps.add(By::Others, "the item's replica follows", 0, |s| s.item.confirm());
        steps.add(By::Others, "the payer's replica follows", 0, |s| s.payer.confirm());
    }

    fn broken(&self, s: &World) -> Option<&'static str> {
        let (item, payer) = (s.item.now, s.payer.now);
        let (held, offered) = match item.unit {
            Unit::Free => (0, 0),
            Unit::Paying(call) => (1 << call, 0),
            Unit::Offered(call) => (1 << call, 1 << call),
        };
        for operation in 0..OPERATIONS as u8 {
            let paid = payer.paid & calls_of(operation);
            if has(s.told_unpaid, operation) && paid != 0 {
                return Some(UNPAID);
            }
            if paid.count_ones() > 1 {
                return Some(ONE);
            }
        }
        let there = u32::from(payer.balance) + payer.paid.count_ones();
        let is_back = item.ended & !(item.back | payer.credited) == 0 && payer.credited & !item.ended == 0;
        if payer.paid & !(held | item.ended) != 0
            || there != u32::from(payer.deposited) + payer.credited.count_ones()
            || !is_back
        {
            return Some(PAID);
        }
        let made = offered | item.ended;
        (made & !payer.paid != 0 || s.told_made & !made != 0).then_some(MADE)
    }

    fn ended(&self, s: &World) -> bool {
        !matches!(s.item.now.unit, Unit::Paying(_)) && s.item.now.back == 0
    }
}
