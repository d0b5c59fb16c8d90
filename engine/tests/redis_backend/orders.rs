//! Orders between engines in front of one deployment: steps at once, returns that nobody
//! has ended, and merchants that have too little.

use crate::deployment::Deployment;
use crate::deployment::is_missing;
use crate::races::Two;
use crate::random::Random;
use crate::stand::{fen, item, user};
use hongbao_engine::backend::{Backend, OnceKey};
use hongbao_engine::command::*;
use hongbao_engine::order::{OrderState, OrderStep};
use hongbao_engine::types::*;

fn step(order: OrderId, step: OrderStep) -> Command {
    Command::StepOrder { order, step: Box::new(step) }
}

fn ask_back(order: OrderId, name: &str) -> Command {
    step(order, OrderStep::Return { user: user(name), reason: "broken".to_owned() })
}

fn take_back(order: OrderId) -> Command {
    step(order, OrderStep::AcceptReturn { restock: true })
}

fn refuse(order: OrderId) -> Command {
    step(order, OrderStep::RefuseReturn { reason: "worn".to_owned() })
}

fn withdraw(minor: u64) -> Command {
    Command::WithdrawSales(Transfer { user: user("rosy"), amount: fen(minor), reference: None })
}

fn state_of(outcome: &Outcome) -> Option<OrderState> {
    match outcome {
        Outcome::Order(order) => Some(order.view().progress.state),
        _ => None,
    }
}

impl Two {
    /// What is sold is available after a minute.
    fn sells_at_once(&self, bps: u16) {
        let rosy = NewMerchant {
            settle_after_s: Some(0),
            commission_bps: Some(bps),
            ..NewMerchant::new(user("rosy"), "Rosy", Some(MerchantStatus::Verified))
        };
        self.ask(Command::PutMerchant(Box::new(rosy)));
    }

    fn buys(&self, item: ItemId, name: &str) -> OrderId {
        let hold = self.hold(item, name, 1);
        match self.ask(Command::ClaimHold { hold, user: user(name) }) {
            Outcome::Ordered { order, .. } => order,
            other => panic!("{other:?}"),
        }
    }

    /// Bought, and to be sent back.
    fn buys_in_vain(&self, item: ItemId, name: &str) -> OrderId {
        let order = self.buys(item, name);
        assert_eq!(state_of(&self.ask(ask_back(order, name))), Some(OrderState::ReturnRequested));
        order
    }

    fn order(&self, id: OrderId) -> OrderView {
        self.deployment.drive(self.engines[1].order(id)).expect("a read").expect("an order")
    }

    fn sales(&self) -> (u64, u64) {
        let has = self.deployment.drive(self.engines[1].merchant_balance(&user("rosy"))).expect("a read");
        has.map_or((0, 0), |has| (has.pending.minor(), has.available.minor()))
    }
}

#[test]
fn a_return_is_accepted_and_refused_at_once() {
    if is_missing() {
        return;
    }
    for two in [Two::over(Deployment::new(80)), Two::over(Deployment::on_cluster(81))] {
        let id = two.sell(item(100));
        two.deposit("bob", 1000);
        let mut back = 0;
        for _ in 0..12 {
            let order = two.buys_in_vain(id, "bob");
            let outcomes = two.all_at_once(vec![take_back(order), refuse(order), take_back(order), refuse(order)]);
            let in_state = |state| outcomes.iter().filter(|told| state_of(told) == Some(state)).count();
            let (returned, refused) = (in_state(OrderState::Returned), in_state(OrderState::Refused));
            assert!((returned, refused) == (2, 0) || (returned, refused) == (0, 2), "{outcomes:?}");
            back += u32::from(returned > 0);
        }
        assert_eq!(two.stock(id), Stock { total: 100, free: 88 + back, held: 0, sold: 12 - back });
        assert_eq!(two.available("bob"), 1000 - 10 * u64::from(12 - back));
        two.assert_sound();
    }
}

/// Ten have been bought, and there is money for what is not taken out meanwhile.
#[test]
fn a_merchant_never_gives_back_what_it_has_not() {
    let Some(two) = Two::new(82) else { return };
    let id = two.sell(item(100));
    two.sells_at_once(0);
    two.deposit("bob", 1000);
    let orders: Vec<_> = (0..10).map(|_| two.buys_in_vain(id, "bob")).collect();
    two.ask(Command::AdvanceClock { by_s: 60 });
    let mut commands: Vec<_> = orders.iter().copied().map(take_back).collect();
    (0..5).for_each(|nth| commands.insert(2 * nth, withdraw(11)));
    let told = two.all_at_once(commands);
    let back = told.iter().filter(|told| state_of(told) == Some(OrderState::Returned)).count() as u64;
    let taken = told.iter().filter(|told| matches!(told, Outcome::Sales { .. })).count() as u64;
    let short = told.iter().filter(|told| **told == Outcome::Refused(Refusal::InsufficientFunds)).count() as u64;
    assert_eq!(back + taken + short, 15, "{told:?}");
    assert_eq!(two.available("bob"), 1000 - 100 + 10 * back);
    assert_eq!(two.sales(), (0, 100 - 10 * back - 11 * taken));
    for order in orders {
        let is_back = two.order(order).progress.state == OrderState::Returned;
        // Once there is money again what was refused can be tried again.
        two.buys(id, "bob");
        two.ask(Command::AdvanceClock { by_s: 60 });
        let again = two.ask(take_back(order));
        assert!(is_back || two.sales().1 < 10 || state_of(&again) == Some(OrderState::Returned), "{again:?}");
    }
    two.assert_sound();
}

/// The engine that took the money is gone. Whoever does something about the order has the return ended first.
#[test]
fn a_return_left_in_the_middle_is_ended_by_who_comes_next() {
    let Some(two) = Two::new(83) else { return };
    let id = two.sell(item(100));
    two.sells_at_once(1000);
    two.deposit("bob", 1000);
    // It looks, begins, takes the money, tells the order, pays back.
    for calls in 2..6 {
        for has_money in [true, false] {
            let order = two.buys_in_vain(id, "bob");
            if !has_money {
                two.ask(Command::AdvanceClock { by_s: 60 });
                two.ask(withdraw(two.sales().1));
            }
            let before = two.available("bob");
            let once = Some(OnceKey::idempotency("app", "accept", &format!("k{calls}{has_money}")));
            if !has_money && calls > 4 {
                continue;
            }
            two.lost(take_back(order), once, calls + 1);
            let told = two.ask(refuse(order));
            if has_money {
                assert!(matches!(told, Outcome::Refused(Refusal::WrongState(_))), "after {calls} calls: {told:?}");
                let again = two.deployment.drive(two.engines[0].execute(take_back(order), once)).expect("it answers");
                assert_eq!(state_of(&again.outcome), Some(OrderState::Returned), "after {calls} calls");
                assert_eq!(two.available("bob"), before + 10, "after {calls} calls");
            } else {
                assert_eq!(state_of(&told), Some(OrderState::Refused), "after {calls} calls");
                assert_eq!(two.available("bob"), before, "after {calls} calls");
            }
            two.assert_sound();
        }
    }
}

/// Nobody knows any more whether somebody else has found that there is too little.
#[test]
fn a_return_that_nobody_ended_for_long_takes_nothing() {
    let Some(two) = Two::new(84) else { return };
    let id = two.sell(item(9));
    two.deposit("bob", 100);
    let order = two.buys_in_vain(id, "bob");
    two.lost(take_back(order), None, 2);
    two.ask(Command::AdvanceClock { by_s: 1800 });
    two.assert_sound();
    assert_eq!((two.order(order).progress.state, two.available("bob")), (OrderState::ReturnRequested, 90));
    assert_eq!(state_of(&two.ask(take_back(order))), Some(OrderState::Returned));
    assert_eq!((two.available("bob"), two.sales()), (100, (0, 0)));
    two.assert_sound();
}

/// Everything about a few orders at once, while money settles and is taken out.
#[test]
fn nothing_is_lost_while_everybody_sends_back() {
    let Some(two) = Two::new(85) else { return };
    let id = two.sell(NewItem {
        per_user_limit: None,
        origin: ItemOrigin { return_within_s: 5, ..ItemOrigin::default() },
        ..item(12)
    });
    two.sells_at_once(3333);
    let names = ["alice", "bob", "carol"];
    names.iter().for_each(|name| two.deposit(name, 1000));
    let mut random = Random(7);
    let mut orders: Vec<(OrderId, &str)> = Vec::new();
    for round in 0..30 {
        let who = random.pick(&names);
        if two.stock(id).free > 0 {
            orders.push((two.buys(id, who), who));
        }
        let mut commands = vec![withdraw(1 + random.below(20)), withdraw(1)];
        for _ in 0..10 {
            let (order, who) = random.pick(&orders);
            commands.push(match random.below(6) {
                0 => step(order, OrderStep::Deliver),
                1..=2 => ask_back(order, who),
                3 => refuse(order),
                _ => step(order, OrderStep::AcceptReturn { restock: random.once_in(2) }),
            });
        }
        two.all_at_once(commands);
        two.ask(Command::AdvanceClock { by_s: random.below(70) });
        if round % 10 == 9 {
            two.assert_sound();
        }
    }
    let returned = orders.iter().map(|(order, _)| two.order(*order)).filter(|order| order.progress.restocked).count();
    assert_eq!(two.stock(id).sold as usize, orders.len() - returned);
    assert!(orders.iter().any(|(order, _)| two.order(*order).progress.state == OrderState::Returned));
    two.assert_sound();
}
