//! A disk that is full when it has to be noted what a receiver has said, and then has room again.

use crate::house::{FAST, House, options};
use crate::receiver::{Got, HELD_UP, PATIENCE, Receiver, status};
use crate::small_disk::{fill, make_room, on_a_small_disk};
use hongbao_engine::journal::JournalOptions;
use hongbao_engine::memory::Embedded;
use hongbao_server::webhooks::{Pace, WebhookOptions};
use serde_json::{Value, json};
use std::path::Path;

/// Waits until somebody tried to write a note and found no room for it.
async fn tried_in_vain(data: &Path, shelf: &str, hook: &str) {
    let part = data.join(shelf).join(format!("{}.part", hook.rsplit('/').next().unwrap()));
    let until = tokio::time::Instant::now() + PATIENCE;
    while !part.exists() {
        assert!(tokio::time::Instant::now() < until, "nobody writes {}", part.display());
        tokio::task::yield_now().await;
    }
}

async fn open(data: &Path, receiver: &Receiver) -> House<Embedded> {
    let patient = WebhookOptions { pace: Pace { timeout: PATIENCE, ..FAST }, ..options(&[receiver]) };
    let small = JournalOptions {
        segment_bytes: 4 << 20,
        spare_segments: 1,
        ballast_bytes: 0,
        threads_max: 12,
        kept_bytes_max: 16 << 20,
        ..JournalOptions::default()
    };
    House::with(data, patient, small).await
}

fn ids_of(got: &[Got]) -> Vec<&str> {
    got.iter().map(|got| got.header("webhook-id")).collect()
}

#[test]
fn what_was_taken_while_the_disk_was_full_is_noted_and_not_sent_again() {
    let test = "full_disk::what_was_taken_while_the_disk_was_full_is_noted_and_not_sent_again";
    on_a_small_disk(test, 60, |disk| tokio::runtime::Runtime::new().unwrap().block_on(story(disk)));
}

async fn story(disk: &Path) {
    let (data, receiver) = (disk.join("data"), Receiver::start().await);
    let house = open(&data, &receiver).await;
    let (hook, _) = house.hook(&receiver, "w1", json!({})).await;

    receiver.answer(|_, _| HELD_UP.to_owned());
    house.deposit("a", 1).await;
    receiver.wait("a request", |got| got.len() == 1).await;
    house.deposit("b", 2).await;
    fill(disk, 0);
    receiver.go_on();
    tried_in_vain(&data, "webhooks", &hook).await;
    let refused = house.post("/v1/webhooks", "w2", json!({"url": receiver.url()}), 507).await;
    assert_eq!(refused["code"], "storage_full");
    make_room(disk);
    house.wait(&hook, "all to be noted", |told| told["pending"] == 0 && told["lag_s"] == 0).await;
    let got = receiver.wait("the rest", |got| got.iter().flat_map(Got::events).count() == 3).await;
    let mut ids = ids_of(&got);
    ids.dedup();
    assert_eq!(ids.len(), got.len(), "what it has taken comes once: {got:?}");
    assert_eq!(receiver.events(), house.told().await);

    // The same of a batch that is given up.
    let before = got.len();
    receiver.hold_up();
    receiver.answer(|_, _| format!("{HELD_UP}{}", status(503)));
    house.deposit("c", 1).await;
    receiver.wait("a request", |got| got.len() == before + 1).await;
    house.advance(25).await;
    fill(disk, 0);
    receiver.go_on();
    tried_in_vain(&data, "dead_letters", &hook).await;
    make_room(disk);
    let told = house.wait(&hook, "it to be given up", |told| told["dead"] == 1).await;
    assert_eq!((&told["pending"], receiver.got().len()), (&json!(0), before + 1), "{told}");
    assert!(house.metrics().contains("hongbao_webhook_dead_total 1\n"), "{}", house.metrics());
    let dead = house.get(&format!("{hook}/dead")).await;
    assert_eq!(dead["dead"].as_array().map(Vec::len), Some(1), "{dead}");

    // Nothing of it is forgotten by a restart, and it is redelivered once.
    house.close().await;
    let house = open(&data, &receiver).await;
    receiver.hold_up();
    receiver.answer(|_, _| HELD_UP.to_owned());
    let redeliver = json!({"ids": [dead["dead"][0]["id"]]});
    fill(disk, 0);
    house.post(&format!("{hook}/redeliver"), "-", redeliver.clone(), 507).await;
    make_room(disk);
    house.post(&format!("{hook}/redeliver"), "-", redeliver, 200).await;
    receiver.wait("it once more", |got| got.len() == before + 2).await;
    fill(disk, 0);
    receiver.go_on();
    tried_in_vain(&data, "dead_letters", &hook).await;
    make_room(disk);
    house.wait(&hook, "it to be delivered", |told| told["dead"] == 0).await;
    assert_eq!(receiver.got().len(), before + 2);
    assert_eq!(receiver.events()[4..], house.told().await[3..]);
    assert_eq!(house.get(&format!("{hook}/dead")).await["dead"], Value::from(Vec::<Value>::new()));
    house.close().await;
}
