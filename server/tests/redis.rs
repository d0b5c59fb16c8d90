//! Two servers in front of one Redis: what one of them answered the other knows.

#![allow(missing_docs, reason = "nothing outside reads this crate")]

#[path = "../../engine/tests/redis_stand/mod.rs"]
mod redis_stand;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hongbao_engine::address::{AddressKey, AddressOptions};
use hongbao_engine::backend::Backend;
use hongbao_engine::command::{Command, Transfer};
use hongbao_engine::memory::{Embedded, EmbeddedOptions};
use hongbao_engine::redis::{RedisBackend, RedisBackendOptions, RedisOptions};
use hongbao_engine::types::{Amount, UserId};
use hongbao_server::app::{Server, Setup, app};
use hongbao_server::caps::Caps;
use hongbao_server::payments::PaymentOptions;
use hongbao_server::relations::MayGive;
use hongbao_server::webhooks::WebhookOptions;
use http_body_util::BodyExt;
use redis_stand::{RedisServer, ServerOptions, is_missing};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tower::ServiceExt;

const KEY: &str = "hb_test_0123456789";

/// How often the sweeper goes round, where a test waits for what it does.
const OFTEN: Duration = Duration::from_millis(20);

fn options(redis: &RedisServer) -> RedisOptions {
    RedisOptions { urls: vec![redis.url()], buckets: 64, ..RedisOptions::default() }
}

struct House {
    engine: Arc<RedisBackend>,
    router: Router,
}

impl House {
    async fn open(redis: &RedisServer) -> House {
        House::with(options(redis), OFTEN).await
    }

    /// The same, which takes addresses.
    async fn sealing(redis: &RedisServer) -> House {
        let key = AddressKey::from_bytes([1; 32]);
        House::over(RedisBackendOptions {
            redis: options(redis),
            addresses: Some(AddressOptions::new(key)),
            sweep_every: Some(OFTEN),
            ..RedisBackendOptions::default()
        })
        .await
    }

    async fn with(redis: RedisOptions, sweep_every: Duration) -> House {
        House::over(RedisBackendOptions { redis, sweep_every: Some(sweep_every), ..RedisBackendOptions::default() })
            .await
    }

    async fn over(options: RedisBackendOptions) -> House {
        let options = RedisBackendOptions { test_mode: true, ..options };
        let engine = Arc::new(RedisBackend::open(options).await.expect("it opens"));
        let setup = Setup {
            currency: "CNY".parse().expect("a currency"),
            admin_key: KEY.to_owned(),
            test: true,
            metrics_apart: false,
            in_flight_max: 100,
            event_readers_max: 10,
            body_timeout: Duration::from_secs(15),
            caps: Caps::default(),
            may_give: MayGive::default(),
            webhooks: WebhookOptions::default(),
            payments: PaymentOptions::default(),
        };
        let server = Server::new(Arc::clone(&engine), &setup);
        server.keys().refresh(&*engine).await.expect("it is there");
        tokio::spawn(Arc::clone(&server).follow_keys());
        House { router: app(server), engine }
    }

    /// Asks, and tells status and body.
    async fn ask(&self, method: &str, path: &str, key: &str, body: Value) -> (u16, Value) {
        self.ask_with(KEY, method, path, key, body).await
    }

    /// The same with another API key than the admin's.
    async fn ask_with(&self, bearer: &str, method: &str, path: &str, key: &str, body: Value) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {bearer}"))
            .header("content-type", "application/json")
            .header("idempotency-key", key);
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.router.clone().oneshot(request.body(body).expect("a request")).await.expect("an answer");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") })
    }

    async fn post(&self, path: &str, key: &str, body: Value, status: u16) -> Value {
        let (told, answer) = self.ask("POST", path, key, body).await;
        assert_eq!(told, status, "POST {path}: {answer}");
        answer
    }

    async fn get(&self, path: &str) -> Value {
        let (told, answer) = self.ask("GET", path, "unused", Value::Null).await;
        assert_eq!(told, 200, "GET {path}: {answer}");
        answer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_server_answered_the_other_knows() {
    if is_missing() {
        return;
    }
    let redis = RedisServer::start(ServerOptions::default());
    let (one, other) = (House::open(&redis).await, House::open(&redis).await);
    let deposit = json!({"amount": 100_000, "reference": "alipay:1"});
    let wallet = one.post("/v1/wallets/alice/deposits", "d1", deposit.clone(), 201).await;
    assert_eq!(other.post("/v1/wallets/alice/deposits", "d1", deposit, 201).await, wallet);
    other.post("/v1/wallets/alice/deposits", "d1", json!({"amount": 1, "reference": "x"}), 422).await;

    let terms = json!({"sender": "alice", "total": 1000, "shares": 3, "reference": "gala-1", "expires_in_s": 60});
    let made = one.post("/v1/envelopes", "e1", terms.clone(), 201).await;
    assert_eq!(other.post("/v1/envelopes", "e2", terms, 201).await["id"], made["id"]);
    let path = format!("/v1/envelopes/{}", made["id"].as_str().expect("an id"));
    let by = |user: &str| json!({ "user": user });
    let won = other.post(&format!("{path}/grab"), "-", by("bob"), 200).await;
    assert_eq!((&won["outcome"], &won["replayed"]), (&json!("won"), &json!(false)));
    let again = one.post(&format!("{path}/grab"), "-", by("bob"), 200).await;
    assert_eq!((&again["amount"], &again["replayed"]), (&won["amount"], &json!(true)));
    let claimed = one.post(&format!("{path}/claim"), "-", by("bob"), 200).await;
    assert_eq!((&claimed["outcome"], &claimed["amount"]), (&json!("claimed"), &won["amount"]));
    assert_eq!(other.get("/v1/wallets/bob").await["available"], won["amount"]);
    assert_eq!(other.get("/v1/users/bob/received").await["grabs"][0]["status"], "claimed");
    assert_eq!(one.get("/v1/envelopes?reference=gala-1").await["envelopes"][0]["id"], made["id"]);

    one.post("/v1/merchants", "m", json!({"id": "rosy", "name": "Rosy", "status": "verified"}), 201).await;
    let terms = json!({"merchant": "rosy", "name": "roses", "category": "flowers", "price": 10, "stock": 1});
    let item = other.post("/v1/items", "i", terms, 201).await;
    let grab = format!("/v1/items/{}/grab", item["id"].as_str().expect("an id"));
    let held = one.post(&grab, "h", json!({"user": "alice", "quantity": 1}), 200).await;
    assert_eq!(other.post(&grab, "h2", json!({"user": "bob", "quantity": 1}), 200).await["outcome"], "sold_out");
    let hold = format!("/v1/holds/{}/claim", held["hold"].as_str().expect("an id"));
    let ordered = other.post(&hold, "-", by("alice"), 200).await;
    assert_eq!(one.post(&hold, "-", by("alice"), 200).await["order"], ordered["order"]);

    // The clock of one is that of all, and whoever is first does what is due.
    one.post("/v1/test/clock", "-", json!({"advance_s": 300_000}), 200).await;
    let since = Instant::now();
    while other.get(&path).await["state"] != "settled" {
        assert!(since.elapsed() < Duration::from_secs(60), "nobody settles it");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let audit = loop {
        let audit = other.get("/v1/audit").await;
        if audit["in_flight"] == 0 {
            break audit;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "{audit}");
    };
    assert_eq!((&audit["balanced"], &audit["deposited"]), (&json!(true), &json!(100_000)));
    assert_eq!(audit["merchants"], 10);
    assert_eq!(audit["wallets"], 100_000 - 10);
    for house in [one, other] {
        house.engine.close();
    }
}

/// Carol is asked to pay, bob accepts, rosy ships; nobody accepts a second one, and carol has its price back.
#[tokio::test(flavor = "multi_thread")]
async fn a_gift_goes_from_one_server_to_the_other() {
    if is_missing() {
        return;
    }
    let redis = RedisServer::start(ServerOptions::default());
    let (one, other) = (House::open(&redis).await, House::open(&redis).await);
    one.post("/v1/wallets/carol/deposits", "d", json!({"amount": 100}), 201).await;
    one.post("/v1/merchants", "m", json!({"id": "rosy", "name": "Rosy", "status": "verified"}), 201).await;
    let terms = json!({"merchant": "rosy", "name": "roses", "category": "flowers", "price": 10, "stock": 1});
    let item = other.post("/v1/items", "i", terms, 201).await;
    let terms =
        json!({"giver": "alice", "payer": "carol", "item": item["id"], "message": "for you", "reference": "g-1"});
    let gift = one.post("/v1/gifts", "g1", terms.clone(), 201).await;
    assert_eq!(other.post("/v1/gifts", "g1", terms.clone(), 201).await, gift);
    assert_eq!((&gift["state"], &gift["recipient"]), (&json!("awaiting_payment"), &Value::Null));
    let sold_out = json!({"giver": "dave", "recipient": "bob", "payer": "carol", "item": item["id"]});
    other.post("/v1/gifts", "g2", sold_out.clone(), 409).await;
    let path = |verb: &str| format!("/v1/gifts/{}{verb}", gift["id"].as_str().expect("an id"));
    one.post(&path("/pay"), "p", json!({"payer": "alice"}), 403).await;
    let paid = one.post(&path("/pay"), "p1", json!({"payer": "carol"}), 200).await;
    assert_eq!(other.post(&path("/pay"), "p1", json!({"payer": "carol"}), 200).await, paid);
    assert_eq!(
        (&paid["state"], other.get("/v1/wallets/carol").await["available"].as_u64()),
        (&json!("offered"), Some(90))
    );
    let token = &gift["token"];
    other.post(&path("/accept"), "-", json!({"user": "bob"}), 403).await;
    let accepted = other.post(&path("/accept"), "-", json!({"user": "bob", "token": token}), 200).await;
    assert_eq!(accepted["state"], "accepted");
    let shipped = one.post(&path("/ship"), "s", json!({"carrier": "sf", "tracking": "SF1"}), 200).await;
    assert_eq!(shipped["tracking"], "SF1");
    other.post(&path("/deliver"), "-", json!({}), 200).await;
    one.post(&path("/thank"), "-", json!({"user": "bob", "note": "lovely"}), 200).await;
    for (house, user, role) in [(&one, "alice", "given"), (&other, "bob", "received")] {
        let told = house.get(&format!("/v1/users/{user}/gifts?role={role}")).await;
        assert_eq!((&told["gifts"][0]["state"], &told["gifts"][0]["note"]), (&json!("delivered"), &json!("lovely")));
    }
    assert_eq!(other.get("/v1/wallets/carol/entries").await["entries"][0]["gift"], gift["id"]);

    other
        .post(&format!("/v1/items/{}/restock", item["id"].as_str().expect("an id")), "r", json!({"quantity": 1}), 200)
        .await;
    let second = one.post("/v1/gifts", "g3", sold_out, 201).await;
    let path = |verb: &str| format!("/v1/gifts/{}{verb}", second["id"].as_str().expect("an id"));
    other.post(&path("/pay"), "p2", json!({"payer": "carol"}), 200).await;
    one.post("/v1/test/clock", "-", json!({"advance_s": 259_200}), 200).await;
    let since = Instant::now();
    // The gift has ended in one step, and what was paid for it is back a little later.
    while other.get("/v1/wallets/carol").await["available"] != 90 {
        assert!(since.elapsed() < Duration::from_secs(60), "nobody ends it");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(one.get(&path("")).await["state"], "expired");
    let kinds: Vec<Value> = one.get("/v1/events?limit=100").await["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|event| event["type"].clone())
        .filter(|kind| kind.as_str().is_some_and(|kind| kind.starts_with("gift.")))
        .collect();
    let expected = [
        "awaiting_payment",
        "offered",
        "accepted",
        "shipped",
        "delivered",
        "delivered",
        "awaiting_payment",
        "offered",
        "expired",
    ];
    assert_eq!(kinds, expected.map(|state| json!(format!("gift.{state}"))));
    for house in [one, other] {
        house.engine.close();
    }
    let (status, told) = hongbao(&["audit", "--redis", &redis.url()]);
    assert!(status == Some(0) && told.contains("2 gifts"), "{told}");
}

/// Bob says at one server where to, rosy reads it at the other; and who is started without the address key is told.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_goes_from_one_server_to_the_other() {
    if is_missing() {
        return;
    }
    let redis = RedisServer::start(ServerOptions::default());
    let (one, other) = (House::sealing(&redis).await, House::sealing(&redis).await);
    one.post("/v1/wallets/alice/deposits", "d", json!({"amount": 100}), 201).await;
    one.post("/v1/merchants", "m", json!({"id": "rosy", "name": "Rosy", "status": "verified"}), 201).await;
    let terms = json!({"merchant": "rosy", "name": "roses", "category": "flowers", "price": 10, "stock": 1});
    let item = one.post("/v1/items", "i", terms, 201).await;
    let gift = json!({"giver": "alice", "recipient": "bob", "item": item["id"]});
    let gift = one.post("/v1/gifts", "g", gift, 201).await;
    let path = |verb: &str| format!("/v1/gifts/{}{verb}", gift["id"].as_str().expect("an id"));
    let key = json!({"name": "shop", "owner": "shop", "roles": ["merchant:rosy"]});
    let secret = other.post("/v1/keys", "k", key, 201).await["key"].as_str().expect("a secret").to_owned();
    let address = |street: &str| json!({"name": "canary", "phone": "138", "lines": [street], "city": "Hangzhou"});
    for (key, street) in [("a", "canary street"), ("a", "canary street"), ("b", "canary lane")] {
        let accept = json!({"user": "bob", "address": address(street)});
        let told = one.post(&path("/accept"), key, accept, 200).await;
        assert!(told["state"] == "accepted" && !told.to_string().contains("canary"), "{told}");
    }
    let since = Instant::now();
    let read = loop {
        match other.ask_with(&secret, "GET", &path("/address"), "-", Value::Null).await {
            (200, read) => break read,
            // The key is not known there yet.
            told => assert!(told.0 == 401 && since.elapsed() < Duration::from_secs(60), "{told:?}"),
        }
    };
    assert_eq!((&read["version"], &read["lines"]), (&json!(2), &json!(["canary lane"])));
    assert_eq!(other.ask("GET", &path("/address"), "-", Value::Null).await.0, 403, "not the operator's");
    let ship = |version: u32| json!({"carrier": "sf", "tracking": "SF1", "address_version": version});
    other.post(&path("/ship"), "s1", ship(1), 409).await;
    other.post(&path("/ship"), "s2", ship(2), 200).await;
    one.post(&path("/accept"), "c", json!({"user": "bob", "address": address("canary hill")}), 409).await;
    assert!(!one.get(&path("")).await.to_string().contains("canary"));
    assert!(!one.get("/v1/events?limit=100").await.to_string().contains("canary"));

    let url = redis.url();
    let mut serve = vec!["serve", "--backend", "redis", "--redis", &url, "--test", "--listen", "127.0.0.1:0"];
    let (status, told) = hongbao(&serve);
    assert!(status == Some(2) && told.contains("--address-key-file"), "{status:?}: {told}");
    let other_key = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(other_key.path(), "ab".repeat(32)).expect("it is written");
    serve.extend(["--address-key-file", other_key.path().to_str().expect("a path")]);
    let (status, told) = hongbao(&serve);
    assert!(
        status == Some(2) && told.contains("1 addresses") && !told.contains(&"ab".repeat(32)),
        "{status:?}: {told}"
    );

    one.post(&path("/address/erase"), "-", json!({}), 200).await;
    let read = other.ask_with(&secret, "GET", &path("/address"), "-", Value::Null).await;
    assert_eq!(read.0, 404, "{read:?}");
    for house in [one, other] {
        house.engine.close();
    }
    let (status, told) = hongbao(&["audit", "--redis", &url]);
    assert!(status == Some(0) && told.contains("1 gifts"), "{told}");
}

/// Sent from one server, sent back at the other; the money comes out of what is pending, and its commission with it.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_goes_there_and_back_between_servers() {
    if is_missing() {
        return;
    }
    let redis = RedisServer::start(ServerOptions::default());
    let (one, other) = (House::open(&redis).await, House::open(&redis).await);
    one.post("/v1/wallets/bob/deposits", "d", json!({"amount": 1000}), 201).await;
    let rosy = json!({"id": "rosy", "name": "Rosy", "status": "verified", "commission_bps": 1000});
    one.post("/v1/merchants", "m", rosy, 201).await;
    let terms = json!({"merchant": "rosy", "name": "A vase", "category": "home", "price": 300, "stock": 2,
        "per_user_limit": null, "return_within_s": 3600});
    let item = other.post("/v1/items", "i", terms, 201).await;
    assert_eq!(item["return_within_s"], 3600);
    let item = format!("/v1/items/{}", item["id"].as_str().expect("an id"));
    let held = one.post(&format!("{item}/grab"), "h", json!({"user": "bob", "quantity": 2}), 200).await;
    let hold = format!("/v1/holds/{}/claim", held["hold"].as_str().expect("an id"));
    let ordered = other.post(&hold, "-", json!({"user": "bob"}), 200).await;
    let order = format!("/v1/orders/{}", ordered["order"].as_str().expect("an id"));
    let at = |verb: &str| format!("{order}/{verb}");
    one.post(&at("ship"), "-", json!({"carrier": "sf", "tracking": "SF1"}), 200).await;
    other.post(&at("deliver"), "-", json!({}), 200).await;
    one.post(&at("accept-return"), "a0", json!({"restock": true}), 409).await;
    let back = json!({"user": "bob", "reason": "broken"});
    let asked = other.post(&at("return"), "r", back.clone(), 200).await;
    assert_eq!(one.post(&at("return"), "r", back, 200).await, asked);
    assert_eq!((&asked["state"], &asked["tracking"]), (&json!("return_requested"), &json!("SF1")));
    let returned = one.post(&at("accept-return"), "a", json!({"restock": true}), 200).await;
    assert_eq!(other.post(&at("accept-return"), "a", json!({"restock": true}), 200).await, returned);
    assert_eq!(other.get(&order).await["ended_at"], returned["ended_at"]);
    assert_eq!((&returned["state"], &returned["restocked"]), (&json!("returned"), &json!(true)));
    assert_eq!(other.get(&item).await["stock"], json!({"total": 2, "free": 2, "held": 0, "sold": 0}));
    let entries = one.get("/v1/wallets/bob/entries").await;
    let newest = &entries["entries"][0];
    assert_eq!((&newest["kind"], &newest["balance_after"]), (&json!("order_refund"), &json!(1000)));
    let statement = other.get("/v1/merchants/rosy/statement").await;
    let kinds: Vec<_> = statement["entries"].as_array().expect("entries").iter().map(|entry| &entry["kind"]).collect();
    assert_eq!(kinds, ["sale", "refund"], "{statement}");
    let audit = one.get("/v1/audit").await;
    assert_eq!((&audit["wallets"], &audit["merchants"], &audit["platform"]), (&json!(1000), &json!(0), &json!(0)));
    let told = one.get("/v1/events?limit=100").await;
    let kinds = told["events"].as_array().expect("events").iter().filter_map(|event| event["type"].as_str());
    let kinds: Vec<_> = kinds.filter(|kind| kind.starts_with("order.")).collect();
    let expected = ["created", "shipped", "delivered", "return_requested", "returned"];
    assert_eq!(kinds, expected.map(|state| format!("order.{state}")));
    for house in [one, other] {
        house.engine.close();
    }
    let (status, told) = hongbao(&["audit", "--redis", &redis.url()]);
    assert!(status == Some(0) && told.contains("1 order"), "{told}");
}

/// Added at one server, handed out at the other, once.
#[tokio::test(flavor = "multi_thread")]
async fn codes_go_from_one_server_to_the_other() {
    if is_missing() {
        return;
    }
    let redis = RedisServer::start(ServerOptions::default());
    let (one, other) = (House::open(&redis).await, House::open(&redis).await);
    one.post("/v1/wallets/bob/deposits", "d", json!({"amount": 1000}), 201).await;
    one.post("/v1/merchants", "m", json!({"id": "rosy", "name": "Rosy", "status": "verified"}), 201).await;
    let terms = json!({"merchant": "rosy", "name": "A month of music", "category": "digital", "kind": "code",
        "price": 100, "per_user_limit": null});
    let item = one.post("/v1/items", "i", terms, 201).await;
    let at = |verb: &str| format!("/v1/items/{}{verb}", item["id"].as_str().expect("an id"));
    let codes = json!({"codes": ["A-1", "A-2", "A-3"]});
    let added = one.post(&at("/codes"), "c", codes.clone(), 200).await;
    assert_eq!(other.post(&at("/codes"), "c", codes, 200).await, added);
    assert_eq!(added["stock"]["free"], 3);
    let known = other.post(&at("/codes"), "c2", json!({"codes": ["A-4", "A-2"]}), 422).await;
    assert_eq!(known["errors"][0]["field"], "codes[1]", "{known}");
    other.post(&at("/restock"), "r", json!({"quantity": 1}), 409).await;
    let held = other.post(&at("/grab"), "h", json!({"user": "bob", "quantity": 2}), 200).await;
    let hold = format!("/v1/holds/{}/claim", held["hold"].as_str().expect("an id"));
    let ordered = one.post(&hold, "-", json!({"user": "bob"}), 200).await;
    let order = format!("/v1/orders/{}", ordered["order"].as_str().expect("an id"));
    let told = other.get(&order).await;
    assert_eq!((&told["codes"], &told["state"]), (&json!(["A-1", "A-2"]), &json!("delivered")));
    let given = json!({"giver": "bob", "recipient": "carol", "item": item["id"]});
    let gift = other.post("/v1/gifts", "g", given, 201).await;
    let gift = format!("/v1/gifts/{}", gift["id"].as_str().expect("an id"));
    let accepted = one.post(&format!("{gift}/accept"), "-", json!({"user": "carol"}), 200).await;
    assert_eq!(accepted["state"], "delivered");
    assert_eq!(other.get(&format!("{gift}/codes?user=carol")).await, json!({"codes": ["A-3"]}));
    let bobs = other.ask("GET", &format!("{gift}/codes?user=bob"), "-", Value::Null).await;
    assert_eq!(bobs.0, 403, "{}", bobs.1);
    assert_eq!(one.get("/v1/merchants/rosy/balance").await["pending"], 300);
    let events = one.get("/v1/events?limit=100").await;
    assert!(!events.to_string().contains("A-"), "no event has a code");
    for house in [one, other] {
        house.engine.close();
    }
    let (status, told) = hongbao(&["audit", "--redis", &redis.url()]);
    assert!(status == Some(0) && told.contains("3 codes"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_works_and_stops_working_on_every_server() {
    if is_missing() {
        return;
    }
    let redis = RedisServer::start(ServerOptions::default());
    let (one, other) = (House::open(&redis).await, House::open(&redis).await);
    let body = json!({"name": "till", "roles": ["caller", "treasurer"]});
    let made = one.post("/v1/keys", "k", body.clone(), 201).await;
    let (key, id) = (made["key"].as_str().expect("a key"), made["id"].as_str().expect("an id"));
    let told = async |house: &House| house.ask_with(key, "GET", "/v1/wallets/bob", "-", Value::Null).await;
    assert_eq!(told(&one).await.0, 200, "where it was made it works at once");
    let until = async |status: u16, what: &str| {
        let since = Instant::now();
        while told(&other).await.0 != status {
            assert!(since.elapsed() < Duration::from_secs(60), "{what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    until(200, "it does not come to work on the other").await;
    let again = other.post("/v1/keys", "k", body, 201).await;
    assert_eq!((&again["id"], &again["key"]), (&made["id"], &Value::Null));
    let deposit = json!({"amount": 5, "reference": "r"});
    for house in [&one, &other] {
        let (status, wallet) = house.ask_with(key, "POST", "/v1/wallets/bob/deposits", "d", deposit.clone()).await;
        assert_eq!((status, &wallet["available"]), (201, &json!(5)));
    }
    assert_eq!(other.get("/v1/keys").await["keys"][0]["id"], made["id"]);
    assert_eq!(one.ask("DELETE", &format!("/v1/keys/{id}"), "-", Value::Null).await.0, 204);
    assert_eq!(told(&one).await.0, 401, "where it was deleted it stops working at once");
    until(401, "it does not stop working on the other").await;
    assert_eq!(other.ask("DELETE", &format!("/v1/keys/{id}"), "-", Value::Null).await.0, 204);
    let anew = House::open(&redis).await;
    assert_eq!(told(&anew).await.0, 401);
    assert_eq!(anew.get("/v1/keys").await["keys"], json!([]));
    for house in [one, other, anew] {
        house.engine.close();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_goes_away_and_comes_back() {
    if is_missing() {
        return;
    }
    let mut redis = RedisServer::start(ServerOptions::default());
    let house = House::open(&redis).await;
    let deposit = |amount: u32| json!({ "amount": amount });
    house.post("/v1/wallets/alice/deposits", "d1", deposit(100), 201).await;
    redis.kill9();
    let (status, problem) = house.ask("POST", "/v1/wallets/alice/deposits", "d2", deposit(10)).await;
    assert_eq!(status, 503, "{problem}");
    redis.restart();
    let since = Instant::now();
    loop {
        let (status, wallet) = house.ask("POST", "/v1/wallets/alice/deposits", "d2", deposit(10)).await;
        if status == 201 {
            assert_eq!(wallet["available"], 110);
            break;
        }
        assert_eq!(status, 503, "{wallet}");
        assert!(since.elapsed() < Duration::from_secs(60), "{wallet}");
    }
    // The sweeper says so after its next tour.
    while let Err(why) = house.engine.ready() {
        assert!(since.elapsed() < Duration::from_secs(60), "{why}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(house.get("/v1/audit").await["wallets"], 110);
    house.engine.close();
}

/// The sweeper's next tour is an hour away: it is the calls that find out.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_finds_redis_away_makes_the_server_unready() {
    if is_missing() {
        return;
    }
    let mut redis = RedisServer::start(ServerOptions::default());
    let house = House::with(options(&redis), Duration::from_secs(3600)).await;
    let path = "/v1/wallets/alice/deposits";
    let since = Instant::now();
    house.post(path, "d1", json!({ "amount": 100 }), 201).await;
    redis.kill9();
    let (status, problem) = house.ask("POST", path, "d2", json!({ "amount": 10 })).await;
    assert_eq!(status, 503, "{problem}");
    let (status, problem) = house.ask("GET", "/readyz", "-", Value::Null).await;
    assert_eq!((status, &problem["code"]), (503, &json!("not_ready")), "{problem}");
    let detail = problem["detail"].as_str().expect("a text");
    assert!(detail.starts_with("Redis at 127.0.0.1:") && detail.contains("look at Redis"), "{detail}");
    assert!(!detail.contains("same key"), "nobody asked anything of /readyz: {detail}");
    redis.restart();
    while house.ask("POST", path, "d2", json!({ "amount": 10 })).await.0 != 201 {
        assert!(since.elapsed() < Duration::from_secs(60), "it does not come back");
    }
    assert_eq!(house.get("/readyz").await["status"], "ready", "as soon as one call was answered");
    house.engine.close();
}

/// What the binary says, and the status it ends with.
fn hongbao(arguments: &[&str]) -> (Option<i32>, String) {
    hongbao_at("", arguments)
}

/// The same where the environment says where the deployment is.
fn hongbao_at(urls: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hongbao"));
    let output = command.args(arguments).env("HONGBAO_REDIS", urls).output().expect("the binary runs");
    let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.code(), told.concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_audited_and_reconciled_from_outside() {
    if is_missing() {
        return;
    }
    let redis = RedisServer::start(ServerOptions::default());
    let url = redis.url();
    for arguments in [
        &["audit", "--redis", &url][..],
        &["audit", "--redis", &url, "--data", "./data"],
        &["reconcile"],
        &["reconcile", "--redis", &url, "--format", "xml"],
    ] {
        let (status, told) = hongbao(arguments);
        assert_eq!(status, Some(2), "{arguments:?}: {told}");
    }
    let house = House::open(&redis).await;
    house.post("/v1/wallets/alice/deposits", "d1", json!({"amount": 1000}), 201).await;
    let made = house.post("/v1/envelopes", "e1", json!({"sender": "alice", "total": 1000, "shares": 3}), 201).await;
    let path = format!("/v1/envelopes/{}", made["id"].as_str().expect("an id"));
    house.post(&format!("{path}/grab"), "-", json!({"user": "bob"}), 200).await;
    house.post(&format!("{path}/claim"), "-", json!({"user": "bob"}), 200).await;

    let (status, told) = hongbao(&["audit", "--redis", &url]);
    assert_eq!(status, Some(0), "{told}");
    assert!(told.contains("2 wallets, 3 movements, 1 envelopes, 1 shares"), "{told}");
    assert!(told.contains("clean: nothing is lost"), "{told}");
    let (status, same) = hongbao_at(&url, &["audit"]);
    assert_eq!((status, same), (Some(0), told), "its url need not be seen by others");
    let (status, told) = hongbao_at(&url, &["audit", "--data", "/nowhere"]);
    assert!(status == Some(2) && told.contains("/nowhere does not exist"), "a directory is what it says: {told}");
    let (status, told) = hongbao_at(&url, &["reconcile", "payouts", "/nowhere.csv"]);
    assert!(status == Some(2) && told.contains("/nowhere.csv"), "{told}");
    let (status, told) = hongbao_at(&url, &["reconcile", "--repair", "--format", "json"]);
    assert_eq!(status, Some(0), "{told}");
    let report: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&report["carried"], &report["findings"]), (&json!(0), &json!([])));

    let wallet = redis.cli(&["--scan", "--pattern", "hb:*:wallet:bob"]);
    assert_eq!(redis.cli(&["HINCRBY", &wallet, "rows", "1"]), "2");
    let (status, told) = hongbao(&["audit", "--redis", &url]);
    assert_eq!(status, Some(1), "{told}");
    assert!(told.contains("wallet: wallet of bob: its movement 2 of 2 is missing"), "{told}");
    let (status, told) = hongbao(&["reconcile", "--redis", &url, "--format", "json"]);
    assert_eq!(status, Some(1), "{told}");
    let report: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(report["findings"][0]["kind"], "wallet", "{told}");
    house.engine.close();
}

/// What one server archives the other answers, and nobody looks at the deployment
/// without the archive.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_left_redis_is_answered_by_both_servers() {
    if is_missing() {
        return;
    }
    let redis = RedisServer::start(ServerOptions::default());
    let (url, place) = (redis.url(), tempfile::tempdir().expect("a directory"));
    let archive = place.path().join("archive");
    let options = RedisOptions {
        urls: vec![url.clone()],
        buckets: 64,
        archive: Some(archive.clone()),
        archive_after: Duration::ZERO,
        ..RedisOptions::default()
    };
    let houses = [House::with(options.clone(), OFTEN).await, House::with(options, OFTEN).await];
    houses[0].post("/v1/wallets/alice/deposits", "d1", json!({"amount": 1000}), 201).await;
    let terms = json!({"sender": "alice", "total": 1000, "shares": 1, "reference": "evening"});
    let made = houses[0].post("/v1/envelopes", "e1", terms, 201).await;
    let path = format!("/v1/envelopes/{}", made["id"].as_str().expect("an id"));
    houses[0].post(&format!("{path}/grab"), "-", json!({"user": "bob"}), 200).await;
    let claimed = houses[0].post(&format!("{path}/claim"), "-", json!({"user": "bob"}), 200).await;
    let until = Instant::now() + Duration::from_secs(60);
    while houses.iter().all(|house| house.engine.archived().envelopes == 0) {
        assert!(Instant::now() < until, "it is not archived");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for house in &houses {
        let won = house.post(&format!("{path}/grab"), "-", json!({"user": "bob"}), 200).await;
        assert_eq!(
            (&won["outcome"], &won["status"], &won["replayed"]),
            (&json!("won"), &json!("claimed"), &json!(true))
        );
        let again = house.post(&format!("{path}/claim"), "-", json!({"user": "bob"}), 200).await;
        assert_eq!(again["claimed_at"], claimed["claimed_at"]);
        let late = house.post(&format!("{path}/grab"), "-", json!({"user": "carol"}), 200).await;
        assert_eq!(late, json!({"outcome": "sold_out"}));
        house.post(&format!("{path}/cancel"), "c1", json!({}), 409).await;
        assert_eq!(house.get(&path).await["state"], "settled");
        assert_eq!(house.get("/v1/envelopes?reference=evening").await["envelopes"][0]["id"], made["id"]);
        assert_eq!(house.get("/v1/users/bob/received").await["grabs"][0]["amount"], 1000);
        assert_eq!(house.get("/v1/wallets/bob/entries").await["entries"][0]["amount"], 1000);
    }
    houses.iter().for_each(|house| house.engine.close());

    let (status, told) = hongbao(&["audit", "--redis", &url]);
    assert!(status == Some(2) && told.contains("--redis-archive DIR"), "{told}");
    let with = ["--redis-archive", archive.to_str().expect("a path")];
    let (status, told) = hongbao(&[&["audit", "--redis", &url][..], &with].concat());
    assert_eq!(status, Some(0), "{told}");
    assert!(told.contains("2 wallets, 3 movements, 1 envelopes, 1 shares"), "{told}");
    let back = place.path().join("back").display().to_string();
    let (status, told) = hongbao(&[&["copy", "--from", &url, "--to", &back][..], &with].concat());
    assert_eq!(status, Some(0), "{told}");
    let (engine, _) = Embedded::open(back.as_ref(), EmbeddedOptions { test_mode: true, ..EmbeddedOptions::default() })
        .expect("it opens");
    let bob = UserId::new("bob").expect("a user");
    assert_eq!(engine.wallet(&bob).await.expect("a read").available.minor(), 1000);
    engine.close().expect("it closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_copied_there_and_back() {
    if is_missing() {
        return;
    }
    let redis = RedisServer::start(ServerOptions::default());
    let url = redis.url();
    let place = tempfile::tempdir().expect("a directory");
    let [first, back] = ["first", "back"].map(|name| place.path().join(name).display().to_string());
    let bob = UserId::new("bob").expect("a user");
    let deposit = Transfer { user: bob.clone(), amount: Amount::new(100).expect("small"), reference: None };
    let (engine, _) = Embedded::open(first.as_ref(), EmbeddedOptions::default()).expect("it opens");
    engine.execute(Command::Deposit(deposit), None).await.expect("it is answered");
    engine.close().expect("it closes");
    drop(engine);
    for arguments in [["copy", "--from", &first, "--to", &back], ["copy", "--from", &back, "--to", &url]] {
        let (status, told) = hongbao(&arguments);
        assert_eq!(status, Some(2), "{arguments:?}: {told}");
    }
    let (status, told) = hongbao(&["copy", "--from", &first, "--to", &url]);
    assert_eq!(status, Some(0), "{told}");
    assert!(told.contains("2 things copied: 100 deposited, 0 withdrawn, 100 in wallets"), "{told}");
    let (status, told) = hongbao(&["copy", "--from", &first, "--to", &url]);
    assert_eq!(status, Some(2), "{told}");
    let (status, told) = hongbao(&["copy", "--from", "redis://", "--to", &back]);
    assert!(status == Some(2) && told.contains("HONGBAO_REDIS"), "{told}");
    let (status, told) = hongbao_at(&url, &["copy", "--from", "redis://", "--to", &back]);
    assert_eq!(status, Some(0), "{told}");
    let (engine, _) = Embedded::open(back.as_ref(), EmbeddedOptions::default()).expect("it opens");
    assert_eq!(engine.wallet(&bob).await.expect("a read").available.minor(), 100);
    engine.close().expect("it closes");
    drop(engine);
    let (status, told) = hongbao(&["audit", "--data", &back]);
    assert_eq!(status, Some(0), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_fills_the_memory_names_the_setting() {
    if is_missing() {
        return;
    }
    let redis = RedisServer::start(ServerOptions::default());
    let url = redis.url();
    let place = tempfile::tempdir().expect("a directory");
    let first = place.path().join("first").display().to_string();
    let (engine, _) = Embedded::open(first.as_ref(), EmbeddedOptions::default()).expect("it opens");
    engine.close().expect("it closes");
    drop(engine);
    let copy = ["copy", "--from", &first, "--to", &url];
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let (status, told) = hongbao(&copy);
    assert_eq!(status, Some(1), "{told}");
    assert!(told.contains("CONFIG SET maxmemory") && told.contains("run the same copy again"), "{told}");
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    let (status, told) = hongbao(&copy);
    assert_eq!(status, Some(0), "{told}");
}
