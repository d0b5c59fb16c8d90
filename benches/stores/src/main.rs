//! Durable grabs in batches against stores that one would take instead of a
//! journal of one's own: raft-engine, redb and fjall, each of which writes the
//! same records, one synced write a batch, and decides nothing.
//!
//! `cd benches/stores && cargo run --release`, with `GRABS` a round and `ROUNDS`.
//! It is not part of the workspace, so nothing else builds them.
//!
//! Each store is asked in two ways: a key for every record, as it would have to
//! be to find one again, and one value for a whole batch, the least it can do.
//!
//! **Invariant:** the records are as long as those of a grab in our journal, as
//! measured before; a write has returned before its caller goes on.

use hongbao_benches::burst::BATCHES;
use hongbao_benches::{
    Goal, Pair, Unit, counted, create, decimal_users, directory, durable, each, fund, heading, sender, setting, settle,
};
use hongbao_engine::backend::Backend;
use hongbao_engine::command::Command;
use hongbao_engine::types::UserId;
use raft_engine::{Config, Engine, LogBatch, ReadableSize};
use redb::ReadableDatabase;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = BATCHES.at_once;

const TABLE: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("grabs");

/// Records of one batch, with a number for each.
struct Batch<'a> {
    first: u64,
    record: &'a [u8],
    /// One value for all of them.
    is_whole: bool,
}

impl Batch<'_> {
    /// What a store has to keep of it.
    fn rows(&self) -> impl Iterator<Item = (u64, Vec<u8>)> {
        let (count, length) = if self.is_whole { (1, BATCH) } else { (BATCH as u64, 1) };
        let value = self.record.repeat(length);
        (self.first..self.first + count).map(move |number| (number, value.clone()))
    }
}

/// A store that can be asked by many threads at once.
trait Store: Send + Sync {
    /// Returns once it is durable.
    fn write(&self, batch: &Batch<'_>);

    /// Whether the row with this number is there.
    fn has(&self, number: u64) -> bool;
}

struct Fjall(fjall::Database, fjall::Keyspace);

impl Fjall {
    fn open(directory: &Path) -> Fjall {
        let database = fjall::Database::builder(directory).open().expect("fjall opens");
        let rows = database.keyspace("grabs", fjall::KeyspaceCreateOptions::default).expect("a keyspace opens");
        Fjall(database, rows)
    }
}

impl Store for Fjall {
    fn write(&self, batch: &Batch<'_>) {
        let mut write = self.0.batch().durability(Some(fjall::PersistMode::SyncData));
        for (number, value) in batch.rows() {
            write.insert(&self.1, number.to_be_bytes(), value);
        }
        write.commit().expect("fjall commits");
    }

    fn has(&self, number: u64) -> bool {
        self.1.contains_key(number.to_be_bytes()).expect("fjall reads")
    }
}

struct Redb(redb::Database);

impl Redb {
    fn open(directory: &Path) -> Redb {
        Redb(redb::Database::create(directory.join("grabs.redb")).expect("redb opens"))
    }
}

impl Store for Redb {
    fn write(&self, batch: &Batch<'_>) {
        // A transaction is durable when its commit returns, unless told otherwise.
        let write = self.0.begin_write().expect("redb begins");
        {
            let mut table = write.open_table(TABLE).expect("a table opens");
            for (number, value) in batch.rows() {
                table.insert(number, value.as_slice()).expect("redb inserts");
            }
        }
        write.commit().expect("redb commits");
    }

    fn has(&self, number: u64) -> bool {
        let read = self.0.begin_read().expect("redb begins");
        read.open_table(TABLE).expect("a table opens").get(number).expect("redb reads").is_some()
    }
}

struct Raft(Engine);

impl Raft {
    fn open(directory: &Path) -> Raft {
        let config = Config {
            dir: directory.to_string_lossy().into_owned(),
            // As ours are: files written beforehand and used again, nothing compressed.
            prefill_for_recycle: true,
            enable_log_recycle: true,
            batch_compression_threshold: ReadableSize(0),
            ..Config::default()
        };
        Raft(Engine::open(config).expect("raft-engine opens"))
    }
}

impl Store for Raft {
    fn write(&self, batch: &Batch<'_>) {
        let mut write = LogBatch::with_capacity(BATCH);
        for (number, value) in batch.rows() {
            write.put(1, number.to_be_bytes().to_vec(), value).expect("a key may be added");
        }
        self.0.write(&mut write, true).expect("raft-engine writes");
    }

    fn has(&self, number: u64) -> bool {
        self.0.get(1, &number.to_be_bytes()).is_some()
    }
}

/// As many threads as there are callers write one batch after the other: nanoseconds a record.
fn round(store: &dyn Store, grabs: usize, record: &[u8], is_whole: bool) -> f64 {
    let next = AtomicU64::new(0);
    let grabs = grabs as u64;
    settle();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..BATCHES.callers {
            scope.spawn(|| {
                loop {
                    let first = next.fetch_add(BATCH as u64, Ordering::Relaxed);
                    if first >= grabs {
                        return;
                    }
                    store.write(&Batch { first, record, is_whole });
                }
            });
        }
    });
    let elapsed = began.elapsed();
    let last = (grabs - 1) / BATCH as u64 * BATCH as u64;
    assert!(store.has(0) && store.has(last), "what was written is there");
    each(elapsed, grabs as usize)
}

/// What our journal writes for one of these grabs; many at once, so that heads and padding hardly count.
fn record_bytes(runtime: &Runtime, users: &[UserId]) -> usize {
    let directory = directory();
    let engine = durable(directory.path());
    let bytes = runtime.block_on(async {
        let sender = sender();
        fund(&engine, &sender).await;
        let envelope = create(&engine, &sender, users.len() as u32).await;
        let before = engine.stats().journal.expect("a durable engine has a journal").bytes;
        let grabs = users.iter().map(|user| Command::Grab { envelope, user: user.clone() }).collect();
        assert!(engine.execute_all(grabs).await.iter().all(Result::is_ok), "all are decided");
        counted(&engine, users.len() as u64 + 2).bytes - before
    });
    engine.close().expect("the engine closes");
    bytes as usize / users.len()
}

fn main() {
    let grabs: usize = setting("GRABS", 1_000_000);
    let rounds = setting("ROUNDS", 3);
    // A slow store gets fewer: what it takes for each does not depend on it much.
    let few: usize = setting("FEW_GRABS", 100_000);
    let users = Arc::new(decimal_users(grabs as u64));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let record = vec![0x5a_u8; record_bytes(&runtime, &users[..grabs.min(50_000)])];
    println!("records of {} bytes, {} callers with batches of {BATCH}\n", record.len(), BATCHES.callers);
    heading();
    type Open = fn(&Path) -> Box<dyn Store>;
    let stores: [(&str, Open, usize); 3] = [
        ("raft-engine", |path| Box::new(Raft::open(path)), grabs),
        ("redb", |path| Box::new(Redb::open(path)), few),
        ("fjall", |path| Box::new(Fjall::open(path)), grabs),
    ];
    for (name, open, grabs) in stores {
        for is_whole in [false, true] {
            let theirs = || {
                let directory = directory();
                let ns = round(&*open(directory.path()), grabs, &record, is_whole);
                drop(directory);
                std::thread::sleep(Duration::from_millis(50));
                ns
            };
            let how = if is_whole { "a value for each batch" } else { "a key for each record" };
            Pair::measure(rounds, || BATCHES.round(&runtime, &users, false), theirs).row(
                "durable grab, decided, 64 callers with batches of 256",
                &format!("{name}, {how}, one synced write a batch"),
                Unit::Time,
                Goal::Rate { at_least: 2.0, aim: 5.0 },
            );
        }
    }
}
