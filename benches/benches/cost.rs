//! What a grab costs as users and envelopes become many, against what it costs
//! when they are few: time with and without durability, and bytes of journal.
//!
//! `cargo bench -p hongbao-benches --bench cost`, with `ROUNDS` and `MOST` users.

use hongbao_benches::{
    Goal, Pair, Unit, catch_up, counted, create_many, decimal_users, directory, durable, each, fund, grab_all, grab_of,
    heading, is_new, sender, setting, terms,
};
use hongbao_engine::backend::Backend;
use hongbao_engine::types::UserId;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const FEW: usize = 10_000;
/// So many times a round, that the small end is not all cold start.
const FEW_TIMES: usize = 20;
const GOAL: Goal = Goal::Flat { at_most: 4.0 };

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What one durable grab took.
#[derive(Clone, Copy)]
struct Cost {
    ns: f64,
    bytes: f64,
}

/// So many users, on so many envelopes, and again on others, `times` over.
struct Shape {
    users: Arc<Vec<UserId>>,
    envelopes: usize,
    times: usize,
}

/// Grabs of all users, durable, on a fresh engine, by 64 callers in batches of
/// 256, so that the disk's latency is shared by many. The bytes are all that
/// was written to the journal, lengths, headers and padding included.
fn durably(shape: &Shape) -> Cost {
    const CALLERS: usize = 64;
    const AT_ONCE: usize = 256;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let directory = directory();
    let engine = Arc::new(durable(directory.path()));
    let sender = sender();
    let shares = shape.users.len().div_ceil(shape.envelopes) as u32;
    let ids = Arc::new(runtime.block_on(async {
        fund(&*engine, &sender).await;
        create_many(&engine, &terms(&sender, shares), shape.envelopes * shape.times).await
    }));
    catch_up(&engine);
    let before = engine.stats().journal.expect("a durable engine has a journal");
    let count = shape.users.len() * shape.times;
    let envelopes = shape.envelopes;
    let next = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (engine, users, ids, next) =
                (Arc::clone(&engine), Arc::clone(&shape.users), Arc::clone(&ids), Arc::clone(&next));
            runtime.spawn(async move {
                loop {
                    let number = next.fetch_add(AT_ONCE, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let command = |number: usize| {
                        let (time, number) = (number / users.len(), number % users.len());
                        grab_of(&ids[time * envelopes..][..envelopes], number, &users[number])
                    };
                    let commands = (number..count.min(number + AT_ONCE)).map(command).collect();
                    for reply in engine.execute_all(commands).await {
                        assert!(is_new(&reply.expect("a grab is decided").outcome), "every user wins once");
                    }
                }
            })
        })
        .collect();
    runtime.block_on(async {
        for caller in callers {
            caller.await.expect("a caller does not panic");
        }
    });
    let elapsed = start.elapsed();
    let after = counted(&engine, before.records + count as u64);
    Cost { ns: each(elapsed, count), bytes: (after.bytes - before.bytes) as f64 / count as f64 }
}

/// The few, so often that a round takes as long as one of the many's lower end.
fn few_volatile(few: &[UserId]) -> f64 {
    (0..FEW_TIMES).map(|_| each(grab_all(few, 1), few.len())).sum::<f64>() / FEW_TIMES as f64
}

fn main() {
    heading();
    let rounds: usize = setting("ROUNDS", 3);
    let most: usize = setting("MOST", 10_000_000);
    let few = Arc::new(decimal_users(FEW as u64));
    let small_end = "10000 users on 1 envelope";
    for count in [100_000, 1_000_000, 10_000_000].into_iter().filter(|&count| count <= most) {
        let many = Arc::new(decimal_users(count as u64));
        let small = Shape { users: Arc::clone(&few), envelopes: 1, times: FEW_TIMES };
        let shapes: &[usize] = if count == most { &[1, count / 10_000, count / 10] } else { &[1] };
        for &envelopes in shapes {
            let shape = format!("{count} users on {}", hongbao_benches::envelopes(envelopes));
            Pair::measure(rounds, || each(grab_all(&many, envelopes), count), || few_volatile(&few)).row(
                &format!("cost of a grab, durability off, {shape}"),
                small_end,
                Unit::Time,
                GOAL,
            );
        }
        for &envelopes in shapes.iter().filter(|&&envelopes| envelopes == 1 || envelopes == count / 10) {
            let shape = format!("{count} users on {}", hongbao_benches::envelopes(envelopes));
            let large = Shape { users: Arc::clone(&many), envelopes, times: 1 };
            let (mut ours, mut baseline) = (Vec::new(), Vec::new());
            Pair::measure(
                rounds,
                || {
                    ours.push(durably(&large));
                    0.0
                },
                || {
                    baseline.push(durably(&small));
                    0.0
                },
            );
            let pair = |of: fn(&Cost) -> f64| Pair {
                ours: ours.iter().map(of).collect(),
                baseline: baseline.iter().map(of).collect(),
            };
            pair(|cost| cost.ns).row(&format!("cost of a durable grab, {shape}"), small_end, Unit::Time, GOAL);
            pair(|cost| cost.bytes).row(&format!("journal of a grab, {shape}"), small_end, Unit::Bytes, GOAL);
        }
    }
}
