//! What the feed costs those who decide: durable grabs while the journal is kept
//! for events, and while somebody follows them, against neither; and how fast
//! events are read.
//!
//! `cargo bench -p hongbao-benches --bench events`, with `GRABS` a round and `ROUNDS`.

use hongbao_benches::{
    Goal, Pair, Unit, catch_up, create_many, decimal_users, directory, each, figure, fund, grab_of, heading, is_new,
    median, sender, setting, settle, show_rate, terms,
};
use hongbao_engine::backend::Backend;
use hongbao_engine::feed::{After, EventQuery, EventType, EventTypes};
use hongbao_engine::journal::JournalOptions;
use hongbao_engine::memory::{Embedded, EmbeddedOptions};
use hongbao_engine::types::UserId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const CALLERS: usize = 10_000;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn open(directory: &std::path::Path, kept_bytes_max: u64) -> Embedded {
    let journal = JournalOptions { kept_bytes_max, ..JournalOptions::default() };
    let options = EmbeddedOptions { journal, ..EmbeddedOptions::default() };
    Embedded::open(directory, options).expect("an engine opens in a fresh directory").0
}

/// Follows events of these types as the server does, until told to stop; says how many came.
async fn follow(engine: Arc<Embedded>, types: EventTypes, stop: Arc<AtomicBool>) -> usize {
    let mut query = EventQuery { after: After::Now, types, owner: None, limit: 1000, until: None };
    let (mut told, mut mark) = (0, 0);
    loop {
        let page = engine.events(&query).await.expect("the feed is read");
        told += page.events.len();
        query.after = After::Cursor(page.next);
        if !page.is_end {
            tokio::task::yield_now().await;
        } else if stop.load(Ordering::Relaxed) {
            return told;
        } else {
            mark = engine.more_events(mark).await.expect("the journal goes on");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// One burst of single grabs on a fresh engine, in nanoseconds a grab.
fn round(runtime: &Runtime, users: &Arc<Vec<UserId>>, kept_bytes_max: u64, followed: Option<EventTypes>) -> f64 {
    let directory = directory();
    let engine = Arc::new(open(directory.path(), kept_bytes_max));
    let ids = runtime.block_on(async {
        let sender = sender();
        fund(&*engine, &sender).await;
        Arc::new(create_many(&engine, &terms(&sender, users.len() as u32), 1).await)
    });
    settle();
    let stop = Arc::new(AtomicBool::new(false));
    let follower = followed.map(|types| runtime.spawn(follow(Arc::clone(&engine), types, Arc::clone(&stop))));
    let elapsed = runtime.block_on(async {
        let next = Arc::new(AtomicUsize::new(0));
        let start = Instant::now();
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (engine, ids, users, next) = (engine.clone(), ids.clone(), users.clone(), next.clone());
                tokio::spawn(async move {
                    let mut won = 0;
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(user) = users.get(number) else { return won };
                        let reply = engine.execute(grab_of(&ids, number, user), None).await.expect("it is decided");
                        won += usize::from(is_new(&reply.outcome));
                    }
                })
            })
            .collect();
        let mut won = 0;
        for caller in callers {
            won += caller.await.expect("a caller does not panic");
        }
        assert_eq!(won, users.len(), "every user of the bench wins once");
        start.elapsed()
    });
    stop.store(true, Ordering::Relaxed);
    if let Some(follower) = follower {
        runtime.block_on(fund(&*engine, &sender()));
        let told = runtime.block_on(follower).expect("it does not panic");
        let grabs = followed.is_some_and(|types| types.has(EventType::ShareGrabbed));
        assert!(!grabs || told >= users.len(), "the follower is told all of them");
    }
    engine.close().expect("the engine closes");
    each(elapsed, users.len())
}

/// Reads everything that is kept, in nanoseconds a record.
fn read(runtime: &Runtime, engine: &Embedded, types: EventTypes, records: usize) -> f64 {
    let start = Instant::now();
    runtime.block_on(async {
        let mut query = EventQuery { after: After::Oldest, types, owner: None, limit: 1000, until: None };
        loop {
            let page = engine.events(&query).await.expect("the feed is read");
            if page.is_end {
                return;
            }
            query.after = After::Cursor(page.next);
        }
    });
    each(start.elapsed(), records)
}

fn main() {
    let (grabs, rounds) = (setting("GRABS", 3_000_000), setting("ROUNDS", 5));
    let users = Arc::new(decimal_users(grabs));
    let runtime = runtime();
    const KEPT: u64 = 1 << 30;
    let grabbed = EventTypes::of(EventType::ShareGrabbed);
    heading();
    let neither = || round(&runtime, &users, 0, None);
    let rows = [
        ("events kept", None),
        ("events kept, one follows all but grabs", Some(EventTypes::USUAL)),
        ("events kept, one follows grabs", Some(grabbed)),
    ];
    for (what, followed) in rows {
        Pair::measure(rounds, || round(&runtime, &users, KEPT, followed), neither).row(
            &format!("durable grab, 10,000 callers, burst, {what}"),
            "nothing kept, nobody follows",
            Unit::Time,
            Goal::ReportRate,
        );
    }
    let directory = directory();
    let engine = open(directory.path(), KEPT);
    runtime.block_on(async {
        let sender = sender();
        fund(&engine, &sender).await;
        let ids = create_many(&engine, &terms(&sender, users.len() as u32), 1).await;
        for (first, some) in users.chunks(4096).enumerate() {
            let commands = some.iter().zip(first * 4096..).map(|(user, number)| grab_of(&ids, number, user));
            engine.execute_all(commands.collect()).await.into_iter().for_each(|reply| drop(reply.expect("decided")));
            if first % 64 == 0 {
                catch_up(&engine);
            }
        }
    });
    settle();
    for (what, types) in [("passing over grabs", EventTypes::USUAL), ("telling grabs", grabbed)] {
        let took: Vec<_> = (0..rounds).map(|_| read(&runtime, &engine, types, users.len())).collect();
        let ns = median(&took);
        figure(&format!("records read for events, {what}"), &show_rate(1e9 / ns), "", None, rounds);
    }
    engine.close().expect("the engine closes");
}
