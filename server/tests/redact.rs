//! A message with a mark, then taken back: no route tells the mark any more, before and after a
//! restart, over either engine; and the command that takes messages back.

#![allow(missing_docs, reason = "nothing outside reads this crate")]

#[path = "../../engine/tests/redis_stand/mod.rs"]
mod redis_stand;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hongbao_engine::backend::Backend;
use hongbao_engine::journal::JournalOptions;
use hongbao_engine::memory::{Embedded, EmbeddedOptions};
use hongbao_engine::redis::{RedisBackend, RedisBackendOptions, RedisOptions};
use hongbao_server::app::{Server, Setup, Shared, app};
use hongbao_server::caps::Caps;
use hongbao_server::payments::PaymentOptions;
use hongbao_server::relations::MayGive;
use hongbao_server::serve::{Limits, listen_on_first, serve};
use hongbao_server::webhooks::WebhookOptions;
use http_body_util::BodyExt;
use redis_stand::{RedisServer, ServerOptions, is_missing};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const KEY: &str = "hb_test_0123456789";
/// What is written nowhere else.
const MARK: &str = "mark-51c0";

fn server_over<B: Backend>(engine: Arc<B>) -> Shared<B> {
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
    Server::new(engine, &setup)
}

struct House {
    router: Router,
    /// Ends those who follow the stream.
    stop: CancellationToken,
}

impl House {
    async fn over<B: Backend>(engine: &Arc<B>) -> House {
        let server = server_over(Arc::clone(engine));
        server.keys().refresh(&**engine).await.expect("keys are there");
        House { stop: server.stop.clone(), router: app(server) }
    }

    async fn ask(&self, method: &str, path: &str, key: &str, body: Value, status: u16) -> String {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {KEY}"))
            .header("content-type", "application/json")
            .header("idempotency-key", key);
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.router.clone().oneshot(request.body(body).expect("a request")).await.expect("an answer");
        let told = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        assert_eq!(told, status, "{method} {path}: {text}");
        text
    }

    async fn post(&self, path: &str, key: &str, body: Value, status: u16) -> Value {
        serde_json::from_str(&self.ask("POST", path, key, body, status).await).expect("JSON")
    }

    /// The stream of events from the first on, until it tells of one that is the last there is.
    async fn stream(&self, last: &str) -> String {
        let request = Request::builder()
            .uri("/v1/events?after=oldest")
            .header("authorization", format!("Bearer {KEY}"))
            .header("accept", "text/event-stream")
            .body(Body::empty());
        let response = self.router.clone().oneshot(request.expect("a request")).await.expect("an answer");
        assert_eq!(response.status().as_u16(), 200);
        let mut body = response.into_body();
        let mut told = String::new();
        let until = tokio::time::Instant::now() + Duration::from_secs(30);
        while !told.contains(last) {
            let frame = tokio::time::timeout_at(until, body.frame()).await;
            let frame = frame.unwrap_or_else(|_| panic!("no {last} in the stream: {told}"));
            if let Ok(bytes) = frame.expect("it goes on").expect("a frame").into_data() {
                told.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
        told
    }
}

fn terms(message: &str, reference: &str) -> Value {
    json!({"sender": "alice", "total": 100, "shares": 2, "split": "equal", "message": message,
        "metadata": {"note": message}, "reference": reference})
}

/// An open and a settled envelope with the mark, and one without.
async fn make(house: &House) -> Vec<String> {
    house.post("/v1/wallets/alice/deposits", "d", json!({"amount": 1000}), 201).await;
    let mut ids = Vec::new();
    for (key, message) in [("open", MARK), ("settled", MARK), ("kind", "kind words")] {
        let made = house.post("/v1/envelopes", key, terms(message, key), 201).await;
        ids.push(made["id"].as_str().expect("an id").to_owned());
    }
    let path = format!("/v1/envelopes/{}", ids[1]);
    house.post(&format!("{path}/grab"), "-", json!({"user": "bob"}), 200).await;
    house.post(&format!("{path}/claim"), "-", json!({"user": "bob"}), 200).await;
    house.post(&format!("{path}/cancel"), "end", json!({}), 200).await;
    ids
}

/// All that is told of them, route by route.
async fn told(house: &House, ids: &[String], last_event: &str) -> Vec<(String, String)> {
    let mut told = Vec::new();
    let mut paths = vec![
        "/v1/envelopes".to_owned(),
        "/v1/envelopes?sender=alice".to_owned(),
        "/v1/envelopes?reference=open".to_owned(),
        "/v1/envelopes?reference=settled".to_owned(),
        "/v1/users/alice/sent".to_owned(),
        "/v1/users/bob/received".to_owned(),
        "/v1/wallets/alice/entries".to_owned(),
        "/v1/wallets/bob/entries".to_owned(),
        "/v1/events?after=oldest&wait_s=0&limit=1000".to_owned(),
    ];
    for id in ids {
        let path = format!("/v1/envelopes/{id}");
        paths.extend([path.clone(), format!("{path}/grabs"), format!("{path}/grabs/bob")]);
    }
    for path in paths {
        let status = if path.ends_with("/grabs/bob") && !path.contains(&ids[1]) { 404 } else { 200 };
        told.push((path.clone(), house.ask("GET", &path, "-", Value::Null, status).await));
    }
    for reference in ["open", "settled"] {
        for key in ["", "another-", "one-more-"] {
            let key = format!("{key}{reference}");
            let what = format!("create again under {key} and {reference}");
            told.push((what, house.ask("POST", "/v1/envelopes", &key, terms(MARK, reference), 201).await));
        }
    }
    let path = format!("/v1/envelopes/{}/cancel", ids[1]);
    for key in ["end", "end-again"] {
        told.push((format!("cancel under {key}"), house.ask("POST", &path, key, json!({}), 200).await));
    }
    told.push(("the stream".to_owned(), house.stream(last_event).await));
    told
}

async fn redact(house: &House, ids: &[String]) {
    for id in &ids[..2] {
        let path = format!("/v1/envelopes/{id}/redact");
        let first = house.post(&path, "-", json!({"metadata": true}), 200).await;
        assert_eq!((&first["message"], &first["metadata"], &first["id"]), (&json!(""), &json!({}), &json!(id)));
        assert!(first["redacted_at"].is_string(), "{first}");
        assert_eq!(house.post(&path, "-", json!({}), 200).await["redacted_at"], first["redacted_at"]);
    }
    house.post("/v1/envelopes/env_00000000000000000000000000/redact", "-", json!({}), 404).await;
}

/// No route tells the mark, and those that have told it tell something else in its place.
fn assert_gone(told: &[(String, String)], before: &[(String, String)], when: &str) {
    for ((what, told), (_, before)) in told.iter().zip(before) {
        assert!(!told.contains(MARK), "{when}, {what}: {told}");
        assert_eq!(before.contains("kind words"), told.contains("kind words"), "{when}, {what}: {told}");
        if before.contains(MARK) {
            assert!(told.contains(r#""redacted_at":""#), "{when}, {what}: {told}");
        }
    }
}

/// Those that tell an envelope, so that the test tests something.
fn assert_told(told: &[(String, String)]) {
    let with_mark = told.iter().filter(|(_, told)| told.contains(MARK)).count();
    assert_eq!(
        with_mark,
        17,
        "{:?}",
        told.iter().filter(|(_, told)| told.contains(MARK)).map(|(what, _)| what).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_tells_it_over_a_directory() {
    let data = tempfile::tempdir().expect("a directory");
    let open = || {
        let journal = JournalOptions { kept_bytes_max: 64 << 20, ..JournalOptions::default() };
        let options = EmbeddedOptions { test_mode: true, journal, ..EmbeddedOptions::default() };
        Arc::new(Embedded::open(data.path(), options).expect("it opens").0)
    };
    let engine = open();
    let house = House::over(&engine).await;
    let ids = make(&house).await;
    let before = told(&house, &ids, "envelope.settled").await;
    assert_told(&before);
    redact(&house, &ids).await;
    assert_gone(&told(&house, &ids, "envelope.redacted").await, &before, "at once");
    house.stop.cancel();
    engine.close().expect("it closes");
    let left = Arc::downgrade(&engine);
    drop((house, engine));
    let until = Instant::now() + Duration::from_secs(60);
    while left.strong_count() > 0 {
        assert!(Instant::now() < until, "who follows the stream has not let go of the engine");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let engine = open();
    let house = House::over(&engine).await;
    assert_gone(&told(&house, &ids, "envelope.redacted").await, &before, "after a start");
    engine.close().expect("it closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_tells_it_in_front_of_redis() {
    if is_missing() {
        return;
    }
    let redis = RedisServer::start(ServerOptions::default());
    let place = tempfile::tempdir().expect("a directory");
    for archive in [None, Some(place.path().join("archive"))] {
        let open = async || {
            let options = RedisBackendOptions {
                redis: RedisOptions {
                    urls: vec![redis.url()],
                    buckets: 64,
                    key_prefix: if archive.is_some() { "hb2" } else { "hb" }.to_owned(),
                    archive: archive.clone(),
                    archive_after: Duration::ZERO,
                    ..RedisOptions::default()
                },
                test_mode: true,
                sweep_every: None,
                ..RedisBackendOptions::default()
            };
            Arc::new(RedisBackend::open(options).await.expect("it opens"))
        };
        let engine = open().await;
        let house = House::over(&engine).await;
        let ids = make(&house).await;
        let before = told(&house, &ids, "envelope.settled").await;
        assert_told(&before);
        // One is redacted in Redis and archived then, the other in the archive.
        let settle = async |engine: &RedisBackend| while engine.sweep().await.expect("a sweep") {};
        if archive.is_some() {
            settle(&engine).await;
            assert_eq!(engine.archived().envelopes, 1);
        }
        redact(&house, &ids).await;
        assert_gone(&told(&house, &ids, "envelope.redacted").await, &before, "at once");
        let other = open().await;
        let house = House::over(&other).await;
        assert_gone(&told(&house, &ids, "envelope.redacted").await, &before, "by another server");
        if archive.is_some() {
            house.post(&format!("/v1/envelopes/{}/cancel", ids[0]), "end-0", json!({}), 200).await;
            settle(&other).await;
            assert_eq!(other.archived().envelopes, 1);
            for id in &ids[..2] {
                let told = house.ask("GET", &format!("/v1/envelopes/{id}"), "-", Value::Null, 200).await;
                assert!(told.contains(r#""message":"""#) && told.contains(r#""redacted_at":""#), "{told}");
            }
        }
        [engine, other].iter().for_each(|engine| engine.close());
    }
}

/// A delivered gift with the mark in its message and its note, and a declined one with it in its reason.
async fn make_gifts(house: &House) -> Vec<String> {
    house.post("/v1/wallets/alice/deposits", "d2", json!({"amount": 1000}), 201).await;
    house.post("/v1/merchants", "m", json!({"id": "rosy", "name": "Rosy", "status": "verified"}), 201).await;
    let item = json!({"merchant": "rosy", "name": "99 roses", "category": "flowers", "price": 100, "stock": 9,
        "per_user_limit": null});
    let item = house.post("/v1/items", "i", item, 201).await["id"].clone();
    let mut ids = Vec::new();
    for n in ["0", "1"] {
        let made = house.post("/v1/gifts", n, gift(&item, n), 201).await;
        ids.push(made["id"].as_str().expect("an id").to_owned());
    }
    for (nth, verb, key, body) in gift_steps() {
        house.post(&format!("/v1/gifts/{}/{verb}", ids[nth]), key, body, 200).await;
    }
    ids.push(item.as_str().expect("an id").to_owned());
    ids
}

fn gift(item: &Value, reference: &str) -> Value {
    json!({"giver": "alice", "recipient": "bob", "item": item, "message": MARK, "metadata": {"note": MARK},
        "reference": reference})
}

/// What happens to which of them.
fn gift_steps() -> [(usize, &'static str, &'static str, Value); 5] {
    [
        (1, "decline", "no", json!({"user": "bob", "reason": format!("not {MARK}")})),
        (0, "accept", "yes", json!({"user": "bob"})),
        (0, "thank", "thanks", json!({"user": "bob", "note": format!("thanks {MARK}")})),
        (0, "ship", "off", json!({"carrier": "sf", "tracking": "1"})),
        (0, "deliver", "there", json!({})),
    ]
}

/// All that is told of the gifts, route by route.
async fn told_of_gifts(house: &House, made: &[String], last_event: &str) -> Vec<(String, String)> {
    let mut told = Vec::new();
    let lists = ["alice/gifts?role=given", "bob/gifts?role=received"].map(|list| format!("/v1/users/{list}"));
    let gifts = made[..2].iter().map(|id| format!("/v1/gifts/{id}"));
    let events = "/v1/events?after=oldest&wait_s=0&limit=1000".to_owned();
    for path in gifts.chain(lists).chain([events]) {
        told.push((path.clone(), house.ask("GET", &path, "-", Value::Null, 200).await));
    }
    for (key, reference) in [("0", "0"), ("another-0", "0"), ("1", "1")] {
        let body = gift(&json!(made[2]), reference);
        told.push((format!("give again under {key}"), house.ask("POST", "/v1/gifts", key, body, 201).await));
    }
    for (nth, verb, key, body) in gift_steps() {
        let path = format!("/v1/gifts/{}/{verb}", made[nth]);
        told.push((format!("{verb} again"), house.ask("POST", &path, key, body, 200).await));
    }
    told.push(("the stream".to_owned(), house.stream(last_event).await));
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_tells_a_gifts_texts_over_a_directory() {
    let data = tempfile::tempdir().expect("a directory");
    let options = EmbeddedOptions { test_mode: true, ..EmbeddedOptions::default() };
    let engine = Arc::new(Embedded::open(data.path(), options).expect("it opens").0);
    let house = House::over(&engine).await;
    let made = make_gifts(&house).await;
    let before = told_of_gifts(&house, &made, "gift.delivered").await;
    assert!(before.iter().all(|(_, told)| told.contains(MARK)), "{before:?}");
    for id in &made[..2] {
        let path = format!("/v1/gifts/{id}/redact");
        let first = house.post(&path, "-", json!({"metadata": true}), 200).await;
        let texts = ["message", "note", "reason", "metadata"].map(|name| first[name].clone());
        assert_eq!(texts, [json!(""), Value::Null, Value::Null, json!({})], "{first}");
        assert!(first["redacted_at"].is_string(), "{first}");
        assert_eq!(house.post(&path, "-", Value::Null, 200).await, first);
    }
    house.post("/v1/gifts/gift_00000000000000000000000000/redact", "-", json!({}), 404).await;
    assert_gone(&told_of_gifts(&house, &made, "gift.redacted").await, &before, "at once");
    house.stop.cancel();
    engine.close().expect("it closes");
}

fn hongbao(words: &[&str], key: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hongbao"));
    command.args(words).env_remove("HONGBAO_ADMIN_KEY").env_remove("HONGBAO_KEY");
    if let Some(key) = key {
        command.env("HONGBAO_ADMIN_KEY", key);
    }
    command.output().expect("it runs")
}

/// What is in the files of a period, exported by the command.
fn exported(data: &Path, out: &Path) -> String {
    let now = jiff::Timestamp::now().to_string();
    let words = ["--from", "2020-01-01", "--to", &now, "--time-zone", "UTC", "--format", "jsonl"];
    let (data, out) = (data.to_str().expect("a path"), out.to_str().expect("a path"));
    let done = hongbao(&[&["export", "envelopes", "--data", data, "--out", out][..], &words].concat(), None);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    std::fs::read_to_string(out).expect("a file")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_takes_them_back() {
    let data = tempfile::tempdir().expect("a directory");
    let options = EmbeddedOptions { test_mode: true, ..EmbeddedOptions::default() };
    let engine = Arc::new(Embedded::open(data.path(), options).expect("it opens").0);
    let server = server_over(Arc::clone(&engine));
    server.keys().refresh(&*engine).await.expect("keys are there");
    let listeners = listen_on_first(&["127.0.0.1:0".parse().expect("an address")]).expect("a port");
    let target = format!("http://{}", listeners[0].local_addr().expect("an address"));
    let (stop, metrics) = (server.stop.clone(), Arc::clone(&server.metrics));
    let house = House { stop: stop.clone(), router: app(server) };
    let ids = make(&house).await;
    let served = tokio::spawn(serve(house.router.clone(), listeners, Limits::default(), metrics, stop.clone()));

    let run = async |words: &[&str], key: Option<&'static str>| {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let run = move || hongbao(&words.iter().map(String::as_str).collect::<Vec<_>>(), key);
        let done = tokio::task::spawn_blocking(run).await.expect("it ends");
        let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).expect("text")).concat();
        (done.status.code(), said)
    };
    let (status, said) = run(&["redact", "--target", &target, &ids[0]], None).await;
    assert!(status == Some(2) && said.contains("HONGBAO_ADMIN_KEY"), "{status:?} {said}");
    let (status, said) = run(&["redact", "--target", &target, &ids[0]], Some("hb_wrong")).await;
    assert!(status == Some(2) && said.contains("401"), "{status:?} {said}");
    let (status, said) = run(&["redact", "--target", &target, "--metadata", "env_none"], Some(KEY)).await;
    assert!(status == Some(2) && said.contains("env_none"), "{status:?} {said}");
    let none = "env_00000000000000000000000000";
    let (status, said) = run(&["redact", "--target", &target, "--metadata", &ids[0], none, &ids[1]], Some(KEY)).await;
    assert!(status == Some(1) && said.contains(&format!("{none}: there is no such envelope")), "{status:?} {said}");
    assert!(ids[..2].iter().all(|id| said.contains(&format!("{id}: taken back 2"))), "{said}");
    let gifts = make_gifts(&house).await;
    let (status, of_gift) = run(&["redact", "--target", &target, &gifts[0]], Some(KEY)).await;
    assert!(status == Some(0) && of_gift.contains(&format!("{}: taken back 2", gifts[0])), "{status:?} {of_gift}");
    let no_gift = "gift_00000000000000000000000000";
    let (status, of_gift) = run(&["redact", "--target", &target, no_gift], Some(KEY)).await;
    assert!(status == Some(1) && of_gift.contains(&format!("{no_gift}: there is no such gift")), "{of_gift}");
    let (status, again) = run(&["redact", "--target", &target, &ids[0], &ids[1]], Some(KEY)).await;
    assert_eq!(status, Some(0), "{again}");
    assert!(again.lines().all(|line| said.contains(line)), "the same answer: {again}");
    stop.cancel();
    served.await.expect("it ends").expect("it was served");
    engine.close().expect("it closes");
    drop((house, engine));
    let exported = exported(data.path(), &data.path().with_extension("jsonl"));
    assert!(!exported.contains(MARK) && exported.contains("kind words") && exported.contains(&ids[0]), "{exported}");
}
