//! What becomes of a gift is delivered without its address.

use crate::house::{House, options};
use crate::receiver::{Got, Receiver};
use crate::redis_stand::{RedisServer, ServerOptions, is_missing};
use hongbao_engine::address::{AddressKey, AddressOptions};
use hongbao_engine::backend::Backend;
use hongbao_engine::journal::JournalOptions;
use hongbao_engine::memory::{Embedded, EmbeddedOptions};
use hongbao_engine::redis::{Durability, RedisBackend, RedisBackendOptions, RedisOptions};
use serde_json::{Value, json};
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn a_gifts_events_have_no_address() {
    let (data, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let engine = EmbeddedOptions {
        test_mode: true,
        journal: JournalOptions { kept_bytes_max: 1 << 30, ..JournalOptions::default() },
        addresses: Some(AddressOptions::new(AddressKey::from_bytes([1; 32]))),
        ..EmbeddedOptions::default()
    };
    let (engine, _) = Embedded::open(data.path(), engine).unwrap();
    let house = House::over(Arc::new(engine), options(&[&receiver])).await;
    tells_no_address(&house, &receiver).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gifts_events_have_no_address_in_front_of_redis() {
    if is_missing() {
        return;
    }
    let (redis, receiver) = (RedisServer::start(ServerOptions::without_aof()), Receiver::start().await);
    let engine = RedisBackendOptions {
        redis: RedisOptions {
            urls: vec![redis.url()],
            buckets: 16,
            durability: Durability::Relaxed,
            ..RedisOptions::default()
        },
        test_mode: true,
        addresses: Some(AddressOptions::new(AddressKey::from_bytes([1; 32]))),
        ..RedisBackendOptions::default()
    };
    let engine = RedisBackend::open(engine).await.unwrap();
    let house = House::over(Arc::new(engine), options(&[&receiver])).await;
    tells_no_address(&house, &receiver).await;
    house.end().await.close();
}

async fn tells_no_address<B: Backend>(house: &House<B>, receiver: &Receiver) {
    house.hook(receiver, "w1", json!({"types": ["gift.*"], "after": "oldest"})).await;
    house.deposit("d", 2).await;
    house.post("/v1/merchants", "m", json!({"id": "rosy", "name": "Rosy", "status": "verified"}), 201).await;
    let roses = json!({"merchant": "rosy", "name": "roses", "category": "flowers", "price": 10, "stock": 1});
    let item = house.post("/v1/items", "i", roses, 201).await;
    let gift = json!({"giver": "alice", "recipient": "bob", "item": item["id"]});
    let gift = house.post("/v1/gifts", "g", gift, 201).await;
    let path = format!("/v1/gifts/{}", gift["id"].as_str().unwrap());
    for (nth, street) in ["canary street", "canary lane"].into_iter().enumerate() {
        let address = json!({"name": "canary", "phone": "canary", "lines": [street], "city": "canary"});
        let body = json!({"user": "bob", "address": address});
        house.post(&format!("{path}/accept"), &format!("a{nth}"), body, 200).await;
    }
    house
        .post(&format!("{path}/ship"), "s", json!({"carrier": "sf", "tracking": "1", "address_version": 2}), 200)
        .await;
    house.post(&format!("{path}/address/erase"), "-", Value::Null, 200).await;
    house.post(&format!("{path}/deliver"), "-", Value::Null, 200).await;
    let types = |got: &[Got]| {
        let events = got.iter().flat_map(|got| got.json()["events"].as_array().cloned().unwrap());
        events.map(|event| event["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = ["gift.offered", "gift.accepted", "gift.shipped", "gift.delivered"];
    let got = receiver.wait("four events", |got| types(got) == all).await;
    assert!(got.iter().all(|got| !got.json().to_string().contains("canary")));
}
