//! What the benches share: pairs that are measured in turns, and the engines
//! and users they are measured with.
//!
//! **Invariant:** a ratio compares two things measured in the same run, in
//! turns, so that whatever else the machine does falls on both.

use hongbao_engine::backend::Backend;
use hongbao_engine::command::{Command, NewEnvelope, Outcome, Transfer};
use hongbao_engine::split::SplitRule;
use hongbao_engine::types::{Amount, EnvelopeId, UserId};
use std::future::Future;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Times of two things measured in turns.
pub struct Pair {
    /// Times of the thing measured.
    pub ours: Vec<Duration>,
    /// Times of what it is measured against.
    pub baseline: Vec<Duration>,
}

impl Pair {
    /// Measures both `rounds` times, in turns, the first one alternating.
    pub fn measure(rounds: usize, mut ours: impl FnMut() -> Duration, mut baseline: impl FnMut() -> Duration) -> Pair {
        let mut pair = Pair { ours: Vec::new(), baseline: Vec::new() };
        for round in 0..rounds {
            if round % 2 == 0 {
                pair.ours.push(ours());
                pair.baseline.push(baseline());
            } else {
                pair.baseline.push(baseline());
                pair.ours.push(ours());
            }
        }
        pair
    }

    /// Prints both medians for one of `count` operations, and their ratio.
    pub fn report(&self, name: &str, baseline: &str, count: u64) {
        let (ours_ns, baseline_ns) = (median_ns(&self.ours, count), median_ns(&self.baseline, count));
        println!(
            "{name}: {ours_ns:.1} ns, {:.0}/s | {baseline}: {baseline_ns:.1} ns, {:.0}/s | time ratio {:.2}, rate ratio {:.2} ({} rounds)",
            1e9 / ours_ns,
            1e9 / baseline_ns,
            ours_ns / baseline_ns,
            baseline_ns / ours_ns,
            self.ours.len(),
        );
    }
}

/// The median time of one of `count` operations.
pub fn median_ns(times: &[Duration], count: u64) -> f64 {
    let mut times: Vec<_> = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2].as_nanos() as f64 / count as f64
}

/// Runs a future that never waits, as those of a volatile engine.
pub fn now<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a volatile engine never waits"),
    }
}

/// `count` different users, decimal, in no order.
pub fn decimal_users(count: u64) -> Vec<UserId> {
    // An odd multiplier permutes the numbers below a power of two.
    let size = count.next_power_of_two();
    (0..size)
        .map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) & (size - 1))
        .filter(|&i| i < count)
        .map(|i| UserId::new(&(1_000_000_000 + i).to_string()).expect("a number is a user"))
        .collect()
}

/// `count` different users with ids of 24 characters, in no order.
pub fn text_users(count: u64) -> Vec<UserId> {
    decimal_users(count)
        .iter()
        .map(|user| UserId::new(&format!("openid-wx-{user:0>14}")).expect("letters and digits are a user"))
        .collect()
}

/// Terms of an envelope that lives for a day.
pub fn terms(sender: &UserId, shares: u32) -> NewEnvelope {
    let total = Amount::new(u64::from(shares) * 100).expect("it fits");
    NewEnvelope::new("bench", sender.clone(), total, shares, SplitRule::lucky())
}

/// Gives a rich sender what the envelopes of a bench need.
pub async fn fund(engine: &impl Backend, sender: &UserId) {
    let amount = Amount::new(1 << 50).expect("it fits");
    let transfer = Transfer { user: sender.clone(), amount, reference: None };
    engine.execute(Command::Deposit(transfer), None).await.expect("a deposit is taken");
}

/// Makes an envelope of `shares`.
pub async fn create(engine: &impl Backend, sender: &UserId, shares: u32) -> EnvelopeId {
    let command = Command::CreateEnvelope(Box::new(terms(sender, shares)));
    match engine.execute(command, None).await.expect("an envelope is made").outcome {
        Outcome::Envelope(view) => view.id,
        other => panic!("an envelope was to be made, not {other:?}"),
    }
}

/// The memory this process holds, in bytes.
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells the memory of a process");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("the second number");
    pages * 4096
}
