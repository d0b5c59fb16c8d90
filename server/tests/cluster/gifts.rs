//! Gifts at both servers while primaries are killed and hang: what was told of each stays
//! true, and every unit and every fen is where the answers say.

use crate::client::{Ask, Client};
use crate::house::{House, SERVERS};
use crate::number_of;
use crate::redis_stand::{is_missing, slots_of};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PLAYERS: u64 = 4;
const PRICE: u64 = 10;
const DEPOSIT: u64 = 1_000_000;

/// A gift and as what it was told last.
struct Life {
    gift: String,
    state: &'static str,
}

/// One who gives, has others pay, accepts and ships, each step at the other server.
struct Player {
    nth: u64,
    item: String,
    clients: [Client; SERVERS],
    asked: u64,
}

impl Player {
    fn ask(&mut self, path: String, body: &Value) -> Value {
        self.asked += 1;
        let ask = Ask::post(path, body).with_key(format!("{}-{}", self.nth, self.asked));
        let told = self.clients[self.asked as usize % SERVERS].json(&ask);
        // The same again, at the other: under a key the very same, and by itself as it stands.
        assert_eq!(self.clients[(self.asked as usize + 1) % SERVERS].json(&ask)["id"], told["id"], "{ask:?}");
        told
    }

    fn live(&mut self, life: u64) -> Life {
        let [giver, payer, recipient] = ["g", "p", "r"].map(|role| format!("{role}{}", self.nth));
        let is_asked = life.is_multiple_of(2);
        let payer = if is_asked { payer } else { giver.clone() };
        let terms = json!({ "giver": giver, "payer": payer, "recipient": recipient, "item": self.item });
        let gift = self.ask("/v1/gifts".to_owned(), &terms)["id"].as_str().expect("an id").to_owned();
        let mut state = if is_asked { "awaiting_payment" } else { "offered" };
        let mut step = |verb: &str, body: Value, becomes: &'static str| {
            let told = self.ask(format!("/v1/gifts/{gift}/{verb}"), &body);
            assert_eq!(told["state"], becomes, "{told}");
            state = becomes;
        };
        if is_asked {
            step("pay", json!({ "payer": payer }), "offered");
        }
        match life % 5 {
            0 => {}
            1 => step("decline", json!({ "user": recipient }), "declined"),
            _ => {
                step("accept", json!({ "user": recipient }), "accepted");
                step("ship", json!({ "carrier": "sf", "tracking": "SF1" }), "shipped");
            }
        }
        Life { gift, state }
    }
}

#[test]
fn gifts_stay_what_they_were_told_while_redis_fails_over() {
    if is_missing() {
        return;
    }
    let mut house = House::open();
    let mut client = house.client(0);
    let merchant = json!({ "id": "rosy", "name": "Rosy", "status": "verified" });
    client.json(&Ask::post("/v1/merchants", &merchant).with_key("m"));
    let terms = json!({ "merchant": "rosy", "name": "roses", "category": "flowers", "price": PRICE, "stock": 1_000_000,
        "per_user_limit": null });
    let item = client.json(&Ask::post("/v1/items", &terms).with_key("i"))["id"].as_str().expect("an id").to_owned();
    for nth in 0..PLAYERS {
        for user in [format!("g{nth}"), format!("p{nth}")] {
            let deposit = Ask::post(format!("/v1/wallets/{user}/deposits"), &json!({ "amount": DEPOSIT }));
            client.json(&deposit.with_key(format!("d-{user}")));
        }
    }
    let (stop, lived) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let players: Vec<_> = (0..PLAYERS)
        .map(|nth| {
            let clients = [0, 1].map(|server| house.client(server));
            let mut player = Player { nth, item: item.clone(), clients, asked: 0 };
            let (stop, lived) = (Arc::clone(&stop), Arc::clone(&lived));
            std::thread::spawn(move || {
                let mut lives = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    lives.push(player.live(lives.len() as u64));
                    lived.fetch_add(1, Ordering::Relaxed);
                }
                lives
            })
        })
        .collect();
    let more = |lives: u64| {
        let (enough, since) = (lived.load(Ordering::Relaxed) + lives, Instant::now());
        while lived.load(Ordering::Relaxed) < enough {
            assert!(since.elapsed() < Duration::from_secs(90), "nobody lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    more(10);
    for _ in 0..number_of("ROUNDS", 1) {
        for nth in 0..3 {
            let slot = slots_of(nth, 3).0;
            // Nothing is confirmed there until the old primary follows.
            if nth == 1 {
                let old = house.cluster.primary_of(slot);
                house.cluster.nodes[old].pause();
                house.cluster.wait_taken_over(slot, old);
                house.cluster.nodes[old].resume();
                house.cluster.wait_follows(old);
            } else {
                let old = house.cluster.kill_primary_of(slot);
                house.cluster.wait_taken_over(slot, old);
                house.cluster.nodes[old].restart();
                house.cluster.wait_follows(old);
            }
            more(5);
        }
    }
    stop.store(true, Ordering::Relaxed);
    let lives: Vec<Life> = players.into_iter().flat_map(|player| player.join().expect("no panic")).collect();
    house.cluster.wait_ok();

    let audit = house.wait_settled(1);
    // The first connection was idle for too long.
    let mut client = house.client(0);
    for Life { gift, state } in &lives {
        assert_eq!(client.json(&Ask::get(format!("/v1/gifts/{gift}")))["state"], *state, "{gift}");
    }
    let count = |state: &str| lives.iter().filter(|life| life.state == state).count() as u64;
    let [offered, shipped, declined] = ["offered", "shipped", "declined"].map(count);
    assert!(offered.min(shipped).min(declined) > 0, "{offered} offered, {shipped} shipped, {declined} declined");
    assert_eq!(
        (&audit["escrowed"], &audit["merchants"]),
        (&json!(PRICE * offered), &json!(PRICE * shipped)),
        "{audit}"
    );
    assert_eq!(audit["wallets"], 2 * PLAYERS * DEPOSIT - PRICE * (offered + shipped), "{audit}");
    let stock = client.json(&Ask::get(format!("/v1/items/{item}")))["stock"].clone();
    assert_eq!((&stock["held"], &stock["sold"]), (&json!(offered), &json!(shipped)), "{stock}");
    eprintln!("{} gifts", lives.len());
    house.close();
}
