//! One machine with its disk, its clock and its clients, driven by one thread.
//!
//! Every command is decided at the first poll of its future, so the model can
//! say right then what it must come to. What a crash takes back is known by the
//! last record that recovery found: the model goes back to it. Nothing that was
//! answered may lie behind it.

use crate::commands::{self, Theme};
use crate::gifts::{Given, InTheWay};
use crate::groups::Together;
use crate::model::{DAY_MS, Expected, Model, Records, UNCERTAIN, When, is_positive};
use crate::random::Random;
use crate::sales::Seller;
use crate::trial::Faults;
use hongbao_engine::backend::{Backend, Entry, GrabRow, Listing, OnceKey, Page, ReceivedRow, Reply};
use hongbao_engine::clock::{Clock, ManualClock};
use hongbao_engine::code::{Code, HandedTo};
use hongbao_engine::command::{
    Command, EnvelopeView, HoldView, ItemView, Merchant, NewMerchant, OrderView, Outcome, Refusal, WalletView,
};
use hongbao_engine::creates::{CreatesCap, Day};
use hongbao_engine::entropy::{Entropy, SeededEntropy};
use hongbao_engine::error::EngineError;
use hongbao_engine::gift::{Gift, GiftRole, GiftState};
use hongbao_engine::group::{Group, GroupState, GroupsOf};
use hongbao_engine::journal::{FailureAction, JournalError, JournalOptions};
use hongbao_engine::memory::{Embedded, EmbeddedOptions, OpenError, StartReport};
use hongbao_engine::order::OrderState;
use hongbao_engine::payout::PayoutView;
use hongbao_engine::sale::{MerchantBalance, StatementTime};
use hongbao_engine::storage::faulty::{Fault, FaultyDisk};
use hongbao_engine::store::{MemoryRows, Projector, ProjectorOptions, StepLimits};
use hongbao_engine::types::{EnvelopeId, GiftId, GroupId, HoldId, ItemId, Timestamp, UserId};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// The engine's generator, which keeps a copy of what it gave.
struct Watched {
    source: SeededEntropy,
    drawn: Mutex<Vec<Vec<u8>>>,
}

impl Entropy for Watched {
    fn fill(&self, bytes: &mut [u8]) {
        self.source.fill(bytes);
        self.drawn.lock().unwrap().push(bytes.to_vec());
    }
}

/// What a client is told.
#[derive(Debug, PartialEq)]
enum Told {
    Reply(Reply),
    Wallet(WalletView),
    Envelope(Option<Box<EnvelopeView>>),
    Grab(Option<GrabRow>),
    Grabs(Option<Vec<GrabRow>>),
    Entries(Vec<Entry>),
    Item(Option<Box<ItemView>>),
    Hold(Option<HoldView>),
    Order(Option<OrderView>),
    Merchant(Option<Merchant>),
    Sales(Option<MerchantBalance>),
    Payout(Option<Box<PayoutView>>),
    Gift(Option<Box<Gift>>),
    Group(Option<Box<Group>>),
    Codes(Vec<Code>),
    Audit(hongbao_engine::backend::Audit),
}

type Answers = Vec<Result<Told, EngineError>>;
type Asking = Pin<Box<dyn Future<Output = Answers>>>;

enum Expectation {
    /// This, once the record is durable.
    Exactly(Told, u64),
    /// This user's durable movements.
    Entries(UserId),
    /// This envelope's durable grabs, as they stand at this time.
    Grabs(EnvelopeId, Timestamp),
}

struct Client {
    what: String,
    asking: Asking,
    expected: Vec<Expectation>,
}

/// What was decided in this life, to be decided again up to a crash.
enum Step {
    Command {
        at: Timestamp,
        command: Command,
        once: Option<OnceKey>,
        drawn: Vec<Vec<u8>>,
        lsn: u64,
    },
    /// Something ended because a command wanted its units.
    Cleared {
        at: Timestamp,
        what: InTheWay,
        lsn: u64,
    },
    Tick {
        at: Timestamp,
        records: Records,
        group: u64,
        done: bool,
    },
}

/// How an engine's life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The power fails.
    Power,
    /// The process is killed; the machine lives on.
    Kill,
    /// It is closed in order, and the power fails then.
    Close,
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) disk: FaultyDisk,
    pub(crate) rows: Arc<MemoryRows>,
    theme: Theme,
    clock: Arc<ManualClock>,
    entropy: Arc<Watched>,
    options: EmbeddedOptions,
    engine: Option<Arc<Embedded>>,
    pub(crate) model: Model,
    /// The model as it was when everything was durable.
    base: Model,
    steps: Vec<Step>,
    clients: Vec<Client>,
    history: Vec<(Command, Option<OnceKey>)>,
    /// Everything up to this record has been told to somebody.
    told_lsn: u64,
    /// Whether a crash left it open when some housekeeping was done.
    uncertain: bool,
    /// The journal has failed.
    failed: bool,
    /// Something was done to the disk or the rows in this life.
    troubled: bool,
    /// The disk was full, or had other faults, in this life or its start. The
    /// journal looks again when it is next written to.
    was_full: bool,
    rows_fail: bool,
    verbose: bool,
    /// What was met how often, so that a run can show what it has tried.
    pub(crate) met: BTreeMap<&'static str, u64>,
}

fn day_of(at: Timestamp) -> Day {
    let from = at.ms() / DAY_MS * DAY_MS;
    let [from, to] = [from, from + DAY_MS].map(Timestamp::from_ms);
    Day { from, to, ends: to.ms().to_string() }
}

const START_MS: u64 = 1_790_000_000_000;

macro_rules! say {
    ($world:expr, $($text:tt)*) => { if $world.verbose { println!($($text)*); } };
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults, verbose: bool) -> World {
        let mut random = Random(seed);
        let clock = Arc::new(ManualClock::at(Timestamp::from_ms(START_MS)));
        let source = SeededEntropy::new(random.next());
        let entropy = Arc::new(Watched { source, drawn: Mutex::default() });
        let segment_bytes = random.pick(&[48, 64]) << 10;
        let journal = JournalOptions {
            segment_bytes,
            spare_segments: random.between(1, 2) as usize,
            ballast_bytes: random.below(2) * 80_000,
            buffer_bytes_max: random.pick(&[12_000, 64 << 20]),
            lag_bytes_max: random.pick(&[60_000, 1 << 30]),
            // By the seed and not by its random numbers, which tell what else happens.
            kept_bytes_max: (seed % 3) * 2 * (64 << 10),
            record_bytes_max: 2_500,
            threads_max: 0,
            threaded: false,
            on_failure: FailureAction::Poison,
            mutants: faults.journal,
            ..JournalOptions::default()
        };
        let projector = ProjectorOptions {
            threaded: false,
            step: StepLimits { events: random.pick(&[1, 10, 8_192]), bytes: 1 << 20 },
            persist_bytes: random.pick(&[1, 2_000, 1 << 30]),
            ..ProjectorOptions::default()
        };
        // By the seed, as above.
        let creates = seed.is_multiple_of(4).then_some(2);
        let options = EmbeddedOptions {
            journal,
            projector,
            test_mode: true,
            downtime_s_max: random.pick(&[30, 3 * 86_400]),
            creates: creates.map(|per_day_max| CreatesCap { per_day_max, day_of: Arc::new(day_of) }),
            clock: Some(clock.clone()),
            entropy: entropy.clone(),
            threaded: false,
            ..EmbeddedOptions::default()
        };
        let theme = random.pick(&[Theme::Everything, Theme::Everything, Theme::Money, Theme::Sales]);
        let mut world = World {
            theme,
            disk: FaultyDisk::new(random.next()),
            rows: Arc::new(MemoryRows::default()),
            random,
            clock,
            entropy,
            options,
            engine: None,
            model: Model { creates, ..Model::default() },
            base: Model { creates, ..Model::default() },
            steps: Vec::new(),
            clients: Vec::new(),
            history: Vec::new(),
            told_lsn: 0,
            uncertain: false,
            failed: false,
            troubled: false,
            was_full: false,
            rows_fail: false,
            verbose,
            met: BTreeMap::new(),
        };
        world.start(false);
        world
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn engine(&self) -> &Arc<Embedded> {
        self.engine.as_ref().expect("the engine is running")
    }

    fn meet(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }

    fn staged(&self) -> u64 {
        self.engine().stats().staged_lsn.0
    }

    fn durable(&self) -> u64 {
        self.engine().stats().durable_lsn.0
    }

    /// One step of a life, drawn at random.
    pub(crate) fn step(&mut self) {
        match self.random.below(100) {
            0..=37 => self.ask_anything(),
            38..=41 => self.ask_at_a_deadline(),
            42..=46 if !self.model.envelopes.is_empty() => self.grab_many(),
            47..=55 => self.read_anything(),
            56..=64 => {
                if !self.clients.is_empty() {
                    let chosen = self.random.below(self.clients.len() as u64) as usize;
                    self.poll(chosen);
                }
            }
            65..=81 => self.pump(),
            82..=87 => self.project_some(),
            88..=89 => self.projector().persist(),
            90..=94 => self.tick(),
            95..=98 => self.pass_time(),
            _ => self.quiesce_and_check(),
        }
    }

    /// Lets a call to the disk or a commit of the store fail later in this life.
    pub(crate) fn plan_trouble(&mut self) {
        self.troubled = true;
        self.was_full = true;
        match self.random.below(5) {
            0 => {
                let room = self.random.below(150_000);
                self.disk.set_capacity(Some(self.disk.used_bytes() + room));
            }
            1 => {
                self.rows_fail = true;
                self.rows.fail_after(self.random.below(20));
            }
            _ => {
                let fault = self.random.pick(&[Fault::Eio, Fault::NoSpace, Fault::ShortWrite, Fault::PowerCut]);
                let forever = self.random.once_in(2);
                self.disk.fail_call(1 + self.random.below(60), fault, forever);
            }
        }
    }

    fn pass_time(&mut self) {
        let now = self.now();
        let deadlines: Vec<Timestamp> = self.model.deadlines().into_iter().filter(|at| *at > now).collect();
        let by_ms = match self.random.below(8) {
            0 if !deadlines.is_empty() => {
                // Exactly there, or the moment before.
                self.random.pick(&deadlines).ms() - now.ms() - self.random.below(2)
            }
            1 => self.random.pick(&[61_000, 301_000]),
            2 if self.random.once_in(10) => 9 * 86_400_000,
            _ => self.random.between(1, 3_000),
        };
        self.advance(by_ms);
    }

    pub(crate) fn advance(&mut self, by_ms: u64) {
        self.clock.advance(by_ms);
        say!(self, "clock +{by_ms} ms: {}", self.now().ms() - START_MS);
    }

    fn ask_anything(&mut self) {
        let (command, once) = if !self.history.is_empty() && self.random.once_in(4) {
            self.random.pick(&self.history)
        } else {
            let command = commands::any(self.theme, &self.model, self.now(), &mut self.random);
            let once = commands::once_for(&command, &mut self.random);
            (command, once)
        };
        self.ask(command, once);
    }

    fn ask_at_a_deadline(&mut self) {
        let now = self.now();
        if let Some((at, command)) = commands::at_a_deadline(&self.model, now, &mut self.random) {
            // There, or the moment before.
            let before_ms = self.random.below(2);
            self.advance(at.ms() - now.ms() - before_ms);
            if self.random.once_in(4) {
                self.tick();
            }
            self.ask(command, None);
        }
    }

    /// Gives the engine a command and the model, too.
    pub(crate) fn ask(&mut self, command: Command, once: Option<OnceKey>) {
        if self.history.len() < 200 {
            self.history.push((command.clone(), once));
        }
        let what = if self.verbose { format!("{command:?} once {once:?}") } else { String::new() };
        let engine = Arc::clone(self.engine());
        let (asked, key) = (command.clone(), once);
        let asking: Asking = Box::pin(async move { vec![engine.execute(asked, key).await.map(Told::Reply)] });
        let (now, before) = (self.now(), self.staged());
        self.entropy.drawn.lock().unwrap().clear();
        let mut client = Client { what, asking, expected: Vec::new() };
        let first = poll_once(&mut client.asking);
        let drawn = std::mem::take(&mut *self.entropy.drawn.lock().unwrap());
        let staged = self.staged() - before;
        if let Poll::Ready(answers) = &first
            && let Err(error) = &answers[0]
        {
            say!(self, "{} -> {error}", client.what);
            self.clear_the_way(now, &command, staged);
            return self.may_fail(error);
        }
        if self.failed {
            return;
        }
        let expected = self.decide(now, &command, once, drawn);
        assert_eq!(staged, expected.records, "records of {command:?}, which comes to {:?}", expected.reply);
        say!(self, "{} -> {:?}, record {}", client.what, expected.reply, self.model.lsn);
        client.expected = vec![Expectation::Exactly(Told::Reply(expected.reply), expected.needs)];
        match first {
            Poll::Ready(answers) => self.judge(&client, answers),
            Poll::Pending => self.clients.push(client),
        }
    }

    /// A command was not let in after it had made room for itself, with so many records.
    fn clear_the_way(&mut self, at: Timestamp, command: &Command, staged: u64) {
        let cleared = self.model.in_the_way(at, command);
        assert!(staged <= cleared.len() as u64, "{command:?} was refused and staged all the same");
        for what in cleared.into_iter().take(staged as usize) {
            self.model.clear(at, what);
            self.steps.push(Step::Cleared { at, what, lsn: self.model.lsn });
        }
    }

    fn decide(&mut self, at: Timestamp, command: &Command, once: Option<OnceKey>, drawn: Vec<Vec<u8>>) -> Expected {
        let before = self.model.lsn;
        let expected = self.model.execute(at, command, once, &drawn);
        let cleared = std::mem::take(&mut self.model.cleared);
        let of_its_own = expected.records - cleared.len() as u64;
        for (lsn, what) in (before + 1..).zip(cleared) {
            // Each is a record of its own: a crash may leave some of them.
            self.steps.push(Step::Cleared { at, what, lsn });
        }
        if of_its_own > 0 {
            let (command, lsn) = (command.clone(), self.model.lsn);
            self.steps.push(Step::Command { at, command, once, drawn, lsn });
        }
        expected
    }

    fn grab_many(&mut self) {
        if self.failed {
            return;
        }
        let count = self.random.between(1, 8);
        let commands: Vec<Command> = (0..count).map(|_| commands::grab(&self.model, &mut self.random)).collect();
        let what = if self.verbose { format!("all of {commands:?}") } else { String::new() };
        let (engine, asked) = (Arc::clone(self.engine()), commands.clone());
        let asking: Asking = Box::pin(async move {
            engine.execute_all(asked).await.into_iter().map(|answer| answer.map(Told::Reply)).collect()
        });
        let (now, before) = (self.now(), self.staged());
        let mut client = Client { what, asking, expected: Vec::new() };
        let first = poll_once(&mut client.asking);
        // Room only shrinks in one call, so those not let in come after all that are.
        let mut left = self.staged() - before;
        for command in &commands {
            let mut ahead = self.model.clone();
            let expected = ahead.execute(now, command, None, &[]);
            let let_in = expected.records <= left;
            if let_in {
                left -= expected.records;
                self.decide(now, command, None, Vec::new());
            }
            // One that is not let in is told so, which judging allows for.
            client.expected.push(Expectation::Exactly(Told::Reply(expected.reply), expected.needs));
        }
        assert_eq!(left, 0, "more records than grabs in {commands:?}");
        say!(self, "{} -> up to record {}", client.what, self.model.lsn);
        match first {
            Poll::Ready(answers) => self.judge(&client, answers),
            Poll::Pending => self.clients.push(client),
        }
    }

    fn read_anything(&mut self) {
        if self.failed {
            return;
        }
        let users: Vec<UserId> = self.model.wallets.keys().cloned().collect();
        let user = if users.is_empty() { commands::any_user(&mut self.random) } else { self.random.pick(&users) };
        let envelopes: Vec<EnvelopeId> = self.model.envelopes.keys().copied().collect();
        let envelope = if envelopes.is_empty() { None } else { Some(self.random.pick(&envelopes)) };
        match (self.random.below(8), envelope) {
            (6, _) if self.random.once_in(2) => self.read_payout(),
            (7, _) if !self.model.given.is_empty() && !self.random.once_in(3) => {
                let gifts: Vec<GiftId> = self.model.given.keys().copied().collect();
                let gift = self.random.pick(&gifts);
                self.read_gift(gift);
            }
            (7, _) if self.random.once_in(3) && !self.model.groups.is_empty() => {
                let groups: Vec<GroupId> = self.model.groups.keys().copied().collect();
                let group = self.random.pick(&groups);
                self.read_group(group);
            }
            (7, _) if self.random.once_in(2) && !self.model.codes.handed.is_empty() => {
                let handed: Vec<HandedTo> = self.model.codes.handed.keys().copied().collect();
                let to = self.random.pick(&handed);
                self.read_codes(to);
            }
            (0, _) => self.read_wallet(&user),
            (1, _) => self.read_entries(&user),
            (2 | 3, Some(envelope)) => self.read_envelope(envelope),
            (4, Some(envelope)) => self.read_grab(envelope, &user),
            (5, Some(envelope)) => self.read_grabs(envelope),
            (6, _) => self.read_audit(),
            _ => {
                let items: Vec<ItemId> = self.model.items.keys().copied().collect();
                let holds: Vec<HoldId> = self.model.holds.keys().copied().collect();
                if self.random.once_in(2) && !items.is_empty() {
                    let item = self.random.pick(&items);
                    self.read_item(item);
                } else if !holds.is_empty() {
                    let hold = self.random.pick(&holds);
                    self.read_hold(hold);
                }
            }
        }
    }

    fn read(&mut self, what: &str, asking: Asking, expected: Expectation) {
        let what = if self.verbose { what.to_owned() } else { String::new() };
        let mut client = Client { what, asking, expected: vec![expected] };
        let before = self.staged();
        let first = poll_once(&mut client.asking);
        assert_eq!(self.staged(), before, "a read stages nothing");
        match first {
            Poll::Ready(answers) => self.judge(&client, answers),
            Poll::Pending => self.clients.push(client),
        }
    }

    fn read_wallet(&mut self, user: &UserId) {
        let (engine, asked) = (Arc::clone(self.engine()), user.clone());
        let asking: Asking = Box::pin(async move { vec![engine.wallet(&asked).await.map(Told::Wallet)] });
        let movements = self.model.wallets.get(user).and_then(|wallet| wallet.movements.last());
        let needs = movements.map_or(0, |movement| movement.records.first);
        let expected = Expectation::Exactly(Told::Wallet(self.model.wallet(user)), needs);
        self.read("wallet", asking, expected);
    }

    fn read_entries(&mut self, user: &UserId) {
        let (engine, asked, limit) = (Arc::clone(self.engine()), user.clone(), self.page());
        let asking: Asking = Box::pin(async move {
            let mut rows = Vec::new();
            let mut page = Page { limit, cursor: None };
            loop {
                match engine.entries(&asked, &page).await {
                    Ok(listing) => match more(listing, &mut rows) {
                        Some(cursor) => page.cursor = Some(cursor),
                        None => return vec![Ok(Told::Entries(rows))],
                    },
                    Err(error) => return vec![Err(error)],
                }
            }
        });
        self.read("entries", asking, Expectation::Entries(user.clone()));
    }

    fn read_envelope(&mut self, id: EnvelopeId) {
        let engine = Arc::clone(self.engine());
        let asking: Asking =
            Box::pin(async move { vec![engine.envelope(id).await.map(|view| Told::Envelope(view.map(Box::new)))] });
        let envelope = &self.model.envelopes[&id];
        let told = Told::Envelope(Some(Box::new(envelope.view(self.now()))));
        let needs = envelope.told_lsn();
        self.read("envelope", asking, Expectation::Exactly(told, needs));
    }

    fn read_grab(&mut self, id: EnvelopeId, user: &UserId) {
        let (engine, asked) = (Arc::clone(self.engine()), user.clone());
        let asking: Asking = Box::pin(async move { vec![engine.grab_of(id, &asked).await.map(Told::Grab)] });
        let envelope = &self.model.envelopes[&id];
        let row = envelope.share_of(user).map(|share| envelope.row(self.now(), share));
        let needs = if row.is_some() { envelope.lsn } else { 0 };
        self.read("grab", asking, Expectation::Exactly(Told::Grab(row), needs));
    }

    fn read_grabs(&mut self, id: EnvelopeId) {
        let (engine, limit) = (Arc::clone(self.engine()), self.page());
        let asking: Asking = Box::pin(async move {
            let mut rows = Vec::new();
            let mut page = Page { limit, cursor: None };
            loop {
                match engine.grabs(id, &page).await {
                    Ok(Some(listing)) => match more(listing, &mut rows) {
                        Some(cursor) => page.cursor = Some(cursor),
                        None => return vec![Ok(Told::Grabs(Some(rows)))],
                    },
                    Ok(None) => return vec![Ok(Told::Grabs(None))],
                    Err(error) => return vec![Err(error)],
                }
            }
        });
        self.read("grabs", asking, Expectation::Grabs(id, self.now()));
    }

    fn read_item(&mut self, id: ItemId) {
        let engine = Arc::clone(self.engine());
        let asking: Asking =
            Box::pin(async move { vec![engine.item(id).await.map(|view| Told::Item(view.map(Box::new)))] });
        let holds = self.model.holds.values().filter(|(hold, _)| hold.item == id);
        let holds = holds.map(|(_, lsn)| *lsn);
        let gifts = self.model.given.values().filter(|given| given.gift().item == id).map(|given| given.lsn);
        let orders = self.model.orders.values().filter(|(order, _)| order.item == id).map(|(_, lsn)| *lsn);
        let groups = self.model.groups.values().filter(|it| it.group().item == id).map(|it| it.lsn);
        let needs = holds.chain(gifts).chain(orders).chain(groups).max().unwrap_or(0).max(self.model.items[&id].lsn);
        let told = Told::Item(self.model.item(id).map(Box::new));
        self.read("item", asking, Expectation::Exactly(told, needs));
    }

    fn read_hold(&mut self, id: HoldId) {
        let engine = Arc::clone(self.engine());
        let asking: Asking = Box::pin(async move { vec![engine.hold(id).await.map(Told::Hold)] });
        let (hold, needs) = self.model.holds[&id].clone();
        self.read("hold", asking, Expectation::Exactly(Told::Hold(Some(hold)), needs));
    }

    fn read_payout(&mut self) {
        let known: Vec<_> = self.model.payouts.iter().filter(|owed| owed.id.is_some()).collect();
        let Some(owed) = known.get(self.random.below(1 + known.len() as u64) as usize) else { return };
        let (view, needs) = (self.model.payout(owed), owed.lsn);
        let (engine, id) = (Arc::clone(self.engine()), view.payout.id);
        let asking: Asking =
            Box::pin(async move { vec![engine.payout(id).await.map(|view| Told::Payout(view.map(Box::new)))] });
        self.read("payout", asking, Expectation::Exactly(Told::Payout(Some(Box::new(view))), needs));
    }

    fn read_gift(&mut self, id: GiftId) {
        let engine = Arc::clone(self.engine());
        let asking: Asking =
            Box::pin(async move { vec![engine.gift(id).await.map(|gift| Told::Gift(gift.map(Box::new)))] });
        let given = &self.model.given[&id];
        let (gift, needs) = (given.gift(), given.lsn);
        self.read("gift", asking, Expectation::Exactly(Told::Gift(Some(Box::new(gift))), needs));
    }

    fn read_group(&mut self, id: GroupId) {
        let engine = Arc::clone(self.engine());
        let asking: Asking =
            Box::pin(async move { vec![engine.group(id).await.map(|group| Told::Group(group.map(Box::new)))] });
        let together = &self.model.groups[&id];
        let (group, needs) = (together.group(), together.lsn);
        self.read("group", asking, Expectation::Exactly(Told::Group(Some(Box::new(group))), needs));
    }

    /// Whose they are is told first, and by then what it was handed is durable.
    fn read_codes(&mut self, to: HandedTo) {
        let engine = Arc::clone(self.engine());
        let asking: Asking = Box::pin(async move {
            let told = match to {
                HandedTo::Order(id) => engine.order(id).await.map(|order| order.is_some()),
                HandedTo::Gift(id) => engine.gift(id).await.map(|gift| gift.is_some()),
            };
            vec![match told {
                Ok(is_there) => {
                    assert!(is_there, "{to} has codes and is not there");
                    engine.codes(to).await.map(Told::Codes)
                }
                Err(error) => Err(error),
            }]
        });
        let (codes, needs) = self.model.codes.handed[&to].clone();
        self.met.entry("codes handed out").and_modify(|met| *met += 1).or_insert(1);
        self.read("codes", asking, Expectation::Exactly(Told::Codes(codes), needs));
    }

    fn read_audit(&mut self) {
        let engine = Arc::clone(self.engine());
        let asking: Asking = Box::pin(async move { vec![engine.audit().await.map(Told::Audit)] });
        let audit = self.model.audit();
        assert!(audit.balanced(), "the model's own books balance");
        self.read("audit", asking, Expectation::Exactly(Told::Audit(audit), 0));
    }

    fn page(&mut self) -> usize {
        self.random.pick(&[1, 2, 3, 1000])
    }

    fn poll(&mut self, index: usize) {
        match poll_once(&mut self.clients[index].asking) {
            Poll::Ready(answers) => {
                let client = self.clients.swap_remove(index);
                self.judge(&client, answers);
            }
            Poll::Pending => {}
        }
    }

    fn poll_all(&mut self) {
        for index in (0..self.clients.len()).rev() {
            self.poll(index);
        }
    }

    /// Compares what a client was told with what it should have been.
    fn judge(&mut self, client: &Client, answers: Answers) {
        assert_eq!(answers.len(), client.expected.len(), "as many answers as questions");
        for (answer, expected) in answers.into_iter().zip(&client.expected) {
            let told = match answer {
                Ok(told) => told,
                Err(error) => {
                    self.may_fail(&error);
                    continue;
                }
            };
            self.meet("answers");
            if let Told::Reply(reply) = &told {
                self.meet(kind_of(reply));
            }
            match expected {
                Expectation::Exactly(expected, needs) => {
                    let told = without_wording(told);
                    assert_eq!(told, *expected, "{}: told is not as expected", client.what);
                    let durable = self.durable();
                    assert!(*needs <= durable, "{}: told before record {needs} is durable", client.what);
                    self.told_lsn = self.told_lsn.max(*needs);
                }
                Expectation::Entries(user) => {
                    let Told::Entries(rows) = told else { unreachable!("entries were asked for") };
                    let durable = self.durable();
                    if let Some(Err(wrong)) = self.model.check_entries(user, &rows, durable) {
                        panic!("entries of {user} up to record {durable}: {wrong}");
                    }
                    let movements = self.model.wallets.get(user).map_or(0, |wallet| wallet.movements.len());
                    if rows.len() == movements && movements > 0 {
                        let last = self.model.wallets[user].movements.last().expect("there are some");
                        self.told_lsn = self.told_lsn.max(last.records.first);
                    }
                }
                Expectation::Grabs(id, asked_at) => {
                    let Told::Grabs(rows) = told else { unreachable!("grabs were asked for") };
                    self.judge_grabs(*id, *asked_at, &rows.expect("the envelope exists"));
                }
            }
        }
    }

    fn judge_grabs(&mut self, id: EnvelopeId, asked_at: Timestamp, rows: &[GrabRow]) {
        let durable = self.durable();
        let envelope = &self.model.envelopes[&id];
        let wins = envelope.wins.iter().filter(|win| win.lsn <= durable).count();
        assert_eq!(rows.len(), wins, "durable grabs of {id}");
        let all_taken = wins == envelope.amounts.len();
        let last_lsn = envelope.wins[..wins].last().map_or(0, |win| win.lsn);
        for (share, row) in rows.iter().enumerate() {
            let mut expected = envelope.row(asked_at, share);
            if !all_taken {
                assert!(!row.best, "the best of {id} is told before all are durably taken");
            }
            // Facts may be a moment older than the rows, and pages of different moments.
            expected.best = row.best;
            if row.status == envelope.row(self.now(), share).status {
                expected.status = row.status;
            }
            let by_itself = |when: When| when.from >= envelope.claim_by;
            let claimed = envelope.wins[share].claimed;
            if claimed.is_some_and(|(when, lsn)| lsn > durable || when.from >= asked_at || by_itself(when)) {
                expected.claimed_at = row.claimed_at;
                expected.status = row.status;
            }
            assert_eq!(*row, expected, "a grab of {id}");
        }
        self.told_lsn = self.told_lsn.max(last_lsn);
    }

    /// Whether this failure of operation is one that may be.
    fn may_fail(&mut self, error: &EngineError) {
        let excused = match error {
            EngineError::Overloaded => true,
            EngineError::StorageFull => self.was_full,
            EngineError::Journal(_) => self.troubled,
            EngineError::Store(_)
            | EngineError::Addresses(_)
            | EngineError::Unconfirmed(_)
            | EngineError::Backend(_)
            | EngineError::Archive(_)
            | EngineError::NotReady(_)
            | EngineError::OperatorNeeded(_)
            | EngineError::ShuttingDown
            | EngineError::Cursor
            | EngineError::EventsOff(_)
            | EngineError::CursorGone { .. } => false,
        };
        assert!(excused, "a failure without a fault: {error}");
        self.meet(match error {
            EngineError::Overloaded => "overloaded",
            EngineError::StorageFull => "storage full",
            _ => "journal failed",
        });
    }

    fn pump(&mut self) {
        let before = self.durable();
        if let Err(error) = self.engine().pump_journal() {
            say!(self, "the journal fails: {error}");
            assert!(self.troubled, "the journal failed without a fault: {error}");
            self.failed = true;
        }
        say!(self, "pumped from {before} to {}", self.durable());
    }

    /// Does what is due, and has the model do it.
    fn tick(&mut self) {
        if self.failed {
            return;
        }
        let first = self.staged() + 1;
        let mut done = self.tick_out();
        for _ in 0..30 {
            if done || self.failed {
                break;
            }
            self.relieve();
            done = self.tick_out();
        }
        assert!(done || self.failed, "housekeeping is let in on a healthy disk");
        let records = Records { first, last: self.staged() };
        let at = self.now();
        let group = if self.uncertain { UNCERTAIN } else { first };
        say!(self, "tick: records {first} to {}", records.last);
        let due = self.model.tick(at, When::at(at), records, group);
        if !self.uncertain && done {
            assert_eq!(due, records.last >= first, "whether something is due at {}", at.ms());
        }
        self.model.lsn = records.last;
        if records.last >= first {
            self.steps.push(Step::Tick { at, records, group, done });
        }
    }

    /// Ticks until nothing is due. Says whether everything was let in.
    fn tick_out(&mut self) -> bool {
        loop {
            while self.engine().tick() {}
            if !self.settlements_are_let_in() {
                return false;
            }
            // A tick makes room only after its chores: they may have been let in just now.
            if !self.engine().tick() {
                return true;
            }
        }
    }

    fn settlements_are_let_in(&self) -> bool {
        // Nothing comes of it: there is no such envelope.
        let command = Command::Claim { envelope: EnvelopeId::from_bytes([255; 16]), user: commands::user("nobody") };
        let engine = Arc::clone(self.engine());
        let mut asking: Asking = Box::pin(async move { vec![engine.execute(command, None).await.map(Told::Reply)] });
        match poll_once(&mut asking) {
            Poll::Ready(answers) => answers[0].is_ok(),
            Poll::Pending => unreachable!("a no does not wait"),
        }
    }

    /// Makes room: the disk is mended, everything written and projected.
    fn relieve(&mut self) {
        self.disk.heal();
        self.disk.set_capacity(None);
        self.pump_out();
        if self.rows_fail {
            // Only a restart mends rows that failed.
            self.failed = true;
            return;
        }
        self.project_out();
    }

    fn pump_out(&mut self) {
        while !self.failed {
            match self.engine().pump_journal() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    assert!(self.troubled, "the journal failed without a fault: {error}");
                    self.failed = true;
                }
            }
        }
    }

    fn project_some(&mut self) {
        if self.rows_fail && self.random.once_in(8) {
            self.rows.mend();
            self.rows_fail = false;
            if self.projector().failure().is_some() {
                self.meet("rows opened anew");
                assert!(self.projector().pump(), "rows that are mended can be opened anew");
                assert_eq!(self.projector().failure(), None);
            }
        }
        self.projector().pump();
    }

    fn projector(&self) -> &Projector {
        self.engine().projector().expect("there is a store")
    }

    fn project_out(&mut self) {
        let projector = self.projector();
        while projector.pump() {}
        projector.persist();
        if !self.rows_fail {
            assert_eq!(projector.failure(), None, "the projector failed without a fault");
        }
    }

    /// Lets everything come to rest, and compares all there is with the model.
    pub(crate) fn quiesce_and_check(&mut self) {
        if self.failed {
            return;
        }
        self.tick();
        self.pump_out();
        if self.failed || self.durable() < self.staged() {
            // The disk is full.
            self.relieve();
            self.pump_out();
        }
        if self.failed {
            return;
        }
        assert_eq!(self.durable(), self.staged(), "everything staged is written on a healthy disk");
        self.poll_all();
        assert!(self.clients.is_empty(), "an answer is missing though everything is durable");
        say!(self, "at rest at record {}", self.staged());
        if self.random.once_in(2) {
            self.project_out();
        }
        self.check();
        if self.failed {
            return;
        }
        assert_eq!(self.model.lsn, self.staged(), "the model has seen every record");
        self.base = self.model.clone();
        self.steps.clear();
        self.uncertain = false;
    }

    /// Reads everything and asks again for what was answered. Nothing is in flight.
    fn check(&mut self) {
        let now = self.now();
        for user in self.model.wallets.keys().cloned().collect::<Vec<_>>() {
            self.learn_entries(&user);
            self.read_wallet(&user);
            let mut expected = self.model.received(&user, now);
            let mut rows = self.list(async |engine, page| engine.received(&user, &page).await);
            assert!(rows.is_sorted_by_key(|row| std::cmp::Reverse(row.grab.grabbed_at)), "newest first");
            self.learn_claims(&rows, &mut expected);
            rows.sort_by_key(|row| row.envelope);
            assert_eq!(rows, expected, "what {user} received");
            let sent = self.list(async |engine, page| engine.sent(&user, &page).await);
            self.check_envelopes(sent, |view| view.sender == user);
        }
        let all = self.list(async |engine, page| engine.envelopes(&Default::default(), &page).await);
        self.check_envelopes(all, |_| true);
        for id in self.model.envelopes.keys().copied().collect::<Vec<_>>() {
            self.read_envelope(id);
            self.read_grabs(id);
            for win in self.model.envelopes[&id].wins.clone() {
                match self.random.below(4) {
                    0 => self.read_grab(id, &win.user),
                    1 => self.ask_again(Command::Grab { envelope: id, user: win.user }),
                    2 if win.claimed.is_some() => self.ask_again(Command::Claim { envelope: id, user: win.user }),
                    _ => {}
                }
            }
            self.check_envelope_sums(id);
        }
        let mut items = self.list(async |engine, page| engine.items(&Default::default(), &page).await);
        assert!(items.is_sorted_by_key(|item| std::cmp::Reverse(item.created_at)), "newest first");
        items.sort_by_key(|item| item.id);
        let expected: Vec<ItemView> = self.model.items.keys().filter_map(|id| self.model.item(*id)).collect();
        assert_eq!(items, expected, "all items");
        for id in self.model.items.keys().copied().collect::<Vec<_>>() {
            self.read_item(id);
        }
        for id in self.model.holds.keys().copied().collect::<Vec<_>>() {
            self.read_hold(id);
        }
        for giver in commands::users() {
            let gifts = self.list(async |engine, page| engine.gifts(&giver, GiftRole::Given, &page).await);
            assert!(gifts.is_sorted_by_key(|gift| std::cmp::Reverse(gift.created_at)), "newest first");
            if let Err(wrong) = self.model.learn_gifts(&giver, &gifts) {
                panic!("gifts of {giver}: {wrong}");
            }
            let mut gifts = self.list(async |engine, page| engine.gifts(&giver, GiftRole::Received, &page).await);
            gifts.sort_by_key(|gift| gift.id);
            let received = self.model.given.values().map(Given::gift);
            let received: Vec<Gift> = received.filter(|gift| gift.recipient.as_ref() == Some(&giver)).collect();
            assert_eq!(gifts, received, "gifts that {giver} received");
        }
        for id in self.model.given.keys().copied().collect::<Vec<_>>() {
            self.read_gift(id);
        }
        for item in self.model.items.keys().copied().collect::<Vec<_>>() {
            let of = GroupsOf::Item(item, None);
            let groups = self.list(async |engine, page| engine.groups(&of, &page).await);
            assert!(groups.is_sorted_by_key(|group| std::cmp::Reverse(group.created_at)), "newest first");
            if let Err(wrong) = self.model.learn_groups(item, &groups) {
                panic!("groups of {item}: {wrong}");
            }
        }
        for user in commands::users() {
            let of = GroupsOf::User(user.clone());
            let mut groups = self.list(async |engine, page| engine.groups(&of, &page).await);
            groups.sort_by_key(|group| group.id);
            let mine: Vec<Group> = self.model.groups.values().map(Together::group).collect();
            let mine: Vec<Group> = mine.into_iter().filter(|group| group.member(&user).is_some()).collect();
            assert_eq!(groups, mine, "groups that {user} is in");
        }
        for id in self.model.groups.keys().copied().collect::<Vec<_>>() {
            self.read_group(id);
        }
        for to in self.model.codes.handed.keys().copied().collect::<Vec<_>>() {
            self.read_codes(to);
        }
        for (order, _) in self.model.orders.values().cloned().collect::<Vec<_>>() {
            let engine = Arc::clone(self.engine());
            let id = order.id;
            let asking: Asking = Box::pin(async move { vec![engine.order(id).await.map(Told::Order)] });
            self.read("order", asking, Expectation::Exactly(Told::Order(Some(order)), 0));
        }
        for seller in self.model.merchants.values().cloned().collect::<Vec<_>>() {
            self.check_seller(seller);
        }
        let mut keys = self.list(async |engine, page| engine.api_keys(&page).await);
        assert!(keys.is_sorted_by_key(|key| std::cmp::Reverse(key.created_at)), "newest first");
        keys.sort_by_key(|key| key.id);
        let working = self.model.api_keys.values().map(|(key, _)| key).filter(|key| key.deleted_at.is_none());
        assert_eq!(keys, working.cloned().collect::<Vec<_>>(), "all API keys that work");
        for (key, _) in self.model.api_keys.values().cloned().collect::<Vec<_>>() {
            if key.deleted_at.is_some() {
                self.ask_again(Command::DeleteApiKey { key: key.id });
            }
        }
        let payouts = self.list(async |engine, page| engine.payouts(&Default::default(), &page).await);
        assert!(payouts.is_sorted_by_key(|view| (view.payout.created_at, view.payout.id)), "the oldest first");
        if let Err(wrong) = self.model.learn_payouts(&payouts) {
            panic!("payouts: {wrong}");
        }
        for view in &payouts {
            self.met.entry(view.payout.state.name()).and_modify(|met| *met += 1).or_insert(1);
        }
        self.read_audit();
        let memos: Vec<_> = self.model.memos.iter().map(|(key, memo)| (*key, memo.command.clone())).collect();
        for (key, command) in memos {
            if self.random.once_in(3) {
                let by_reference = self.model.memos[&key].expires_at.is_none();
                let once = (!by_reference && self.model.memos[&key].expires_at > Some(now)).then_some(key);
                if once.is_some() || by_reference {
                    self.ask(command, once);
                }
            }
        }
        assert!(self.clients.is_empty(), "everything durable is answered at once");
    }

    fn check_seller(&mut self, seller: Seller) {
        let id = seller.merchant.id.clone();
        let (engine, asked) = (Arc::clone(self.engine()), id.clone());
        let asking: Asking = Box::pin(async move { vec![engine.merchant(&asked).await.map(Told::Merchant)] });
        self.read("merchant", asking, Expectation::Exactly(Told::Merchant(Some(seller.merchant.clone())), 0));
        let (engine, asked) = (Arc::clone(self.engine()), id.clone());
        let asking: Asking = Box::pin(async move { vec![engine.merchant_balance(&asked).await.map(Told::Sales)] });
        self.read("sales", asking, Expectation::Exactly(Told::Sales(Some(seller.balance())), 0));
        let (nothing, has) = (MerchantBalance::default(), seller.balance());
        let entries = self.list(async |engine, page| {
            let statement = engine.statement(&id, StatementTime::default(), &page).await?.expect("it is known");
            assert_eq!((statement.opening, statement.closing), (nothing, has), "of all the time of {id}");
            Ok(statement.entries)
        });
        if let Err(wrong) = seller.check_statement(&entries) {
            panic!("the statement of {id}: {wrong}");
        }
        if seller.commissions() > 0 {
            self.meet("commission");
        }
    }

    /// Asks for something that has been answered: no record may come of it.
    fn ask_again(&mut self, command: Command) {
        let before = self.staged();
        self.ask(command, None);
        if !self.failed {
            assert_eq!(self.staged(), before, "a repeat changes nothing");
        }
    }

    fn list<T>(&mut self, read: impl AsyncFn(Arc<Embedded>, Page) -> Result<Listing<T>, EngineError>) -> Vec<T> {
        let mut rows = Vec::new();
        let mut page = Page { limit: self.page(), cursor: None };
        loop {
            let mut asking = Box::pin(read(Arc::clone(self.engine()), page.clone()));
            let Poll::Ready(listing) = asking.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
                panic!("everything durable is listed at once");
            };
            let listing = listing.unwrap_or_else(|error| panic!("a list: {error}"));
            match more(listing, &mut rows) {
                Some(cursor) => page.cursor = Some(cursor),
                None => return rows,
            }
        }
    }

    fn learn_entries(&mut self, user: &UserId) {
        let rows = self.list(async |engine, page| engine.entries(user, &page).await);
        match self.model.check_entries(user, &rows, self.durable()) {
            Some(Ok(())) => self.model.learn_entries(user, &rows),
            Some(Err(wrong)) => panic!("entries of {user}: {wrong}"),
            None => unreachable!("everything is durable"),
        }
    }

    /// Times of claims that a crash left uncertain are what the engine says first.
    fn learn_claims(&mut self, rows: &[ReceivedRow], expected: &mut [ReceivedRow]) {
        for expected in expected {
            let envelope = self.model.envelopes.get_mut(&expected.envelope).expect("it is listed");
            let win = &mut envelope.wins[expected.grab.share as usize];
            let Some((when, _)) = &mut win.claimed else { continue };
            if when.from == when.to {
                continue;
            }
            let row = rows.iter().find(|row| row.envelope == expected.envelope);
            let told = row.and_then(|row| row.grab.claimed_at).expect("a claimed share says when");
            assert!(when.holds(told), "a share was claimed at {told:?}, not within {when:?}");
            *when = When::at(told);
            expected.grab.claimed_at = Some(told);
        }
    }

    fn check_envelopes(&mut self, mut views: Vec<EnvelopeView>, wanted: impl Fn(&EnvelopeView) -> bool) {
        assert!(views.is_sorted_by_key(|view| std::cmp::Reverse(view.created_at)), "newest first");
        views.sort_by_key(|view| view.id);
        let now = self.now();
        let expected: Vec<EnvelopeView> =
            self.model.envelopes.values().map(|envelope| envelope.view(now)).filter(wanted).collect();
        assert_eq!(views, expected, "a list of envelopes");
    }

    /// I2 and I3, from the model's figures, which the views were compared with.
    fn check_envelope_sums(&self, id: EnvelopeId) {
        let envelope = &self.model.envelopes[&id];
        assert_eq!(envelope.amounts.iter().sum::<u64>(), envelope.terms.total.minor(), "shares make the total");
        let users: std::collections::BTreeSet<&UserId> = envelope.wins.iter().map(|win| &win.user).collect();
        assert_eq!(users.len(), envelope.wins.len(), "at most one share a user (I3)");
        self.model.check_payouts_of(id);
        if envelope.settled {
            assert_eq!(envelope.escrow(), 0, "nothing is left in a settled envelope (I2)");
        }
    }

    /// Ends this life and begins the next.
    pub(crate) fn restart(&mut self, end: End) {
        say!(self, "== {end:?} at record {} of {}", self.durable(), self.staged());
        let mut clean = false;
        if end == End::Close {
            clean = self.close();
        } else if end == End::Power && self.random.once_in(2) && !self.failed {
            // In the middle of a write or a sync.
            self.troubled = true;
            self.disk.fail_call(1 + self.random.below(3), Fault::PowerCut, false);
            self.pump();
            self.poll_all();
        } else if self.random.once_in(2) {
            self.poll_all();
        }
        let stats = self.engine().stats();
        if stats.journal.is_some_and(|journal| journal.bytes > self.options.journal.segment_bytes) {
            self.meet("segments turned over");
        }
        if (stats.wallets as usize) < self.model.wallets.len() {
            self.meet("evicted");
        }
        self.clients.clear();
        self.engine = None;
        match end {
            End::Kill if !self.rows_fail => {}
            _ => self.lose_rows(),
        }
        if end != End::Kill {
            self.lose_power();
        }
        if self.random.once_in(3) {
            self.pass_time();
        }
        self.start(clean);
    }

    fn close(&mut self) -> bool {
        self.meet("closed");
        let engine = Arc::clone(self.engine());
        match engine.close() {
            Ok(()) => {
                self.poll_all();
                assert!(self.clients.is_empty(), "everything accepted is answered before the end");
                true
            }
            Err(error) => {
                assert!(self.troubled, "it cannot close without a fault: {error}");
                self.poll_all();
                false
            }
        }
    }

    fn lose_power(&mut self) {
        self.disk.crash();
        self.meet("crashes");
    }

    fn lose_rows(&mut self) {
        self.rows = Arc::new(self.rows.crash(self.random.next()));
        self.rows_fail = false;
    }

    /// Opens the engine, with faults on the way, and takes the model back to
    /// where the journal ends.
    fn start(&mut self, closed: bool) {
        let mut attempt = 0;
        let mut planned = false;
        let (engine, report) = loop {
            attempt += 1;
            self.options.shards = 1 << self.random.below(4);
            let mut cut = false;
            self.disk.set_capacity(None);
            self.disk.heal();
            if attempt <= 3 && self.random.once_in(4) {
                let fault = self.random.pick(&[Fault::Eio, Fault::NoSpace, Fault::ShortWrite, Fault::PowerCut]);
                cut = fault == Fault::PowerCut;
                self.disk.fail_call(1 + self.random.below(40), fault, self.random.once_in(2));
                planned = true;
            } else if attempt <= 3 && self.random.once_in(12) {
                self.disk.set_capacity(Some(self.disk.used_bytes() + self.random.below(100_000)));
                planned = true;
            }
            let disk = Arc::new(self.disk.clone());
            match Embedded::open_over(disk, self.rows.clone(), self.options.clone()) {
                Ok(opened) if !cut => break opened,
                Ok(_) => {
                    say!(self, "opened, and crashes at once");
                    self.lose_rows();
                    self.lose_power();
                }
                Err(OpenError::Journal(JournalError::Io { operation, source, .. })) => {
                    assert!(attempt <= 3, "a healthy disk cannot {operation}: {source}");
                    say!(self, "cannot be opened: {operation}: {source}");
                    let is_off = source.to_string().contains("power");
                    if is_off || self.random.once_in(2) {
                        self.lose_rows();
                        self.lose_power();
                    }
                }
                Err(error) => panic!("recovery refused: {error}"),
            }
        };
        self.failed = false;
        // What was planned for the recovery ends with it; what it did may show later.
        self.disk.heal();
        self.disk.set_capacity(None);
        self.engine = Some(Arc::new(engine));
        self.take_back(&report, closed && attempt == 1);
        self.troubled = planned;
        self.was_full = planned;
        if report.journal.torn_tail.is_some() {
            self.meet("torn tail");
        }
        if attempt > 1 {
            self.meet("recovery cut off");
        }
        if self.engine().ready().is_err() {
            self.meet("waits for an operator");
            say!(self, "waits for an operator: {:?}", self.engine().ready());
            let refused = self.engine().clone();
            let mut asking: Asking = Box::pin(async move {
                let nothing = Command::Cancel { envelope: EnvelopeId::from_bytes([0; 16]) };
                vec![refused.execute(nothing, None).await.map(Told::Reply)]
            });
            let Poll::Ready(answers) = poll_once(&mut asking) else { panic!("not ready is told at once") };
            assert!(matches!(answers[0], Err(EngineError::OperatorNeeded(_))), "it serves though it is not ready");
            self.engine().accept_clock();
        }
        self.recovery_tick(report.journal.last_lsn.0);
    }

    fn take_back(&mut self, report: &StartReport, closed: bool) {
        let last = report.journal.last_lsn.0;
        say!(self, "recovered up to record {last}, told up to {}, decided up to {}", self.told_lsn, self.model.lsn);
        assert!(last >= self.told_lsn, "record {} was told, but only {last} are left", self.told_lsn);
        assert!(last <= self.model.lsn, "record {last} was never decided");
        if closed {
            // Without space for its marker, a clean shutdown looks like a crash.
            assert!(report.journal.clean_shutdown || self.was_full, "a clean shutdown is recognised");
            assert_eq!(last, self.model.lsn, "a clean shutdown loses nothing");
        }
        if last < self.model.lsn {
            self.meet("records lost");
        }
        self.told_lsn = last;
        self.model = self.base.clone();
        for step in std::mem::take(&mut self.steps) {
            match step {
                Step::Command { at, command, once, drawn, lsn } if lsn <= last => {
                    self.model.execute(at, &command, once, &drawn);
                    assert_eq!(self.model.lsn, lsn, "the same again");
                }
                Step::Cleared { at, what, lsn } if lsn <= last => {
                    self.model.clear(at, what);
                    assert_eq!(self.model.lsn, lsn, "the same again");
                }
                Step::Tick { at, records, group, done } if records.first <= last => {
                    let whole = done && records.last <= last;
                    if whole && group != UNCERTAIN {
                        self.model.tick(at, When::at(at), records, group);
                    } else {
                        self.uncertain = true;
                        self.met.entry("housekeeping cut off").and_modify(|met| *met += 1).or_insert(1);
                        let when = When { from: at, to: at.plus_ms(1) };
                        self.model.tick(at, when, Records { first: records.first, last }, UNCERTAIN);
                    }
                    self.model.lsn = records.last.min(last);
                }
                Step::Command { .. } | Step::Cleared { .. } | Step::Tick { .. } => break,
            }
        }
        self.model.lsn = last;
        if self.uncertain {
            self.model.widen(self.now().plus_ms(1));
        }
        self.base = self.model.clone();
    }

    /// What was due has been done before serving; if some was not let in, it is now.
    fn recovery_tick(&mut self, last: u64) {
        let mut done = self.tick_out();
        for _ in 0..30 {
            if done || self.failed {
                break;
            }
            self.relieve();
            done = self.tick_out();
        }
        assert!(done || self.failed, "housekeeping is let in after a start");
        let records = Records { first: last + 1, last: self.staged() };
        let at = self.now();
        let (group, when) = match self.uncertain {
            true => (UNCERTAIN, When { from: at, to: at.plus_ms(1) }),
            false => (records.first, When::at(at)),
        };
        let due = self.model.tick(at, when, records, group);
        if !self.uncertain && done {
            assert_eq!(due, records.last > last, "whether something was due at the start");
        }
        self.model.lsn = records.last;
        if records.last > last {
            self.steps.push(Step::Tick { at, records, group, done });
        }
    }

    /// From here on nothing fails but what is planned.
    pub(crate) fn is_sound(&mut self) {
        self.troubled = false;
    }

    /// Whether the journal has failed, so that only a restart helps.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    /// On a healthy machine at rest, new things are let in.
    pub(crate) fn check_alive(&mut self) {
        self.project_out();
        self.engine().tick();
        self.ask(Command::AdvanceClock { by_s: 0 }, None);
        self.pump_out();
        self.was_full = false;
        let before = self.model.lsn;
        let command = Command::PutMerchant(Box::new(NewMerchant::new(
            commands::user("last"),
            "the last",
            Some(hongbao_engine::command::MerchantStatus::Verified),
        )));
        self.ask(command, None);
        assert!(self.model.lsn > before, "an engine at rest lets a command in");
        self.pump_out();
        self.poll_all();
        assert!(self.clients.is_empty(), "and answers it");
    }
}

fn poll_once(asking: &mut Asking) -> Poll<Answers> {
    asking.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn more<T>(listing: Listing<T>, rows: &mut Vec<T>) -> Option<Vec<u8>> {
    rows.extend(listing.rows);
    listing.next
}

/// The wording of a refusal is the engine's own affair.
fn without_wording(told: Told) -> Told {
    let Told::Reply(mut reply) = told else { return told };
    match &mut reply.outcome {
        Outcome::Refused(Refusal::Invalid { message, .. }) => message.clear(),
        Outcome::Refused(Refusal::WrongState(message)) => message.clear(),
        _ => {}
    }
    assert!(is_positive(&reply.outcome) || !reply.replayed, "a no is not remembered");
    Told::Reply(reply)
}

fn kind_of(reply: &Reply) -> &'static str {
    match &reply.outcome {
        _ if reply.replayed => "answer kept under a key",
        Outcome::Wallet(_) => "wallet",
        Outcome::Envelope(_) => "envelope",
        Outcome::Won { replayed: false, .. } => "won",
        Outcome::Won { replayed: true, .. } => "won, repeated",
        Outcome::SoldOut => "sold out",
        Outcome::Expired => "expired",
        Outcome::Cancelled => "cancelled",
        Outcome::NotOpen { .. } => "not open",
        Outcome::Claimed { replayed: false, .. } => "claimed",
        Outcome::Claimed { replayed: true, .. } => "claimed, repeated",
        Outcome::NotWon => "not won",
        Outcome::Lapsed => "lapsed",
        Outcome::Merchant(_) => "merchant",
        Outcome::Item(_) => "item",
        Outcome::Held { replayed: false, .. } => "held",
        Outcome::Held { replayed: true, .. } => "held, repeated",
        Outcome::LimitReached => "limit reached",
        Outcome::Ended => "ended",
        Outcome::Ordered { replayed: false, .. } => "ordered",
        Outcome::Ordered { replayed: true, .. } => "ordered, repeated",
        Outcome::HoldExpired => "hold expired",
        Outcome::Released { replayed: false } => "released",
        Outcome::Released { replayed: true } => "released, repeated",
        Outcome::CannotPay => "cannot pay",
        Outcome::ApiKey(key) if key.deleted_at.is_some() => "API key deleted",
        Outcome::ApiKey(_) => "API key",
        Outcome::Payouts(_) => "results of payouts",
        Outcome::Relations(_) => "relations",
        Outcome::GiftEnvelope(_) => "gift envelope",
        Outcome::Sales { .. } => "sale money taken out",
        Outcome::Payment(payment) => payment.state.name(),
        Outcome::Gift(gift) => match gift.state {
            GiftState::AwaitingPayment => "gift awaiting payment",
            GiftState::Offered => "gift offered",
            GiftState::Accepted => "gift accepted",
            GiftState::Shipped => "gift shipped",
            GiftState::Delivered => "gift delivered",
            GiftState::Declined => "gift declined",
            GiftState::Expired => "gift expired",
            GiftState::Cancelled => "gift cancelled",
            GiftState::Failed => "gift failed",
        },
        Outcome::Group(group) => match group.state {
            GroupState::Open => "group open",
            GroupState::Full => "group full, and nothing to leave",
            GroupState::Expired => "group expired",
            GroupState::LeaderLeft => "group left by its leader",
        },
        Outcome::Joined { replayed: true, .. } => "joined, repeated",
        Outcome::Joined { order: Some(_), .. } => "group filled",
        Outcome::Joined { .. } => "joined",
        Outcome::GroupFull => "group full",
        Outcome::LeaderLeft => "leader left",
        Outcome::Order(order) => match order.view().progress.state {
            OrderState::Paid => "order paid",
            OrderState::Shipped => "order shipped",
            OrderState::Delivered => "order delivered",
            OrderState::ReturnRequested => "return requested",
            OrderState::Returned => "order returned",
            OrderState::Refused => "return refused",
        },
        Outcome::Clock(_) => "clock",
        Outcome::Refused(Refusal::NotFound) => "not found",
        Outcome::Refused(Refusal::InsufficientFunds) => "insufficient funds",
        Outcome::Refused(Refusal::WrongState(_)) => "wrong state",
        Outcome::Refused(Refusal::Forbidden) => "forbidden",
        Outcome::Refused(Refusal::Apart) => "blocked",
        Outcome::Refused(Refusal::NotMutual) => "not mutual",
        Outcome::Refused(Refusal::ReferenceConflict) => "reference conflict",
        Outcome::Refused(Refusal::IdempotencyMismatch) => "idempotency mismatch",
        Outcome::Refused(Refusal::Invalid { field, .. }) if field == "sender" => "made too many in a day",
        Outcome::Refused(Refusal::Invalid { .. }) => "invalid",
    }
}

/// Everything that a thousand seeds, or the thousand behind them, have to meet.
pub(crate) const ALL_THERE_IS: &[&str] = &[
    "rows opened anew",
    "answer kept under a key",
    "wallet",
    "envelope",
    "won",
    "won, repeated",
    "sold out",
    "expired",
    "cancelled",
    "not open",
    "claimed",
    "claimed, repeated",
    "not won",
    "lapsed",
    "merchant",
    "item",
    "held",
    "held, repeated",
    "limit reached",
    "ended",
    "ordered",
    "ordered, repeated",
    "hold expired",
    "released",
    "released, repeated",
    "cannot pay",
    "clock",
    "API key",
    "API key deleted",
    "results of payouts",
    "sale money taken out",
    "commission",
    "gift awaiting payment",
    "gift offered",
    "gift accepted",
    "gift shipped",
    "gift delivered",
    "gift declined",
    "gift expired",
    "gift cancelled",
    "gift failed",
    "group open",
    "group expired",
    "group left by its leader",
    "joined",
    "joined, repeated",
    "group filled",
    "group full",
    "leader left",
    "codes handed out",
    "relations",
    "gift envelope",
    "blocked",
    "not mutual",
    "order shipped",
    "order delivered",
    "return requested",
    "order returned",
    "return refused",
    "made too many in a day",
    "due",
    "sent",
    "paid",
    "failed",
    "not found",
    "insufficient funds",
    "wrong state",
    "forbidden",
    "reference conflict",
    "idempotency mismatch",
    "invalid",
    "overloaded",
    "storage full",
    "journal failed",
    "torn tail",
    "recovery cut off",
    "records lost",
    "waits for an operator",
    "closed",
    "segments turned over",
    "evicted",
    "crashes",
];
