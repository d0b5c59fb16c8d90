//! Gifts between engines in front of one deployment: races by name, and payments
//! that nobody has ended.

use crate::races::Two;
use crate::random::Random;
use crate::stand::{fen, item, reference, user};
use hongbao_engine::EngineError;
use hongbao_engine::backend::{Backend, OnceKey, Page};
use hongbao_engine::command::*;
use hongbao_engine::gift::{Gift, GiftRole, GiftState, GiftStep, NewGift};
use hongbao_engine::redis::{Fuse, RedisBackend, RedisBackendOptions};
use hongbao_engine::types::*;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

const ALL: Page = Page { limit: 1000, cursor: None };

pub(crate) fn terms(giver: &str, item: ItemId) -> NewGift {
    NewGift::new("app", user(giver), user("bob"), item)
}

fn give(terms: NewGift) -> Command {
    Command::CreateGift(Box::new(terms))
}

pub(crate) fn step(gift: GiftId, step: GiftStep) -> Command {
    Command::StepGift { gift, step: Box::new(step) }
}

fn accept() -> GiftStep {
    GiftStep::Accept { user: user("bob"), token: None }
}

impl Two {
    pub(crate) fn given(&self, terms: NewGift) -> Gift {
        match self.ask(give(terms)) {
            Outcome::Gift(gift) => *gift,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn gift(&self, id: GiftId) -> Gift {
        self.deployment.drive(self.engines[1].gift(id)).expect("a read").expect("a gift")
    }

    pub(crate) fn assert_sound(&self) {
        self.assert_clean();
        let audit = self.deployment.drive(self.engines[1].audit_rows(&mut |_| ())).expect("it reads");
        assert_eq!(audit.findings, []);
    }

    /// A command whose engine ends after so many calls, the answer of the last being lost.
    pub(crate) fn lost(&self, command: Command, once: Option<OnceKey>, calls: i64) {
        let fuse = Some(Arc::new(Fuse { calls_left: AtomicI64::new(calls), loses_answer: true }));
        let options = RedisBackendOptions { fuse, ..self.deployment.options.clone() };
        let ended = self.deployment.drive(RedisBackend::open(options)).expect("it opens");
        let lost = self.deployment.drive(ended.execute(command, once));
        assert!(matches!(lost, Err(EngineError::Unconfirmed(_))), "after {calls} calls: {lost:?}");
    }
}

#[test]
fn race_16_a_gift_is_taken_back_and_accepted_at_once() {
    let Some(two) = Two::new(60) else { return };
    let id = two.sell(item(100));
    two.deposit("alice", 1000);
    let mut accepted = 0;
    for _ in 0..20 {
        let gift = two.given(terms("alice", id)).id;
        let cancel = step(gift, GiftStep::Cancel { user: user("alice") });
        let outcomes = two.all_at_once(vec![step(gift, accept()), cancel.clone(), step(gift, accept()), cancel]);
        let in_state = |state| outcomes.iter().filter(|o| matches!(o, Outcome::Gift(g) if g.state == state)).count();
        let (taken, back) = (in_state(GiftState::Accepted), in_state(GiftState::Cancelled));
        assert!((taken, back) == (2, 0) || (taken, back) == (0, 2), "{outcomes:?}");
        accepted += u32::from(taken > 0);
    }
    assert_eq!(two.stock(id), Stock { total: 100, free: 100 - accepted, held: 0, sold: accepted });
    assert_eq!(two.available("alice"), 1000 - 10 * u64::from(accepted));
    two.assert_sound();
}

#[test]
fn race_17_a_gift_is_accepted_while_sweepers_end_it() {
    let Some(two) = Two::new(61) else { return };
    let id = two.sell(item(100));
    two.deposit("alice", 1000);
    for early in [true, false] {
        let gifts: Vec<_> =
            (0..10).map(|_| two.given(NewGift { accept_within_s: 10, ..terms("alice", id) }).id).collect();
        // The one clock of both; a command would move it once for each.
        let clock = two.deployment.options.clock.as_ref().expect("time is moved by hand");
        clock.advance(if early { 9_999 } else { 10_000 });
        let outcomes = two.deployment.drive(async {
            let sweeps = two.engines.clone().map(|engine| tokio::spawn(async move { engine.sweep().await }));
            let accepts: Vec<_> = gifts
                .iter()
                .enumerate()
                .map(|(nth, gift)| {
                    let (engine, command) = (Arc::clone(&two.engines[nth % 2]), step(*gift, accept()));
                    tokio::spawn(async move { engine.execute(command, None).await })
                })
                .collect();
            let mut outcomes = Vec::new();
            for told in accepts {
                outcomes.push(told.await.expect("no panic").expect("it is answered").outcome);
            }
            for swept in sweeps {
                swept.await.expect("no panic").expect("it sweeps");
            }
            outcomes
        });
        for (gift, told) in gifts.into_iter().zip(outcomes) {
            let is_accepted = matches!(&told, Outcome::Gift(gift) if gift.state == GiftState::Accepted);
            assert_eq!(is_accepted, early, "{told:?}");
            two.deployment.settle(&two.engines[0]);
            let expected = if early { GiftState::Accepted } else { GiftState::Expired };
            assert_eq!(two.gift(gift).state, expected);
        }
    }
    assert_eq!(two.available("alice"), 1000 - 100, "what nobody accepted came back once");
    two.assert_sound();
}

/// Under one key one gift is made and paid, whoever asks how often; also if one of them ended in the middle.
#[test]
fn one_key_makes_and_pays_one_gift() {
    let Some(two) = Two::new(62) else { return };
    let id = two.sell(item(100));
    two.deposit("alice", 1000);
    for calls in 1..9 {
        let name = format!("k{calls}");
        let once = Some(OnceKey::idempotency("app", "gifts", &name));
        let own = Some(reference("app", &name));
        let command = give(NewGift { reference: own, ..terms("alice", id) });
        two.lost(command.clone(), once, calls);
        let told = two.at_once(vec![(command, once); 4]);
        let ids: Vec<_> = told
            .into_iter()
            .map(|reply| match reply.expect("it is answered").outcome {
                Outcome::Gift(gift) => gift.id,
                other => panic!("after {calls} calls: {other:?}"),
            })
            .collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "after {calls} calls: {ids:?}");
        assert_eq!(two.available("alice"), 1000 - 10 * calls as u64, "after {calls} calls");
        assert_eq!(two.stock(id).held, calls as u32, "after {calls} calls");
    }
    two.assert_sound();
}

/// The engine that took a payment is gone. Whoever wants the unit has the payment ended first, and is told the truth.
#[test]
fn a_gift_left_while_it_is_paid_is_ended_by_who_needs_the_unit() {
    let Some(two) = Two::new(63) else { return };
    // It looks, sets the unit aside, takes the money, and tells the gift.
    for (funds, calls) in [(100, 2), (100, 3), (100, 4), (3, 2), (3, 3), (3, 4)] {
        let id = two.sell(item(1));
        let name = format!("alice{funds}.{calls}");
        two.deposit(&name, funds);
        two.lost(give(terms(&name, id)), None, calls);
        let wanted = two.ask(Command::GrabItem { item: id, user: user("carol"), quantity: 1 });
        // What a told gift causes may still wait.
        two.deployment.settle(&two.engines[0]);
        let given = two.deployment.drive(two.engines[0].gifts(&user(&name), GiftRole::Given, &ALL));
        let given = given.expect("a read").rows;
        if funds < 10 {
            assert!(matches!(wanted, Outcome::Held { .. }), "{calls}: {wanted:?}");
            assert_eq!((given.len(), two.available(&name)), (0, 3), "{calls}");
        } else {
            assert_eq!(wanted, Outcome::SoldOut, "{calls}");
            assert_eq!((given.len(), two.available(&name)), (1, funds - 10), "{calls}");
        }
        two.assert_sound();
    }
}

/// Who was asked pays just in time, and the engine ends: the gift is paid all the same, or not, for good.
#[test]
fn a_payment_in_time_counts_however_late_it_is_known() {
    let Some(two) = Two::new(64) else { return };
    for (funds, calls) in [(100, 2), (100, 3), (3, 2), (3, 3)] {
        let id = two.sell(item(1));
        let name = format!("carol{funds}.{calls}");
        two.deposit(&name, funds);
        let gift = two.given(NewGift { payer: user(&name), pay_within_s: 10, ..terms("alice", id) }).id;
        let pay = step(gift, GiftStep::Pay { payer: user(&name) });
        two.lost(pay.clone(), None, calls);
        two.ask(Command::AdvanceClock { by_s: 10 });
        let told = two.ask(pay);
        if funds < 10 {
            assert!(matches!(told, Outcome::Refused(Refusal::WrongState(_))), "{calls}: {told:?}");
        } else {
            assert!(matches!(&told, Outcome::Gift(gift) if gift.state == GiftState::Offered), "{calls}: {told:?}");
        }
        two.deployment.settle(&two.engines[0]);
        let expected = if funds < 10 { GiftState::Expired } else { GiftState::Offered };
        assert_eq!(two.gift(gift).state, expected, "{calls}");
        two.assert_sound();
    }
}

/// Nobody knows any more whether somebody else has found it unpaid.
#[test]
fn a_gift_that_nobody_paid_for_long_is_not_made() {
    let Some(two) = Two::new(65) else { return };
    let id = two.sell(item(1));
    two.deposit("alice", 100);
    two.lost(give(terms("alice", id)), None, 2);
    assert_eq!(two.stock(id).held, 1, "its unit is set aside");
    two.ask(Command::AdvanceClock { by_s: 1800 });
    two.assert_sound();
    assert_eq!(two.available("alice"), 100);
    assert_eq!(two.stock(id), Stock { total: 1, free: 1, held: 0, sold: 0 });
    two.given(terms("alice", id));
    two.assert_sound();
}

#[test]
fn due_gifts_are_never_in_the_way() {
    let Some(two) = Two::new(66) else { return };
    const GIFTS: u32 = 600;
    let id = two.sell(NewItem { per_user_limit: None, ..item(GIFTS) });
    two.deposit("alice", 10 * u64::from(GIFTS));
    let short = NewGift { accept_within_s: 10, pay_within_s: 10, ..terms("alice", id) };
    let asked = NewGift { payer: user("carol"), ..short.clone() };
    let all = (0..GIFTS).map(|nth| give(if nth % 2 == 0 { short.clone() } else { asked.clone() })).collect();
    assert!(two.all_at_once(all).iter().all(|told| matches!(told, Outcome::Gift(_))));
    let grab = |quantity| Command::GrabItem { item: id, user: user("dave"), quantity };
    assert_eq!(two.ask(grab(1)), Outcome::SoldOut);
    two.ask(Command::AdvanceClock { by_s: 10 });
    assert_eq!(two.ask(grab(GIFTS + 1)), Outcome::SoldOut);
    assert_eq!(two.stock(id).held, GIFTS, "a no that it is either way ends none");
    let both = two.all_at_once(vec![grab(3), grab(4), give(terms("alice", id))]);
    assert!(both.iter().all(|told| matches!(told, Outcome::Held { .. } | Outcome::Gift(_))), "{both:?}");
    two.assert_sound();
    assert_eq!(two.stock(id), Stock { total: GIFTS, free: GIFTS - 8, held: 8, sold: 0 });
    assert_eq!(two.available("alice"), 10 * u64::from(GIFTS - 1));
}

/// Everything about a few users' gifts and holds of one item at once, while deadlines pass.
#[test]
fn nothing_is_lost_while_everybody_gives() {
    let Some(two) = Two::new(67) else { return };
    let id = two.sell(NewItem { per_user_limit: Some(3), hold_ttl_s: 5, ..item(8) });
    let names = ["alice", "bob", "carol", "dave"];
    names.iter().for_each(|name| two.deposit(name, 300));
    let mut random = Random(7);
    let mut known: Vec<Gift> = Vec::new();
    for _ in 0..40 {
        let commands = (0..12).map(|_| {
            let who = random.pick(&names);
            match (random.below(8), known.is_empty()) {
                (0, _) => Command::GrabItem { item: id, user: user(who), quantity: 1 },
                (1..=2, _) | (_, true) => give(NewGift {
                    payer: user(random.pick(&names)),
                    pay_within_s: 4,
                    accept_within_s: 4,
                    ship_within_s: 4,
                    ..terms(who, id)
                }),
                _ => {
                    let gift = random.pick(&known);
                    step(
                        gift.id,
                        match random.below(7) {
                            0..=1 => GiftStep::Pay { payer: gift.payer },
                            2..=3 => accept(),
                            4 => GiftStep::Cancel { user: gift.giver },
                            5 => GiftStep::Ship { carrier: "sf".to_owned(), tracking: "SF1".to_owned() },
                            _ => GiftStep::Fail { reason: "frost".to_owned() },
                        },
                    )
                }
            }
        });
        for told in two.all_at_once(commands.collect()) {
            if let Outcome::Gift(gift) = told {
                known.push(*gift);
            }
        }
        let Stock { total, held, sold, .. } = two.stock(id);
        assert!(held + sold <= total);
        two.ask(Command::AdvanceClock { by_s: 1 });
        if random.once_in(4) {
            known.clear();
            two.assert_sound();
        }
    }
    two.ask(Command::AdvanceClock { by_s: 100 });
    two.assert_sound();
    assert_eq!(two.stock(id).held, 0);
    assert_eq!(
        fen(0),
        two.deployment.drive(Backend::audit(&*two.engines[0])).map(|audit| fen(audit.escrowed)).expect("a read")
    );
}
