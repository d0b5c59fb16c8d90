//! The audit's part about gifts: each of their lives, the people's lists and wallets, the stock, and
//! the merchant's money.
//!
//! **Invariant:** a unit and the money of a gift are where its state says, so what was acknowledged
//! adds up to each item's stock and each person's wallet, to the fen.

use crate::asker::Asker;
use crate::audit::{Audit, escaped, get};
use crate::audit_group_buy::paid_by_groups;
use crate::audit_units;
use crate::client::Request;
use crate::facts::HoldState;
use crate::gifts::{
    GiftAnswer, Giving, LEFT_S, Life, LifeFact, StepRequest, disagreement, forgotten_gift, gift_name, payer,
};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a gift may take to end by itself, after its time.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);
const PAGE: usize = 1000;

/// All of it, if anything is given in the run.
pub(crate) async fn audit_gifts(audit: &Rc<Audit>) -> Result<(), String> {
    let Some(giving) = &audit.world.giving else { return Ok(()) };
    settle(audit).await?;
    ask_steps_again(audit).await?;
    look_at_each(audit).await?;
    if audit.world.part.is_whole() {
        // Other parts give from the same wallets, of the same items.
        compare_lists(audit, giving).await?;
        compare_stock(audit, giving).await?;
        compare_wallets(audit, giving).await?;
    }
    Ok(())
}

fn facts(audit: &Audit, wanted: impl Fn(&LifeFact) -> bool) -> Vec<(u32, LifeFact)> {
    let facts = audit.facts.borrow();
    facts.gifts.iter().filter(|(_, known)| wanted(known)).map(|(life, known)| (*life, known.clone())).collect()
}

fn giving(audit: &Audit) -> &Giving {
    audit.world.giving.as_ref().expect("gifts are only given with something to give")
}

/// Asks for a life's step once more, under its own key.
async fn ask(audit: &Audit, asker: &mut Asker, life: u32, nth: usize, id: &str) -> Result<Option<u16>, String> {
    let giving = giving(audit);
    let Some(step) = Life::of(&audit.world, giving, life).step(nth) else { return Ok(None) };
    let mut request = StepRequest::default();
    request.compose(&audit.world, giving, life, step, id);
    let StepRequest { path, key, body } = &request;
    let request = Request { path, idempotency_key: Some(key), body: Some(body.as_bytes()) };
    asker.ask(&request).await.map(Some)
}

/// Every step without an answer is asked for again, and so becomes a fact.
async fn settle(audit: &Rc<Audit>) -> Result<(), String> {
    let unknown = facts(audit, |known| known.is_unknown);
    audit
        .each(unknown, async |audit: &Rc<Audit>, asker: &mut Asker, (life, known): (u32, LifeFact)| {
            let Some(status) = ask(audit, asker, life, known.done, &known.id).await? else { return Ok(()) };
            let (world, giving) = (&audit.world, giving(audit));
            let mut facts = audit.facts.borrow_mut();
            match serde_json::from_slice::<GiftAnswer<'_>>(asker.body()) {
                Ok(answer) if matches!(status, 200 | 201) => facts.gift_stepped(world, giving, life, &answer),
                _ => facts.gift_refused(world, giving, life, status, &asker.text()),
            }
            Ok(())
        })
        .await?;
    let found = std::mem::take(&mut audit.facts.borrow_mut().differences);
    audit.absorb(found);
    Ok(())
}

/// Each step that was acknowledged has the same answer again.
async fn ask_steps_again(audit: &Rc<Audit>) -> Result<(), String> {
    let mut steps = Vec::new();
    for (life, known) in facts(audit, |known| known.done > 0) {
        steps.extend((0..known.done).map(|nth| (life, nth, known.clone())));
    }
    audit
        .each(steps, async |audit: &Rc<Audit>, asker: &mut Asker, (life, nth, known): (u32, usize, LifeFact)| {
            let Some(status) = ask(audit, asker, life, nth, &known.id).await? else { return Ok(()) };
            let expected = Life::of(&audit.world, giving(audit), life).state(nth + 1);
            compare(audit, asker, status, (life, &known), expected, "asked again");
            Ok(())
        })
        .await
}

/// Holds an answer about a gift against how it must stand.
fn compare(audit: &Audit, asker: &Asker, status: u16, (life, known): (u32, &LifeFact), expected: &str, when: &str) {
    let why = match serde_json::from_slice::<GiftAnswer<'_>>(asker.body()) {
        Ok(answer) if matches!(status, 200 | 201) => {
            disagreement(&audit.world, giving(audit), (life, known), expected, &answer)
        }
        _ if status == 404 => Some(forgotten_gift(expected, status)),
        _ => Some(format!("expected a gift that is {expected}, got {status}: {}", asker.text())),
    };
    audit.check(why.is_none(), || {
        format!("{}, {when}: {}", gift_name(life, &known.id), why.as_deref().unwrap_or_default())
    });
}

/// Each gift stands as its last step left it, or has ended by itself if nobody did anything.
async fn look_at_each(audit: &Rc<Audit>) -> Result<(), String> {
    audit
        .each(
            facts(audit, |known| known.done > 0),
            async |audit: &Rc<Audit>, asker: &mut Asker, (life, known): (u32, LifeFact)| {
                let terms = Life::of(&audit.world, giving(audit), life);
                let expected = terms.end(known.done);
                let until = Instant::now() + Duration::from_secs(LEFT_S) + PATIENCE;
                let path = format!("/v1/gifts/{}", known.id);
                loop {
                    let status = get(asker, &path).await?;
                    let answer = serde_json::from_slice::<GiftAnswer<'_>>(asker.body());
                    let is_waiting = terms.expires(known.done)
                        && status == 200
                        && answer.is_ok_and(|answer| answer.state == terms.state(known.done));
                    if !is_waiting || Instant::now() >= until {
                        compare(audit, asker, status, (life, &known), expected, "looked at");
                        return Ok(());
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            },
        )
        .await
}

/// Whatever gift of the run was acknowledged stands in its giver's list, once, and nothing else does.
async fn compare_lists(audit: &Rc<Audit>, giving: &Giving) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Listed {
        id: String,
    }
    #[derive(Deserialize)]
    struct Listing {
        gifts: Vec<Listed>,
        next_cursor: Option<String>,
    }
    let mut given: HashMap<u32, HashSet<String>> = HashMap::new();
    for (life, known) in facts(audit, |known| known.done > 0) {
        given.entry(giving.giver(life)).or_default().insert(known.id.into());
    }
    audit
        .each(
            given.into_iter().collect(),
            async |audit: &Rc<Audit>, asker: &mut Asker, (giver, mut given): (u32, HashSet<String>)| {
                let user = audit.world.user(giver);
                let first = format!("/v1/users/{user}/gifts?role=given&limit={PAGE}");
                let mut path = first.clone();
                loop {
                    let status = get(asker, &path).await?;
                    let page = match serde_json::from_slice::<Listing>(asker.body()) {
                        Ok(page) if status == 200 => page,
                        _ => {
                            audit
                                .check(false, || format!("GET {path}: expected gifts, got {status}: {}", asker.text()));
                            return Ok(());
                        }
                    };
                    for Listed { id } in &page.gifts {
                        audit.check(given.remove(id), || {
                            format!(
                                "gift {id}: it is listed as given by {user} twice, or without an acknowledged answer"
                            )
                        });
                    }
                    let Some(cursor) = page.next_cursor.filter(|_| !page.gifts.is_empty()) else { break };
                    path = format!("{first}&cursor={}", escaped(&cursor));
                }
                for id in given {
                    audit.check(false, || {
                        format!(
                            "gift {id}: an acknowledged gift was forgotten: expected it among those given by {user}"
                        )
                    });
                }
                Ok(())
            },
        )
        .await
}

/// Every unit is where its gift says.
async fn compare_stock(audit: &Rc<Audit>, giving: &Giving) -> Result<(), String> {
    let mut units = vec![(0, 0); giving.items.len()];
    for (life, known) in facts(audit, |known| known.done > 0) {
        let (held, sold) = &mut units[giving.item_of(life)];
        match Life::of(&audit.world, giving, life).end(known.done) {
            "awaiting_payment" | "offered" => *held += 1,
            "accepted" | "shipped" | "delivered" => *sold += 1,
            _ => {}
        }
    }
    let items: Vec<_> = giving.items.iter().cloned().zip(units).collect();
    audit_units::compare_stocks(audit, items, i64::from(giving.stock()), "gifts").await
}

/// Everybody has what was deposited, less what their gifts cost that did not come to nothing.
async fn compare_wallets(audit: &Rc<Audit>, giving: &Giving) -> Result<(), String> {
    let mut spent: HashMap<u32, u64> = HashMap::new();
    for (life, known) in facts(audit, |known| known.done > 0) {
        if Life::is_paid(Life::of(&audit.world, giving, life).end(known.done)) {
            *spent.entry(payer(&audit.world, giving, life)).or_default() += giving.price;
        }
    }
    let people = (giving.first_user..giving.first_user + giving.users).map(|user| {
        let left = giving.deposit() - spent.get(&user).copied().unwrap_or(0);
        (audit.world.user(user), left as i64)
    });
    audit_units::compare_wallets(audit, people.collect()).await
}

/// The run's merchant has the money of what was shipped, of groups that were full and of units that were paid for, and no more.
pub(crate) async fn compare_merchant(audit: &Rc<Audit>) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Balance {
        pending: u64,
        available: u64,
    }
    let world = &audit.world;
    if !world.part.is_whole() || (world.giving.is_none() && world.gathering.is_none()) {
        return Ok(());
    }
    let of_gifts = world.giving.as_ref().map_or(0, |giving| {
        let shipped = facts(audit, |known| known.done > 0)
            .into_iter()
            .filter(|(life, known)| matches!(Life::of(world, giving, *life).end(known.done), "shipped" | "delivered"));
        giving.price * shipped.count() as u64
    });
    let of_units: u64 = {
        let facts = audit.facts.borrow();
        let paid = facts.holds.iter().filter(|(_, hold)| matches!(hold.state, HoldState::Claimed { .. }));
        paid.map(|((item, _), _)| audit.world.items[*item as usize].price).sum()
    };
    let expected = of_gifts + of_units + paid_by_groups(audit);
    audit
        .each(vec![audit.world.merchant()], async move |audit: &Rc<Audit>, asker: &mut Asker, merchant: String| {
            let path = format!("/v1/merchants/{merchant}/balance");
            let status = get(asker, &path).await?;
            match serde_json::from_slice::<Balance>(asker.body()) {
                Ok(Balance { pending, available }) if status == 200 => {
                    audit.check(pending + available == expected, || {
                        format!(
                            "merchant {merchant}: expected {expected}, got {pending} pending and {available} available"
                        )
                    });
                }
                _ => audit.check(false, || format!("GET {path}: expected a balance, got {status}: {}", asker.text())),
            }
            Ok(())
        })
        .await
}
