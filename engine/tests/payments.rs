//! Payments outside: the races by name, where the money goes, and what a start makes of it.

mod random;
mod stand;

use hongbao_engine::audit::audit;
use hongbao_engine::backend::{Audit, Backend, OnceKey, Page};
use hongbao_engine::clock::Clock;
use hongbao_engine::command::*;
use hongbao_engine::export::Books;
use hongbao_engine::gift::{Gift, GiftState, GiftStep, NewGift};
use hongbao_engine::order::{OrderState, OrderStep};
use hongbao_engine::payment::*;
use hongbao_engine::store::{Movement, MovementKind, Period};
use hongbao_engine::types::*;
use random::Random;
use stand::*;

/// Within how long payments of these stories are to be paid, and how much longer what they are for is kept.
const PAY_WITHIN_S: u64 = 600;
const KEEP_S: u64 = 1200;

/// One scene: something is sold for ten fen a unit, and people pay for it outside.
struct Scene {
    stand: InDirectory,
    item: ItemId,
}

impl Scene {
    fn new(seed: u64, stock: u32) -> Scene {
        Scene::of(seed, item(stock))
    }

    fn of(seed: u64, terms: NewItem) -> Scene {
        Scene::on(InDirectory::new(seed), terms)
    }

    fn on(stand: InDirectory, terms: NewItem) -> Scene {
        let item = stand.sell(terms);
        Scene { stand, item }
    }

    fn hold(&self, who: &str) -> HoldId {
        match self.stand.grab_item(self.item, &user(who), 1) {
            Outcome::Held { hold, .. } => hold,
            other => panic!("a hold was expected, not {other:?}"),
        }
    }

    fn pay_with(&self, gateway: &str, purpose: PaymentFor, who: &str) -> Outcome {
        let (gateway, payer) = (gateway.to_owned(), user(who));
        let terms = NewPayment { gateway, purpose, payer, pay_within_s: PAY_WITHIN_S, keep_s: KEEP_S };
        self.stand.ask(Command::CreatePayment(Box::new(terms)))
    }

    /// A payment that its gateway knows of.
    fn payment(&self, purpose: PaymentFor, who: &str) -> PaymentId {
        let Outcome::Payment(payment) = self.pay_with("alipay", purpose, who) else { panic!("it is to be paid") };
        assert_eq!(payment.state, PaymentState::Created);
        let created = PaymentTold::Created { number: Some("g1".to_owned()), pay_url: None };
        assert_eq!(self.tell(payment.id, created), PaymentState::Pending);
        payment.id
    }

    fn told(&self, payment: PaymentId, told: PaymentTold) -> Outcome {
        self.stand.ask(Command::TellPayment { payment, told: Box::new(told) })
    }

    fn tell(&self, payment: PaymentId, told: PaymentTold) -> PaymentState {
        match self.told(payment, told) {
            Outcome::Payment(payment) => payment.state,
            other => panic!("a payment was expected, not {other:?}"),
        }
    }

    fn paid(&self, payment: PaymentId) -> PaymentState {
        self.tell(payment, paid(10, "t1"))
    }

    fn read(&self, payment: PaymentId) -> Payment {
        wait(self.stand.payment(payment)).expect("a read").expect("a payment")
    }

    fn order(&self, payment: PaymentId) -> OrderView {
        let order = self.read(payment).order.expect("it has made an order");
        wait(self.stand.order(order)).expect("a read").expect("an order")
    }

    fn hold_state(&self, hold: HoldId) -> HoldState {
        wait(self.stand.hold(hold)).expect("a read").expect("a hold").state
    }

    fn money(&self) -> Audit {
        let audit = wait(Backend::audit(&*self.stand)).expect("a read");
        assert!(audit.balanced(), "{audit:?}");
        audit
    }

    /// A gift of alice's to bob that carol is asked to pay.
    fn gift(&self) -> GiftId {
        let terms = NewGift {
            payer: user("carol"),
            pay_within_s: 300,
            ..NewGift::new("app", user("alice"), user("bob"), self.item)
        };
        match self.stand.ask(Command::CreateGift(Box::new(terms))) {
            Outcome::Gift(gift) => gift.id,
            other => panic!("a gift was expected, not {other:?}"),
        }
    }

    fn read_gift(&self, gift: GiftId) -> Gift {
        wait(self.stand.gift(gift)).expect("a read").expect("a gift")
    }

    /// Whether opening, movements and closing of periods are each other's, of the directory as it is left.
    fn assert_books_add_up(&self) {
        let books = Books::open(self.stand.directory.path()).expect("the books open");
        let (begin, end) = (START, self.stand.world.clock.now().plus_ms(1));
        let middle = Timestamp::from_ms(begin.ms() + (end.ms() - begin.ms()) / 2);
        for (from, to) in [(begin, end), (begin, middle), (middle, end)] {
            let (mut came, mut gone) = (0, 0);
            let mut each = |movement: Movement| {
                let amount = movement.amount.minor();
                match movement.kind {
                    MovementKind::PaymentCame(..) => came += amount,
                    MovementKind::PaymentRefunded(..) => gone += amount,
                    _ => {}
                }
                Ok(())
            };
            let accounts = books.store().movements(Period { from, to }, &mut each).expect("they are read");
            assert_eq!(accounts.differences(), [] as [&str; 0]);
            if (from, to) == (begin, end) {
                let totals = books.store().totals();
                let wallets = i128::from(totals.deposited - came) - i128::from(totals.withdrawn - gone);
                assert_eq!(accounts.moved.external - i128::from(came) + i128::from(gone), wallets);
            }
        }
    }

    /// Closes it, audits what it leaves, and opens it again.
    fn look_and_reopen(&mut self) {
        self.stand.close();
        let mut findings = Vec::new();
        audit(self.stand.directory.path(), None, &mut |finding| findings.push(finding)).expect("it can be audited");
        assert_eq!(findings, [] as [&str; 0]);
        self.assert_books_add_up();
        self.stand.open();
        self.money();
    }
}

fn paid(minor: u64, number: &str) -> PaymentTold {
    PaymentTold::Paid { amount: fen(minor), number: number.to_owned() }
}

fn refunded() -> PaymentTold {
    PaymentTold::Refunded { number: Some("r1".to_owned()) }
}

fn failed() -> PaymentTold {
    PaymentTold::Failed { reason: "no such card".to_owned() }
}

#[test]
fn a_hold_paid_outside_is_an_order_and_no_wallet_is_touched() {
    let mut scene = Scene::new(80, 5);
    let hold = scene.hold("bob");
    let payment = scene.payment(PaymentFor::Hold(hold), "bob");
    // Frozen: nobody ends it and nobody pays it otherwise, however long its own time is over.
    scene.stand.world.advance_s(PAY_WITHIN_S + KEEP_S - 1);
    scene.stand.deposit(&user("bob"), 10);
    assert!(matches!(scene.stand.claim_hold(hold, &user("bob")), Outcome::Refused(Refusal::WrongState(_))));
    assert!(matches!(scene.stand.release_hold(hold, &user("bob")), Outcome::Refused(Refusal::WrongState(_))));
    assert_eq!(scene.stand.stock(scene.item).held, 1);
    assert_eq!(scene.paid(payment), PaymentState::Paid);
    assert_eq!(scene.stand.stock(scene.item).sold, 1);
    assert_eq!(scene.order(payment).hold, hold);
    let Audit { deposited, wallets, merchants, .. } = scene.money();
    assert_eq!((deposited, wallets, merchants), (20, 10, 10));
    scene.look_and_reopen();
    assert_eq!(scene.read(payment).state, PaymentState::Paid);
}

#[test]
fn what_is_asked_twice_is_one_payment_and_another_gateway_waits() {
    let scene = Scene::new(81, 5);
    let hold = scene.hold("bob");
    let payment = scene.payment(PaymentFor::Hold(hold), "bob");
    let Outcome::Payment(again) = scene.pay_with("alipay", PaymentFor::Hold(hold), "bob") else { panic!("the same") };
    assert_eq!((again.id, again.state), (payment, PaymentState::Pending));
    assert!(matches!(
        scene.pay_with("wechat", PaymentFor::Hold(hold), "bob"),
        Outcome::Refused(Refusal::WrongState(_))
    ));
    assert_eq!(scene.pay_with("alipay", PaymentFor::Hold(hold), "eve"), Outcome::Refused(Refusal::Forbidden));
    let none = PaymentFor::Hold(HoldId::from_bytes([7; 16]));
    assert_eq!(scene.pay_with("alipay", none, "bob"), Outcome::Refused(Refusal::NotFound));
    let none = PaymentId::from_bytes([7; 16]);
    assert_eq!(scene.told(none, paid(10, "t")), Outcome::Refused(Refusal::NotFound));
    // Once it has failed another one may be made, and the hold is due as it was.
    assert_eq!(scene.tell(payment, failed()), PaymentState::Failed);
    let view = wait(scene.stand.hold(hold)).unwrap().unwrap();
    assert_eq!(view.expires_at, START.plus_s(900));
    let Outcome::Payment(other) = scene.pay_with("wechat", PaymentFor::Hold(hold), "bob") else { panic!("another") };
    assert_eq!(scene.paid(other.id), PaymentState::Paid);
    // What comes for the first all the same has nothing to pay any more.
    assert_eq!(scene.paid(payment), PaymentState::Refunding);
    assert_eq!(scene.pay_with("alipay", PaymentFor::Hold(hold), "bob"), {
        Outcome::Ordered { order: scene.order(other.id).id, replayed: true }
    });
    assert_eq!(scene.money().refunding, 10);
}

#[test]
fn race_21_a_late_payment_is_held_again_if_there_is_stock_and_refunded_if_not() {
    // Whether somebody else has the unit by then, and whether the engine was started anew meanwhile.
    for (seed, taken, reopened) in [(82, false, false), (83, true, false), (84, false, true), (85, true, true)] {
        let mut scene = Scene::new(seed, 1);
        let hold = scene.hold("bob");
        let payment = scene.payment(PaymentFor::Hold(hold), "bob");
        assert_eq!(scene.tell(payment, PaymentTold::Unpaid), PaymentState::Pending, "its time is not over");
        scene.stand.world.advance_s(PAY_WITHIN_S);
        assert_eq!(scene.tell(payment, PaymentTold::Unpaid), PaymentState::Expired);
        scene.stand.world.advance_s(300);
        until("the hold is over", || scene.hold_state(hold) == HoldState::Expired);
        if taken {
            scene.hold("eve");
        }
        if reopened {
            scene.look_and_reopen();
        }
        let state = scene.paid(payment);
        let told = scene.read(payment);
        if taken {
            assert_eq!((state, told.order, scene.money().refunding), (PaymentState::Refunding, None, 10));
        } else {
            assert_eq!(state, PaymentState::Paid);
            let order = scene.order(payment);
            assert_ne!(order.hold, hold, "units are held again");
            assert_eq!((order.user, order.amount, scene.money().merchants), (user("bob"), fen(10), 10));
        }
        scene.look_and_reopen();
    }
}

#[test]
fn race_21_units_are_kept_while_nobody_knows_and_then_given_up() {
    let mut scene = Scene::new(86, 1);
    let hold = scene.hold("bob");
    let payment = scene.payment(PaymentFor::Hold(hold), "bob");
    scene.stand.world.advance_s(PAY_WITHIN_S + KEEP_S - 1);
    assert_eq!(scene.tell(payment, PaymentTold::GivenUp), PaymentState::Pending);
    assert_eq!(scene.stand.grab_item(scene.item, &user("eve"), 1), Outcome::SoldOut);
    scene.look_and_reopen();
    assert_eq!(scene.stand.grab_item(scene.item, &user("eve"), 1), Outcome::SoldOut);
    scene.stand.world.advance_s(1);
    assert!(matches!(scene.stand.grab_item(scene.item, &user("eve"), 1), Outcome::Held { .. }));
    assert_eq!(scene.hold_state(hold), HoldState::Expired);
    assert_eq!(scene.tell(payment, PaymentTold::GivenUp), PaymentState::Expired);
    assert_eq!(scene.paid(payment), PaymentState::Refunding);
    scene.look_and_reopen();
}

#[test]
fn race_22_a_payment_told_twice_has_one_effect() {
    let mut scene = Scene::new(87, 5);
    let hold = scene.hold("bob");
    let payment = scene.payment(PaymentFor::Hold(hold), "bob");
    let told = at_once(8, |_| scene.told(payment, paid(10, "t1")));
    let first = told[0].clone();
    assert!(matches!(&first, Outcome::Payment(payment) if payment.state == PaymentState::Paid));
    assert!(told.iter().all(|each| *each == first), "{told:?}");
    assert_eq!((scene.stand.stock(scene.item).sold, scene.money().deposited), (1, 10));
    assert_eq!(scene.read(payment).discrepancy, None);
    // Under another number it is not the same, and somebody has to look.
    assert_eq!(scene.tell(payment, paid(10, "t2")), PaymentState::Paid);
    assert_eq!(scene.read(payment).discrepancy, Some(Discrepancy::PaidTwice));
    assert_eq!(scene.money().deposited, 10);
    scene.look_and_reopen();
}

#[test]
fn race_23_a_payment_told_before_the_gateway_has_answered_is_known() {
    let mut scene = Scene::new(88, 5);
    let hold = scene.hold("bob");
    let Outcome::Payment(payment) = scene.pay_with("alipay", PaymentFor::Hold(hold), "bob") else {
        panic!("it is made")
    };
    assert_eq!(scene.paid(payment.id), PaymentState::Paid);
    let created = PaymentTold::Created { number: Some("g1".to_owned()), pay_url: None };
    assert_eq!(scene.tell(payment.id, created), PaymentState::Paid);
    assert_eq!(scene.read(payment.id).number.as_deref(), Some("t1"));
    assert_eq!(scene.stand.stock(scene.item).sold, 1);
    scene.look_and_reopen();
}

#[test]
fn race_24_paid_after_refunded_has_no_effect_and_is_in_the_reconciliation() {
    let mut scene = Scene::new(89, 1);
    let hold = scene.hold("bob");
    let payment = scene.payment(PaymentFor::Hold(hold), "bob");
    assert_eq!(scene.tell(payment, failed()), PaymentState::Failed);
    assert!(matches!(scene.stand.release_hold(hold, &user("bob")), Outcome::Released { .. }));
    assert_eq!(scene.paid(payment), PaymentState::Refunding);
    assert_eq!(scene.tell(payment, refunded()), PaymentState::Refunded);
    let before = scene.money();
    assert_eq!((before.deposited, before.withdrawn, before.refunding), (10, 10, 0));
    assert_eq!(scene.paid(payment), PaymentState::Refunded);
    assert_eq!(scene.money(), before);
    let filter = PaymentFilter { discrepant: true, ..PaymentFilter::default() };
    let list = |scene: &Scene| wait(scene.stand.payments(&filter, &Page { limit: 10, cursor: None })).unwrap().rows;
    let listed = list(&scene);
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].id, listed[0].discrepancy), (payment, Some(Discrepancy::PaidAfterRefund)));
    scene.look_and_reopen();
    assert_eq!(list(&scene), listed);
}

#[test]
fn race_25_a_refund_stays_until_the_gateway_says_that_it_is_done_and_is_done_once() {
    let mut scene = Scene::new(90, 5);
    let hold = scene.hold("bob");
    let payment = scene.payment(PaymentFor::Hold(hold), "bob");
    assert!(matches!(scene.told(payment, refunded()), Outcome::Refused(Refusal::WrongState(_))));
    assert_eq!(scene.paid(payment), PaymentState::Paid);
    let order = scene.order(payment).id;
    let step = |step| scene.stand.ask(Command::StepOrder { order, step: Box::new(step) });
    step(OrderStep::Ship { carrier: "sf".to_owned(), tracking: "1".to_owned() });
    step(OrderStep::Deliver);
    step(OrderStep::Return { user: user("bob"), reason: "withered".to_owned() });
    let Outcome::Order(told) = step(OrderStep::AcceptReturn { restock: true }) else { panic!("it goes back") };
    assert_eq!(told.view().progress.state, OrderState::Returned);
    // It goes back where it came from, and stays on its way for as long as nobody knows.
    assert_eq!(scene.stand.available(&user("bob")), 0);
    scene.stand.world.advance_s(40 * 86_400);
    scene.look_and_reopen();
    let read = scene.read(payment);
    assert_eq!((read.state, scene.money().refunding), (PaymentState::Refunding, 10));
    let told = at_once(4, |_| scene.tell(payment, refunded()));
    assert_eq!(told, [PaymentState::Refunded; 4]);
    let Audit { deposited, withdrawn, refunding, merchants, .. } = scene.money();
    assert_eq!((deposited, withdrawn, refunding, merchants), (10, 10, 0, 0));
    scene.look_and_reopen();
}

#[test]
fn another_amount_pays_nothing_and_goes_back() {
    let mut scene = Scene::new(91, 5);
    let hold = scene.hold("bob");
    let payment = scene.payment(PaymentFor::Hold(hold), "bob");
    assert_eq!(scene.tell(payment, paid(9, "t1")), PaymentState::Refunding);
    let read = scene.read(payment);
    assert_eq!((read.taken, read.discrepancy, read.order), (fen(9), Some(Discrepancy::OtherAmount), None));
    // The hold is bob's to pay otherwise, until its own time is over.
    assert_eq!(scene.hold_state(hold), HoldState::Held);
    scene.stand.deposit(&user("bob"), 10);
    assert!(matches!(scene.stand.claim_hold(hold, &user("bob")), Outcome::Ordered { .. }));
    assert_eq!(scene.tell(payment, refunded()), PaymentState::Refunded);
    let Audit { deposited, withdrawn, merchants, .. } = scene.money();
    assert_eq!((deposited, withdrawn, merchants), (19, 9, 10));
    scene.look_and_reopen();
}

#[test]
fn a_gift_is_paid_outside_and_its_money_goes_back_there() {
    for (seed, reopened) in [(92, false), (93, true)] {
        let mut scene = Scene::new(seed, 5);
        let gift = scene.gift();
        let payment = scene.payment(PaymentFor::Gift(gift), "carol");
        // It is frozen past its own time.
        scene.stand.world.advance_s(PAY_WITHIN_S + KEEP_S - 1);
        let pay = || Command::StepGift { gift, step: Box::new(GiftStep::Pay { payer: user("carol") }) };
        let once = OnceKey::idempotency("app", "pay", "1");
        let refused = scene.stand.ask_under(pay(), Some(once)).outcome;
        assert!(matches!(refused, Outcome::Refused(Refusal::WrongState(_))), "{refused:?}");
        if reopened {
            scene.look_and_reopen();
        }
        assert_eq!(scene.paid(payment), PaymentState::Paid);
        assert_eq!((scene.read_gift(gift).state, scene.money().escrowed), (GiftState::Offered, 10));
        if reopened {
            scene.look_and_reopen();
        }
        // Nobody accepts it in three days.
        scene.stand.world.advance_s(3 * 86_400);
        until("the gift is over", || scene.read_gift(gift).state == GiftState::Expired);
        let Audit { wallets, escrowed, refunding, .. } = scene.money();
        assert_eq!((wallets, escrowed, refunding), (0, 0, 10));
        assert_eq!(scene.read(payment).state, PaymentState::Refunding);
        assert_eq!(scene.tell(payment, refunded()), PaymentState::Refunded);
        assert_eq!(scene.money().withdrawn, 10);
        scene.look_and_reopen();
    }
}

#[test]
fn a_gift_that_is_over_takes_no_money_and_one_that_is_shipped_keeps_it() {
    let mut scene = Scene::new(94, 5);
    let step = |scene: &Scene, gift, step| scene.stand.ask(Command::StepGift { gift, step: Box::new(step) });
    let gift = scene.gift();
    let payment = scene.payment(PaymentFor::Gift(gift), "carol");
    assert!(matches!(step(&scene, gift, GiftStep::Cancel { user: user("alice") }), Outcome::Gift(_)));
    assert_eq!(scene.paid(payment), PaymentState::Refunding);
    let gift = scene.gift();
    let payment = scene.payment(PaymentFor::Gift(gift), "carol");
    assert_eq!(scene.tell(payment, failed()), PaymentState::Failed);
    assert_eq!(scene.read_gift(gift).pay_by, Some(START.plus_s(300)));
    assert_eq!(scene.paid(payment), PaymentState::Paid, "the gift can still be paid");
    step(&scene, gift, GiftStep::Accept { user: user("bob"), token: None });
    step(&scene, gift, GiftStep::Ship { carrier: "sf".to_owned(), tracking: "1".to_owned() });
    let Audit { deposited, refunding, merchants, .. } = scene.money();
    assert_eq!((deposited, refunding, merchants), (20, 10, 10));
    scene.look_and_reopen();
    assert_eq!(scene.read(payment).state, PaymentState::Paid);
}

/// What is known of a payment from what was told of it alone.
#[derive(Clone, Copy, Default)]
struct Known {
    /// What was taken first.
    taken: Option<u64>,
    went_back: bool,
}

/// Callbacks, times and ends in any order, and after each step every fen is where what was told says.
fn random_story(seed: u64) {
    let mut random = Random(seed);
    let stand = InDirectory::with(seed, |options| options.threaded = false);
    let limit = random.maybe(2, |_| 2);
    let mut scene = Scene::on(stand, NewItem { per_user_limit: limit, hold_ttl_s: 300, ..item(4) });
    let mut payments: Vec<(PaymentId, Known)> = Vec::new();
    for _ in 0..70 {
        let any = (!payments.is_empty()).then(|| random.below(payments.len() as u64) as usize);
        let choice = random.below(16);
        match (choice, any) {
            (0..=2, _) | (_, None) => {
                let who = random.pick(&["bob", "eve", "dan"]);
                if let Outcome::Held { hold, .. } = scene.stand.grab_item(scene.item, &user(who), 1) {
                    payments.push((scene.payment(PaymentFor::Hold(hold), who), Known::default()));
                }
            }
            (3, _) => {
                let terms =
                    NewGift { payer: user("carol"), ..NewGift::new("app", user("alice"), user("bob"), scene.item) };
                if let Outcome::Gift(gift) = scene.stand.ask(Command::CreateGift(Box::new(terms))) {
                    payments.push((scene.payment(PaymentFor::Gift(gift.id), "carol"), Known::default()));
                }
            }
            (4..=7, Some(at)) => {
                let (id, known) = &mut payments[at];
                let amount = if random.once_in(6) { 9 } else { 10 };
                scene.tell(*id, paid(amount, random.pick(&["t1", "t1", "t2"])));
                known.taken.get_or_insert(amount);
            }
            (8, Some(at)) => {
                let told = random.pick(&[failed(), PaymentTold::Unpaid, PaymentTold::GivenUp]);
                scene.tell(payments[at].0, told);
            }
            (9 | 10, Some(at)) => {
                let (id, known) = &mut payments[at];
                let state = scene.read(*id).state;
                let told = scene.told(*id, refunded());
                if state == PaymentState::Refunding {
                    known.went_back = true;
                } else if state != PaymentState::Refunded {
                    assert!(matches!(told, Outcome::Refused(Refusal::WrongState(_))), "{told:?}");
                }
            }
            (11 | 12, Some(at)) => lead_on(&scene, payments[at].0, &mut random),
            (13 | 14, _) => {
                scene.stand.world.advance_s(random.pick(&[1, 250, PAY_WITHIN_S, KEEP_S]));
                scene.stand.tick();
            }
            (_, Some(_)) => {
                if random.once_in(6) {
                    scene.look_and_reopen();
                }
            }
        }
        check_books(&scene, &payments);
    }
    scene.look_and_reopen();
    check_books(&scene, &payments);
}

/// What somebody does about what a payment has paid.
fn lead_on(scene: &Scene, payment: PaymentId, random: &mut Random) {
    let payment = scene.read(payment);
    match (payment.purpose, payment.order) {
        (PaymentFor::Hold(hold), None) => _ = scene.stand.release_hold(hold, &payment.payer),
        (PaymentFor::Hold(_), Some(order)) => {
            for step in [
                OrderStep::Ship { carrier: "sf".to_owned(), tracking: "1".to_owned() },
                OrderStep::Deliver,
                OrderStep::Return { user: payment.payer, reason: "withered".to_owned() },
                OrderStep::AcceptReturn { restock: random.once_in(2) },
            ] {
                _ = scene.stand.ask(Command::StepOrder { order, step: Box::new(step) });
            }
        }
        (PaymentFor::Gift(gift), _) => {
            let step = random.pick(&[
                GiftStep::Cancel { user: user("alice") },
                GiftStep::Decline { user: user("bob"), reason: None },
                GiftStep::Accept { user: user("bob"), token: None },
                GiftStep::Fail { reason: "none left".to_owned() },
                GiftStep::Ship { carrier: "sf".to_owned(), tracking: "1".to_owned() },
            ]);
            _ = scene.stand.ask(Command::StepGift { gift, step: Box::new(step) });
        }
    }
}

fn check_books(scene: &Scene, payments: &[(PaymentId, Known)]) {
    let mut sums = Audit::default();
    let mut at_work = 0;
    for (id, known) in payments {
        let payment = scene.read(*id);
        assert_eq!(payment.state.has_come(), known.taken.is_some(), "{payment:?}");
        assert_eq!(payment.taken, fen(known.taken.unwrap_or(0)), "{payment:?}");
        assert_eq!(payment.state == PaymentState::Refunded, known.went_back, "{payment:?}");
        let taken = payment.taken.minor();
        sums.deposited += taken;
        match payment.state {
            PaymentState::Refunding => sums.refunding += taken,
            PaymentState::Refunded => sums.withdrawn += taken,
            PaymentState::Paid => at_work += taken,
            _ => {}
        }
        let is_due = scene.stand.now() >= payment.kept_until;
        if let (PaymentFor::Hold(hold), true, false) = (payment.purpose, payment.state.is_open(), is_due) {
            assert_eq!(scene.hold_state(hold), HoldState::Held, "what is being paid is kept: {payment:?}");
        }
    }
    let money = scene.money();
    let places = [money.deposited, money.withdrawn, money.refunding, money.merchants + money.escrowed, money.wallets];
    assert_eq!(places, [sums.deposited, sums.withdrawn, sums.refunding, at_work, 0]);
}

#[test]
fn random_stories_keep_every_fen_where_what_was_told_says() {
    for seed in 0..3 {
        random_story(seed);
    }
}

#[cfg(feature = "mutants")]
#[test]
fn random_stories_find_the_bugs_that_are_planted() {
    use hongbao_engine::mutants::{Mutant, plant};
    for mutant in Mutant::OF_PAYMENTS {
        plant(Some(mutant));
        let is_found = (0..8).any(|seed| std::panic::catch_unwind(|| random_story(seed)).is_err());
        plant(None);
        assert!(is_found, "{mutant:?} was not found");
    }
}
