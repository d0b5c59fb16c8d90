//! Bursts: everybody grabs once, as fast as it goes.

use crate::{create_many, directory, durable, each, fund, grab_of, is_new, sell, sender, settle, terms};
use hongbao_engine::backend::Backend;
use hongbao_engine::command::Command;
use hongbao_engine::memory::{Embedded, EmbeddedOptions};
use hongbao_engine::types::{EnvelopeId, ItemId, UserId};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// What is grabbed, by whose number.
#[derive(Clone)]
pub enum Goods {
    /// Shares of these, in turn.
    Envelopes(Arc<Vec<EnvelopeId>>),
    /// Units of this.
    Item(ItemId),
}

impl Goods {
    fn command(&self, number: usize, user: &UserId) -> Command {
        match self {
            Goods::Envelopes(ids) => grab_of(ids, number, user),
            Goods::Item(item) => Command::GrabItem { item: *item, user: user.clone(), quantity: 1 },
        }
    }
}

/// Every user grabs once, `at_once` in one call; `callers` callers take the
/// next when the answer to their last is there. `yields` stands for the wait
/// where there is none.
#[derive(Clone, Copy)]
pub struct Burst {
    /// Each waits for its own answers.
    pub callers: usize,
    /// Grabs in a call.
    pub at_once: usize,
    /// Whether the engine is not durable.
    pub yields: bool,
}

impl Burst {
    /// How long it takes.
    ///
    /// # Panics
    /// If not every user wins.
    pub fn run(self, runtime: &Runtime, engine: &Arc<Embedded>, goods: &Goods, users: &Arc<Vec<UserId>>) -> Duration {
        runtime.block_on(async {
            let next = Arc::new(AtomicUsize::new(0));
            let start = Instant::now();
            let callers: Vec<_> = (0..self.callers)
                .map(|_| {
                    let (engine, goods, users) = (Arc::clone(engine), goods.clone(), Arc::clone(users));
                    let next = Arc::clone(&next);
                    tokio::spawn(async move { self.caller(&engine, &goods, &users, &next).await })
                })
                .collect();
            let mut won = 0;
            for caller in callers {
                won += caller.await.expect("a caller does not panic");
            }
            let elapsed = start.elapsed();
            assert_eq!(won, users.len(), "every user of the bench wins once");
            elapsed
        })
    }

    async fn caller(self, engine: &Embedded, goods: &Goods, users: &[UserId], next: &AtomicUsize) -> usize {
        let mut won = 0;
        loop {
            let number = next.fetch_add(self.at_once, Ordering::Relaxed);
            if number >= users.len() {
                return won;
            }
            if self.at_once == 1 {
                let reply = engine.execute(goods.command(number, &users[number]), None).await.expect("it is decided");
                won += usize::from(is_new(&reply.outcome));
            } else {
                let numbers = number..users.len().min(number + self.at_once);
                let commands = numbers.map(|number| goods.command(number, &users[number])).collect();
                let replies = engine.execute_all(commands).await;
                won += replies.iter().filter(|reply| reply.as_ref().is_ok_and(|reply| is_new(&reply.outcome))).count();
            }
            if self.yields {
                tokio::task::yield_now().await;
            }
        }
    }

    /// One burst on a fresh engine, in nanoseconds a grab.
    pub fn round(self, runtime: &Runtime, users: &Arc<Vec<UserId>>, is_item: bool) -> f64 {
        let directory = directory();
        let engine = Arc::new(if self.yields {
            Embedded::volatile(&EmbeddedOptions::default())
        } else {
            durable(directory.path())
        });
        let goods = runtime.block_on(async {
            if is_item {
                Goods::Item(sell(&*engine, users.len() as u32).await)
            } else {
                Goods::Envelopes(envelopes(&engine, users.len(), 1).await)
            }
        });
        settle();
        let elapsed = self.run(runtime, &engine, &goods, users);
        engine.close().expect("the engine closes");
        each(elapsed, users.len())
    }
}

/// Envelopes that all users can grab from.
pub async fn envelopes(engine: &Embedded, shares: usize, count: usize) -> Arc<Vec<EnvelopeId>> {
    let sender = sender();
    fund(engine, &sender).await;
    Arc::new(create_many(engine, &terms(&sender, shares as u32), count).await)
}

/// Few callers who wait for the answers of many grabs at once, as a server of batches has them.
pub const BATCHES: Burst = Burst { callers: 64, at_once: 256, yields: false };
