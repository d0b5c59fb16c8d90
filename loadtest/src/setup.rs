//! Creates what a run needs: money, envelopes, a merchant and its item.
//!
//! **Invariant:** every name and key carries the run's tag, so that what the
//! audit finds can only come from this run; money deposited is exactly what is
//! needed, so that every expected balance is known.

use crate::asker::{Asker, for_each};
use crate::client::{Request, Target};
use crate::failure::Failure;
use crate::scenario::{
    Envelope, Item, SMALL_ENVELOPE_USERS_MEAN, Scenario, World, small_envelope, small_envelope_users,
};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use serde_json::json;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const PATIENCE: Duration = Duration::from_secs(30);
/// Money is paid in by a few senders, so that no single wallet is in the way.
const SENDERS: u32 = 16;
/// The mass envelope holds five yuan a share on average.
const MASS_FEN_PER_SHARE: u64 = 500;
/// A small envelope's users are different people: up to 121.
pub(crate) const USERS_MIN_OF_GROUPS: u32 = 121;
const PRICE_FEN: u64 = 29_900;

/// How large the scenario is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) scenario: Scenario,
    pub(crate) seed: u64,
    /// Requests of the whole run, for choosing what is not given.
    pub(crate) arrivals: f64,
    pub(crate) users: Option<u32>,
    pub(crate) shares: u32,
    pub(crate) envelopes: Option<u32>,
    pub(crate) stock: u32,
    pub(crate) hold_ttl: Duration,
}

impl Size {
    /// The users that want a unit: a hundred for each.
    pub(crate) fn flash_users(&self) -> u32 {
        self.stock.saturating_mul(100)
    }

    fn envelopes(&self) -> u32 {
        let part = if self.scenario == Scenario::Mixed { 0.25 } else { 1.0 };
        let wanted = self.arrivals * part / SMALL_ENVELOPE_USERS_MEAN;
        self.envelopes.unwrap_or((wanted as u32).clamp(100, 50_000))
    }

    fn population(&self) -> u32 {
        let wanted = if self.scenario.has_hot() { self.shares + self.shares.div_ceil(2) } else { 100_000 };
        let least = if self.scenario.has_groups() { USERS_MIN_OF_GROUPS } else { 1 };
        self.users.unwrap_or(wanted).max(least)
    }
}

/// What the run will create, before it is created: ids are empty.
pub(crate) fn plan(size: &Size) -> World {
    let mut rng = SmallRng::seed_from_u64(size.seed);
    let population = size.population();
    let mut envelopes = Vec::new();
    if size.scenario.has_hot() {
        envelopes.push(Envelope {
            id: String::new(),
            sender: 0,
            total: u64::from(size.shares) * MASS_FEN_PER_SHARE,
            shares: size.shares,
            first_user: 0,
            users: population,
        });
    }
    if size.scenario.has_groups() {
        for _ in 0..size.envelopes() {
            let (shares, total) = small_envelope(&mut rng);
            envelopes.push(Envelope {
                id: String::new(),
                sender: rng.random_range(0..SENDERS),
                total,
                shares,
                first_user: rng.random_range(0..population),
                users: small_envelope_users(&mut rng, shares),
            });
        }
    }
    let items = if size.scenario.has_flash() {
        let (stock, users) = (size.stock, size.flash_users());
        vec![Item { id: String::new(), stock, price: PRICE_FEN, first_user: population, users }]
    } else {
        Vec::new()
    };
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    World {
        tag: format!("{:x}", since_epoch.as_millis()),
        population,
        has_mass: size.scenario.has_hot(),
        envelopes,
        items,
        senders: SENDERS,
        hold_ttl: size.hold_ttl,
    }
}

/// Creates all of `world` on the server and fills in the ids.
pub(crate) async fn create(target: &Arc<Target>, mut world: World) -> Result<World, Failure> {
    let mut needed = vec![0_u64; world.senders as usize];
    for envelope in &world.envelopes {
        needed[envelope.sender as usize] += envelope.total;
    }
    let mut deposits: Vec<(String, u64)> = (0..world.senders)
        .zip(needed)
        .filter(|(_, amount)| *amount > 0)
        .map(|(sender, amount)| (world.sender(sender), amount))
        .collect();
    for item in &world.items {
        let users = item.first_user..item.first_user + item.users;
        deposits.extend(users.map(|user| (world.user(user), item.price)));
    }
    for_each(target, PATIENCE, deposits, async |asker: &mut Asker, (user, amount): (String, u64)| {
        let reference = format!("load-{user}");
        let body = json!({"amount": amount, "reference": reference});
        post(asker, &format!("/v1/wallets/{user}/deposits"), &reference, &body).await
    })
    .await?;

    let tag = world.tag.clone();
    let bodies: Vec<(usize, serde_json::Value)> =
        world.envelopes.iter().map(|envelope| envelope_body(&world, envelope)).enumerate().collect();
    let ids = create_all(target, "/v1/envelopes", &tag, bodies).await?;
    for (envelope, id) in world.envelopes.iter_mut().zip(ids) {
        envelope.id = id;
    }

    if !world.items.is_empty() {
        let merchant = format!("m{tag}");
        let body = json!({"id": merchant, "name": "Load test", "status": "verified"});
        post(&mut Asker::new(Arc::clone(target), PATIENCE), "/v1/merchants", &merchant, &body).await?;
        let ttl_s = world.hold_ttl.as_secs();
        let items = world.items.iter().map(|item| {
            json!({
                "merchant": merchant, "name": "99 roses", "category": "flowers", "price": item.price,
                "stock": item.stock, "per_user_limit": 1, "hold_ttl_s": ttl_s,
            })
        });
        let ids = create_all(target, "/v1/items", &tag, items.enumerate().collect()).await?;
        for (item, id) in world.items.iter_mut().zip(ids) {
            item.id = id;
        }
    }
    Ok(world)
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
    tag: &str,
    bodies: Vec<(usize, serde_json::Value)>,
) -> Result<Vec<String>, Failure> {
    #[derive(Deserialize)]
    struct Created {
        id: String,
    }
    let ids = Rc::new(RefCell::new(vec![String::new(); bodies.len()]));
    let (created, tag) = (Rc::clone(&ids), tag.to_owned());
    for_each(target, PATIENCE, bodies, async move |asker: &mut Asker, (n, body): (usize, serde_json::Value)| {
        post(asker, path, &format!("load-{tag}-{n}"), &body).await?;
        let answer: Created = serde_json::from_slice(asker.body())
            .map_err(|error| format!("POST {path}: no id in the answer ({error}): {}", asker.text()))?;
        created.borrow_mut()[n] = answer.id;
        Ok::<_, Failure>(())
    })
    .await?;
    Ok(ids.take())
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
        status => Err(Failure::Broken(format!("POST {path}: expected 201, got {status}: {}", asker.text()))),
    }
}
