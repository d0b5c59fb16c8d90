//! What comes of payments by themselves: paid, late, lost, and back where they came from.

use crate::house::{House, KEEP_S, PAY_WITHIN_S, text};
use hongbao_server::payments::Faults;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_is_paid_at_the_gateway_however_often_it_says_so() {
    let house = House::open(Faults { double: 3, ..Faults::default() }).await;
    let item = house.item(5).await;
    let begun = house.claim(&house.hold(&item, "bob").await, "bob").await;
    assert_eq!(begun["outcome"], "awaiting_payment");
    let payment = text(&begun["payment"]);
    assert!(begun["pay_url"].as_str().unwrap().ends_with(&format!("/pay/{payment}")), "{begun}");
    assert_eq!(house.pay_there(&payment).await, 200);
    let told = house.until(&payment, "paid").await;
    assert_eq!(told["discrepancy"], json!(null));
    let order = house.get(&format!("/v1/orders/{}", text(&told["order"]))).await;
    assert_eq!((&order["state"], &order["amount"]), (&json!("paid"), &json!(100)));
    assert_eq!(house.audit().await, [100, 0, 0, 100, 0]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_gateway_does_not_answer_or_tell_is_asked_for() {
    // The reply to the creation is lost, and so is every callback.
    let house = House::open(Faults { lost: 1, unanswered: 1, ..Faults::default() }).await;
    let item = house.item(5).await;
    let hold = house.hold(&item, "bob").await;
    let begun = house.claim(&hold, "bob").await;
    assert_eq!(begun["outcome"], "awaiting_payment");
    let payment = text(&begun["payment"]);
    let told = house.until(&payment, "pending").await;
    assert!(told["pay_url"].is_string(), "{told}");
    assert_eq!(house.claim(&hold, "bob").await["pay_url"], told["pay_url"]);
    assert_eq!(house.pay_there(&payment).await, 200);
    house.until(&payment, "paid").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn race_21_a_hold_is_kept_until_the_gateway_says_that_nobody_paid() {
    let house = House::open(Faults::default()).await;
    let item = house.item(1).await;
    let hold = house.hold(&item, "bob").await;
    let payment = text(&house.claim(&hold, "bob").await["payment"]);
    // The gateway answers nothing: the units are kept, whatever the time.
    house.sandbox.misbehave(Faults { unanswered: u64::MAX, ..Faults::default() });
    house.advance(PAY_WITHIN_S + KEEP_S / 2).await;
    let grab = format!("/v1/items/{item}/grab");
    assert_eq!(house.post(&grab, json!({"user": "eve"}), 200).await["outcome"], "sold_out");
    assert_eq!(house.payment(&payment).await["state"], "pending");
    // It answers that nobody has paid and nobody can any more.
    house.sandbox.misbehave(Faults::default());
    house.until(&payment, "expired").await;
    assert_eq!(house.pay_there(&payment).await, 409);
    let held = house.post(&grab, json!({"user": "eve"}), 200).await;
    assert_eq!(held["outcome"], "held");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn race_21_a_late_payment_buys_what_is_there_and_comes_back_from_what_is_not() {
    for is_taken in [false, true] {
        let house = House::open(Faults { late: 1, lost: 1, ..Faults::default() }).await;
        let item = house.item(1).await;
        let hold = house.hold(&item, "bob").await;
        let payment = text(&house.claim(&hold, "bob").await["payment"]);
        house.advance(PAY_WITHIN_S + 600).await;
        house.until(&payment, "expired").await;
        if is_taken {
            house.hold(&item, "eve").await;
        }
        // It takes the money all the same, and nobody tells.
        assert_eq!(house.pay_there(&payment).await, 200);
        if is_taken {
            house.until(&payment, "refunded").await;
            assert_eq!(house.sandbox.refunds(&payment), 1);
            assert_eq!(house.audit().await, [100, 100, 0, 0, 0]);
        } else {
            let told = house.until(&payment, "paid").await;
            let order = house.get(&format!("/v1/orders/{}", text(&told["order"]))).await;
            assert_ne!(text(&order["hold"]), hold);
            assert_eq!(house.audit().await, [100, 0, 0, 100, 0]);
        }
        house.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn race_25_a_refund_whose_reply_is_lost_is_asked_for_and_done_once() {
    let house = House::open(Faults { lost: 1, ..Faults::default() }).await;
    let item = house.item(1).await;
    let payment = text(&house.claim(&house.hold(&item, "bob").await, "bob").await["payment"]);
    assert_eq!(house.pay_there(&payment).await, 200);
    let order = text(&house.until(&payment, "paid").await["order"]);
    let step = async |name: &str, body| house.post(&format!("/v1/orders/{order}/{name}"), body, 200).await;
    step("ship", json!({"carrier": "sf", "tracking": "1"})).await;
    step("deliver", json!({})).await;
    // Neither whether it went back nor that it does is answered for a while.
    house.sandbox.misbehave(Faults { lost: 1, unanswered: 5, ..Faults::default() });
    step("return", json!({"user": "bob", "reason": "withered"})).await;
    step("accept-return", json!({"restock": true})).await;
    let told = house.until(&payment, "refunded").await;
    assert!(told["refund_id"].is_string(), "{told}");
    assert_eq!(house.sandbox.refunds(&payment), 1);
    assert_eq!(house.get("/v1/wallets/bob").await["available"], 0);
    assert_eq!(house.audit().await, [100, 100, 0, 0, 0]);
    house.close().await;
}

/// The story of docs/GIFTS.md, with somebody who pays outside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gift_that_nobody_accepts_gives_the_third_person_the_money_back_where_it_came_from() {
    let house = House::open(Faults::default()).await;
    let item = house.item(5).await;
    let gift = json!({"giver": "alice", "recipient": "bob", "item": item, "payer": "carol"});
    let gift = text(&house.post("/v1/gifts", gift, 201).await["id"]);
    let pay = json!({"payer": "carol", "pay_with": "sandbox"});
    let begun = house.post(&format!("/v1/gifts/{gift}/payment"), pay, 200).await;
    assert_eq!(begun["outcome"], "awaiting_payment");
    let payment = text(&begun["payment"]);
    assert_eq!(house.pay_there(&payment).await, 200);
    assert_eq!(house.until(&payment, "paid").await["gift"], json!(gift));
    let path = format!("/v1/gifts/{gift}");
    assert_eq!(house.get(&path).await["state"], "offered");
    house.advance(3 * 86_400).await;
    house.until(&payment, "refunded").await;
    assert_eq!(house.get(&path).await["state"], "expired");
    assert_eq!(house.sandbox.refunds(&payment), 1);
    for user in ["alice", "bob", "carol"] {
        let entries = house.get(&format!("/v1/wallets/{user}/entries")).await;
        assert_eq!(entries["entries"], json!([]), "{user}");
    }
    assert_eq!(house.audit().await, [100, 100, 0, 0, 0]);
    let events = house.get("/v1/events?types=payment.*").await;
    let told: Vec<_> = events["events"].as_array().unwrap().iter().map(|event| text(&event["type"])).collect();
    assert_eq!(told, ["payment.created", "payment.paid", "payment.refunding", "payment.refunded"]);
    house.close().await;
}
