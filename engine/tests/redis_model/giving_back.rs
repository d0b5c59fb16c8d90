//! An order that goes back: the item's bucket, the merchant's, the payer's. Its merchant
//! may have too little, is asked again then, and may say no meanwhile. It is begun under
//! an operation of its caller's, of which each call is an attempt of its own. Names of
//! steps are names of scripts in docs/REDIS.md. Actors are what they carry, as in
//! `envelope.rs`.

use crate::bucket::Bucket;
use crate::mutants::Mutant;
use crate::search::{By, Model, Steps};

/// Of calls, two of each operation: call c is of operation c / 2.
type Set = u8;

const CALLS: u8 = 4;
const OPERATIONS: usize = 2;

pub(crate) struct GivingBack {
    pub(crate) mutant: Option<Mutant>,
}

/// In the item's bucket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Item {
    order: Order,
    /// What each operation was answered.
    marks: [Mark; OPERATIONS],
    /// Whether the outbox says: the payer has the money again.
    back: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
enum Order {
    Asked,
    /// The outbox says: by this attempt.
    GoesBack(u8),
    Returned,
    Refused,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
enum Mark {
    None,
    GoesBack,
    Returned,
    Void,
}

/// In the merchant's bucket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Merchant {
    sold: u8,
    withdrawn: u8,
    has: u8,
    /// How often the order's money was taken.
    taken: u8,
    /// Attempts marked as never to take anything.
    short: Set,
}

/// In the payer's bucket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Payer {
    balance: u8,
    credited: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Carried {
    /// Calls that were sent: each may arrive at any time, and twice.
    call: Set,
    refund: Set,
    refunded: Set,
    short: Set,
    back: bool,
    credited: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    item: Bucket<Item>,
    merchant: Bucket<Merchant>,
    payer: Bucket<Payer>,
    carried: Carried,
    /// Which operation the caller's key stands for.
    operation: u8,
    told_returned: bool,
    /// By operation.
    told_short: Set,
}

fn has(set: Set, index: u8) -> bool {
    set >> index & 1 == 1
}

impl GivingBack {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn order(&self, s: &World, call: u8, steps: &mut Steps<World>) {
        let (item, operation, about) = (s.item.now, usize::from(call / 2), usize::from(call));
        if s.operation == call / 2 && !has(s.carried.call, call) {
            steps.add(By::Others, "call", about, |s| s.carried.call |= 1 << call);
        }
        let known = item.marks[operation] != Mark::None && !self.is(Mutant::GiveWithoutMark);
        if has(s.carried.call, call) && item.order == Order::Asked && !known {
            steps.add(By::Others, "order return", about, |s| {
                s.item.now.order = Order::GoesBack(call);
                s.item.now.marks[operation] = Mark::GoesBack;
            });
        }
        let own = item.order == Order::GoesBack(call);
        if own {
            steps.add(By::Reading, "read outbox, refund", about, |s| {
                if !self.is(Mutant::PayBeforeConfirmed) {
                    s.item.confirm();
                }
                s.carried.refund |= 1 << call;
            });
            if self.is(Mutant::LapseWhilePaying) {
                steps.add(By::Others, "order step, refused", about, |s| s.item.now.order = Order::Refused);
            }
        }
        if has(s.carried.refunded, call) && own {
            let finds = s.merchant.now.taken > 0;
            steps.add(By::Carrying.sweeper_if(finds), "order returned", about, |s| {
                s.item.now.order = Order::Returned;
                s.item.now.marks[operation] = Mark::Returned;
                s.item.now.back = true;
            });
        }
        let meant = own || self.is(Mutant::UnpaidOfAnotherOrder) && matches!(item.order, Order::GoesBack(_));
        if has(s.carried.short, call) && meant {
            let finds = has(s.merchant.now.short, call) || self.is(Mutant::UnpaidWithoutMark);
            steps.add(By::Carrying.sweeper_if(finds), "order short", about, |s| {
                s.item.now.order = Order::Asked;
                let frees = self.is(Mutant::UnpaidFreesItsOperation);
                s.item.now.marks[operation] = if frees { Mark::None } else { Mark::Void };
            });
        }
    }

    fn merchant(&self, s: &World, call: u8, steps: &mut Steps<World>) {
        let (merchant, about) = (s.merchant.now, usize::from(call));
        let known = merchant.taken > 0 && !self.is(Mutant::RefundWithoutMark);
        if has(s.carried.refund, call) && !known && !has(merchant.short, call) && merchant.taken < 2 {
            let finds = s.item.now.order == Order::GoesBack(call);
            steps.add(By::Carrying.sweeper_if(finds), "merchant refund", about, |s| {
                if merchant.has > 0 {
                    s.merchant.now.has -= 1;
                    s.merchant.now.taken += 1;
                } else if self.is(Mutant::UnpaidWithoutMark) {
                    s.carried.short |= 1 << call;
                } else {
                    s.merchant.now.short |= 1 << call;
                }
            });
        }
        if has(s.carried.refund, call) && merchant.taken > 0 {
            steps.add(By::Reading, "read refunded", about, |s| {
                if !self.is(Mutant::SoldBeforePaymentConfirmed) {
                    s.merchant.confirm();
                }
                s.carried.refunded |= 1 << call;
            });
        }
        if has(merchant.short, call) && merchant.taken == 0 {
            steps.add(By::Reading, "read short", about, |s| {
                s.merchant.confirm();
                s.carried.short |= 1 << call;
            });
        }
    }

    fn payer(&self, s: &World, steps: &mut Steps<World>) {
        let (item, payer) = (s.item.now, s.payer.now);
        if item.back {
            steps.add(By::Reading, "read outbox, credit", 0, |s| {
                if !self.is(Mutant::CreditBeforeCauseConfirmed) {
                    s.item.confirm();
                }
                s.carried.back = true;
            });
        }
        let known = payer.credited && !self.is(Mutant::CreditWithoutMarker);
        if s.carried.back && !known && payer.balance < 3 {
            steps.add(By::Carrying.sweeper_if(item.back), "credit", 0, |s| {
                s.payer.now.balance += 1;
                s.payer.now.credited = true;
            });
        }
        if payer.credited {
            steps.add(By::Reading, "read credited", 0, |s| {
                if !self.is(Mutant::DeleteBeforeEffectConfirmed) {
                    s.payer.confirm();
                }
                s.carried.credited = true;
            });
        }
        if s.carried.credited && item.back {
            let by = By::Carrying.sweeper_if(payer.credited);
            steps.add(by, "settled", 0, |s| s.item.now.back = false);
        }
    }
}

pub(crate) const TAKEN: &str = "a merchant's money is taken once, for an order that goes back or did";
pub(crate) const BACK: &str = "what was taken is its payer's again, once, and what was told of it stays true";
pub(crate) const SHORT: &str = "what was told short does not go back by that later";

impl Model for GivingBack {
    type State = World;

    fn start(&self) -> World {
        World {
            item: Bucket::new(Item { order: Order::Asked, marks: [Mark::None; OPERATIONS], back: false }),
            merchant: Bucket::new(Merchant { sold: 0, withdrawn: 0, has: 0, taken: 0, short: 0 }),
            payer: Bucket::new(Payer { balance: 0, credited: false }),
            carried: Carried::default(),
            operation: 0,
            told_returned: false,
            told_short: 0,
        }
    }

    fn steps(&self, steps: &mut Steps<World>) {
        let s = &steps.from();
        let merchant = s.merchant.now;
        if merchant.sold == 0 {
            steps.add(By::Others, "merchant owe", 0, |s| {
                s.merchant.now.sold = 2;
                s.merchant.now.has = 2;
            });
        }
        if merchant.has > 0 && merchant.withdrawn == 0 {
            steps.add(By::Others, "merchant withdraw", 0, |s| {
                s.merchant.now.has -= 1;
                s.merchant.now.withdrawn += 1;
            });
        }
        if s.item.now.order == Order::Asked {
            steps.add(By::Others, "order step, refused", 0, |s| s.item.now.order = Order::Refused);
        }
        for call in 0..CALLS {
            self.order(s, call, steps);
            self.merchant(s, call, steps);
        }
        self.payer(s, steps);
        if s.item.now.order == Order::Returned {
            steps.add(By::Others, "answer returned", 0, |s| {
                s.item.confirm();
                s.told_returned = true;
            });
        }
        for operation in 0..OPERATIONS as u8 {
            let is_void = match self.is(Mutant::UnpaidFreesItsOperation) {
                true => s.carried.short >> (2 * operation) & 0b11 != 0,
                false => s.item.now.marks[usize::from(operation)] == Mark::Void,
            };
            if is_void && s.operation == operation {
                steps.add(By::Others, "answer insufficient", operation.into(), |s| {
                    s.item.confirm();
                    s.told_short |= 1 << operation;
                    s.operation += 1;
                });
            }
        }
        steps.add(By::Others, "failover of the item", 0, |s| s.item.fail_over());
        steps.add(By::Others, "failover of the merchant", 0, |s| s.merchant.fail_over());
        steps.add(By::Others, "failover of the payer", 0, |s| s.payer.fail_over());
        steps.add(By::Others, "the item's replica follows", 0, |s| s.item.confirm());
        steps.add(By::Others, "the merchant's replica follows", 0, |s| s.merchant.confirm());
        steps.add(By::Others, "the payer's replica follows", 0, |s| s.payer.confirm());
    }

    fn broken(&self, s: &World) -> Option<&'static str> {
        let (item, merchant, payer) = (s.item.now, s.merchant.now, s.payer.now);
        if let Order::GoesBack(call) = item.order
            && has(s.told_short, call / 2)
        {
            return Some(SHORT);
        }
        let is_returned = item.order == Order::Returned;
        let is_going = matches!(item.order, Order::GoesBack(_));
        let there = merchant.has + merchant.withdrawn + merchant.taken;
        if merchant.taken > 1
            || there != merchant.sold
            || merchant.taken == 1 && !is_going && !is_returned
            || is_returned && merchant.taken == 0
        {
            return Some(TAKEN);
        }
        let is_back = payer.balance == u8::from(payer.credited)
            && (!payer.credited || is_returned)
            && (!is_returned || item.back || payer.credited)
            && (!s.told_returned || is_returned);
        (!is_back).then_some(BACK)
    }

    fn ended(&self, s: &World) -> bool {
        !matches!(s.item.now.order, Order::GoesBack(_)) && !s.item.now.back
    }
}
