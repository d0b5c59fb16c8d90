//! Gifts and holds on the units of one item: many at once, and many due at once.

mod stand;

use hongbao_engine::backend::{Backend, OnceKey, Page};
use hongbao_engine::command::*;
use hongbao_engine::gift::{Gift, GiftRole, GiftState, GiftStep, NewGift};
use hongbao_engine::types::*;
use parking_lot::Mutex;
use stand::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const THREADS: usize = 8;

/// What a gift of `giver`'s is told, for `recipient`, or for whoever comes first if that is nobody.
fn give(stand: &InDirectory, item: ItemId, [giver, payer]: [&UserId; 2], recipient: Option<&UserId>) -> Outcome {
    let terms = NewGift {
        recipient: recipient.cloned(),
        payer: payer.clone(),
        pay_within_s: 10,
        accept_within_s: 20,
        ship_within_s: 30,
        ..NewGift::new("app", giver.clone(), giver.clone(), item)
    };
    stand.ask(Command::CreateGift(Box::new(terms)))
}

fn step(stand: &InDirectory, gift: GiftId, step: GiftStep) -> Outcome {
    stand.ask(Command::StepGift { gift, step: Box::new(step) })
}

/// So many gifts of different givers, whom somebody else is asked to pay for.
fn unpaid(stand: &InDirectory, item: ItemId, gifts: usize) {
    at_once(THREADS, |n| {
        for nth in (n..gifts).step_by(THREADS) {
            let made = give(stand, item, [&nth_user(nth), &user("payer")], None);
            assert!(matches!(made, Outcome::Gift(_)), "told {made:?}");
        }
    });
}

#[test]
fn a_no_ends_no_gifts_that_would_not_make_it_a_yes() {
    const DUE: usize = 200;
    let stand = InDirectory::with(70, |options| options.threaded = false);
    let item = stand.sell(NewItem { per_user_limit: Some(300), hold_ttl_s: 3600, ..item(300) });
    unpaid(&stand, item, DUE);
    let bob = user("bob");
    assert!(matches!(stand.grab_item(item, &bob, 100), Outcome::Held { .. }));
    stand.world.advance_s(10);
    // What is told, and how many records it takes.
    let grab = |user: &UserId, quantity| {
        let before = stand.stats().staged_lsn.0;
        let outcome = stand.grab_item(item, user, quantity);
        (outcome, stand.stats().staged_lsn.0 - before)
    };
    assert_eq!(grab(&bob, 201), (Outcome::LimitReached, 0), "no other's gift counts against the limit");
    assert_eq!(grab(&user("carol"), 201), (Outcome::SoldOut, 0), "all that are due are not enough");
    assert!(matches!(grab(&user("carol"), 150), (Outcome::Held { .. }, 151)), "as many end as are needed");
    // One's own do count, until they are due.
    let own = nth_user(DUE - 1);
    assert_eq!(stand.stock(item), Stock { total: 300, free: 0, held: 300, sold: 0 });
    assert!(matches!(grab(&own, 1), (Outcome::Held { .. }, 2)));
    stand.assert_balanced();
}

#[test]
fn due_gifts_never_count_against_their_givers_limit() {
    let stand = InDirectory::with(71, |options| options.threaded = false);
    let item = stand.sell(NewItem { per_user_limit: Some(2), ..item(100) });
    let [alice, payer] = [user("alice"), user("payer")];
    unpaid(&stand, item, 20);
    let made = || give(&stand, item, [&alice, &payer], None);
    assert!(matches!((made(), made()), (Outcome::Gift(_), Outcome::Gift(_))));
    assert_eq!(made(), Outcome::LimitReached);
    assert_eq!(stand.grab_item(item, &alice, 1), Outcome::LimitReached);
    stand.world.advance_s(10);
    let before = stand.stats().staged_lsn.0;
    assert!(matches!(stand.grab_item(item, &alice, 1), Outcome::Held { .. }));
    assert_eq!(stand.stats().staged_lsn.0 - before, 2, "one of hers has ended, and no other");
    assert!(matches!(made(), Outcome::Gift(_)));
    assert_eq!(stand.stock(item).held, 22);
    assert_eq!(made(), Outcome::LimitReached);
}

#[test]
fn a_gift_takes_no_more_metadata_than_a_record_has_room_for() {
    let stand = InDirectory::new(74);
    let item = stand.sell(item(1));
    let make = |bytes: usize| {
        let metadata = format!(r#"{{"m":"{}"}}"#, "m".repeat(bytes - 8));
        let (alice, reference) = (user("alice"), Some(reference("app", "r")));
        let payer = user("carol");
        let terms = NewGift { metadata, reference, payer, ..NewGift::new("app", alice, user("bob"), item) };
        let once = OnceKey::idempotency("app", "gift", "k");
        stand.ask_under(Command::CreateGift(Box::new(terms)), Some(once)).outcome
    };
    for bytes in [8193, 1 << 20] {
        let refused = make(bytes);
        let is_told = matches!(&refused, Outcome::Refused(Refusal::Invalid { field, .. }) if field == "metadata");
        assert!(is_told, "told {refused:?}");
    }
    assert!(matches!(make(8192), Outcome::Gift(_)));
}

#[test]
fn many_gifts_due_at_once_make_no_false_sold_out() {
    const GIFTS: usize = 2000;
    for threaded in [false, true] {
        let stand = InDirectory::with(72, |options| options.threaded = threaded);
        let item = stand.sell(item(GIFTS as u32));
        unpaid(&stand, item, GIFTS);
        assert_eq!(stand.grab_item(item, &user("late"), 1), Outcome::SoldOut);
        stand.world.advance_s(10);
        // Some grab, some give, while those that are due are ended or not.
        at_once(THREADS, |n| {
            for k in 0..50 {
                let me = user(&format!("new{n}-{k}"));
                let outcome = match k % 2 {
                    0 => stand.grab_item(item, &me, 1 + k % 4),
                    _ => give(&stand, item, [&me, &user("payer")], None),
                };
                assert!(matches!(outcome, Outcome::Held { .. } | Outcome::Gift(_)), "told {outcome:?}");
            }
        });
        if !threaded {
            while stand.tick() {}
        }
        let per_thread: u32 = (0..50).map(|k| if k % 2 == 0 { 1 + k % 4 } else { 1 }).sum();
        until("every due gift has ended", || stand.stock(item).held == THREADS as u32 * per_thread);
    }
}

/// Everything about a few users' gifts and holds of one item at once, while deadlines pass and
/// what has ended leaves memory.
#[test]
fn many_threads_give_and_grab_one_item() {
    const USERS: usize = 12;
    const FORTUNE: u64 = 100_000;
    for (per_user_limit, stock) in [(None, 40), (Some(3), 30), (Some(1), 1000)] {
        let stand = InDirectory::with(73, |options| options.projector.persist_after = Duration::from_millis(5));
        let item = stand.sell(NewItem { per_user_limit, hold_ttl_s: 15, ..item(stock) });
        (0..USERS).for_each(|k| stand.deposit(&nth_user(k), FORTUNE));
        let known: Mutex<Vec<Gift>> = Mutex::default();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    stand.assert_balanced();
                    let Stock { total, free, held, sold } = stand.stock(item);
                    assert_eq!(free + held + sold, total);
                    stand.world.advance_s(1);
                    stand.tick();
                }
            });
            at_once(THREADS, |n| {
                let mut roll = n;
                let mut below = |end: usize| {
                    roll = roll.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (roll >> 33) % end
                };
                for nth in 0..150 {
                    let (me, other) = (nth_user(below(USERS)), nth_user(below(USERS)));
                    let gift = {
                        let known = known.lock();
                        (!known.is_empty()).then(|| known[known.len() - 1 - below(known.len().min(8))].clone())
                    };
                    let told = match (below(8), gift) {
                        (0..2, _) | (_, None) => {
                            let for_anybody = below(3) == 0;
                            give(
                                &stand,
                                item,
                                [&me, if nth % 2 == 0 { &me } else { &other }],
                                (!for_anybody).then_some(&other),
                            )
                        }
                        (2, _) => {
                            if let Outcome::Held { hold, .. } = stand.grab_item(item, &me, 1) {
                                if nth % 2 == 0 {
                                    stand.claim_hold(hold, &me)
                                } else {
                                    stand.release_hold(hold, &me)
                                };
                            }
                            continue;
                        }
                        (what, Some(gift)) => {
                            let by = gift.recipient.clone().unwrap_or(me);
                            let done = match (gift.state, what) {
                                (GiftState::AwaitingPayment, 3..7) => GiftStep::Pay { payer: gift.payer },
                                (GiftState::Offered, 3..6) => GiftStep::Accept { user: by, token: gift.token },
                                (GiftState::Offered, 6) => GiftStep::Decline { user: by, reason: None },
                                (GiftState::Accepted, 3..6) => {
                                    GiftStep::Ship { carrier: "sf".to_owned(), tracking: nth.to_string() }
                                }
                                (GiftState::Accepted, 6) => GiftStep::Fail { reason: "none left".to_owned() },
                                (GiftState::Shipped, 3..6) => GiftStep::Deliver,
                                (GiftState::AwaitingPayment | GiftState::Offered, _) => {
                                    GiftStep::Cancel { user: gift.giver }
                                }
                                _ => GiftStep::Thank { user: by, note: nth.to_string() },
                            };
                            step(&stand, gift.id, done)
                        }
                    };
                    if let Outcome::Gift(gift) = told {
                        let mut known = known.lock();
                        match known.iter_mut().find(|known| known.id == gift.id) {
                            Some(known) if known.state <= gift.state => *known = *gift,
                            Some(_) => {}
                            None => known.push(*gift),
                        }
                    }
                }
            });
            is_over.store(true, Ordering::SeqCst);
        });
        stand.world.advance_s(60);
        until("nothing is held any more", || stand.stock(item).held == 0);
        let all = || {
            let page = Page { limit: 1000, cursor: None };
            let of = |k| wait(stand.gifts(&nth_user(k), GiftRole::Given, &page)).expect("a read").rows;
            (0..USERS).flat_map(of).collect::<Vec<_>>()
        };
        until("every gift has ended or is shipped", || {
            all().iter().all(|gift| gift.state.has_ended() || gift.state == GiftState::Shipped)
        });
        let gifts = all();
        assert_eq!(gifts.len(), known.lock().len());
        let is_sold = |gift: &&Gift| matches!(gift.state, GiftState::Shipped | GiftState::Delivered);
        let given: u64 = gifts.iter().filter(is_sold).map(|gift| gift.amount.minor()).sum();
        assert!(given > 0, "some were shipped");
        let wallets: u64 = (0..USERS).map(|k| stand.available(&nth_user(k))).sum();
        let audit = wait(Backend::audit(stand.engine())).expect("a read");
        assert_eq!((audit.escrowed, audit.merchants), (0, u64::from(stand.stock(item).sold) * 10));
        assert_eq!(wallets + audit.merchants, USERS as u64 * FORTUNE);
    }
}
