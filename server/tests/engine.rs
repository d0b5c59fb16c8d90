//! The server over the real engine: one story from a deposit to a restart, as a
//! calling app would live it.

#![allow(missing_docs, reason = "nothing outside reads this crate")]

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hongbao_engine::backend::Backend;
use hongbao_engine::memory::{Embedded, EmbeddedOptions};
use hongbao_server::app::{Server, Setup, app};
use hongbao_server::caps::Caps;
use hongbao_server::config::{Cli, Task};
use hongbao_server::demo::campaign;
use hongbao_server::payments::PaymentOptions;
use hongbao_server::relations::MayGive;
use hongbao_server::webhooks::WebhookOptions;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

const KEY: &str = "hb_test_0123456789";

struct House {
    engine: Arc<Embedded>,
    router: Router,
}

impl House {
    async fn open(data: &Path) -> House {
        House::open_with(data, EmbeddedOptions::default()).await
    }

    async fn open_with(data: &Path, options: EmbeddedOptions) -> House {
        House::open_ruled(data, options, MayGive::default()).await
    }

    async fn open_ruled(data: &Path, options: EmbeddedOptions, may_give: MayGive) -> House {
        let options = EmbeddedOptions { test_mode: true, ..options };
        let (engine, _) = Embedded::open(data, options).unwrap();
        let engine = Arc::new(engine);
        let setup = Setup {
            currency: "CNY".parse().unwrap(),
            admin_key: KEY.to_owned(),
            test: true,
            metrics_apart: false,
            in_flight_max: 100,
            event_readers_max: 10,
            body_timeout: Duration::from_secs(15),
            caps: Caps::default(),
            may_give,
            webhooks: WebhookOptions::default(),
            payments: PaymentOptions::default(),
        };
        let server = Server::new(Arc::clone(&engine), &setup);
        server.keys().refresh(&*engine).await.unwrap();
        House { router: app(server), engine }
    }

    /// Asks, and asserts the status.
    async fn ask(&self, method: &str, path: &str, key: &str, body: Value, status: u16) -> Value {
        self.ask_with(KEY, method, path, key, body, status).await
    }

    /// The same with another API key than the admin's.
    async fn ask_with(&self, bearer: &str, method: &str, path: &str, key: &str, body: Value, status: u16) -> Value {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {bearer}"))
            .header("content-type", "application/json")
            .header("idempotency-key", key);
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let given = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let json: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        assert_eq!(given, status, "{method} {path}: {json}");
        json
    }

    async fn post(&self, path: &str, key: &str, body: Value, status: u16) -> Value {
        self.ask("POST", path, key, body, status).await
    }

    async fn get(&self, path: &str) -> Value {
        self.ask("GET", path, "unused", Value::Null, 200).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_makes_so_many_envelopes_a_day_and_is_told_the_cap_and_when_more() {
    let data = tempfile::tempdir().unwrap();
    let words = ["hongbao", "serve", "--creates-per-sender-per-day", "2", "--creates-time-zone", "Asia/Shanghai"];
    let cli = Cli::from_words(words.map(Into::into).to_vec()).unwrap();
    let Task::Serve(serve) = cli.task else { panic!("{cli:?}") };
    let options = EmbeddedOptions { creates: serve.daily_cap.for_engine(), ..EmbeddedOptions::default() };
    let house = House::open_with(data.path(), options).await;
    // From noon of a day on, so that a day does not end meanwhile.
    let now = house.engine.now().ms() / 1000;
    house.post("/v1/test/clock", "c", json!({"advance_s": 86_400 + 4 * 3600 - now % 86_400}), 200).await;
    house.post("/v1/wallets/alice/deposits", "d", json!({"amount": 1000}), 201).await;
    let terms = json!({"sender": "alice", "total": 10, "shares": 1});
    let made = house.post("/v1/envelopes", "e1", terms.clone(), 201).await;
    house.post("/v1/envelopes", "e2", terms.clone(), 201).await;
    let problem = house.post("/v1/envelopes", "e3", terms.clone(), 422).await;
    assert_eq!((&problem["code"], &problem["errors"][0]["field"]), (&json!("invalid_field"), &json!("sender")));
    let message = problem["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("creates_per_sender_per_day is 2 here"), "{message}");
    assert!(message.contains("T00:00:00.000+08:00"), "{message}");
    assert_eq!(house.post("/v1/envelopes", "e1", terms.clone(), 201).await, made);
    house.post("/v1/test/clock", "c2", json!({"advance_s": 12 * 3600}), 200).await;
    house.post("/v1/envelopes", "e3", terms, 201).await;
    house.engine.close().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_people_who_follow_each_other_give_to_each_other_where_that_is_the_rule() {
    let data = tempfile::tempdir().unwrap();
    let cli = Cli::from_words(["hongbao", "serve", "--gifts-may-give", "mutual"].map(Into::into).to_vec()).unwrap();
    let Task::Serve(serve) = cli.task else { panic!("{cli:?}") };
    let open = || House::open_ruled(data.path(), EmbeddedOptions::default(), serve.gifts_may_give);
    let house = open().await;
    house.post("/v1/merchants", "m", json!({"id": "rosy", "name": "Rosy", "status": "verified"}), 201).await;
    let item = json!({"merchant": "rosy", "name": "rose", "category": "flowers", "price": 10, "stock": 9, "per_user_limit": null});
    let item = house.post("/v1/items", "i", item, 201).await["id"].as_str().unwrap().to_owned();
    house.post("/v1/wallets/alice/deposits", "d", json!({"amount": 100}), 201).await;
    let to = |recipient: Value, mutual: bool| json!({"giver": "alice", "recipient": recipient, "item": item, "mutual": mutual});
    house.post("/v1/gifts", "g1", to(json!("bob"), false), 403).await;
    let link = house.post("/v1/gifts", "g2", to(json!(null), false), 201).await;
    let [id, token] = ["id", "token"].map(|field| link[field].as_str().unwrap().to_owned());
    let accept = format!("/v1/gifts/{id}/accept");
    house.post(&accept, "a1", json!({"user": "bob", "token": token}), 403).await;
    let both = json!({"relations": [
        {"user": "alice", "other": "bob", "relation": "follows"}, {"user": "bob", "other": "alice", "relation": "follows"}
    ]});
    assert_eq!(house.post("/v1/relations", "r1", both, 200).await, json!({"rows": 2}));
    house.engine.close().unwrap();
    drop(house);

    // What was told is known after a restart.
    let house = open().await;
    house.post("/v1/gifts", "g3", to(json!("bob"), false), 201).await;
    house.post(&accept, "a2", json!({"user": "bob", "token": token}), 200).await;
    house.post("/v1/gifts", "g4", to(json!("carol"), true), 201).await;
    let blocks = json!({"relations": [{"user": "carol", "other": "alice", "relation": "blocks"}]});
    house.post("/v1/relations", "r2", blocks, 200).await;
    house.post("/v1/gifts", "g5", to(json!("carol"), true), 403).await;
    house.post("/v1/gifts", "g4", to(json!("carol"), true), 201).await;
    house.ask("DELETE", "/v1/users/carol/relations", "x", Value::Null, 204).await;
    house.post("/v1/gifts", "g5", to(json!("carol"), true), 201).await;
    house.engine.close().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_lives_through_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let house = House::open(data.path()).await;
    let deposit = json!({"amount": 100_000, "reference": "alipay:1"});
    let wallet = house.post("/v1/wallets/alice/deposits", "d1", deposit.clone(), 201).await;
    let terms = json!({"sender": "alice", "total": 1000, "shares": 2, "reference": "gala-1", "metadata": {"a": [1.0]}});
    let made = house.post("/v1/envelopes", "e1", terms.clone(), 201).await;
    let path = format!("/v1/envelopes/{}", made["id"].as_str().unwrap());
    let grab = format!("{path}/grab");
    let claim = format!("{path}/claim");
    let by = |user: &str| json!({ "user": user });
    let won = house.post(&grab, "-", by("bob"), 200).await;
    assert_eq!((&won["outcome"], &won["replayed"]), (&json!("won"), &json!(false)));
    let claimed = house.post(&claim, "-", by("bob"), 200).await;
    assert_eq!((&claimed["outcome"], &claimed["amount"]), (&json!("claimed"), &won["amount"]));
    assert_eq!(house.post(&grab, "-", by("carol"), 200).await["outcome"], "won");
    assert_eq!(house.post(&grab, "-", by("dave"), 200).await, json!({"outcome": "sold_out"}));
    house.engine.close().unwrap();
    drop(house);

    let house = House::open(data.path()).await;
    assert_eq!(house.post("/v1/wallets/alice/deposits", "d1", deposit, 201).await, wallet);
    assert_eq!(house.post("/v1/envelopes", "e1", terms, 201).await["id"], made["id"]);
    let again = house.post(&grab, "-", by("bob"), 200).await;
    assert_eq!((&again["amount"], &again["replayed"]), (&won["amount"], &json!(true)));
    assert_eq!(again["status"], "claimed");
    assert_eq!(house.get(&path).await["metadata"], json!({"a": [1.0]}));
    let grabs = house.get(&format!("{path}/grabs")).await;
    assert_eq!(grabs["grabs"].as_array().unwrap().len(), 2);
    let found = house.get("/v1/envelopes?reference=gala-1").await;
    assert_eq!(found["envelopes"][0]["id"], made["id"]);
    house.post(&format!("{path}/cancel"), "c1", json!({}), 409).await;
    house.post("/v1/test/clock", "-", json!({"advance_s": 300_000}), 200).await;
    let audit = house.get("/v1/audit").await;
    assert_eq!((&audit["balanced"], &audit["deposited"]), (&json!(true), &json!(100_000)));
    house.engine.close().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_end_after_every_row_was_told_once() {
    let data = tempfile::tempdir().unwrap();
    let house = House::open(data.path()).await;
    house.post("/v1/wallets/alice/deposits", "d", json!({"amount": 1000}), 201).await;
    let mut made = Vec::new();
    for n in 0..7 {
        let terms = json!({"sender": "alice", "total": 10, "shares": 1});
        let view = house.post("/v1/envelopes", &format!("e{n}"), terms, 201).await;
        made.push((view["created_at"].to_string(), view["id"].to_string()));
    }
    made.sort();
    for (path, name) in [("/v1/users/alice/sent", "envelopes"), ("/v1/envelopes", "envelopes")] {
        let (mut told, mut cursor) = (Vec::new(), String::new());
        for _ in 0..10 {
            let page = house.get(&format!("{path}?limit=3{cursor}")).await;
            let rows = page[name].as_array().unwrap().iter();
            told.extend(rows.map(|row| (row["created_at"].to_string(), row["id"].to_string())));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert!(told.is_sorted_by(|newer, older| newer.0 >= older.0), "{path} is not newest first: {told:?}");
        told.sort();
        assert_eq!(told, made, "{path}");
    }
    house.ask("GET", "/v1/envelopes?cursor=ffff", "-", Value::Null, 422).await;
    house.engine.close().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demonstration_balances() {
    let data = tempfile::tempdir().unwrap();
    let house = House::open(data.path()).await;
    let campaign = campaign(&*house.engine).await.unwrap();
    let path = format!("/v1/envelopes/{}/grab", campaign.groups[0]);
    assert_eq!(house.post(&path, "-", json!({"user": "bob"}), 200).await["status"], "claimed");
    assert!(house.engine.audit().await.unwrap().balanced());
    house.engine.close().unwrap();
}

/// A giver asks a third person to pay, the recipient accepts, the merchant ships, and the giver sees where it is.
/// A second gift is declined, a third expires, a fourth is never shipped: whoever paid has the money back.
#[tokio::test(flavor = "multi_thread")]
async fn gifts_from_the_first_to_the_last_day() {
    let data = tempfile::tempdir().unwrap();
    let mut house = House::open(data.path()).await;
    let text = |view: &Value, field: &str| view[field].as_str().unwrap().to_owned();
    house.post("/v1/wallets/carol/deposits", "d", json!({"amount": 100_000, "reference": "alipay:1"}), 201).await;
    house.post("/v1/merchants", "m", json!({"id": "rosy", "name": "Rosy", "status": "verified"}), 201).await;
    let roses = json!({"merchant": "rosy", "name": "99 roses", "category": "flowers", "price": 29_900, "stock": 2,
                       "per_user_limit": null});
    let item = text(&house.post("/v1/items", "i", roses, 201).await, "id");
    let keys = house.post("/v1/keys", "k", json!({"name": "rosy", "roles": ["merchant:rosy"]}), 201).await;
    let rosy = text(&keys, "key");
    let give = async |house: &House, key: &str, status: u16| {
        let terms = json!({"giver": "alice", "recipient": "bob", "item": item, "payer": "carol", "message": "for you"});
        house.post("/v1/gifts", key, terms, status).await
    };
    let path = |gift: &Value, verb: &str| format!("/v1/gifts/{}/{verb}", gift["id"].as_str().unwrap());
    let carol = json!({"payer": "carol"});
    let bob = json!({"user": "bob"});

    let first = give(&house, "g1", 201).await;
    assert_eq!((&first["state"], &first["amount"]), (&json!("awaiting_payment"), &json!(29_900)));
    house.post(&path(&first, "pay"), "p0", json!({"payer": "dave"}), 403).await;
    assert_eq!(house.post(&path(&first, "pay"), "p1", carol.clone(), 200).await["state"], "offered");
    assert_eq!(house.post(&path(&first, "accept"), "a1", bob.clone(), 200).await["state"], "accepted");
    let parcel = json!({"carrier": "sf", "tracking": "SF1"});
    house.ask_with(&rosy, "POST", &path(&first, "accept"), "s0", bob.clone(), 403).await;
    let shipped = house.ask_with(&rosy, "POST", &path(&first, "ship"), "s1", parcel, 200).await;
    assert_eq!((&shipped["state"], &shipped["tracking"]), (&json!("shipped"), &json!("SF1")));
    let told = house.get("/v1/users/alice/gifts?role=given").await;
    assert_eq!((&told["gifts"][0]["tracking"], told["gifts"].as_array().unwrap().len()), (&json!("SF1"), 1));

    let second = give(&house, "g2", 201).await;
    house.post(&path(&second, "pay"), "p2", carol.clone(), 200).await;
    give(&house, "g3", 409).await;
    let no = json!({"user": "bob", "reason": "no vase"});
    assert_eq!(house.post(&path(&second, "decline"), "n", no, 200).await["state"], "declined");
    assert_eq!(house.get("/v1/wallets/carol").await["available"], 100_000 - 29_900);

    let third = give(&house, "g3", 201).await;
    house.post(&path(&third, "pay"), "p3", carol.clone(), 200).await;
    house.engine.close().unwrap();
    drop(house);
    house = House::open(data.path()).await;
    house.post("/v1/test/clock", "c1", json!({"advance_s": 3 * 86_400}), 200).await;
    let late = house.post(&path(&third, "accept"), "a3", bob.clone(), 409).await;
    assert!(late["detail"].as_str().unwrap().contains("expired"), "{late}");
    let eventually = async |house: &House, gift: &Value, state: &str| {
        for _ in 0..2000 {
            if house.get(&format!("/v1/gifts/{}", gift["id"].as_str().unwrap())).await["state"] == state {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{gift} never was {state}");
    };
    eventually(&house, &third, "expired").await;
    assert_eq!(house.get("/v1/wallets/carol").await["available"], 100_000 - 29_900);

    let fourth = give(&house, "g4", 201).await;
    house.post(&path(&fourth, "pay"), "p4", carol, 200).await;
    house.post(&path(&fourth, "accept"), "a4", bob, 200).await;
    house.post("/v1/test/clock", "c2", json!({"advance_s": 14 * 86_400}), 200).await;
    eventually(&house, &fourth, "failed").await;
    assert_eq!(house.get("/v1/wallets/carol").await["available"], 100_000 - 29_900);
    house.ask_with(&rosy, "POST", &path(&first, "deliver"), "d1", json!({}), 200).await;
    let entries = house.get("/v1/wallets/carol/entries").await;
    let kinds: Vec<_> = entries["entries"].as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["gift_refund", "gift", "gift_refund", "gift", "gift_refund", "gift", "gift", "deposit"]);
    let audit = house.get("/v1/audit").await;
    assert_eq!(
        (&audit["balanced"], &audit["escrowed"], &audit["merchants"]),
        (&json!(true), &json!(0), &json!(29_900))
    );
    house.engine.close().unwrap();
}

/// What is refused, and what the caller is told to do about it.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_what_would_be_right() {
    let data = tempfile::tempdir().unwrap();
    let house = House::open(data.path()).await;
    let told = async |path: &str, key: &str, body: Value, status: u16, words: &[&str]| {
        let problem = house.post(path, key, body, status).await;
        let detail = problem["detail"].as_str().unwrap();
        for word in words {
            assert!(detail.contains(word), "{path}: no {word:?} in {detail}");
        }
    };
    house.post("/v1/wallets/alice/deposits", "d", json!({"amount": 1000}), 201).await;
    let other_path = ["another request", "another path or body", "use a new one"];
    told("/v1/wallets/bob/deposits", "d", json!({"amount": 1000}), 422, &other_path).await;
    let bounds = ["amount: ", "from 1 to 9007199254740991"];
    let digits = [bounds[0], bounds[1], "without fraction or exponent"];
    told("/v1/wallets/alice/deposits", "e", json!({"amount": 1e26}), 422, &bounds).await;
    told("/v1/wallets/alice/deposits", "e", json!({"amount": 1.5}), 422, &digits).await;
    let past = json!({"sender": "alice", "total": 10, "shares": 1, "opens_at": "2020-01-01T00:00:00Z"});
    told("/v1/envelopes", "e", past, 422, &["opens_at: ", "not be in the past", "null opens"]).await;

    let made = house.post("/v1/envelopes", "e", json!({"sender": "alice", "total": 10, "shares": 1}), 201).await;
    let envelope = format!("/v1/envelopes/{}", made["id"].as_str().unwrap());
    house.post(&format!("{envelope}/grab"), "-", json!({"user": "bob"}), 200).await;
    told(&format!("{envelope}/cancel"), "c", json!({}), 409, &["sold out or expired", "nothing left to cancel"]).await;

    let item = json!({"merchant": "rosy", "name": "rose", "category": "flowers", "price": 1u64 << 52, "stock": 9,
                      "per_user_limit": 9});
    for status in ["pending", "suspended"] {
        house.post("/v1/merchants", status, json!({"id": "rosy", "name": "Rosy", "status": status}), 201).await;
        told("/v1/items", "i", item.clone(), 409, &[status, "POST /v1/merchants", "\"verified\""]).await;
    }
    house.post("/v1/merchants", "m", json!({"id": "rosy", "name": "Rosy", "status": "verified"}), 201).await;
    let made = house.post("/v1/items", "i", item, 201).await;
    let grab = format!("/v1/items/{}/grab", made["id"].as_str().unwrap());
    house.post("/v1/merchants", "s", json!({"id": "rosy", "name": "Rosy", "status": "suspended"}), 201).await;
    let one = json!({"user": "bob", "quantity": 1});
    told(&grab, "s", one, 409, &["suspended", "only a verified one sells", "POST /v1/merchants"]).await;
    let papers = json!({"by": "Li Lei", "reference": "p-1"});
    let verified = json!({"id": "rosy", "name": "Rosy", "status": "verified", "verification": papers});
    let merchant = house.post("/v1/merchants", "v", verified, 201).await;
    assert_eq!(merchant["verification"]["by"], "Li Lei");
    assert_eq!(house.get("/v1/merchants/rosy").await, merchant);
    let page = json!({"merchants": [merchant], "next_cursor": null});
    assert_eq!(house.get("/v1/merchants?status=verified").await, page);
    assert_eq!(house.get("/v1/merchants?status=pending").await["merchants"], json!([]));
    let fewer = ["quantity: ", "above 9007199254740991", "take fewer"];
    told(&grab, "g", json!({"user": "bob", "quantity": 2}), 422, &fewer).await;
    let held = house.post(&grab, "g", json!({"user": "bob", "quantity": 1}), 200).await;
    let claim = format!("/v1/holds/{}/claim", held["hold"].as_str().unwrap());
    told(&claim, "h", json!({"user": "carol"}), 403, &["another user", "the user it was given to"]).await;
    house.engine.close().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_live_and_die_through_restarts() {
    let data = tempfile::tempdir().unwrap();
    let house = House::open(data.path()).await;
    let make = async |house: &House, name: &str, roles: Value| {
        house.post("/v1/keys", name, json!({"name": name, "roles": roles}), 201).await
    };
    let text = |made: &Value, field: &str| made[field].as_str().unwrap().to_owned();
    let shop = make(&house, "shop", json!(["treasurer", "issuer"])).await;
    let rival = make(&house, "rival", json!(["treasurer", "issuer"])).await;
    let (shop_key, rival_key) = (text(&shop, "key"), text(&rival, "key"));
    let terms = json!({"sender": "alice", "total": 10, "shares": 1, "reference": "gala"});
    let mut made = Vec::new();
    for key in [&shop_key, &rival_key] {
        house
            .ask_with(key, "POST", "/v1/wallets/alice/deposits", "d", json!({"amount": 10, "reference": "r"}), 201)
            .await;
        made.push(house.ask_with(key, "POST", "/v1/envelopes", "e", terms.clone(), 201).await);
    }
    assert_ne!(made[0]["id"], made[1]["id"], "references and idempotency keys are the owner's");
    let wallet = house.get("/v1/wallets/alice").await;
    assert_eq!(wallet["available"], 0, "each has deposited, and each has given: {wallet}");
    house.engine.close().unwrap();
    drop(house);

    let house = House::open(data.path()).await;
    for (key, own, other) in [(&shop_key, &made[0], &made[1]), (&rival_key, &made[1], &made[0])] {
        for list in ["/v1/envelopes", "/v1/envelopes?sender=alice", "/v1/envelopes?reference=gala"] {
            let listed = house.ask_with(key, "GET", list, "-", Value::Null, 200).await;
            let ids: Vec<_> = listed["envelopes"].as_array().unwrap().iter().map(|view| &view["id"]).collect();
            assert_eq!(ids, [&own["id"]], "{list}");
        }
        let path = |made: &Value| format!("/v1/envelopes/{}", made["id"].as_str().unwrap());
        house.ask_with(key, "GET", &path(own), "-", Value::Null, 200).await;
        house.ask_with(key, "GET", &path(other), "-", Value::Null, 404).await;
        house.ask_with(key, "POST", &format!("{}/cancel", path(other)), "c", json!({}), 404).await;
    }
    assert_eq!(house.get("/v1/envelopes").await["envelopes"].as_array().unwrap().len(), 2);
    let cancel = format!("/v1/envelopes/{}/cancel", text(&made[0], "id"));
    let cancelled = house.ask_with(&shop_key, "POST", &cancel, "c", json!({}), 200).await;
    assert_eq!(cancelled["ended_as"], "cancelled");
    let deleted = format!("/v1/keys/{}", text(&shop, "id"));
    house.ask("DELETE", &deleted, "-", Value::Null, 204).await;
    house.ask_with(&shop_key, "GET", "/v1/wallets/alice", "-", Value::Null, 401).await;
    house.engine.close().unwrap();
    drop(house);

    let house = House::open(data.path()).await;
    house.ask_with(&shop_key, "GET", "/v1/wallets/alice", "-", Value::Null, 401).await;
    house.ask_with(&rival_key, "GET", "/v1/wallets/alice", "-", Value::Null, 200).await;
    house.ask("DELETE", &deleted, "-", Value::Null, 204).await;
    let listed = house.get("/v1/keys").await;
    let names: Vec<_> = listed["keys"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["rival"]);
    let again = make(&house, "shop", json!(["treasurer", "issuer"])).await;
    assert_eq!((&again["id"], &again["key"]), (&shop["id"], &Value::Null), "the same answer, without the key");
    // Another key of the same owner goes on where the deleted one was.
    let body = json!({"name": "shop, second", "owner": "shop", "roles": ["issuer"]});
    let second = text(&house.post("/v1/keys", "second", body, 201).await, "key");
    let listed = house.ask_with(&second, "GET", "/v1/envelopes?reference=gala", "-", Value::Null, 200).await;
    assert_eq!(listed["envelopes"][0]["id"], made[0]["id"]);
    assert_eq!(house.ask_with(&second, "POST", "/v1/envelopes", "e", terms, 201).await["id"], made[0]["id"]);
    house.engine.close().unwrap();
}
