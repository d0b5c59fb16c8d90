//! Gift envelopes under many hands: the last unit, the deadline, what is taken back, and restarts.

mod stand;

use hongbao_engine::backend::Backend;
use hongbao_engine::command::*;
use hongbao_engine::gift::GiftState;
use hongbao_engine::gift_envelope::*;
use hongbao_engine::relation::{Relation, RelationRow};
use hongbao_engine::types::*;
use parking_lot::Mutex;
use stand::*;
use std::collections::BTreeSet;

const THREADS: usize = 8;

fn give(stand: &InDirectory, item: ItemId, units: u32) -> GiftEnvelopeId {
    let terms = NewGiftEnvelope {
        expires_in_s: 10,
        accept_within_s: 20,
        ..NewGiftEnvelope::new("app", user("alice"), item, units)
    };
    match stand.ask(Command::CreateGiftEnvelope(Box::new(terms))) {
        Outcome::GiftEnvelope(envelope) => envelope.id,
        told => panic!("told {told:?}"),
    }
}

fn grab(stand: &InDirectory, envelope: GiftEnvelopeId, user: &UserId) -> Outcome {
    stand.ask(Command::GrabGift { envelope, user: user.clone(), token: None, must_follow: false })
}

fn view(stand: &InDirectory, id: GiftEnvelopeId) -> GiftEnvelopeView {
    wait(stand.engine().gift_envelope(id)).unwrap().expect("it was made")
}

/// What alice has.
fn purse(stand: &InDirectory) -> u64 {
    wait(stand.engine().wallet(&user("alice"))).unwrap().available.minor()
}

/// Each recipient has one, and money and units are where the gifts say.
fn assert_exact(stand: &InDirectory, id: GiftEnvelopeId, item: ItemId, deposited: u64) {
    let GiftEnvelopeView { gifts, .. } = view(stand, id);
    let recipients: Vec<_> = gifts.iter().filter_map(|gift| gift.recipient.clone()).collect();
    assert_eq!(recipients.iter().collect::<BTreeSet<_>>().len(), recipients.len(), "one each");
    let held = gifts.iter().filter(|gift| gift.state == GiftState::Offered).count() as u32;
    assert_eq!(stand.stock(item).held, held);
    let price = gifts[0].amount.minor();
    assert_eq!(purse(stand), deposited - u64::from(held) * price);
    stand.assert_balanced();
}

#[test]
fn the_last_unit_is_one_users() {
    const UNITS: u32 = 5;
    let stand = InDirectory::new(80);
    let item = stand.sell(NewItem { per_user_limit: None, ..item(50) });
    stand.deposit(&user("alice"), 100_000);
    for _ in 0..10 {
        let before = purse(&stand);
        let id = give(&stand, item, UNITS);
        let won: Mutex<Vec<(UserId, GiftId)>> = Mutex::default();
        at_once(THREADS, |n| {
            for k in 0..4 {
                let me = nth_user(n * 4 + k);
                match grab(&stand, id, &me) {
                    Outcome::Gift(gift) => won.lock().push((me.clone(), gift.id)),
                    told => assert_eq!(told, Outcome::SoldOut),
                }
            }
        });
        let won = won.into_inner();
        assert_eq!(won.len(), UNITS as usize, "{won:?}");
        for (me, gift) in &won {
            let again = grab(&stand, id, me);
            assert!(matches!(&again, Outcome::Gift(told) if told.id == *gift), "told {again:?}");
        }
        assert_exact(&stand, id, item, before);
        won.iter().for_each(|(me, gift)| {
            let step = Box::new(hongbao_engine::gift::GiftStep::Decline { user: me.clone(), reason: None });
            assert!(matches!(stand.ask(Command::StepGift { gift: *gift, step }), Outcome::Gift(_)));
        });
        assert_eq!(purse(&stand), before);
    }
}

#[test]
fn a_user_who_grabs_many_times_at_once_has_one() {
    let stand = InDirectory::new(81);
    let item = stand.sell(NewItem { per_user_limit: None, ..item(50) });
    stand.deposit(&user("alice"), 100_000);
    let id = give(&stand, item, 20);
    let gifts: Mutex<BTreeSet<GiftId>> = Mutex::default();
    at_once(THREADS, |_| {
        for _ in 0..10 {
            let Outcome::Gift(gift) = grab(&stand, id, &user("bob")) else { panic!("there are enough") };
            gifts.lock().insert(gift.id);
        }
    });
    assert_eq!(gifts.into_inner().len(), 1);
    assert_eq!((view(&stand, id).remaining(), view(&stand, id).grabbed()), (19, 1));
}

#[test]
fn what_is_taken_back_while_others_grab_is_nobodys() {
    let stand = InDirectory::new(82);
    let item = stand.sell(NewItem { per_user_limit: None, ..item(500) });
    stand.deposit(&user("alice"), 1_000_000);
    for round in 0..20 {
        let before = purse(&stand);
        let id = give(&stand, item, 10);
        let won: Mutex<u32> = Mutex::default();
        at_once(4, |n| {
            if n == 0 {
                let step = Box::new(GiftEnvelopeStep::Cancel { user: user("alice") });
                let told = stand.ask(Command::StepGiftEnvelope { envelope: id, step });
                assert!(matches!(told, Outcome::GiftEnvelope(_)), "told {told:?}");
                return;
            }
            for k in 0..3 {
                match grab(&stand, id, &nth_user(n * 3 + k)) {
                    Outcome::Gift(_) => *won.lock() += 1,
                    told => assert_eq!(told, Outcome::Cancelled),
                }
            }
        });
        let won = won.into_inner();
        let now = view(&stand, id);
        assert_eq!((now.grabbed(), now.remaining(), now.state()), (won, 0, GiftEnvelopeState::Cancelled), "{round}");
        let price = now.gifts[0].amount.minor();
        assert_eq!(purse(&stand), before - u64::from(won) * price);
        stand.assert_balanced();
    }
}

#[test]
fn at_the_deadline_itself_it_is_too_late_and_what_is_left_goes_back() {
    for threaded in [false, true] {
        let stand = InDirectory::with(83, |options| options.threaded = threaded);
        let item = stand.sell(NewItem { per_user_limit: None, ..item(10) });
        stand.deposit(&user("alice"), 100_000);
        let id = give(&stand, item, 10);
        stand.world.advance_s(9);
        let Outcome::Gift(gift) = grab(&stand, id, &user("bob")) else { panic!("it is in time") };
        stand.world.advance_s(1);
        at_once(THREADS, |n| assert_eq!(grab(&stand, id, &nth_user(n)), Outcome::Expired));
        // What is due keeps its units from nobody, whether or not anybody has looked.
        let terms = NewGiftEnvelope::new("app", user("alice"), item, 9);
        let told = stand.ask(Command::CreateGiftEnvelope(Box::new(terms)));
        assert!(matches!(told, Outcome::GiftEnvelope(_)), "told {told:?}");
        if !threaded {
            while stand.tick() {}
        }
        until("what nobody took has gone back", || view(&stand, id).state() == GiftEnvelopeState::Expired);
        assert_eq!(stand.stock(item), Stock { total: 10, free: 0, held: 10, sold: 0 });
        assert_eq!(view(&stand, id).gifts.iter().filter(|it| it.id == gift.id && it.recipient.is_some()).count(), 1);
        stand.assert_balanced();
    }
}

#[test]
fn who_has_one_is_told_so_after_a_restart() {
    let mut stand = InDirectory::new(84);
    let item = stand.sell(NewItem { per_user_limit: None, ..item(10) });
    stand.deposit(&user("alice"), 100_000);
    let id = give(&stand, item, 2);
    let bob = user("bob");
    let first = grab(&stand, id, &bob);
    let blocks = RelationRow { user: bob.clone(), other: user("alice"), relation: Relation::Blocks };
    assert_eq!(stand.ask(Command::PutRelations(vec![blocks])), Outcome::Relations(1));
    stand.reopen(|_| ());
    assert_eq!(grab(&stand, id, &bob), first, "what was answered stays so, though they are apart now");
    let refused = stand.ask(Command::CreateGiftEnvelope(Box::new(NewGiftEnvelope {
        payer: bob,
        ..NewGiftEnvelope::new("app", user("alice"), item, 1)
    })));
    assert_eq!(refused, Outcome::Refused(Refusal::Apart));
    assert!(matches!(grab(&stand, id, &user("carol")), Outcome::Gift(_)));
    assert_eq!(grab(&stand, id, &user("dora")), Outcome::SoldOut);
    stand.assert_balanced();
}

#[test]
fn a_record_takes_a_hundred_or_it_is_said_what_to_do() {
    let stand = InDirectory::new(85);
    let item = stand.sell(NewItem { per_user_limit: None, ..item(1000) });
    stand.deposit(&user("alice"), 1_000_000);
    let id = give(&stand, item, UNITS_MAX);
    assert_eq!(view(&stand, id).remaining(), UNITS_MAX);
    // Everything as long as it may be.
    let giver = UserId::new(&"a".repeat(64)).unwrap();
    stand.deposit(&giver, 100_000);
    let long = |units, message: &str| {
        let message = message.to_owned();
        let terms = NewGiftEnvelope::new(&"o".repeat(64), giver.clone(), item, units);
        stand.ask(Command::CreateGiftEnvelope(Box::new(NewGiftEnvelope { message, ..terms })))
    };
    let refused = long(UNITS_MAX, &"\u{1f381}".repeat(200));
    assert!(
        matches!(&refused, Outcome::Refused(Refusal::Invalid { field, .. }) if field == "units"),
        "told {refused:?}"
    );
    assert!(matches!(long(50, &"\u{1f381}".repeat(200)), Outcome::GiftEnvelope(_)));
}
