//! Real money: never without being told to, never more than the budget, and
//! taken back after the run.
//!
//! **Invariant:** on a server that is not in test mode nothing is deposited
//! before the whole sum is known to be within the budget; whatever is not taken
//! back is told, to the last unit.

use crate::asker::{Asker, for_each};
use crate::client::{Request, Target};
use crate::facts::{Facts, HoldState, ShareFact};
use crate::failure::Failure;
use crate::gifts::{Life, Step, StepRequest};
use crate::group_buy::GroupLife;
use crate::world::World;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// What became of the money. Minor units.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct MoneySummary {
    /// Whether the server said that it is in test mode.
    pub(crate) test_mode: bool,
    /// What `--budget` allowed; none in test mode.
    pub(crate) budget: Option<u64>,
    pub(crate) deposited: u64,
    /// Taken back after the run; in test mode nothing is.
    pub(crate) refunded: u64,
    /// What every reference of the run begins with.
    pub(crate) reference_prefix: String,
}

/// Whether the run may deposit what it needs.
///
/// # Errors
/// What to say on the command line so that it may.
pub(crate) fn allow(
    world: &World,
    test_mode: bool,
    allow_live: bool,
    budget: Option<u64>,
) -> Result<MoneySummary, Failure> {
    let needed: u64 = world.deposits().iter().map(|(_, amount)| amount).sum();
    let reference_prefix = world.reference_prefix();
    if test_mode {
        return Ok(MoneySummary { test_mode, budget: None, deposited: needed, refunded: 0, reference_prefix });
    }
    let Some(budget) = budget.filter(|_| allow_live) else {
        return Err(Failure::Usage(format!(
            "the server is not in test mode (`hongbao serve --test`), so its money is real, and this run deposits \
             {needed} minor units; if that is meant, say --allow-live --budget {needed}: they are taken back at the end"
        )));
    };
    if needed > budget {
        return Err(Failure::Usage(format!(
            "this run deposits {needed} minor units and --budget is {budget}; choose fewer --shares, --envelopes or \
             --stock, or a larger --budget"
        )));
    }
    if !world.part.is_whole() {
        return Err(Failure::Usage(
            "--part: with real money a run has one part, as nobody else can know when to take it back; drop --part"
                .to_owned(),
        ));
    }
    Ok(MoneySummary { test_mode, budget: Some(budget), deposited: needed, refunded: 0, reference_prefix })
}

#[derive(Default)]
struct Returned {
    amount: u64,
    failures: Vec<String>,
}

type Shared = Rc<RefCell<Returned>>;

/// Takes back what was deposited: holds are released, won shares claimed,
/// envelopes cancelled, wallets emptied. Returns how much, and why anything stays.
/// Must run inside a `LocalSet`.
pub(crate) async fn take_back(target: &Arc<Target>, world: &Arc<World>, facts: &Facts) -> (u64, Vec<String>) {
    let returned = Shared::default();
    let prefix = world.reference_prefix();
    let mut settled: Vec<(String, Option<String>, String)> = Vec::new();
    for ((_, user), hold) in &facts.holds {
        if matches!(hold.state, HoldState::Held | HoldState::ReleaseUnknown) {
            settled.push((format!("/v1/holds/{}/release", hold.id), None, user_body(world, *user)));
        }
    }
    // Who has won keeps the share whatever becomes of the envelope, so it is claimed first.
    for ((envelope, user), fact) in &facts.shares {
        if matches!(fact, ShareFact::Won { .. }) {
            let id = &world.envelopes[*envelope as usize].id;
            settled.push((format!("/v1/envelopes/{id}/claim"), None, user_body(world, *user)));
        }
    }
    if let Some(giving) = &world.giving {
        for (life, known) in facts.gifts.iter().filter(|(_, known)| !known.id.is_empty()) {
            if matches!(Life::of(world, giving, *life).end(known.done), "awaiting_payment" | "offered") {
                let mut request = StepRequest::default();
                request.compose(world, giving, *life, Step::Cancel, &known.id);
                settled.push((request.path, Some(request.key), request.body));
            }
        }
    }
    if let Some(gathering) = &world.gathering {
        for (life, known) in facts.gatherings.iter().filter(|(_, known)| !known.id.is_empty()) {
            if GroupLife::of(world, gathering, *life).end(known.done) == "open" {
                let leader = gathering.person(*life, 0);
                settled.push((format!("/v1/groups/{}/leave", known.id), None, user_body(world, leader)));
            }
        }
    }
    send(target, &returned, settled).await;
    let created = world.envelopes.iter().filter(|envelope| !envelope.id.is_empty());
    let cancelled = created.map(|envelope| {
        let id = &envelope.id;
        (format!("/v1/envelopes/{id}/cancel"), Some(format!("{prefix}cancel-{id}")), "{}".to_owned())
    });
    send(target, &returned, cancelled.collect()).await;
    empty_wallets(target, &returned, world, facts).await;
    let Returned { amount, failures } = returned.take();
    (amount, failures)
}

fn user_body(world: &World, user: u32) -> String {
    json!({"user": world.user(user)}).to_string()
}

/// Asks each; 409 is an envelope or hold that has ended, which is as good.
async fn send(target: &Arc<Target>, returned: &Shared, jobs: Vec<(String, Option<String>, String)>) {
    let told = Rc::clone(returned);
    let sent = for_each(
        target,
        PATIENCE,
        jobs,
        async move |asker: &mut Asker, (path, key, body): (String, Option<String>, String)| {
            let request = Request { path: &path, idempotency_key: key.as_deref(), body: Some(body.as_bytes()) };
            match asker.ask(&request).await? {
                200 | 409 => {}
                status => told.borrow_mut().failures.push(format!("POST {path}: got {status}: {}", asker.text())),
            }
            Ok::<_, String>(())
        },
    );
    if let Err(why) = sent.await {
        returned.borrow_mut().failures.push(why);
    }
}

async fn empty_wallets(target: &Arc<Target>, returned: &Shared, world: &World, facts: &Facts) {
    #[derive(Deserialize)]
    struct Wallet {
        available: u64,
    }
    let mut owners: HashSet<String> = world.deposits().into_iter().map(|(owner, _)| owner).collect();
    owners.extend(facts.shares.keys().map(|(_, user)| world.user(*user)));
    let prefix = world.reference_prefix();
    let told = Rc::clone(returned);
    let emptied = for_each(target, PATIENCE, owners, async move |asker: &mut Asker, owner: String| {
        let path = format!("/v1/wallets/{owner}");
        let status = asker.ask(&Request { path: &path, idempotency_key: None, body: None }).await?;
        let wallet = serde_json::from_slice::<Wallet>(asker.body());
        let Ok(Wallet { available }) = wallet else {
            told.borrow_mut().failures.push(format!("GET {path}: got {status}: {}", asker.text()));
            return Ok(());
        };
        if available == 0 {
            return Ok(());
        }
        let (path, reference) = (format!("{path}/withdrawals"), format!("{prefix}refund-{owner}"));
        let body = json!({"amount": available, "reference": reference}).to_string();
        let request = Request { path: &path, idempotency_key: Some(&reference), body: Some(body.as_bytes()) };
        match asker.ask(&request).await? {
            200 | 201 => told.borrow_mut().amount += available,
            status => told.borrow_mut().failures.push(format!("POST {path}: got {status}: {}", asker.text())),
        }
        Ok::<_, String>(())
    });
    if let Err(why) = emptied.await {
        returned.borrow_mut().failures.push(why);
    }
}
