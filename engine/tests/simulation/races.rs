//! Races that need a disk which fails, each by its number. The simulation meets
//! them all by chance; here each is told once, on purpose.

use crate::commands::{fen, user};
use hongbao_engine::backend::{Backend, Page, Reply};
use hongbao_engine::clock::{Clock, ManualClock};
use hongbao_engine::command::{
    Command, EnvelopeState, ItemChange, ItemOrigin, MerchantStatus, NewEnvelope, NewItem, NewMerchant, Outcome,
    ShareStatus, Transfer, Unclaimed,
};
use hongbao_engine::entropy::SeededEntropy;
use hongbao_engine::error::EngineError;
use hongbao_engine::journal::{FailureAction, JournalOptions};
use hongbao_engine::memory::{Embedded, EmbeddedOptions, OpenError};
use hongbao_engine::split::SplitRule;
use hongbao_engine::storage::faulty::{Fault, FaultyDisk};
use hongbao_engine::store::{MemoryRows, ProjectorOptions};
use hongbao_engine::types::{EnvelopeId, Timestamp};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A machine whose power can fail.
struct Machine {
    disk: FaultyDisk,
    rows: Arc<MemoryRows>,
    clock: Arc<ManualClock>,
    seed: u64,
}

impl Machine {
    fn new(seed: u64) -> Machine {
        Machine {
            disk: FaultyDisk::new(seed),
            rows: Arc::default(),
            clock: Arc::new(ManualClock::at(Timestamp::from_ms(1_790_000_000_000))),
            seed,
        }
    }

    fn try_open(&mut self) -> Result<Running, OpenError> {
        self.seed += 1;
        let options = EmbeddedOptions {
            shards: 4,
            journal: JournalOptions {
                segment_bytes: 64 << 10,
                spare_segments: 1,
                ballast_bytes: 80_000,
                record_bytes_max: 2_500,
                threads_max: 0,
                threaded: false,
                on_failure: FailureAction::Poison,
                ..JournalOptions::default()
            },
            projector: ProjectorOptions { threaded: false, ..ProjectorOptions::default() },
            test_mode: true,
            clock: Some(self.clock.clone()),
            entropy: Arc::new(SeededEntropy::new(self.seed)),
            threaded: false,
            ..EmbeddedOptions::default()
        };
        let (engine, _) = Embedded::open_over(Arc::new(self.disk.clone()), self.rows.clone(), options)?;
        Ok(Running(Arc::new(engine)))
    }

    fn open(&mut self) -> Running {
        self.try_open().expect("the disk is sound")
    }

    /// The power fails, and comes back.
    fn crash(&mut self, running: impl Sized) {
        drop(running);
        self.disk.crash();
        self.rows = Arc::new(self.rows.crash(self.seed));
    }

    /// The same machine at another fork of its fate.
    fn fork(&self, seed: u64) -> Machine {
        let rows = Arc::new(self.rows.crash(u64::MAX));
        Machine { disk: self.disk.fork(seed), rows, clock: self.clock.clone(), seed }
    }
}

type Asking<T> = Pin<Box<dyn Future<Output = T>>>;

/// Polls once.
fn look<T>(asking: &mut Asking<T>) -> Option<T> {
    match asking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

#[derive(Clone)]
struct Running(Arc<Embedded>);

impl Running {
    fn read<T: 'static>(&self, read: impl AsyncFnOnce(Arc<Embedded>) -> T + 'static) -> Asking<T> {
        let engine = Arc::clone(&self.0);
        Box::pin(async move { read(engine).await })
    }

    fn ask(&self, command: Command) -> Asking<Result<Reply, EngineError>> {
        let mut asking = self.read(async move |engine| engine.execute(command, None).await);
        // The decision is made at the first look, the answer waits for the disk.
        match look(&mut asking) {
            Some(answer) => Box::pin(std::future::ready(answer)),
            None => asking,
        }
    }

    /// Asks, writes, answers.
    fn get(&self, command: Command) -> Outcome {
        let mut asking = self.ask(command);
        if let Some(answer) = look(&mut asking) {
            return answer.expect("the engine is sound").outcome;
        }
        self.pump();
        look(&mut asking).expect("it is durable").expect("the disk is sound").outcome
    }

    fn pump(&self) {
        while self.0.pump_journal().expect("the disk is sound") {}
    }

    /// Projects and persists everything, and lets the journal recycle.
    fn settle_store(&self) {
        let projector = self.0.projector().expect("there is a store");
        while projector.pump() {}
        projector.persist();
        self.0.tick();
        self.pump();
    }

    fn balance(&self, name: &'static str) -> u64 {
        let mut asking = self.read(async move |engine| engine.wallet(&user(name)).await);
        self.pump();
        look(&mut asking).expect("it is durable").expect("the disk is sound").available.minor()
    }

    fn audit_balances(&self) {
        self.pump();
        let mut asking = self.read(async |engine| engine.audit().await);
        let audit = look(&mut asking).expect("it is durable").expect("the disk is sound");
        assert!(audit.balanced(), "{audit:?}");
    }

    fn fund(&self, name: &str, minor: u64) {
        let transfer = Transfer { user: user(name), amount: fen(minor), reference: None };
        assert!(matches!(self.get(Command::Deposit(transfer)), Outcome::Wallet(_)));
    }

    fn create(&self, shares: u32) -> EnvelopeId {
        match self.get(Command::CreateEnvelope(Box::new(terms(shares)))) {
            Outcome::Envelope(view) => view.id,
            other => panic!("not created: {other:?}"),
        }
    }
}

fn terms(shares: u32) -> NewEnvelope {
    NewEnvelope {
        owner: "app".to_owned(),
        sender: user("alice"),
        total: fen(1_000),
        shares,
        split: SplitRule::Lucky { min_share: fen(1), max_share: None },
        message: String::new(),
        opens_at: None,
        expires_in_s: 60,
        claim_within_s: 60,
        auto_claim: false,
        unclaimed: Unclaimed::Return,
        reference: None,
        metadata: "{}".to_owned(),
        client_seed: None,
        outside: hongbao_engine::payout::Outside::default(),
    }
}

fn grab(envelope: EnvelopeId, name: &str) -> Command {
    Command::Grab { envelope, user: user(name) }
}

fn claim(envelope: EnvelopeId, name: &str) -> Command {
    Command::Claim { envelope, user: user(name) }
}

/// Share, amount and whether it is a repeat.
fn won(outcome: &Outcome) -> (u32, u64, bool) {
    match outcome {
        Outcome::Won { share, amount, replayed, .. } => (*share, amount.minor(), *replayed),
        other => panic!("not won: {other:?}"),
    }
}

/// Alice with an envelope of five shares, durable.
fn with_an_envelope(seed: u64) -> (Machine, Running, EnvelopeId) {
    let mut machine = Machine::new(seed);
    let running = machine.open();
    running.fund("alice", 10_000);
    let envelope = running.create(5);
    (machine, running, envelope)
}

#[test]
fn race_07_crash_before_fsync_was_not_answered_and_a_retry_is_fresh() {
    let (mut machine, running, envelope) = with_an_envelope(7);
    let mut asking = running.ask(grab(envelope, "bob"));
    assert!(look(&mut asking).is_none(), "nothing is answered before it is durable");
    machine.crash((asking, running));
    let running = machine.open();
    assert_eq!(won(&running.get(grab(envelope, "carol"))).0, 0, "the first share is free again");
    let (share, _, replayed) = won(&running.get(grab(envelope, "bob")));
    assert_eq!((share, replayed), (1, false));
}

#[test]
fn race_08_crash_after_fsync_before_the_reply_the_retry_returns_the_grab() {
    let (mut machine, running, envelope) = with_an_envelope(8);
    let asking = running.ask(grab(envelope, "bob"));
    running.pump();
    machine.crash((asking, running));
    let running = machine.open();
    let (share, amount, replayed) = won(&running.get(grab(envelope, "bob")));
    assert_eq!((share, replayed), (0, true));
    assert_eq!(won(&running.get(grab(envelope, "bob"))), (share, amount, true), "and for ever");
}

#[test]
fn race_09_crash_in_the_middle_of_a_batch_keeps_what_was_answered_and_records_whole() {
    let (origin, running, envelope) = with_an_envelope(9);
    let first = won(&running.get(grab(envelope, "bob")));
    drop(running);
    let mut sizes = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let mut machine = origin.fork(seed);
        let running = machine.open();
        let names = ["carol", "dave", "erin"];
        let asking: Vec<_> = names.map(|name| running.ask(grab(envelope, name))).into();
        machine.disk.fail_call(1 + seed % 2, Fault::PowerCut, false);
        assert!(running.0.pump_journal().is_err(), "the power fails while the batch is written or synced");
        for mut asking in asking {
            assert!(matches!(look(&mut asking), Some(Err(EngineError::Journal(_)))), "nothing is acknowledged");
        }
        machine.crash(running);
        let running = machine.open();
        assert_eq!(won(&running.get(grab(envelope, "bob"))), (first.0, first.1, true), "what was answered stays");
        let mut asking =
            running.read(async move |engine| engine.grabs(envelope, &Page { limit: 10, cursor: None }).await);
        let rows = look(&mut asking).expect("it is durable").expect("the disk is sound").expect("it exists").rows;
        let users: Vec<String> = rows.iter().map(|row| row.user.to_string()).collect();
        let all = ["bob", "carol", "dave", "erin"];
        assert_eq!(users, all[..users.len()], "a batch that was not acknowledged is a prefix, of whole records");
        sizes.insert(users.len());
        running.audit_balances();
    }
    assert_eq!(sizes, [1, 4].into(), "a batch is one frame: all of it or nothing, and both were met");
}

#[test]
fn race_10_a_read_that_sees_a_grab_not_yet_on_disk_waits_for_it() {
    let (_machine, running, envelope) = with_an_envelope(10);
    let grabbed = running.ask(grab(envelope, "bob"));
    let mut repeat = running.ask(grab(envelope, "bob"));
    let mut view = running.read(async move |engine| engine.envelope(envelope).await);
    let mut row = running.read(async move |engine| engine.grab_of(envelope, &user("bob")).await);
    let claimed = running.ask(claim(envelope, "bob"));
    let mut wallet = running.read(async move |engine| engine.wallet(&user("bob")).await);
    let mut audit = running.read(async move |engine| engine.audit().await);
    assert!(look(&mut repeat).is_none() && look(&mut view).is_none() && look(&mut row).is_none());
    assert!(look(&mut wallet).is_none() && look(&mut audit).is_none());
    running.pump();
    let mut grabbed = grabbed;
    let (_, amount, _) = won(&look(&mut grabbed).expect("durable").expect("sound").outcome);
    assert!(won(&look(&mut repeat).expect("durable").expect("sound").outcome).2);
    let view = look(&mut view).expect("durable").expect("sound").expect("it exists");
    assert_eq!(view.remaining_amount.minor(), 1_000 - amount);
    assert_eq!(look(&mut row).expect("durable").expect("sound").expect("won").amount.minor(), amount);
    let mut claimed = claimed;
    assert!(matches!(look(&mut claimed), Some(Ok(Reply { outcome: Outcome::Claimed { .. }, .. }))));
    assert_eq!(look(&mut wallet).expect("durable").expect("sound").available.minor(), amount);
    assert!(look(&mut audit).expect("durable").expect("sound").balanced());
}

#[test]
fn race_12_crash_during_a_claim_credits_the_wallet_and_the_share_or_neither() {
    let (origin, running, envelope) = with_an_envelope(12);
    let (_, amount, _) = won(&running.get(grab(envelope, "bob")));
    drop(running);
    let mut met = [0, 0];
    for seed in 0..100 {
        let mut machine = origin.fork(seed);
        let running = machine.open();
        let asking = running.ask(claim(envelope, "bob"));
        machine.disk.fail_call(1 + seed % 3, Fault::PowerCut, false);
        let _ = running.0.pump_journal();
        machine.crash((asking, running));
        let running = machine.open();
        let claimed = matches!(
            running.get(grab(envelope, "bob")),
            Outcome::Won { status: ShareStatus::Claimed, replayed: true, .. }
        );
        assert_eq!(running.balance("bob"), if claimed { amount } else { 0 });
        met[usize::from(claimed)] += 1;
        let again = running.get(claim(envelope, "bob"));
        assert!(matches!(again, Outcome::Claimed { replayed, .. } if replayed == claimed), "{again:?}");
        assert_eq!(running.balance("bob"), amount, "one credit, whatever happened");
        running.audit_balances();
    }
    assert!(met[0] > 0 && met[1] > 0, "both were met: {met:?}");
}

#[test]
fn race_32_a_full_disk_refuses_creates_first_and_still_refunds() {
    let (machine, running, envelope) = with_an_envelope(32);
    for name in ["bob", "carol"] {
        running.get(grab(envelope, name));
    }
    machine.disk.set_capacity(Some(machine.disk.used_bytes()));
    // Deposits use up the place until a spare is missing and none can be made.
    let refused = (0..10_000).find_map(|_| {
        let transfer = Transfer { user: user("alice"), amount: fen(1), reference: None };
        let mut asking = running.ask(Command::Deposit(transfer));
        running.pump();
        look(&mut asking).expect("a decision is durable or refused").err()
    });
    assert!(matches!(refused, Some(EngineError::StorageFull)), "{refused:?}");
    assert!(matches!(running.get(claim(envelope, "bob")), Outcome::Claimed { .. }), "claims go on");
    match running.get(Command::Cancel { envelope }) {
        Outcome::Envelope(view) => assert_eq!(view.state, EnvelopeState::Cancelled),
        other => panic!("a refund has its place: {other:?}"),
    }
    assert!(look(&mut running.ask(Command::CreateEnvelope(Box::new(terms(2))))).is_some_and(|no| no.is_err()));
    machine.disk.set_capacity(None);
    assert!(matches!(running.get(claim(envelope, "carol")), Outcome::Claimed { .. }));
    running.pump();
    running.fund("alice", 1);
    running.audit_balances();
}

#[test]
fn race_33_an_error_of_fsync_ends_all_answers_until_a_replay() {
    for fault in [Fault::Eio, Fault::NoSpace] {
        let (mut machine, running, envelope) = with_an_envelope(33);
        let first = won(&running.get(grab(envelope, "bob")));
        let mut asking = running.ask(grab(envelope, "carol"));
        // The write succeeds, the sync behind it does not; later ones would.
        machine.disk.fail_call(2, fault, false);
        assert!(running.0.pump_journal().is_err());
        assert!(matches!(look(&mut asking), Some(Err(EngineError::Journal(_)))));
        assert!(running.0.pump_journal().is_err(), "a failed sync is never tried again");
        let mut later = running.ask(grab(envelope, "dave"));
        assert!(matches!(look(&mut later), Some(Err(EngineError::Journal(_)))), "nothing more is decided");
        let mut view = running.read(async move |engine| engine.envelope(envelope).await);
        assert!(matches!(look(&mut view), Some(Err(EngineError::Journal(_)))), "nor told, if it may be lost");
        drop((asking, later, view, running));
        // The process exits; the page cache still shows what may not be on the disk.
        let running = machine.open();
        let seen = won(&running.get(grab(envelope, "carol")));
        machine.crash(running);
        let running = machine.open();
        assert_eq!(won(&running.get(grab(envelope, "bob"))), (first.0, first.1, true));
        let again = won(&running.get(grab(envelope, "carol")));
        assert_eq!(again, (seen.0, seen.1, true), "what a replay showed once is true for ever");
    }
}

/// Works through a few segments, so that some are recycled, and says what alice has.
fn work(running: &Running, rounds: u64) -> Result<u64, EngineError> {
    let mut acknowledged = 0;
    for round in 0..rounds {
        let transfer = Transfer { user: user("alice"), amount: fen(1), reference: None };
        let mut asking = running.ask(Command::Deposit(transfer));
        running.0.pump_journal()?;
        match look(&mut asking) {
            Some(answer) => drop(answer?),
            None => return Err(EngineError::Overloaded),
        }
        acknowledged += 1;
        if round % 5 == 4 {
            let projector = running.0.projector().expect("there is a store");
            while projector.pump() {}
            if round % 10 == 9 {
                projector.persist();
            }
            running.0.tick();
        }
    }
    Ok(acknowledged)
}

#[test]
fn race_34_crash_while_a_segment_is_recycled_or_projected_replays_idempotently() {
    let (origin, running, _) = with_an_envelope(34);
    drop(running);
    let before = 9_000;
    for call in (1..400).step_by(3) {
        let mut machine = origin.fork(call);
        let running = machine.open();
        machine.disk.fail_call(call, Fault::PowerCut, false);
        let mut acknowledged = 0;
        while let Ok(more) = work(&running, 1) {
            acknowledged += more;
            if acknowledged % 5 == 0 {
                running.0.projector().expect("there is a store").pump();
                running.0.projector().expect("there is a store").persist();
                running.0.tick();
            }
            if acknowledged == 120 {
                break;
            }
        }
        machine.crash(running);
        let running = machine.open();
        let balance = running.balance("alice");
        let kept = [before + acknowledged, before + acknowledged + 1];
        assert!(kept.contains(&balance), "call {call}: {acknowledged} deposits acknowledged, {balance} there");
        running.audit_balances();
        running.settle_store();
        machine.crash(running);
        assert_eq!(machine.open().balance("alice"), balance, "call {call}: the same again");
    }
}

#[test]
fn race_35_a_crash_during_recovery_changes_nothing() {
    let (mut origin, running, envelope) = with_an_envelope(35);
    let mut wins = Vec::new();
    for name in ["bob", "carol"] {
        wins.push(won(&running.get(grab(envelope, name))));
    }
    let unfinished = running.ask(grab(envelope, "dave"));
    origin.disk.fail_call(2, Fault::PowerCut, false);
    assert!(running.0.pump_journal().is_err());
    origin.crash((unfinished, running));
    let mut cut_off = 0;
    for seed in 0..20 {
        let mut machine = origin.fork(seed);
        for call in 1.. {
            machine.disk.fail_call(call, Fault::PowerCut, false);
            let Err(error) = machine.try_open().map(drop) else { break };
            assert!(matches!(error, OpenError::Journal(_)), "{error}");
            machine.crash(());
            cut_off += 1;
        }
        machine.crash(());
        let running = machine.open();
        for (name, win) in ["bob", "carol"].into_iter().zip(&wins) {
            assert_eq!(won(&running.get(grab(envelope, name))), (win.0, win.1, true));
        }
        assert_eq!(won(&running.get(grab(envelope, "dave"))).0, 2, "the third share is dave's, sooner or later");
        running.audit_balances();
    }
    assert!(cut_off > 100, "recovery has many calls to be cut off at, not {cut_off}");
}

#[test]
fn race_41_old_frames_behind_the_tail_of_a_recycled_segment_are_never_read_as_new() {
    let mut machine = Machine::new(41);
    let mut balance = 0;
    for life in 0..40 {
        let running = machine.open();
        assert_eq!(running.balance("alice"), balance, "life {life}");
        // Segments turn over, then end anywhere, with the frames of an earlier life behind.
        balance += work(&running, 11 + life % 7).expect("the disk is sound");
        running.settle_store();
        balance += work(&running, life % 5).expect("the disk is sound");
        machine.crash(running);
    }
    let names = machine.disk.names();
    assert!(names.len() < 10, "segments were recycled, or there would be more than {names:?}");
}

#[test]
fn a_user_with_two_holds_is_given_the_older_one_again_also_after_a_start() {
    for seed in 0..8 {
        let mut machine = Machine::new(seed);
        let running = machine.open();
        let merchant = NewMerchant::new(user("rosy"), "Rosy", Some(MerchantStatus::Verified));
        running.get(Command::PutMerchant(Box::new(merchant)));
        let terms = NewItem {
            merchant: user("rosy"),
            name: "99 roses".to_owned(),
            category: "flowers".to_owned(),
            price: fen(5),
            stock: 5,
            per_user_limit: None,
            starts_at: None,
            ends_at: None,
            hold_ttl_s: 60,
            image_url: None,
            origin: ItemOrigin::default(),
            group_buy: None,
        };
        let Outcome::Item(item) = running.get(Command::CreateItem(Box::new(terms))) else { panic!("not on sale") };
        let grab = || Command::GrabItem { item: item.id, user: user("bob"), quantity: 1 };
        let Outcome::Held { hold: first, .. } = running.get(grab()) else { panic!("not held") };
        machine.clock.advance(1);
        running.get(grab());
        let change = ItemChange { per_user_limit: Some(Some(1)), ..ItemChange::default() };
        running.get(Command::ChangeItem { item: item.id, change: Box::new(change) });
        let again = running.get(grab());
        assert!(matches!(again, Outcome::Held { hold, replayed: true, .. } if hold == first), "{again:?}");
        running.settle_store();
        machine.crash(running);
        assert_eq!(machine.open().get(grab()), again, "seed {seed}: loaded in the order of ids, answered by age");
    }
}
