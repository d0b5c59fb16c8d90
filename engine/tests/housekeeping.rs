//! What the engine does by itself, and what must not keep it from that.

mod stand;

use hongbao_engine::backend::{Backend, OnceKey};
use hongbao_engine::clock::{Clock, ManualClock};
use hongbao_engine::command::*;
use hongbao_engine::memory::{Embedded, EmbeddedOptions};
use hongbao_engine::storage::Directory;
use hongbao_engine::store::{Accept, MemoryRows, RowChange, Rows, Snapshot, StoreError};
use hongbao_engine::types::{EnvelopeId, Timestamp};
use parking_lot::{Condvar, Mutex};
use stand::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows on a disk that does not answer while it is stuck.
#[derive(Default)]
struct Stuck {
    rows: MemoryRows,
    stuck: Mutex<bool>,
    /// Somebody waits for the disk, or no longer.
    changed: Condvar,
    waiting: Mutex<bool>,
}

impl Stuck {
    fn stick(&self) {
        *self.stuck.lock() = true;
    }

    fn go_on(&self) {
        *self.stuck.lock() = false;
        self.changed.notify_all();
    }
}

impl Rows for Stuck {
    fn snapshot(&self) -> Box<dyn Snapshot> {
        self.rows.snapshot()
    }

    fn commit(&self, changes: Vec<RowChange>) -> Result<(), StoreError> {
        let mut stuck = self.stuck.lock();
        while *stuck {
            *self.waiting.lock() = true;
            self.changed.wait(&mut stuck);
        }
        drop(stuck);
        self.rows.commit(changes)
    }

    fn persist(&self) -> Result<(), StoreError> {
        self.rows.persist()
    }

    fn reopen(&self, accept: Accept<'_>) -> Result<(), StoreError> {
        self.rows.reopen(accept)
    }
}

/// Time by hand, and how often the housekeeper has compared it with the outside.
struct Watched {
    clock: Arc<ManualClock>,
    checks: AtomicUsize,
}

impl Clock for Watched {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn check(&self) {
        self.checks.fetch_add(1, Ordering::Relaxed);
    }

    fn advance(&self, by_ms: u64) {
        self.clock.advance(by_ms);
    }
}

#[test]
fn deadlines_do_not_wait_for_a_store_that_is_stuck() {
    let world = World::new(13);
    let clock = Arc::new(Watched { clock: Arc::clone(&world.clock), checks: AtomicUsize::new(0) });
    let options = EmbeddedOptions { clock: Some(Arc::<Watched>::clone(&clock)), ..world.options() };
    let directory = tempfile::tempdir().unwrap();
    let rows = Arc::new(Stuck::default());
    let storage = Arc::new(Directory::open(directory.path()).unwrap());
    let (engine, _) = Embedded::open_over(storage, Arc::<Stuck>::clone(&rows), options).unwrap();
    engine.deposit(&user("bob"), 1);
    // An answer that is to be forgotten, so that the housekeeper has something to write.
    let transfer = Transfer { user: user("bob"), amount: fen(1), reference: None };
    engine.ask_under(Command::Deposit(transfer), Some(OnceKey::idempotency("app", "deposit", "k")));
    let item = engine.sell(NewItem { hold_ttl_s: 60, ..item(1) });
    until("all is in the store", || engine.stats().lag_records == 0);
    rows.stick();
    assert!(matches!(engine.grab_item(item, &user("bob"), 1), Outcome::Held { .. }));
    until("the projector waits for the disk", || *rows.waiting.lock());
    world.advance_s(30 * 86_400);
    for _ in 0..2 {
        // After each look at the clock it looks for what to forget: at the second it has been back from there.
        let looked = clock.checks.load(Ordering::Relaxed);
        until("the housekeeper goes on", || clock.checks.load(Ordering::Relaxed) >= looked + 2);
        until("the hold has ended", || engine.stock(item).held == 0);
        assert!(matches!(engine.grab_item(item, &user("carol"), 1), Outcome::Held { .. }));
        world.advance_s(60);
    }
    until("the hold has ended", || engine.stock(item).held == 0);
    assert_eq!(engine.ready(), Ok(()), "slow is not failed");
    rows.go_on();
    engine.close().unwrap();
}

#[test]
fn deadlines_are_kept_while_the_store_takes_no_writes_and_it_is_told() {
    let world = World::new(14);
    let directory = tempfile::tempdir().unwrap();
    let rows = Arc::new(MemoryRows::default());
    let storage = Arc::new(Directory::open(directory.path()).unwrap());
    let mut options = world.options();
    options.projector.reopen_after = std::time::Duration::from_millis(1);
    let (engine, _) = Embedded::open_over(storage, Arc::<MemoryRows>::clone(&rows), options).unwrap();
    let item = engine.sell(NewItem { hold_ttl_s: 60, ..item(1) });
    assert_eq!((engine.ready(), engine.stats().projection_failed), (Ok(()), false));
    rows.fail_after(0);
    assert!(matches!(engine.grab_item(item, &user("bob"), 1), Outcome::Held { .. }));
    until("it is told", || engine.ready().is_err_and(|why| why.contains("free space")));
    assert!(engine.stats().projection_failed);
    world.advance_s(60);
    until("the hold has ended", || engine.stock(item).held == 0);
    assert!(matches!(engine.grab_item(item, &user("carol"), 1), Outcome::Held { .. }), "it still sells");
    assert!(engine.ready().is_err() && engine.stats().lag_records > 0);
    rows.mend();
    until("all is in the store", || engine.stats().lag_records == 0);
    assert_eq!((engine.ready(), engine.stats().projection_failed), (Ok(()), false));
    engine.close().unwrap();
}

#[test]
fn a_settled_envelope_stays_while_it_is_asked_about() {
    let bob = user("bob");
    let grab = |envelope| Command::Grab { envelope, user: bob.clone() };
    let claim = |envelope| Command::Claim { envelope, user: bob.clone() };
    type Question<'a> = &'a dyn Fn(EnvelopeId) -> Command;
    let questions: [(&str, bool, Question<'_>); 4] = [
        ("grabs", false, &grab),
        ("grabs that are claimed at once", true, &grab),
        ("claims", false, &claim),
        ("cancels", false, &|envelope| Command::Cancel { envelope }),
    ];
    for (what, auto_claim, question) in questions {
        let world = World::new(15);
        let directory = tempfile::tempdir().unwrap();
        let storage = Arc::new(Directory::open(directory.path()).unwrap());
        let rows = Arc::new(MemoryRows::default());
        let (engine, _) = Embedded::open_over(storage, rows, world.options_by_hand()).unwrap();
        let ask = |command: Command| wait_pumping(&engine, engine.execute(command, None)).unwrap().outcome;
        ask(Command::Deposit(Transfer { user: user("alice"), amount: fen(200), reference: None }));
        let give = || match ask(Command::CreateEnvelope(Box::new(NewEnvelope { auto_claim, ..envelope(100, 1) }))) {
            Outcome::Envelope(view) => view.id,
            other => panic!("told {other:?}"),
        };
        let (asked, forgotten) = (give(), give());
        for envelope in [asked, forgotten] {
            assert!(matches!(ask(grab(envelope)), Outcome::Won { .. }));
            assert!(matches!(ask(claim(envelope)), Outcome::Claimed { .. }));
        }
        let in_memory = || {
            while engine.pump().unwrap() {}
            engine.projector().unwrap().persist();
            // Each tick looks at one shard.
            for _ in 0..16 {
                engine.tick();
            }
            engine.stats().envelopes
        };
        assert_eq!(in_memory(), 2);
        for after in [2, 1, 1] {
            world.advance_s(200);
            ask(question(asked));
            assert_eq!(in_memory(), after, "{what}");
        }
        world.advance_s(301);
        assert_eq!(in_memory(), 0, "nobody asks any more");
    }
}
