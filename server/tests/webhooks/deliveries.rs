//! What arrives, in which order, how often, and what becomes of what does not.

use crate::house::{FAST, House, options};
use crate::receiver::{ENDLESS, Got, Receiver, SILENCE, status};
use hongbao_server::webhooks::{Pace, WebhookOptions};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_in_order_in_signed_batches() {
    let (data, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let house = House::open(data.path(), options(&[&receiver])).await;
    house.deposit("before", 250).await;
    let (hook, secret) = house.hook(&receiver, "w1", json!({"after": "oldest"})).await;
    receiver.wait("250 events", |got| got.iter().flat_map(Got::events).count() == 250).await;
    house.deposit("after", 10).await;
    let got = receiver.wait("10 more", |got| got.iter().flat_map(Got::events).count() == 260).await;
    assert_eq!(receiver.events(), house.told().await);
    assert_eq!(got[..3].iter().map(|got| got.events().len()).collect::<Vec<_>>(), [100, 100, 50]);
    let ids: BTreeSet<_> = got.iter().map(|got| got.header("webhook-id")).collect();
    assert_eq!(ids.len(), got.len(), "each batch has its own id");
    for got in &got {
        assert_eq!((got.path.as_str(), got.header("content-type")), ("/hook", "application/json"));
        assert_eq!(got.signed_by(&secret), [true], "{got:?}");
        let body = got.json();
        assert_eq!((&body["type"], body["webhook"].as_str()), (&json!("events"), hook.rsplit('/').next()));
    }
    let told = house.wait(&hook, "all to be noted", |told| told["pending"] == 0).await;
    assert_eq!(told["state"], "active");
    assert_eq!(told["cursor"], got.last().unwrap().json()["next_cursor"], "a receiver can go on by itself");
    assert!(told["last_success_at"].is_string() && told["last_error"].is_null() && told["secret"].is_null(), "{told}");
    assert!(house.metrics().contains("hongbao_webhook_delivered_total 260\n"));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_of_the_types_and_the_owner_that_were_asked_for() {
    let (receiver, of_owner, of_another) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    let data = tempfile::tempdir().unwrap();
    let house = House::open(data.path(), options(&[&receiver, &of_owner, &of_another])).await;
    house.deposit("d", 1).await;
    house.hook(&receiver, "w1", json!({"types": ["envelope.*", "share.grabbed"], "after": "oldest"})).await;
    house.hook(&of_owner, "w2", json!({"owner": "admin", "after": "oldest"})).await;
    house.hook(&of_another, "w3", json!({"owner": "somebody", "after": "oldest"})).await;
    let envelope = json!({"sender": "alice", "total": 2, "shares": 1});
    let made = house.post("/v1/envelopes", "e1", envelope, 201).await;
    let grab = format!("/v1/envelopes/{}/grab", made["id"].as_str().unwrap());
    house.post(&grab, "-", json!({"user": "bob"}), 200).await;
    let types = |got: &[Got]| {
        let events = got.iter().flat_map(|got| got.json()["events"].as_array().cloned().unwrap());
        events.map(|event| event["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = ["envelope.created", "share.grabbed", "envelope.sold_out"];
    receiver.wait("three events", |got| types(got) == all).await;
    of_owner.wait("two events", |got| types(got) == ["envelope.created", "envelope.sold_out"]).await;
    assert_eq!(of_another.got().len(), 0, "the admin's envelope is not somebody's");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_bounded_in_bytes() {
    let (data, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let house = House::open(data.path(), options(&[&receiver])).await;
    house.deposit("d", 20).await;
    let metadata = json!({"long": "x".repeat(4000)});
    for nth in 0..80 {
        let envelope = json!({"sender": "alice", "total": 1, "shares": 1, "metadata": metadata});
        house.post("/v1/envelopes", &format!("e{nth}"), envelope, 201).await;
    }
    house.hook(&receiver, "w1", json!({"after": "oldest"})).await;
    let got = receiver.wait("all", |got| got.iter().flat_map(Got::events).count() == 100).await;
    assert_eq!(receiver.events(), house.told().await);
    let bytes: Vec<_> = got.iter().map(|got| got.body.len()).collect();
    assert!(bytes.len() == 2 && bytes[0] <= 257 << 10 && bytes[0] > 250 << 10, "{bytes:?}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_sent_again_as_it_was() {
    let (data, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let pace = Pace { timeout: Duration::from_millis(200), ..FAST };
    let house = House::open(data.path(), WebhookOptions { pace, ..options(&[&receiver]) }).await;
    let elsewhere =
        format!("HTTP/1.1 307 Told\r\nlocation: http://{}/other\r\ncontent-length: 0\r\n\r\n", receiver.address);
    receiver.answer(move |_, before| match before {
        0 => status(500),
        1 => elsewhere.clone(),
        2 => status(404),
        3 => "HTTP/1.1 503 Told\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n".to_owned(),
        4 => "this is not HTTP at all\r\n\r\n".to_owned(),
        5 => SILENCE.to_owned(),
        _ => status(204),
    });
    let (hook, _) = house.hook(&receiver, "w1", json!({})).await;
    house.deposit("first", 1).await;
    receiver.wait("a first failure", |got| !got.is_empty()).await;
    // They are not added to what is on its way.
    house.deposit("more", 3).await;
    let got = receiver.wait("all", |got| got.iter().flat_map(Got::events).collect::<BTreeSet<_>>().len() == 4).await;
    let (tries, rest) = got.split_at(7);
    for again in tries {
        let same = |got: &Got| (got.path.clone(), got.header("webhook-id").to_owned(), got.body.clone());
        assert_eq!(same(again), same(&tries[0]));
    }
    assert!(rest.iter().all(|got| got.header("webhook-id") != tries[0].header("webhook-id")));
    house.wait(&hook, "all to be noted", |told| told["pending"] == 0 && told["state"] == "active").await;
    let metrics = house.metrics();
    let failed = metrics.lines().find(|line| line.starts_with("hongbao_webhook_failed_total"));
    assert_eq!(failed, Some("hongbao_webhook_failed_total 6"));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_to_be_left_alone_is_but_not_for_ever() {
    let (data, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let house = House::open(data.path(), options(&[&receiver])).await;
    receiver.answer(|_, before| match before {
        0 => "HTTP/1.1 429 Told\r\nretry-after: 999999999\r\ncontent-length: 0\r\n\r\n".to_owned(),
        _ => status(200),
    });
    let (hook, _) = house.hook(&receiver, "w1", json!({})).await;
    house.deposit("d", 1).await;
    let told = house.wait(&hook, "a failure", |told| told["state"] == "failing").await;
    assert_eq!((&told["attempts"], &told["pending"]), (&json!(1), &json!(1)), "{told}");
    assert!(told["last_error"]["detail"].as_str().unwrap().starts_with("429"), "{told}");
    house.advance(2).await;
    receiver.wait("a second attempt, an hour later", |got| got.len() == 2).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_day_it_is_a_dead_letter_which_can_be_redelivered() {
    let (data, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let house = House::open(data.path(), options(&[&receiver])).await;
    receiver.answer(|_, _| status(500));
    let (hook, _) = house.hook(&receiver, "w1", json!({})).await;
    house.deposit("dies", 1).await;
    receiver.wait("a failure", |got| !got.is_empty()).await;
    house.advance(25).await;
    let told = house.wait(&hook, "a dead letter", |told| told["dead"] == 1).await;
    assert_eq!((&told["state"], &told["pending"]), (&json!("active"), &json!(0)), "{told}");
    let dead = house.get(&format!("{hook}/dead")).await["dead"].clone();
    let first = receiver.got()[0].clone();
    let id = first.header("webhook-id");
    assert_eq!((&dead[0]["id"], &dead[0]["events"], &dead[0]["gone"]), (&json!(id), &json!(1), &json!(false)));

    receiver.answer(|_, _| status(200));
    house.deposit("goes-on", 1).await;
    receiver.wait("the next", |got| got.last().is_some_and(|got| got.header("webhook-id") != id)).await;

    let redeliver = format!("{hook}/redeliver");
    let problem = house.post(&redeliver, "-", json!({"ids": [id, "msg_x"]}), 422).await;
    assert_eq!(problem["errors"][0]["field"], "ids[1]", "{problem}");
    let before = receiver.got().len();
    receiver.answer(move |_, at| if at == before { status(500) } else { status(200) });
    house.post(&redeliver, "-", json!({"ids": [id]}), 200).await;
    let letters = format!("{hook}/dead");
    let dead = house.wait(&letters, "another failure", |told| told["dead"][0]["redelivering"] == false).await;
    assert!(dead["dead"][0]["detail"].as_str().unwrap().starts_with("500"));
    house.post(&redeliver, "-", json!({"ids": [id]}), 200).await;
    house.wait(&hook, "nothing dead", |told| told["dead"] == 0).await;
    let again = receiver.got().last().unwrap().clone();
    assert_eq!((again.header("webhook-id"), &again.body), (id, &first.body));
    house.post(&redeliver, "-", json!({"ids": [id]}), 422).await;
    let metrics = house.metrics();
    assert!(metrics.contains("hongbao_webhook_dead_total 1\n"), "{metrics}");
    house.close().await;
}

/// Ended between the two notes of a burial: the dead letter stands, and the endpoint has not gone on.
#[tokio::test(flavor = "multi_thread")]
async fn a_burial_that_was_interrupted_is_ended_by_whoever_goes_on() {
    let (data, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let house = House::open(data.path(), options(&[&receiver])).await;
    receiver.answer(|_, _| status(500));
    let (hook, _) = house.hook(&receiver, "w1", json!({})).await;
    house.deposit("dies", 1).await;
    house.wait(&hook, "a failure", |told| told["state"] == "failing").await;
    // What stands in the way of the second note.
    let part = data.path().join("webhooks").join(format!("{}.part", hook.rsplit('/').next().unwrap()));
    while std::fs::create_dir(&part).is_err() {
        tokio::task::yield_now().await;
    }
    house.advance(25).await;
    let letters = format!("{hook}/dead");
    house.wait(&letters, "a dead letter", |told| told["dead"].as_array().is_some_and(|dead| dead.len() == 1)).await;
    assert_eq!(house.get(&hook).await["pending"], 1);
    house.close().await;
    std::fs::remove_dir(&part).unwrap();

    receiver.answer(|_, _| status(200));
    let before = receiver.got().len();
    let house = House::open(data.path(), options(&[&receiver])).await;
    house.deposit("goes-on", 1).await;
    let got = receiver.wait("the next", |got| got.len() > before).await;
    assert_eq!(got[before].events(), house.told().await[1..], "what is dead is sent when that is asked for");
    let told = house.wait(&hook, "it to be noted", |told| told["pending"] == 0).await;
    assert_eq!(told["dead"], 1, "{told}");
    let id = house.get(&letters).await["dead"][0]["id"].clone();
    house.post(&format!("{hook}/redeliver"), "-", json!({"ids": [id]}), 200).await;
    house.wait(&hook, "nothing dead", |told| told["dead"] == 0).await;
    assert_eq!(receiver.got()[before + 1].events(), house.told().await[..1]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_since_a_cursor_can_be_sent_again() {
    let (data, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let house = House::open(data.path(), options(&[&receiver])).await;
    let (hook, _) = house.hook(&receiver, "w1", json!({})).await;
    house.deposit("d", 3).await;
    receiver.wait("three", |got| got.iter().flat_map(Got::events).count() == 3).await;
    house.wait(&hook, "all to be noted", |told| told["pending"] == 0).await;
    let before = receiver.got();
    house.post(&format!("{hook}/redeliver"), "-", json!({"from": "oldest"}), 200).await;
    let got = receiver.wait("three again", |got| got.iter().flat_map(Got::events).count() == 6).await;
    let again: Vec<_> = got[before.len()..].iter().flat_map(Got::events).collect();
    assert_eq!(again, house.told().await);
    let ids: BTreeSet<_> = before.iter().map(|got| got.header("webhook-id").to_owned()).collect();
    assert!(got[before.len()..].iter().all(|got| !ids.contains(got.header("webhook-id"))), "who knows ids takes them");
    for (body, field) in [
        (json!({}), "ids"),
        (json!({"ids": [], "from": "oldest"}), "ids"),
        (json!({"ids": []}), "ids"),
        (json!({"from": "x"}), "from"),
        (json!({"from": "00"}), "from"),
    ] {
        let problem = house.post(&format!("{hook}/redeliver"), "-", body.clone(), 422).await;
        assert_eq!(problem["errors"][0]["field"], field, "{body}: {problem}");
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_receiver_does_not_hold_up_another() {
    let (slow, endless, dead, good) =
        (Receiver::start().await, Receiver::start().await, Receiver::start().await, Receiver::start().await);
    slow.answer(|_, _| SILENCE.to_owned());
    endless.answer(|_, _| ENDLESS.to_owned());
    dead.answer(|_, _| status(500));
    let data = tempfile::tempdir().unwrap();
    let pace = Pace { timeout: Duration::from_secs(3600), ..FAST };
    let options = WebhookOptions { pace, ..options(&[&slow, &endless, &dead, &good]) };
    let house = House::open(data.path(), options).await;
    for (nth, receiver) in [&slow, &endless, &dead, &good].into_iter().enumerate() {
        house.hook(receiver, &format!("w{nth}"), json!({})).await;
    }
    for nth in 0..3 {
        house.deposit(&format!("d{nth}"), 5).await;
        let count = 5 * (nth + 1);
        good.wait("all there is", |got| got.iter().flat_map(Got::events).count() == count).await;
    }
    // It said 200 before it began to say more than anybody reads.
    endless.wait("all there is", |got| got.iter().flat_map(Got::events).count() == 15).await;
    assert_eq!(slow.got().len(), 1);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_it_was() {
    let (data, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let house = House::open(data.path(), options(&[&receiver])).await;
    receiver.answer(|_, _| status(500));
    let (hook, secret) = house.hook(&receiver, "w1", json!({})).await;
    house.deposit("d", 2).await;
    let first = receiver.wait("a failure", |got| !got.is_empty()).await[0].clone();
    house.close().await;

    receiver.answer(|_, _| status(200));
    let before = receiver.got().len();
    let house = House::open(data.path(), options(&[&receiver])).await;
    house.deposit("more", 2).await;
    receiver.wait("all", |got| got.iter().flat_map(Got::events).collect::<BTreeSet<_>>().len() == 4).await;
    let got = receiver.got()[before..].to_vec();
    assert_eq!((got[0].header("webhook-id"), &got[0].body), (first.header("webhook-id"), &first.body));
    assert_eq!(got.iter().flat_map(Got::events).collect::<Vec<_>>(), house.told().await);
    assert_eq!(got[0].signed_by(&secret), [true]);
    house.wait(&hook, "all to be noted", |told: &Value| told["pending"] == 0).await;
    house.close().await;

    // Without the option nothing is sent, and nothing is lost.
    let house = House::open(data.path(), WebhookOptions::default()).await;
    house.deposit("unsent", 1).await;
    house.close().await;
    let house = House::open(data.path(), options(&[&receiver])).await;
    receiver.wait("the fifth", |got| got.iter().flat_map(Got::events).collect::<BTreeSet<_>>().len() == 5).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_kept_any_more_is_told_as_gone() {
    let (data, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let keeping = async |bytes| House::keeping(data.path(), options(&[&receiver]), bytes).await;
    let house = keeping(0).await;
    receiver.answer(|_, _| status(500));
    let (hook, _) = house.hook(&receiver, "w1", json!({})).await;
    house.deposit("d", 2).await;
    let id = receiver.wait("a failure", |got| !got.is_empty()).await[0].header("webhook-id").to_owned();
    house.close().await;
    // Until its events are gone, however long that takes.
    let first = id.clone();
    receiver.answer(move |got, _| status(if got.header("webhook-id") == first { 500 } else { 200 }));
    let house = keeping(0).await;
    house.deposit("more", 1).await;
    let others =
        |got: &[Got]| -> Vec<Got> { got.iter().filter(|got| got.header("webhook-id") != id).cloned().collect() };
    let got = others(&receiver.wait("the third", |got| !others(got).is_empty()).await);
    assert_eq!(got.iter().flat_map(Got::events).collect::<Vec<_>>(), house.told().await);
    let dead = house.get(&format!("{hook}/dead")).await["dead"].clone();
    assert_eq!((&dead[0]["id"], &dead[0]["gone"]), (&json!(id), &json!(true)), "{dead}");
    let problem = house.post(&format!("{hook}/redeliver"), "-", json!({"ids": [id]}), 422).await;
    assert!(problem["errors"][0]["message"].as_str().unwrap().contains("not kept any more"), "{problem}");
    let told = house.wait(&hook, "all to be noted", |told| told["pending"] == 0).await;
    assert!(told["last_error"]["detail"].as_str().unwrap().contains("not kept any more"), "{told}");
    house.close().await;
}

/// What was passed by since nobody wanted it is wanted now.
#[tokio::test(flavor = "multi_thread")]
async fn with_other_types_everything_since_the_cursor_is_looked_at_anew() {
    let (data, receiver, other) = (tempfile::tempdir().unwrap(), Receiver::start().await, Receiver::start().await);
    let house = House::open(data.path(), options(&[&receiver, &other])).await;
    let (hook, _) = house.hook(&receiver, "w1", json!({"types": ["order.created"]})).await;
    house.hook(&other, "w2", json!({})).await;
    let cursor = house.get(&hook).await["cursor"].clone();
    for round in 1..=3 {
        // Both have passed them by then, one after the other.
        house.deposit(&format!("d{round}"), 1).await;
        other.wait("the deposit", |got| got.iter().flat_map(Got::events).count() == round).await;
    }
    assert_eq!(house.get(&hook).await["cursor"], cursor);
    assert_eq!(house.ask("PATCH", &hook, "-", json!({"types": null})).await.0, 200);
    house.post(&format!("{hook}/redeliver"), "-", json!({"from": cursor}), 200).await;
    receiver.wait("all three", |got| got.iter().flat_map(Got::events).collect::<BTreeSet<_>>().len() == 3).await;
    house.close().await;
}
