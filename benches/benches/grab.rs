//! One grab in the engine, durability off, one thread, against a bare insert
//! into a pre-reserved map: the same users, hasher and number of entries.

use hashbrown::HashMap;
use hongbao_benches::{Pair, create, decimal_users, fund, now, resident_bytes, text_users};
use hongbao_engine::backend::Backend;
use hongbao_engine::command::{Command, Outcome};
use hongbao_engine::memory::{Embedded, EmbeddedOptions};
use hongbao_engine::types::{EnvelopeId, UserId};
use std::time::{Duration, Instant};

type Hasher = foldhash::fast::RandomState;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn engine() -> Embedded {
    Embedded::volatile(&EmbeddedOptions { threaded: false, ..EmbeddedOptions::default() })
}

fn grab_all(engine: &Embedded, grabs: impl Iterator<Item = (EnvelopeId, UserId)>) -> Duration {
    let start = Instant::now();
    let mut won = 0u64;
    let mut count = 0u64;
    for (envelope, user) in grabs {
        let reply = now(engine.execute(Command::Grab { envelope, user }, None)).expect("a grab is decided");
        won += u64::from(matches!(reply.outcome, Outcome::Won { replayed: false, .. }));
        count += 1;
    }
    let elapsed = start.elapsed();
    assert_eq!(won, count, "every user of the bench wins once");
    elapsed
}

fn one_envelope(users: &[UserId]) -> Duration {
    let engine = engine();
    let sender = UserId::new("sender").expect("a user");
    now(fund(&engine, &sender));
    let envelope = now(create(&engine, &sender, users.len() as u32));
    grab_all(&engine, users.iter().map(|user| (envelope, user.clone())))
}

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

fn many_envelopes(users: &[UserId], envelopes: u32) -> Duration {
    let engine = engine();
    let sender = UserId::new("sender").expect("a user");
    now(fund(&engine, &sender));
    let each = users.len() as u32 / envelopes;
    let ids: Vec<_> = (0..envelopes).map(|_| now(create(&engine, &sender, each))).collect();
    // Users come in no order, so neighbours in time are at different envelopes.
    grab_all(&engine, users.iter().enumerate().map(|(i, user)| (ids[i % ids.len()], user.clone())))
}

fn bare_many(users: &[UserId], envelopes: u32) -> Duration {
    let mut map: HashMap<(EnvelopeId, UserId), u64, Hasher> =
        HashMap::with_capacity_and_hasher(users.len(), Hasher::default());
    let ids: Vec<_> = (0..envelopes)
        .map(|i| {
            EnvelopeId::from_bytes(u128::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_le_bytes())
        })
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
    let users = if kind == "decimal" { decimal_users(10_000_000) } else { text_users(10_000_000) };
    let engine = engine();
    let sender = UserId::new("sender").expect("a user");
    now(fund(&engine, &sender));
    let before = resident_bytes();
    let envelope = now(create(&engine, &sender, users.len() as u32));
    grab_all(&engine, users.iter().map(|user| (envelope, user.clone())));
    let after = resident_bytes();
    println!("memory per winner, {kind} ids: {:.1} bytes", (after - before) as f64 / users.len() as f64);
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
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let most: u64 = std::env::var("MOST").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000_000);
    for count in [10_000u64, 100_000, 1_000_000, 10_000_000].into_iter().filter(|&count| count <= most) {
        let users = decimal_users(count);
        let rounds = if count > 1_000_000 { rounds } else { rounds * 3 };
        Pair::measure(rounds, || one_envelope(&users), || bare_one(&users)).report(
            &format!("grab, {count} users on one envelope"),
            "bare insert",
            count,
        );
        let envelopes = (count / 10) as u32;
        Pair::measure(rounds, || many_envelopes(&users, envelopes), || bare_many(&users, envelopes)).report(
            &format!("grab, 10 users on each of {envelopes} envelopes"),
            "bare insert",
            count,
        );
    }
    memory_apart("decimal");
    memory_apart("24-character");
}
