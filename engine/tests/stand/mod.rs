//! What the engine's tests stand on: engines in temporary directories, time
//! that is moved by hand, and short ways to say a command.

#![allow(dead_code)]

use hongbao_engine::EngineError;
use hongbao_engine::api_key::{NewApiKey, Role};
use hongbao_engine::backend::{Backend, GrabRow, OnceKey, Page, Reply};
use hongbao_engine::clock::{Clock, ManualClock};
use hongbao_engine::command::*;
use hongbao_engine::creates::{CreatesCap, Day};
use hongbao_engine::entropy::SeededEntropy;
use hongbao_engine::journal::{FailureAction, JournalOptions};
use hongbao_engine::memory::{Embedded, EmbeddedOptions};
use hongbao_engine::payout::Outside;
use hongbao_engine::split::SplitRule;
use hongbao_engine::store::{FjallOptions, ProjectorOptions};
use hongbao_engine::types::*;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// When every story starts.
pub(crate) const START: Timestamp = Timestamp::from_ms(1_770_000_000_000);

/// How long a test waits for another thread before it says that nothing comes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Time and entropy: what an engine keeps over its restarts and a test repeats.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) entropy: Arc<SeededEntropy>,
    /// How many envelopes a sender may make in a day.
    pub(crate) creates: Option<u32>,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let clock = Arc::new(ManualClock::at(START));
        World { clock, entropy: Arc::new(SeededEntropy::new(seed)), creates: None }
    }

    pub(crate) fn capped(self, creates: Option<u32>) -> World {
        World { creates, ..self }
    }

    pub(crate) fn advance_s(&self, by_s: u64) {
        self.clock.advance(by_s * 1000);
    }

    /// Small files, no patience for failing disks, any downtime, time by hand.
    pub(crate) fn options(&self) -> EmbeddedOptions {
        EmbeddedOptions {
            shards: 16,
            journal: JournalOptions {
                segment_bytes: 4 << 20,
                spare_segments: 1,
                ballast_bytes: 0,
                threads_max: 12,
                kept_bytes_max: 16 << 20,
                on_failure: FailureAction::Poison,
                ..JournalOptions::default()
            },
            store: FjallOptions { cache_bytes: 4 << 20, memtable_bytes: 4 << 20, ..FjallOptions::default() },
            test_mode: true,
            downtime_s_max: u64::MAX,
            clock: Some(Arc::<ManualClock>::clone(&self.clock)),
            entropy: Arc::<SeededEntropy>::clone(&self.entropy),
            creates: self.creates.map(creates_cap),
            ..EmbeddedOptions::default()
        }
    }

    /// The same without a thread: time passes and disks spin when they are told to.
    pub(crate) fn options_by_hand(&self) -> EmbeddedOptions {
        let mut options = self.options();
        options.threaded = false;
        options.journal.threaded = false;
        options.projector = ProjectorOptions { threaded: false, ..options.projector };
        options
    }
}

/// A cap for days of which the first begins 9,600 s before [`START`].
pub(crate) fn creates_cap(per_day_max: u32) -> CreatesCap {
    const DAY_MS: u64 = 86_400_000;
    let day_of = |at: Timestamp| {
        let from = at.ms() / DAY_MS * DAY_MS;
        let (from, to) = (Timestamp::from_ms(from), Timestamp::from_ms(from + DAY_MS));
        Day { from, to, ends: to.ms().to_string() }
    };
    CreatesCap { per_day_max, day_of: Arc::new(day_of) }
}

/// An engine in a directory that goes away with it.
pub(crate) struct InDirectory {
    pub(crate) world: World,
    pub(crate) directory: tempfile::TempDir,
    options: EmbeddedOptions,
    engine: Option<Embedded>,
}

impl InDirectory {
    pub(crate) fn new(seed: u64) -> InDirectory {
        InDirectory::with(seed, |_| ())
    }

    pub(crate) fn with(seed: u64, change: impl FnOnce(&mut EmbeddedOptions)) -> InDirectory {
        let world = World::new(seed);
        let mut options = world.options();
        change(&mut options);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let engine = Some(open(directory.path(), options.clone()));
        InDirectory { world, directory, options, engine }
    }

    pub(crate) fn engine(&self) -> &Embedded {
        self.engine.as_ref().expect("it is open")
    }

    /// Closes it, and waits for its threads: its files are nobody's then.
    pub(crate) fn close(&mut self) {
        self.engine().close().expect("it closes");
        self.engine = None;
    }

    /// Closes it, and opens it again with `change`d options.
    pub(crate) fn reopen(&mut self, change: impl FnOnce(&mut EmbeddedOptions)) {
        self.close();
        change(&mut self.options);
        self.open();
    }

    /// Opens what was closed.
    pub(crate) fn open(&mut self) {
        self.engine = Some(open(self.directory.path(), self.options.clone()));
    }
}

impl std::ops::Deref for InDirectory {
    type Target = Embedded;
    fn deref(&self) -> &Embedded {
        self.engine()
    }
}

fn open(directory: &Path, options: EmbeddedOptions) -> Embedded {
    Embedded::open(directory, options).expect("it opens").0
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread. While it waits, `pump` is called; once that
/// says it did nothing, another thread is waited for.
pub(crate) fn drive<T>(future: impl Future<Output = T>, pump: impl Fn() -> bool) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    let since = Instant::now();
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        if !pump() {
            std::thread::park_timeout(Duration::from_millis(100));
        }
        assert!(since.elapsed() < PATIENCE, "an answer never came");
    }
}

/// Runs a future of an engine that has threads of its own.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    drive(future, || false)
}

/// Runs a future of an engine without threads.
pub(crate) fn wait_pumping<T>(engine: &Embedded, future: impl Future<Output = T>) -> T {
    drive(future, || engine.pump().expect("the disk is sound"))
}

/// Looks again and again until it is so, for what another thread has to do first.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !so() {
        assert!(since.elapsed() < PATIENCE, "it never came true that {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs `act` on so many threads, all starting at the same moment.
pub(crate) fn at_once<T: Send>(threads: usize, act: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(threads);
    std::thread::scope(|scope| {
        let run = |n| {
            let (act, start) = (&act, &start);
            scope.spawn(move || {
                start.wait();
                act(n)
            })
        };
        let running: Vec<_> = (0..threads).map(run).collect();
        running.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    })
}

pub(crate) fn fen(minor: u64) -> Amount {
    Amount::new(minor).expect("a test's amount")
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).expect("a test's user")
}

pub(crate) fn nth_user(n: usize) -> UserId {
    user(&format!("u{n}"))
}

pub(crate) fn reference(owner: &str, text: &str) -> Reference {
    Reference { owner: owner.to_owned(), text: text.to_owned() }
}

/// An envelope of alice's, a day open and a day to claim, changed as needed.
pub(crate) fn envelope(total: u64, shares: u32) -> NewEnvelope {
    NewEnvelope {
        owner: "app".to_owned(),
        sender: user("alice"),
        total: fen(total),
        shares,
        split: SplitRule::Lucky { min_share: fen(1), max_share: None },
        message: String::new(),
        opens_at: None,
        expires_in_s: 86_400,
        claim_within_s: 86_400,
        auto_claim: false,
        unclaimed: Unclaimed::Return,
        reference: None,
        metadata: "{}".to_owned(),
        client_seed: None,
        outside: Outside::default(),
    }
}

/// The `nth` API key of an owner.
pub(crate) fn api_key(owner: &str, nth: u8) -> NewApiKey {
    let roles = vec![Role::Caller, Role::Merchant(user("rosy"))];
    NewApiKey { name: format!("of {owner}"), owner: user(owner), roles, digest: [nth; 32] }
}

/// An item of rosy's at ten fen, without a limit, held for 900 seconds, changed as needed.
pub(crate) fn item(stock: u32) -> NewItem {
    NewItem {
        merchant: user("rosy"),
        name: "99 roses".to_owned(),
        category: "flowers".to_owned(),
        price: fen(10),
        stock,
        per_user_limit: None,
        starts_at: None,
        ends_at: None,
        hold_ttl_s: 900,
        image_url: None,
        origin: ItemOrigin::default(),
        group_buy: None,
    }
}

/// An engine's commands in few words, for engines with threads. What is shed is
/// asked again; any other failure fails the test.
pub(crate) trait Ask: Backend + Sized {
    fn ask(&self, command: Command) -> Outcome {
        self.ask_under(command, None).outcome
    }

    fn ask_under(&self, command: Command, once: Option<OnceKey>) -> Reply {
        let mut reply = self.try_ask(command.clone(), once);
        until("it is not shed", || {
            if matches!(reply, Err(EngineError::Overloaded)) {
                reply = self.try_ask(command.clone(), once);
            }
            !matches!(reply, Err(EngineError::Overloaded))
        });
        reply.expect("it is answered")
    }

    fn try_ask(&self, command: Command, once: Option<OnceKey>) -> Result<Reply, EngineError> {
        wait(self.execute(command, once))
    }

    fn deposit(&self, to: &UserId, minor: u64) {
        let transfer = Transfer { user: to.clone(), amount: fen(minor), reference: None };
        assert!(matches!(self.ask(Command::Deposit(transfer)), Outcome::Wallet(_)));
    }

    /// Funds the sender and creates.
    fn give(&self, terms: NewEnvelope) -> EnvelopeId {
        self.deposit(&terms.sender, terms.total.minor());
        match self.ask(Command::CreateEnvelope(Box::new(terms))) {
            Outcome::Envelope(view) => view.id,
            other => panic!("an envelope was expected, not {other:?}"),
        }
    }

    fn grab(&self, envelope: EnvelopeId, user: &UserId) -> Outcome {
        self.ask(Command::Grab { envelope, user: user.clone() })
    }

    fn claim(&self, envelope: EnvelopeId, user: &UserId) -> Outcome {
        self.ask(Command::Claim { envelope, user: user.clone() })
    }

    fn cancel(&self, envelope: EnvelopeId) -> Outcome {
        self.ask(Command::Cancel { envelope })
    }

    /// Verifies the merchant and puts the item on sale.
    fn sell(&self, terms: NewItem) -> ItemId {
        let merchant = NewMerchant::new(terms.merchant.clone(), "Rosy", Some(MerchantStatus::Verified));
        assert!(matches!(self.ask(Command::PutMerchant(Box::new(merchant))), Outcome::Merchant(_)));
        match self.ask(Command::CreateItem(Box::new(terms))) {
            Outcome::Item(view) => view.id,
            other => panic!("an item was expected, not {other:?}"),
        }
    }

    fn grab_item(&self, item: ItemId, user: &UserId, quantity: u32) -> Outcome {
        self.ask(Command::GrabItem { item, user: user.clone(), quantity })
    }

    fn claim_hold(&self, hold: HoldId, user: &UserId) -> Outcome {
        self.ask(Command::ClaimHold { hold, user: user.clone() })
    }

    fn release_hold(&self, hold: HoldId, user: &UserId) -> Outcome {
        self.ask(Command::ReleaseHold { hold, user: user.clone() })
    }

    fn available(&self, user: &UserId) -> u64 {
        wait(self.wallet(user)).expect("a wallet").available.minor()
    }

    fn seen(&self, id: EnvelopeId) -> EnvelopeView {
        wait(self.envelope(id)).expect("a read").expect("an envelope")
    }

    fn stock(&self, id: ItemId) -> Stock {
        wait(self.item(id)).expect("a read").expect("an item").stock
    }

    /// All of an envelope's grabs.
    fn all_grabs(&self, id: EnvelopeId) -> Vec<GrabRow> {
        let mut rows = Vec::new();
        let mut page = Page { limit: 1000, cursor: None };
        loop {
            let listing = wait(self.grabs(id, &page)).expect("a read").expect("an envelope");
            rows.extend(listing.rows);
            match listing.next {
                Some(next) => page.cursor = Some(next),
                None => return rows,
            }
        }
    }

    fn assert_balanced(&self) {
        let audit = wait(Backend::audit(self)).expect("a read");
        assert!(audit.balanced(), "{audit:?}");
        assert_eq!(audit.in_flight, 0);
    }
}

impl<B: Backend> Ask for B {}
