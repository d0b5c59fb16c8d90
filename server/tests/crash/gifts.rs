//! Gifts over SIGKILL: every answer about one asked again, and where every unit and fen is.
//! `SEED` chooses who does what.

use crate::backup::succeeds;
use crate::book::{number, text};
use crate::client::{Answer, Ask, Client};
use crate::export::moment_after;
use crate::inquiry::list;
use crate::load::{Dice, FORTUNE, USERS, opening, user};
use crate::process::{Running, audit, hongbao, serve, told};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const CYCLES: usize = 20;
const PLAYERS: usize = 3;
/// Answers of a cycle before the kill, at most.
const ANSWERS_MAX: u64 = 90;
/// All that the story advances the clock, and far more.
const KEPT: [&str; 2] = ["--events-kept-s", "31536000"];
/// Longer than any gift waits.
const ALL_OVER_S: u64 = 30 * 86_400;

/// A gift as it was last told; the token, if it has one, is told once.
#[derive(Clone)]
struct Known {
    gift: Value,
    token: Option<String>,
}

/// How far a gift has come: no answer later says less.
fn rank(state: &str) -> usize {
    match state {
        "awaiting_payment" => 0,
        "offered" => 1,
        "accepted" => 2,
        "shipped" => 3,
        _ => 4,
    }
}

/// What was asked and answered, over all cycles.
#[derive(Default)]
struct Told {
    promises: Vec<(Ask, Answer)>,
    gifts: HashMap<String, Known>,
    /// Order: who bought.
    orders: HashMap<String, String>,
}

impl Told {
    fn learn(&mut self, ask: &Ask, answer: &Answer) {
        match answer.status {
            200 | 201 => {}
            // Too late, another was first, or nothing is left.
            403 | 409 | 503 => return,
            _ => panic!("{ask:?}: {answer:?}"),
        }
        let json = answer.json();
        match ask.segments().as_slice() {
            ["gifts", ..] => self.saw(&json),
            ["holds", _, "claim"] if json["outcome"] == "claimed" => {
                self.orders.insert(text(&json, "order"), text(&ask.json(), "user"));
            }
            _ => {}
        }
        // A "no" is told anew.
        if ask.key.is_some() && (json["outcome"].is_null() || json["outcome"] == "held") {
            self.promises.push((ask.clone(), answer.clone()));
        }
    }

    /// A gift goes on from what was told of it before.
    fn saw(&mut self, gift: &Value) {
        let id = text(gift, "id");
        let token = gift["token"].as_str().map(str::to_owned);
        let Some(known) = self.gifts.get_mut(&id) else {
            self.gifts.insert(id, Known { gift: gift.clone(), token });
            return;
        };
        // Answers of different players come here in any order.
        let (older, newer) = match rank(&text(&known.gift, "state")) <= rank(&text(gift, "state")) {
            true => (known.gift.clone(), gift.clone()),
            false => (gift.clone(), known.gift.clone()),
        };
        goes_on(&older, &newer);
        known.gift = newer;
    }
}

/// Checks that a gift may have become another: no time that was told is another one later.
fn goes_on(older: &Value, newer: &Value) {
    for field in ["giver", "payer", "item", "merchant", "amount", "message", "created_at", "pay_by"] {
        assert_eq!(older[field], newer[field], "{field}: {older} {newer}");
    }
    let later = ["recipient", "paid_at", "accept_by", "accepted_at", "ship_by", "shipped_at", "tracking", "ended_at"];
    for field in later.into_iter().filter(|field| !older[field].is_null()) {
        assert_eq!(older[field], newer[field], "{field}: {older} {newer}");
    }
    let (from, to) = (text(older, "state"), text(newer, "state"));
    let is_path = match &*from {
        "awaiting_payment" => to != "declined",
        "offered" => to != "awaiting_payment",
        "accepted" => ["accepted", "shipped", "delivered", "failed"].contains(&&*to),
        "shipped" => ["shipped", "delivered"].contains(&&*to),
        ended => ended == to,
    };
    // Paid in between, it may have been declined.
    assert!(is_path || from == "awaiting_payment" && !newer["paid_at"].is_null(), "{older} {newer}");
}

/// What is under way, for all players.
#[derive(Default)]
struct Table {
    items: Vec<String>,
    gifts: Vec<Known>,
    holds: Vec<(String, String)>,
}

impl Table {
    fn note(&mut self, ask: &Ask, answer: &Answer) {
        if answer.status > 201 {
            return;
        }
        let json = answer.json();
        match ask.segments().as_slice() {
            ["gifts"] => {
                let token = json["token"].as_str().map(str::to_owned);
                self.gifts.push(Known { gift: json, token });
            }
            ["gifts", ..] => {
                let known = self.gifts.iter_mut().find(|known| known.gift["id"] == json["id"]);
                known.into_iter().for_each(|known| known.gift = json.clone());
            }
            ["items", ..] if json["outcome"] == "held" => {
                self.holds.push((text(&json, "hold"), text(&ask.json(), "user")));
            }
            _ => {}
        }
        let most = 12;
        self.gifts.drain(..self.gifts.len().saturating_sub(most));
        self.holds.drain(..self.holds.len().saturating_sub(most));
    }

    /// What somebody does next: mostly the next step of a gift's life, at times another.
    fn next(&self, dice: &mut Dice, key: String) -> Ask {
        let somebody = user(dice.below(USERS));
        let item = dice.of(&self.items).clone();
        let roll = dice.below(20);
        if roll >= 18 && !self.holds.is_empty() {
            let (hold, of) = dice.of(&self.holds);
            let what = if dice.below(2) == 0 { "claim" } else { "release" };
            return Ask::post(format!("/v1/holds/{hold}/{what}"), &json!({ "user": of }));
        }
        if roll == 15 && dice.below(4) == 0 {
            return Ask::post(format!("/v1/items/{item}/restock"), &json!({ "quantity": 3 })).with_key(key);
        }
        if roll >= 16 {
            let grab = json!({ "user": somebody, "quantity": 1 });
            return Ask::post(format!("/v1/items/{item}/grab"), &grab).with_key(key);
        }
        if roll < 5 || self.gifts.is_empty() {
            let mut gift = json!({ "giver": somebody, "item": item, "message": "for you", "reference": key });
            if dice.below(3) > 0 {
                gift["recipient"] = json!(user(dice.below(USERS)));
            }
            if dice.below(2) == 0 {
                gift["payer"] = json!(user(dice.below(USERS)));
            }
            // Some are over before anybody has looked at them.
            if dice.below(4) == 0 {
                (gift["accept_within_s"], gift["pay_within_s"], gift["ship_within_s"]) = (json!(1), json!(1), json!(1));
            }
            return Ask::post("/v1/gifts", &gift).with_key(key);
        }
        let Known { gift, token } = dice.of(&self.gifts).clone();
        let by = |who: &str| gift[who].as_str().map_or_else(|| somebody.clone(), str::to_owned);
        let is_rare = dice.below(6) == 0;
        let (step, body) = match gift["state"].as_str().unwrap_or_default() {
            "awaiting_payment" if !is_rare => ("pay", json!({ "payer": by("payer") })),
            "awaiting_payment" => ("cancel", json!({ "user": by("giver") })),
            "offered" if !is_rare => {
                let mut accept = json!({ "user": by("recipient") });
                token.iter().for_each(|token| accept["token"] = json!(token));
                ("accept", accept)
            }
            "offered" if dice.below(2) == 0 => ("decline", json!({ "user": by("recipient"), "reason": "no" })),
            "offered" => ("cancel", json!({ "user": by("giver") })),
            "accepted" if !is_rare => ("ship", json!({ "carrier": "sf", "tracking": key })),
            "accepted" => ("fail", json!({ "reason": "no more of them" })),
            "shipped" if !is_rare => ("deliver", json!({})),
            _ => ("thank", json!({ "user": by("recipient"), "note": key })),
        };
        Ask::post(format!("/v1/gifts/{}/{step}", text(&gift, "id")), &body).with_key(key)
    }
}

/// Lets everybody play until so many answers were given, and kills the server then.
fn play(
    server: Running,
    address: SocketAddr,
    table: &Mutex<Table>,
    dice: &mut Dice,
    cycle: usize,
) -> Vec<(Ask, Option<Answer>)> {
    let (answered, enough) = (AtomicU64::new(0), 1 + dice.below(ANSWERS_MAX));
    let player = |n: usize, mut dice: Dice| {
        let (mut client, mut asked) = (Client::new(address), Vec::new());
        for nth in 0.. {
            let ask = table.lock().unwrap().next(&mut dice, format!("c{cycle}-{n}-{nth}"));
            let answer = client.send(&ask).ok();
            answer.iter().for_each(|answer| table.lock().unwrap().note(&ask, answer));
            let is_answered = answer.is_some();
            asked.push((ask, answer));
            if !is_answered {
                break;
            }
            answered.fetch_add(1, Ordering::Relaxed);
        }
        asked
    };
    std::thread::scope(|scope| {
        let player = &player;
        let players: Vec<_> = (0..PLAYERS)
            .map(|n| {
                let dice = Dice(dice.roll());
                scope.spawn(move || player(n, dice))
            })
            .collect();
        while answered.load(Ordering::Relaxed) < enough {
            assert!(players.iter().any(|player| !player.is_finished()), "it ended by itself:\n{}", server.log());
            std::thread::yield_now();
        }
        server.kill();
        players.into_iter().flat_map(|player| player.join().unwrap()).collect()
    })
}

/// Asks again what was answered under a key, from the `from`th on: it was done, and is told the same.
fn ask_again(client: &mut Client, told: &Told, from: usize) {
    for (ask, answer) in &told.promises[from..] {
        let again = client.ask(ask);
        assert_eq!((again.status, &again.body), (answer.status, &answer.body), "{ask:?}");
        assert!(again.replayed, "{ask:?}: {again:?}");
    }
}

#[test]
fn kill_9_in_the_middle_of_gift_lives_twenty_cycles() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_270_214);
    eprintln!("SEED={seed}");
    let mut dice = Dice(seed);
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (mut server, mut address) = Running::ready(&mut serve(&data, &KEPT));
    let mut client = Client::new(address);
    let table = Mutex::new(Table::default());
    for ask in opening() {
        let made = client.json(&ask);
        if ask.path == "/v1/items" {
            table.lock().unwrap().items.push(text(&made, "id"));
        }
    }
    let (mut told_so_far, mut moment) = (Told::default(), None);
    for cycle in 1..=CYCLES {
        let from = told_so_far.promises.len();
        let asked = play(server, address, &table, &mut dice, cycle);
        (server, address) = Running::ready(&mut serve(&data, &KEPT));
        let mut client = Client::new(address);
        let mut unanswered = Vec::new();
        for (ask, answer) in asked {
            match answer {
                Some(answer) => told_so_far.learn(&ask, &answer),
                None => unanswered.push(ask),
            }
        }
        ask_again(&mut client, &told_so_far, from);
        for ask in unanswered {
            let answer = client.ask(&ask);
            table.lock().unwrap().note(&ask, &answer);
            told_so_far.learn(&ask, &answer);
        }
        for id in told_so_far.gifts.keys().cloned().collect::<Vec<_>>() {
            let gift = client.json(&Ask::get(format!("/v1/gifts/{id}")));
            goes_on(&told_so_far.gifts[&id].gift, &gift);
            told_so_far.saw(&gift);
        }
        assert_eq!(client.json(&Ask::get("/v1/audit"))["balanced"], true);
        if cycle == CYCLES / 2 {
            moment = Some(moment_after(address));
        }
    }

    let mut client = Client::new(address);
    ask_again(&mut client, &told_so_far, 0);
    client.json(&Ask::post("/v1/test/clock", &json!({ "advance_s": ALL_OVER_S })).with_key("all over"));
    let items = table.lock().unwrap().items.clone();
    let gifts = all_ended(&mut client, &items);
    for id in told_so_far.gifts.keys() {
        assert!(gifts.contains_key(id), "{id} was told of");
    }
    gifts.values().for_each(|gift| told_so_far.saw(gift));
    everything_is_somewhere(&mut client, &gifts, &items, &told_so_far);
    every_change_is_told_once(&mut client, &gifts);

    // The second half's books add up: what there was, what moved, what there is.
    let (moment, end) = (moment.unwrap(), moment_after(address));
    assert!(server.stop().0.success());
    let mut export = hongbao();
    export.args(["export", "ledger", "--from", &moment, "--to", &end, "--time-zone", "Asia/Shanghai", "--data"]);
    succeeds(export.arg(&data).arg("--out").arg(directory.path().join("ledger.csv")));
    let output = audit(&data);
    let said = told(&output);
    assert!(output.status.success() && said.contains(&format!(", {} gifts,", gifts.len())), "{said}");
}

/// Everybody's gifts, once nothing becomes of any and of any hold by itself.
fn all_ended(client: &mut Client, items: &[String]) -> HashMap<String, Value> {
    loop {
        let mut gifts = HashMap::new();
        for n in 0..USERS {
            let given = list_of(client, n, "given");
            gifts.extend(given.into_iter().map(|gift| (text(&gift, "id"), gift)));
        }
        let holds =
            items.iter().map(|item| number(&client.json(&Ask::get(format!("/v1/items/{item}")))["stock"], "held"));
        if holds.sum::<u64>() == 0 && gifts.values().all(|gift| rank(&text(gift, "state")) >= 3) {
            return gifts;
        }
    }
}

fn list_of(client: &mut Client, n: u64, role: &str) -> Vec<Value> {
    list(client, &format!("/v1/users/{}/gifts?role={role}", user(n)), "gifts")
}

/// Units and money against gifts and orders.
fn everything_is_somewhere(client: &mut Client, gifts: &HashMap<String, Value>, items: &[String], told: &Told) {
    let is_sold = |gift: &&Value| rank(&text(gift, "state")) == 3 || gift["state"] == "delivered";
    let mut bought: HashMap<String, u64> = HashMap::new();
    let mut sales = 0;
    for gift in gifts.values().filter(is_sold) {
        *bought.entry(text(gift, "payer")).or_default() += number(gift, "amount");
        sales += number(gift, "amount");
    }
    let mut sold: HashMap<String, u64> = HashMap::new();
    for gift in gifts.values().filter(is_sold) {
        *sold.entry(text(gift, "item")).or_default() += 1;
    }
    for (id, user) in &told.orders {
        let order = client.json(&Ask::get(format!("/v1/orders/{id}")));
        *bought.entry(user.clone()).or_default() += number(&order, "amount");
        *sold.entry(text(&order, "item")).or_default() += number(&order, "quantity");
        sales += number(&order, "amount");
    }
    for n in 0..USERS {
        let wallet = client.json(&Ask::get(format!("/v1/wallets/{}", user(n))));
        let paid = bought.get(&user(n)).copied().unwrap_or_default();
        assert_eq!(number(&wallet, "available"), FORTUNE - paid, "{wallet}");
        let received = list_of(client, n, "received");
        let is_theirs = |gift: &&Value| gift["recipient"] == user(n);
        assert_eq!(received.len(), gifts.values().filter(is_theirs).count());
    }
    for item in items {
        let stock = client.json(&Ask::get(format!("/v1/items/{item}")))["stock"].clone();
        let sold = sold.get(item).copied().unwrap_or_default();
        assert_eq!((number(&stock, "held"), number(&stock, "sold")), (0, sold), "{stock}");
        assert_eq!(number(&stock, "free"), number(&stock, "total") - sold, "{stock}");
    }
    let money = client.json(&Ask::get("/v1/audit"));
    assert_eq!((number(&money, "escrowed"), number(&money, "merchants")), (0, sales), "{money}");
    assert_eq!(money["balanced"], true, "{money}");
}

/// The events of each gift are its life, and no step of it is told twice.
fn every_change_is_told_once(client: &mut Client, gifts: &HashMap<String, Value>) {
    let mut lives: HashMap<String, Vec<Value>> = HashMap::new();
    let mut after = "oldest".to_owned();
    loop {
        let page = client.json(&Ask::get(format!("/v1/events?after={after}&limit=1000&wait_s=0")));
        let events = page["events"].as_array().unwrap();
        if events.is_empty() {
            break;
        }
        for event in events.iter().filter(|event| text(event, "type").starts_with("gift.")) {
            let gift = event["data"].clone();
            lives.entry(text(&gift, "id")).or_default().push(gift);
        }
        after = text(&page, "next_cursor");
    }
    assert_eq!(lives.len(), gifts.len());
    for (id, life) in lives {
        for pair in life.windows(2) {
            goes_on(&pair[0], &pair[1]);
            // A note of thanks is told with the state that the gift has already.
            assert!(pair[0]["state"] != pair[1]["state"] || pair[0]["note"] != pair[1]["note"], "{id}: {life:?}");
        }
        assert!(life.iter().all(|gift| gift["token"].is_null()), "{life:?}");
        assert!(life.last() == Some(&gifts[&id]), "{life:?} {}", gifts[&id]);
    }
}
