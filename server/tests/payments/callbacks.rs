//! Callbacks that are not what they seem, and those that come at odd times.

use crate::house::{House, SECRET, signed, text};
use hongbao_server::payments::Faults;
use serde_json::json;

/// What the gateway would say of a payment.
fn paid(payment: &str, amount: u64) -> serde_json::Value {
    json!({"about": "payment", "reference": payment, "state": "paid", "id": "t1", "amount": amount})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn race_22_a_callback_twice_has_one_effect_and_200_both_times() {
    let house = House::with(Faults::default(), false).await;
    let item = house.item(5).await;
    let payment = text(&house.claim(&house.hold(&item, "bob").await, "bob").await["payment"]);
    for _ in 0..2 {
        let (status, answer) = house.call_back("sandbox", SECRET, 0, &paid(&payment, 100)).await;
        assert_eq!((status, &answer["state"]), (200, &json!("paid")), "{answer}");
    }
    assert_eq!(house.audit().await, [100, 0, 0, 100, 0]);
    // Its order says what it was paid with by its number alone.
    let order = text(&house.payment(&payment).await["order"]);
    assert_eq!(house.get(&format!("/v1/orders/{order}")).await["user"], "bob");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_stale_and_replayed_callbacks_are_401_and_have_no_effect() {
    let house = House::with(Faults::default(), false).await;
    let item = house.item(5).await;
    let payment = text(&house.claim(&house.hold(&item, "bob").await, "bob").await["payment"]);
    let other = text(&house.claim(&house.hold(&item, "eve").await, "eve").await["payment"]);
    let message = paid(&payment, 100);
    let another = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    for (name, secret, age_s) in [
        ("sandbox", another, 0),
        ("sandbox", SECRET, 301),
        ("sandbox", SECRET, -301),
        // It is this gateway's secret, and not its payment.
        ("other", SECRET, 0),
    ] {
        let (status, answer) = house.call_back(name, secret, age_s, &message).await;
        assert_eq!((status, &answer["code"]), (401, &json!("unauthorized")), "{name} {age_s}: {answer}");
    }
    assert_eq!(house.call_back("nobody", SECRET, 0, &message).await.0, 401);
    // What was signed for one payment is sent for another.
    let headers = signed(SECRET, "m1", 0, &message.to_string());
    assert_eq!(house.call_back_with(&headers, &paid(&other, 100).to_string()).await.0, 401);
    let json = "content-type: application/json\r\n";
    let twice = headers.clone() + &headers[json.len()..];
    for headers in [json, &format!("{json}webhook-id: m1\r\n"), &twice, &headers.replace("v1,", "v2,")] {
        assert_eq!(house.call_back_with(headers, &message.to_string()).await.0, 401, "{headers}");
    }
    assert_eq!(house.call_back_with(&headers[json.len()..], &message.to_string()).await.0, 415);
    let unknown = paid("payment_00000000000000000000000000", 100);
    assert_eq!(house.call_back("sandbox", SECRET, 0, &unknown).await.0, 401);
    // Signed, and makes no sense.
    for (wrong, status) in [
        (json!({}), 422),
        (json!([]), 422),
        (json!({"about": "payment", "reference": "pay_1", "state": "paid", "id": "t", "amount": 100}), 422),
        (json!({"about": "payment", "reference": payment, "state": "paid", "id": "t"}), 422),
        (json!({"about": "payment", "reference": payment, "state": "paid", "amount": 100}), 422),
        (json!({"about": "payment", "reference": payment, "state": "paid", "id": "t", "amount": 0}), 422),
        (
            json!({"about": "payment", "reference": payment, "state": "paid", "id": "t", "amount": 9007199254740992u64}),
            422,
        ),
        (json!({"about": "payment", "reference": payment, "state": "stolen"}), 422),
        (json!({"about": "weather", "reference": payment, "state": "paid"}), 422),
        // What is not to be refunded is not, whatever is said.
        (json!({"about": "refund", "reference": payment, "state": "refunded", "id": "r"}), 200),
    ] {
        let (given, answer) = house.call_back("sandbox", SECRET, 0, &wrong).await;
        assert_eq!(given, status, "{wrong}: {answer}");
    }
    let long = json!({"pad": "x".repeat(64 << 10)});
    assert_eq!(house.call_back("sandbox", SECRET, 0, &long).await.0, 413);
    for id in [&payment, &other] {
        assert_eq!(house.payment(id).await["state"], "pending");
    }
    assert_eq!(house.audit().await, [0; 5]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_amount_goes_back_and_is_listed() {
    let house = House::open(Faults { wrong: 1, ..Faults::default() }).await;
    let item = house.item(1).await;
    let hold = house.hold(&item, "bob").await;
    let payment = text(&house.claim(&hold, "bob").await["payment"]);
    assert_eq!(house.pay_there(&payment).await, 200);
    let told = house.until(&payment, "refunded").await;
    assert_eq!((&told["taken"], &told["discrepancy"]), (&json!(101), &json!("other_amount")));
    assert_eq!(told["order"], json!(null));
    let listed = house.get("/v1/payments?discrepant=true").await;
    assert_eq!(listed["payments"].as_array().unwrap().len(), 1);
    assert_eq!(house.get("/v1/payments?state=paid").await["payments"], json!([]));
    // Told once more that it was paid, once it has gone back: nothing happens.
    assert_eq!(house.call_back("sandbox", SECRET, 0, &paid(&payment, 101)).await.0, 200);
    assert_eq!(house.payment(&payment).await["state"], "refunded");
    // The hold is still bob's, to be paid otherwise.
    house.post("/v1/wallets/bob/deposits", json!({"amount": 100}), 201).await;
    let claimed = house.post(&format!("/v1/holds/{hold}/claim"), json!({"user": "bob"}), 200).await;
    assert_eq!(claimed["outcome"], "claimed");
    assert_eq!(house.audit().await, [201, 101, 0, 100, 0]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_asked_for_is_told_with_what_can() {
    let house = House::with(Faults::default(), false).await;
    let item = house.item(5).await;
    let hold = house.hold(&item, "bob").await;
    let claim = format!("/v1/holds/{hold}/claim");
    let answer = house.post(&claim, json!({"user": "bob", "pay_with": "paypal"}), 422).await;
    assert!(answer.to_string().contains("other, sandbox"), "{answer}");
    house.post(&claim, json!({"user": "bob", "pay_with": ""}), 422).await;
    house.post(&claim, json!({"user": "eve", "pay_with": "sandbox"}), 403).await;
    let payment = house.claim(&hold, "bob").await;
    assert_eq!(house.claim(&hold, "bob").await, payment, "asked again it is the same");
    for (path, body) in [
        (claim.clone(), json!({"user": "bob", "pay_with": "other"})),
        (claim.clone(), json!({"user": "bob"})),
        (format!("/v1/holds/{hold}/release"), json!({"user": "bob"})),
    ] {
        let answer = house.post(&path, body, 409).await;
        assert!(answer["detail"].as_str().unwrap().contains("GET /v1/payments/payment_"), "{answer}");
    }
    for wrong in ["?state=gone", "?discrepant=no", "?gateway=", "?user=bob"] {
        assert_eq!(house.ask("GET", &format!("/v1/payments{wrong}"), serde_json::Value::Null).await.0, 422, "{wrong}");
    }
    let missing = "/v1/payments/payment_00000000000000000000000000";
    assert_eq!(house.ask("GET", missing, serde_json::Value::Null).await.0, 404);
    house.close().await;
}
