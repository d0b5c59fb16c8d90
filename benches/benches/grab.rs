//! One grab in the engine, durability off, one thread, against a bare insert
//! into a pre-reserved map: the same users, hasher and number of entries. And
//! the memory a winner takes.
//!
//! `cargo bench -p hongbao-benches --bench grab`, with `ROUNDS` and `MOST` users.

use hashbrown::HashMap;
use hongbao_benches::{
    Goal, Pair, Unit, create, decimal_users, each, figure, fund, grab_all, grab_batches, grab_each, heading, now,
    resident_bytes, sender, setting, text_users, volatile,
};
use hongbao_engine::types::{EnvelopeId, UserId};
use std::time::{Duration, Instant};

type Hasher = foldhash::fast::RandomState;

/// Grabs in a call.
const BATCH: usize = 256;
const IN_BATCHES: Goal = Goal::Times { at_most: 2.5, aim: 1.0 };
const GOAL: Goal = Goal::Times { at_most: 2.5, aim: 1.5 };

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn bare_one(users: &[UserId]) -> Duration {
    let mut map: HashMap<UserId, u64, Hasher> = HashMap::with_capacity_and_hasher(users.len(), Hasher::default());
    let start = Instant::now();
    for (amount, user) in users.iter().enumerate() {
        map.insert(user.clone(), amount as u64);
    }
    let elapsed = start.elapsed();
    assert_eq!(map.len(), users.len());
    elapsed
}

fn bare_many(users: &[UserId], envelopes: usize) -> Duration {
    let mut map: HashMap<(EnvelopeId, UserId), u64, Hasher> =
        HashMap::with_capacity_and_hasher(users.len(), Hasher::default());
    let ids: Vec<_> = (0..envelopes as u128)
        .map(|i| EnvelopeId::from_bytes(i.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_le_bytes()))
        .collect();
    let start = Instant::now();
    for (i, user) in users.iter().enumerate() {
        map.insert((ids[i % ids.len()], user.clone()), i as u64);
    }
    let elapsed = start.elapsed();
    assert_eq!(map.len(), users.len());
    elapsed
}

/// Measured in a process of its own: what another bench has freed is not counted twice.
fn memory(kind: &str) {
    // Fewer tell more of the allocator's habits than of winners.
    let most = setting("MOST", 10_000_000).max(1_000_000);
    let (users, at_most, aim) =
        if kind == "decimal" { (decimal_users(most), 48.0, 24.0) } else { (text_users(most), 80.0, 48.0) };
    let (engine, sender) = (volatile(), sender());
    now(fund(&engine, &sender));
    let before = resident_bytes();
    let envelope = now(create(&engine, &sender, users.len() as u32));
    grab_each(&engine, &users, &[envelope]);
    let bytes = (resident_bytes() - before) as f64 / users.len() as f64;
    assert!(bytes >= 17.0, "an entry and an amount take 17 bytes; {bytes} were found in memory freed before");
    figure(
        &format!("resident memory a winner, {kind} ids, {most} winners of one envelope"),
        &format!("{bytes:.1} bytes"),
        &format!("at most {at_most}, aim {aim}"),
        Some((bytes <= at_most, bytes <= aim)),
        1,
    );
}

fn memory_apart(kind: &str) {
    let itself = std::env::current_exe().expect("a bench knows where it is");
    let status = std::process::Command::new(itself).env("MEMORY", kind).status().expect("it can be run again");
    assert!(status.success(), "the measurement of memory failed");
}

fn main() {
    if let Ok(kind) = std::env::var("MEMORY") {
        return memory(&kind);
    }
    heading();
    let rounds: usize = setting("ROUNDS", 3);
    let most: usize = setting("MOST", 10_000_000);
    for count in [10_000, 100_000, 1_000_000, 10_000_000].into_iter().filter(|&count| count <= most) {
        let users = decimal_users(count as u64);
        let rounds = if count > 1_000_000 { rounds } else { rounds * 3 };
        Pair::measure(rounds, || each(grab_all(&users, 1), count), || each(bare_one(&users), count)).row(
            &format!("grab, durability off, {count} users on one envelope"),
            "bare insert",
            Unit::Time,
            GOAL,
        );
        Pair::measure(rounds, || each(grab_batches(&users, BATCH), count), || each(bare_one(&users), count)).row(
            &format!("grabs in calls of {BATCH}, durability off, {count} users on one envelope"),
            "bare insert",
            Unit::Time,
            IN_BATCHES,
        );
        let envelopes = count / 10;
        Pair::measure(
            rounds,
            || each(grab_all(&users, envelopes), count),
            || each(bare_many(&users, envelopes), count),
        )
        .row(
            &format!("grab, durability off, 10 users on each of {envelopes} envelopes"),
            "bare insert",
            Unit::Time,
            GOAL,
        );
    }
    memory_apart("decimal");
    memory_apart("24-character");
}
