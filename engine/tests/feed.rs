//! The feed of the embedded engine.

#![allow(missing_docs, reason = "nothing outside reads this crate")]

mod feed_story;
mod stand;

use feed_story::*;
use hongbao_engine::EngineError;
use hongbao_engine::backend::{Backend, Page};
use hongbao_engine::backup::{BackupOptions, RestoreOptions};
use hongbao_engine::command::*;
use hongbao_engine::feed::*;
use hongbao_engine::gift::GiftRole;
use hongbao_engine::group::{GroupBuy, NewGroup};
use hongbao_engine::journal::JournalOptions;
use hongbao_engine::memory::{Embedded, EmbeddedOptions};
use hongbao_engine::types::{ItemId, UserId};
use stand::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Keeps everything that these tests write.
fn keeping(options: &mut EmbeddedOptions) {
    options.journal.kept_bytes_max = 1 << 30;
    options.events_kept_s = u64::MAX;
}

#[test]
fn lists_and_feed_agree_before_and_after_everything_has_ended() {
    let mut engine = InDirectory::with(1, keeping);
    let made = play(engine.engine());
    play_gifts(engine.engine(), made.item);
    play_orders(engine.engine(), made.item);
    play_groups(engine.engine(), made.item);
    play_payments(engine.engine(), made.item);
    let given = wait(engine.engine().gifts(&user("alice"), GiftRole::Given, &Page { limit: 1, cursor: None })).unwrap();
    let redacted = engine.engine().ask(Command::RedactGift { gift: given.rows[0].id, metadata: true });
    assert!(matches!(redacted, Outcome::Gift(_)), "{redacted:?}");
    let events = all(engine.engine());
    assert_agrees(engine.engine(), &made, &events, true);
    engine.world.advance_s(400_000);
    until("every envelope settles", || {
        made.envelopes.iter().all(|id| engine.seen(*id).state == EnvelopeState::Settled)
            && engine.stock(made.item).held == 0
    });
    let ended = all(engine.engine());
    assert_agrees(engine.engine(), &made, &ended, true);
    assert_eq!(ended[..events.len()], events, "what was told stays as it was");
    assert_stays_between(engine.engine(), &events);
    assert_stays_between(engine.engine(), &ended);
    let names: Vec<_> = ended.iter().map(|event| event.what.event_type().name()).collect();
    for of in EventType::ALL {
        assert!(names.contains(&of.name()), "the story has no {}", of.name());
    }
    engine.reopen(|_| {});
    assert_eq!(all(engine.engine()), ended, "and over a restart");
    assert_agrees(engine.engine(), &made, &ended, true);
}

/// Groups that are full, left and left to end.
fn play_groups(engine: &Embedded, item: ItemId) {
    let [bob, carol] = [user("bob"), user("carol")];
    engine.deposit(&bob, 100);
    engine.deposit(&carol, 100);
    let open = |size| {
        let group_buy = Some(Some(GroupBuy { size, price: fen(9), within_s: 60 }));
        let change = Box::new(ItemChange { group_buy, ..ItemChange::default() });
        engine.ask(Command::ChangeItem { item, change });
        let terms = NewGroup { owner: "shop".to_owned(), item, leader: bob.clone(), reference: None };
        match engine.ask(Command::OpenGroup(Box::new(terms))) {
            Outcome::Group(group) => group.id,
            other => panic!("no group: {other:?}"),
        }
    };
    let joins = |group| {
        let joined = engine.ask(Command::JoinGroup { group, user: carol.clone() });
        assert!(matches!(joined, Outcome::Joined { .. }), "{joined:?}");
    };
    let leaves = |group, user: &UserId| {
        let left = engine.ask(Command::LeaveGroup { group, user: user.clone() });
        assert!(matches!(left, Outcome::Group(_)), "{left:?}");
    };
    let (full, left, _expires) = (open(2), open(3), open(3));
    joins(full);
    joins(left);
    leaves(left, &carol);
    leaves(left, &bob);
}

#[test]
fn pages_of_any_length_and_any_types_tell_the_same() {
    let engine = InDirectory::with(2, keeping);
    play(engine.engine());
    engine.world.advance_s(400_000);
    let id = engine.give(envelope(10, 1));
    until("it settles", || {
        engine.tick();
        engine.world.advance_s(100_000);
        engine.seen(id).state == EnvelopeState::Settled
    });
    let (whole, end) = follow(engine.engine(), After::Oldest, EventTypes::ALL, None, 1000);
    for limit in [1, 2, 7] {
        assert_eq!(follow(engine.engine(), After::Oldest, EventTypes::ALL, None, limit).0, whole, "{limit}");
    }
    for of in EventType::ALL {
        let expected: Vec<_> = whole.iter().filter(|event| event.what.event_type() == *of).cloned().collect();
        let told = follow(engine.engine(), After::Oldest, EventTypes::of(*of), None, 3).0;
        assert_eq!(told, expected, "{}", of.name());
    }
    let of_shop: Vec<_> = whole.iter().filter(|event| event.what.owner() == Some("shop")).cloned().collect();
    assert!(!of_shop.is_empty());
    assert_eq!(follow(engine.engine(), After::Oldest, EventTypes::ALL, Some("shop"), 2).0, of_shop);
    assert_eq!(follow(engine.engine(), After::Oldest, EventTypes::ALL, Some("nobody"), 2).0, []);
    for (at, event) in whole.iter().enumerate() {
        let (rest, _) = follow(engine.engine(), After::Cursor(event.cursor.clone()), EventTypes::ALL, None, 1000);
        assert_eq!(rest, whole[at + 1..], "behind event {at}");
    }
    assert_eq!(follow(engine.engine(), After::Cursor(end.clone()), EventTypes::ALL, None, 9), (vec![], end.clone()));
    let (none, now) = follow(engine.engine(), After::Now, EventTypes::ALL, None, 9);
    assert_eq!(none, []);
    engine.deposit(&user("zoe"), 3);
    for cursor in [end, now] {
        let (more, _) = follow(engine.engine(), After::Cursor(cursor), EventTypes::ALL, None, 9);
        assert_eq!(by_thing(&more).into_iter().collect::<Vec<_>>(), [("zoe".to_owned(), vec!["wallet.deposited"])]);
    }
}

#[test]
fn cursors_that_are_forged_foreign_or_of_a_replaced_history_are_refused() {
    let mut engine = InDirectory::with(3, keeping);
    engine.deposit(&user("a"), 1);
    let other = InDirectory::with(4, keeping);
    other.deposit(&user("a"), 1);
    let (_, foreign) = follow(other.engine(), After::Oldest, EventTypes::ALL, None, 9);
    let (_, own) = follow(engine.engine(), After::Oldest, EventTypes::ALL, None, 9);
    let ask = |engine: &InDirectory, cursor: &[u8]| {
        wait(engine.events(&query(After::Cursor(cursor.to_vec()), EventTypes::ALL, 9)))
    };
    assert!(ask(&engine, &own).is_ok());
    let flipped: Vec<u8> = own.iter().enumerate().map(|(i, byte)| if i == 9 { byte ^ 1 } else { *byte }).collect();
    for cursor in [&foreign[..], &flipped, &own[1..], &[], &[0; 24]] {
        assert!(matches!(ask(&engine, cursor), Err(EngineError::Cursor)), "{cursor:?}");
    }
    // A copy of the directory goes another way; what the first told later is no part of its history.
    engine.reopen(|_| {});
    engine.close();
    let copy = tempfile::tempdir().unwrap();
    let copied =
        std::process::Command::new("cp").arg("-a").arg(engine.directory.path().join(".")).arg(copy.path()).status();
    assert!(copied.unwrap().success());
    engine.open();
    let mut cursors = Vec::new();
    for n in 0..3 {
        engine.deposit(&user("b"), 1 + n);
        cursors.push(follow(engine.engine(), After::Now, EventTypes::ALL, None, 9).1);
        cursors.push(follow(engine.engine(), After::Oldest, EventTypes::ALL, None, 9).1);
    }
    let mut options = engine.world.options();
    keeping(&mut options);
    let (restored, _) = Embedded::open(copy.path(), options).unwrap();
    restored.deposit(&user("c"), 77);
    assert!(wait(restored.events(&query(After::Cursor(own), EventTypes::ALL, 9))).is_ok(), "what both have is told on");
    for cursor in &cursors {
        let told = wait(restored.events(&query(After::Cursor(cursor.clone()), EventTypes::ALL, 9)));
        let Err(EngineError::CursorGone { oldest }) = told else { panic!("{told:?}") };
        let events = follow(&restored, After::Cursor(oldest), EventTypes::ALL, None, 9).0;
        assert_eq!(events.len(), 2, "from where it can be told: {events:?}");
    }
}

/// A restore gives the numbers of lost records to others. Whoever was told of a lost one
/// is told so, also when what stands there now is not kept any more, or was never read.
#[test]
fn no_cursor_leads_from_what_a_restore_lost_into_what_came_after_it() {
    let place = tempfile::tempdir().unwrap();
    let world = World::new(7);
    let options = || {
        let mut options = world.options();
        keeping(&mut options);
        options
    };
    let open = |name: &str, options| Embedded::open(&place.path().join(name), options).unwrap().0;
    let back_up = |from: &str, to: &str| {
        let options = BackupOptions { made_at: START, bytes_per_s_max: u64::MAX };
        hongbao_engine::backup::back_up(&place.path().join(from), &place.path().join(to), options, &mut |_| ())
            .unwrap();
    };
    let restore = |from: &str, journal: Option<&str>, to: &str| {
        let (from, journal) = (place.path().join(from), journal.map(|name| place.path().join(name)));
        let options = RestoreOptions { from, journal, ..RestoreOptions::default() };
        hongbao_engine::backup::restore(&options, &place.path().join(to), &mut |_, _| (), &mut |_| ()).unwrap();
    };
    let now = |engine: &Embedded| follow(engine, After::Now, EventTypes::ALL, None, 9).1;
    let told = |engine: &Embedded, cursor: &[u8]| {
        wait(engine.events(&query(After::Cursor(cursor.to_vec()), EventTypes::ALL, 1000)))
    };
    let gone = |engine: &Embedded, cursor: &[u8]| matches!(told(engine, cursor), Err(EngineError::CursorGone { .. }));
    let deposits = |engine: &Embedded, minor: std::ops::Range<u64>| {
        minor.map(|minor| (engine.deposit(&user("a"), minor), now(engine)).1).collect::<Vec<_>>()
    };

    let old = open("old", options());
    let before = deposits(&old, 1..4);
    old.close().unwrap();
    drop(old);
    back_up("old", "backup");
    let old = open("old", options());
    let after = deposits(&old, 4..9);
    old.close().unwrap();
    drop(old);

    // What came after the backup is lost, and what is there to be told of is nothing yet.
    restore("backup", None, "new");
    let new = open("new", options());
    let nothing_yet = now(&new);
    assert!(after.iter().all(|cursor| gone(&new, cursor)));
    let others = deposits(&new, 100..102);
    for (cursor, number) in [(&before[2], 2), (&nothing_yet, 2), (&others[0], 1), (&others[1], 0)] {
        assert_eq!(told(&new, cursor).unwrap().events.len(), number);
    }
    assert!(after.iter().all(|cursor| gone(&new, cursor)), "others have their numbers");
    new.close().unwrap();
    drop(new);
    // Whatever is the oldest that is kept, and even if nothing is.
    for number in 0..6 {
        let new = open(
            "new",
            EmbeddedOptions { journal: JournalOptions { kept_bytes_max: 0, ..options().journal }, ..options() },
        );
        assert!(after.iter().all(|cursor| gone(&new, cursor)), "{number} records later");
        new.projector().unwrap().persist();
        deposits(&new, 200..201);
        new.close().unwrap();
    }

    // Lost again, out of the same backup: what the first restore told is of no history.
    restore("backup", None, "newer");
    let newer = open("newer", options());
    deposits(&newer, 300..330);
    assert!(after.iter().chain(&others).all(|cursor| gone(&newer, cursor)));
    assert!(gone(&newer, &nothing_yet), "nobody knows what it told later");
    assert_eq!(told(&newer, &before[2]).unwrap().events.len(), 30);
    newer.close().unwrap();
    drop(newer);

    // With the old journal nothing is lost, and every cursor goes on.
    restore("backup", Some("old"), "whole");
    let whole = open("whole", options());
    for (cursor, rest) in before[2..].iter().chain(&after).zip((0..6).rev()) {
        assert_eq!(told(&whole, cursor).unwrap().events.len(), rest);
    }
    let later = deposits(&whole, 400..402);
    assert_eq!(told(&whole, &after[4]).unwrap().events.len(), 2);
    whole.close().unwrap();
    drop(whole);
    // Of a backup of it the same is known.
    back_up("whole", "backup2");
    restore("backup2", None, "last");
    let last = open("last", options());
    assert_eq!(told(&last, &later[1]).unwrap().events, []);
    assert!(gone(&last, &later[0]), "the record behind it is not in a backup");
    last.close().unwrap();
}

#[test]
fn events_are_kept_for_a_time_and_then_gone() {
    let engine = InDirectory::with(5, |options| {
        keeping(options);
        options.journal.segment_bytes = 256 << 10;
        options.journal.record_bytes_max = 8_000;
        options.journal.threads_max = 8;
        options.events_kept_s = 3_600;
    });
    let mut deposit = 0;
    let mut fill = |segments: usize| {
        let before = engine.stats().journal.unwrap().kept_segments;
        until("segments are kept", || {
            (0..200).for_each(|_| engine.deposit(&user("a"), 1));
            deposit += 200;
            engine.projector().unwrap().persist();
            engine.stats().journal.unwrap().kept_segments >= before + segments
        });
    };
    fill(2);
    let (_, cursor) = follow(engine.engine(), After::Oldest, EventTypes::ALL, None, 1);
    let first = wait(engine.events(&query(After::Oldest, EventTypes::ALL, 1))).unwrap();
    engine.world.advance_s(3_000);
    fill(1);
    assert!(wait(engine.events(&query(After::Cursor(first.next.clone()), EventTypes::ALL, 1))).is_ok());
    engine.world.advance_s(700);
    until("the oldest are forgotten", || {
        let told = wait(engine.events(&query(After::Cursor(first.next.clone()), EventTypes::ALL, 1)));
        match told {
            Ok(_) => false,
            Err(EngineError::CursorGone { oldest }) => {
                let from = follow(engine.engine(), After::Cursor(oldest), EventTypes::ALL, None, 1000).0;
                assert_eq!(from, all(engine.engine()), "where to go on is the oldest");
                assert!(!from.is_empty());
                true
            }
            Err(error) => panic!("{error}"),
        }
    });
    assert!(wait(engine.events(&query(After::Cursor(cursor), EventTypes::ALL, 1))).is_ok(), "what is younger is there");
}

/// Whoever follows is woken by what becomes durable, and misses nothing, while
/// segments go round.
#[test]
fn a_follower_beside_writers_misses_nothing() {
    let engine = InDirectory::with(6, |options| {
        keeping(options);
        options.journal.segment_bytes = 256 << 10;
        options.journal.record_bytes_max = 8_000;
        options.journal.threads_max = 8;
    });
    const WRITERS: usize = 3;
    const EACH: usize = 700;
    let writing = AtomicBool::new(true);
    let told = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let engine = &engine;
                scope.spawn(move || {
                    let name = user(&format!("w{writer}"));
                    (0..EACH).for_each(|_| engine.deposit(&name, 1));
                })
            })
            .collect();
        let follower = scope.spawn(|| {
            let (mut told, mut cursor, mut mark) = (Vec::new(), Vec::new(), 0);
            while told.len() < WRITERS * EACH {
                let after = if told.is_empty() { After::Oldest } else { After::Cursor(cursor) };
                let (more, next) = follow(engine.engine(), after, EventTypes::ALL, None, 50);
                told.extend(more);
                cursor = next;
                if told.is_empty() || told.len() < WRITERS * EACH && writing.load(Ordering::Acquire) {
                    mark = wait(engine.more_events(mark)).expect("the journal goes on");
                }
            }
            told
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        writing.store(false, Ordering::Release);
        // One more for whoever waits by now.
        engine.deposit(&user("last"), 1);
        follower.join().unwrap()
    });
    for writer in 0..WRITERS {
        let available: Vec<_> = told
            .iter()
            .filter_map(|event| match &event.what {
                Happened::Deposited(moved) if moved.user == user(&format!("w{writer}")) => {
                    Some(moved.available.minor())
                }
                _ => None,
            })
            .collect();
        assert_eq!(available, (1..=EACH as u64).collect::<Vec<_>>(), "each once, in order");
    }
}

#[test]
fn an_engine_without_a_journal_says_so() {
    let engine = Embedded::volatile(&EmbeddedOptions::default());
    let told = wait(engine.events(&query(After::Oldest, EventTypes::ALL, 1)));
    assert!(matches!(told, Err(EngineError::NotReady(_))), "{told:?}");
}
