//! Grabs at a steady rate before and while very many holds and gifts fall due at
//! once: what their expiry costs those who wait for an answer meanwhile.
//!
//! `cargo bench -p hongbao-benches --bench due`, with `ROUNDS`, `HOLDS`, `GIFTS`,
//! `RATE` grabs a second and `DUE_S`, the seconds from a round's start to the
//! deadline: long enough to make them all.
//!
//! **Invariant:** the measured time ends when every hold and every gift has ended:
//! the gifts' money is back with their givers.

use hongbao_benches::burst::{Burst, Goods};
use hongbao_benches::{
    Goal, Pair, Unit, catch_up, create, decimal_users, directory, durable, figure, fund, heading, median, sell_for,
    sender, setting,
};
use hongbao_engine::backend::Backend;
use hongbao_engine::command::{Command, Outcome};
use hongbao_engine::gift::NewGift;
use hongbao_engine::memory::Embedded;
use hongbao_engine::types::{EnvelopeId, UserId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TICK: Duration = Duration::from_millis(1);
/// Units of an item, each held by another user.
const HELD_OF_ONE: usize = 100_000;
/// How long is measured before.
const BEFORE: Duration = Duration::from_secs(10);

struct Stand {
    runtime: Runtime,
    users: Arc<Vec<UserId>>,
    holds: usize,
    gifts: usize,
    rate: u64,
    due: Duration,
}

/// The answers' latencies of a part of a round, counted from when each grab was due.
struct Latencies(Vec<u32>);

impl Latencies {
    /// In nanoseconds.
    fn quantile(&mut self, part: f64) -> f64 {
        let at = ((self.0.len() - 1) as f64 * part) as usize;
        f64::from(*self.0.select_nth_unstable(at).1) * 1e3
    }
}

struct Round {
    before: Latencies,
    due: Latencies,
    ending: Duration,
}

impl Stand {
    fn round(&self) -> Round {
        let directory = directory();
        let engine = Arc::new(durable(directory.path()));
        self.runtime.block_on(fund(&*engine, &sender()));
        let envelopes: Vec<_> = (0..60).map(|_| self.runtime.block_on(create(&*engine, &sender(), 100_000))).collect();
        let escrowed = self.escrowed(&engine);
        let due_at = Instant::now() + self.due;
        let due_in_s = || due_at.duration_since(Instant::now()).as_secs();
        for _ in 0..self.holds.div_ceil(HELD_OF_ONE) {
            let item = self.runtime.block_on(sell_for(&*engine, HELD_OF_ONE as u32, Some(1), due_in_s()));
            let burst = Burst { callers: 64, at_once: 256, yields: false };
            burst.run(&self.runtime, &engine, &Goods::Item(item), &self.users);
        }
        self.give(&engine, due_in_s());
        catch_up(&engine);
        assert!(due_in_s() > BEFORE.as_secs(), "DUE_S is too short to make what falls due");

        let grabs = Arc::new(AtomicU64::new(0));
        let before = self.grab_until(&engine, &envelopes, &grabs, |since| since.elapsed() >= BEFORE);
        std::thread::sleep(due_at.duration_since(Instant::now()).saturating_sub(Duration::from_secs(1)));
        let (ended, stop) = (Arc::new(AtomicBool::new(false)), Arc::clone(&engine));
        let watch = {
            let ended = Arc::clone(&ended);
            let runtime = self.runtime.handle().clone();
            std::thread::spawn(move || {
                while stop.stats().holds > 0 || runtime.block_on(stop.audit()).expect("it is read").escrowed != escrowed
                {
                    std::thread::sleep(Duration::from_millis(50));
                }
                ended.store(true, Ordering::Relaxed);
            })
        };
        let began = Instant::now();
        let due = self.grab_until(&engine, &envelopes, &grabs, |_| ended.load(Ordering::Relaxed));
        let ending = began.elapsed();
        watch.join().expect("the audit is read");
        engine.close().expect("the engine closes");
        Round { before, due, ending }
    }

    fn escrowed(&self, engine: &Embedded) -> u64 {
        self.runtime.block_on(engine.audit()).expect("it is read").escrowed
    }

    /// Everybody gives one unit, paid at once.
    fn give(&self, engine: &Embedded, accept_within_s: u64) {
        self.runtime.block_on(async {
            let item = sell_for(engine, self.gifts as u32, None, 900).await;
            let give = |number: usize| {
                let recipient = self.users[number % self.users.len()].clone();
                Command::CreateGift(Box::new(NewGift {
                    accept_within_s,
                    ..NewGift::new("bench", sender(), recipient, item)
                }))
            };
            for first in (0..self.gifts).step_by(256) {
                let gifts = (first..self.gifts.min(first + 256)).map(give).collect();
                for reply in engine.execute_all(gifts).await {
                    let outcome = reply.expect("it is decided").outcome;
                    assert!(matches!(outcome, Outcome::Gift(_)), "{outcome:?}");
                }
            }
        });
    }

    /// Grabs at the rate, whatever the engine does, until it is enough.
    fn grab_until(
        &self,
        engine: &Arc<Embedded>,
        envelopes: &[EnvelopeId],
        grabs: &Arc<AtomicU64>,
        enough: impl Fn(Instant) -> bool,
    ) -> Latencies {
        let a_tick = self.rate / 1_000;
        self.runtime.block_on(async {
            let (told, mut latencies) = tokio::sync::mpsc::unbounded_channel();
            let since = Instant::now();
            let mut at = tokio::time::Instant::from_std(since);
            while !enough(since) {
                at += TICK;
                tokio::time::sleep_until(at).await;
                for _ in 0..a_tick {
                    let number = grabs.fetch_add(1, Ordering::Relaxed) as usize;
                    let envelope = *envelopes.get(number / self.users.len()).expect("there are shares for minutes");
                    let user = self.users[number % self.users.len()].clone();
                    let (engine, told) = (Arc::clone(engine), told.clone());
                    tokio::spawn(async move {
                        let reply = engine.execute(Command::Grab { envelope, user }, None).await;
                        let outcome = reply.expect("it is decided").outcome;
                        assert!(matches!(outcome, Outcome::Won { .. }), "{outcome:?}");
                        told.send(at.elapsed().as_micros() as u32).expect("somebody counts");
                    });
                }
            }
            drop(told);
            let mut all = Vec::new();
            while let Some(latency) = latencies.recv().await {
                all.push(latency);
            }
            Latencies(all)
        })
    }
}

fn main() {
    heading();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let stand = Stand {
        runtime: runtime.expect("a runtime"),
        users: Arc::new(decimal_users(HELD_OF_ONE as u64)),
        holds: setting("HOLDS", 1_000_000),
        gifts: setting("GIFTS", 100_000),
        rate: setting("RATE", 20_000),
        due: Duration::from_secs(setting("DUE_S", 45)),
    };
    let mut rounds: Vec<_> = (0..setting("ROUNDS", 3)).map(|_| stand.round()).collect();
    let mut pair = |part| Pair {
        ours: rounds.iter_mut().map(|round| round.due.quantile(part)).collect(),
        baseline: rounds.iter_mut().map(|round| round.before.quantile(part)).collect(),
    };
    let what = format!(
        "of durable grabs at {}/s while {} holds and {} gifts fall due in one second",
        stand.rate, stand.holds, stand.gifts
    );
    pair(0.99).row(&format!("p99 {what}"), "before", Unit::Time, Goal::Times { at_most: 3.0, aim: 1.1 });
    pair(0.5).row(&format!("p50 {what}"), "before", Unit::Time, Goal::ReportTimes);
    pair(0.999).row(&format!("p99.9 {what}"), "before", Unit::Time, Goal::ReportTimes);
    figure(
        "from a second before the deadline until all of them had ended",
        &format!("{:.1} s", median(&rounds.iter().map(|round| round.ending.as_secs_f64()).collect::<Vec<_>>())),
        "report",
        None,
        rounds.len(),
    );
}
