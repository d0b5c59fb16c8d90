//! A message that was taken back: nothing of it is left in any row, and it stays taken back
//! whatever else happens to its envelope at the same time.

mod stand;

use hongbao_engine::backend::{Backend, OnceKey};
use hongbao_engine::backup::send;
use hongbao_engine::command::*;
use hongbao_engine::gift::{Gift, GiftStep, NewGift};
use hongbao_engine::memory::Embedded;
use hongbao_engine::payout::Outside;
use hongbao_engine::split::SplitRule;
use hongbao_engine::types::*;
use stand::*;

/// What is written nowhere else.
const CANARY: &str = "canary-9d1f";

fn once(text: &str) -> Option<OnceKey> {
    Some(OnceKey::idempotency("app", "test", text))
}

fn rude(total: u64, shares: u32, reference: &str) -> NewEnvelope {
    NewEnvelope {
        message: format!("{CANARY} in a message"),
        metadata: format!(r#"{{"note":"{CANARY}"}}"#),
        reference: Some(stand::reference("app", reference)),
        ..envelope(total, shares)
    }
}

/// One whose row lies in many parts, with the metadata in the last of them.
fn rude_and_long() -> NewEnvelope {
    let metadata = format!(r#"{{"long":"{}","note":"{CANARY}"}}"#, "x".repeat(8000));
    let split = SplitRule::Specified((0..3000).map(|n| fen(1_000_000 + n)).collect());
    let total = (0..3000).map(|n| 1_000_000 + n).sum();
    let outside = Outside { funding: Some("alipay-1".to_owned()), ..Outside::default() };
    NewEnvelope { split, metadata, outside, ..rude(total, 3000, "long") }
}

/// How often it stands in the rows of the store, each of which a backup has.
fn in_rows(engine: &Embedded) -> usize {
    let mut stream = Vec::new();
    send(engine, &mut stream).expect("rows are sent");
    stream.windows(CANARY.len()).filter(|window| *window == CANARY.as_bytes()).count()
}

fn view_of(reply: Outcome) -> EnvelopeView {
    let Outcome::Envelope(view) = reply else { panic!("{reply:?}") };
    *view
}

fn assert_blank(view: &EnvelopeView, what: &str) {
    assert_eq!((&*view.message, &*view.metadata), ("", "{}"), "{what}");
    assert!(view.redacted_at.is_some(), "{what}");
}

#[test]
fn no_row_has_anything_of_it() {
    let mut house = InDirectory::new(1);
    let engine = house.engine();
    engine.deposit(&user("alice"), 1_000_000);
    let long = view_of(engine.ask_under(Command::CreateEnvelope(Box::new(rude_and_long())), once("c1")).outcome).id;
    let terms = Command::CreateEnvelope(Box::new(rude(100, 4, "short")));
    let short = view_of(engine.ask_under(terms.clone(), once("c2")).outcome).id;
    // Answers that tell it, under as many keys as somebody likes.
    for key in ["c3", "c4"] {
        assert!(engine.ask_under(terms.clone(), once(key)).replayed);
    }
    engine.ask_under(Command::Cancel { envelope: short }, once("c5"));
    assert!(in_rows(engine) >= 2 * 2 + 2 * 2 + 2, "rows of terms and answers have it");

    for id in [long, short] {
        assert_blank(&view_of(engine.ask(Command::Redact { envelope: id, metadata: true })), "an answer");
    }
    assert_eq!(in_rows(engine), 0, "rows have it no more");
    house.reopen(|_| ());
    let engine = house.engine();
    assert_eq!(in_rows(engine), 0, "nor do they after a start");
    for (key, command) in [
        ("c1", Command::CreateEnvelope(Box::new(rude_and_long()))),
        ("c4", terms.clone()),
        ("c5", Command::Cancel { envelope: short }),
        ("anew", terms),
    ] {
        let reply = engine.ask_under(command, once(key));
        assert!(reply.replayed, "{key}");
        assert_blank(&view_of(reply.outcome), key);
    }
    assert_eq!(in_rows(engine), 0, "nor are there new ones");
}

#[test]
fn the_metadata_goes_later_from_every_row() {
    let house = InDirectory::new(2);
    let engine = house.engine();
    let id = view_of(engine.ask_under(Command::CreateEnvelope(Box::new(rude_and_long())), once("c")).outcome).id;
    let first = view_of(engine.ask(Command::Redact { envelope: id, metadata: false }));
    assert_eq!((&*first.message, first.metadata.contains(CANARY)), ("", true));
    assert!(in_rows(engine) > 0, "the metadata stays");
    house.world.advance_s(60);
    let second = view_of(engine.ask(Command::Redact { envelope: id, metadata: true }));
    assert_blank(&second, "an answer");
    assert_eq!(second.redacted_at, first.redacted_at);
    assert_eq!(in_rows(engine), 0);
}

/// Race: redact against grab, claim, cancel, settlement, and another that redacts.
#[test]
fn whatever_happens_to_an_envelope_meanwhile_it_stays_taken_back() {
    const ENVELOPES: usize = 60;
    let mut house = InDirectory::new(3);
    let engine = house.engine();
    engine.deposit(&user("alice"), 100 * ENVELOPES as u64);
    let ids: Vec<EnvelopeId> = (0..ENVELOPES)
        .map(|n| {
            let terms = Command::CreateEnvelope(Box::new(rude(100, 2, &format!("r{n}"))));
            view_of(engine.ask_under(terms, once(&format!("c{n}"))).outcome).id
        })
        .collect();
    at_once(4, |thread| {
        for &id in &ids {
            match thread {
                0 => assert_blank(&view_of(engine.ask(Command::Redact { envelope: id, metadata: true })), "an answer"),
                1 => {
                    let told = view_of(engine.ask(Command::Redact { envelope: id, metadata: false }));
                    assert_eq!(told.message, "");
                }
                2 => {
                    engine.ask(Command::Grab { envelope: id, user: user("bob") });
                    engine.ask(Command::Claim { envelope: id, user: user("bob") });
                }
                _ => drop(engine.ask_under(Command::Cancel { envelope: id }, once(&format!("end {id}")))),
            }
        }
    });
    let check = |engine: &Embedded| {
        for (n, &id) in ids.iter().enumerate() {
            assert_blank(&engine.seen(id), "a read");
            let terms = Command::CreateEnvelope(Box::new(rude(100, 2, &format!("r{n}"))));
            assert_blank(&view_of(engine.ask_under(terms, once(&format!("c{n}"))).outcome), "a repeat");
            let again = engine.ask_under(Command::Cancel { envelope: id }, once(&format!("end {id}")));
            assert_blank(&view_of(again.outcome), "the end, again");
        }
        assert!(wait(engine.audit()).expect("an audit").balanced());
    };
    check(engine);
    house.reopen(|_| ());
    check(house.engine());
}

/// Race: redact against eviction. What is redacted while it leaves memory, or before the store
/// knows of it, is told so.
#[test]
fn it_stays_taken_back_while_its_envelope_leaves_memory() {
    const ENVELOPES: usize = 200;
    let mut house = InDirectory::new(4);
    let engine = house.engine();
    engine.deposit(&user("alice"), 10 * ENVELOPES as u64);
    let ids: Vec<EnvelopeId> = (0..ENVELOPES)
        .map(|n| {
            let terms = Command::CreateEnvelope(Box::new(rude(10, 1, &format!("r{n}"))));
            let id = view_of(engine.ask(terms)).id;
            engine.ask(Command::Cancel { envelope: id });
            id
        })
        .collect();
    let world = house.world.clone();
    at_once(3, |thread| {
        for (n, &id) in ids.iter().enumerate() {
            match thread {
                0 => world.advance_s(10),
                _ if n % 2 + 1 == thread => {
                    assert_blank(&view_of(engine.ask(Command::Redact { envelope: id, metadata: true })), "an answer");
                    assert_blank(&engine.seen(id), "a read after it");
                }
                _ => {}
            }
        }
    });
    until("all have left memory", || {
        world.advance_s(10);
        engine.stats().envelopes == 0
    });
    for &id in &ids {
        assert_blank(&engine.seen(id), "out of the store");
    }
    // And of those that only the store has.
    let kept =
        view_of(engine.ask(Command::CreateEnvelope(Box::new(NewEnvelope { reference: None, ..rude(10, 1, "") }))));
    engine.ask(Command::Cancel { envelope: kept.id });
    until("it has left memory", || {
        world.advance_s(10);
        engine.stats().envelopes == 0
    });
    assert_blank(&view_of(engine.ask(Command::Redact { envelope: kept.id, metadata: true })), "an answer");
    assert_blank(&engine.seen(kept.id), "a read before the store knows");
    house.reopen(|_| ());
    assert_blank(&house.engine().seen(kept.id), "a read after a start");
}

/// A gift from alice to bob with a mark in each of its texts, one of which lies in many parts.
fn rude_gift(item: ItemId, reference: &str) -> NewGift {
    NewGift {
        message: format!("{CANARY} in a message"),
        metadata: format!(r#"{{"long":"{}","note":"{CANARY}"}}"#, "x".repeat(4500)),
        reference: Some(stand::reference("app", reference)),
        ..NewGift::new("app", user("alice"), user("bob"), item)
    }
}

fn gift_of(reply: Outcome) -> Gift {
    let Outcome::Gift(gift) = reply else { panic!("{reply:?}") };
    *gift
}

fn assert_blank_gift(gift: &Gift, what: &str) {
    let Gift { message, reason, note, metadata, redacted, .. } = gift;
    assert_eq!((&**message, reason, note, &**metadata), ("", &None, &None, "{}"), "{what}");
    assert!(redacted.is_some(), "{what}");
}

#[test]
fn no_row_has_anything_of_a_gift() {
    let mut house = InDirectory::new(4);
    let engine = house.engine();
    engine.deposit(&user("alice"), 1_000);
    let roses = engine.sell(item(10));
    let step = |gift: GiftId, step| Command::StepGift { gift, step: Box::new(step) };
    let make = |reference| Command::CreateGift(Box::new(rude_gift(roses, reference)));
    let thanked = gift_of(engine.ask_under(make("thanked"), once("g1")).outcome).id;
    let declined = gift_of(engine.ask_under(make("declined"), once("g2")).outcome).id;
    assert!(engine.ask_under(make("declined"), once("g3")).replayed);
    engine.ask_under(step(thanked, GiftStep::Accept { user: user("bob"), token: None }), once("a"));
    let thank = step(thanked, GiftStep::Thank { user: user("bob"), note: format!("{CANARY} in a note") });
    engine.ask_under(thank.clone(), once("t"));
    let decline = step(declined, GiftStep::Decline { user: user("bob"), reason: Some(format!("{CANARY}, no")) });
    engine.ask_under(decline.clone(), once("d"));
    assert!(in_rows(engine) >= 20, "rows of gifts and answers have it: {}", in_rows(engine));

    // One that memory has, and one that it has not.
    house.reopen(|_| ());
    let engine = house.engine();
    for id in [thanked, declined] {
        assert_blank_gift(&gift_of(engine.ask(Command::RedactGift { gift: id, metadata: true })), "an answer");
    }
    assert_eq!(in_rows(engine), 0, "rows have it no more");
    house.reopen(|_| ());
    let engine = house.engine();
    assert_eq!(in_rows(engine), 0, "nor do they after a start");
    for (key, command) in
        [("g1", make("thanked")), ("g3", make("declined")), ("t", thank), ("d", decline), ("anew", make("declined"))]
    {
        let reply = engine.ask_under(command, once(key));
        assert!(reply.replayed, "{key}");
        assert_blank_gift(&gift_of(reply.outcome), key);
    }
    for id in [thanked, declined] {
        assert_blank_gift(&wait(engine.gift(id)).unwrap().unwrap(), "a read");
    }
    assert_eq!(in_rows(engine), 0, "nor are there new ones");
    assert!(wait(house.engine().audit()).expect("an audit").balanced());
}

/// Race: redact against accept, thank, decline, a deadline, and another that redacts.
#[test]
fn whatever_happens_to_a_gift_meanwhile_it_stays_taken_back() {
    const GIFTS: usize = 40;
    let mut house = InDirectory::new(5);
    let engine = house.engine();
    engine.deposit(&user("alice"), 10 * GIFTS as u64);
    let roses = engine.sell(item(GIFTS as u32));
    let make = |n: usize| Command::CreateGift(Box::new(rude_gift(roses, &format!("r{n}"))));
    let ids: Vec<GiftId> =
        (0..GIFTS).map(|n| gift_of(engine.ask_under(make(n), once(&format!("g{n}"))).outcome).id).collect();
    at_once(4, |thread| {
        for &gift in &ids {
            let step = |step| Command::StepGift { gift, step: Box::new(step) };
            match thread {
                0 => assert_blank_gift(&gift_of(engine.ask(Command::RedactGift { gift, metadata: true })), "an answer"),
                1 => drop(engine.ask(Command::RedactGift { gift, metadata: false })),
                2 => {
                    engine.ask(step(GiftStep::Accept { user: user("bob"), token: None }));
                    engine.ask(step(GiftStep::Ship { carrier: "sf".to_owned(), tracking: "1".to_owned() }));
                }
                _ => drop(engine.ask_under(step(GiftStep::Cancel { user: user("alice") }), once(&format!("c {gift}")))),
            }
        }
    });
    let check = |engine: &Embedded| {
        for (n, &id) in ids.iter().enumerate() {
            assert_blank_gift(&wait(engine.gift(id)).unwrap().unwrap(), "a read");
            assert_blank_gift(&gift_of(engine.ask_under(make(n), once(&format!("g{n}"))).outcome), "a repeat");
        }
    };
    check(engine);
    house.reopen(|_| ());
    check(house.engine());
    assert!(wait(house.engine().audit()).expect("an audit").balanced());
}
