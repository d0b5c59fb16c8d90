//! Sale money over SIGKILL, in the middle of settling: every sale and withdrawal that was
//! answered stands in its merchant's statement once, and each statement adds up.
//! `SEED` chooses who does what.

use crate::backup::succeeds;
use crate::book::{number, text};
use crate::client::{Ask, Client};
use crate::export::moment_after;
use crate::inquiry::list;
use crate::load::Dice;
use crate::process::{Running, audit, hongbao, serve, told};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

const CYCLES: usize = 6;
const MERCHANTS: usize = 12;
const PRICE: u64 = 101;
const COMMISSION_BPS: u64 = 333;
/// Answers of a cycle before the kill, at most.
const ANSWERS_MAX: u64 = 60;
const FORTUNE: u64 = 100_000_000;

fn merchant(n: usize) -> String {
    format!("m{n}")
}

/// What was answered: orders and withdrawals' references, by their merchants.
#[derive(Default)]
struct Promised {
    orders: HashMap<String, Vec<String>>,
    withdrawals: HashMap<String, Vec<String>>,
}

impl Promised {
    fn add(&mut self, other: Promised) {
        for (all, new) in [(&mut self.orders, other.orders), (&mut self.withdrawals, other.withdrawals)] {
            new.into_iter().for_each(|(merchant, more)| all.entry(merchant).or_default().extend(more));
        }
    }
}

/// Buys until nobody answers.
fn buy(address: SocketAddr, items: &[String], mut dice: Dice, who: &str, answered: &AtomicU64) -> Promised {
    let (mut client, mut promised) = (Client::new(address), Promised::default());
    for nth in 0.. {
        let n = dice.below(items.len() as u64) as usize;
        let grab = Ask::post(format!("/v1/items/{}/grab", items[n]), &json!({ "user": "bob" }));
        let Ok(held) = client.send(&grab.with_key(format!("{who}-{nth}"))) else { break };
        let Some(hold) = held.json()["hold"].as_str().map(str::to_owned) else { continue };
        let Ok(paid) = client.send(&Ask::post(format!("/v1/holds/{hold}/claim"), &json!({ "user": "bob" }))) else {
            break;
        };
        if let Some(order) = paid.json()["order"].as_str() {
            promised.orders.entry(merchant(n)).or_default().push(order.to_owned());
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
    promised
}

/// Lets minutes pass, so that what was sold is due, and takes some of it out, until nobody answers.
fn pass_time(address: SocketAddr, mut dice: Dice, who: &str) -> Promised {
    let (mut client, mut promised) = (Client::new(address), Promised::default());
    for nth in 0.. {
        let tick = Ask::post("/v1/test/clock", &json!({ "advance_s": 60 })).with_key(format!("{who}-t{nth}"));
        if client.send(&tick).is_err() {
            break;
        }
        let (from, reference) = (merchant(dice.below(MERCHANTS as u64) as usize), format!("{who}-{nth}"));
        let body = json!({ "amount": 1 + dice.below(PRICE), "reference": reference });
        let ask = Ask::post(format!("/v1/merchants/{from}/withdrawals"), &body).with_key(format!("{who}-w{nth}"));
        let Ok(answer) = client.send(&ask) else { break };
        match answer.status {
            201 => promised.withdrawals.entry(from).or_default().push(reference),
            409 | 503 => {}
            _ => panic!("{ask:?}: {answer:?}"),
        }
    }
    promised
}

/// Each statement adds up and has all that was promised, once. Gives what all merchants have
/// and what was taken out.
fn check_statements(client: &mut Client, promised: &Promised) -> (u64, u64, u64) {
    let (mut owed, mut withdrawn, mut commissions) = (0, 0, 0);
    for id in (0..MERCHANTS).map(merchant) {
        // Money moves on in between only where something falls due: then the last page tells more.
        let entries = list(client, &format!("/v1/merchants/{id}/statement"), "entries");
        let (mut pending, mut available) = (0, 0);
        let (mut orders, mut references) = (Vec::new(), Vec::new());
        for entry in &entries {
            let amount = number(entry, "amount");
            match &*text(entry, "kind") {
                "sale" => {
                    assert_eq!((amount, number(entry, "commission")), (PRICE, PRICE * COMMISSION_BPS / 10_000));
                    orders.push(text(entry, "order"));
                    pending += amount;
                }
                "commission" => (pending, commissions) = (pending - amount, commissions + amount),
                "settled" => (pending, available) = (pending - amount, available + amount),
                "withdrawal" => {
                    references.push(text(entry, "reference"));
                    (available, withdrawn) = (available - amount, withdrawn + amount);
                }
                other => panic!("{other}: {entry}"),
            }
            assert_eq!(entry["balance_after"], json!({ "pending": pending, "available": available }), "{id}: {entry}");
        }
        for (told, promised) in [(orders, &promised.orders), (references, &promised.withdrawals)] {
            for one in promised.get(&id).into_iter().flatten() {
                assert_eq!(told.iter().filter(|it| *it == one).count(), 1, "{id}: {one} once in {told:?}");
            }
        }
        owed += pending + available;
    }
    (owed, withdrawn, commissions)
}

fn is_pending(client: &mut Client) -> bool {
    let mut pending = |id: String| number(&client.json(&Ask::get(format!("/v1/merchants/{id}/balance"))), "pending");
    (0..MERCHANTS).map(merchant).any(|id| pending(id) > 0)
}

#[test]
fn kill_9_in_the_middle_of_settling() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_270_215);
    eprintln!("SEED={seed}");
    let mut dice = Dice(seed);
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (mut server, mut address) = Running::ready(&mut serve(&data, &[]));
    let mut client = Client::new(address);
    client.json(&Ask::post("/v1/wallets/bob/deposits", &json!({ "amount": FORTUNE })).with_key("fortune"));
    let mut items = Vec::new();
    for id in (0..MERCHANTS).map(merchant) {
        let body = json!({ "id": id, "name": "Rosy", "status": "verified", "settle_after_s": 60,
            "commission_bps": COMMISSION_BPS });
        client.json(&Ask::post("/v1/merchants", &body).with_key(&*id));
        let item = json!({ "merchant": id, "name": "a rose", "category": "flowers", "price": PRICE, "stock": 100_000,
            "per_user_limit": Value::Null });
        items.push(text(&client.json(&Ask::post("/v1/items", &item).with_key(format!("item-{id}"))), "id"));
    }
    let (mut promised, mut moment) = (Promised::default(), None);
    for cycle in 1..=CYCLES {
        let (answered, enough) = (AtomicU64::new(0), 1 + dice.below(ANSWERS_MAX));
        let (buyers, minutes) = ([Dice(dice.roll()), Dice(dice.roll())], Dice(dice.roll()));
        std::thread::scope(|scope| {
            let (answered, items) = (&answered, &items);
            let mut asking: Vec<_> = buyers
                .into_iter()
                .enumerate()
                .map(|(n, dice)| scope.spawn(move || buy(address, items, dice, &format!("c{cycle}-b{n}"), answered)))
                .collect();
            asking.push(scope.spawn(move || pass_time(address, minutes, &format!("c{cycle}"))));
            while answered.load(Ordering::Relaxed) < enough {
                assert!(asking.iter().any(|one| !one.is_finished()), "it ended by itself:\n{}", server.log());
                std::thread::yield_now();
            }
            server.kill();
            asking.into_iter().for_each(|one| promised.add(one.join().unwrap()));
        });
        (server, address) = Running::ready(&mut serve(&data, &[]));
        client = Client::new(address);
        check_statements(&mut client, &promised);
        assert_eq!(client.json(&Ask::get("/v1/audit"))["balanced"], true);
        if cycle == CYCLES / 2 {
            moment = Some(moment_after(address));
        }
    }
    client.json(&Ask::post("/v1/test/clock", &json!({ "advance_s": 600 })).with_key("all due"));
    while is_pending(&mut client) {}
    let (owed, withdrawn, commissions) = check_statements(&mut client, &promised);
    let money = client.json(&Ask::get("/v1/audit"));
    let figures = ["merchants", "withdrawn", "platform"].map(|name| number(&money, name));
    assert_eq!(figures, [owed, withdrawn, commissions], "{money}");
    assert!(commissions > 0 && money["balanced"] == true, "{money}");

    // The second half's books add up: what there was, what moved, what there is.
    let (moment, end) = (moment.unwrap(), moment_after(address));
    assert!(server.stop().0.success());
    let mut export = hongbao();
    export.args(["export", "ledger", "--from", &moment, "--to", &end, "--time-zone", "Asia/Shanghai", "--data"]);
    succeeds(export.arg(&data).arg("--out").arg(directory.path().join("ledger.csv")));
    let output = audit(&data);
    assert!(output.status.success(), "{}", told(&output));
}
