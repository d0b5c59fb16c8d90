//! Texts of gifts that are taken back in front of Redis: where they are left, and payments under way.

use crate::deployment::{Deployment, is_missing};
use crate::feed_story::query;
use crate::gifts::{step, terms};
use crate::races::Two;
use crate::redis_stand::{RedisServer, ServerOptions};
use crate::stand::{item, reference, user};
use hongbao_engine::backend::{Backend, OnceKey};
use hongbao_engine::command::*;
use hongbao_engine::feed::{After, EventType, EventTypes};
use hongbao_engine::gift::{Gift, GiftState, GiftStep, NewGift};
use hongbao_engine::types::*;
use std::sync::Arc;

fn redact(gift: GiftId) -> Command {
    Command::RedactGift { gift, metadata: true }
}

fn gift_of(outcome: &Outcome) -> &Gift {
    match outcome {
        Outcome::Gift(gift) => gift,
        other => panic!("{other:?}"),
    }
}

/// Each text is asked for under a key and a reference, so that its answer is kept. Once it is taken back
/// only events that were told before have it, until they are forgotten, and nobody is told it.
#[test]
fn a_text_that_was_taken_back_is_in_no_row_and_no_kept_answer() {
    if is_missing() {
        return;
    }
    let server = Arc::new(RedisServer::start(ServerOptions::without_aof().line("rdbcompression no")));
    let two = Two::over(Deployment::alone_on(110, &server));
    let id = two.sell(item(9));
    two.deposit("alice", 100);
    two.deposit("carol", 100);
    let rude = |name: &str, payer: &str| {
        Command::CreateGift(Box::new(NewGift {
            message: "canary message".to_owned(),
            metadata: r#"{"why":"canary"}"#.to_owned(),
            payer: user(payer),
            reference: Some(reference("app", name)),
            ..terms("alice", id)
        }))
    };
    let once = |text: &str| Some(OnceKey::idempotency("app", "x", text));
    let ask = |command: &Command, key: &str| {
        two.at_once(vec![(command.clone(), once(key))]).pop().expect("one answer").expect("it is answered")
    };
    let give = [rude("r1", "alice"), rude("r2", "carol")];
    let ids = [0, 1].map(|nth| gift_of(&ask(&give[nth], &format!("give{nth}")).outcome).id);
    let pay = step(ids[1], GiftStep::Pay { payer: user("carol") });
    let decline = GiftStep::Decline { user: user("bob"), reason: Some("canary reason".to_owned()) };
    let decline = step(ids[1], decline);
    let accept = step(ids[0], GiftStep::Accept { user: user("bob"), token: None });
    for (command, key) in [(&pay, "pay"), (&decline, "decline"), (&accept, "accept")] {
        let told = ask(command, key).outcome;
        assert_eq!(gift_of(&told).message, "canary message", "{key}");
    }
    let kept = [(&give[0], "give0"), (&give[1], "give1"), (&pay, "pay"), (&decline, "decline"), (&accept, "accept")];
    let states = kept.map(|(command, key)| {
        let told = ask(command, key);
        assert!(told.replayed && gift_of(&told.outcome).metadata.contains("canary"), "{key}: {told:?}");
        gift_of(&told.outcome).state
    });
    assert_eq!(
        states,
        [GiftState::Offered, GiftState::AwaitingPayment, GiftState::Offered, GiftState::Declined, GiftState::Accepted],
        "as it was answered, whatever has become of it"
    );
    assert_eq!(gift_of(&ask(&decline, "decline").outcome).reason.as_deref(), Some("canary reason"));

    let found = "local found = {} for _, key in ipairs(redis.call('KEYS', '*')) do
        if string.find(redis.call('DUMP', key), 'canary') then found[#found + 1] = string.match(key, '}:(.*)$') end
      end table.sort(found) return table.concat(found, ' ')";
    two.deployment.settle(&two.engines[0]);
    assert_eq!(server.cli(&["EVAL", found, "0"]), "gifts sums", "no kept answer has any");
    for gift in ids {
        let told = two.ask(redact(gift));
        assert!(!format!("{told:?}").contains("canary") && gift_of(&told).redacted.is_some(), "{told:?}");
        let again = two.ask(redact(gift));
        assert_eq!(gift_of(&told), gift_of(&again));
    }
    assert_eq!(server.cli(&["EVAL", found, "0"]), "sums", "what was told of events, until it is forgotten");
    for (command, key) in kept {
        let told = two.at_once(vec![(command.clone(), once(key)); 2]);
        assert!(told.iter().all(|told| told.as_ref().is_ok_and(|told| told.replayed)), "{key}: {told:?}");
        assert!(!format!("{told:?}").contains("canary"), "{key}: {told:?}");
    }
    // Under another key its reference leads to it.
    let told = ask(&give[0], "another");
    assert!(told.replayed && !format!("{told:?}").contains("canary"), "{told:?}");
    let page =
        two.deployment.drive(two.engines[1].events(&query(After::Oldest, EventTypes::USUAL, 1000))).expect("a read");
    assert!(!format!("{:?}", page.events).contains("canary"), "{:?}", page.events);
    let redacted = page.events.iter().filter(|event| event.what.event_type() == EventType::GiftRedacted).count();
    assert_eq!(redacted, 2);
    two.assert_sound();
}

/// Whoever takes texts back of a gift that is being paid has the payment ended first.
#[test]
fn a_payment_under_way_is_ended_before_texts_are_taken_back() {
    let Some(two) = Two::new(111) else { return };
    for (funds, calls) in [(100, 2), (100, 3), (3, 2), (3, 3)] {
        let id = two.sell(item(1));
        let name = format!("carol{funds}.{calls}");
        two.deposit(&name, funds);
        let asked = NewGift { payer: user(&name), message: "rude".to_owned(), ..terms("alice", id) };
        let gift = two.given(asked).id;
        let pay = step(gift, GiftStep::Pay { payer: user(&name) });
        two.lost(pay.clone(), None, calls);
        let told = two.ask(redact(gift));
        let state = if funds < 10 { GiftState::AwaitingPayment } else { GiftState::Offered };
        assert_eq!((gift_of(&told).state, &*gift_of(&told).message), (state, ""), "{funds} {calls}");
        two.assert_sound();
    }
}
