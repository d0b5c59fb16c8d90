//! Gift envelopes over HTTP: what is asked of the engine, and what is told.

use crate::fake::*;
use hongbao_engine::command::{Command, Outcome, Refusal};
use hongbao_engine::gift::{Gift, GiftState, GiftToken};
use hongbao_engine::gift_envelope::*;
use hongbao_engine::types::{Amount, GiftEnvelopeId, UserId};
use serde_json::json;

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn id() -> GiftEnvelopeId {
    GiftEnvelopeId::from_bytes([5; 16])
}

fn view() -> GiftEnvelopeView {
    let gifts = vec![
        Gift { recipient: Some(user("bob")), token: None, ..a_gift(1) },
        Gift { recipient: None, token: None, ..a_gift(2) },
    ];
    let envelope = GiftEnvelope {
        id: id(),
        owner: "shop".to_owned(),
        giver: user("alice"),
        payer: user("alice"),
        item: item_id(1),
        merchant: user("rosy"),
        amount: Amount::new(100).unwrap(),
        token: Some(GiftToken([1; 16])),
        created_at: NOW,
        accept_within_s: 20,
        reference: None,
        gifts: gifts.iter().map(|gift| gift.id).collect(),
    };
    GiftEnvelopeView { envelope, gifts }
}

fn site() -> Site {
    let site = Site::new();
    site.fake.inner.lock().unwrap().gift_envelopes.push(view());
    site
}

#[tokio::test]
async fn what_is_not_said_is_as_the_contract_says() {
    let site = site();
    let made = || Ok(Outcome::GiftEnvelope(Box::new(view().envelope)));
    let terms = NewGiftEnvelope::new("admin", user("alice"), item_id(1), 2);
    for (key, body, expected) in [
        ("a", json!({"giver": "alice", "item": item_id(1).to_string(), "units": 2}), terms.clone()),
        (
            "b",
            json!({"giver": "alice", "item": item_id(1).to_string(), "units": 100, "payer": "carol", "message": "hi",
                   "with_token": true, "pay_within_s": 1, "expires_in_s": 2, "accept_within_s": 3, "ship_within_s": 4}),
            NewGiftEnvelope {
                units: 100,
                payer: user("carol"),
                message: "hi".to_owned(),
                has_token: true,
                pay_within_s: 1,
                expires_in_s: 2,
                accept_within_s: 3,
                ship_within_s: 4,
                ..terms
            },
        ),
    ] {
        site.fake.script([made()]);
        let answer = site.post("/v1/gift-envelopes", key, body.to_string()).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        assert_eq!(answer.json()["remaining"], 1);
        assert_eq!(site.fake.commands().pop(), Some(Command::CreateGiftEnvelope(Box::new(expected))));
    }
    for (units, field) in [(json!(0), "units"), (json!(101), "units"), (json!("2"), "units")] {
        let body = json!({"giver": "alice", "item": item_id(1).to_string(), "units": units}).to_string();
        let problem = site.post("/v1/gift-envelopes", "c", body).await.assert_problem(422, "invalid_field", field);
        assert_eq!(problem["errors"][0]["field"], field);
    }
}

#[tokio::test]
async fn its_token_is_told_to_those_who_act_for_users_while_it_is_needed() {
    let site = site();
    let path = format!("/v1/gift-envelopes/{}", id());
    for (role, is_told) in [("admin", true), ("caller", true), ("viewer", false)] {
        let (key, _) = site.key("anybody", &[role]).await;
        let told = site.get_with(&key, &path).await.json();
        assert_eq!(told.get("token").is_some(), is_told, "{role}");
        assert_eq!((&told["state"], &told["grabbed"]), (&json!("open"), &json!(1)), "{role}");
        assert_eq!(told["gifts"][0]["recipient"], "bob");
    }
    let (key, _) = site.key("another", &["issuer"]).await;
    site.get_with(&key, &path).await.assert_problem(404, "not_found", "another owner's");
    site.fake.inner.lock().unwrap().gift_envelopes[0].gifts[1].state = GiftState::Expired;
    let told = site.get(&path).await.json();
    assert_eq!((&told["state"], told.get("token")), (&json!("expired"), None));
    let listed = site.get("/v1/users/alice/gift-envelopes").await.json();
    assert_eq!(listed["gift_envelopes"][0]["id"], id().to_string());
}

#[tokio::test]
async fn a_grab_tells_the_gift_or_why_there_is_none() {
    let site = site();
    let path = format!("/v1/gift-envelopes/{}/grab", id());
    let body = json!({"user": "bob", "token": "01".repeat(16)}).to_string();
    site.fake.script([Ok(Outcome::Gift(Box::new(view().gifts[0].clone())))]);
    let told = site.post(&path, "unused", body.clone()).await.json();
    assert_eq!((&told["outcome"], &told["replayed"]), (&json!("offered"), &json!(false)));
    assert_eq!(told["gift"]["recipient"], "bob");
    let token = Some(GiftToken([1; 16]));
    let asked = Command::GrabGift { envelope: id(), user: user("bob"), token, must_follow: false };
    assert_eq!(site.fake.commands().pop(), Some(asked));
    for (outcome, name) in
        [(Outcome::SoldOut, "sold_out"), (Outcome::Expired, "expired"), (Outcome::Cancelled, "cancelled")]
    {
        site.fake.script([Ok(outcome)]);
        assert_eq!(site.post(&path, "unused", body.clone()).await.json(), json!({ "outcome": name }));
    }
    site.fake.script([Ok(Outcome::Refused(Refusal::Apart))]);
    site.post(&path, "unused", body).await.assert_problem(403, "forbidden", "blocked");
    let body = json!({"user": "bob", "token": "short"}).to_string();
    site.post(&path, "unused", body).await.assert_problem(422, "invalid_field", "a token");
}

#[tokio::test]
async fn no_units_are_a_problem_that_says_why_and_steps_tell_the_envelope() {
    let site = site();
    let body = json!({"giver": "alice", "item": item_id(1).to_string(), "units": 2}).to_string();
    for (key, outcome) in [("a", Outcome::SoldOut), ("b", Outcome::LimitReached), ("c", Outcome::Ended)] {
        site.fake.script([Ok(outcome)]);
        site.post("/v1/gift-envelopes", key, body.clone()).await.assert_problem(409, "wrong_state", key);
    }
    for (path, body, step) in [
        ("pay", json!({"payer": "carol"}), GiftEnvelopeStep::Pay { payer: user("carol") }),
        ("cancel", json!({"user": "alice"}), GiftEnvelopeStep::Cancel { user: user("alice") }),
    ] {
        site.fake.script([Ok(Outcome::GiftEnvelope(Box::new(view().envelope)))]);
        let answer = site.post(&format!("/v1/gift-envelopes/{}/{path}", id()), path, body.to_string()).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["units"]), (200, &json!(2)), "{path}");
        let asked = Command::StepGiftEnvelope { envelope: id(), step: Box::new(step) };
        assert_eq!(site.fake.commands().pop(), Some(asked), "{path}");
    }
}
