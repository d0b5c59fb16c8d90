//! A message that was taken back: nothing of it is left in any row, and it stays taken back
//! whatever else happens to its envelope at the same time.

mod stand;

use hongbao_engine::backend::{Backend, OnceKey};
use hongbao_engine::backup::send;
use hongbao_engine::command::*;
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
