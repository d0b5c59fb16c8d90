//! Paying for a hold: the item's bucket, the payer's, the merchant's. One hold of
//! one unit of money, paid for under an order of its own at each attempt. Names
//! of steps are names of scripts in docs/REDIS.md. Actors are what they carry, as
//! in `envelope.rs`.

use crate::bucket::Bucket;
use crate::mutants::Mutant;
use crate::search::{By, Model, Steps};

type Set = u8;

pub(crate) struct Payment {
    /// Attempts to pay.
    pub(crate) orders: u8,
    pub(crate) mutant: Option<Mutant>,
}

/// In the item's bucket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Item {
    hold: Hold,
    /// Of the hold's last attempt.
    order: u8,
    /// Whether the outbox says: the merchant is owed.
    owes: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
enum Hold {
    Held,
    /// The outbox says: pay for the order.
    Paying,
    Sold,
    /// Lapsed or released.
    Ended,
}

/// In the payer's bucket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Payer {
    deposited: u8,
    balance: u8,
    /// Orders that are rows of the history.
    paid: Set,
    /// Orders marked as never to be paid.
    unpaid: Set,
}

/// In the merchant's bucket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Merchant {
    owed: u8,
    orders: Set,
}

/// Orders.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Carried {
    pay: Set,
    paid: Set,
    unpaid: Set,
    owe: Set,
    owed: Set,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    item: Bucket<Item>,
    payer: Bucket<Payer>,
    merchant: Bucket<Merchant>,
    carried: Carried,
    told_sold: bool,
    told_unpaid: Set,
    /// How many orders were numbered: no number is used again.
    orders: u8,
}

fn has(set: Set, index: u8) -> bool {
    set >> index & 1 == 1
}

impl Payment {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn hold(&self, s: &World, steps: &mut Steps<World>) {
        let item = s.item.now;
        if item.hold == Hold::Held && s.orders < self.orders {
            steps.add(By::Others, "hold pay", s.orders.into(), |s| {
                s.item.now.hold = Hold::Paying;
                s.item.now.order = s.orders;
                s.orders += 1;
            });
        }
        if item.hold == Hold::Held || item.hold == Hold::Paying && self.is(Mutant::LapseWhilePaying) {
            steps.add(By::Others, "hold due", 0, |s| s.item.now.hold = Hold::Ended);
        }
        if item.hold == Hold::Paying {
            steps.add(By::Reading, "read outbox, pay", item.order.into(), |s| {
                if !self.is(Mutant::PayBeforeConfirmed) {
                    s.item.confirm();
                }
                s.carried.pay |= 1 << item.order;
            });
        }
        for order in 0..self.orders {
            let own = item.order == order;
            if has(s.carried.paid, order) && item.hold == Hold::Paying && own {
                let by = By::Carrying.sweeper_if(has(s.payer.now.paid, order));
                steps.add(by, "hold paid", order.into(), |s| {
                    s.item.now.hold = Hold::Sold;
                    s.item.now.owes = true;
                });
            }
            let meant = own || self.is(Mutant::UnpaidOfAnotherOrder);
            if has(s.carried.unpaid, order) && item.hold == Hold::Paying && meant {
                let finds = has(s.payer.now.unpaid, order) || self.is(Mutant::UnpaidWithoutMark);
                let by = By::Carrying.sweeper_if(finds);
                steps.add(by, "hold unpaid", order.into(), |s| s.item.now.hold = Hold::Held);
            }
        }
        if item.hold == Hold::Sold {
            steps.add(By::Others, "answer sold", 0, |s| {
                s.item.confirm();
                s.told_sold = true;
            });
        }
        if item.owes {
            steps.add(By::Reading, "read outbox, owe", item.order.into(), |s| {
                s.item.confirm();
                s.carried.owe |= 1 << item.order;
            });
        }
    }

    fn purses(&self, s: &World, order: u8, steps: &mut Steps<World>) {
        let (payer, merchant) = (s.payer.now, s.merchant.now);
        let about = usize::from(order);
        let known = has(payer.paid | payer.unpaid, order);
        if has(s.carried.pay, order) && !known {
            let finds = s.item.now.hold == Hold::Paying && s.item.now.order == order;
            steps.add(By::Carrying.sweeper_if(finds), "pay", about, |s| {
                if payer.balance > 0 {
                    s.payer.now.balance -= 1;
                    s.payer.now.paid |= 1 << order;
                } else if self.is(Mutant::UnpaidWithoutMark) {
                    s.carried.unpaid |= 1 << order;
                } else {
                    s.payer.now.unpaid |= 1 << order;
                }
            });
        }
        if has(payer.paid, order) {
            steps.add(By::Reading, "read paid", about, |s| {
                if !self.is(Mutant::SoldBeforePaymentConfirmed) {
                    s.payer.confirm();
                }
                s.carried.paid |= 1 << order;
            });
        }
        if has(payer.unpaid, order) {
            steps.add(By::Reading, "read unpaid", about, |s| {
                s.payer.confirm();
                s.carried.unpaid |= 1 << order;
            });
        }
        if has(s.carried.unpaid, order) {
            steps.add(By::Others, "answer insufficient", about, |s| s.told_unpaid |= 1 << order);
        }
        let waits = s.item.now.owes && s.item.now.order == order;
        if has(s.carried.owe, order) && !has(merchant.orders, order) {
            steps.add(By::Carrying.sweeper_if(waits), "merchant owe", about, |s| {
                s.merchant.now.owed += 1;
                s.merchant.now.orders |= 1 << order;
            });
        }
        if has(merchant.orders, order) {
            steps.add(By::Reading, "read owed", about, |s| {
                s.merchant.confirm();
                s.carried.owed |= 1 << order;
            });
        }
        if has(s.carried.owed, order) && waits {
            let by = By::Carrying.sweeper_if(has(merchant.orders, order));
            steps.add(by, "settled", about, |s| s.item.now.owes = false);
        }
    }
}

pub(crate) const PAID: &str = "what is paid for is being sold or sold, and paid once";
pub(crate) const UNPAID: &str = "what was told unpaid is not paid later";
pub(crate) const SOLD: &str = "what is sold is paid for, and stays sold";
pub(crate) const OWED: &str = "a merchant is owed what was sold, once";

impl Model for Payment {
    type State = World;

    fn start(&self) -> World {
        World {
            item: Bucket::new(Item { hold: Hold::Held, order: 0, owes: false }),
            payer: Bucket::new(Payer { deposited: 0, balance: 0, paid: 0, unpaid: 0 }),
            merchant: Bucket::new(Merchant { owed: 0, orders: 0 }),
            carried: Carried::default(),
            told_sold: false,
            told_unpaid: 0,
            orders: 0,
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
        self.hold(s, steps);
        for order in 0..self.orders {
            self.purses(s, order, steps);
        }
        steps.add(By::Others, "failover of the item", 0, |s| s.item.fail_over());
        steps.add(By::Others, "failover of the payer", 0, |s| s.payer.fail_over());
        steps.add(By::Others, "failover of the merchant", 0, |s| s.merchant.fail_over());
        steps.add(By::Others, "the item's replica follows", 0, |s| s.item.confirm());
        steps.add(By::Others, "the payer's replica follows", 0, |s| s.payer.confirm());
        steps.add(By::Others, "the merchant's replica follows", 0, |s| s.merchant.confirm());
    }

    fn broken(&self, s: &World) -> Option<&'static str> {
        let (item, payer, merchant) = (s.item.now, s.payer.now, s.merchant.now);
        let selling = matches!(item.hold, Hold::Paying | Hold::Sold);
        if payer.paid & s.told_unpaid != 0 {
            return Some(UNPAID);
        }
        if payer.paid != 0 && !(selling && payer.paid == 1 << item.order) {
            return Some(PAID);
        }
        let sold = item.hold == Hold::Sold;
        if sold && payer.paid == 0
            || s.told_sold && !sold
            || payer.balance + u8::from(payer.paid != 0) != payer.deposited
        {
            return Some(SOLD);
        }
        let owed = u8::from(merchant.orders != 0);
        let is_owed = merchant.owed == owed && (owed == 0 || sold) && (!sold || item.owes || owed == 1);
        (!is_owed).then_some(OWED)
    }

    fn ended(&self, s: &World) -> bool {
        s.item.now.hold != Hold::Paying && !s.item.now.owes
    }
}
