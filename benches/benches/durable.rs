//! Durable grabs by 10,000 callers, each waiting for its own, with projection
//! on, against the same engine without durability and a yield in place of the
//! wait. Then the same in batches, of items, and sustained.

use hongbao_benches::{Pair, create, decimal_users, fund};
use hongbao_engine::backend::Backend;
use hongbao_engine::command::{Command, Merchant, MerchantStatus, NewItem, Outcome};
use hongbao_engine::memory::{Embedded, EmbeddedOptions};
use hongbao_engine::types::{Amount, EnvelopeId, ItemId, UserId};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const CALLERS: usize = 10_000;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// On the disk of the build directory, which is not a memory file system.
fn directory() -> tempfile::TempDir {
    let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target");
    tempfile::tempdir_in(target).expect("a directory can be made beside the build's")
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn volatile() -> Embedded {
    Embedded::volatile(&EmbeddedOptions::default())
}

fn durable(directory: &tempfile::TempDir) -> Embedded {
    Embedded::open(directory.path(), EmbeddedOptions::default()).expect("an engine opens in a fresh directory").0
}

/// What is grabbed, by whose number.
#[derive(Clone)]
enum Goods {
    Envelopes(Arc<Vec<EnvelopeId>>),
    Item(ItemId),
}

impl Goods {
    fn command(&self, number: usize, user: &UserId) -> Command {
        match self {
            Goods::Envelopes(ids) => Command::Grab { envelope: ids[number % ids.len()], user: user.clone() },
            Goods::Item(item) => Command::GrabItem { item: *item, user: user.clone(), quantity: 1 },
        }
    }
}

/// Every user grabs once; `CALLERS` callers take the next user each when the
/// answer to their last is there. `yields` stands for the wait where there is none.
fn burst(runtime: &Runtime, engine: &Arc<Embedded>, goods: &Goods, users: &Arc<Vec<UserId>>, yields: bool) -> Duration {
    runtime.block_on(async {
        let next = Arc::new(AtomicUsize::new(0));
        let won = Arc::new(AtomicUsize::new(0));
        let start = Instant::now();
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (engine, goods, users) = (Arc::clone(engine), goods.clone(), Arc::clone(users));
                let (next, won) = (Arc::clone(&next), Arc::clone(&won));
                tokio::spawn(async move {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(user) = users.get(number) else { return };
                        let reply = engine.execute(goods.command(number, user), None).await.expect("it is decided");
                        if yields {
                            tokio::task::yield_now().await;
                        }
                        let new = matches!(
                            reply.outcome,
                            Outcome::Won { replayed: false, .. } | Outcome::Held { replayed: false, .. }
                        );
                        won.fetch_add(usize::from(new), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.expect("a caller does not panic");
        }
        let elapsed = start.elapsed();
        assert_eq!(won.load(Ordering::Relaxed), users.len(), "every user of the bench wins once");
        elapsed
    })
}

async fn envelopes(engine: &Embedded, users: usize, count: usize) -> Goods {
    let sender = UserId::new("sender").expect("a user");
    fund(engine, &sender).await;
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(create(engine, &sender, users.div_ceil(count) as u32).await);
    }
    Goods::Envelopes(Arc::new(ids))
}

async fn item(engine: &Embedded, users: usize) -> Goods {
    let id = UserId::new("rosy").expect("a merchant");
    let merchant = Merchant { id: id.clone(), name: "Rosy".to_owned(), status: MerchantStatus::Verified };
    engine.execute(Command::PutMerchant(Box::new(merchant)), None).await.expect("a merchant is made");
    let terms = NewItem {
        merchant: id,
        name: "99 roses".to_owned(),
        category: "flowers".to_owned(),
        price: Amount::new(29_900).expect("it fits"),
        stock: users as u32,
        per_user_limit: Some(1),
        starts_at: None,
        ends_at: None,
        hold_ttl_s: 900,
        image_url: None,
    };
    match engine.execute(Command::CreateItem(Box::new(terms)), None).await.expect("an item is made").outcome {
        Outcome::Item(view) => Goods::Item(view.id),
        other => panic!("an item was to be made, not {other:?}"),
    }
}

/// One burst on a fresh engine.
fn round(runtime: &Runtime, users: &Arc<Vec<UserId>>, is_durable: bool, is_item: bool) -> Duration {
    let directory = directory();
    let engine = Arc::new(if is_durable { durable(&directory) } else { volatile() });
    let goods = runtime.block_on(async {
        if is_item { item(&engine, users.len()).await } else { envelopes(&engine, users.len(), 1).await }
    });
    let elapsed = burst(runtime, &engine, &goods, users, !is_durable);
    engine.close().expect("the engine closes");
    elapsed
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Grabs for `seconds` with the store keeping up: the projection's lag is no
/// longer at the end than a burst's.
fn sustained(runtime: &Runtime, users: &Arc<Vec<UserId>>) {
    let directory = directory();
    let engine = Arc::new(durable(&directory));
    let goods = runtime.block_on(envelopes(&engine, users.len(), 4));
    let start = Instant::now();
    burst(runtime, &engine, &goods, users, false);
    let acknowledged = start.elapsed();
    let lag = engine.stats().lag_records;
    while engine.stats().lag_records > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let projected = start.elapsed();
    println!(
        "durable grabs with the store: {:.0}/s acknowledged, lag {lag} records at the end; {:.0}/s sustained (all projected)",
        users.len() as f64 / acknowledged.as_secs_f64(),
        users.len() as f64 / projected.as_secs_f64(),
    );
    println!("journal: {:?}", engine.stats().journal);
    engine.close().expect("the engine closes");
}

fn main() {
    let runtime = runtime();
    let count = number("GRABS", 1_000_000);
    let rounds = number("ROUNDS", 5);
    let users = Arc::new(decimal_users(count as u64));
    Pair::measure(rounds, || round(&runtime, &users, true, false), || round(&runtime, &users, false, false)).report(
        "durable grab, 10,000 callers, burst",
        "volatile with a yield",
        count as u64,
    );
    Pair::measure(rounds, || round(&runtime, &users, true, true), || round(&runtime, &users, true, false)).report(
        "durable item grab, 10,000 callers",
        "durable envelope grab",
        count as u64,
    );
    sustained(&runtime, &users);
}
