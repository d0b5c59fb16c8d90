//! Gifts over HTTP: what is told of them to whom, and what is asked of the engine.

use crate::fake::*;
use hongbao_engine::command::{Command, Outcome};
use hongbao_engine::gift::{Gift, GiftState, GiftStep, GiftToken, NewGift};
use hongbao_engine::redaction::GiftRedaction;
use hongbao_engine::types::UserId;
use serde_json::{Value, json};

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn site(gift: Gift) -> Site {
    let site = Site::new();
    site.fake.inner.lock().unwrap().gifts.insert(gift.id, gift);
    site
}

const TOKEN: &str = "01010101010101010101010101010101";

fn shown() -> Value {
    json!({
        "id": gift_id(1).to_string(), "state": "offered", "giver": "alice", "recipient": null, "payer": "carol",
        "item": item_id(1).to_string(), "merchant": "rosy", "amount": 29900, "currency": "CNY", "message": "for you",
        "created_at": NOW_TEXT, "pay_by": "2027-02-06T08:01:00.123Z", "paid_at": NOW_TEXT,
        "accept_by": "2027-02-06T08:01:00.123Z", "accepted_at": null, "ship_by": null, "shipped_at": null,
        "carrier": null, "tracking": null, "ended_at": null, "reason": null, "note": null, "reference": null,
        "metadata": {}, "redacted_at": null
    })
}

fn with_token() -> Value {
    let mut gift = shown();
    gift["token"] = json!(TOKEN);
    gift
}

#[tokio::test]
async fn a_gift_is_shown_to_each_as_far_as_it_may_see() {
    let site = site(a_gift(1));
    let path = format!("/v1/gifts/{}", gift_id(1));
    for (owner, role, told) in [
        ("anybody", "admin", Some(with_token())),
        ("anybody", "caller", Some(with_token())),
        ("anybody", "viewer", Some(shown())),
        ("shop", "issuer", Some(shown())),
        ("rival", "issuer", None),
        ("anybody", "merchant:rosy", Some(shown())),
        ("anybody", "merchant:lily", None),
    ] {
        let (key, _) = site.key(owner, &[role]).await;
        let answer = site.get_with(&key, &path).await;
        match told {
            Some(told) => assert_eq!((answer.status.as_u16(), answer.json()), (200, told), "{role} of {owner}"),
            None => drop(answer.assert_problem(404, "not_found", role)),
        }
    }
    for never in [gift_id(2).to_string(), "gift_x".into(), item_id(1).to_string()] {
        site.get(&format!("/v1/gifts/{never}")).await.assert_problem(404, "not_found", &never);
    }
}

#[tokio::test]
async fn a_token_is_told_only_while_it_is_needed() {
    for state in GiftState::ALL {
        let site = site(Gift { state, ..a_gift(1) });
        let told = site.get(&format!("/v1/gifts/{}", gift_id(1))).await.json();
        let is_needed = matches!(state, GiftState::AwaitingPayment | GiftState::Offered);
        assert_eq!(told.get("token").is_some(), is_needed, "{state:?}");
        assert_eq!(told["state"], state.name());
    }
}

#[tokio::test]
async fn lists_are_of_what_a_user_gives_or_gets() {
    let site = site(Gift { recipient: Some(user("bob")), token: None, ..a_gift(1) });
    let mut row = shown();
    row["recipient"] = json!("bob");
    let page = |rows: Value| json!({"gifts": rows, "next_cursor": null});
    for (query, rows) in [
        ("alice/gifts?role=given&limit=7", json!([row])),
        ("alice/gifts?role=received", json!([])),
        ("bob/gifts", json!([row])),
        ("bob/gifts?role=given", json!([])),
    ] {
        assert_eq!(site.get(&format!("/v1/users/{query}")).await.json(), page(rows), "{query}");
    }
    let answer = site.get("/v1/users/bob/gifts?role=taken").await;
    assert_eq!(answer.assert_problem(422, "invalid_field", "a role")["errors"][0]["field"], "role");
}

#[tokio::test]
async fn what_is_not_said_is_as_the_contract_says() {
    let site = Site::new();
    let terms = NewGift::new("admin", user("alice"), user("bob"), item_id(1));
    let mut asked = Vec::new();
    for (body, expected) in [
        (json!({"giver": "alice", "recipient": "bob", "item": item_id(1).to_string()}), terms.clone()),
        (
            json!({"giver": "alice", "item": item_id(1).to_string(), "payer": "carol", "message": "hi",
                   "pay_within_s": 1, "accept_within_s": 2, "ship_within_s": 3, "metadata": {"a": 1}}),
            NewGift {
                recipient: None,
                payer: user("carol"),
                message: "hi".into(),
                pay_within_s: 1,
                accept_within_s: 2,
                ship_within_s: 3,
                metadata: r#"{"a":1}"#.into(),
                ..terms
            },
        ),
    ] {
        site.fake.script([Ok(Outcome::Gift(Box::new(a_gift(1))))]);
        let answer = site.post("/v1/gifts", &format!("k{}", asked.len()), body.to_string()).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (201, with_token()));
        asked.push(Command::CreateGift(Box::new(expected)));
    }
    assert_eq!(site.fake.commands(), asked);
}

#[tokio::test]
async fn no_unit_is_a_problem_that_says_why() {
    let site = Site::new();
    let body = json!({"giver": "alice", "recipient": "bob", "item": item_id(1).to_string()}).to_string();
    for (outcome, words) in [
        (Outcome::SoldOut, "sold"),
        (Outcome::LimitReached, "as"),
        (Outcome::NotOpen { opens_at: NOW }, NOW_TEXT),
        (Outcome::Ended, "over"),
    ] {
        site.fake.script([Ok(outcome)]);
        let problem = site.post("/v1/gifts", words, body.clone()).await.assert_problem(409, "wrong_state", words);
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    }
}

#[tokio::test]
async fn each_step_is_asked_of_the_engine_under_the_right_name() {
    let site = site(a_gift(1));
    let gift = gift_id(1);
    let text = |text: &str| text.to_owned();
    let rows = [
        ("pay", json!({"payer": "carol"}), GiftStep::Pay { payer: user("carol") }),
        ("accept", json!({"user": "bob"}), GiftStep::Accept { user: user("bob"), token: None }),
        (
            "accept",
            json!({"user": "bob", "token": TOKEN}),
            GiftStep::Accept { user: user("bob"), token: Some(GiftToken([1; 16])) },
        ),
        ("decline", json!({"user": "bob"}), GiftStep::Decline { user: user("bob"), reason: None }),
        ("cancel", json!({"user": "alice"}), GiftStep::Cancel { user: user("alice") }),
        ("thank", json!({"user": "bob", "note": "x"}), GiftStep::Thank { user: user("bob"), note: text("x") }),
        (
            "ship",
            json!({"carrier": "sf", "tracking": "1"}),
            GiftStep::Ship { carrier: text("sf"), tracking: text("1") },
        ),
        ("deliver", json!({}), GiftStep::Deliver),
        ("fail", json!({"reason": "frost"}), GiftStep::Fail { reason: text("frost") }),
    ];
    for (nth, (verb, body, step)) in rows.into_iter().enumerate() {
        site.fake.script([Ok(Outcome::Gift(Box::new(a_gift(1))))]);
        let answer = site.post(&format!("/v1/gifts/{gift}/{verb}"), &format!("k{nth}"), body.to_string()).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (200, with_token()), "{verb}");
        assert_eq!(site.fake.commands()[nth], Command::StepGift { gift, step: Box::new(step) }, "{verb}");
    }
}

#[tokio::test]
async fn texts_are_taken_back_by_an_admin() {
    let site = site(a_gift(1));
    let gift = gift_id(1);
    let path = format!("/v1/gifts/{gift}/redact");
    let redacted = Some(GiftRedaction { at: NOW, metadata: true, times: 1 });
    for (body, metadata) in [("", false), ("{}", false), (r#"{"metadata":true}"#, true)] {
        site.fake.script([Ok(Outcome::Gift(Box::new(Gift { message: String::new(), redacted, ..a_gift(1) })))]);
        let answer = site.post(&path, "-", body).await;
        assert_eq!(site.fake.commands().pop(), Some(Command::RedactGift { gift, metadata }), "{body}");
        assert_eq!((&answer.json()["message"], &answer.json()["redacted_at"]), (&json!(""), &json!(NOW_TEXT)));
    }
    let (caller, _) = site.key("shop", &["caller", "issuer", "viewer", "merchant:rosy"]).await;
    site.ask_with(&caller, "POST", &path, json!({})).await.assert_problem(403, "forbidden", "a caller");
}

/// A key of one merchant does nothing about another's gifts, whatever else it may.
#[tokio::test]
async fn only_its_merchant_ships_a_gift() {
    let site = site(a_gift(1));
    let (lily, _) = site.key("shop", &["merchant:lily", "caller", "viewer"]).await;
    let (rosy, _) = site.key("shop", &["merchant:rosy"]).await;
    for (verb, body) in [
        ("ship", json!({"carrier": "sf", "tracking": "1"})),
        ("deliver", json!({})),
        ("fail", json!({"reason": "frost"})),
    ] {
        let before = site.fake.commands().len();
        let path = format!("/v1/gifts/{}/{verb}", gift_id(1));
        site.ask_with(&lily, "POST", &path, body.clone()).await.assert_problem(404, "not_found", verb);
        assert_eq!(site.fake.commands().len(), before, "{verb}: nothing is asked of the engine");
        site.fake.script([Ok(Outcome::Gift(Box::new(a_gift(1))))]);
        assert_eq!(site.ask_with(&rosy, "POST", &path, body).await.status, 200, "{verb}");
    }
}
