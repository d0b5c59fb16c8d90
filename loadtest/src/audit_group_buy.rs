//! The audit's part about groups that buy together: each of their lives, the items' lists, members' orders, the
//! stock, and people's wallets.
//!
//! **Invariant:** an open group has a unit and a price of each member, a full one has orders, and any other
//! nothing; so what was acknowledged adds up to each item's stock and each person's wallet, to the fen.

use crate::asker::Asker;
use crate::audit::{Audit, escaped, get};
use crate::audit_units;
use crate::client::Request;
use crate::gifts::{LEFT_S, LifeFact, StepRequest};
use crate::group_buy::{Gathering, GroupAnswer, GroupLife, disagreement, forgotten_group, group_name};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a group may take to end by itself, after its time.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);
const PAGE: usize = 1000;

/// All of it, if anything is bought together in the run.
pub(crate) async fn audit_group_buy(audit: &Rc<Audit>) -> Result<(), String> {
    let Some(gathering) = &audit.world.gathering else { return Ok(()) };
    settle(audit).await?;
    ask_turns_again(audit).await?;
    look_at_each(audit).await?;
    if audit.world.part.is_whole() {
        // Other parts buy out of the same wallets, of the same items.
        compare_lists(audit, gathering).await?;
        compare_stock(audit, gathering).await?;
        compare_wallets(audit, gathering).await?;
    }
    Ok(())
}

/// Money of orders that groups made, as far as it was acknowledged.
pub(crate) fn paid_by_groups(audit: &Audit) -> u64 {
    let Some(gathering) = &audit.world.gathering else { return 0 };
    let full = facts(audit, |known| known.done > 0)
        .into_iter()
        .filter(|(life, known)| GroupLife::of(&audit.world, gathering, *life).end(known.done) == "full");
    full.count() as u64 * u64::from(gathering.size) * gathering.price
}

fn facts(audit: &Audit, wanted: impl Fn(&LifeFact) -> bool) -> Vec<(u32, LifeFact)> {
    let facts = audit.facts.borrow();
    facts.gatherings.iter().filter(|(_, known)| wanted(known)).map(|(life, known)| (*life, known.clone())).collect()
}

fn gathering(audit: &Audit) -> &Gathering {
    audit.world.gathering.as_ref().expect("groups are opened only of something to buy")
}

/// Asks for a life's turn once more, under its own key.
async fn ask(audit: &Audit, asker: &mut Asker, life: u32, nth: usize, id: &str) -> Result<u16, String> {
    let mut request = StepRequest::default();
    request.compose_turn(&audit.world, gathering(audit), (life, nth), id);
    let StepRequest { path, key, body } = &request;
    asker.ask(&Request { path, idempotency_key: Some(key), body: Some(body.as_bytes()) }).await
}

/// Every turn without an answer is asked for again, and so becomes a fact.
async fn settle(audit: &Rc<Audit>) -> Result<(), String> {
    let unknown = facts(audit, |known| known.is_unknown);
    audit
        .each(unknown, async |audit: &Rc<Audit>, asker: &mut Asker, (life, known): (u32, LifeFact)| {
            let status = ask(audit, asker, life, known.done, &known.id).await?;
            let (world, gathering) = (&audit.world, gathering(audit));
            let mut facts = audit.facts.borrow_mut();
            match serde_json::from_slice::<GroupAnswer<'_>>(asker.body()) {
                Ok(answer) if matches!(status, 200 | 201) => facts.group_turned(world, gathering, life, &answer),
                _ => facts.group_refused(world, gathering, life, status, &asker.text()),
            }
            Ok(())
        })
        .await?;
    let found = std::mem::take(&mut audit.facts.borrow_mut().differences);
    audit.absorb(found);
    Ok(())
}

/// Each turn that was acknowledged has the same answer again.
async fn ask_turns_again(audit: &Rc<Audit>) -> Result<(), String> {
    let mut turns = Vec::new();
    for (life, known) in facts(audit, |known| known.done > 0) {
        turns.extend((0..known.done).map(|nth| (life, nth, known.clone())));
    }
    audit
        .each(turns, async |audit: &Rc<Audit>, asker: &mut Asker, (life, nth, known): (u32, usize, LifeFact)| {
            let status = ask(audit, asker, life, nth, &known.id).await?;
            let expected = GroupLife::of(&audit.world, gathering(audit), life).after(nth + 1);
            let why = match serde_json::from_slice::<GroupAnswer<'_>>(asker.body()) {
                Ok(answer) if matches!(status, 200 | 201) => disagreement(gathering(audit), &known, &expected, &answer),
                _ => Some(format!("got {status}: {}", asker.text())),
            };
            audit.check(why.is_none(), || {
                format!("{}, asked again: {}", group_name(life, &known.id), why.as_deref().unwrap_or_default())
            });
            Ok(())
        })
        .await
}

#[derive(Deserialize)]
struct Member {
    user: String,
    order: Option<String>,
}

#[derive(Deserialize)]
struct GroupSeen {
    id: String,
    state: String,
    joined: Vec<Member>,
}

/// Each group stands as its last turn left it, or has ended by itself; its members' orders are there.
async fn look_at_each(audit: &Rc<Audit>) -> Result<(), String> {
    audit
        .each(
            facts(audit, |known| known.done > 0),
            async |audit: &Rc<Audit>, asker: &mut Asker, (life, known): (u32, LifeFact)| {
                let (gathering, terms) = (gathering(audit), GroupLife::of(&audit.world, gathering(audit), life));
                let (expected, members) = (terms.end(known.done), terms.after(known.done).members);
                let until = Instant::now() + Duration::from_secs(LEFT_S) + PATIENCE;
                let path = format!("/v1/groups/{}", known.id);
                let (status, seen) = loop {
                    let status = get(asker, &path).await?;
                    let seen = serde_json::from_slice::<GroupSeen>(asker.body()).ok().filter(|_| status == 200);
                    let is_waiting = expected == "expired" && seen.as_ref().is_some_and(|seen| seen.state == "open");
                    if !is_waiting || Instant::now() >= until {
                        break (status, seen);
                    }
                    tokio::time::sleep(PAUSE).await;
                };
                let name = || group_name(life, &known.id);
                let Some(seen) = seen else {
                    audit.check(false, || format!("{}: {}", name(), forgotten_group(expected, status)));
                    return Ok(());
                };
                let users: Vec<String> =
                    members.iter().map(|nth| audit.world.user(gathering.person(life, *nth))).collect();
                let told: Vec<&str> = seen.joined.iter().map(|member| &*member.user).collect();
                audit.check(seen.state == expected && told == users, || {
                    format!(
                        "{}: the group changed: expected {expected} with {users:?}, got {} with {told:?}",
                        name(),
                        seen.state
                    )
                });
                for member in &seen.joined {
                    look_at_order(audit, asker, &name(), expected, member).await?;
                }
                Ok(())
            },
        )
        .await
}

/// A member of a full group has an order at the group's price, and no other has.
async fn look_at_order(
    audit: &Rc<Audit>,
    asker: &mut Asker,
    group: &str,
    state: &str,
    member: &Member,
) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Order {
        user: String,
        amount: u64,
    }
    let Some(order) = &member.order else {
        audit.check(state != "full", || format!("{group}: {} paid and has no order", member.user));
        return Ok(());
    };
    let status = get(asker, &format!("/v1/orders/{order}")).await?;
    let seen = serde_json::from_slice::<Order>(asker.body()).ok().filter(|_| status == 200);
    let price = gathering(audit).price;
    let is_right = seen.is_some_and(|seen| seen.user == member.user && seen.amount == price);
    audit.check(state == "full" && is_right, || {
        format!("{group}, {order} of {}: expected it for {price}, got {status}: {}", member.user, asker.text())
    });
    Ok(())
}

/// Whatever group of the run was acknowledged stands in its item's list, once, and nothing else does.
async fn compare_lists(audit: &Rc<Audit>, gathering: &Gathering) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Listing {
        groups: Vec<GroupSeen>,
        next_cursor: Option<String>,
    }
    let mut of_items: HashMap<usize, HashSet<String>> =
        (0..gathering.items.len()).map(|n| (n, HashSet::new())).collect();
    for (life, known) in facts(audit, |known| known.done > 0) {
        of_items.entry(gathering.item_of(&audit.world, life)).or_default().insert(known.id.into());
    }
    audit
        .each(
            of_items.into_iter().collect(),
            async |audit: &Rc<Audit>, asker: &mut Asker, (item, mut groups): (usize, HashSet<String>)| {
                let item = self::gathering(audit).items[item].clone();
                let first = format!("/v1/items/{item}/groups?limit={PAGE}");
                let mut path = first.clone();
                loop {
                    let status = get(asker, &path).await?;
                    let page = match serde_json::from_slice::<Listing>(asker.body()) {
                        Ok(page) if status == 200 => page,
                        _ => {
                            let told = asker.text();
                            audit.check(false, || format!("GET {path}: expected groups, got {status}: {told}"));
                            return Ok(());
                        }
                    };
                    for GroupSeen { id, .. } in &page.groups {
                        audit.check(groups.remove(id), || {
                            format!("group {id}: it is listed of {item} twice, or without an acknowledged answer")
                        });
                    }
                    let Some(cursor) = page.next_cursor.filter(|_| !page.groups.is_empty()) else { break };
                    path = format!("{first}&cursor={}", escaped(&cursor));
                }
                for id in groups {
                    audit.check(false, || {
                        format!("group {id}: an acknowledged group was forgotten: expected it among those of {item}")
                    });
                }
                Ok(())
            },
        )
        .await
}

/// Every unit is where its group says.
async fn compare_stock(audit: &Rc<Audit>, gathering: &Gathering) -> Result<(), String> {
    let mut units = vec![(0, 0); gathering.items.len()];
    for (life, known) in facts(audit, |known| known.done > 0) {
        let (held, sold) = &mut units[gathering.item_of(&audit.world, life)];
        let terms = GroupLife::of(&audit.world, gathering, life);
        let members = terms.after(known.done).members.len() as i64;
        match terms.end(known.done) {
            "open" => *held += members,
            "full" => *sold += members,
            _ => {}
        }
    }
    let items: Vec<_> = gathering.items.iter().cloned().zip(units).collect();
    audit_units::compare_stocks(audit, items, i64::from(gathering.stock()), "groups").await
}

/// Everybody has what was deposited, less the prices of the groups in which they are, or with which they bought.
async fn compare_wallets(audit: &Rc<Audit>, gathering: &Gathering) -> Result<(), String> {
    let mut spent: HashMap<u32, u64> = HashMap::new();
    for (life, known) in facts(audit, |known| known.done > 0) {
        let terms = GroupLife::of(&audit.world, gathering, life);
        if matches!(terms.end(known.done), "open" | "full") {
            for nth in terms.after(known.done).members {
                *spent.entry(gathering.person(life, nth)).or_default() += gathering.price;
            }
        }
    }
    let people = (gathering.first_user..gathering.first_user + gathering.users).map(|user| {
        let left = gathering.deposit() - spent.get(&user).copied().unwrap_or(0);
        (audit.world.user(user), left as i64)
    });
    audit_units::compare_wallets(audit, people.collect()).await
}
