//! Webhooks while what keeps them fails over: all that is told arrives, in order.

use crate::client::Ask;
use crate::fire::pause_primary;
use crate::follower::{Followed, TYPES};
use crate::game::{Game, by_thing};
use crate::house::House;
use crate::races::slot_of_key;
use crate::receiver::{Got, Receiver, status};
use crate::redis_stand::is_missing;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tokio::runtime::Runtime;

/// Each event once, as it came first, of those that are looked for.
fn first_of(got: &[Got], sought: &BTreeSet<String>) -> Vec<Value> {
    let mut left = sought.clone();
    let events = got.iter().flat_map(|got| got.json()["events"].as_array().cloned().unwrap());
    events.filter(|event| left.remove(event["id"].as_str().unwrap())).collect()
}

#[test]
fn all_events_are_delivered_in_order_while_the_notes_of_webhooks_fail_over() {
    if is_missing() {
        return;
    }
    let runtime = Runtime::new().unwrap();
    let receiver = runtime.block_on(Receiver::start());
    receiver.answer(|_, before| if before % 20 == 9 { status(503) } else { status(200) });
    let mut house = House::open_with(1, &["--webhook-allow", &format!("http://{}", receiver.address)]);
    let types: Vec<_> = TYPES.split(',').collect();
    let hook = json!({"url": receiver.url(), "types": types, "after": "oldest"});
    let made = house.client(0).json(&Ask::post("/v1/webhooks", &hook).with_key("w1"));
    let mut game = Game::open(&house);
    let more = |requests: usize| {
        let before = receiver.got().len();
        runtime.block_on(receiver.wait("more requests", |got| got.len() >= before + requests));
    };
    let slot = slot_of_key(&house, "hb:{b0}:webhooks");
    game.cycle(&mut house, "the primary of the webhooks hangs, and a server is killed", |house, pace| {
        more(3);
        house.kill_server(0);
        pause_primary(house, pace, slot);
        house.start_server(0);
        more(3);
    });

    let mut whole = Followed::default();
    whole.poll(house.doors.address(1), false);
    let ids: BTreeSet<_> = whole.events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    let got = runtime.block_on(receiver.wait("all of it", |got| first_of(got, &ids).len() == ids.len()));
    assert_eq!(by_thing(&first_of(&got, &ids)), by_thing(&whole.events), "each thing's events, in order");
    let mut bodies = BTreeMap::new();
    for got in &got {
        let first = bodies.entry(got.header("webhook-id")).or_insert(&got.body);
        assert_eq!(*first, &got.body, "an id stands for one body");
        assert_eq!(got.signed_by(made["secret"].as_str().unwrap()), [true]);
    }
    eprintln!("{} events in {} requests, {} of them again", ids.len(), got.len(), got.len() - bodies.len());
    game.end(house);
}
