//! Creates what a run needs: money, envelopes, a merchant and its item.
//!
//! **Invariant:** every name and key carries the run's tag, so that what the
//! audit finds can only come from this run; money deposited is exactly what is
//! needed, so that every expected balance is known.

use crate::asker::{Asker, for_each};
use crate::client::{Request, Target};
use crate::failure::Failure;
use crate::gifts::Giving;
use crate::group_buy::Gathering;
use crate::scenario::Scenario;
use crate::world::{Envelope, Item, Share, World};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use serde_json::json;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
/// Money is paid in by a few senders, so that no single wallet is in the way.
const SENDERS: u32 = 16;

/// What the run will create, before it is created: ids are empty. The same
/// scenario and tag always make the same world, so that several generators can
/// create it together.
pub(crate) fn plan(scenario: &Scenario, tag: String, part: Share, is_live: bool) -> World {
    let mut rng = SmallRng::seed_from_u64(scenario.seed);
    let population = scenario.population();
    let mut envelopes = Vec::new();
    if let Some(mass) = &scenario.mass {
        let users = scenario.mass_users();
        envelopes.push(Envelope {
            id: String::new(),
            sender: 0,
            total: u64::from(mass.shares) * mass.share_amount,
            shares: mass.shares,
            first_user: users.start,
            users: users.count(),
        });
    }
    let group_users = scenario.group_users();
    if scenario.groups.is_some() {
        for _ in 0..scenario.envelopes() {
            let (shares, total) = small_envelope(&mut rng);
            envelopes.push(Envelope {
                id: String::new(),
                sender: rng.random_range(0..SENDERS),
                total,
                shares,
                first_user: group_users.start + rng.random_range(0..group_users.count()),
                users: small_envelope_users(&mut rng, shares),
            });
        }
    }
    let items = scenario.sale.iter().map(|sale| Item {
        id: String::new(),
        stock: sale.stock,
        price: sale.price,
        first_user: population,
        users: sale.users(),
    });
    World {
        tag,
        part,
        is_live,
        population,
        group_users,
        has_mass: scenario.mass.is_some(),
        envelopes,
        items: items.collect(),
        senders: SENDERS,
        hold_ttl: scenario.sale.map_or(Duration::from_secs(900), |sale| sale.hold_ttl.0),
        giving: scenario.gifts.map(|gifts| Giving {
            items: vec![String::new(); gifts.items as usize],
            lives: scenario.lives(),
            price: gifts.price,
            first_user: population + scenario.sale.map_or(0, |sale| sale.users()),
            users: gifts.users,
            seed: scenario.seed,
        }),
        gathering: scenario.group_buy.map(|group_buy| Gathering {
            items: vec![String::new(); 2 * group_buy.items as usize],
            lives: scenario.gatherings(),
            size: group_buy.size,
            price: group_buy.price,
            first_user: population
                + scenario.sale.map_or(0, |sale| sale.users())
                + scenario.gifts.map_or(0, |gifts| gifts.users),
            users: group_buy.users,
            seed: scenario.seed,
        }),
    }
}

/// Creates all of `world` on the server and fills in the ids, as far as it gets.
pub(crate) async fn create(target: &Arc<Target>, world: &mut World) -> Result<(), Failure> {
    let prefix = world.reference_prefix();
    let deposits = world.deposits();
    let tagged = prefix.clone();
    for_each(target, PATIENCE, deposits, async move |asker: &mut Asker, (user, amount): (String, u64)| {
        let reference = format!("{tagged}deposit-{user}");
        let body = json!({"amount": amount, "reference": reference});
        post(asker, &format!("/v1/wallets/{user}/deposits"), &reference, &body).await
    })
    .await?;

    let bodies = world.envelopes.iter().map(|envelope| envelope_body(world, envelope)).enumerate().collect();
    let ids = Rc::new(RefCell::new(vec![String::new(); world.envelopes.len()]));
    let created = create_all(target, "/v1/envelopes", &prefix, bodies, &ids).await;
    for (envelope, id) in world.envelopes.iter_mut().zip(ids.take()) {
        envelope.id = id;
    }
    created?;
    if world.items.is_empty() && world.giving.is_none() && world.gathering.is_none() {
        return Ok(());
    }
    let merchant = world.merchant();
    let body = json!({"id": merchant, "name": "Load test", "status": "verified"});
    let mut asker = Asker::new(Arc::clone(target), PATIENCE);
    post(&mut asker, "/v1/merchants", &format!("{prefix}merchant"), &body).await?;
    let ttl_s = world.hold_ttl.as_secs();
    let item = |price: u64, stock: u32, per_user_limit: Option<u32>| {
        json!({
            "merchant": merchant, "name": "99 roses", "category": "flowers", "price": price,
            "stock": stock, "per_user_limit": per_user_limit, "hold_ttl_s": ttl_s,
        })
    };
    let for_sale = world.items.iter().map(|it| item(it.price, it.stock, Some(1)));
    let to_give =
        world.giving.iter().flat_map(|giving| giving.items.iter().map(|_| item(giving.price, giving.stock(), None)));
    let to_groups = world.gathering.iter().flat_map(|gathering| {
        (0..gathering.items.len()).map(|nth| {
            let mut body = item(gathering.price, gathering.stock(), None);
            body["group_buy"] =
                json!({"size": gathering.size, "price": gathering.price, "within_s": gathering.within_s(nth)});
            body
        })
    });
    let items = for_sale.chain(to_give).chain(to_groups);
    let bodies: Vec<_> = items.enumerate().collect();
    let ids = Rc::new(RefCell::new(vec![String::new(); bodies.len()]));
    let created = create_all(target, "/v1/items", &prefix, bodies, &ids).await;
    let places = world.items.iter_mut().map(|item| &mut item.id);
    let places = places.chain(world.giving.iter_mut().flat_map(|giving| &mut giving.items));
    let places = places.chain(world.gathering.iter_mut().flat_map(|gathering| &mut gathering.items));
    for (place, id) in places.zip(ids.take()) {
        *place = id;
    }
    created
}

fn envelope_body(world: &World, envelope: &Envelope) -> serde_json::Value {
    // Every fourth that can be is split equally.
    let equal = envelope.total.is_multiple_of(u64::from(envelope.shares)) && envelope.first_user % 4 == 1;
    json!({
        "sender": world.sender(envelope.sender), "total": envelope.total, "shares": envelope.shares,
        "split": if equal { "equal" } else { "lucky" }, "message": "恭喜发财", "expires_in_s": 86_400,
        "claim_within_s": 86_400,
    })
}

async fn create_all(
    target: &Arc<Target>,
    path: &'static str,
    prefix: &str,
    bodies: Vec<(usize, serde_json::Value)>,
    ids: &Rc<RefCell<Vec<String>>>,
) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Created {
        id: String,
    }
    let (created, prefix) = (Rc::clone(ids), prefix.to_owned());
    for_each(target, PATIENCE, bodies, async move |asker: &mut Asker, (n, body): (usize, serde_json::Value)| {
        post(asker, path, &format!("{prefix}{n}"), &body).await?;
        let answer: Created = serde_json::from_slice(asker.body())
            .map_err(|error| format!("POST {path}: no id in the answer ({error}): {}", asker.text()))?;
        created.borrow_mut()[n] = answer.id;
        Ok::<_, Failure>(())
    })
    .await
}

async fn post(asker: &mut Asker, path: &str, key: &str, body: &serde_json::Value) -> Result<(), Failure> {
    let body = body.to_string();
    let request = Request { path, idempotency_key: Some(key), body: Some(body.as_bytes()) };
    match asker.ask(&request).await? {
        200 | 201 => Ok(()),
        401 | 403 => Err(Failure::Usage(format!(
            "POST {path}: {} (setting up needs a key with the role admin: --key or HONGBAO_KEY)",
            asker.text()
        ))),
        409 | 422 if asker.text().contains("idempotency_mismatch") || asker.text().contains("reference_conflict") => {
            let why = "another part of this run asked for something else: start all parts with the same scenario, \
                       options and --start-at";
            Err(Failure::Usage(format!("POST {path}: {why}: {}", asker.text())))
        }
        status => Err(Failure::Broken(format!("POST {path}: expected 201, got {status}: {}", asker.text()))),
    }
}

/// Shares and total of a small envelope, as people send them: mostly to a
/// handful of friends or a family, with numbers that bring luck.
fn small_envelope(rng: &mut SmallRng) -> (u32, u64) {
    const TOTALS: [u64; 14] = [100, 188, 520, 666, 888, 1000, 1314, 1800, 2000, 5000, 6600, 8800, 10_000, 20_000];
    let shares = match rng.random_range(0..100) {
        0..8 => 2,
        8..35 => rng.random_range(3..=5),
        35..68 => rng.random_range(6..=10),
        68..86 => rng.random_range(11..=20),
        86..96 => rng.random_range(21..=50),
        _ => rng.random_range(51..=100),
    };
    (shares, TOTALS[rng.random_range(0..TOTALS.len())])
}

/// The mean of [`small_envelope`]'s grabbers, for choosing how many to create.
pub(crate) const SMALL_ENVELOPE_USERS_MEAN: f64 = 16.0;

/// How many want a share of a small envelope: a few more than there are.
fn small_envelope_users(rng: &mut SmallRng, shares: u32) -> u32 {
    shares + 1 + rng.random_range(0..=shares.div_ceil(5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_envelopes_can_be_split() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut users = 0;
        for _ in 0..10_000 {
            let (shares, total) = small_envelope(&mut rng);
            assert!((2..=100).contains(&shares) && total >= u64::from(shares));
            let wanted = small_envelope_users(&mut rng, shares);
            assert!(wanted > shares);
            users += wanted;
        }
        let mean = f64::from(users) / 10_000.0;
        assert!((mean / SMALL_ENVELOPE_USERS_MEAN - 1.0).abs() < 0.15, "{mean}");
    }
}
