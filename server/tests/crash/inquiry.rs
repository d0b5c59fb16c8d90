//! After a restart: everything that was promised is asked for again, what was
//! not answered is asked to its end, and all accounts are added up.
//!
//! Every request ever sent is known here, and once the unanswered ones were
//! asked again so is its effect; so the accounts are compared in both
//! directions: nothing is missing, and nothing is there that nobody asked for.

use crate::book::{Book, Fact, Promise, ask_again, check_stock, number, text};
use crate::client::{Ask, Client, Door};
use crate::load::{Dice, USERS, user};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// How many promises of former cycles are asked for again after each.
const OLDER_PROMISES: usize = 800;
const OLDER_ENVELOPES: usize = 12;
const ASKERS: usize = 4;

/// How the server went down before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    Killed,
    /// It was told to stop, and said that it had.
    Stopped,
}

/// Asks again what got no answer: it was done wholly or not at all.
pub fn ask_unanswered(client: &mut Client, book: &mut Book, unanswered: &[Ask], down: Down) {
    for ask in unanswered {
        let known = book.knows(ask);
        let answer = client.ask(ask);
        let done_before = down == Down::Stopped && !known && answer.replayed;
        assert!(!done_before, "a server that stops answers what it does: {ask:?}: {answer:?}");
        book.learn(ask, &answer);
    }
}

/// All there is to ask after a cycle, or at the end (`whole`).
pub fn inquire(door: Door, book: &Book, dice: &mut Dice, whole: bool) {
    promises(door, book, dice, whole);
    let mut client = Client::new(door);
    keys_and_references(&mut client, book);
    let (mut newest, mut older): (Vec<_>, Vec<_>) =
        book.envelopes.keys().partition(|id| whole || book.envelopes[*id].cycle == book.cycle);
    while newest.len() < OLDER_ENVELOPES && !older.is_empty() {
        newest.push(older.swap_remove(dice.below(older.len() as u64) as usize));
    }
    newest.into_iter().for_each(|id| envelope(&mut client, book, id));
    items(&mut client, book);
    (0..USERS).for_each(|number| wallet(&mut client, book, &user(number)));
    money(&mut client, book);
}

fn promises(door: Door, book: &Book, dice: &mut Dice, whole: bool) {
    let (mut chosen, mut older): (Vec<&Promise>, Vec<&Promise>) =
        book.promises.iter().partition(|promise| whole || promise.cycle == book.cycle);
    for _ in 0..OLDER_PROMISES.min(older.len()) {
        chosen.push(older.swap_remove(dice.below(older.len() as u64) as usize));
    }
    std::thread::scope(|scope| {
        for part in chosen.chunks(chosen.len().div_ceil(ASKERS).max(1)) {
            scope.spawn(move || {
                let mut client = Client::new(door);
                part.iter().for_each(|promise| ask_again(&mut client, promise));
            });
        }
    });
}

/// Keys and references stand for what they first stood for, and for nothing else.
fn keys_and_references(client: &mut Client, book: &Book) {
    let creates = book.promises.iter().rev().filter(|promise| promise.ask.path == "/v1/envelopes");
    for Promise { ask, fact, .. } in creates.take(5) {
        let Fact::Body { status, body } = fact else { unreachable!("a create has a key") };
        let key = ask.key.as_deref().expect("a create has a key");
        let mut other = ask.json();
        other["message"] = Value::from("another");
        let other = Ask { body: other.to_string(), ..ask.clone() };
        let answer = client.ask(&other);
        assert!(answer.status == 422 && answer.body.contains("idempotency_mismatch"), "{other:?}: {answer:?}");
        let other = other.with_key(format!("{key}-other"));
        let answer = client.ask(&other);
        assert!(answer.status == 409 && answer.body.contains("reference_conflict"), "{other:?}: {answer:?}");
        // The same reference under a key of this cycle.
        let again = ask.clone().with_key(format!("{key}-c{}", book.cycle));
        let answer = client.ask(&again);
        let same = (answer.status, &answer.body) == (*status, body) && answer.replayed;
        assert!(same, "{again:?}: {answer:?}, and not {body}");
    }
}

/// Every page of a list.
pub fn list(client: &mut Client, path: &str, name: &str) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut cursor = String::new();
    loop {
        let and = if path.contains('?') { '&' } else { '?' };
        let mut page = client.json(&Ask::get(format!("{path}{and}limit=1000&cursor={cursor}")));
        rows.append(page[name].as_array_mut().unwrap());
        match page["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => return rows,
        }
    }
}

/// What `read` reads while `around` stays the same: deadlines may pass meanwhile.
fn steady<T>(client: &mut Client, around: &Ask, mut read: impl FnMut(&mut Client) -> T) -> (Value, T) {
    let mut before = client.json(around);
    loop {
        let read = read(client);
        let after = client.json(around);
        if before == after {
            return (after, read);
        }
        before = after;
    }
}

fn envelope(client: &mut Client, book: &Book, id: &str) {
    let (made, seen) = (&book.envelopes[id], &book.seen[id]);
    let path = format!("/v1/envelopes/{id}");
    let (view, grabs) = steady(client, &Ask::get(&path), |client| list(client, &format!("{path}/grabs"), "grabs"));
    let said = (text(&view, "sender"), number(&view, "total"), number(&view, "shares"), text(&view, "reference"));
    assert_eq!(said, (made.sender.clone(), made.total, made.shares, made.reference.clone()), "{view}");
    let found = client.json(&Ask::get(format!("/v1/envelopes?reference={}", made.reference)));
    assert_eq!(found["envelopes"][0]["id"], id, "found by its reference: {found}");
    assert_eq!(found["envelopes"].as_array().unwrap().len(), 1, "{found}");

    let [remaining, remaining_shares, claimed, refunded] =
        ["remaining_amount", "remaining_shares", "claimed_amount", "refunded_amount"].map(|field| number(&view, field));
    assert!(remaining_shares <= seen.remaining_shares, "a share came back: {seen:?}, now {view}");
    assert!(claimed >= seen.claimed && refunded >= seen.refunded, "money came back: {seen:?}, now {view}");
    assert!(seen.ended_as.is_none() || seen.ended_as.as_deref() == view["ended_as"].as_str(), "{seen:?}, now {view}");

    let told = book.wins.get(id);
    let mut shares = HashSet::new();
    let (mut taken, mut taken_and_claimed) = (0, 0);
    for grab in &grabs {
        let (share, amount) = (number(grab, "share"), number(grab, "amount"));
        let known = told.and_then(|wins| wins.get(&text(grab, "user")));
        assert_eq!(known, Some(&(share, amount)), "{id}: nobody was told of {grab} (I3)");
        assert!(shares.insert(share), "{id}: one user a share (I3)");
        taken += amount;
        taken_and_claimed += if grab["claimed_at"].is_null() { 0 } else { amount };
    }
    assert_eq!(grabs.len(), told.map_or(0, HashMap::len), "{id}: every win is listed");
    assert_eq!(claimed, taken_and_claimed, "{id}: {view}");
    let (unsold, unclaimed) = (made.total - taken, taken - claimed);
    if view["ended_as"].is_null() {
        assert_eq!((remaining, refunded), (unsold, 0), "{id} (I2): {view}");
        assert_eq!(remaining_shares, made.shares - grabs.len() as u64, "{id}: {view}");
    } else {
        assert_eq!((remaining, remaining_shares), (0, 0), "{id}: {view}");
        assert!(refunded == unsold || refunded == unsold + unclaimed, "{id}: {unsold} unsold (I2): {view}");
    }
    if view["state"] == "settled" {
        assert_eq!(claimed + refunded, made.total, "{id} (I2): {view}");
    }
}

fn items(client: &mut Client, book: &Book) {
    for (id, total) in &book.stock {
        let item = client.json(&Ask::get(format!("/v1/items/{id}")));
        check_stock(&item);
        assert_eq!(number(&item["stock"], "total"), *total, "what was put in: {item}");
        let mut by_user: HashMap<&str, u64> = HashMap::new();
        for hold in book.orders.keys() {
            let (of, user, quantity, _) = &book.holds[hold];
            if of == id {
                *by_user.entry(user).or_default() += quantity;
            }
        }
        assert_eq!(number(&item["stock"], "sold"), by_user.values().sum::<u64>(), "what was ordered: {item}");
        if let Some(limit) = item["per_user_limit"].as_u64() {
            assert!(by_user.values().all(|&units| units <= limit), "{by_user:?}: {item}");
        }
    }
    for (hold, order) in &book.orders {
        assert!(!book.released.contains_key(hold), "{hold} ends in one way (I5): {order}");
    }
}

fn wallet(client: &mut Client, book: &Book, user: &str) {
    let ask = Ask::get(format!("/v1/wallets/{user}"));
    let (wallet, entries) = steady(client, &ask, |client| list(client, &format!("{}/entries", ask.path), "entries"));
    // Newest first: each balance is the one before with the movement between.
    let mut balance = number(&wallet, "available");
    let mut moved: HashMap<(String, String), u64> = HashMap::new();
    for entry in &entries {
        let (kind, amount) = (text(entry, "kind"), number(entry, "amount"));
        assert_eq!(number(entry, "balance_after"), balance, "{user}: {entry}");
        balance = match kind.as_str() {
            "deposit" | "claim" | "refund" | "lapse" => balance.checked_sub(amount),
            "withdrawal" | "envelope" | "order" => balance.checked_add(amount),
            _ => panic!("{entry}"),
        }
        .unwrap_or_else(|| panic!("{user} never had less than nothing: {entry}"));
        let of = ["reference", "envelope", "order"].iter().find_map(|field| entry[field].as_str()).unwrap_or_default();
        let twice = moved.insert((kind, of.to_owned()), amount);
        assert_eq!(twice, None, "{user}: moved twice: {entry}");
    }
    assert_eq!(balance, 0, "{user} begins with nothing");

    let mut take = |kind: &str, of: &str| moved.remove(&(kind.to_owned(), of.to_owned()));
    for (kind, reference, amount) in book.transfers.get(user).into_iter().flatten() {
        assert_eq!(take(kind, reference), Some(*amount), "{user}: {kind} {reference}");
    }
    for (id, made) in &book.envelopes {
        if made.sender == user {
            assert_eq!(take("envelope", id), Some(made.total), "{user} sent {id}");
            let back = take("refund", id).unwrap_or(0) + take("lapse", id).unwrap_or(0);
            assert!(back <= made.total, "{user} got back {back} of {id}: {made:?}");
        }
        let Some(&(_, amount)) = book.wins.get(id).and_then(|wins| wins.get(user)) else { continue };
        match take("claim", id) {
            Some(credited) => {
                let claimed = book.claims.contains_key(&(id.clone(), user.to_owned()));
                assert!(claimed || made.auto_claim || made.credits, "{user}: nobody claimed {id}");
                assert_eq!(credited, amount, "{user}: the share of {id}");
            }
            None => {
                let claimed = book.claims.get(&(id.clone(), user.to_owned()));
                assert!(claimed.is_none() && !made.auto_claim, "{user}: {id} was claimed and is not credited");
            }
        }
    }
    for (hold, order) in &book.orders {
        let (_, buyer, _, amount) = &book.holds[hold];
        if buyer == user {
            assert_eq!(take("order", order), Some(*amount), "{user}: {hold}");
        }
    }
    assert!(moved.is_empty(), "{user}: nobody asked for {moved:?}");

    if let Some(listed) = book.movements.get(user)
        && let Some(newest) = listed.first()
    {
        let at = entries.iter().position(|entry| entry == newest);
        let at = at.unwrap_or_else(|| panic!("{user}: {newest} was listed and is gone"));
        assert_eq!(entries[at..at + listed.len()], listed[..], "{user}: the list changed");
    }
}

fn money(client: &mut Client, book: &Book) {
    let audit = client.json(&Ask::get("/v1/audit"));
    assert_eq!(audit["balanced"], true, "{audit}");
    let transferred = |kind: &str| {
        let all = book.transfers.values().flatten();
        all.filter(|(of, ..)| of == kind).map(|(_, _, amount)| amount).sum::<u64>()
    };
    assert_eq!(number(&audit, "deposited"), transferred("deposit"), "{audit}");
    assert_eq!(number(&audit, "withdrawn"), transferred("withdrawal"), "{audit}");
    let paid: u64 = book.orders.keys().map(|hold| book.holds[hold].3).sum();
    assert_eq!(number(&audit, "merchants"), paid, "{audit}");
}

/// Lets every deadline pass: all envelopes settle and all holds end.
pub fn let_all_end(client: &mut Client, book: &mut Book) {
    let advance = Ask::post("/v1/test/clock", &serde_json::json!({ "advance_s": 3 * 3600 }));
    let answer = client.ask(&advance);
    let before = book.clock.clone();
    book.learn(&advance, &answer);
    assert!(text(&answer.json(), "now") >= before, "time goes on: {before}, then {answer:?}");
    let until = Instant::now() + Duration::from_secs(120);
    while client.json(&Ask::get("/v1/audit"))["escrowed"] != 0 {
        assert!(Instant::now() < until, "every envelope settles");
        std::thread::sleep(Duration::from_millis(50));
    }
    for id in book.envelopes.keys() {
        let view = client.json(&Ask::get(format!("/v1/envelopes/{id}")));
        assert_eq!(view["state"], "settled", "{view}");
    }
    for id in book.stock.keys() {
        let ask = Ask::get(format!("/v1/items/{id}"));
        while client.json(&ask)["stock"]["held"] != 0 {
            assert!(Instant::now() < until, "every hold ends");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
