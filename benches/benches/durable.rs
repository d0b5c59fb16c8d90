//! Durable grabs by 10,000 callers, each waiting for its own, with projection
//! on, against the same engine without durability and a yield in place of the
//! wait. Then the same of items, in batches, and sustained.
//!
//! `cargo bench -p hongbao-benches --bench durable`, with `GRABS` a round,
//! `ROUNDS`, and `SUSTAINED_S` seconds of each sustained round.

use hongbao_benches::burst::{BATCHES, Burst, envelopes};
use hongbao_benches::{
    Goal, Pair, Unit, catch_up, decimal_users, directory, durable, each, figure, heading, is_new, median, setting,
};
use hongbao_engine::backend::Backend;
use hongbao_engine::command::Command;
use hongbao_engine::types::UserId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::watch;

const CALLERS: usize = 10_000;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

const SINGLE: Burst = Burst { callers: CALLERS, at_once: 1, yields: false };

/// What a sustained round showed.
struct Sustained {
    ns: f64,
    lag_first: usize,
    lag_last: usize,
    /// Records in the store, over records acknowledged, in the measured time.
    projected: f64,
}

/// The store's lag is kept around so much: callers pause above it and go on
/// below half of it.
const LAG_BYTES: usize = 8 << 20;

/// Grabs by as many callers as a burst's, for as long as `lasts`, but held back
/// so that the store's lag does not grow. Measured from when the lag is first
/// where it is kept, so that what is acknowledged is also projected.
fn sustained(runtime: &Runtime, users: &Arc<Vec<UserId>>, lasts: Duration) -> Sustained {
    let directory = directory();
    let engine = Arc::new(durable(directory.path()));
    // When all have grabbed from one envelope they go on to the next. Room for
    // a million grabs a second, and half as many again.
    let grabs_max = lasts.as_secs() as usize * 1_500_000;
    let ids = runtime.block_on(envelopes(&engine, users.len(), grabs_max.div_ceil(users.len())));
    catch_up(&engine);
    let next = Arc::new(AtomicUsize::new(0));
    let answered = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let (open, gate) = watch::channel(true);
    let paused = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (engine, ids, users, next) =
                (Arc::clone(&engine), Arc::clone(&ids), Arc::clone(users), Arc::clone(&next));
            let (answered, stop, paused) = (Arc::clone(&answered), Arc::clone(&stop), Arc::clone(&paused));
            let mut gate = gate.clone();
            runtime.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    if paused.load(Ordering::Relaxed) {
                        gate.wait_for(|open| *open).await.expect("the gate outlives the callers");
                    }
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let envelope = *ids.get(number / users.len()).expect("a round has room for 1.5 M grabs a second");
                    let user = users[number % users.len()].clone();
                    let reply = engine.execute(Command::Grab { envelope, user }, None).await.expect("it is decided");
                    assert!(is_new(&reply.outcome), "every user of the bench wins once an envelope");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let projector = engine.projector().expect("a durable engine projects");
    let keep_lag = || {
        std::thread::sleep(Duration::from_millis(1));
        let lag = projector.lag_bytes();
        let pause = lag > if paused.load(Ordering::Relaxed) { LAG_BYTES / 2 } else { LAG_BYTES };
        if paused.swap(pause, Ordering::Relaxed) != pause {
            open.send_replace(!pause);
        }
        lag
    };
    // A store that keeps up never lags so much.
    let began = Instant::now();
    while keep_lag() < LAG_BYTES && began.elapsed() < lasts / 4 {}
    let (start, before, lag_first) = (Instant::now(), answered.load(Ordering::Relaxed), projector.lag_bytes());
    let applied_before = projector.applied_lsn().0;
    while start.elapsed() < lasts {
        keep_lag();
    }
    let (elapsed, acknowledged) = (start.elapsed(), answered.load(Ordering::Relaxed) - before);
    let (lag_last, projected) = (projector.lag_bytes(), (projector.applied_lsn().0 - applied_before) as usize);
    stop.store(true, Ordering::Relaxed);
    paused.store(false, Ordering::Relaxed);
    open.send_replace(true);
    runtime.block_on(async {
        for caller in callers {
            caller.await.expect("a caller does not panic");
        }
    });
    engine.close().expect("the engine closes");
    // What is not both acknowledged and projected is not sustained.
    let ns = each(elapsed, acknowledged.min(projected));
    Sustained { ns, lag_first, lag_last, projected: projected as f64 / acknowledged as f64 }
}

fn main() {
    heading();
    let runtime = runtime();
    let count: usize = setting("GRABS", 1_000_000);
    let rounds = setting("ROUNDS", 5);
    let users = Arc::new(decimal_users(count as u64));
    let single = || SINGLE.round(&runtime, &users, false);
    let volatile = Burst { yields: true, ..SINGLE };
    Pair::measure(rounds, single, || volatile.round(&runtime, &users, false)).row(
        "durable grab, 10,000 callers, burst",
        "the same without durability, a yield for the wait",
        Unit::Time,
        Goal::Rate { at_least: 0.5, aim: 0.8 },
    );
    Pair::measure(rounds, || SINGLE.round(&runtime, &users, true), single).row(
        "durable item grab, 10,000 callers, burst",
        "durable grab",
        Unit::Time,
        Goal::Rate { at_least: 0.8, aim: 1.0 },
    );
    Pair::measure(rounds, || BATCHES.round(&runtime, &users, false), single).row(
        "durable grab, 64 callers with batches of 256, burst",
        "durable grab, 10,000 callers, burst",
        Unit::Time,
        Goal::ReportRate,
    );
    let lasts = Duration::from_secs(setting("SUSTAINED_S", 20));
    let mut seen = Vec::new();
    let ours = || {
        seen.push(sustained(&runtime, &users, lasts));
        seen[seen.len() - 1].ns
    };
    Pair::measure(rounds.min(3), ours, single).row(
        &format!("durable grab, 10,000 callers, sustained for {} s without growth of the store's lag", lasts.as_secs()),
        "burst",
        Unit::Time,
        Goal::RateAim(0.3),
    );
    let of = |value: fn(&Sustained) -> f64| median(&seen.iter().map(value).collect::<Vec<_>>());
    figure(
        "sustained: lag of the store, at first and at last; projected over acknowledged",
        &format!(
            "{:.1} MB, {:.1} MB; {:.3}",
            of(|seen| seen.lag_first as f64) / 1e6,
            of(|seen| seen.lag_last as f64) / 1e6,
            of(|seen| seen.projected)
        ),
        "the row above counts the lesser of both",
        None,
        seen.len(),
    );
}
