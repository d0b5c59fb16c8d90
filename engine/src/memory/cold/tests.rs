//! What leaves memory.

use super::*;
use crate::backend::Backend;
use crate::clock::{Clock, ManualClock};
use crate::command::{ItemOrigin, MerchantStatus, NewEnvelope, NewItem, NewMerchant, Transfer};
use crate::creates::CreatesCap;
use crate::gift::{GiftState, GiftStep, NewGift};
use crate::journal::JournalOptions;
use crate::memory::{Embedded, EmbeddedOptions};
use crate::split::SplitRule;
use crate::store::ProjectorOptions;
use crate::types::Amount;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

fn options(clock: &Arc<ManualClock>) -> EmbeddedOptions {
    EmbeddedOptions {
        journal: JournalOptions {
            segment_bytes: 4 << 20,
            spare_segments: 1,
            ballast_bytes: 0,
            threads_max: 4,
            threaded: false,
            ..JournalOptions::default()
        },
        projector: ProjectorOptions { threaded: false, ..ProjectorOptions::default() },
        clock: Some(Arc::<ManualClock>::clone(clock)),
        test_mode: true,
        threaded: false,
        ..EmbeddedOptions::default()
    }
}

/// The answer to a command, with the journal's work done in between.
fn ask(engine: &Embedded, command: Command) -> Outcome {
    let mut asked = std::pin::pin!(engine.execute(command, None));
    loop {
        match asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(reply) => return reply.unwrap().outcome,
            Poll::Pending => while engine.pump().unwrap() {},
        }
    }
}

/// Everything there is goes to the store, and what is idle out of memory.
fn evict_idle(engine: &Embedded, clock: &ManualClock) {
    while engine.pump().unwrap() {}
    engine.projector().unwrap().persist();
    clock.advance(IDLE_MS);
    (0..engine.core.shards.len()).for_each(|index| engine.core.evict(index));
}

/// Nobody has to tell that a gift has arrived: memory and starts do not wait for it.
#[test]
fn a_shipped_gift_leaves_memory_and_may_arrive_later() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_ms(1_800_000_000_000)));
    let directory = tempfile::tempdir().unwrap();
    let (engine, _) = Embedded::open(directory.path(), options(&clock)).unwrap();
    let [alice, bob, rosy] = ["alice", "bob", "rosy"].map(|name| UserId::new(name).unwrap());
    let price = Amount::new(299).unwrap();
    ask(&engine, Command::Deposit(Transfer { user: alice.clone(), amount: price, reference: None }));
    let merchant = NewMerchant::new(rosy.clone(), "Rosy", Some(MerchantStatus::Verified));
    ask(&engine, Command::PutMerchant(Box::new(merchant)));
    let terms = NewItem {
        merchant: rosy,
        name: "99 roses".to_owned(),
        category: "flowers".to_owned(),
        price,
        stock: 1,
        per_user_limit: None,
        starts_at: None,
        ends_at: None,
        hold_ttl_s: 900,
        image_url: None,
        origin: ItemOrigin::default(),
        group_buy: None,
    };
    let Outcome::Item(item) = ask(&engine, Command::CreateItem(Box::new(terms))) else { panic!("there is an item") };
    let terms = NewGift::new("shop", alice, bob.clone(), item.id);
    let Outcome::Gift(gift) = ask(&engine, Command::CreateGift(Box::new(terms))) else { panic!("there is a gift") };
    let id = gift.id;
    let step = |engine: &Embedded, step| match ask(engine, Command::StepGift { gift: id, step: Box::new(step) }) {
        Outcome::Gift(gift) => gift.state,
        other => panic!("told {other:?}"),
    };
    let in_memory = || engine.core.shards.iter().map(|shard| shard.lock().gifts.len()).sum::<usize>();
    step(&engine, GiftStep::Accept { user: bob, token: None });
    evict_idle(&engine, &clock);
    assert_eq!(in_memory(), 1, "it is to be shipped in time");
    let sent = || GiftStep::Ship { carrier: "sf".to_owned(), tracking: "SF1".to_owned() };
    assert_eq!(step(&engine, sent()), GiftState::Shipped);
    evict_idle(&engine, &clock);
    assert_eq!(in_memory(), 0);
    assert_eq!(step(&engine, sent()), GiftState::Shipped);
    assert_eq!(step(&engine, GiftStep::Deliver), GiftState::Delivered);
    evict_idle(&engine, &clock);
    assert_eq!(step(&engine, GiftStep::Deliver), GiftState::Delivered);
    engine.close().unwrap();
    drop(engine);
    let mut found = Vec::new();
    crate::audit::audit(directory.path(), None, &mut |finding| found.push(finding)).unwrap();
    assert!(found.is_empty(), "{found:?}");
}

/// Whoever tries names of senders that have no money leaves nothing in memory.
#[test]
fn what_is_counted_of_senders_is_forgotten_when_nobody_asks_any_more() {
    const DAY_MS: u64 = 86_400_000;
    let day_of = |at: Timestamp| {
        let from = Timestamp::from_ms(at.ms() / DAY_MS * DAY_MS);
        Day { from, to: from.plus_ms(DAY_MS), ends: String::new() }
    };
    let clock = Arc::new(ManualClock::at(Timestamp::from_ms(20_000 * DAY_MS)));
    let directory = tempfile::tempdir().unwrap();
    let creates = CreatesCap { per_day_max: 3, day_of: Arc::new(day_of) };
    let options = EmbeddedOptions { creates: Some(creates), ..options(&clock) };
    let (engine, _) = Embedded::open(directory.path(), options).unwrap();
    let counted = || engine.core.shards.iter().map(|shard| shard.lock().made.len()).sum::<usize>();
    for nth in 0..1000 {
        let sender = UserId::new(&format!("sender{nth}")).unwrap();
        let terms = NewEnvelope::new("shop", sender, Amount::new(10).unwrap(), 1, SplitRule::Equal);
        let mut asked = std::pin::pin!(engine.execute(Command::CreateEnvelope(Box::new(terms)), None));
        let told = asked.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(told, Poll::Ready(Ok(Reply { outcome: Outcome::Refused(_), .. }))), "{told:?}");
    }
    assert_eq!(counted(), 1000);
    clock.advance(IDLE_MS);
    (0..engine.core.shards.len()).for_each(|index| engine.core.evict(index));
    assert_eq!(counted(), 0);
}
