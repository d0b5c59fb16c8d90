//! The feed in front of Redis.

use crate::deployment::{Deployment, is_missing};
use crate::feed_story::*;
use crate::stand::*;
use hongbao_engine::EngineError;
use hongbao_engine::backend::Backend;
use hongbao_engine::clock::ManualClock;
use hongbao_engine::command::*;
use hongbao_engine::feed::*;
use hongbao_engine::redis::{RedisBackend, RedisEvents, ToldEvents};
use hongbao_engine::types::Timestamp;
use std::collections::BTreeSet;

const ALL: RedisEvents = RedisEvents { told: ToldEvents::All, kept_s: 1_000_000, kept_max: 1_000_000 };

/// A deployment that tells of everything; `None` if there is no redis-server and that is all right.
fn telling(seed: u64, events: RedisEvents) -> Option<Deployment> {
    if is_missing() {
        return None;
    }
    let mut deployment = Deployment::new(seed);
    deployment.options.events = events;
    Some(deployment)
}

fn let_all_end(engine: &RedisBackend) {
    let advance = Command::AdvanceClock { by_s: 400_000 };
    assert!(matches!(engine.ask(advance), Outcome::Clock(_)));
    while wait(engine.sweep()).expect("it sweeps") {}
}

#[test]
fn lists_and_feed_agree_and_two_engines_tell_the_same() {
    let Some(deployment) = telling(1, ALL) else { return };
    let engine = deployment.open();
    let _inside = deployment.runtime.enter();
    let made = play(&engine);
    play_gifts(&engine, made.item);
    play_orders(&engine, made.item);
    let events = all(&engine);
    assert_agrees(&engine, &made, &events, true);
    let_all_end(&engine);
    let ended = all(&engine);
    assert_agrees(&engine, &made, &ended, true);
    let names: Vec<_> = ended.iter().map(|event| event.what.event_type().name()).collect();
    // The texts of gifts are not taken back in front of Redis yet, and nothing is paid outside.
    let is_here = |of: &EventType| *of != EventType::GiftRedacted && !of.name().starts_with("payment.");
    for of in EventType::ALL.iter().copied().filter(is_here) {
        assert!(names.contains(&of.name()), "the story has no {}", of.name());
    }
    let other = deployment.open();
    assert_eq!(all(&other), ended, "another engine");
    for limit in [1, 2, 7] {
        let told = follow(&other, After::Oldest, EventTypes::ALL, None, limit).0;
        let ids = |events: &[FeedEvent]| events.iter().map(|event| event.id.to_string()).collect::<BTreeSet<_>>();
        assert_eq!((told.len(), ids(&told)), (ended.len(), ids(&ended)), "{limit}");
        assert_eq!(by_thing(&told), by_thing(&ended), "each thing's in its order: {limit}");
    }
    for of in EventType::ALL {
        let expected = ended.iter().filter(|event| event.what.event_type() == *of).count();
        let told = follow(&engine, After::Oldest, EventTypes::of(*of), None, 3).0;
        assert!(told.iter().all(|event| event.what.event_type() == *of));
        assert_eq!(told.len(), expected, "{}", of.name());
    }
    let of_shop = follow(&engine, After::Oldest, EventTypes::ALL, Some("shop"), 2).0;
    assert_eq!(of_shop.len(), ended.iter().filter(|event| event.what.owner() == Some("shop")).count());
    for (at, event) in ended.iter().enumerate() {
        let (rest, _) = follow(&engine, After::Cursor(event.cursor.clone()), EventTypes::ALL, None, 1000);
        assert_eq!(rest.len(), ended.len() - at - 1, "behind event {at}");
    }
    let (none, now) = follow(&engine, After::Now, EventTypes::ALL, None, 9);
    assert_eq!(none, []);
    let mark = wait(engine.more_events(0)).unwrap();
    other.deposit(&user("zoe"), 3);
    assert_ne!(wait(engine.more_events(mark)).unwrap(), mark, "whoever waits hears of another engine's");
    let (more, _) = follow(&engine, After::Cursor(now), EventTypes::ALL, None, 9);
    assert_eq!(by_thing(&more).into_iter().collect::<Vec<_>>(), [("zoe".to_owned(), vec!["wallet.deposited"])]);
}

/// Servers' clocks differ, and what is told later may have an earlier time: it comes between events of other buckets
/// that were a page before, and none of these gives way.
#[test]
fn what_lies_between_two_cursors_stays_the_same() {
    let Some(mut deployment) = telling(6, ALL) else { return };
    let engine = deployment.open();
    let _inside = deployment.runtime.enter();
    play(&engine);
    let events = all(&engine);
    assert_stays_between(&engine, &events);
    let behind = Timestamp::from_ms(events[0].at.ms() - 1500);
    deployment.options.clock = Some(std::sync::Arc::new(ManualClock::at(behind)));
    let late = deployment.open();
    for nth in 0..20 {
        late.deposit(&user(&format!("late{nth}")), 1);
    }
    let more = all(&engine);
    assert_ne!(more[..events.len()], events, "some of it comes before what was told");
    assert_stays_between(&engine, &events);
    assert_stays_between(&late, &events);
}

#[test]
fn of_envelopes_in_pools_everything_is_told_once() {
    if is_missing() {
        return;
    }
    let mut deployment = Deployment::in_pools(2, 8);
    deployment.options.events = ALL;
    let engine = deployment.open();
    let _inside = deployment.runtime.enter();
    let made = play(&engine);
    // That the last share is gone its own bucket finds out after those who ask.
    let_all_end(&engine);
    assert_agrees(&engine, &made, &all(&engine), false);
}

#[test]
fn what_leaves_for_the_archive_is_told_all_the_same() {
    if is_missing() {
        return;
    }
    let mut deployment = Deployment::new(3).archiving();
    deployment.options.events = ALL;
    let engine = deployment.open();
    let _inside = deployment.runtime.enter();
    let made = play(&engine);
    let_all_end(&engine);
    let before = all(&engine);
    assert!(matches!(engine.ask(Command::AdvanceClock { by_s: 100 * 86_400 }), Outcome::Clock(_)));
    let kept_forever = RedisEvents { kept_s: u64::MAX, ..ALL };
    deployment.options.events = kept_forever;
    let engine = deployment.open();
    while wait(engine.sweep()).expect("it sweeps") {}
    let after = all(&engine);
    assert_eq!(after, before);
    assert_agrees(&engine, &made, &after, true);
}

#[test]
fn only_what_is_on_is_told() {
    let Some(mut deployment) = telling(4, RedisEvents::default()) else { return };
    let engine = deployment.open();
    let _inside = deployment.runtime.enter();
    play(&engine);
    let (usual, _) = follow(&engine, After::Oldest, EventTypes::USUAL, None, 9);
    assert!(!usual.is_empty());
    for types in [EventTypes::ALL, EventTypes::of(EventType::ShareGrabbed), EventTypes::of(EventType::HoldHeld)] {
        let told = wait(engine.events(&query(After::Oldest, types, 9)));
        assert!(matches!(told, Err(EngineError::EventsOff(_))), "{told:?}");
    }
    deployment.options.events.told = ToldEvents::None;
    let engine = deployment.open();
    engine.deposit(&user("zoe"), 3);
    let told = wait(engine.events(&query(After::Oldest, EventTypes::USUAL, 9)));
    assert!(matches!(told, Err(EngineError::EventsOff(_))), "{told:?}");
    deployment.options.events.told = ToldEvents::Usual;
    let engine = deployment.open();
    let (again, _) = follow(&engine, After::Oldest, EventTypes::USUAL, None, 9);
    assert_eq!(again, usual, "what happened while it was off is not told");
}

#[test]
fn what_is_too_old_or_too_much_is_gone_and_strangers_are_refused() {
    let events = RedisEvents { told: ToldEvents::All, kept_s: 3_600, kept_max: 8 * 100 };
    let Some(deployment) = telling(5, events) else { return };
    let engine = deployment.open();
    let _inside = deployment.runtime.enter();
    engine.deposit(&user("a"), 1);
    let first = wait(engine.events(&query(After::Oldest, EventTypes::ALL, 9))).unwrap();
    let cursor = first.events[0].cursor.clone();
    wait(engine.forget_events()).unwrap();
    let ask = |cursor: &[u8]| wait(engine.events(&query(After::Cursor(cursor.to_vec()), EventTypes::ALL, 1000)));
    assert!(ask(&cursor).is_ok());
    let start = wait(engine.events(&query(After::Now, EventTypes::ALL, 9))).unwrap().next;
    for _ in 0..150 {
        engine.deposit(&user("a"), 1);
    }
    wait(engine.forget_events()).unwrap();
    let Err(EngineError::CursorGone { oldest }) = ask(&start) else { panic!("150 are more than 100") };
    assert_eq!(ask(&oldest).unwrap().events.len(), 100, "a bucket keeps its part");
    assert!(matches!(engine.ask(Command::AdvanceClock { by_s: 4_000 }), Outcome::Clock(_)));
    let (_, end) = follow(&engine, After::Oldest, EventTypes::ALL, None, 1000);
    engine.deposit(&user("a"), 1);
    wait(engine.forget_events()).unwrap();
    assert_eq!(all(&engine).len(), 1, "the others are older than an hour");
    assert_eq!(ask(&end).unwrap().events.len(), 1, "whoever had read on misses nothing");

    let mut other = telling(6, ALL).expect("it was there");
    other.options.events = ALL;
    let stranger = other.open();
    stranger.deposit(&user("a"), 1);
    let (_, foreign) = follow(&stranger, After::Oldest, EventTypes::ALL, None, 9);
    let flipped: Vec<u8> = end.iter().enumerate().map(|(i, byte)| if i == 9 { byte ^ 1 } else { *byte }).collect();
    for cursor in [&foreign[..], &flipped, &end[1..], &[]] {
        assert!(matches!(ask(cursor), Err(EngineError::Cursor)), "{cursor:?}");
    }
}
