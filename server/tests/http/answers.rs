//! What the caller reads: each outcome, each refusal, each error, lists, and
//! idempotency.

use crate::fake::*;
use axum::body::Body;
use axum::http::Method;
use hongbao_engine::EngineError;
use hongbao_engine::command::{
    Command, EndedAs, EnvelopeState, Merchant, MerchantStatus, Outcome, Refusal, ShareStatus, Verification,
};
use hongbao_engine::payout::{Outside, PayoutTo};
use hongbao_engine::sale::{MerchantBalance, SaleTerms};
use hongbao_engine::types::{Amount, HoldId, OrderId, UserId};
use serde_json::{Value, json};

const BY_BOB: &str = r#"{"user":"bob"}"#;

fn amount(minor: u64) -> Amount {
    Amount::new(minor).unwrap()
}

#[tokio::test]
async fn every_outcome_has_its_json() {
    let hold = HoldId::from_bytes([3; 16]);
    let order = OrderId::from_bytes([4; 16]);
    let won = |status| Outcome::Won {
        amount: amount(417),
        share: 17,
        status,
        grabbed_at: NOW,
        claim_by: NOW.plus_s(60),
        replayed: false,
    };
    let rows: Vec<(Outcome, Value)> = vec![
        (
            won(ShareStatus::Grabbed),
            json!({"outcome": "won", "amount": 417, "share": 17, "status": "grabbed", "grabbed_at": NOW_TEXT,
                   "claim_by": "2027-02-06T08:01:00.123Z", "replayed": false}),
        ),
        (Outcome::SoldOut, json!({"outcome": "sold_out"})),
        (Outcome::Expired, json!({"outcome": "expired"})),
        (Outcome::Cancelled, json!({"outcome": "cancelled"})),
        (Outcome::NotOpen { opens_at: NOW }, json!({"outcome": "not_open", "opens_at": NOW_TEXT})),
        (
            Outcome::Claimed { amount: amount(417), claimed_at: NOW, replayed: true },
            json!({"outcome": "claimed", "amount": 417, "claimed_at": NOW_TEXT, "replayed": true}),
        ),
        (Outcome::NotWon, json!({"outcome": "not_won"})),
        (Outcome::Lapsed, json!({"outcome": "lapsed"})),
        (
            Outcome::Held { hold, quantity: 1, amount: amount(29_900), expires_at: NOW, replayed: false },
            json!({"outcome": "held", "hold": hold.to_string(), "quantity": 1, "amount": 29900,
                   "expires_at": NOW_TEXT, "replayed": false}),
        ),
        (Outcome::LimitReached, json!({"outcome": "limit_reached"})),
        (Outcome::Ended, json!({"outcome": "ended"})),
        (
            Outcome::Ordered { order, replayed: false },
            json!({"outcome": "claimed", "order": order.to_string(), "replayed": false}),
        ),
        (Outcome::HoldExpired, json!({"outcome": "expired"})),
        (Outcome::Released { replayed: false }, json!({"outcome": "released", "replayed": false})),
        (Outcome::CannotPay, json!({"outcome": "insufficient_funds"})),
    ];
    let site = Site::new();
    let path = format!("/v1/envelopes/{}/grab", envelope_id(1));
    for (outcome, expected) in rows {
        let element = json!({"results": [expected.clone()]});
        site.fake.script([Ok(outcome.clone()), Ok(outcome.clone())]);
        let answer = site.post(&path, "", BY_BOB).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (200, expected), "{outcome:?}");
        assert_eq!(answer.header("content-type"), "application/json", "{outcome:?}");
        let batch = json!({"grabs": [{"envelope": envelope_id(1).to_string(), "user": "bob"}]});
        assert_eq!(site.post("/v1/grabs", "", batch.to_string()).await.json(), element, "{outcome:?} in a batch");
    }
}

#[tokio::test]
async fn every_refusal_and_error_is_a_problem() {
    let site = Site::new();
    let path = format!("/v1/envelopes/{}/grab", envelope_id(1));
    let refused = |refusal| Ok(Outcome::Refused(refusal));
    let secret = "/var/lib/secret-path";
    for (answer, status, code, retry) in [
        (refused(Refusal::NotFound), 404, "not_found", "never"),
        (refused(Refusal::InsufficientFunds), 409, "insufficient_funds", "same_key"),
        (refused(Refusal::WrongState("it has expired".into())), 409, "wrong_state", "never"),
        (refused(Refusal::Forbidden), 403, "forbidden", "never"),
        (refused(Refusal::ReferenceConflict), 409, "reference_conflict", "never"),
        (refused(Refusal::IdempotencyMismatch), 422, "idempotency_mismatch", "new_key"),
        (refused(Refusal::invalid("opens_at", "is past")), 422, "invalid_field", "never"),
        (Err(EngineError::Overloaded), 503, "overloaded", "after"),
        (Err(EngineError::StorageFull), 507, "storage_full", "after"),
        (Err(EngineError::Journal(secret.into())), 503, "unconfirmed", "same_key"),
        (Err(EngineError::Unconfirmed(secret.into())), 503, "unconfirmed", "same_key"),
        (Err(EngineError::Backend(secret.into())), 500, "internal", "same_key"),
        (Err(EngineError::Archive(secret.into())), 500, "internal", "same_key"),
        (Err(EngineError::Store(secret.into())), 500, "internal", "same_key"),
        (Err(EngineError::NotReady(secret.into())), 503, "not_ready", "after"),
        (Err(EngineError::ShuttingDown), 503, "shutting_down", "after"),
        (Err(EngineError::Cursor), 422, "invalid_field", "never"),
    ] {
        let what = format!("{answer:?}");
        site.fake.script([answer.clone(), answer]);
        let problem = site.post(&path, "", BY_BOB).await.assert_problem(status, code, &what);
        assert_eq!(problem["retry"], retry, "{what}");
        assert!(!problem.to_string().contains(secret), "{what} leaks: {problem}");
        let batch = json!({"grabs": [{"envelope": envelope_id(1).to_string(), "user": "bob"}]});
        let answer = site.post("/v1/grabs", "", batch.to_string()).await;
        assert_eq!(answer.status, 200, "{what} in a batch");
        let element = &answer.json()["results"][0]["error"];
        assert_eq!((&element["code"], &element["status"]), (&json!(code), &json!(status)), "{what} in a batch");
        assert_eq!(element["request_id"], answer.header("x-request-id"), "{what} in a batch");
    }
}

#[tokio::test]
async fn what_an_operator_has_to_do_is_told() {
    let site = Site::new();
    let why = "the clock is 20 s behind: run `hongbao clock accept --data DIR`";
    site.fake.script([Err(EngineError::OperatorNeeded(why.into()))]);
    let path = format!("/v1/envelopes/{}/grab", envelope_id(1));
    let problem = site.post(&path, "", BY_BOB).await.assert_problem(503, "not_ready", "an operator is needed");
    assert_eq!((&problem["detail"], &problem["retry"]), (&json!(format!("Not ready: {why}.")), &json!("after")));
}

#[tokio::test]
async fn a_batch_answers_in_order_and_element_by_element() {
    let site = Site::new();
    site.fake.script([Ok(Outcome::Expired), Err(EngineError::Overloaded), Ok(Outcome::Cancelled)]);
    let id = envelope_id(1).to_string();
    let grab = |envelope: &str| json!({"envelope": envelope, "user": "bob"});
    let body = json!({"grabs": [grab(&id), grab("env_nonsense"), grab(&id), grab(&id), grab(&id)]});
    let answer = site.post("/v1/grabs", "", body.to_string()).await.json();
    let results = answer["results"].as_array().unwrap();
    let told: Vec<_> =
        results.iter().map(|it| it["outcome"].as_str().or(it["error"]["code"].as_str()).unwrap()).collect();
    assert_eq!(told, ["expired", "not_found", "overloaded", "cancelled", "sold_out"]);
    assert_eq!(site.fake.commands().len(), 4);
}

#[tokio::test]
async fn wallets_are_shown_as_the_contract_says() {
    let site = Site::new();
    let path = "/v1/wallets/alice/deposits";
    let answer = site.post(path, "k1", r#"{"amount":100000,"reference":"alipay:2026"}"#).await;
    let expected = json!({"user": "alice", "currency": "CNY", "available": 100000, "held": 0});
    assert_eq!((answer.status.as_u16(), answer.json()), (201, expected.clone()));
    assert_eq!(site.get("/v1/wallets/alice").await.json(), expected);
    assert_eq!(site.get("/v1/wallets/never-seen").await.json()["available"], 0);
    let Command::Deposit(transfer) = &site.fake.commands()[0] else { panic!("a deposit was asked for") };
    let reference = transfer.reference.as_ref().unwrap();
    assert_eq!((reference.owner.as_str(), reference.text.as_str()), ("admin", "alipay:2026"));
    let answer = site.post("/v1/wallets/alice/withdrawals", "k2", r#"{"amount":100001}"#).await;
    answer.assert_problem(409, "insufficient_funds", "more than there is");
    let envelope = envelope_id(1).to_string();
    let entries = site.get("/v1/wallets/alice/entries").await.json();
    let row = |kind: &str, name: &str, value: &str| {
        let mut row = json!({"at": NOW_TEXT, "kind": kind, "amount": 7, "balance_after": 9});
        if !name.is_empty() {
            row[name] = json!(value);
        }
        row
    };
    let expected = [
        row("deposit", "reference", "alipay:1"),
        row("withdrawal", "", ""),
        row("envelope", "envelope", &envelope),
        row("claim", "envelope", &envelope),
        row("refund", "envelope", &envelope),
        row("lapse", "envelope", &envelope),
        row("order", "order", &OrderId::from_bytes([1; 16]).to_string()),
        row("gift", "gift", &gift_id(1).to_string()),
        row("gift_refund", "gift", &gift_id(1).to_string()),
        row("order_refund", "order", &OrderId::from_bytes([1; 16]).to_string()),
        row("group", "group", &group_id(1).to_string()),
        row("group_refund", "group", &group_id(1).to_string()),
    ];
    assert_eq!(entries, json!({"entries": expected, "next_cursor": null}));
}

#[tokio::test]
async fn envelopes_are_shown_as_the_contract_says() {
    let site = Site::new();
    let mut view = envelope_view(1);
    site.fake.script([Ok(Outcome::Envelope(Box::new(view.clone())))]);
    let answer = site.post("/v1/envelopes", "k", r#"{"sender":"alice","total":1000,"shares":10}"#).await;
    assert_eq!(answer.status, 201);
    let mut expected = json!({
        "id": envelope_id(1).to_string(), "sender": "alice", "state": "open", "ended_as": null, "total": 1000,
        "currency": "CNY", "shares": 10, "split": "lucky", "message": "恭喜发财 \"\\", "remaining_shares": 9,
        "remaining_amount": 900, "claimed_amount": 100, "refunded_amount": 0, "created_at": NOW_TEXT,
        "opens_at": NOW_TEXT, "expires_at": "2027-02-06T08:01:00.123Z", "claim_by": "2027-02-06T08:02:00.123Z",
        "commitment": "ab".repeat(32), "seed_secret": null, "reference": null, "metadata": null,
        "funding": null, "payout": "wallet", "redacted_at": null,
    });
    let mut shown = answer.json();
    assert!(answer.text().contains(r#""metadata":{"n": 123456789012345678901234567890}"#), "{}", answer.text());
    shown["metadata"] = Value::Null;
    assert_eq!(shown, expected);

    view.state = EnvelopeState::Settled;
    view.ended_as = Some(EndedAs::SoldOut);
    view.secret = Some([1; 32]);
    view.reference = Some("order-1".into());
    view.metadata = "{}".into();
    (view.message, view.redacted_at) = (String::new(), Some(NOW));
    view.outside = Outside { funding: Some("bank-7".into()), payout: PayoutTo::External };
    site.fake.inner.lock().unwrap().envelopes.insert(view.id, view);
    for (name, value) in [
        ("state", json!("settled")),
        ("ended_as", json!("sold_out")),
        ("seed_secret", json!("01".repeat(32))),
        ("reference", json!("order-1")),
        ("metadata", json!({})),
        ("message", json!("")),
        ("funding", json!({"reference": "bank-7"})),
        ("payout", json!("external")),
        ("redacted_at", json!(NOW_TEXT)),
    ] {
        expected[name] = value;
    }
    let path = format!("/v1/envelopes/{}", envelope_id(1));
    assert_eq!(site.get(&path).await.json(), expected);
    let grab = json!({"user": "bob", "amount": 417, "share": 17, "status": "claimed", "grabbed_at": NOW_TEXT,
                      "claimed_at": NOW_TEXT, "best": true});
    assert_eq!(site.get(&format!("{path}/grabs/bob")).await.json(), grab);
    assert_eq!(site.get(&format!("{path}/grabs")).await.json(), json!({"grabs": [grab], "next_cursor": null}));
    site.get(&format!("{path}/grabs/carol")).await.assert_problem(404, "not_found", "no grab");
    let missing = format!("/v1/envelopes/{}/grabs", envelope_id(9));
    site.get(&missing).await.assert_problem(404, "not_found", "no envelope");
    let received = json!({"envelope": envelope_id(1).to_string(), "sender": "alice", "amount": 417,
                          "status": "claimed", "grabbed_at": NOW_TEXT, "claimed_at": NOW_TEXT});
    let list = json!({"grabs": [received], "next_cursor": null});
    assert_eq!(site.get("/v1/users/bob/received").await.json(), list);
    assert_eq!(site.get("/v1/users/bob/sent").await.json(), json!({"envelopes": [], "next_cursor": "00ff10"}));
    let audit = site.get("/v1/audit").await.json();
    assert_eq!((&audit["balanced"], &audit["escrowed"], &audit["in_flight"]), (&json!(true), &json!(6), &json!(0)));
}

#[tokio::test]
async fn what_is_left_out_of_an_envelope_has_its_default() {
    let site = Site::new();
    let short = r#"{"sender":"alice","total":1000,"shares":10}"#;
    let long = r#"{"sender":"alice","total":1000,"shares":10,"split":"lucky","min_share":1,"max_share":null,
        "message":"","opens_at":null,"expires_in_s":86400,"claim_within_s":86400,"auto_claim":false,
        "unclaimed":"return","reference":null,"metadata":{},"client_seed":null,"funding":null,"payout":"wallet"}"#;
    site.post("/v1/envelopes", "a", short).await;
    site.post("/v1/envelopes", "b", long).await;
    let commands = site.fake.commands();
    assert_eq!(commands.len(), 2);
    assert_eq!(commands[0], commands[1]);
}

#[tokio::test]
async fn a_large_envelope_is_made_apart_and_answered_alike() {
    let site = Site::new();
    site.fake.script([Ok(Outcome::Envelope(Box::new(envelope_view(1)))), Err(EngineError::Overloaded)]);
    let large = r#"{"sender":"alice","total":20000000,"shares":10000000}"#;
    let answer = site.post("/v1/envelopes", "k", large).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["state"]), (201, &json!("open")));
    assert_eq!(site.post("/v1/envelopes", "k", large).await.header("idempotency-replayed"), "true");
    site.post("/v1/envelopes", "l", large).await.assert_problem(503, "overloaded", "a large envelope");
}

#[tokio::test]
async fn lists_take_limit_cursor_and_filters() {
    let site = Site::new();
    let query = "limit=7&cursor=00ff10&reference=r%261&sender=alice&state=sold_out\
                 &created_from=2027-02-06T08:00:00.123Z&created_to=2027-02-06T16:00:00.123%2B08:00";
    assert_eq!(site.get(&format!("/v1/envelopes?{query}")).await.status, 200);
    site.get("/v1/envelopes").await;
    let inner = site.fake.inner.lock().unwrap();
    assert_eq!((inner.pages[0].limit, inner.pages[0].cursor.as_deref()), (7, Some(&[0, 255, 16][..])));
    assert_eq!((inner.pages[1].limit, inner.pages[1].cursor.as_deref()), (100, None));
    let filter = &inner.filters[0];
    assert_eq!(filter.owner, "admin");
    assert_eq!(filter.reference.as_deref(), Some("r&1"));
    assert_eq!(filter.sender, UserId::new("alice").ok());
    assert_eq!(filter.state, Some(EnvelopeState::SoldOut));
    assert_eq!((filter.created_from, filter.created_to), (Some(NOW), Some(NOW)));
}

#[tokio::test]
async fn sales_are_shown_as_the_contract_says() {
    let site = Site::new();
    let verification = Some(Verification { by: "li".into(), reference: None, at: NOW });
    let (id, status) = (UserId::new("rosy").unwrap(), MerchantStatus::Verified);
    let terms = SaleTerms { settle_after_s: 60, commission_bps: 250 };
    let merchant = Merchant { id, name: "Rosy".into(), status, verification, terms };
    site.fake.script([Ok(Outcome::Merchant(Box::new(merchant))), Ok(Outcome::Item(Box::new(item_view(1, Some(1)))))]);
    let body = r#"{"id":"rosy","name":"Rosy","status":"verified","settle_after_s":60,"commission_bps":250}"#;
    let answer = site.post("/v1/merchants", "k", body).await;
    let expected = json!({
        "id": "rosy", "name": "Rosy", "status": "verified",
        "verification": {"by": "li", "reference": null, "at": NOW_TEXT}, "settle_after_s": 60, "commission_bps": 250,
    });
    assert_eq!((answer.status.as_u16(), answer.json()), (201, expected));
    let body = r#"{"merchant":"rosy","name":"99 roses","category":"flowers","price":29900,"stock":500,
        "per_user_limit":1,"starts_at":null,"ends_at":null,"hold_ttl_s":900,"image_url":null}"#;
    let answer = site.post("/v1/items", "k", body).await;
    let expected = json!({
        "id": item_id(1).to_string(), "merchant": "rosy", "name": "99 roses", "category": "flowers", "kind": "physical", "variant_of": null, "return_within_s": 604800, "price": 29900,
        "currency": "CNY", "stock": {"total": 500, "free": 400, "held": 60, "sold": 40}, "per_user_limit": 1,
        "starts_at": null, "ends_at": null, "hold_ttl_s": 900, "image_url": null, "group_buy": null, "created_at": NOW_TEXT,
    });
    assert_eq!((answer.status.as_u16(), answer.json()), (201, expected));
    let hold = HoldId::from_bytes([1; 16]).to_string();
    let expected = json!({
        "id": hold, "item": item_id(1).to_string(), "user": "bob", "quantity": 2, "amount": 200, "currency": "CNY",
        "state": "claimed", "order": OrderId::from_bytes([2; 16]).to_string(), "created_at": NOW_TEXT,
        "expires_at": "2027-02-06T08:15:00.123Z",
    });
    assert_eq!(site.get(&format!("/v1/holds/{hold}")).await.json(), expected);
}

#[tokio::test]
async fn sale_money_is_shown_as_the_contract_says() {
    let site = Site::new();
    let told = json!({"merchant": "rosy", "currency": "CNY", "pending": 900, "available": 100});
    assert_eq!(site.get("/v1/merchants/rosy/balance").await.json(), told);
    let statement = site.get("/v1/merchants/rosy/statement?limit=8&cursor=0a").await.json();
    let (opening, closing) = (json!({"pending": 2, "available": 1}), json!({"pending": 9, "available": 1}));
    let due = "2027-02-06T08:01:00.123Z";
    let (order, gift) = (OrderId::from_bytes([1; 16]).to_string(), gift_id(1).to_string());
    let entry = |kind, more: Value| {
        let mut entry = json!({"at": NOW_TEXT, "kind": kind, "amount": 7, "balance_after": closing});
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        entry
    };
    let entries = [
        entry("sale", json!({"order": order, "commission": 1, "due": due})),
        entry("sale", json!({"gift": gift, "commission": 0, "due": due})),
        entry("commission", json!({"due": due})),
        entry("settled", json!({"due": due})),
        entry("refund", json!({"order": order, "commission": 0, "from": "pending", "due": due})),
        entry("refund", json!({"gift": gift, "commission": 0, "from": "available"})),
        entry("withdrawal", json!({"reference": "bank:7"})),
        entry("withdrawal", json!({})),
    ];
    let expected = json!({
        "merchant": "rosy", "currency": "CNY", "opening": opening, "entries": entries, "closing": closing,
        "next_cursor": "07",
    });
    assert_eq!(statement, expected);
    let page = site.fake.inner.lock().unwrap().pages.last().unwrap().clone();
    assert_eq!((page.limit, page.cursor), (8, Some(vec![10])));
    for (query, field) in [
        ("from=2027-02-06T08:00:00Z&to=2027-02-06T07:59:59Z", "to"),
        ("from=yesterday", "from"),
        ("to=1", "to"),
        ("limit=0", "limit"),
    ] {
        let problem = site.get(&format!("/v1/merchants/rosy/statement?{query}")).await;
        let problem = problem.assert_problem(422, "invalid_field", query);
        assert_eq!(problem["errors"][0]["field"], field, "{query}");
    }
    for (terms, field) in [
        (r#""settle_after_s":31536001"#, "settle_after_s"),
        (r#""settle_after_s":-1"#, "settle_after_s"),
        (r#""settle_after_s":null"#, "settle_after_s"),
        (r#""commission_bps":10001"#, "commission_bps"),
        (r#""commission_bps":2.5"#, "commission_bps"),
    ] {
        let body = format!(r#"{{"id":"rosy","name":"Rosy",{terms}}}"#);
        let problem = site.post("/v1/merchants", "terms", body).await.assert_problem(422, "invalid_field", terms);
        assert_eq!(problem["errors"][0]["field"], field, "{terms}");
    }
    let (merchant, amount) = (UserId::new("rosy").unwrap(), |minor| Amount::new(minor).unwrap());
    let balance = MerchantBalance { pending: amount(900), available: amount(50) };
    let short = Outcome::Refused(Refusal::InsufficientFunds);
    site.fake.script([Ok(Outcome::Sales { merchant, balance }), Ok(short)]);
    let path = "/v1/merchants/rosy/withdrawals";
    let answer = site.post(path, "w1", r#"{"amount":50,"reference":"bank:7"}"#).await;
    let told = json!({"merchant": "rosy", "currency": "CNY", "pending": 900, "available": 50});
    assert_eq!((answer.status.as_u16(), answer.json()), (201, told));
    let problem = site.post(path, "w2", r#"{"amount":51}"#).await.assert_problem(409, "insufficient_funds", "too much");
    assert!(problem["detail"].as_str().unwrap().contains("settled"), "{problem}");
    let Command::WithdrawSales(transfer) = &site.fake.commands()[0] else { panic!("money was to be taken out") };
    assert_eq!(
        (transfer.user.as_str(), transfer.amount, &transfer.reference.as_ref().unwrap().text[..]),
        ("rosy", amount(50), "bank:7")
    );
}

#[tokio::test]
async fn a_change_tells_null_from_nothing() {
    let site = Site::new();
    let path = format!("/v1/items/{}", item_id(1));
    let body = r#"{"price":5,"per_user_limit":null,"ends_at":null}"#;
    let request = ask(Method::PATCH, &path).header("content-type", "application/json");
    site.send(request.body(Body::from(body)).unwrap()).await;
    let Command::ChangeItem { change, .. } = &site.fake.commands()[0] else { panic!("a change was asked for") };
    assert_eq!(change.price, Amount::new(5));
    assert_eq!((change.per_user_limit, change.ends_at), (Some(None), Some(None)));
    assert_eq!((change.starts_at, &change.image_url, &change.name), (None, &None, &None));
}

#[tokio::test]
async fn a_repeat_under_the_same_key_gets_the_first_answer() {
    let site = Site::new();
    let path = "/v1/wallets/alice/deposits";
    let first = site.post(path, "k", r#"{"amount":5}"#).await;
    assert_eq!((first.status.as_u16(), first.header("idempotency-replayed")), (201, ""));
    let again = site.post(path, "k", r#"{ "amount" : 5 }"#).await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (201, "true"));
    assert_eq!(again.body, first.body);
    assert_eq!(site.post("/v1/wallets/%61lice/deposits", "k", r#"{"amount":5}"#).await.body, first.body);
    site.post(path, "k", r#"{"amount":6}"#).await.assert_problem(422, "idempotency_mismatch", "another body");
    // The scope is the route: another wallet is another request on it, another direction another route.
    let other = site.post("/v1/wallets/bob/deposits", "k", r#"{"amount":5}"#).await;
    other.assert_problem(422, "idempotency_mismatch", "another wallet");
    assert_eq!(site.post("/v1/wallets/alice/withdrawals", "k", r#"{"amount":1}"#).await.status, 201);
    assert_eq!(site.get("/v1/wallets/alice").await.json()["available"], 4);
}

#[tokio::test]
async fn keys_are_required_where_nothing_else_names_the_request() {
    let site = Site::new();
    for (n, limit) in [(1, Some(1)), (2, Some(2)), (3, None)] {
        site.fake.inner.lock().unwrap().items.insert(item_id(n), item_view(n, limit));
    }
    let envelope = format!("/v1/envelopes/{}", envelope_id(1));
    let item = |n: u8| format!("/v1/items/{}", item_id(n));
    let hold = format!("/v1/holds/{}", HoldId::from_bytes([1; 16]));
    for (path, body, required) in [
        ("/v1/wallets/a/deposits".to_owned(), r#"{"amount":1}"#, true),
        ("/v1/wallets/a/withdrawals".to_owned(), r#"{"amount":1}"#, true),
        ("/v1/envelopes".to_owned(), r#"{"sender":"a","total":1,"shares":1}"#, true),
        (format!("{envelope}/cancel"), "", true),
        (format!("{envelope}/grab"), BY_BOB, false),
        (format!("{envelope}/claim"), BY_BOB, false),
        ("/v1/merchants".to_owned(), r#"{"id":"m","name":"M"}"#, true),
        ("/v1/merchants/m/withdrawals".to_owned(), r#"{"amount":1}"#, true),
        ("/v1/items".to_owned(), r#"{"merchant":"m","name":"n","category":"c","price":1,"stock":1}"#, true),
        (format!("{}/restock", item(1)), r#"{"quantity":1}"#, true),
        (format!("{}/codes", item(1)), r#"{"codes":["A"]}"#, true),
        (format!("{}/grab", item(1)), BY_BOB, false),
        (format!("{}/grab", item(2)), BY_BOB, true),
        (format!("{}/grab", item(3)), BY_BOB, true),
        (format!("{hold}/claim"), BY_BOB, false),
        (format!("{hold}/release"), BY_BOB, false),
        ("/v1/payouts/results".to_owned(), r#"{"results":[{"id":"pay_x","state":"due"}]}"#, true),
    ] {
        let before = site.fake.commands().len();
        let answer = site.post(&path, "", body).await;
        if required {
            answer.assert_problem(400, "idempotency_key_required", &path);
            assert_eq!(site.fake.commands().len(), before, "{path}");
        }
        let key = format!("key-{before}");
        let done = if required { site.post(&path, &key, body).await } else { answer };
        assert!(done.status.is_success() || done.status == 409, "{path}: {}", done.text());
    }
    site.post(&format!("{}/grab", item(9)), "", BY_BOB).await.assert_problem(404, "not_found", "no such item");
}

#[tokio::test]
async fn malformed_keys_are_refused() {
    let site = Site::new();
    let path = "/v1/wallets/alice/deposits";
    let longest = "x".repeat(255);
    assert_eq!(site.post(path, &longest, r#"{"amount":5}"#).await.status, 201);
    for key in ["a b", " ", "k\u{e9}", &"x".repeat(256)] {
        let request = ask(Method::POST, path)
            .header("content-type", "application/json")
            .header("idempotency-key", axum::http::HeaderValue::from_bytes(key.as_bytes()).unwrap());
        let answer = site.send(request.body(r#"{"amount":5}"#.into()).unwrap()).await;
        let problem = answer.assert_problem(422, "invalid_field", &format!("{key:?}"));
        assert_eq!(problem["errors"][0]["field"], "Idempotency-Key", "{key:?}");
    }
    let request = ask(Method::POST, path)
        .header("content-type", "application/json")
        .header("idempotency-key", "a")
        .header("idempotency-key", "b");
    let answer = site.send(request.body(r#"{"amount":5}"#.into()).unwrap()).await;
    answer.assert_problem(422, "invalid_field", "two keys");
    assert_eq!(site.fake.commands().len(), 1);
}
