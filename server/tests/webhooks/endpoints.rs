//! Endpoints: how they are made, changed and ended, and where they may lead.

use crate::house::{FAST, House, allow, options};
use crate::receiver::{Got, PATIENCE, Receiver, SILENCE, status};
use crate::redis_stand::Certificates;
use hongbao_server::webhooks::{Pace, WebhookOptions};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::Mutex;

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_made_once_and_its_secret_shown_once() {
    let (data, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let house = House::open(data.path(), options(&[&receiver])).await;
    let body = json!({"url": receiver.url(), "types": ["share.*"]});
    let made = house.post("/v1/webhooks", "w1", body.clone(), 201).await;
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_"));
    let again = house.post("/v1/webhooks", "w1", body, 201).await;
    assert_eq!((&again["id"], &again["secret"]), (&made["id"], &Value::Null));
    let problem = house.post("/v1/webhooks", "w1", json!({"url": receiver.url()}), 422).await;
    assert_eq!(problem["code"], "idempotency_mismatch");
    let list = house.get("/v1/webhooks").await;
    assert_eq!(list["webhooks"], json!([again]));
    assert!(!list.to_string().contains(&secret[6..]));
    let hook = format!("/v1/webhooks/{}", made["id"].as_str().unwrap());
    for _ in 0..2 {
        assert_eq!(house.ask("DELETE", &hook, "-", Value::Null).await.0, 204);
    }
    assert_eq!(house.ask("GET", &hook, "-", Value::Null).await.0, 404);
    let never = format!("{}x", &hook[..hook.len() - 1]);
    for never in [if never == hook { format!("{}y", &hook[..hook.len() - 1]) } else { never }, format!("{hook}0")] {
        assert_eq!(house.ask("DELETE", &never, "-", Value::Null).await.0, 404, "{never}");
    }
    house.deposit("d", 1).await;
    for (body, field) in [
        (json!({}), "url"),
        (json!({"url": 1}), "url"),
        (json!({"url": "https://other.example/"}), "url"),
        (json!({"url": receiver.url(), "types": []}), "types"),
        (json!({"url": receiver.url(), "types": ["share.lost"]}), "types"),
        (json!({"url": receiver.url(), "types": ["share.claimed,share.lapsed"]}), "types"),
        (json!({"url": receiver.url(), "owner": "a b"}), "owner"),
        (json!({"url": receiver.url(), "after": "then"}), "after"),
        (json!({"url": receiver.url(), "after": "00ff"}), "after"),
        (json!({"url": receiver.url(), "secret": "whsec_"}), "secret"),
    ] {
        let problem = house.post("/v1/webhooks", "w2", body.clone(), 422).await;
        assert_eq!(problem["errors"][0]["field"], field, "{body}: {problem}");
    }
    assert_eq!(house.get("/v1/webhooks").await["webhooks"], json!([]));
    assert_eq!(receiver.got().len(), 0);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_secrets_sign_for_a_day() {
    let (data, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let house = House::open(data.path(), options(&[&receiver])).await;
    let (hook, old) = house.hook(&receiver, "w1", json!({})).await;
    let rotated = house.post(&format!("{hook}/rotate"), "r1", Value::Null, 200).await;
    let new = rotated["secret"].as_str().unwrap();
    let again = house.post(&format!("{hook}/rotate"), "r1", Value::Null, 200).await;
    assert_eq!(again["secret"], Value::Null, "a repeat rotates nothing");
    house.deposit("d", 1).await;
    let got = receiver.wait("a batch", |got| got.len() == 1).await;
    assert_eq!((got[0].signed_by(new), got[0].signed_by(&old)), (vec![true, false], vec![false, true]));
    house.advance(25).await;
    house.deposit("e", 1).await;
    let got = receiver.wait("a batch", |got| got.len() == 2).await;
    assert_eq!(got[1].signed_by(new), [true], "the old one signs no more");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_to_what_is_disabled_and_nothing_is_lost() {
    let (data, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let other = Receiver::start().await;
    let house = House::open(data.path(), options(&[&receiver, &other])).await;
    receiver.answer(|_, _| status(410));
    let (hook, _) = house.hook(&receiver, "w1", json!({})).await;
    house.deposit("d", 1).await;
    let told = house.wait(&hook, "it to be disabled", |told| told["state"] == "disabled").await;
    assert!(told["disabled_reason"].as_str().unwrap().contains("410"), "{told}");
    house.deposit("e", 1).await;
    let url = other.url();
    assert_eq!(house.ask("PATCH", &hook, "-", json!({"url": "https://other.example/"})).await.0, 422);
    let (code, told) = house.ask("PATCH", &hook, "-", json!({"url": url, "disabled": false})).await;
    assert_eq!((code, &told["url"], &told["disabled_reason"]), (200, &json!(url), &Value::Null));
    other.wait("both", |got| got.iter().flat_map(Got::events).count() == 2).await;
    assert_eq!(other.events(), house.told().await);
    assert_eq!(receiver.got().len(), 1);

    house.wait(&hook, "all to be noted", |told| told["pending"] == 0).await;
    let (_, told) = house.ask("PATCH", &hook, "-", json!({"disabled": true, "types": ["order.created"]})).await;
    assert_eq!((&told["state"], &told["types"]), (&json!("disabled"), &json!(["order.created"])));
    let (code, told) = house.ask("PATCH", &hook, "-", json!({"types": null})).await;
    assert_eq!((code, &told["state"], &told["types"]), (200, &json!("disabled"), &Value::Null), "the rest stays");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_tells_what_came_back() {
    let (data, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    // A name that leads inside, as one whose owner means ill may, though the name itself is allowed.
    let port = receiver.address.port();
    let allowed =
        allow(&[format!("http://{}", receiver.address), format!("http://localhost:{}", port.wrapping_add(1))]);
    let mine = WebhookOptions { allowed, ..options(&[]) };
    let house = House::open(data.path(), mine).await;
    let (hook, secret) = house.hook(&receiver, "w1", json!({})).await;
    let ping = format!("{hook}/test");
    assert_eq!(house.post(&ping, "-", Value::Null, 200).await, json!({"delivered": true, "error": null}));
    let got = receiver.got();
    assert_eq!((&got[0].json()["type"], got[0].signed_by(&secret)), (&json!("ping"), vec![true]));
    let moved = "HTTP/1.1 302 Told\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n";
    receiver.answer(move |_, _| moved.to_owned());
    let answer = house.post(&ping, "-", Value::Null, 200).await;
    assert!(answer["error"].as_str().unwrap().contains("not followed"), "{answer}");
    assert_eq!(receiver.got().len(), 2);
    house.close().await;

    let data = tempfile::tempdir().unwrap();
    let named = allow(&[format!("http://localhost:{port}")]);
    let house = House::open(data.path(), WebhookOptions { allowed: named, ..options(&[]) }).await;
    let url = format!("http://localhost:{port}/hook");
    let made = house.post("/v1/webhooks", "w1", json!({"url": url}), 201).await;
    let ping = format!("/v1/webhooks/{}/test", made["id"].as_str().unwrap());
    let answer = house.post(&ping, "-", Value::Null, 200).await;
    assert!(answer["error"].as_str().unwrap().contains("an address of the inside"), "{answer}");
    assert_eq!((&answer["delivered"], receiver.got().len()), (&json!(false), 2), "nothing was dialled");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_cannot_be_read_holds_up_nobody_and_can_be_deleted() {
    let (data, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let house = House::open(data.path(), options(&[&receiver])).await;
    let (good, _) = house.hook(&receiver, "w1", json!({})).await;
    let (bad, _) = house.hook(&receiver, "w2", json!({})).await;
    house.close().await;
    let file = data.path().join("webhooks").join(bad.rsplit('/').next().unwrap());
    std::fs::write(&file, "{").unwrap();
    let house = House::open(data.path(), options(&[&receiver])).await;
    house.deposit("d", 1).await;
    let got = receiver.wait("a batch", |got| !got.is_empty()).await;
    assert_eq!(got[0].json()["webhook"].as_str(), good.rsplit('/').next());
    assert_eq!(house.get("/v1/webhooks").await["webhooks"].as_array().unwrap().len(), 1);
    assert_eq!(house.ask("GET", &bad, "-", Value::Null).await.0, 500);
    assert_eq!(house.ask("DELETE", &bad, "-", Value::Null).await.0, 204);
    assert!(!file.exists());
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_option_there_are_none() {
    let data = tempfile::tempdir().unwrap();
    let house = House::open(data.path(), WebhookOptions::default()).await;
    let problem = house.post("/v1/webhooks", "w1", json!({"url": "https://hooks.example.com/"}), 422).await;
    assert!(problem["errors"][0]["message"].as_str().unwrap().contains("--webhook-allow"), "{problem}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_checked() {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let certificates = Certificates::new();
    let chain = vec![CertificateDer::from_pem_file(certificates.path("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(certificates.path("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let receiver = Receiver::with(Some(Arc::new(config))).await;
    let url = format!("https://{}/hook", receiver.address);
    let trusting = hongbao_server::webhooks::trusting(Some(&certificates.path("ca.pem"))).unwrap();
    for (tls, is_trusted) in [(trusting, true), (WebhookOptions::default().tls, false)] {
        let data = tempfile::tempdir().unwrap();
        let allowed = allow(&[receiver.address.to_string()]);
        let house = House::open(data.path(), WebhookOptions { allowed, tls, ..options(&[]) }).await;
        let made = house.post("/v1/webhooks", "w1", json!({"url": url}), 201).await;
        let ping = format!("/v1/webhooks/{}/test", made["id"].as_str().unwrap());
        let answer = house.post(&ping, "-", Value::Null, 200).await;
        assert_eq!(answer["delivered"], is_trusted, "{answer}");
        assert!(is_trusted || answer["error"].as_str().unwrap().starts_with("TLS"), "{answer}");
        house.close().await;
    }
    assert_eq!(receiver.got().len(), 1);
    let missing = hongbao_server::webhooks::trusting(Some(&certificates.path("server.key"))).unwrap_err();
    assert!(missing.contains("no certificate"), "{missing}");
}

/// Its answer comes when it is no longer the target; the new one has not said so.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_late_410_of_the_last_url_does_not_disable_the_next() {
    let (data, receiver, other) = (tempfile::tempdir().unwrap(), Receiver::start().await, Receiver::start().await);
    let patient = WebhookOptions {
        pace: Pace { timeout: PATIENCE, backoff_first: PATIENCE, backoff_max: PATIENCE, ..FAST },
        ..options(&[&receiver, &other])
    };
    let house = House::open(data.path(), patient).await;
    for (nth, late) in [status(410), "HTTP/1.1 503 Told\r\nretry-after: 3600\r\ncontent-length: 0\r\n\r\n".to_owned()]
        .into_iter()
        .enumerate()
    {
        let (arrived, arrives) = std::sync::mpsc::channel();
        let (answers, answer) = std::sync::mpsc::channel();
        let answer = Mutex::new(answer);
        receiver.answer(move |_, _| {
            arrived.send(()).unwrap();
            answer.lock().unwrap().recv().unwrap();
            late.clone()
        });
        let (hook, _) = house.hook(&receiver, &format!("w{nth}"), json!({})).await;
        house.deposit(&format!("d{nth}"), 1).await;
        tokio::task::spawn_blocking(move || arrives.recv().unwrap()).await.unwrap();
        assert_eq!(house.ask("PATCH", &hook, "-", json!({"url": other.url()})).await.0, 200);
        answers.send(()).unwrap();
        other.wait("it at the new url", |got| got.len() > nth).await;
        let told = house.wait(&hook, "it to be noted", |told| told["pending"] == 0).await;
        assert_eq!((&told["state"], &told["last_error"]), (&json!("active"), &Value::Null), "{told}");
        assert_eq!(house.ask("DELETE", &hook, "-", Value::Null).await.0, 204);
    }
    house.close().await;
}

/// A receiver that says nothing takes no place of those who grab, and pings only so many.
#[tokio::test(flavor = "multi_thread")]
async fn pings_have_places_of_their_own() {
    let (data, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let house = House::open(data.path(), options(&[&receiver])).await;
    let (hook, _) = house.hook(&receiver, "w1", json!({})).await;
    receiver.answer(|_, _| SILENCE.to_owned());
    let ping = format!("{hook}/test");
    let ask = || house.ask("POST", &ping, "-", Value::Null);
    let (a, b, c, d, e, f, g, h, one_more) =
        tokio::join!(ask(), ask(), ask(), ask(), ask(), ask(), ask(), ask(), ask());
    for (code, answer) in [a, b, c, d, e, f, g, h] {
        assert_eq!((code, &answer["delivered"]), (200, &json!(false)), "{answer}");
    }
    assert_eq!((one_more.0, &one_more.1["code"]), (503, &json!("overloaded")), "{}", one_more.1);
    receiver.answer(|_, _| status(200));
    assert_eq!(ask().await.1["delivered"], true, "there is a place again");
    house.close().await;
}

/// A flood of heads that only announce an answer would keep a core busy until the time is over.
#[tokio::test(flavor = "multi_thread")]
async fn of_heads_that_announce_an_answer_only_so_much_is_read() {
    let (data, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let house = House::open(data.path(), options(&[&receiver])).await;
    let (hook, _) = house.hook(&receiver, "w1", json!({})).await;
    let announced = |times: usize| {
        let hint = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(times);
        move |_: &Got, _: usize| format!("{hint}{}", status(200))
    };
    let ping = format!("{hook}/test");
    receiver.answer(announced(5));
    assert_eq!(house.post(&ping, "-", Value::Null, 200).await, json!({"delivered": true, "error": null}));
    receiver.answer(announced(10_000));
    let answer = house.post(&ping, "-", Value::Null, 200).await;
    assert!(answer["error"].as_str().is_some_and(|why| why.contains("more than 80 KiB")), "{answer}");
    // The bound is of one answer: those over one connection have it each.
    receiver.answer(|_, _| format!("HTTP/1.1 200 OK\r\ncontent-length: 30000\r\n\r\n{}", "x".repeat(30_000)));
    for nth in 1..=6 {
        house.deposit(&format!("d{nth}"), 1).await;
        house.wait(&hook, "it to be noted", |told| told["pending"] == 0 && told["lag_s"] == 0).await;
    }
    receiver.wait("six", |got| got.iter().flat_map(Got::events).count() == 6).await;
    assert_eq!(house.get(&hook).await["last_error"], Value::Null);
    house.close().await;
}

/// Those who ask at once for the last place: one gets it, and who gives its own up makes room.
#[tokio::test(flavor = "multi_thread")]
async fn there_are_sixty_four_at_most_whoever_asks_at_once() {
    let (data, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let house = Arc::new(House::open(data.path(), options(&[&receiver])).await);
    let (url, body) = (receiver.url(), |url: &str| json!({"url": url, "types": ["order.created"]}));
    let first = house.post("/v1/webhooks", "w0", body(&url), 201).await;
    for nth in 1..63 {
        house.post("/v1/webhooks", &format!("w{nth}"), body(&url), 201).await;
    }
    let asks = (63..71).map(|nth| {
        let (house, body) = (Arc::clone(&house), body(&url));
        tokio::spawn(async move { house.ask("POST", "/v1/webhooks", &format!("w{nth}"), body).await })
    });
    let mut codes = Vec::new();
    for ask in asks.collect::<Vec<_>>() {
        codes.push(ask.await.unwrap().0);
    }
    codes.sort_unstable();
    assert_eq!(codes, [201, 409, 409, 409, 409, 409, 409, 409]);
    assert_eq!(house.get("/v1/webhooks").await["webhooks"].as_array().map(Vec::len), Some(64));
    let (again, _) = house.ask("POST", "/v1/webhooks", "w0", body(&url)).await;
    assert_eq!(again, 201, "a repeat of one that is there takes no place");
    let hook = format!("/v1/webhooks/{}", first["id"].as_str().unwrap());
    assert_eq!(house.ask("DELETE", &hook, "-", Value::Null).await.0, 204);
    house.post("/v1/webhooks", "w99", body(&url), 201).await;
    Arc::into_inner(house).expect("nobody else has it").close().await;
}
