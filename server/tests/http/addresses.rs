//! Addresses over HTTP: who is told one, what is asked of the engine, and that a bad one is not
//! told again.

use crate::fake::*;
use hongbao_engine::EngineError;
use hongbao_engine::address::{Address, AddressRead};
use hongbao_engine::command::{Command, Outcome, Refusal};
use hongbao_engine::gift::{Gift, GiftStep};
use hongbao_engine::types::UserId;
use serde_json::{Value, json};

fn sent() -> Value {
    json!({"name": "Bob", "phone": "138", "lines": ["7 West Lake", "house 2"], "city": "Hangzhou", "postcode": "310007"})
}

fn address() -> Address {
    let text = |text: &str| text.to_owned();
    Address {
        name: text("Bob"),
        phone: text("138"),
        lines: vec![text("7 West Lake"), text("house 2")],
        city: text("Hangzhou"),
        postcode: text("310007"),
    }
}

fn site() -> Site {
    let site = Site::new();
    let mut inner = site.fake.inner.lock().unwrap();
    inner.gifts.insert(gift_id(1), Gift { recipient: Some(UserId::new("bob").unwrap()), ..a_gift(1) });
    inner.addresses.insert(gift_id(1), AddressRead::Open { version: 2, address: Box::new(address()) });
    drop(inner);
    site
}

#[tokio::test]
async fn an_address_is_told_to_its_gifts_merchant_and_nobody_else() {
    let site = site();
    let path = format!("/v1/gifts/{}/address", gift_id(1));
    let mut told = sent();
    told["gift"] = json!(gift_id(1).to_string());
    told["version"] = json!(2);
    for (roles, status) in [
        (&["merchant:rosy"][..], 200),
        (&["merchant:lily", "merchant:rosy"], 200),
        (&["admin", "merchant:rosy"], 200),
        (&["merchant:lily"], 404),
        (&["admin", "merchant:lily"], 404),
        (&["admin"], 403),
        (&["issuer", "caller", "treasurer", "viewer"], 403),
    ] {
        let (key, _) = site.key("shop", roles).await;
        let answer = site.get_with(&key, &path).await;
        assert_eq!(answer.status.as_u16(), status, "{roles:?}: {}", answer.text());
        match status {
            200 => {
                assert_eq!((answer.json(), answer.header("cache-control")), (told.clone(), "no-store"), "{roles:?}");
            }
            _ => assert!(!answer.text().contains("West Lake"), "{roles:?}"),
        }
    }
    // The operator's own key neither.
    site.get(&path).await.assert_problem(403, "forbidden", "the admin key");
    let (key, _) = site.key("rosy", &["merchant:rosy"]).await;
    for (read, status, code) in [(AddressRead::None, 404, "not_found"), (AddressRead::KeyLost, 409, "wrong_state")] {
        site.fake.inner.lock().unwrap().addresses.insert(gift_id(1), read);
        site.get_with(&key, &path).await.assert_problem(status, code, code);
    }
    for never in [gift_id(2).to_string(), "gift_x".to_owned()] {
        site.get_with(&key, &format!("/v1/gifts/{never}/address")).await.assert_problem(404, "not_found", &never);
    }
}

#[tokio::test]
async fn each_step_with_an_address_is_asked_of_the_engine() {
    let site = site();
    let gift = gift_id(1);
    let user = UserId::new("bob").unwrap();
    let text = |text: &str| text.to_owned();
    let bare = json!({"name": "Bob", "phone": "138", "lines": ["7 West Lake"], "city": "Hangzhou"});
    let short = Address { lines: vec![text("7 West Lake")], postcode: String::new(), ..address() };
    let accept = |address| GiftStep::AcceptTo { user: user.clone(), token: None, address: Box::new(address) };
    let ship = json!({"carrier": "sf", "tracking": "1", "address_version": 2});
    for (nth, (verb, body, step)) in [
        ("accept", json!({"user": "bob", "address": sent()}), accept(address())),
        ("accept", json!({"user": "bob", "address": bare}), accept(short)),
        ("accept", json!({"user": "bob", "address": null}), GiftStep::Accept { user: user.clone(), token: None }),
        ("ship", ship, GiftStep::ShipTo { carrier: text("sf"), tracking: text("1"), address_version: 2 }),
        ("address/erase", json!({}), GiftStep::EraseAddress),
    ]
    .into_iter()
    .enumerate()
    {
        site.fake.script([Ok(Outcome::Gift(Box::new(a_gift(1))))]);
        let answer = site.post(&format!("/v1/gifts/{gift}/{verb}"), &format!("k{nth}"), body.to_string()).await;
        assert_eq!(answer.status.as_u16(), 200, "{verb}: {}", answer.text());
        assert!(!answer.text().contains("West Lake"), "{verb}");
        assert_eq!(site.fake.commands()[nth], Command::StepGift { gift, step: Box::new(step) }, "{verb}");
    }
    site.fake.script([Ok(Outcome::Refused(Refusal::WrongState("no key".into())))]);
    let accept = json!({"user": "bob", "address": sent()}).to_string();
    site.post(&format!("/v1/gifts/{gift}/accept"), "r", accept.clone()).await.assert_problem(
        409,
        "wrong_state",
        "no key",
    );
    site.fake.script([Err(EngineError::Addresses("the inside".into()))]);
    let problem = site.post(&format!("/v1/gifts/{gift}/accept"), "f", accept).await;
    assert!(!problem.assert_problem(500, "internal", "a disk").to_string().contains("the inside"));
}

#[tokio::test]
async fn what_is_wrong_with_an_address_is_told_without_it() {
    let site = site();
    let path = format!("/v1/gifts/{}/accept", gift_id(1));
    let with = |field: &str, value: Value| {
        let mut address = sent();
        address[field] = value;
        address
    };
    let without = |field: &str| {
        let mut address = sent();
        address.as_object_mut().unwrap().remove(field);
        address
    };
    let canary = |count: usize| "canary".repeat(count);
    for (address, field) in [
        (json!("canary street"), "address"),
        (json!(["canary street"]), "address"),
        (json!(4711), "address"),
        (with("name", json!("")), "address.name"),
        (with("name", json!(canary(17))), "address.name"),
        (with("name", json!({"canary": 1})), "address.name"),
        (with("phone", json!(13_847_114_711_u64)), "address.phone"),
        (with("phone", json!(canary(7))), "address.phone"),
        (with("lines", json!("canary street")), "address.lines"),
        (with("lines", json!([])), "address.lines"),
        (with("lines", json!(vec!["canary"; 6])), "address.lines"),
        (with("lines", json!(["a", canary(34)])), "address.lines[1]"),
        (with("lines", json!(["a", 4711])), "address.lines[1]"),
        (with("city", json!(["canary"])), "address.city"),
        (with("city", json!("canary\u{7}")), "address.city"),
        (with("postcode", json!(canary(4))), "address.postcode"),
        (with("country", json!("canary")), "address.country"),
        (without("name"), "address.name"),
        (without("lines"), "address.lines"),
    ] {
        let body = json!({"user": "bob", "address": address}).to_string();
        let problem = site.post(&path, "k", body.clone()).await.assert_problem(422, "invalid_field", &body);
        assert_eq!(problem["errors"][0]["field"], field, "{body}: {problem}");
        let told = problem.to_string();
        assert!(!told.contains("canary") && !told.contains("4711"), "{told}");
    }
    assert_eq!(site.fake.commands(), []);
}
