//! The audit's part about stock, holds, orders, wallets and the books.
//!
//! **Invariant:** total = free + held + sold and none below zero; units
//! acknowledged as held or sold never exceed the stock; only time or its own
//! user takes a live hold away.

use crate::asker::Asker;
use crate::audit::{Audit, get, outcome_of, post};
use crate::facts::{HoldFact, HoldState, Known, Pair, ShareFact};
use serde::Deserialize;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

const WALLETS_SAMPLED: usize = 1000;
const ORDERS_SAMPLED: usize = 200;

fn holds(audit: &Audit, wanted: impl Fn(&HoldState) -> bool) -> Vec<(Pair, HoldFact)> {
    let facts = audit.facts.borrow();
    let holds = facts.holds.iter().filter(|(_, hold)| wanted(&hold.state));
    holds.map(|(pair, hold)| (*pair, hold.clone())).collect()
}

fn now(audit: &Audit) -> Duration {
    audit.start.elapsed()
}

async fn grab(audit: &Audit, asker: &mut Asker, pair: Pair) -> Result<u16, String> {
    let item = &audit.world.items[pair.0 as usize];
    let body = format!("{{\"user\":\"{}\",\"quantity\":1}}", audit.world.user(pair.1));
    post(asker, &format!("/v1/items/{}/grab", item.id), &body).await
}

async fn follow_up(audit: &Audit, asker: &mut Asker, pair: Pair, id: &str, verb: &str) -> Result<u16, String> {
    post(asker, &format!("/v1/holds/{id}/{verb}"), &audit.user_body(pair.1)).await
}

/// Asks every grab, claim and release without an answer again.
pub(crate) async fn settle_units(audit: &Rc<Audit>) -> Result<(), String> {
    let unknown = holds(audit, |state| {
        matches!(state, HoldState::GrabUnknown | HoldState::ClaimUnknown | HoldState::ReleaseUnknown)
    });
    audit
        .each(unknown, async |audit: &Rc<Audit>, asker: &mut Asker, (pair, hold): (Pair, HoldFact)| {
            let sent = now(audit);
            let status = match hold.state {
                HoldState::GrabUnknown => grab(audit, asker, pair).await?,
                HoldState::ClaimUnknown => follow_up(audit, asker, pair, &hold.id, "claim").await?,
                _ => follow_up(audit, asker, pair, &hold.id, "release").await?,
            };
            let name = || audit.world.unit_name(pair);
            let answer = match outcome_of(asker, status) {
                Ok(answer) => answer,
                Err(why) => {
                    audit.differ(format!("{}: asked again about an unknown {:?}: {why}", name(), hold.state));
                    return Ok(());
                }
            };
            let mut facts = audit.facts.borrow_mut();
            match (&hold.state, answer.outcome) {
                (HoldState::GrabUnknown, "held") => {
                    facts.held(pair, answer.hold.unwrap_or(""), sent, sent, name);
                }
                (HoldState::GrabUnknown, _) => drop(facts.holds.remove(&pair)),
                (HoldState::ClaimUnknown, "claimed") => {
                    let order = answer.order.unwrap_or("").into();
                    facts.unit_follow_up(pair, HoldState::Claimed { order });
                }
                (HoldState::ReleaseUnknown, "released") => facts.unit_follow_up(pair, HoldState::Released),
                (_, other) => {
                    facts.unit_follow_up(pair, HoldState::Held);
                    facts.unit_refused(pair, other, sent, name);
                }
            }
            Ok(())
        })
        .await?;
    // Differences found while settling belong to the audit's.
    let found = std::mem::take(&mut audit.facts.borrow_mut().differences);
    audit.absorb(found);
    Ok(())
}

#[derive(Deserialize)]
struct ItemAnswer {
    stock: Stock,
}

/// An item's units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Stock {
    pub(crate) total: i64,
    pub(crate) free: i64,
    pub(crate) held: i64,
    pub(crate) sold: i64,
}

/// Items have so many units in all, held and sold, of which nothing else is bought or given.
pub(crate) async fn compare_stocks(
    audit: &Rc<Audit>,
    items: Vec<(String, (i64, i64))>,
    total: i64,
    whose: &'static str,
) -> Result<(), String> {
    audit
        .each(items, async move |audit: &Rc<Audit>, asker: &mut Asker, (id, (held, sold)): (String, (i64, i64))| {
            let path = format!("/v1/items/{id}");
            let status = get(asker, &path).await?;
            let expected = Stock { total, free: total - held - sold, held, sold };
            match serde_json::from_slice::<ItemAnswer>(asker.body()) {
                Ok(answer) if status == 200 => audit.check(answer.stock == expected, || {
                    format!("item {id}: units of {whose} do not add up: expected {expected:?}, got {:?}", answer.stock)
                }),
                _ => audit.check(false, || format!("GET {path}: expected stock, got {status}: {}", asker.text())),
            }
            Ok(())
        })
        .await
}

/// People have so much in their wallets, and nothing held.
pub(crate) async fn compare_wallets(audit: &Rc<Audit>, people: Vec<(String, i64)>) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Wallet {
        available: i64,
        held: i64,
    }
    audit
        .each(people, async |audit: &Rc<Audit>, asker: &mut Asker, (user, expected): (String, i64)| {
            let path = format!("/v1/wallets/{user}");
            let status = get(asker, &path).await?;
            match serde_json::from_slice::<Wallet>(asker.body()) {
                Ok(Wallet { available, held }) if status == 200 => audit
                    .check((available, held) == (expected, 0), || {
                        format!("wallet {user}: expected {expected}, got {available} available and {held} held")
                    }),
                _ => audit.check(false, || format!("GET {path}: expected a wallet, got {status}: {}", asker.text())),
            }
            Ok(())
        })
        .await
}

/// Stock adds up, and every acknowledged hold, order and release is still so.
pub(crate) async fn audit_units(audit: &Rc<Audit>) -> Result<(), String> {
    let items: Vec<u32> = (0..audit.world.items.len() as u32).collect();
    audit
        .each(items, async |audit: &Rc<Audit>, asker: &mut Asker, item: u32| {
            let path = format!("/v1/items/{}", audit.world.items[item as usize].id);
            let status = get(asker, &path).await?;
            match serde_json::from_slice::<ItemAnswer>(asker.body()) {
                Ok(answer) if status == 200 => compare_stock(audit, item, &answer.stock),
                _ => audit.check(false, || format!("GET {path}: expected stock, got {status}: {}", asker.text())),
            }
            Ok(())
        })
        .await?;
    let all = holds(audit, |state| !matches!(state, HoldState::GrabUnknown | HoldState::Expired));
    audit
        .each(all, async |audit: &Rc<Audit>, asker: &mut Asker, (pair, hold): (Pair, HoldFact)| {
            let id = &hold.id;
            let name = || audit.world.unit_name(pair);
            let status = match hold.state {
                HoldState::Claimed { .. } => follow_up(audit, asker, pair, id, "claim").await?,
                HoldState::Released => follow_up(audit, asker, pair, id, "release").await?,
                _ => grab(audit, asker, pair).await?,
            };
            let may_be_over = audit.facts.borrow().may_be_over(pair, now(audit));
            let answer = match outcome_of(asker, status) {
                Ok(answer) => answer,
                Err(why) => {
                    audit.check(false, || format!("{} hold {id}: {why}", name()));
                    return Ok(());
                }
            };
            match &hold.state {
                HoldState::Claimed { order } => {
                    let same = answer.outcome == "claimed" && answer.order == Some(&**order);
                    audit.check(same, || {
                        let got = answer.order.unwrap_or("none");
                        format!(
                            "{} hold {id}: an acknowledged order was forgotten or changed: expected claimed with {order}, got {} with {got}",
                            name(),
                            answer.outcome
                        )
                    });
                }
                HoldState::Released => audit.check(answer.outcome == "released", || {
                    format!("{} hold {id}: expected released, got {}", name(), answer.outcome)
                }),
                _ if may_be_over => {}
                _ => {
                    let same = answer.outcome == "held" && answer.hold == Some(&**id);
                    audit.check(same && answer.replayed == Some(true), || {
                        let got = answer.hold.unwrap_or("none");
                        format!(
                            "{}: an acknowledged hold was forgotten or changed: expected held with {id} replayed, got {} with {got}",
                            name(),
                            answer.outcome
                        )
                    });
                }
            }
            Ok(())
        })
        .await?;
    let mut orders = holds(audit, |state| matches!(state, HoldState::Claimed { .. }));
    orders.truncate(ORDERS_SAMPLED);
    audit
        .each(orders, async |audit: &Rc<Audit>, asker: &mut Asker, (pair, hold): (Pair, HoldFact)| {
            let HoldState::Claimed { order } = &hold.state else { return Ok(()) };
            let status = get(asker, &format!("/v1/orders/{order}")).await?;
            let name = || audit.world.unit_name(pair);
            audit.check(status == 200, || format!("{}: order {order} is not found: got {status}", name()));
            Ok(())
        })
        .await
}

fn compare_stock(audit: &Audit, item: u32, stock: &Stock) {
    let (created, at) = (&audit.world.items[item as usize], now(audit));
    let (mut sold, mut live, mut maybe_over) = (0_i64, 0_i64, 0_i64);
    let facts = audit.facts.borrow();
    for (pair, hold) in facts.holds.iter().filter(|(pair, _)| pair.0 == item) {
        match hold.state {
            HoldState::Claimed { .. } => sold += 1,
            HoldState::Held if facts.may_be_over(*pair, at) => maybe_over += 1,
            HoldState::Held => live += 1,
            _ => {}
        }
    }
    let Stock { total, free, held, sold: said_sold } = *stock;
    let id = &created.id;
    let stocked = i64::from(created.stock);
    audit.check(sold + live <= stocked, || {
        format!("item {id}: oversold: {sold} sold and {live} held were acknowledged of a stock of {stocked}")
    });
    audit.check(total == stocked, || format!("item {id}: expected a stock of {stocked}, got {total}"));
    audit.check(free >= 0 && held >= 0 && said_sold >= 0, || {
        format!("item {id}: oversold, stock below zero: free {free}, held {held}, sold {said_sold}")
    });
    audit.check(free + held + said_sold == total, || {
        format!("item {id}: stock does not add up: free {free} + held {held} + sold {said_sold}, total {total}")
    });
    if !audit.world.part.is_whole() {
        // Other parts hold and buy as well.
        audit
            .check(said_sold >= sold, || format!("item {id}: {sold} units were acknowledged as sold, got {said_sold}"));
        return audit.check(held >= live, || format!("item {id}: {live} live holds were acknowledged, got {held}"));
    }
    audit.check(said_sold == sold, || format!("item {id}: {sold} units were acknowledged as sold, got {said_sold}"));
    audit.check((live..=live + maybe_over).contains(&held), || {
        format!("item {id}: {live} live holds (and {maybe_over} that may be over) were acknowledged, got {held}")
    });
}

/// Balances of the senders and of a sample of users are what was deposited, won
/// and paid. A hold may set money aside, so what is compared is available + held.
pub(crate) async fn audit_wallets(audit: &Rc<Audit>) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Wallet {
        available: i64,
        held: i64,
    }
    let wallets = expected_wallets(audit);
    audit
        .each(wallets, async |audit: &Rc<Audit>, asker: &mut Asker, (user, expected): (String, i64)| {
            let path = format!("/v1/wallets/{user}");
            let status = get(asker, &path).await?;
            match serde_json::from_slice::<Wallet>(asker.body()) {
                Ok(wallet) if status == 200 => {
                    audit.check(wallet.available + wallet.held == expected, || {
                        format!(
                            "wallet {user}: expected {expected}, got {} available and {} held",
                            wallet.available, wallet.held
                        )
                    });
                }
                _ => audit.check(false, || format!("GET {path}: expected a wallet, got {status}: {}", asker.text())),
            }
            Ok(())
        })
        .await
}

fn expected_wallets(audit: &Audit) -> Vec<(String, i64)> {
    let world = &audit.world;
    // Senders paid in exactly what their envelopes hold.
    let senders = (0..world.senders).map(|sender| (world.sender(sender), 0));
    if !world.part.is_whole() {
        // Users have wins and orders that other parts know.
        return senders.collect();
    }
    let mut moved: HashMap<u32, i64> = HashMap::new();
    let facts = audit.facts.borrow();
    for ((_, user), fact) in &facts.shares {
        if let ShareFact::Won { amount, claimed: Known::Yes, .. } = fact {
            *moved.entry(*user).or_default() += *amount as i64;
        }
    }
    for ((item, user), hold) in &facts.holds {
        if matches!(hold.state, HoldState::Claimed { .. }) {
            *moved.entry(*user).or_default() -= world.items[*item as usize].price as i64;
        }
    }
    // Who won or paid first, then some to whom nothing happened.
    let mut sample: Vec<u32> = moved.keys().copied().take(WALLETS_SAMPLED).collect();
    sample.extend((0..world.population.min(100)).filter(|user| !moved.contains_key(user)));
    sample.extend(facts.holds.keys().map(|(_, user)| *user).filter(|user| !moved.contains_key(user)).take(100));
    let deposited = |user: u32| {
        let items = world.items.iter().filter(|item| (item.first_user..item.first_user + item.users).contains(&user));
        items.map(|item| item.price as i64).sum::<i64>()
    };
    let mut wallets: Vec<(String, i64)> = sample
        .into_iter()
        .map(|user| (world.user(user), deposited(user) + moved.get(&user).copied().unwrap_or(0)))
        .collect();
    wallets.extend(senders);
    wallets
}

/// The server's own double entry balances.
pub(crate) async fn audit_books(audit: &Rc<Audit>) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Books {
        balanced: bool,
    }
    audit
        .each(vec![()], async |audit: &Rc<Audit>, asker: &mut Asker, ()| {
            let status = get(asker, "/v1/audit").await?;
            let books = serde_json::from_slice::<Books>(asker.body());
            let balanced = status == 200 && books.is_ok_and(|books| books.balanced);
            audit.check(balanced, || {
                format!(
                    "GET /v1/audit: the books are not balanced: expected balanced true, got {status}: {}",
                    asker.text()
                )
            });
            Ok(())
        })
        .await
}
